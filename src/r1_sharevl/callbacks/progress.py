"""The few numbers of each step that people follow a run by."""

import logging
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SUMMARY_KEYS = {
    "reward": "reward",
    "rewards/accuracy_reward/mean": "accuracy",
    "share_grpo/no_advantage/all": "questions without advantage",
    "completions/mean_length": "tokens per response",
    "entropy": "entropy (nats)",
}
"""What a run is followed by: the trainer's metric and its name for people."""


class ProgressBar(ProgressCallback):
    """transformers' bar with ETA; of the forty metrics of a step only those people follow are printed."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs:
            line = _log_line(state, logs)
            if line:
                self.training_bar.write(line)

    def close(self) -> None:
        """End the bar's line: what stopped the run starts on a line of its own."""
        if self.training_bar is not None:
            self.training_bar.close()


class ProgressLines(TrainerCallback):
    """The same lines without a bar."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        line = _log_line(state, logs or {}) if state.is_world_process_zero else None
        if line:
            logging.getLogger(__name__).info(line)


def _log_line(state: TrainerState, logs: dict[str, Any]) -> str | None:
    """One line for people; the full set of metrics goes to TensorBoard."""
    if any(key.startswith("eval_") for key in logs):
        values = {name: logs.get(f"eval_{key}") for key, name in SUMMARY_KEYS.items()}
        start = f"step {state.global_step} evaluation"
    else:
        values = {name: logs.get(key) for key, name in SUMMARY_KEYS.items()}
        start = f"step {state.global_step}/{state.max_steps}"
    shown = [f"{name} {value:.3g}" for name, value in values.items() if value is not None]
    return f"{start}  " + "  ".join(shown) if shown else None
