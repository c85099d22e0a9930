"""Small pieces of Markdown pages: text from outside never becomes markup."""

import html
import re
from collections.abc import Iterable, Sequence

PLOT_WIDTH = 640
_MAX_TEXT = 1_500


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table, the first column to the left, the others to the right where they hold numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + ("---:|" if numbers else "---|") * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str, limit: int = 120) -> str:
    """Text from outside, made safe for one cell of a table: one line, no markup, at most `limit` characters."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
    return re.sub(r"([\\`*_\[\]|$~#])", r"\\\1", html.escape(line, quote=False))


def code(text: str, limit: int = 60) -> str:
    """Text from outside as one line of code."""
    line = " ".join(text.split()).replace("`", "'")
    return f"`{line if len(line) <= limit else line[: limit - 1] + '…'}`"


def block(text: str, limit: int = _MAX_TEXT, language: str = "text") -> str:
    """Text from outside in a fenced block that nothing in it can end; the middle of a long one is left out."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def picture(path: str, description: str, width: int = PLOT_WIDTH) -> str:
    """A picture, shown `width` pixels wide."""
    return f'<img src="{html.escape(path)}" alt="{html.escape(description)}" width="{width}">'
