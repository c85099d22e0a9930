"""Checks of a wording: does it ask the same as the problem, well, and without giving the answer away?

Everything here looks at the text only. A wording that states another number, unit, name, formula or option is another
question; one that says the same in other words passes. Where a text cannot be read with certainty, the wording passes.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from ...prompts import IMAGE_MARK
from ...rewards.options import parse_options
from .chatter import is_chatter, is_refusal
from .contrasts import loses_exception, same_meanings
from .formulas import asks_same, same_formulas, same_names
from .language import same_language
from .notation import plain
from .numbers import find_numbers, same_numbers
from .rewriter import DroppedWording
from .stated import Stated, read_question
from .units import find_units, same_units

EMPTY = "empty"
TOO_LONG = "too long"
TOO_SHORT = "too short"
CONTROL_CHARACTERS = "control characters"
REFUSAL = "refusal"
CHATTER = "chatter around the question"
IMAGE_MARKS = "image marks differ"
SAME_TEXT = "same text again"
OTHER_LANGUAGE = "another language"
OTHER_OPTIONS = "options differ"
GIVES_ANSWER = "gives the answer away"
OTHER_NUMBERS = "numbers differ"
OTHER_UNITS = "units differ"
OTHER_NAMES = "names differ"
OTHER_FORMULAS = "formulas differ"
OTHER_QUESTION = "asks for something else"

FAULTS: tuple[str, ...] = (
    EMPTY,
    TOO_LONG,
    CONTROL_CHARACTERS,
    IMAGE_MARKS,
    SAME_TEXT,
    REFUSAL,
    CHATTER,
    OTHER_LANGUAGE,
    OTHER_OPTIONS,
    TOO_SHORT,
    GIVES_ANSWER,
    OTHER_NUMBERS,
    OTHER_UNITS,
    OTHER_NAMES,
    OTHER_FORMULAS,
    OTHER_QUESTION,
)
"""What can be wrong with a wording, in the order in which it is looked for; `fault_of` explains each."""

MAX_CHARACTERS = 8000
"""Longer texts are not compared."""

_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd-\uffff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_FOREIGN_MARK = re.compile(
    r"<\|?/?\s?(?:image|img|picture|figure|vision|video)(?:[ _#-]?(?:\d+|pad|start|end|token))*\s?/?\|?>"
    r"|\[/?(?:image|img|picture)[ _#-]?\d*\]|!\[[^\]\n]{0,200}\]\(|<img\b",
    re.IGNORECASE,
)

_GIVEAWAYS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\\boxed",
        r"\b(?:correct|right|final)?\s?(?:answer|option|choice)\s?(?:is|=|was|would be|should be|[:：])\s*"
        r"(?=[$\\(\[\"“*]*(?:-?\d|[A-Z]\b|\\|the (?:number|value|option|letter)\b|option\b|choice\b))",
        r"\b(?:the|correct|final) answer\s?[:：]\s*\S",
        r"\b(?:answer|solution)\s?[:：]\s*\**\s*\S",
        r"\b(?:option|choice|answer) \(?[A-Z]\)? (?:is|would be) (?:the )?(?:correct|right|true|answer|best)",
        r"(?:正确)?答案\s?(?:是|为|[:：])\s*\S|(?:应该?|正确)选(?:择|项(?:是|为))?\s?[A-Z]|故选",
    )
]
_TRIVIAL = frozenset(
    {"yes", "no", "true", "false", "correct", "incorrect", "right", "wrong", "是", "否", "对", "错", "不"}
)
_ANSWER_TAGS = re.compile(r"\\boxed\s*\{(.*)\}|</?answer>|[$\s]+")
_LONE_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_LONE_NUMBER = re.compile(r"[^A-Za-z]*\d[^A-Za-z]*|[^A-Za-z]*\d[^A-Za-z]*[A-Za-z]+(?:[ /^]\S{1,12}){0,2}")
_HAN = re.compile("[㐀-鿿]")
_AROUND_SIGN = re.compile(r" ?([^\w\s]) ?")


def fault_of(problem: str, wording: str, answer: str, others: Sequence[str] = ()) -> str | None:
    """Say why a wording cannot stand beside a problem.

    Args:
        problem: The question, with its `<image>` marks and options.
        wording: Another wording of it.
        answer: The gold answer.
        others: Wordings accepted already.

    Returns:
        The first of `FAULTS` that the wording has, None where it has none:

        - `EMPTY`: no letter or digit.
        - `TOO_LONG`, `TOO_SHORT`: over `MAX_CHARACTERS`, or more than about three times or less than a third of the
          problem's words (options not counted).
        - `CONTROL_CHARACTERS`: control characters, lone surrogates, invisible direction marks.
        - `REFUSAL`: the model declines.
        - `CHATTER`: greeting, label, list number, remark, code fence or other scraps around the question.
        - `IMAGE_MARKS`: neither as many `<image>` marks as the problem nor, where the problem has them all in front,
          none; or another mark of a picture.
        - `SAME_TEXT`: the problem or one of `others` again, but for case, spacing, punctuation and markup.
        - `OTHER_LANGUAGE`: another script, or clearly another language in the Latin script.
        - `OTHER_OPTIONS`: other labels, texts or order of the options, or none.
        - `GIVES_ANSWER`: the answer, or a phrase such as "the answer is", that the problem does not have.
        - `OTHER_NUMBERS`, `OTHER_UNITS`, `OTHER_NAMES`, `OTHER_FORMULAS`: one missing, added or
          changed; the notation (LaTeX, Unicode, words) does not matter.
        - `OTHER_QUESTION`: asks for another name, or takes the other side of a contrast (area for perimeter, left for
          right, is for is not).
    """
    if not any(character.isalnum() for character in _without_marks(wording[:MAX_CHARACTERS])):
        return EMPTY
    if max(len(wording), len(problem)) > MAX_CHARACTERS:
        return TOO_LONG
    if _CONTROL.search(wording):
        return CONTROL_CHARACTERS
    if not _fits_marks(problem, wording):
        return IMAGE_MARKS
    first, second = read_question(problem), read_question(wording)
    if _is_same_text(second, first) or any(_is_same_text(second, read_question(other)) for other in others):
        return SAME_TEXT
    bare_problem, bare_wording = _without_marks(problem), _without_marks(wording)
    if is_refusal(bare_problem, bare_wording):
        return REFUSAL
    if is_chatter(bare_problem, bare_wording):
        return CHATTER
    if not same_language(first.language, second.language):
        return OTHER_LANGUAGE
    if first.options != second.options:
        return OTHER_OPTIONS
    if second.num_words > 3 * first.num_words + 12:
        return TOO_LONG
    if 3 * second.num_words < first.num_words - 9:
        return TOO_SHORT
    if _gives_answer(problem, wording, answer, first, second):
        return GIVES_ANSWER
    return _other_content(first, second)


def sift(
    problem: str, wordings: Sequence[str], answer: str, accepted: Sequence[str] = ()
) -> tuple[list[str], list[DroppedWording]]:
    """Divide wordings into those that can stand beside a problem and those that cannot.

    Args:
        problem: The question.
        wordings: Other wordings of it; each is compared with those accepted before it, too.
        answer: The gold answer.
        accepted: Wordings accepted earlier.

    Returns:
        The good ones and the others with their faults, both in order.
    """
    good: list[str] = []
    dropped: list[DroppedWording] = []
    for wording in wordings:
        fault = fault_of(problem, wording, answer, [*accepted, *good])
        if fault is None:
            good.append(wording)
        else:
            dropped.append(DroppedWording(wording, fault))
    return good, dropped


def _fits_marks(problem: str, wording: str) -> bool:
    """Tell whether the images of the problem stand in the wording as `prompts.to_messages` wants them."""
    if _FOREIGN_MARK.search(wording.replace(IMAGE_MARK, "")):
        return False
    expected, found = problem.count(IMAGE_MARK), wording.count(IMAGE_MARK)
    if found == expected:
        return True
    return found == 0 and not problem.rpartition(IMAGE_MARK)[0].replace(IMAGE_MARK, "").strip()


def _without_marks(text: str) -> str:
    return text.replace(IMAGE_MARK, " ").strip()


def _other_content(first: Stated, second: Stated) -> str | None:
    if not same_numbers(first.numbers, second.numbers):
        return OTHER_NUMBERS
    if not same_units(first.units, second.units):
        return OTHER_UNITS
    if not same_names(first.formulas, second.formulas):
        return OTHER_NAMES
    if not same_formulas(first.formulas, second.formulas):
        return OTHER_FORMULAS
    if not asks_same(first.formulas, second.formulas):
        return OTHER_QUESTION
    if not same_meanings(first.meanings, second.meanings) or loses_exception(first.stem, second.stem):
        return OTHER_QUESTION
    return None


def _is_same_text(one: Stated, other: Stated) -> bool:
    return one.key == other.key and one.formulas.terms == other.formulas.terms


def _gives_answer(problem: str, wording: str, answer: str, first: Stated, second: Stated) -> bool:
    if any(pattern.search(wording) and not pattern.search(problem) for pattern in _GIVEAWAYS):
        return True
    answer = _ANSWER_TAGS.sub(lambda match: match[1] or " ", answer[:MAX_CHARACTERS]).strip()
    options = parse_options(_without_marks(problem))
    if options:
        lone = _LONE_LETTER.fullmatch(answer)
        named = [text for text in options.values() if _mentions(second, text, first)]
        # A wording that names several options asks to choose between them.
        return len(named) == 1 and named[0] == (options.get(lone[1].upper()) if lone else answer)
    value = _number_of(answer)
    if value is not None:
        return _states(second, value) and not _states(first, value)
    return _mentions(second, answer, first)


@lru_cache(maxsize=1024)
def _number_of(answer: str) -> str | None:
    """Give the answer's number where it is a number with or without a unit."""
    digits = find_numbers(find_units(plain(answer)).rest).digits
    return next(iter(digits)) if digits.total() == 1 and _LONE_NUMBER.fullmatch(answer) else None


def _states(question: Stated, value: str) -> bool:
    """Tell whether a number stands in a question; "one" in words is a pronoun as often."""
    return value in question.numbers.digits or (value != "1" and value in question.numbers.words)


def _mentions(second: Stated, text: str, first: Stated) -> bool:
    """Tell whether a text stands in the wording's stem, but not in the problem's."""
    text = _tight(plain(text)).strip(".,;:")
    if len(text) < (2 if _HAN.search(text) else 3) or text in _TRIVIAL:
        return False
    # In Chinese nothing stands between words.
    before = r"(?<!\w)" if text[0].isascii() and text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isascii() and text[-1].isalnum() else ""
    pattern = re.compile(before + re.escape(text) + after)
    return pattern.search(_tight(second.stem)) is not None and pattern.search(_tight(first.stem)) is None


def _tight(text: str) -> str:
    return _AROUND_SIGN.sub(r"\1", " ".join(text.casefold().split()))
