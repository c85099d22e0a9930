"""The format reward: did the response think first and then box its answer?"""

from collections.abc import Sequence
from typing import Any

from .completions import Completion, completion_text
from .extraction import THINK_CLOSE, THINK_OPEN

_BOX = "\\boxed{"


def format_reward(completions: Sequence[Completion], **kwargs: Any) -> list[float]:
    r"""Reward a think block followed by a boxed answer.

    A response has the format if, as a whole, it matches the R1-ShareVL release's pattern
    `<think>.*</think>.*\\boxed\{.*\}.*` (`.` also matches line ends; from EasyR1's
    `examples/reward_function/math.py`). In words: it begins with `<think>`, some `</think>` follows, after that some
    `\boxed{`, and after that some `}`. This is decided by four searches from left to right, in linear time, where the
    pattern can backtrack for minutes.

    Args:
        completions: Responses, as strings or as TRL's lists of messages. Length `B`.
        **kwargs: The other columns and callbacks that TRL passes; not used.

    Returns:
        1.0 or 0.0 for each response. Length `B`.
    """
    return [float(has_format(completion_text(completion))) for completion in completions]


def has_format(response: str) -> bool:
    """Tell whether `response` has the format that `format_reward` rewards."""
    if not response.startswith(THINK_OPEN):
        return False
    # The earliest place for each piece leaves the most room for the next: no other choice can succeed where this
    # fails.
    position = len(THINK_OPEN)
    for piece in (THINK_CLOSE, _BOX, "}"):
        found = response.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return True
