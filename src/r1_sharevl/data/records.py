"""From a raw record (one JSON object, one table row) to a row of the schema, pictures fetched but not decoded."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from .answers import answer_text, number_text
from .choices import Choices, read_choices
from .conversations import Conversation, is_conversation, read_conversation
from .fetching import ImageFetcher
from .image_marks import arrange_images
from .images import TOO_LARGE
from .layouts import Layout
from .literals import parse_list
from .row_error import RowError, shown

MAX_CHARACTERS = 100_000
"""The longest text of a row: ten times the longest prompt anybody trains on."""

MAX_VARIANTS = 200
MAX_ROW_IMAGE_BYTES = 256 * 1024 * 1024

CONTROL_CHARACTER = "control character in text"
CONTROL_TOKEN = "control token in text"  # noqa: S105

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060 \t\r\n\v\f\u00a0\u3000"
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# The tokenizer would take them for the ends of messages and for images, wherever they stand.
_CONTROL_TOKEN = re.compile(r"<\|(?:[a-z]{1,20}(?:_[a-z]{1,20}){1,3}|endoftext)\|>")


def to_row(
    record: Any,
    layout: Layout,
    where: str,
    *,
    default_id: str,
    default_source: str,
    fetcher: ImageFetcher,
    answer_needed: bool = True,
) -> dict[str, Any]:
    """Bring a record into the schema's shape.

    Options are written into the problem and into its other wordings, a hint goes in front, and every mark of an image
    becomes `<image>`; see `Choices.shown_in`, `arrange_images` and `answer_text` for the rules.

    Args:
        record: The raw record.
        layout: Which column holds what.
        where: File and row, for error messages.
        default_id: The row's id where the record has none.
        default_source: The row's source where the record has none.
        fetcher: Gets the pictures.
        answer_needed: Whether a record without a usable answer is refused; else its answer is `""`.

    Returns:
        A row `id`, `problem`, `images`, `answer`, `variants`, `source` and its meta columns. `images` are
        `{"bytes": …, "path": None}` as found, or decoded pictures; not checked yet. Some wrong types and empty texts
        are left for `check_text` to judge.

    Raises:
        RowError: The record cannot be used.
    """
    if not isinstance(record, Mapping):
        raise RowError("not an object", f"{where}: expected an object with named fields, found {shown(record)}")
    reader = _RecordReader(record, layout, where)
    problem, talk = reader.problem()
    hint = reader.text("hint")
    choices = reader.choices()
    try:
        answer = reader.answer(problem, talk, choices)
    except RowError:
        if answer_needed:
            raise
        answer = ""
    variants = reader.variants()
    problem, variants = _completed(problem, variants, hint, choices, where)
    values = reader.image_values() or [(number, value) for number, value in enumerate(talk.images if talk else (), 1)]
    problem, variants, order = arrange_images(problem, variants, [number for number, _ in values], where)
    for name, text in (("problem", problem), ("answer", answer)):
        if token := _CONTROL_TOKEN.search(text):
            raise RowError(CONTROL_TOKEN, f"{where}: the {name} holds {token[0]}, which steers the model: take it out")
    images = _fetched([value for _, value in values], fetcher, where)
    row: dict[str, Any] = {
        "id": reader.name("id", default_id),
        "problem": problem,
        "images": [images[place] for place in order],
        "answer": answer,
        "variants": variants,
        "source": reader.name("source", default_source),
    }
    for name in layout.meta_columns(list(record)):
        if not name.isprintable():
            raise RowError("field name not printable", f"{where}: field {name!a} cannot name a column: rename it")
        row[name] = record[name]
    return row


def control_fault(text: str) -> str | None:
    """Say what in a text no tokenizer must see, `CONTROL_CHARACTER` or `CONTROL_TOKEN`; None where there is nothing."""
    if _CONTROL_CHARACTER.search(text):
        return CONTROL_CHARACTER
    return CONTROL_TOKEN if _CONTROL_TOKEN.search(text) else None


class _RecordReader:
    """Reads the fields of one record by their roles."""

    def __init__(self, record: Mapping[str, Any], layout: Layout, where: str) -> None:
        self._record = record
        self._columns = layout.columns
        self._where = where

    def name(self, role: str, default: str) -> Any:
        value = self._value(role)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return number_text(value, self._place(role)) if is_number else value

    def text(self, role: str) -> str:
        """Give a text that may be missing."""
        value = self._value(role)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise RowError(f"{role} not text", f"{self._place(role)} must be text, found {shown(value)}")
        return _clean(value, self._place(role))

    def problem(self) -> tuple[str, Conversation | None]:
        value, place = self._value("problem", nan_is_missing=False), self._place("problem")
        if value is None:
            raise RowError("no problem", f"{place} is missing: every row needs one")
        talk = None
        if is_conversation(value):
            talk = read_conversation(value, place)
            value = talk.problem
        if not isinstance(value, str):
            raise RowError("problem not text", f"{place} must be text, found {shown(value)}: put it in quotes")
        return _clean(value, place), talk

    def choices(self) -> Choices | None:
        names = self._columns.get("options", ())
        if not names:
            return None
        place = self._place("options")
        choices = read_choices([_present(self._record.get(name)) for name in names], place)
        for text in choices.texts.values() if choices else ():
            _clean(text, place)
        return choices

    def answer(self, problem: str, talk: Conversation | None, choices: Choices | None) -> str:
        value, place = self._value("answer", nan_is_missing=False), self._place("answer")
        if talk is not None and self._columns.get("answer") == self._columns.get("problem"):
            value = talk.answer
        elif is_conversation(value):
            value = value[-1].get("content", value[-1].get("value"))
        if value is None:
            index, index_place = self._value("answer_index"), self._place("answer_index")
            if index is not None and choices is not None:
                return choices.answer_at(index, index_place)
            if index is not None:
                raise RowError("no options", f"{index_place} counts options, but the row has none: give it options")
            raise RowError("no answer", f"{place} is missing: every row needs one")
        whole = "\n".join([problem, *choices.texts.values()]) if choices else problem
        answer = _clean(answer_text(value, whole, place), place)
        return choices.answer(answer, place) if choices and answer else answer

    def variants(self) -> list[str]:
        value, place = self._value("variants"), self._place("variants")
        if isinstance(value, str):
            value = parse_list(value) if len(value) <= MAX_CHARACTERS * 10 else value
            if value is None:
                raise RowError(
                    "variants not a list", f"{place} is text that is no list of texts: write a JSON list of texts"
                )
        if value is None:
            return []
        if not isinstance(value, list | tuple) or len(value) > MAX_VARIANTS:
            raise RowError(
                "variants not a list", f"{place} must be a list of at most {MAX_VARIANTS} texts, found {shown(value)}"
            )
        for item in value:
            if not isinstance(item, str):
                raise RowError("variants not text", f"{place} has {shown(item)} in its list: expected texts")
        return [item.strip(_INVISIBLE) for item in value]

    def image_values(self) -> list[tuple[int, Any]]:
        """Give each image's number and value; in a series of columns with one image each the number is the column's."""
        names = self._columns.get("images", ())
        given = [_images_in(self._record.get(name)) for name in names]
        if {name.lower() for name in names} == {"image", "images"}:
            if all(given):
                raise RowError(
                    "both image and images", f"{self._where}: has both 'image' and 'images': keep one of them"
                )
        elif all(len(values) <= 1 for values in given):
            return [(number, value) for number, values in enumerate(given, start=1) for value in values]
        return list(enumerate((value for values in given for value in values), start=1))

    def _value(self, role: str, nan_is_missing: bool = True) -> Any:
        names = self._columns.get(role)
        if not names:
            return None
        value = self._record.get(names[0])
        return _present(value) if nan_is_missing else value

    def _place(self, role: str) -> str:
        names = self._columns.get(role) or (role,)
        listed = ", ".join(f"'{name}'" for name in names)
        return f"{self._where}: field{'s' * (len(names) > 1)} {listed}"


def _present(value: Any) -> Any:
    """Take NaN, pandas' missing value, for what it means."""
    return None if isinstance(value, float) and value != value else value


