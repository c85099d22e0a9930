"""The model card of a run that is still going."""

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import UserError
from ..publishing.model_card import write_model_card


class CardWriter(TrainerCallback):
    """Writes our model card where TRL has just written its own, which it does at every checkpoint."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        try:
            write_model_card(Path(args.output_dir))
        except (OSError, UserError) as error:
            logging.getLogger(__name__).warning(f"the model card cannot be written, training goes on: {error}")
