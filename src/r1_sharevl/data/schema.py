"""The schema of a prepared set: its columns, the check of one row, and opening a set for training or evaluation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from ..prompts import IMAGE_MARK
from .images import encoded_bytes, open_image
from .row_error import RowError, shown
from .staging import MANIFEST

COLUMNS = ("id", "problem", "images", "answer", "variants", "source")
"""The columns every prepared set has; any others are free meta columns."""

_SHARD_NAME = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})")


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


def check_row(row: Any, where: str) -> None:
    """Check that a row is fit to train on.

    Args:
        row: The row: `id`, `problem`, `answer` and `source` texts, `variants` a list of texts, `images` a list of
            pictures (PIL, bytes, or `{"bytes": …}`). Other columns are not looked at.
        where: File and row, for error messages.

    Raises:
        RowError: (a `UserError`) A field is missing, has the wrong type or is empty; a picture cannot be decoded; the
            `<image>` marks of the problem or of a variant are neither none nor as many as the images.
    """
    check_text(row, where)
    for number, value in enumerate(row["images"], start=1):
        field = f"{where}: image {number}"
        open_image(encoded_bytes(value, field), field)


def check_text(row: Any, where: str) -> None:
    """Do the part of `check_row` that needs no decoding: everything except the pictures themselves."""
    if not isinstance(row, Mapping):
        raise RowError("not an object", f"{where}: expected an object with named fields, found {shown(row)}")
    for name in COLUMNS:
        if name not in row:
            raise RowError(f"no {name}", f"{where}: field '{name}' is missing: every row needs one")
    for name in ("id", "problem", "answer"):
        _check_string(row[name], name, where)
    _check_string(row["source"], "source", where, may_be_empty=True)
    for name in ("images", "variants"):
        if not isinstance(row[name], list | tuple):
            raise RowError(f"{name} not a list", f"{where}: field '{name}' must be a list, found {shown(row[name])}")
    for number, variant in enumerate(row["variants"], start=1):
        _check_string(variant, f"variants[{number}]", where, kind="variants")
    for name, text in [
        ("problem", row["problem"]),
        *((f"variants[{i}]", v) for i, v in enumerate(row["variants"], 1)),
    ]:
        marks = text.count(IMAGE_MARK)
        if marks not in (0, len(row["images"])):
            raise RowError(
                "image marks do not match images",
                f"{where}: field '{name}' has {marks} {IMAGE_MARK} mark{'s' * (marks != 1)} but the row has "
                f"{len(row['images'])} image{'s' * (len(row['images']) != 1)}: write one mark per image, or none to "
                "put the images in front",
            )


def _check_string(value: Any, name: str, where: str, kind: str | None = None, may_be_empty: bool = False) -> None:
    kind = kind or name
    if not isinstance(value, str):
        raise RowError(
            f"{kind} not text", f"{where}: field '{name}' must be text, found {shown(value)}: put it in quotes"
        )
    if not value.strip() and not may_be_empty:
        raise RowError(f"empty {kind}", f"{where}: field '{name}' is empty: fill it in or leave the row out")
    check_encodable(value, name, where)


def check_encodable(text: str, name: str, where: str) -> None:
    """Refuse text that no file can hold: half of a surrogate pair, which JSON can spell.

    Raises:
        RowError: `text` cannot be encoded as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            "text not valid Unicode",
            f"{where}: field '{name}' holds half a surrogate pair ({text[error.start]!r}) at character {error.start}: "
            "write the whole character",
        ) from error


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
    files = _shards(folder, split)
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


def _shards(folder: Path, split: str) -> list[Path]:
    """Find the files of `split`, and say what is wrong where there are none or too few."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}: make a prepared set with `r1sharevl prep INPUT --out {folder}`")
    shards: dict[str, list[Path]] = {}
    counts: dict[str, int] = {}
    for file in sorted((folder / "data").glob("*.parquet")):
        match = _SHARD_NAME.fullmatch(file.stem)
        name = match["split"] if match else file.stem
        shards.setdefault(name, []).append(file)
        counts[name] = int(match["count"]) if match else 1
    if not shards:
        raise UserError(
            f"{folder}: not a prepared set (no data/*.parquet in it): make one with `r1sharevl prep INPUT --out FOLDER`"
        )
    if split not in shards:
        raise UserError(f"{folder}: no split '{split}': it has {', '.join(sorted(shards))}")
    if len(shards[split]) != counts[split]:
        raise UserError(
            f"{folder}: split '{split}' has {len(shards[split])} of its {counts[split]} files in data/: copy the "
            "whole folder again"
        )
    return shards[split]


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