def _images_in(value: Any) -> list[Any]:
    value = _present(value)
    if isinstance(value, str) and value[:1] in ("[", "("):
        value = parse_list(value) or value
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _clean(text: str, place: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise RowError("text too long", f"{place} has {len(text):,} characters, more than {MAX_CHARACTERS:,}: cut it")
    if found := _CONTROL_CHARACTER.search(text):
        raise RowError(
            CONTROL_CHARACTER,
            f"{place} has the control character {found[0]!a} at {found.start()}: take it out (LaTeX such as \\frac "
            "needs two backslashes in JSON)",
        )
    return text.strip(_INVISIBLE)


def _completed(
    problem: str, variants: Sequence[str], hint: str, choices: Choices | None, where: str
) -> tuple[str, list[str]]:
    """Write hint and options into a problem and into its wordings."""
    front = f"Hint: {hint}\n" if hint else ""
    wordings = [front + text if text else text for text in variants]
    problem = front + problem if problem else problem
    if choices is None or not problem:
        return problem, wordings
    try:
        problem = choices.shown_in(problem)
    except RowError as error:
        raise RowError(error.reason, f"{where}: {error}") from error
    for place, text in enumerate(wordings):
        try:
            wordings[place] = choices.shown_in(text) if 0 < len(text) <= MAX_CHARACTERS else text
        except RowError:
            # Without the options it does not ask the same, which the checks of wordings see.
            continue
    return problem, wordings


def _fetched(values: Sequence[Any], fetcher: ImageFetcher, where: str) -> list[Any]:
    images: list[Any] = []
    total = 0
    for number, value in enumerate(values, start=1):
        image = fetcher.fetch(value, f"{where}: image {number}")
        if isinstance(image, PIL.Image.Image):
            images.append(image)
            continue
        total += len(image)
        if total > MAX_ROW_IMAGE_BYTES:
            raise RowError(
                TOO_LARGE, f"{where}: its images have more than {MAX_ROW_IMAGE_BYTES // 2**20} MiB: scale them down"
            )
        images.append({"bytes": image, "path": None})
    return images
