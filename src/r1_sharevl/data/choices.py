"""The options of a multiple choice question that a data set keeps apart from its text."""

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..rewards.comparison import MAX_CHARACTERS, same_plain
from ..rewards.options import parse_options, same_choice
from .answers import number_text
from .literals import parse_list
from .row_error import RowError, shown

NOT_AMONG = "answer not among the options"
NOT_READABLE = "options not readable"
NOT_SHOWN = "options cannot be told apart"

_LETTERS = string.ascii_uppercase
_OWN_LABEL = re.compile(r"\s*[(\[]?([A-Z])[)\].:、．：]\s*(?=\S)")
_STYLES = ("{}. {}", "({}) {}", "{}) {}", "{}: {}")
_LONE_LABEL = re.compile(r"[(\[]?\s*([A-Za-z]|\d{1,2})\s*[)\]]?[.:]?")
_SEVERAL_LETTERS = re.compile(r"[A-Z](?:\s*+(?:[,;&、]|and)?+\s*+[A-Z]){1,25}")
_MAX_JSON_CHARACTERS = 100_000
# Every option is compared with the answer, several times.
_MAX_OPTION_CHARACTERS = 2000


@dataclass(frozen=True)
class Choices:
    """The options of one question.

    Attributes:
        texts: Label A, B, C … -> text, on one line.
        labels: The label that each option had in the data, in the data's order, blank ones included -> the label it
            has now, None where it is blank and so no option.
    """

    texts: Mapping[str, str]
    labels: Mapping[str, str | None]

    def shown_in(self, problem: str) -> str:
        """Give the problem with its options.

        They are added as lines `A. text`, in another style where that one could be misread, so that
        `rewards.options.parse_options` gives `texts` back; nothing is added where the problem shows them already, or
        where the texts are no more than their letters (the options are drawn in the picture).

        Raises:
            RowError: The text has something so much like options that no style can be read back.
        """
        if all(label == text for label, text in self.texts.items()):
            return problem
        wanted = {label: _as_parsed(text) for label, text in self.texts.items()}
        if _key(parse_options(problem)) == _key(wanted):
            return problem
        for style in _STYLES:
            lines = [style.format(label, text) for label, text in self.texts.items()]
            with_options = "\n".join([problem.rstrip(), *lines])
            if parse_options(with_options) == wanted:
                return with_options
        raise RowError(NOT_SHOWN, "options and question have labels that mix: write the options into the question")

    def answer(self, answer: str, where: str) -> str:
        """Check a gold answer, and give a label of the data's as it is now.

        Args:
            answer: An option's label, its text, or both, or several labels.
            where: File, row and field, for error messages.

        Raises:
            RowError: It is none of these.
        """
        lone = _LONE_LABEL.fullmatch(answer)
        label = next((label for label in self.labels if lone and label.casefold() == lone[1].casefold()), None)
        if label is not None and (now := self.labels[label]) is not None:
            return answer if now == label else now
        if self._is_meant(answer):
            return answer
        advice = ": if it counts from 0, use --map answer_index=COLUMN" if answer.isdecimal() else ""
        raise RowError(
            NOT_AMONG, f"{where} is {shown(answer)}, no label and no text of the {len(self.texts)} options{advice}"
        )

    def _is_meant(self, answer: str) -> bool:
        """Tell whether an answer that is no lone label names options."""
        if len(answer) > MAX_CHARACTERS:
            # The reward would accept none so long.
            return False
        if any(now not in (label, None) for label, now in self.labels.items()):
            # A label in the answer would be one of the data's.
            return any(same_plain(text, answer) for text in self.texts.values())
        letters = set(re.findall("[A-Z]", answer)) if _SEVERAL_LETTERS.fullmatch(answer) else set()
        if letters and letters <= self.texts.keys():
            return True
        return any(same_choice(label, answer, self.texts, same_plain) for label in self.texts)

    def answer_at(self, index: Any, where: str) -> str:
        """Give the label of the option at a place counted from 0.

        Raises:
            RowError: There is no such option.
        """
        text = number_text(index, where) if isinstance(index, int | float) else index
        if isinstance(text, str) and text.strip().isdecimal() and len(text) < 5 and int(text) < len(self.labels):
            now = list(self.labels.values())[int(text)]
            if now is not None:
                return now
        raise RowError(NOT_AMONG, f"{where} is {shown(index)}: expected 0 up to {len(self.labels) - 1}")


def read_choices(values: Sequence[Any], where: str) -> Choices | None:
    """Read the options of a question.

    Args:
        values: The value of the one column that holds them (a list, an object label -> text, or the text of a list or
            of options one per line), or of the columns that hold one option each.
        where: File, row and field, for error messages.

    Returns:
        The options; None where there are none. Blank ones are no options; those after them move up.

    Raises:
        RowError: They cannot be read, are too many, or there is only one.
    """
    items = dict(zip(_LETTERS, values, strict=False)) if len(values) > 1 else _by_label(values[0], where)
    texts = {label: _option_text(value, where) for label, value in items.items()}
    given = {label: text for label, text in texts.items() if text}
    own = [_OWN_LABEL.match(text) for text in given.values()]
    if given and all(match is not None and match[1] == label for match, label in zip(own, given, strict=True)):
        given = {label: text[match.end() :] for (label, text), match in zip(given.items(), own, strict=True) if match}
    if not given:
        return None
    if len(given) == 1 or len(given) > len(_LETTERS):
        raise RowError(NOT_READABLE, f"{where} has {len(given)} options, expected 2 to {len(_LETTERS)}")
    now = dict(zip(given, _LETTERS, strict=False))
    return Choices({now[label]: text for label, text in given.items()}, {label: now.get(label) for label in texts})


def _by_label(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        value = _parsed(value, where)
    if isinstance(value, Mapping):
        if any(not str(label).strip() for label in value):
            raise RowError(NOT_READABLE, f"{where} has an option without a label: write label and text")
        return {str(label).strip(): text for label, text in value.items()}
    if value is None:
        return {}
    if not isinstance(value, list | tuple):
        raise RowError(NOT_READABLE, f"{where} must be a list of texts, found {shown(value)}")
    if len(value) > len(_LETTERS):
        raise RowError(NOT_READABLE, f"{where} has {len(value)} options, expected 2 to {len(_LETTERS)}")
    return dict(zip(_LETTERS, value, strict=False))


def _parsed(text: str, where: str) -> Any:
    if not text.strip():
        return None
    items = parse_list(text)
    if items is not None:
        return items
    if text.lstrip().startswith("{") and len(text) <= _MAX_JSON_CHARACTERS:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    options = parse_options(text) if len(text) <= _MAX_JSON_CHARACTERS else {}
    if not options:
        raise RowError(NOT_READABLE, f"{where} is text that is no list: write a JSON list of the options' texts")
    return options


def _option_text(value: Any, where: str) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float | Decimal):
        return number_text(value, where)
    if not isinstance(value, str):
        raise RowError(NOT_READABLE, f"{where} has an option that is {shown(value)}: expected text")
    text = " ".join(value.split())
    if len(text) > _MAX_OPTION_CHARACTERS:
        raise RowError(
            NOT_READABLE, f"{where} has an option of {len(text):,} characters, more than {_MAX_OPTION_CHARACTERS:,}"
        )
    return text


def _as_parsed(text: str) -> str:
    """What `parse_options` makes of an option's text."""
    return text.strip("*").rstrip(",;").strip()


def _key(options: Mapping[str, str]) -> dict[str, str]:
    return {label: "".join(text.split()).casefold() for label, text in options.items()}
