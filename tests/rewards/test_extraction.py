r"""The last balanced `\boxed{...}` after the think block."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.rewards import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right\}}", r"\left\{ x \right\}"),
        (r"\boxed{1 \\ {2}}", r"1 \\ {2}"),
        (r"\boxed{a\\{b}}", r"a\\{b}"),
        ("\\boxed\n{5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"\\\boxed{5}", "5"),
        (r"} { \boxed{5}", "5"),
        (r"\boxed{3} \boxed{5}", "5"),
        (r"\boxed{5} \boxed{6", "5"),
        (r"\boxed{6 \boxed{5}", "5"),
        (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
        (r"<think> \boxed{3} </think> \boxed{5}", "5"),
        (r"<think> a </think> b </think> \boxed{5}", "5"),
        ("", None),
        ("5", None),
        (r"\boxed{5", None),
        (r"\boxed{5\}", None),
        (r"\boxed{{5}", None),
        (r"\boxed 5", None),
        (r"\boxed", None),
        (r"\fbox{5}", None),
        (r"boxed{5}", None),
        (r"<think> \boxed{5}", None),
        (r"<think> \boxed{5} </think>", None),
        (r"<think> a </think> \boxed{5} <think>", None),
    ],
)
def test_what_is_extracted(text, answer):
    assert extract_answer(text) == answer


# What a text can be made of that matters here.
PIECES = st.sampled_from(
    ["\\boxed{", "\\boxed", "\\fbox{", "{", "}", "\\{", "\\}", "\\", "\\\\", "<think>", "</think>", " ", "\n", "5", "x"]
)
BALANCED = st.recursive(
    st.text(string.ascii_letters + string.digits + " +-=,.^", max_size=6)
    | st.sampled_from([r"\{", r"\}", r"\\", r"\pi"]),
    lambda inner: st.lists(inner, max_size=3).map("".join) | inner.map(lambda text: "{" + text + "}"),
    max_leaves=12,
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
@settings(deadline=None)
def test_no_text_makes_it_raise(text):
    answer = extract_answer(text)
    assert answer is None or answer in text


@given(
    before=st.lists(PIECES, max_size=20).map("".join),
    content=BALANCED,
    after=st.text(string.ascii_letters + " .$\n", max_size=20),
)
@settings(deadline=None)
def test_a_known_content_comes_back(before, content, after):
    assert extract_answer(f"{before} </think> \\boxed{{{content}}}{after}") == content.strip()


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 15_000,
        "\\boxed{" + "{" * 100_000,
        "\\boxed{" + "{" * 50_000 + "}" * 50_000,
        "\\" * 100_000,
        ("\\boxed" + " " * 20) * 4_000,
        "\\boxed{\\{" * 11_000,
        "<think>" * 15_000,
        "<think></think>" * 7_000 + "{" * 10_000,
    ],
    ids=lambda text: f"{text[:12]}... ({len(text):,} characters)",
)
@pytest.mark.timeout(5)  # quadratic time would take minutes
def test_a_hundred_thousand_hostile_characters(text):
    assert extract_answer(text) is None
    assert extract_answer(text + "</think>\\boxed{5}") == "5"
