"""The verdicts on the hand-made cases of `answer_cases.py`."""

import pytest
from answer_cases import CASES, RESPONSES

from r1_sharevl.rewards import is_correct


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.gold[:30]} | {case.boxed[:30]} | {case.why}")
def test_the_verdict_on_a_boxed_answer(case):
    response = f"<think>Let me look at the picture.</think> The answer is \\boxed{{{case.boxed}}}."
    assert is_correct(response, case.gold, case.problem) is case.verdict, case.why


@pytest.mark.parametrize(("gold", "response", "verdict", "why"), RESPONSES, ids=lambda value: str(value)[:40])
def test_the_verdict_on_a_whole_response(gold, response, verdict, why):
    assert is_correct(response, gold) is verdict, why
