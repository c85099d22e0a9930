r"""Gold answers as data sets have them: tags, boxes, solutions and numbers become the answer's text."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..rewards.extraction import extract_answer
from .literals import parse_list
from .row_error import RowError, shown

NOT_A_NUMBER = "answer not a number"
SEVERAL = "several answers"

_OPEN, _CLOSE = "<answer>", "</answer>"
_TRUE = re.compile(r"\btrue\b", re.IGNORECASE)
_DOLLARS = re.compile(r"\$\$?([^$]+)\$\$?")
# Longer floats than this have no exact integer.
_EXACT_FLOAT = 2**53


def answer_text(value: Any, problem: str, where: str) -> str:
    r"""Give the answer that a field holds.

    Taken out are: `<answer>…</answer>`, the last balanced `\boxed{…}`, the rest of the line after GSM8K's `####`,
    `$…$` around all of it, lists of one element, and `ground_truth` of an object (verl's `reward_model`). A text
    without any of these is taken as it is. A number becomes its text, a whole float without `.0`; a number that
    already was text stays as written. True and false become `Yes` and `No`, or `True` and `False` where the question
    or its options say "true".

    Args:
        value: The field's value.
        problem: The question with its options.
        where: File, row and field, for error messages.

    Raises:
        RowError: NaN or infinity, a list of several answers, or another type.
    """
    for _ in range(3):
        if isinstance(value, Mapping) and value.get("ground_truth") is not None:
            value = value["ground_truth"]
        elif isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
    if isinstance(value, list | tuple) and value:
        raise RowError(SEVERAL, f"{where} is a list of {len(value)} answers, expected one: keep one, or write a text")
    if isinstance(value, bool):
        words = ("False", "True") if _TRUE.search(problem) else ("No", "Yes")
        return words[value]
    if isinstance(value, int | float | Decimal):
        return number_text(value, where)
    if not isinstance(value, str):
        raise RowError("answer not text", f"{where} must be text or a number, found {shown(value)}: put it in quotes")
    text = _unwrapped(value.strip())
    if text.lower() == "nan":
        raise RowError(NOT_A_NUMBER, f"{where} is {shown(text)}, a missing value: fill it in or leave the row out")
    return text


def number_text(value: int | float | Decimal, where: str) -> str:
    """Write a number: a whole one without decimals.

    Raises:
        RowError: NaN, infinity, or an integer of thousands of digits.
    """
    if not isinstance(value, int) and not math.isfinite(value):
        raise RowError(NOT_A_NUMBER, f"{where} is {shown(float(value))}: fill it in or leave the row out")
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_FLOAT:
        value = int(value)
    try:
        return str(value)
    except ValueError as error:
        # Python writes integers of up to 4,300 digits.
        raise RowError(NOT_A_NUMBER, f"{where} is {shown(value)}: no response could give it") from error


def _unwrapped(text: str) -> str:
    end = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, max(end, 0))
    if start >= 0:
        text = text[start + len(_OPEN) : end].strip()
    boxed = extract_answer(text) if "boxed" in text else None
    if boxed is not None:
        text = boxed
    final = text.rpartition("####")
    if final[1] and (not final[0] or final[0].endswith("\n")) and "\n" not in final[2].strip():
        text = final[2].strip()
    items = parse_list(text) if text[:2] in ("['", '["') else None
    if items is not None and len(items) == 1 and isinstance(items[0], str):
        text = items[0].strip()
    dollars = _DOLLARS.fullmatch(text)
    return dollars[1].strip() if dollars is not None else text
