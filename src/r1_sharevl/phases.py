"""Where the time of an optimizer step goes."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PHASES = {
    "load_data": "reading rows and images",
    "prepare": "drawing prompts, tokenising, advantages",
    "sync_weights": "handing the weights to vLLM",
    "generate": "generating responses",
    "reward": "scoring responses",
    "old_logps": "log-probabilities under the old and the reference policy",
    "update": "forward, backward, optimizer",
}
"""The phases of a step in their order, and what each of them does. Every moment of a step belongs to exactly one."""


class PhaseClock:
    """Splits the wall time of an optimizer step into phases, of which one is running at any moment.

    On an accelerator, work is only queued when a call returns, so the device is waited for wherever the phase changes.
    That is a dozen times per generation batch and twice per step: between the forward and backward passes of a step
    nothing is waited for. Outside of a step (in an evaluation, or while a checkpoint is saved) nothing is measured.

    Args:
        device: What is waited for; a CPU needs no waiting.
    """

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self._seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    @property
    def phase(self) -> str | None:
        """The phase that is running, or None outside of a step."""
        return self._phase

    def start(self, phase: str) -> None:
        """Start a step in `phase`. What was measured of a step that did not end is dropped."""
        # A phase that has been seen stays, at zero: most steps generate nothing, and their means must say so.
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        self._wait()
        self._phase = phase
        self._since = time.perf_counter()

    def switch(self, phase: str) -> None:
        """End the phase that is running, and go on in `phase`."""
        if self._phase is None:
            return
        self._wait()
        now = time.perf_counter()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what happens inside as `phase`, and go on with the phase that was running."""
        outer = self._phase
        self.switch(phase)
        try:
            yield
        finally:
            if outer is not None:
                self.switch(outer)

    def timed(self, phase: str, function: Callable[..., T]) -> Callable[..., T]:
        """Make a function like `function` whose time counts as `phase`."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> T:
            with self.during(phase):
                return function(*args, **kwargs)

        return call

    def seconds(self, phase: str) -> float:
        """How long a phase has taken so far in this step; 0 outside of a step."""
        if self._phase is None:
            return 0.0
        self.switch(self._phase)
        return self._seconds.get(phase, 0.0)

    def stop(self) -> dict[str, float]:
        """End the step.

        Returns:
            Seconds of each phase seen so far, in this step or an earlier one. Empty outside of a step.
        """
        if self._phase is None:
            return {}
        self.switch(self._phase)
        self._phase = None
        return dict(self._seconds)

    def _wait(self) -> None:
        if self._device.type != "cpu":
            import torch  # not with this module: the page of a run needs the names of the phases only

            torch.accelerator.synchronize(self._device)


def in_phase(phase: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Make a decorator for methods of an object with a `clock`: what the method does counts as `phase`."""

    def decorate(method: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(method)
        def timed(self: Any, *args: Any, **kwargs: Any) -> T:
            with self.clock.during(phase):
                return method(self, *args, **kwargs)

        return timed

    return decorate
