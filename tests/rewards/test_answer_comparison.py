"""Properties of comparing answers: dress never matters, and nothing makes the comparison raise."""

import pytest
from answer_cases import CASES
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from r1_sharevl.rewards import is_correct
from r1_sharevl.rewards.comparison import same_plain
from r1_sharevl.rewards.enumerations import Enumeration, parse_enumeration
from r1_sharevl.rewards.normalization import normalize
from r1_sharevl.rewards.quantities import parse_quantity
from r1_sharevl.rewards.units import canonical_unit, split_unit

NOISES = {
    "spaces": "  {} \n",
    "dollars": "${}$",
    "double dollars": "$$ {} $$",
    "parentheses": r"\({}\)",
    "brackets": r"\[ {} \]",
    "text": r"\text{{{}}}",
    "bold": r"\textbf{{ {} }}",
    "upright": r"\mathrm{{{}}}",
    "braces": "{{{}}}",
    "thin space": r"\, {}\;",
    "no-break space": "\u00a0{}",
    "display style": r"\displaystyle {}",
    "trailing dot": "{}.",
    "trailing dot behind a space": "{} .",
    "quotation marks": "“{}”",
}
noises = st.lists(st.sampled_from(sorted(NOISES)), max_size=3)


def dressed(text, names):
    for name in names:
        text = NOISES[name].format(text)
    return text


@given(st.sampled_from(CASES), noises, noises)
@settings(max_examples=400, deadline=None)
def test_the_dress_of_an_answer_never_changes_the_verdict(case, gold_noise, answer_noise):
    response = f"<think>a</think> \\boxed{{{dressed(case.boxed, answer_noise)}}}"
    assert is_correct(response, dressed(case.gold, gold_noise), case.problem) is case.verdict


LATEX = st.sampled_from(
    [
        *(
            "\\frac",
            "\\sqrt",
            "\\text",
            "\\left",
            "\\right",
            "\\pi",
            "\\sin",
            "\\pm",
            "\\infty",
            "\\le",
            "\\{",
            "\\}",
            "\\\\",
        ),
        *("{", "}", "(", ")", "[", "]", "^", "_", "=", "<", ",", ".", "+", "-", "*", "/", "%", "$", "°", " ", "½", "√"),
        *("0", "1", "25", "1,000", "x", "AB", "cm", "red", "or", "A.", "million"),
    ]
)
TEXTS = st.lists(LATEX, max_size=12).map("".join) | st.text(max_size=30)


@given(TEXTS)
@settings(deadline=None)
def test_normalizing_twice_changes_nothing_more(text):
    assert normalize(normalize(text)) == normalize(text)


@given(TEXTS)
@settings(deadline=None)
def test_every_text_equals_itself(text):
    assume(normalize(text))
    assert same_plain(text, text) is True


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_plain_comparison_never_raises(gold, answer):
    assert same_plain(gold, answer) in (True, False, None)


@given(answer=TEXTS, gold=st.sampled_from(["5", "x+1", "B", "red", "(1,2)", r"\frac{1}{2}"]))
@settings(max_examples=150, deadline=None)
def test_judging_never_raises(answer, gold):
    assert is_correct(f"<think>a</think> \\boxed{{{answer}}}", gold, time_limit=1.0) in (True, False)


@given(
    st.integers(-(10**9), 10**9),
    st.sampled_from(["{}", "{}.0", "{:,}", "${}$", "{} cm", r"{}\,\text{{cm}}", "x = {}", "{:.2f}"]),
)
@settings(deadline=None)
def test_every_way_to_write_an_integer(number, form):
    assert same_plain(str(number), form.format(number)) is True
    assert same_plain(str(number + 1), form.format(number)) is False


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("cm", "cm"),
        ("Centimeters", "cm"),
        ("km/h", "h^-1 km"),
        ("kilometers per hour", "h^-1 km"),
        ("m s^{-1}", "m s^-1"),
        ("square feet", "ft^2"),
        ("cm2", "cm^2"),
        ("meters squared", "m^2"),
        ("units", ""),
        ("degrees Celsius", "celsius"),
        ("boxes", "box"),
        ("or six", None),
        ("x", None),
        ("pm", None),
        ("", None),
        ("+ 3", None),
    ],
)
def test_units(text, unit):
    assert canonical_unit(text) == unit


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (r"6\pi cm^2", (r"6\pi", "cm^2")),
        (r"2\sqrt{3} m/s", (r"2\sqrt{3}", "m s^-1")),
        (r"2\sqrt{3}m", (r"2\sqrt{3}m", "")),
        ("(x+1) apples", ("(x+1) apples", "")),
        (r"x+1", (r"x+1", "")),
    ],
)
def test_a_unit_behind_an_expression(text, parts):
    assert split_unit(text) == parts


@pytest.mark.parametrize(
    ("text", "enumeration"),
    [
        ("1, 2", Enumeration("", ("1", "2"))),
        ("[1,2]", Enumeration("[]", ("1", "2"))),
        ("(0,1]", Enumeration("(]", ("0", "1"))),
        (r"\{1, (2,3)\}", Enumeration("{}", ("1", "(2,3)"))),
        ("(1,2), (3,4)", Enumeration("", ("(1,2)", "(3,4)"))),
        ("1,000, 2,000", Enumeration("", ("1,000", "2,000"))),
        ("red, green and blue", Enumeration("", ("red", "green", "blue"))),
        ("[5]", Enumeration("[]", ("5",))),
        ("5", None),
        ("1, 2)", None),
        ("1,", None),
    ],
)
def test_enumerations(text, enumeration):
    assert parse_enumeration(text) == enumeration


@pytest.mark.parametrize(
    "text", ["", "x", "5x", "1/0", "1e9999", "5 or 6", "5 6", "1.2.3", "1,00", "--5", "5 x 3", "3rd"]
)
def test_what_is_no_plain_quantity(text):
    assert parse_quantity(text) is None
