"""Verdicts and their reasons."""

import pytest

from r1_sharevl.evaluation.scoring import score

OPTIONS = "Where is it?\nA. left\nB. right"


@pytest.mark.parametrize(
    ("response", "cut_off", "answer", "problem", "extracted", "correct", "why"),
    [
        (r"<think>2 + 2</think> \boxed{4}", False, "4", None, "4", True, "right"),
        (r"<think>2 + 2</think> \boxed{5}", False, "4", None, "5", False, "wrong"),
        (r"<think>It is \boxed{4}.</think> So 4.", False, "4", None, None, False, "no answer found"),
        ("<think>It goes on and", True, "4", None, None, False, "cut off"),
        # An answer that came before the limit counts.
        (r"<think>2</think> \boxed{4} because", True, "4", None, "4", True, "right"),
        (r"<think>2</think> \boxed{}", False, "4", None, None, False, "no answer found"),
        (r"<think>2</think> \boxed{right}", False, "B", OPTIONS, "right", True, "right"),
        (r"<think>2</think> \boxed{left}", False, "B", OPTIONS, "left", False, "wrong"),
        (r"<think>2</think> \boxed{4}", False, r"\frac{1", None, "4", None, "could not be scored"),
        ("", False, "4", None, None, False, "no answer found"),
    ],
)
def test_verdicts(response, cut_off, answer, problem, extracted, correct, why):
    prediction = score("q", 3, response, 17, cut_off, answer, problem)
    assert (prediction.extracted, prediction.correct, prediction.why) == (extracted, correct, why)
    assert (prediction.id, prediction.sample, prediction.tokens, prediction.cut_off) == ("q", 3, 17, cut_off)
