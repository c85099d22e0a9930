"""Counts the token positions that generating a batch of responses computes, and which of them are padding."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ComputedPositions:
    """Positions that run through the decoder while responses are generated.

    Attributes:
        total: All of them.
        padding: Those whose result nobody reads: a row's padding in front of its prompt, and a row that has ended while
            longer ones of its batch go on.
    """

    total: int
    padding: int


def computed_positions(
    prompts: Sequence[int], responses: Sequence[int], *, prefilled: int | None = None, multiple_of: int | None = None
) -> ComputedPositions:
    """Count the positions of a batch that is generated in step.

    Args:
        prompts: Length of each row's prompt.
        responses: Length of each row's response, its end included.
        prefilled: How many positions the prompts took without their last tokens and without padding, as in
            `rollouts.prefill`. Where None, each row's prompt is computed by itself, padded to the longest.
        multiple_of: That length is rounded up to a multiple of it.
    """
    rows = len(responses)
    steps = rows * max(responses)
    waiting = steps - sum(responses)
    if prefilled is not None:
        # The first step runs over the prompts' last tokens, and none over the responses'.
        return ComputedPositions(prefilled + steps, waiting)
    longest = max(prompts)
    padded = rows * (longest if multiple_of is None else -(-longest // multiple_of) * multiple_of)
    return ComputedPositions(padded + steps - rows, padded - sum(prompts) + waiting)
