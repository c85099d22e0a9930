"""From a response to a verdict: right or not, and why."""

from dataclasses import asdict, dataclass
from typing import Any

from ..rewards import extract_answer, is_correct

RIGHT = "right"
WRONG = "wrong"
NO_ANSWER = "no answer found"
CUT_OFF = "cut off"
UNSCORED = "could not be scored"
WHY = (RIGHT, WRONG, NO_ANSWER, CUT_OFF, UNSCORED)
"""Every value of `Prediction.why`."""


@dataclass(frozen=True)
class Prediction:
    """One scored response: a line of `predictions.jsonl`.

    Attributes:
        id: The question's id.
        sample: Which of the question's responses this is, from 0.
        response: The whole response.
        extracted: The answer found in it, None where there is none.
        correct: Whether the answer is right; None where it could not be scored, which every average counts as wrong.
        why: One of `WHY`. "cut off" is a response that reached the token limit before it gave an answer.
        tokens: Length of the response in tokens, the end token included.
        cut_off: Whether the response reached the token limit (with or without an answer).
    """

    id: str
    sample: int
    response: str
    extracted: str | None
    correct: bool | None
    why: str
    tokens: int
    cut_off: bool

    def to_dict(self) -> dict[str, Any]:
        """The prediction as a JSON object."""
        return asdict(self)


def score(
    row_id: str, sample: int, response: str, tokens: int, cut_off: bool, answer: str, problem: str | None
) -> Prediction:
    """Judge one response by the rules that the training reward uses (`r1_sharevl.rewards`).

    Args:
        row_id: The question's id.
        sample: Which of the question's responses this is.
        response: The response's text.
        tokens: Its length in tokens.
        cut_off: Whether it reached the token limit.
        answer: The right answer.
        problem: The question's text, for the texts of its options.

    Returns:
        The scored response.
    """
    # An empty box is no answer.
    extracted = extract_answer(response) or None
    correct: bool | None = False
    if extracted is None:
        why = CUT_OFF if cut_off else NO_ANSWER
    else:
        correct = is_correct(response, answer, problem)
        why = UNSCORED if correct is None else RIGHT if correct else WRONG
    return Prediction(row_id, sample, response, extracted, correct, why, tokens, cut_off)
