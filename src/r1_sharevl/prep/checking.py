"""From a raw record to a row that may enter the set: everything that can be decided without looking at other rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..data.fetching import ImageFetcher
from ..data.images import clean_image, encoded_bytes
from ..data.layouts import Layout
from ..data.meta import meta_value
from ..data.records import control_fault, to_row
from ..data.rejected import Rejected
from ..data.row_checks import COLUMNS, check_text
from ..data.row_error import RowError, shown
from ..prompts import IMAGE_MARK
from ..rewards import is_correct
from .selection.keys import QuestionKeys, question_keys
from .selection.prompt_length import PromptLength
from .wordings.checks import sift
from .wordings.rewriter import DroppedWording

PROMPT_TOO_LONG = "prompt too long"


@dataclass(frozen=True)
class SourceSettings:
    """How to read the records of one source.

    Attributes:
        name: The rows' `source` where they name none.
        layout: Which column holds what.
        fetcher: Gets the pictures.
        check_wordings: Whether the wordings that a row comes with must pass the checks of `wordings.checks`.
    """

    name: str
    layout: Layout
    fetcher: ImageFetcher
    check_wordings: bool = True


@dataclass(frozen=True)
class CheckSettings:
    """What a row must be like.

    Attributes:
        sources: The sources, in the order of their numbers.
        meta: Type of each meta column.
        min_pixels: Smaller pictures are enlarged to so many pixels; None leaves them.
        max_pixels: Larger pictures are shrunk to so many pixels; None leaves them.
        prompt_length: Counts the tokens of a prompt; None where that is not asked for.
        max_prompt_length: Most tokens of a prompt.
        keys_only: Rows are read for comparison only, so they need no answer and need not be fit to train on.
    """

    sources: tuple[SourceSettings, ...]
    meta: Mapping[str, str]
    min_pixels: int | None = None
    max_pixels: int | None = None
    prompt_length: PromptLength | None = None
    max_prompt_length: int | None = None
    keys_only: bool = False


@dataclass(frozen=True)
class RawRecord:
    """A record as a reader gives it.

    Attributes:
        source: Number of its source.
        position: Its place among the source's records, from 0.
        where: Its file and row, for error messages.
        default_id: Its id where it has none.
        content: The record, or the `RowError` that says why it cannot be read.
    """

    source: int
    position: int
    where: str
    default_id: str
    content: Any


@dataclass
class Candidate:
    """A row that passed every check of its own.

    Attributes:
        record: Where it comes from; its content is gone.
        row: The row, in the schema's shape.
        keys: What tells whether another row asks the same.
        dropped: Wordings that it came with or was given and that did not pass.
        converted: The row as it is written, where that is another format than the schema's.
    """

    record: RawRecord
    row: dict[str, Any]
    keys: QuestionKeys
    dropped: list[DroppedWording]
    converted: dict[str, Any] | None = None


def check_record(record: RawRecord, settings: CheckSettings) -> Candidate | Rejected:
    """Read and check one record.

    Args:
        record: The record.
        settings: What a row must be like.

    Returns:
        The row that may enter the set, or why the record cannot be used.
    """
    try:
        return _checked(record, settings)
    except RowError as error:
        layout = settings.sources[record.source].layout
        return Rejected(_id_of(record, layout), record.where, error.reason, str(error))


def _id_of(record: RawRecord, layout: Layout) -> str:
    """Name a record that cannot be used: by its own id where that can be read."""
    columns = layout.columns.get("id")
    row_id = record.content.get(columns[0]) if columns and isinstance(record.content, Mapping) else None
    named = isinstance(row_id, str | int) and not isinstance(row_id, bool)
    return str(row_id) if named else record.default_id


def _checked(record: RawRecord, settings: CheckSettings) -> Candidate:
    where = record.where
    if isinstance(record.content, RowError):
        raise record.content
    source = settings.sources[record.source]
    raw = to_row(
        record.content,
        source.layout,
        where,
        default_id=record.default_id,
        default_source=source.name,
        fetcher=source.fetcher,
        answer_needed=not settings.keys_only,
    )
    dropped: list[DroppedWording] = []
    row = {name: raw[name] for name in COLUMNS}
    if not settings.keys_only:
        check_text({**row, "variants": []}, where)
        if _are_texts(row["variants"]):
            wordings = [_marked_alike(row["problem"], text, len(row["images"])) for text in row["variants"]]
            # A copy is no wording and no fault: the R1-ShareVL release's files are filled up with them.
            wordings = [text for text in dict.fromkeys(wordings) if text != row["problem"]]
            faults = {text: fault for text in wordings if (fault := control_fault(text)) is not None}
            dropped = [DroppedWording(text, fault) for text, fault in faults.items()]
            row["variants"] = [text for text in wordings if text not in faults]
            if source.check_wordings:
                row["variants"], more = sift(row["problem"], row["variants"], row["answer"])
                dropped += more
        check_text(row, where)
    row["images"] = []
    pixels = []
    for number, value in enumerate(raw["images"], start=1):
        place = f"{where}: image {number}"
        picture = clean_image(
            encoded_bytes(value, place), place, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels
        )
        row["images"].append({"bytes": picture.data, "path": None})
        pixels.append(picture.pixels)
    for name, dtype in settings.meta.items():
        row[name] = meta_value(raw.get(name), dtype, name, where)
    if not settings.keys_only:
        _check_answer(row, where)
        row["variants"] = _short_enough(row, [image.size for image in pixels], dropped, settings, where)
    keys = question_keys(row["problem"], row["variants"], pixels, row["answer"])
    return Candidate(replace(record, content=None), row, keys, dropped)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _marked_alike(problem: str, wording: str, num_images: int) -> str:
    """Leave out a wording's image marks where all stand in front and the problem, meaning the same, has none."""
    front = wording.lstrip()
    for _ in range(num_images):
        if not front.startswith(IMAGE_MARK):
            return wording
        front = front.removeprefix(IMAGE_MARK).lstrip()
    return wording if IMAGE_MARK in problem or IMAGE_MARK in front else front


