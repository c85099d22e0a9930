r"""The row format that the R1-ShareVL release reads (`verl/utils/dataset.py`, a fork of EasyR1).

What its reader does, and so what a set must be like:

- A folder (or `folder@anything`) gives the split `train` and a single parquet file gives its rows; only a Hub id takes
  `@split`. So a validation file is named by its path: `data.val_files=FOLDER/data/validation-00000-of-00001.parquet`.
- `new_questions` is a text on which it runs Python's `eval`; it appends `problem` and draws `question_num` (2) of them
  without replacement. A row with fewer wordings stops the run, so they are filled up with repeats.
- In validation it draws `None` of them, which stops the run as well: validation files have no such column.
- It puts pictures only where `<image>` stands, so every text gets its marks.
- Rows without a picture stop the run: the pictures of a batch are joined without looking whether there are any.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any

import datasets
import pyarrow as pa

from ..prompts import IMAGE_MARK
from .row_error import RowError

QUESTION_NUM = 2
"""Prompts per question in the release's settings, `worker.rollout.question_num`."""

NO_IMAGE = "no image for EasyR1"

_MAX_CHARACTERS = 1_000_000


class _FeaturesForAnyDatasets(datasets.Features):
    """Features whose files `datasets` before 4.0 opens as well; the release was made with 3.x.

    Version 4 calls a list `List` in a file's metadata, a name that older versions refuse, and reads their `Sequence`.
    """

    @property
    def arrow_schema(self) -> pa.Schema:
        schema = super().arrow_schema
        info = json.loads(schema.metadata[b"huggingface"])
        for feature in info["info"]["features"].values():
            if feature.get("_type") == "List":
                feature["_type"] = "Sequence"
        return schema.with_metadata({"huggingface": json.dumps(info)})


def easyr1_features(meta: Mapping[str, str] | None = None, split: str = "train") -> datasets.Features:
    """Give the `datasets` features of one split of a set for the release.

    Args:
        meta: Type of each free column, by name, as for `prepared_features`.
        split: Only `"train"` has the column `new_questions`.

    Returns:
        `problem`, `images`, `answer`, `new_questions`, `id`, `source`, then the meta columns.
    """
    text = datasets.Value("string")
    own = {"problem": text, "images": datasets.List(datasets.Image()), "answer": text}
    if split == "train":
        own["new_questions"] = text
    own |= {"id": text, "source": text}
    free = {
        name: datasets.Value(dtype)
        for name, dtype in (meta or {}).items()
        # One of an input's own would be taken for wordings.
        if name != "new_questions"
    }
    return _FeaturesForAnyDatasets({**own, **free})


def to_easyr1(row: Mapping[str, Any], where: str | None = None, *, question_num: int = QUESTION_NUM) -> dict[str, Any]:
    """Turn a row of a prepared set into one for the release.

    Args:
        row: The row: `problem`, `images`, `answer`, `variants` and any others.
        where: File and row, for the error message; the row's id where not given.
        question_num: Prompts that the release will draw per question.

    Returns:
        The row with `new_questions`, the `repr` of a list of at least `question_num - 1` texts, in place of
        `variants`, and with one `<image>` mark per image in every text.

    Raises:
        RowError: The row has no image.
    """
    count = len(row["images"])
    if not count:
        raise RowError(
            NO_IMAGE,
            f"{where or 'row ' + repr(row['id'])}: has no image, and the R1-ShareVL release stops at such rows: leave "
            "it out or write the set in another format",
        )
    problem = _with_marks(row["problem"], count)
    wordings = [_with_marks(text, count) for text in row["variants"]]
    repeats = [problem, *wordings]
    wordings += [repeats[number % len(repeats)] for number in range(question_num - 1 - len(wordings))]
    others = {name: value for name, value in row.items() if name not in ("variants", "new_questions")}
    return {**others, "problem": problem, "new_questions": repr(wordings)}


def wordings_of(problem: str, new_questions: str | None) -> list[str]:
    """Read the column `new_questions` as data, never as code.

    Args:
        problem: The row's `problem`.
        new_questions: The `repr` of a list of texts; None in validation files.

    Returns:
        The wordings that differ from `problem` and from each other, in order; none where it is no such list.
    """
    if not new_questions or len(new_questions) > _MAX_CHARACTERS:
        return []
    try:
        found = ast.literal_eval(new_questions)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    texts = [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
    return [text for text in dict.fromkeys(texts) if text != problem]


def _with_marks(text: str, count: int) -> str:
    return text if IMAGE_MARK in text else IMAGE_MARK * count + text
