"""The metrics of a run that is still going, as a file."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..history import METRICS_NAME


class MetricsLog(TrainerCallback):
    """Appends each logged step to `metrics.jsonl` in the run folder; a resumed run first drops what it will repeat."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write(args, state, "w", state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._write(args, state, "a", state.log_history[-1:])

    def _write(self, args: TrainingArguments, state: TrainerState, mode: str, entries: list[dict[str, Any]]) -> None:
        if not state.is_world_process_zero:
            return
        try:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            with Path(args.output_dir, METRICS_NAME).open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps({**entry, "max_steps": state.max_steps}) + "\n" for entry in entries)
        except OSError as error:
            logging.getLogger(__name__).warning(f"{METRICS_NAME} cannot be written, training goes on: {error}")
