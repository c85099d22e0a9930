"""What a prepared set looks like, for people: one self-contained page and one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from ..data.images import open_image
from ..data.row_error import RowError
from ..prompts import IMAGE_MARK
from ..question_space import TRANSFORMS
from .contact_sheet import SheetCell, draw_sheet
from .inspection import visible
from .prepared_files import PreparedFiles, PreparedRow
from .preview_page import ShownRow, TransformedRow, page_html

PAGE = "index.html"
SHEET = "sheet.png"

_ROWS_TRANSFORMED = 3
_IMAGES_PER_ROW = 4
_IMAGE_PIXELS = 480
_SMALL_IMAGE_PIXELS = 224


def write_preview(
    folder: Path,
    out: Path,
    *,
    rows: int = 24,
    seed: int = 0,
    transforms: Sequence[str] = tuple(TRANSFORMS),
    title: str | None = None,
) -> list[Path]:
    """Write a page and a contact sheet of a prepared set.

    The page, `index.html`, shows rows of every source with their images, wordings and answers, some of them under all
    image transforms, and what was rejected and why. It needs no other file and runs no script; everything that comes
    from the data is escaped. The sheet, `sheet.png`, shows the same rows at a glance.

    Args:
        folder: The prepared set.
        out: Folder to write to; it is made where there is none.
        rows: How many rows to show, sources taking turns.
        seed: Decides which rows are shown, and the noise.
        transforms: Names of the image transforms to show, from `TRANSFORMS`.
        title: The set's name; the folder's name where not given.

    Returns:
        The page and the sheet.

    Raises:
        UserError: `folder` is no prepared set, or a file is damaged.
    """
    files = PreparedFiles(folder)
    # A set that is still being written lies in a hidden folder.
    title = title or (folder.name if not folder.name.startswith(".") else "Prepared set")
    shown = [_decoded(row) for row in files.sample(rows, seed)]
    changed = [_transformed(item, image, transforms, seed) for item in shown if (image := _first_image(item))]
    changed = changed[:_ROWS_TRANSFORMED]
    out.mkdir(parents=True, exist_ok=True)
    page, sheet = out / PAGE, out / SHEET
    page.write_text(page_html(title, files, shown, changed), encoding="utf-8")
    totals = ", ".join(f"{split} {count:,}" for split, count in files.num_rows.items())
    draw_sheet(
        visible(f"{title}: {totals} rows"),
        [_sheet_cell(item) for item in shown],
        [SheetCell(image, name, "", "") for name, _, image in (changed[0].versions if changed else ())],
    ).save(sheet)
    return [page, sheet]


def _decoded(row: PreparedRow) -> ShownRow:
    images: list[PIL.Image.Image | None] = []
    for data in row.images[:_IMAGES_PER_ROW]:
        try:
            image = None if data is None else open_image(data, row.id)
        except RowError:
            image = None
        if image is not None:
            image.thumbnail((_IMAGE_PIXELS, _IMAGE_PIXELS), PIL.Image.Resampling.LANCZOS)
        images.append(image)
    return ShownRow(row, tuple(images))


def _first_image(item: ShownRow) -> PIL.Image.Image | None:
    return item.images[0] if item.images else None


def _transformed(item: ShownRow, image: PIL.Image.Image, transforms: Sequence[str], seed: int) -> TransformedRow:
    # Scaled down first: scaling averages noise away, and σ would look smaller than it is.
    original = image.copy()
    original.thumbnail((_SMALL_IMAGE_PIXELS, _SMALL_IMAGE_PIXELS), PIL.Image.Resampling.LANCZOS)
    rng = np.random.default_rng(seed)
    count = len(item.row.images)
    versions = [(name, TRANSFORMS[name].hint_for(count), TRANSFORMS[name].apply(original, rng)) for name in transforms]
    return TransformedRow(item.row, original, tuple(versions))


def _sheet_cell(item: ShownRow) -> SheetCell:
    row = item.row
    others = len({row.problem, *row.variants}) - 1
    return SheetCell(
        _first_image(item),
        visible(f"{row.id} · {row.source}"),
        visible(row.problem.replace(IMAGE_MARK, " ")),
        f"{visible(row.answer, 60)}  (+{others} wording{'s' * (others != 1)})",
    )
