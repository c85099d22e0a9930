"""Which rows of a dataset a question space can draw its prompts of."""

import logging
from collections import defaultdict
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, IterableDataset

from .errors import UserError
from .question_space import QuestionSpace

logger = logging.getLogger(__name__)


def drawable_rows(dataset: Any, space: QuestionSpace) -> Any:
    """Keep the rows of which `space` can draw enough distinct prompts, and make sure that every row has an id.

    The images are counted, not decoded. What is dropped is reported with the reason in one warning.

    Raises:
        UserError: A needed column is missing, or no row is left.
    """
    if not isinstance(dataset, (Dataset, IterableDataset)):
        return dataset  # the parent says what it expects
    columns = dataset.column_names or []
    needed = ["problem"] if isinstance(dataset, Dataset) else ["problem", "id"]
    for column in needed:
        if columns and column not in columns:
            raise UserError(
                f"the training set has no column {column!r} (found: {', '.join(columns)}), which num_variants="
                f"{space.num_variants} needs to draw prompts: prepare it with `r1sharevl prep`, or set num_variants=1"
            )
    if isinstance(dataset, IterableDataset):
        return dataset.filter(lambda row: space.why_not(row, num_images=len(row.get("images") or [])) is None)
    if len(dataset) == 0:
        raise UserError("the training set is empty")
    if "id" not in columns:
        dataset = dataset.add_column("id", [str(index) for index in range(len(dataset))])
    kept: list[int] = []
    dropped: dict[str, int] = defaultdict(int)
    wanted = [column for column in ("problem", "variants", "images") if column in columns]
    start = 0
    for table in dataset.select_columns(wanted).with_format("arrow").iter(batch_size=1000):
        counts = pc.list_value_length(table["images"]).to_pylist() if "images" in wanted else [0] * len(table)
        texts = table.select([column for column in wanted if column != "images"]).to_pylist()
        for offset, (row, count) in enumerate(zip(texts, counts, strict=True)):
            reason = space.why_not(row, num_images=count or 0)
            if reason is None:
                kept.append(start + offset)
            else:
                dropped[reason] += 1
        start += len(table)
    if not kept:
        raise UserError(
            f"no row of the training set can be drawn {space.num_variants} distinct prompts of ("
            + "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items())
            + "): add wordings, allow image transforms, or lower num_variants"
        )
    if dropped:
        logger.warning(
            f"Dropped {sum(dropped.values())} of {len(dataset)} training rows: "
            + "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items())
        )
        dataset = dataset.select(kept)
    return dataset
