import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from r1_sharevl.data.choices import read_choices
from r1_sharevl.data.row_error import RowError
from r1_sharevl.rewards import is_correct
from r1_sharevl.rewards.options import parse_options

COLOURS = {"A": "red", "B": "green", "C": "blue"}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([["red", "green", "blue"]], COLOURS),
        ([("red", "green", "blue")], COLOURS),
        ([{"A": "red", "B": "green", "C": "blue"}], COLOURS),
        ([{"a": "red", "b": "green", "c": "blue"}], COLOURS),
        ([{"1": "red", "2": "green", "3": "blue"}], COLOURS),
        (["['red', 'green', 'blue']"], COLOURS),  # MMMU
        (['["red", "green", "blue"]'], COLOURS),
        (['{"A": "red", "B": "green", "C": "blue"}'], COLOURS),
        (["A. red\nB. green\nC. blue"], COLOURS),
        ([["A. red", "B. green", "C. blue"]], COLOURS),
        ([["(A) red", "(B) green", "(C) blue"]], COLOURS),
        (["red", "green", "blue"], COLOURS),  # VLMEvalKit's columns
        (["red", "green", "blue", None, "", " "], COLOURS),
        ([["red", None, "green", float("nan"), "blue"]], COLOURS),
        ([[1, 2.0, 0.5]], {"A": "1", "B": "2", "C": "0.5"}),
        ([["None", "NA", "null"]], {"A": "None", "B": "NA", "C": "null"}),
        ([["A. red", "A. blue"]], {"A": "A. red", "B": "A. blue"}),  # no labels of its own
        ([[" two\nlines ", "x"]], {"A": "two lines", "B": "x"}),
    ],
)
def test_options_in_every_form(values, texts):
    assert read_choices(values, "here").texts == texts


@pytest.mark.parametrize("values", [[None], [[]], [""], ["[]"], [{}], [None, "", " "], [[None, ""]], [{"A": None}]])
def test_no_options(values):
    assert read_choices(values, "here") is None


@pytest.mark.parametrize(
    "values",
    [
        ["red or green"],
        ["['red' 'green']"],
        ["__import__('os')"],
        ["{" * 100_000],
        ['{"a":' * 5000],
        [5],
        [["red"]],
        [[["red"], ["green"]]],
        [{"text": ["red"], "label": ["A"]}],
        [{"": "red", "B": "green"}],
        [[b"red", b"green"]],
        [["red", "x" * 2001]],
        [[str(number) for number in range(27)]],
        [{str(number): "x" for number in range(27)}],
    ],
)
def test_unreadable_options(values):
    with pytest.raises(RowError, match=r"^here ") as caught:
        read_choices(values, "here")
    assert caught.value.reason == "options not readable"
    assert len(str(caught.value).splitlines()) == 1


def test_options_are_added_as_lines():
    choices = read_choices([["red", "green", "blue"]], "here")
    assert choices.shown_in("Which colour? \n") == "Which colour?\nA. red\nB. green\nC. blue"


@pytest.mark.parametrize(
    "problem",
    [
        "Which colour?\nA. red\nB. green\nC. blue",
        "Which colour? (A) Red (B) Green (C) Blue",
        "Which colour? Options: A: red, B: green, C: blue",
        "Which colour?\nA) red\nB) green\nC) blue\nAnswer with a letter.",
    ],
)
def test_options_that_are_shown_already_are_not_added(problem):
    assert read_choices([["red", "green", "blue"]], "here").shown_in(problem) == problem


def test_letters_of_options_drawn_in_the_picture_are_not_added():
    choices = read_choices([["A", "B", "C", "D", "E"]], "here")
    assert choices.shown_in("Which figure comes next?") == "Which figure comes next?"
    assert choices.answer("D", "here") == "D"


def test_another_style_where_the_first_would_be_misread():
    problem = "Given:\nA. is a point\nB. is a line\nC. is a plane\nD. is a solid\nWhich?"
    shown = read_choices([["x. B. y", "z"]], "here").shown_in("Which? (A) or not.")
    assert parse_options(shown) == {"A": "x. B. y", "B": "z"}
    with pytest.raises(RowError) as caught:
        read_choices([["x", "y"]], "here").shown_in(problem)
    assert caught.value.reason == "options cannot be told apart"


