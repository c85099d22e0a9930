"""What a user's reward function may return."""

import asyncio
import functools
import inspect

import numpy as np
import pytest
import torch
from trl.trainer.utils import is_async_callable

from r1_sharevl.errors import UserError
from r1_sharevl.rewards import checked_reward


def returning(value):
    def my_reward(completions, **kwargs):
        return value

    return checked_reward(my_reward)


@pytest.mark.parametrize(
    "rewards",
    [
        [1.0, 0.0],
        (1, 0),
        [True, None],
        [float("nan"), None],
        [np.float32(0.5), np.int64(1)],
    ],
    ids=repr,
)
def test_what_passes(rewards):
    assert returning(rewards)(completions=["a", "b"]) is rewards
    assert returning(rewards)(["a", "b"]) is rewards


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([1.0], "'my_reward' returned 1 values for 2 completions: expected exactly one number"),
        ([1.0] * 3, "returned 3 values for 2 completions"),
        ([], "returned 0 values for 2 completions"),
        (None, "returned None: expected a list of 2 numbers, one per completion"),
        (1.0, r"returned a float \(1.0\): expected a list of 2 numbers"),
        ("ab", r"returned a str \('ab'\): expected a list"),
        ({0: 1.0, 1: 0.0}, "returned a dict"),
        (torch.zeros(2), r"returned a Tensor \(tensor\(\[0., 0.\]\)\): expected a list"),
        (np.zeros((30, 30)), "returned a ndarray: expected a list"),
        ([1.0, "1"], r"returned a str \('1'\) for completion 1: expected a number, or None"),
        ([[1.0], [0.0]], r"returned a list \(\[1.0\]\) for completion 0"),
        ([1.0, float("inf")], "returned inf for completion 1: expected a finite number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_pass(rewards, message):
    with pytest.raises(UserError, match=message) as caught:
        returning(rewards)(completions=["a", "b"], prompts=["", ""])
    assert "\n" not in str(caught.value)


def test_the_name_stays():
    def my_reward(completions, bonus=0.0, **kwargs):
        """Reward the length."""
        return [len(text) + bonus for text in completions]

    checked = checked_reward(my_reward)
    assert (checked.__name__, checked.__doc__) == ("my_reward", "Reward the length.")
    assert inspect.signature(checked) == inspect.signature(my_reward)
    partial = checked_reward(functools.partial(my_reward, bonus=1.0))
    assert partial.__name__ == "my_reward"
    assert partial(completions=["ab"]) == [3.0]


class AsyncReward:
    async def __call__(self, completions, **kwargs):
        return [1.0] * 2


async def async_reward(completions, **kwargs):
    return [1.0] * 2


@pytest.mark.parametrize(
    "func", [async_reward, functools.partial(async_reward), AsyncReward()], ids=["function", "partial", "object"]
)
def test_async_functions_stay_async(func):
    checked = checked_reward(func)
    assert is_async_callable(checked)
    assert asyncio.run(checked(completions=["a", "b"])) == [1.0, 1.0]
    with pytest.raises(UserError, match="returned 2 values for 1 completions"):
        asyncio.run(checked(completions=["a"]))


def test_an_error_of_the_function_itself_comes_through():
    def my_reward(completions, **kwargs):
        raise KeyError("solution")

    with pytest.raises(KeyError, match="solution"):
        checked_reward(my_reward)(completions=["a"])
