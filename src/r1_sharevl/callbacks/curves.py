"""The curves of a run that is still going."""

import logging
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..plots import plot_training

_SHARE_OF_TIME = 0.01


class CurveDrawer(TrainerCallback):
    """Draws the curves again and again while the run goes on, in at most a hundredth of its time, and at its end.

    Args:
        seconds: Shortest time between two drawings.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._next = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._next = time.monotonic() + self._seconds

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and time.monotonic() >= self._next:
            self._draw(args, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._draw(args, state)

    def _draw(self, args: TrainingArguments, state: TrainerState) -> None:
        began = time.monotonic()
        try:
            plot_training(state.log_history, Path(args.output_dir, "plots"))
        except OSError as error:
            logging.getLogger(__name__).warning(f"the curves cannot be drawn, training goes on: {error}")
        ended = time.monotonic()
        self._next = ended + max(self._seconds, (ended - began) / _SHARE_OF_TIME)
