"""The questions of an evaluation: read, checked, grouped, and cut into batches that are the same every time."""

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import PIL.Image

from ..data.images import FORMATS, open_image
from ..data.schema import load_prepared
from ..errors import UserError
from ..prompts import IMAGE_MARK

_NEEDED = ("id", "problem", "images", "answer")
_NOT_GROUPS = (*_NEEDED, "variants")
_MAX_GROUPS = 20
_PIXELS_PER_CHARACTER = 28 * 28 // 4
"""Weighs images against text when sorting by length: a Qwen2.5-VL image token covers 28×28 pixels, a text token about
four characters."""


@dataclass(frozen=True)
class Question:
    """One question, without its images.

    Attributes:
        id: Its id, unique in the set.
        problem: Its text.
        answer: The right answer.
        groups: Per grouping column (`source`, a question type …) the question's value.
    """

    id: str
    problem: str
    answer: str
    groups: dict[str, str]


@dataclass(frozen=True)
class QuestionSet:
    """The questions of an evaluation.

    Attributes:
        rows: The rows themselves, with their images still encoded.
        questions: One per row, in the same order.
        image_counts: How many images each row has.
        fingerprint: Names the content: ids, texts, answers and images.
        order: Row numbers sorted by length, the longest first, so that a batch wastes little padding and the most
            memory is needed at the start.
    """

    rows: datasets.Dataset
    questions: list[Question]
    image_counts: list[int]
    fingerprint: str
    order: list[int]

    def batches(self, samples: int, batch_size: int) -> Iterator[list[tuple[int, int]]]:
        """Cut all responses to be sampled into batches.

        Args:
            samples: Responses per question.
            batch_size: Responses per batch.

        Yields:
            Batches of (row number, sample number); they depend on nothing but the set and the arguments.
        """
        pairs = [(row, sample) for row in self.order for sample in range(samples)]
        for start in range(0, len(pairs), batch_size):
            yield pairs[start : start + batch_size]

    def images(self, row: int) -> list[PIL.Image.Image]:
        """The images of a row, decoded.

        Raises:
            UserError: One of them cannot be read.
        """
        where = f"row {self.questions[row].id!r}, images"
        return [open_image(_content(image, where), where) for image in self.rows[row]["images"]]


def read_questions(
    data: str | Path | datasets.Dataset,
    split: str = "validation",
    limit: int | None = None,
    group_by: Sequence[str] | None = None,
) -> QuestionSet:
    """Read the questions of a prepared set.

    Args:
        data: Folder of a prepared set, or rows in its schema.
        split: Which split of the folder; rows given directly are taken as they are.
        limit: Only the first `limit` rows; None takes all.
        group_by: Columns whose values get sub-scores; by default every text column with 2 to 20 different values.

    Returns:
        The questions.

    Raises:
        UserError: The set cannot be read, lacks a column, is empty, repeats an id, or `limit` or a column of
            `group_by` makes no sense.
    """
    where = f"{data} ({split})" if not isinstance(data, datasets.Dataset) else "the dataset"
    rows = data if isinstance(data, datasets.Dataset) else load_prepared(data, split=split)
    missing = [column for column in _NEEDED if column not in rows.column_names]
    if missing:
        raise UserError(f"{where}: has no column {missing[0]!r}, found {', '.join(rows.column_names)}")
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}: give at least 1, or leave it out for all questions")
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    if len(rows) == 0:
        raise UserError(f"{where}: has no rows to evaluate")
    columns = _group_columns(rows, group_by, where)
    # Undecoded: to read a set's texts and sizes it is enough to look at each image's header.
    raw = rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
    digest = hashlib.sha256()
    questions: list[Question] = []
    counts: list[int] = []
    lengths: list[int] = []
    seen: set[str] = set()
    for row in raw:
        if row["id"] in seen:
            raise UserError(f"{where}: the id {row['id']!r} stands twice: give each row its own")
        seen.add(row["id"])
        groups = {column: str(row[column]) for column in columns}
        questions.append(Question(row["id"], row["problem"], row["answer"], groups))
        digest.update(json.dumps([row["id"], row["problem"], row["answer"]]).encode())
        place = f"{where}: row {row['id']!r}, images"
        contents = [_content(image, place) for image in row["images"]]
        for content in contents:
            digest.update(hashlib.sha256(content).digest())
        counts.append(len(contents))
        pixels = sum(_pixels(content, place) for content in contents)
        lengths.append(len(row["problem"]) + pixels // _PIXELS_PER_CHARACTER)
    order = sorted(range(len(questions)), key=lambda row: (-lengths[row], row))
    return QuestionSet(raw, questions, counts, digest.hexdigest()[:16], order)


def pick_examples(questions: Sequence[Question], count: int) -> list[int]:
    """Choose rows to show, whatever any model answered: the same ones for every model, some of every group.

    Args:
        questions: The questions.
        count: How many to choose at most.

    Returns:
        Positions in `questions`.
    """
    by_group: dict[tuple[str, ...], list[int]] = {}
    for position, question in enumerate(questions):
        by_group.setdefault(tuple(question.groups.values()), []).append(position)
    rounds = [
        (turn, group, position)
        for group, positions in sorted(by_group.items())
        for turn, position in enumerate(positions[:count])
    ]
    return [position for _, _, position in sorted(rounds)[:count]]


def plain_problem(problem: str) -> str:
    """The text of a problem without image marks, on as few lines as it has."""
    return problem.replace(IMAGE_MARK, " ").strip()


def _group_columns(rows: datasets.Dataset, group_by: Sequence[str] | None, where: str) -> list[str]:
    if group_by is not None:
        unknown = [column for column in group_by if column not in rows.column_names]
        if unknown:
            raise UserError(f"{where}: has no column {unknown[0]!r} to group by, found {', '.join(rows.column_names)}")
        return list(group_by)
    texts = [
        column
        for column, feature in rows.features.items()
        if column not in _NOT_GROUPS and getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    return [column for column in texts if 2 <= len(set(rows[column])) <= min(_MAX_GROUPS, len(rows) // 2)]


def _content(image: dict[str, Any], where: str) -> bytes:
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    try:
        return Path(image["path"]).read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {image['path']} cannot be read ({error.strerror}): mend the path") from error


def _pixels(content: bytes, where: str) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return image.width * image.height
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{where}: not a picture that can be read: remove the row or mend it") from error
