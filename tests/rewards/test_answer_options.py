"""Multiple choice: reading the options of a problem, and never taking one option for another."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.rewards import is_correct
from r1_sharevl.rewards.options import parse_options


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("Which?\nA. red\nB. green", {"A": "red", "B": "green"}),
        ("Which?\nA.red\nB.green", {"A": "red", "B": "green"}),
        ("Which?\n(A) red\n(B) green\nAnswer with the letter.", {"A": "red", "B": "green"}),
        ("Which?\nA) red\nB) green", {"A": "red", "B": "green"}),
        ("Which?\nA: red\nB: green", {"A": "red", "B": "green"}),
        ("Which?\n- A. red\n- B. green", {"A": "red", "B": "green"}),
        ("Which?\n**A.** red\n**B.** green", {"A": "red", "B": "green"}),
        ("Which? A. red B. green C. dark blue", {"A": "red", "B": "green", "C": "dark blue"}),
        ("Which? (A) red (B) green", {"A": "red", "B": "green"}),
        ("Which? (A)red (B)green", {"A": "red", "B": "green"}),
        ("Options: A: red, B: green, C: blue", {"A": "red", "B": "green", "C": "blue"}),
        ("Which?\nA. 5  B. 6\nC. 7  D. 8", {"A": "5", "B": "6", "C": "7", "D": "8"}),
        ("Which?\nA. a line\n  that goes on\nB. green", {"A": "a line that goes on", "B": "green"}),
        ("Which?\n(A) $\\frac{1}{2}$\n(B) $2$", {"A": "$\\frac{1}{2}$", "B": "$2$"}),
        ("Which?\n(A) <image>\n(B) <image>", {"A": "<image>", "B": "<image>"}),
        ("Which?\nA.\nB.\nC.", {"A": "", "B": "", "C": ""}),
        ("In (A) and (B) you see a cat. Which?\n(A) one\n(B) two\n(C) none", {"A": "one", "B": "two", "C": "none"}),
        ("Given is:\nA. p\nB. q\nWhich?\nA. x\nB. y", {"A": "x", "B": "y"}),
        ("Which?\nA. red", {}),
        ("Which?\nB. red\nC. green", {}),
        ("Which?\nA. red\nC. green", {}),
        ("Which?\nA. red\n(B) green", {}),
        ("How many balls are there?", {}),
        ("Mr. A. Smith has 5 apples.", {}),
        ("", {}),
    ],
)
def test_the_options_in_a_problem(problem, options):
    assert dict(parse_options(problem)) == options


TEXTS = [
    "red",
    "green",
    "light blue",
    "5",
    "6.5",
    "7 cm",
    "1/3",
    r"\frac{3}{4}",
    "80%",
    "x^2",
    "(1, 2)",
    "12°",
    "none of these",
]
STYLES = ["{}. {}", "({}) {}", "{}) {}", "{}: {}"]
DRESSES = ["{}", "({})", "{}.", r"\text{{{}}}", r"\textbf{{({})}}", " {} ", "${}$", "Option {}", "The answer is {}."]
LABELS = "ABCDEFGHIJKLM"


@st.composite
def questions(draw):
    """A problem, its option texts, and the position of the right one."""
    texts = draw(st.lists(st.sampled_from(TEXTS), min_size=2, unique=True))
    style, separator = draw(st.sampled_from(STYLES)), draw(st.sampled_from(["\n", "  "]))
    lines = [style.format(label, text) for label, text in zip(LABELS, texts, strict=False)]
    return "Which one is it?\n" + separator.join(lines), texts, draw(st.integers(0, len(texts) - 1))


@given(questions(), st.sampled_from(DRESSES), st.booleans())
@settings(deadline=None)
def test_only_the_right_option_scores(question, dress, gold_is_text):
    problem, texts, right = question
    gold = texts[right] if gold_is_text else LABELS[right]
    for position, text in enumerate(texts):
        label = LABELS[position]
        answers = [dress.format(label), dress.format(label.lower()), f"{label}. {text}", f"({label}) {text}", text]
        for answer in answers:
            assert is_correct(f"\\boxed{{{answer}}}", gold, problem) is (position == right), (problem, gold, answer)


@given(questions(), st.data())
@settings(deadline=None)
def test_a_letter_with_another_option_s_text_is_wrong(question, data):
    problem, texts, right = question
    other = data.draw(st.sampled_from([position for position in range(len(texts)) if position != right]))
    for label, text in ((LABELS[right], texts[other]), (LABELS[other], texts[right])):
        assert is_correct(f"\\boxed{{{label}. {text}}}", LABELS[right], problem) is False
