"""Check what a user's reward function returns, before it reaches the trainer as a strange tensor error."""

import functools
import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

from ..errors import UserError

RewardFunction = Callable[..., Any]


def reward_name(func: RewardFunction) -> str:
    """Return the name a reward function goes by in messages and metrics."""
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__name__", type(func).__name__)


def checked_reward(func: RewardFunction) -> RewardFunction:
    """Wrap a reward function so that wrong return values become a one-line `UserError`.

    Args:
        func: A reward function with TRL's signature: called with keyword arguments (`prompts`, `completions`,
            `completion_ids`, the data set's columns, `trainer_state`, `log_extra`, `log_metric`). It may be `async`;
            then so is the wrapper.

    Returns:
        The wrapper, which keeps `func`'s name. It raises `UserError` unless `func` returns a list (or tuple) with
        exactly one finite number, NaN or `None` (not scorable) per completion.
    """
    name = reward_name(func)

    async def checked_async(*args: Any, **kwargs: Any) -> Any:
        return _checked(name, await func(*args, **kwargs), args, kwargs)

    def checked(*args: Any, **kwargs: Any) -> Any:
        return _checked(name, func(*args, **kwargs), args, kwargs)

    target = func.func if isinstance(func, functools.partial) else func
    is_async = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)
    wrapper: RewardFunction = checked_async if is_async else checked
    functools.update_wrapper(wrapper, func)
    wrapper.__name__ = name
    return wrapper


def _checked(name: str, rewards: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    completions = kwargs["completions"] if "completions" in kwargs else args[0]
    if not isinstance(rewards, list | tuple):
        raise UserError(
            f"reward function '{name}' returned {_described(rewards)}: expected a list of {len(completions)} numbers, "
            "one per completion"
        )
    if len(rewards) != len(completions):
        raise UserError(
            f"reward function '{name}' returned {len(rewards)} values for {len(completions)} completions: expected "
            "exactly one number (or None) per completion"
        )
    for position, reward in enumerate(rewards):
        if reward is None:
            continue
        if not isinstance(reward, numbers.Real):
            raise UserError(
                f"reward function '{name}' returned {_described(reward)} for completion {position}: expected a number, "
                "or None if it cannot be scored"
            )
        if math.isinf(reward):
            raise UserError(
                f"reward function '{name}' returned {float(reward)} for completion {position}: expected a finite number"
            )
    return rewards


def _described(value: Any) -> str:
    """Name a wrong value in a message: its type, and the value where that is short."""
    if value is None:
        return "None"
    text = repr(value)
    kind = type(value).__name__
    return f"a {kind} ({text})" if len(text) <= 40 and "\n" not in text else f"a {kind}"
