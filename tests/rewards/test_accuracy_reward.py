"""The accuracy reward as the trainer calls it."""

import pytest

from r1_sharevl.rewards import accuracy_reward, is_correct

COLOURS = "What colour?\nA. red\nB. green"


def test_one_reward_per_completion():
    completions = [
        r"<think>a</think> \boxed{5}",
        r"<think>a</think> \boxed{6}",
        r"<think>a</think> 5",
        r"<think>a</think> \boxed{1+x}",
        r"<think>a</think> \boxed{1-x}",
        r"<think>a</think> \boxed{5}",
        r"<think>a</think> 5",
        r"<think>a</think> \boxed{(x+1)^2-2x}",
    ]
    answer = ["5", "5", "5", "x+1", "x+1", "", "", "x^2+1"]
    assert accuracy_reward(completions, answer) == [1.0, 0.0, 0.0, 1.0, 0.0, None, None, 1.0]


def test_it_takes_messages_the_problem_and_what_trl_passes():
    completions = [
        [{"role": "assistant", "content": r"<think>a</think> \boxed{green}"}],
        [{"role": "assistant", "content": r"<think>a</think> \boxed{red}"}],
    ]
    rewards = accuracy_reward(
        prompts=[[{"role": "user", "content": COLOURS}]] * 2,
        completions=completions,
        completion_ids=[[1], [2]],
        answer=["B", "B"],
        problem=[COLOURS, COLOURS],
        images=[[], []],
        trainer_state=None,
        log_extra=print,
        log_metric=print,
    )
    assert rewards == [1.0, 0.0]
    assert all(type(reward) is float for reward in rewards)


def test_answers_that_are_no_text():
    boxed = [r"\boxed{5}", r"\boxed{2.50}", r"\boxed{1, 2}", r"\boxed{5}"]
    assert accuracy_reward(boxed, [5, 2.5, [1, 2], None]) == [1.0, 1.0, 1.0, None]


def test_a_column_that_is_too_short():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        accuracy_reward([r"\boxed{5}", r"\boxed{5}"], ["5"])


@pytest.mark.parametrize("gold", ["5", "B", "x^2+1", "red", r"\frac{1}{2}", "[1, 2]", "(0, 1]", "3 cm", "50%", r"\pi"])
def test_the_gold_answer_itself_is_right(gold):
    assert is_correct(f"<think>a</think> \\boxed{{{gold}}}", gold) is True
    assert is_correct("<think>a</think> \\boxed{nothing of the kind}", gold) is False
