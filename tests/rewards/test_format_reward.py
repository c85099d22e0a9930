"""The format reward."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.rewards import format_reward

# EasyR1 examples/reward_function/math.py, which the R1-ShareVL release uses.
RELEASE_PATTERN = re.compile(r"<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)


@pytest.mark.parametrize(
    ("response", "reward"),
    [
        (r"<think>a</think> \boxed{5}", 1.0),
        ("<think>\na\n</think>\n\nThe answer is \\boxed{5}.\n", 1.0),
        (r"<think></think>\boxed{}", 1.0),
        (r"<think>a</think> \boxed{5} and more", 1.0),
        (r"\boxed{5}", 0.0),
        (r"a</think> \boxed{5}", 0.0),
        (r" <think>a</think> \boxed{5}", 0.0),
        (r"<think>a \boxed{5}", 0.0),
        (r"<think>\boxed{5}</think>", 0.0),
        (r"<think>a</think> \boxed{5", 0.0),
        (r"<think>a</think> \boxed 5", 0.0),
        (r"<think>a</think> 5", 0.0),
        ("", 0.0),
    ],
)
def test_what_has_the_format(response, reward):
    assert format_reward([response]) == [reward]


PIECES = st.sampled_from(["<think>", "</think>", "\\boxed{", "}", "{", "\\", " ", "\n", "a", "<", "think>"])


@given(
    st.lists(PIECES, max_size=12).map("".join)
    | st.lists(PIECES, max_size=8).map(lambda rest: "<think>" + "".join(rest))
)
@settings(deadline=None)
def test_it_is_the_release_pattern(response):
    assert format_reward([response]) == [float(RELEASE_PATTERN.fullmatch(response) is not None)]


@pytest.mark.timeout(5)  # the release's pattern takes hours on these
def test_long_texts_take_no_time():
    assert format_reward(["<think>" + "</think>\\boxed{" * 10_000, "<think>" * 20_000]) == [0.0, 0.0]


def test_it_takes_messages_and_what_trl_passes():
    completions = [
        [{"role": "assistant", "content": r"<think>a</think> \boxed{5}"}],
        [{"role": "assistant", "content": [{"type": "text", "text": r"<think>a</think> \boxed{5}"}]}],
        [{"role": "assistant", "content": None}],
        [],
    ]
    rewards = format_reward(completions, prompts=["p"] * 4, completion_ids=[[1]] * 4, trainer_state=None)
    assert rewards == [1.0, 1.0, 0.0, 0.0]
