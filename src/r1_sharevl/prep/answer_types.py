"""What kind of thing a gold answer is."""

import re

from ..rewards.comparison import can_be_scored
from ..rewards.enumerations import parse_enumeration
from ..rewards.normalization import is_words, normalize
from ..rewards.options import parse_options
from ..rewards.quantities import parse_quantity

OPTION_LETTER = "option letter"
YES_OR_NO = "yes or no"
INTEGER = "integer"
DECIMAL = "decimal"
FRACTION = "fraction"
PERCENTAGE = "percentage"
WITH_UNIT = "number with unit"
LIST = "list"
EXPRESSION = "expression"
TEXT = "text"
NOT_SCORED = "cannot be scored"

ANSWER_TYPES = (
    OPTION_LETTER,
    YES_OR_NO,
    INTEGER,
    DECIMAL,
    FRACTION,
    PERCENTAGE,
    WITH_UNIT,
    LIST,
    EXPRESSION,
    TEXT,
    NOT_SCORED,
)
"""All types, in the order in which they are shown."""

_LETTERS = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?(?:\s*(?:,|;|&|and)\s*[(\[]?[A-Z][)\]]?)*")
_LETTER_AND_TEXT = re.compile(r"[(\[]?([A-Z])[.:)\]]\s*\S.*")
_YES_OR_NO = frozenset({"yes", "no", "true", "false", "是", "否", "对", "错"})
_OPERATOR = re.compile(r"[\\^_+*/=<>|√]")


def answer_type(answer: str, problem: str = "") -> str:
    r"""Tell what kind of thing a gold answer is, as the accuracy reward reads it.

    Args:
        answer: The gold answer.
        problem: The question, for the options written in it.

    Returns:
        One of `ANSWER_TYPES`. An `expression` is mathematics that is more than a number, in LaTeX or plain; a `list`
        has two elements or more; what the reward cannot score is neither.
    """
    if not can_be_scored(answer):
        return NOT_SCORED
    text = normalize(answer)
    if _names_option(text, problem):
        return OPTION_LETTER
    if text.casefold() in _YES_OR_NO:
        return YES_OR_NO
    quantity = parse_quantity(text)
    if quantity is not None:
        if quantity.is_percent:
            return PERCENTAGE
        if quantity.unit:
            return WITH_UNIT
        if "/" in text or "\\frac" in text:
            return FRACTION
        return DECIMAL if quantity.is_decimal or quantity.value.denominator != 1 else INTEGER
    elements = parse_enumeration(text)
    if elements is not None and len(elements.elements) > 1:
        return LIST
    if is_words(text) or not (text.isascii() or _OPERATOR.search(text)):
        return TEXT
    return EXPRESSION


def _names_option(text: str, problem: str) -> bool:
    options = parse_options(problem)
    match = _LETTERS.fullmatch(text)
    if match is None and options:
        match = _LETTER_AND_TEXT.fullmatch(text)
    if match is None:
        return False
    # Without options in the text (they may be drawn in the picture) the reward takes a capital letter for one.
    return match[1].upper() in options if options else match[1].isupper()