OPTION_TEXTS = st.text(alphabet=string.ascii_letters + string.digits + " .,:;()$\\{}^*-α中")


@given(st.text(alphabet="ABC abc.,:()?\n"), st.lists(OPTION_TEXTS, min_size=2, max_size=6))
def test_what_is_shown_is_read_back_exactly(problem, texts):
    choices = read_choices([texts], "here") if sum(map(bool, map(str.strip, texts))) > 1 else None
    assume(choices is not None)
    assume(any(label != text for label, text in choices.texts.items()))
    try:
        shown = choices.shown_in(problem)
    except RowError:
        assume(False)
    read = parse_options(shown)
    assert list(read) == list(choices.texts)
    for label, text in choices.texts.items():
        same = "".join(text.strip("*").rstrip(",;").split()).casefold()
        assert "".join(read[label].split()).casefold() == same


@given(st.lists(st.text(alphabet=string.ascii_lowercase + " ", min_size=2), min_size=2, max_size=26))
def test_plain_words_are_always_readable_lines(texts):
    given_texts = [" ".join(text.split()) for text in texts]
    assume(all(given_texts))
    shown = read_choices([texts], "here").shown_in("Which word?")
    assert shown == "\n".join(["Which word?", *map("{}. {}".format, string.ascii_uppercase, given_texts)])
    assert list(parse_options(shown).values()) == given_texts


@pytest.mark.parametrize(
    "answer", ["B", "b", "(B)", "B.", "green", "Green", "B. green", "(B) green", "Option B", "A, C", "AC", "A and B"]
)
def test_answers_that_name_an_option_stay(answer):
    choices = read_choices([["red", "green", "blue"]], "here")
    assert choices.answer(answer, "here") == answer
    assert is_correct(f"\\boxed{{{answer}}}", answer, choices.shown_in("Which?"))


@pytest.mark.parametrize("answer", ["10", "10.0", "$10$"])
def test_answers_by_the_value_of_an_option(answer):
    assert read_choices([["10", "20"]], "here").answer(answer, "here") == answer


@pytest.mark.parametrize("answer", ["D", "yellow", "1", "0", "A, D", "B. red", "red or green", "", "DD"])
def test_answers_that_name_no_option(answer):
    with pytest.raises(RowError, match=r"^here ") as caught:
        read_choices([["red", "green", "blue"]], "here").answer(answer, "here")
    assert caught.value.reason == "answer not among the options"
    assert ("--map answer_index=" in str(caught.value)) == answer.isdecimal()


@pytest.mark.parametrize("answer", ["A" + " " * 90_000 + "!", "A, " * 30_000, "(" * 90_000, "a" * 1001])
def test_endless_answers_name_no_option(answer):
    with pytest.raises(RowError) as caught:
        read_choices([["red", "a" * 1001]], "here").answer(answer, "here")
    assert caught.value.reason == "answer not among the options"


def test_labels_of_the_data_become_ours():
    by_number = read_choices([{"1": "red", "2": "green"}], "here")
    assert [by_number.answer(answer, "here") for answer in ("1", "(2)", "green")] == ["A", "B", "green"]
    gap = read_choices(["red", None, "blue", "white"], "here")
    assert gap.texts == {"A": "red", "B": "blue", "C": "white"}
    assert [gap.answer(answer, "here") for answer in ("A", "C", "D", "white")] == ["A", "B", "C", "white"]
    for wrong in ("B", "(B)", "Option B", "B. blue", "A, C"):
        with pytest.raises(RowError):
            gap.answer(wrong, "here")


def test_answers_by_place():
    choices = read_choices([["red", None, "green"]], "here")
    assert [choices.answer_at(index, "here") for index in (0, "2", 2.0)] == ["A", "B", "B"]
    for wrong in (1, 3, -1, "x", 0.5, True, None, "9" * 5000, float("nan")):
        with pytest.raises(RowError):
            choices.answer_at(wrong, "here")
