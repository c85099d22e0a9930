"""What a question states, read once: its parts, and all that another wording of it must state, too."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ...prompts import IMAGE_MARK
from ...rewards.options import parse_options
from .contrasts import meanings
from .formulas import Formulas, find_formulas
from .language import Language, find_language
from .notation import plain
from .numbers import Numbers, find_numbers
from .units import Units, find_units

_WORD = re.compile(r"[^\W\d_]+|\d[\d.,]*")
_HAN_WORD = re.compile("[㐀-鿿\u3041-ヿ가-힣]")
# A hyphen between letters joins words; anywhere else it is a sign.
_NOT_IN_KEY = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])|[^\w+*/^=<>≤≥≠≈∈∉⊂⊆∪∩°%٫-]|_")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True, slots=True)
class Stated:
    """A question taken apart.

    Attributes:
        stem: The question in plain notation, without image marks and options.
        key: The whole text reduced to what makes it a different text from another.
        options: Label -> text of the options, in a form that does not depend on case, spacing and markup.
        num_words: Words of the stem; a Chinese one is counted as one and a half characters.
        numbers: Numbers of the stem.
        units: Units of the stem.
        formulas: Names and formulas of the stem.
        meanings: The sides that the stem takes in contrasts.
        language: The language of the whole text.
    """

    stem: str
    key: str
    options: Mapping[str, str]
    num_words: float
    numbers: Numbers
    units: Units
    formulas: Formulas
    meanings: Mapping[int, frozenset[int]]
    language: Language


@lru_cache(maxsize=1024)
def read_question(text: str) -> Stated:
    """Take a question, or a wording of one, apart."""
    text = text.replace(IMAGE_MARK, " ")
    options = parse_options(text)
    stem, listed = _cut(text, options) if options else (text, "")
    language = find_language(_COMMAND.sub(" ", text))
    stem = plain(stem)
    listed = plain(listed) if listed else ""
    units = find_units(stem)
    num_han = len(_HAN_WORD.findall(stem))
    return Stated(
        stem=stem,
        key=_key(f"{stem}\n{listed}"),
        options={label: "".join(plain(option).split()).strip(".,;").casefold() for label, option in options.items()},
        num_words=len(_WORD.findall(_HAN_WORD.sub(" ", stem))) + num_han / 1.5,
        numbers=find_numbers(units.rest),
        units=units,
        formulas=find_formulas(units.rest, language.is_romance),
        meanings=meanings(stem),
        language=language,
    )


def _cut(text: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Split a text into what is asked (before and behind the options) and the list of options."""
    labels = list(options)
    start = _place(text, labels[0], options[labels[0]])
    end = _place(text, labels[-1], options[labels[-1]])
    if start is None or end is None or end < start:
        return text, ""
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:start]}\n{text[line_end:]}", text[start:line_end]


def _place(text: str, label: str, option: str) -> int | None:
    """Find the last place where a label stands before the beginning of its option."""
    beginning = re.escape(option.split()[0]) if option else ""
    places = list(re.finditer(rf"(?<!\w)[(\[]?{label}[)\].．、:：]+[\s*]*{beginning}", text))
    return places[-1].start() if places else None


def _key(text: str) -> str:
    return _NOT_IN_KEY.sub("", _DECIMAL_POINT.sub("٫", text)).casefold()
