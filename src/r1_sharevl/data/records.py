"""From a raw record (one JSON object, one parquet row) to a row of the schema, pictures fetched but not decoded."""

import base64
import binascii
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .images import CANNOT_READ
from .row_error import RowError, shown
from .schema import COLUMNS

NEEDED = ("problem", "answer")
"""The columns that a raw data set must have; all others can be made up or left empty."""

# `image` is another name of `images`; the rest of a record is meta.
OWN_FIELDS = frozenset({*COLUMNS, "image"})

MAX_IMAGE_FILE_BYTES = 128 * 1024 * 1024


def to_row(record: Any, where: str, *, default_id: str, default_source: str, base: Path) -> dict[str, Any]:
    """Bring a record into the schema's shape.

    Args:
        record: The raw record.
        where: File and row, for error messages.
        default_id: The row's id where the record has none.
        default_source: The row's source where the record has none.
        base: The data's folder, resolved: picture paths are relative to it and cannot lead out of it.

    Returns:
        A row whose `images` are `{"bytes": …, "path": None}` as found, not decoded yet. Types of texts are left as
        found: `check_row` judges them.

    Raises:
        RowError: The record is no object, a field's name can name no column, or a picture cannot be fetched.
    """
    if not isinstance(record, Mapping):
        raise RowError("not an object", f"{where}: expected an object with named fields, found {shown(record)}")
    for name in NEEDED:
        if record.get(name) is None:
            raise RowError(f"no {name}", f"{where}: field '{name}' is missing: every row needs one")
    row_id = record.get("id")
    if row_id is None:
        row_id = default_id
    elif isinstance(row_id, int) and not isinstance(row_id, bool):
        row_id = str(row_id)
    source = record.get("source")
    variants = record.get("variants")
    row = {
        "id": row_id,
        "problem": record["problem"],
        "images": [
            {"bytes": _fetch(value, f"{where}: image {number}", base), "path": None}
            for number, value in enumerate(_image_values(record, where), start=1)
        ],
        "answer": record["answer"],
        "variants": [] if variants is None else variants,
        "source": default_source if source is None else source,
    }
    for name, value in record.items():
        if name not in OWN_FIELDS:
            if not name.isprintable():
                raise RowError("field name not printable", f"{where}: field {name!a} cannot name a column: rename it")
            row[name] = value
    return row


def _image_values(record: Mapping[str, Any], where: str) -> list[Any]:
    """Give the pictures of `images` or `image`, one or many, as a list."""
    images, image = record.get("images"), record.get("image")
    if image is not None and images:
        raise RowError("both image and images", f"{where}: has both 'image' and 'images': keep one of them")
    value = images if image is None else image
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _fetch(value: Any, where: str, base: Path) -> bytes:
    """Give a picture file's bytes: embedded, base64 in an object, or read from a path inside `base`."""
    if isinstance(value, Mapping):
        data = value.get("bytes")
        value = value.get("path") if data is None else data
        if isinstance(data, str):
            return _from_base64(data, where)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _read_inside(value, where, base)
    raise RowError(
        CANNOT_READ,
        f'{where}: expected a path, or an object with base64 "bytes" or a "path", found {shown(value)}',
    )


def _from_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(CANNOT_READ, f'{where}: "bytes" is not base64 ({error}): encode the file\'s bytes') from error


def _read_inside(path: str, where: str, base: Path) -> bytes:
    """Read a file that must lie inside `base` once every symbolic link is followed."""
    try:
        target = (base / path).resolve()
        # Before anything is asked of the file: not even whether it exists is told of a place outside.
        if not target.is_relative_to(base):
            raise RowError(
                "image outside the data's folder",
                f"{where}: {shown(path)} leads out of {base}: move the picture into that folder",
            )
        status = target.stat()
        # A pipe would be waited for forever.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_IMAGE_FILE_BYTES:
            raise RowError(
                CANNOT_READ, f"{where}: {shown(path)} is not a file of at most {MAX_IMAGE_FILE_BYTES // 2**20} MiB"
            )
        return target.read_bytes()
    except FileNotFoundError as error:
        raise RowError(
            "image file not found", f"{where}: no file {shown(path)} in {base}: put it there or correct the path"
        ) from error
    except RowError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        # ValueError: a NUL character in the path; RuntimeError: symbolic links in a circle (Python < 3.13).
        what = getattr(error, "strerror", None) or str(error)
        raise RowError(
            CANNOT_READ, f"{where}: cannot read {shown(path)} in {base}: {what}: correct the path"
        ) from error
