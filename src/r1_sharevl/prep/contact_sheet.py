"""Many pictures with captions on one picture."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

_COLUMNS = 6
_CELL_WIDTH = 280
_IMAGE_HEIGHT = 200
_GAP = 14
_PADDING = 10
_TEXT_LINES = 5
_LINE_HEIGHT = 18
_FONT_SIZE = 13
_TITLE_HEIGHT = 52

_PAGE_COLOUR = "#f1f3f6"
_CELL_COLOUR = "white"
_INK = "#1c2330"
_SOFT_INK = "#667085"
_ACCENT = "#1f5fd0"


@dataclass(frozen=True)
class SheetCell:
    """A picture and what is written below it.

    Attributes:
        image: The picture; None leaves its place to the text.
        head: One small line.
        text: A few lines.
        foot: One line that stands out.
    """

    image: PIL.Image.Image | None
    head: str
    text: str
    foot: str


def draw_sheet(title: str, cells: Sequence[SheetCell], strip: Sequence[SheetCell]) -> PIL.Image.Image:
    """Draw a contact sheet.

    Args:
        title: The headline.
        cells: Cells with texts, in rows.
        strip: Cells with a picture and a head only, in rows below.

    Returns:
        The sheet, mode RGB; its size depends on the number of cells only. Characters that the font lacks (DejaVu Sans:
        no Chinese, for one) are drawn as boxes.
    """
    cell_height = _IMAGE_HEIGHT + (_TEXT_LINES + 2) * _LINE_HEIGHT + 3 * _PADDING
    strip_height = _IMAGE_HEIGHT + _LINE_HEIGHT + 2 * _PADDING
    heights = [cell_height] * _rows(len(cells)) + [strip_height] * _rows(len(strip))
    size = (_COLUMNS * (_CELL_WIDTH + _GAP) + _GAP, _TITLE_HEIGHT + sum(height + _GAP for height in heights) + _GAP)
    sheet = PIL.Image.new("RGB", size, _PAGE_COLOUR)
    pen = PIL.ImageDraw.Draw(sheet)
    _line(pen, (_GAP, 16), title, size[0] - 2 * _GAP, _INK, bold=True, font_size=20)
    top = _TITLE_HEIGHT
    for group, height in ((cells, cell_height), (strip, strip_height)):
        for start in range(0, len(group), _COLUMNS):
            for column, cell in enumerate(group[start : start + _COLUMNS]):
                _draw_cell(sheet, pen, (_GAP + column * (_CELL_WIDTH + _GAP), top), height, cell)
            top += height + _GAP
    return sheet


def _rows(count: int) -> int:
    return -(-count // _COLUMNS)


def _draw_cell(
    sheet: PIL.Image.Image, pen: PIL.ImageDraw.ImageDraw, corner: tuple[int, int], height: int, cell: SheetCell
) -> None:
    left, top = corner
    pen.rounded_rectangle((left, top, left + _CELL_WIDTH, top + height), radius=8, fill=_CELL_COLOUR)
    inner = _CELL_WIDTH - 2 * _PADDING
    if cell.image is not None:
        image = cell.image.copy()
        image.thumbnail((inner, _IMAGE_HEIGHT - _PADDING), PIL.Image.Resampling.LANCZOS)
        across = left + (_CELL_WIDTH - image.width) // 2
        sheet.paste(image, (across, top + _PADDING + (_IMAGE_HEIGHT - _PADDING - image.height) // 2))
    else:
        _line(pen, (left + _PADDING, top + _IMAGE_HEIGHT // 2), "no image", inner, _SOFT_INK)
    down = top + _IMAGE_HEIGHT + _PADDING
    _line(pen, (left + _PADDING, down), cell.head, inner, _SOFT_INK if cell.text else _INK, font_size=_FONT_SIZE - 1)
    for line in _wrapped(cell.text, inner):
        down += _LINE_HEIGHT
        _line(pen, (left + _PADDING, down), line, inner, _INK)
    if cell.foot:
        foot = top + height - _LINE_HEIGHT - _PADDING
        _line(pen, (left + _PADDING, foot), cell.foot, inner, _ACCENT, bold=True)


def _line(
    pen: PIL.ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    colour: str,
    *,
    bold: bool = False,
    font_size: int = _FONT_SIZE,
) -> None:
    """Write one line, cut to the width."""
    font = _font(font_size, bold)
    # One line has no more characters than pixels; measuring megabytes would take minutes.
    text = " ".join(text[:width].split())
    if font.getlength(text) > width:
        text = text[: _fitting(text, width - font.getlength("…"), font)] + "…"
    pen.text(corner, text, fill=colour, font=font)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels, words where possible; the last one may be too long."""
    font = _font(_FONT_SIZE, False)
    lines: list[str] = []
    line = ""
    # The same bound for the whole text.
    for word in text[: width * _TEXT_LINES].split():
        if line and font.getlength(f"{line} {word}") > width:
            if len(lines) == _TEXT_LINES - 1:
                # `_line` cuts it, which shows that there is more.
                return [*lines, f"{line} {word}"]
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while font.getlength(line) > width and len(lines) < _TEXT_LINES - 1:
            end = max(_fitting(line, width, font), 1)
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line] if line else lines


def _fitting(text: str, width: float, font: PIL.ImageFont.FreeTypeFont) -> int:
    """Count the characters of `text`, from the first, that `width` pixels hold."""
    return bisect.bisect_right(range(1, len(text) + 1), width, key=lambda end: font.getlength(text[:end]))


@lru_cache
def _font(size: int, bold: bool) -> PIL.ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans along, which has the signs of mathematics; Pillow's own font is Latin only.
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return PIL.ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size)
