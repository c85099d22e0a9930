"""The check of one row of a prepared set. It needs no `datasets`: prep's worker processes start fast and stay small."""

from collections.abc import Mapping
from typing import Any

from ..prompts import IMAGE_MARK
from .images import encoded_bytes, open_image
from .row_error import RowError, shown

COLUMNS = ("id", "problem", "images", "answer", "variants", "source")
"""The columns every prepared set has; any others are free meta columns."""


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