def images_of(row: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Give the encoded pictures of a row."""
    return tuple(image["bytes"] for image in row["images"])


def _check_answer(row: Mapping[str, Any], where: str) -> None:
    """The reward must accept the gold answer, or no response could ever be right."""
    if not is_correct(f"<think></think> \\boxed{{{row['answer']}}}", row["answer"], row["problem"]):
        raise RowError(
            "gold answer not accepted",
            f"{where}: the accuracy reward does not accept the gold answer {shown(row['answer'])} itself: write it "
            "as a number, a LaTeX expression, an option letter or a short text",
        )


def excess_tokens(text: str, sizes: Sequence[tuple[int, int]], settings: CheckSettings) -> int:
    """Count the tokens by which the prompt of a question is too long; 0 where it is not, or nobody asked."""
    if settings.prompt_length is None or settings.max_prompt_length is None:
        return 0
    return max(0, settings.prompt_length.longest(text, (), sizes) - settings.max_prompt_length)


def _short_enough(
    row: Mapping[str, Any],
    sizes: Sequence[tuple[int, int]],
    dropped: list[DroppedWording],
    settings: CheckSettings,
    where: str,
) -> list[str]:
    """Leave out the wordings whose prompt is too long; refuse the row where its problem is."""
    if excess := excess_tokens(row["problem"], sizes, settings):
        raise RowError(
            PROMPT_TOO_LONG,
            f"{where}: the prompt has {excess:,} tokens more than {settings.max_prompt_length:,}: shorten it, scale "
            "its images down (--max-pixels) or raise --max-prompt-length",
        )
    kept = []
    for wording in row["variants"]:
        if excess_tokens(wording, sizes, settings):
            dropped.append(DroppedWording(wording, PROMPT_TOO_LONG))
        else:
            kept.append(wording)
    return kept
