from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.data.answers import answer_text
from r1_sharevl.data.row_error import RowError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("42", "42"),
        ("  42\n", "42"),
        ("3.0", "3.0"),  # text: as written
        ("007", "007"),
        (42, "42"),
        (-7, "-7"),
        (3.0, "3"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e300, "1e+300"),
        (Decimal("2.50"), "2.50"),
        (10**30, str(10**30)),
        ("<answer> 145° </answer>", "145°"),
        ("<think>2 + 2</think><answer>4</answer>", "4"),
        ("<answer>3</answer> no, <answer>4</answer>", "4"),
        ("<answer>\\boxed{A}</answer>", "A"),
        ("<answer>unfinished", "<answer>unfinished"),
        ("</answer>", "</answer>"),
        ("\\boxed{A}", "A"),
        ("$\\boxed{\\frac{1}{2}}$", "\\frac{1}{2}"),
        ("So \\boxed{1}, no: \\boxed{\\text{B}}.", "\\text{B}"),
        ("\\boxed{\\sqrt{2}", "\\boxed{\\sqrt{2}"),
        ("\\boxed{}", ""),
        ("16 - 3 = <<16-3=13>>13\n#### 13", "13"),
        ("#### 1,000", "1,000"),
        ("#### Solution\nx = 3", "#### Solution\nx = 3"),
        ("a #### b", "a #### b"),
        ("$42$", "42"),
        ("$$x^2$$", "x^2"),
        ("$5", "$5"),
        ("$3$ or $4$", "$3$ or $4$"),
        (["42"], "42"),
        ([42], "42"),
        (["\\boxed{42}"], "42"),
        ([["42"]], "42"),
        ("['42']", "42"),
        ('["42"]', "42"),
        ("['1', '2']", "['1', '2']"),  # MathVista's lists are such texts
        ("[0, 5)", "[0, 5)"),
        ({"ground_truth": "42", "style": "rule"}, "42"),
        ("The angle is 42 degrees.", "The angle is 42 degrees."),
        ("None", "None"),
        ("inf", "inf"),
    ],
)
def test_answers(value, text):
    assert answer_text(value, "How many?", "here") == text


def test_truth_values_are_the_words_that_the_question_asks_for():
    assert answer_text(True, "Is AB a diameter?", "here") == "Yes"
    assert answer_text(False, "Is AB a diameter?", "here") == "No"
    assert answer_text(True, "True or false: AB is a diameter.", "here") == "True"
    assert answer_text(False, "Is it so?\nA. True\nB. False", "here") == "False"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "answer not a number"),
        (float("inf"), "answer not a number"),
        (Decimal("NaN"), "answer not a number"),
        ("NaN", "answer not a number"),
        (" nan ", "answer not a number"),
        pytest.param(10**5000, "answer not a number", id="huge"),
        (["1", "2"], "several answers"),
        ([], "answer not text"),
        ([[[[["1"]]]]], "answer not text"),
        ({}, "answer not text"),
        ({"a": 1}, "answer not text"),
        (b"42", "answer not text"),
    ],
)
def test_what_is_no_answer(value, reason):
    with pytest.raises(RowError, match=r"^here ") as caught:
        answer_text(value, "How many?", "here")
    assert len(str(caught.value).splitlines()) == 1
    # Deeper lists may be called either.
    assert caught.value.reason in (reason, "several answers")


@given(st.integers(-(2**53), 2**53))
def test_whole_floats_are_written_like_integers(number):
    assert answer_text(float(number), "How many?", "here") == str(number)


# "nan" stands for a missing value, which is refused.
@given(st.text(alphabet="<answer>/boxed{}$#\\ \n1[]'").filter(lambda text: "nan" not in text))
def test_no_text_is_too_odd(text):
    assert isinstance(answer_text(text, "How many?", "here"), str)


@given(st.text(alphabet="abc123+-^{} ").filter(lambda text: text.count("{") == 0 and text.count("}") == 0))
def test_a_boxed_and_tagged_answer_is_unwrapped_whole(text):
    assert answer_text(f"<answer>\\boxed{{{text}}}</answer>", "How many?", "here") == text.strip()
