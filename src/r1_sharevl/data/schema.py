"""The schema of a prepared set: the types of its columns, and opening a set for training or evaluation."""

from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .row_checks import COLUMNS, check_row
from .shards import find_shards
from .staging import MANIFEST


def prepared_features(meta: Mapping[str, str] | None = None) -> datasets.Features:
    """Give the `datasets` features of a prepared set.

    Args:
        meta: Type of each free column, by name: a `datasets.Value` dtype such as `"string"` or `"int64"`.

    Returns:
        The six columns of the contract, in order, then the meta columns.
    """
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "problem": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "answer": datasets.Value("string"),
            "variants": datasets.List(datasets.Value("string")),
            "source": datasets.Value("string"),
            **{name: datasets.Value(dtype) for name, dtype in (meta or {}).items()},
        }
    )


def load_prepared(folder: str | Path, split: str = "train") -> datasets.Dataset:
    """Open one split of a prepared set.

    Args:
        folder: The folder that `r1sharevl prep` made, or any with `data/{split}-*.parquet` in the same schema.
        split: The split's name.

    Returns:
        The rows, with the features of `prepared_features`; meta columns are kept as they are. Those of a folder that
        `r1sharevl prep` did not make are checked one by one first.

    Raises:
        UserError: The folder is missing or no prepared set, the split is missing or empty, a shard is missing or
            damaged, a column is missing, has another type or has empty cells, or a row is not fit to train on.
    """
    folder = Path(folder)
    files = find_shards(folder, split)[split]
    features = _features_of(files)
    if not any(pq.read_metadata(file).num_rows for file in files):
        raise UserError(f"{folder}: split '{split}' is empty: make the set again with `r1sharevl prep`")
    dataset = datasets.load_dataset(
        "parquet", data_files={split: [str(file) for file in files]}, split=split, features=features
    )
    for name in COLUMNS:
        if empty := dataset.data.column(name).null_count:
            raise UserError(
                f"{folder}: column '{name}' of split '{split}' has {empty} empty cells: run the data through "
                "`r1sharevl prep`, which lists bad rows"
            )
    if not (folder / MANIFEST).exists():  # nobody has looked at the rows yet
        undecoded = dataset.cast_column("images", datasets.List(datasets.Image(decode=False)))
        for number, row in enumerate(undecoded):
            check_row(row, f"{folder}: split '{split}', row {number} (id {row['id']!r})")
    return dataset


def _features_of(files: list[Path]) -> datasets.Features:
    """Read the files' own features, with the contract's in place of those of the six columns."""
    expected = prepared_features()
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file}: not a readable parquet file: copy it again or make the set again") from error
        if missing := [name for name in COLUMNS if name not in schema.names]:
            raise UserError(
                f"{file}: no column '{missing[0]}' (found: {', '.join(schema.names)}): run the data through "
                "`r1sharevl prep`"
            )
        for name in COLUMNS:
            found = schema.field(name).type
            try:
                datasets.table.cast_array_to_feature(pa.array([], found), expected[name])
            except (TypeError, ValueError, pa.ArrowException) as error:
                raise UserError(
                    f"{file}: column '{name}' has type {found}, expected {pa.schema(expected.type).field(name).type}: "
                    "run the data through `r1sharevl prep`"
                ) from error
    own = datasets.Features.from_arrow_schema(pq.read_schema(files[0]))
    return datasets.Features({**expected, **{name: feature for name, feature in own.items() if name not in expected}})
