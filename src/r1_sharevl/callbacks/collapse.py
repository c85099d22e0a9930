"""Ending a run that has died, while its last good checkpoint is still the newest one."""

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import RunError
from .stopping import how_to_resume

_NOT_FINITE_PATIENCE = 10  # no weight is updated in these steps, so there is nothing to wait for


class CollapseStop(TrainerCallback):
    """Ends a run whose last `patience` logged steps all show the same sign of a collapse.

    The signs are: every reward was 0; the loss or the gradient norm was NaN or infinite; the entropy was below
    `entropy` nats. One bad step ends nothing. (The trainer itself refuses to save parameters that are NaN or infinite.)
    The logged steps of a resumed run go on from those before it.

    Args:
        patience: Logged steps in a row, at most 10 of them for NaN and infinity; 0 switches all checks off.
        entropy: Mean entropy per response token, in nats; 0 switches this check off.

    Raises:
        RunError: Out of `trainer.train()`: what was seen, at which step, what is safe and what to try.
    """

    def __init__(self, patience: int, entropy: float) -> None:
        self.patience = patience
        self.entropy = entropy

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if not self.patience or not logs or "loss" not in logs:
            return  # an evaluation, or the summary of the end
        signs: list[tuple[str, int, Callable[[dict[str, Any]], bool], str, str]] = [
            (
                "reward",
                self.patience,
                _has_no_reward,
                "every reward was 0",
                "look at the responses (log_completions), the reward functions and max_completion_length",
            ),
            (
                "loss",
                min(self.patience, _NOT_FINITE_PATIENCE),
                _is_not_finite,
                "the loss or the gradient norm was NaN or infinite, and no weight was updated",
                "lower learning_rate, and use bf16 rather than fp16",
            ),
            (
                "entropy",
                self.patience,
                lambda entry: entry["entropy"] < self.entropy,
                f"the entropy was below {self.entropy:g} nats, so that all responses to a prompt are the same",
                "go back to an earlier checkpoint with a lower learning_rate, beta above 0 or a higher temperature",
            ),
        ]
        for metric, patience, shows, seen, advice in signs:
            # A step that uses the responses of an earlier one logs no reward.
            logged = [entry for entry in state.log_history if entry.get(metric) is not None]
            if len(logged) >= patience and all(shows(entry) for entry in logged[-patience:]):
                raise RunError(
                    f"stopped at step {state.global_step}: in each of the last {patience} logged steps {seen}; "
                    f"the checkpoints in {args.output_dir} are kept; {advice}. To go on regardless: "
                    f"{how_to_resume(args)} --collapse_patience 0"
                )


def _has_no_reward(entry: dict[str, Any]) -> bool:
    return entry["reward"] == 0 and entry.get("reward_std") == 0


def _is_not_finite(entry: dict[str, Any]) -> bool:
    return not all(math.isfinite(entry.get(key, 0.0)) for key in ("loss", "grad_norm"))
