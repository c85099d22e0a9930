"""Stopping a run in order when the system or the user asks for it, with a checkpoint of the step that was running."""

import os
import shlex
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import StoppedError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalStop(TrainerCallback):
    """After SIGTERM or SIGINT: finishes the optimizer step, saves a checkpoint and ends the run.

    Used as a context manager around `trainer.train()`, and added as the last callback, since it ends the run after the
    others have seen the checkpoint. A signal that reaches one process stops all of them at the same step: they ask
    each other after every step. A second signal has its usual effect at once. In a thread other than the main one,
    where Python allows no signal handler, nothing is installed.

    transformers' `enable_jit_checkpoint` is not used: it knows SIGTERM only, each process decides for itself, and it
    saves in the middle of a step, with gradients and responses that the checkpoint does not hold.

    Args:
        repeat_seconds: Signals that follow the first one within this time count as the same. A terminal signals every
            process, and torchrun then signals its own once more.

    Raises:
        StoppedError: Out of `trainer.train()`, once the checkpoint is written.
    """

    def __init__(self, repeat_seconds: float = 1.0) -> None:
        self.repeat_seconds = repeat_seconds
        self._received: int | None = None
        self._received_at = 0.0
        self._agreed: int | None = None
        self._usual: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._process = os.getpid()

    def __enter__(self) -> "SignalStop":
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, usual in self._usual.items():
            signal.signal(number, signal.SIG_DFL if usual is None else usual)
        self._usual = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if os.getpid() == self._process:
            if self._received is None:
                self._received, self._received_at = number, now
                if os.environ.get("RANK", "0") == "0":
                    name = signal.Signals(number).name
                    # A handler may interrupt a write to stderr's buffer, which refuses a second one.
                    os.write(2, f"\n{name}: stopping after this step; once more to end at once\n".encode())
                return
            if now - self._received_at < self.repeat_seconds:
                return
        self._restore()  # a second time, or in a forked child: what would happen without this class
        signal.raise_signal(number)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stop_if_asked(args, state, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stop_if_asked(args, state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._agreed is not None:  # save_strategy "best" has overruled the wish to save
            control.should_evaluate = False  # the epoch is not over
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stop_if_asked(args, state, control)
        if self._agreed is not None:
            name = signal.Signals(self._agreed).name
            raise StoppedError(
                f"stopped by {name} after step {state.global_step} of {state.max_steps}; checkpoint-"
                f"{state.global_step} is whole, go on with: {how_to_resume(args)}"
                if state.is_world_process_zero
                else "",
                exit_code=128 + self._agreed,
            )

    def _stop_if_asked(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        if state.global_step >= state.max_steps:
            return  # the run ends here anyway
        if self._agreed is None:
            self._agreed = _highest(self._received or 0, args) or None
        if self._agreed is not None:
            control.should_training_stop = True
            control.should_save = True
            # The metrics since the last log are not in a checkpoint.
            control.should_log = True


def how_to_resume(args: TrainingArguments) -> str:
    """The command that continues the run of `args`."""
    config = shlex.quote(str(Path(str(args.output_dir), "config.yaml")))
    command = f"r1sharevl train --config {config} --resume"
    return (
        command if args.world_size == 1 else f"{command} (with the launcher and {args.world_size} processes as before)"
    )


def _highest(value: int, args: TrainingArguments) -> int:
    """The highest of the processes' values."""
    if args.world_size == 1:
        return value
    values = torch.tensor(value, device=args.device)
    torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
    return int(values.item())
