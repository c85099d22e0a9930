"""`r1sharevl prep inspect`."""

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from r1_sharevl import UserError

if TYPE_CHECKING:
    from r1_sharevl.prep.inspection import Histogram, Inspection
    from r1_sharevl.prep.prepared_files import PreparedRow

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl prep inspect data

r1sharevl prep inspect data --split validation --rows 10 --seed 7

r1sharevl prep inspect data --id geometry-1234
"""

_BAR_CELLS = 32
# A set may hold a source per row.
_MOST_LINES = 20


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a prepared set.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Only this split.", show_default="all")] = None,
    rows: Annotated[int, typer.Option(help="Rows to show, taken from every source.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides which rows are shown.")] = 0,
    row_id: Annotated[str | None, typer.Option("--id", help="Show only the row with this id.", show_default=False)] = (
        None
    ),
) -> None:
    """Show what is in a prepared set: counts, lengths, image sizes, types of answers, and some rows."""
    if rows < 0:
        raise UserError(f"--rows: found {rows}, expected 0 or more")

    from r1_sharevl.prep.inspection import inspect_set
    from r1_sharevl.prep.prepared_files import PreparedFiles

    files = PreparedFiles(folder)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Data has characters that a terminal or file of another encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console(highlight=False)
    if row_id is not None:
        _print_row(console, files.find(row_id, split))
        return
    columns = (TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("rows", total=None)
        found = inspect_set(files, split, lambda done, total: bar.update(task, completed=done, total=total))
    _print_counts(console, found)
    for row in files.sample(rows, seed, split):
        _print_row(console, row)


def _print_counts(console: Console, found: "Inspection") -> None:
    by_source = [
        (f"{split} · {source}" if source else split, count)
        for split, sources in found.rows.items()
        for source, count in sources.most_common()
    ]
    total = sum(count for _, count in by_source)
    splits = ", ".join(f"{split} {sources.total():,}" for split, sources in found.rows.items())
    console.print(_text(f"{found.folder}: {total:,} rows ({splits})", "bold"), soft_wrap=True)
    _print_bars(console, "rows by split and source", by_source)
    _print_bars(
        console,
        "images per row",
        [(str(number), found.images_per_row[number]) for number in sorted(found.images_per_row)],
    )
    _print_bars(
        console,
        "wordings per row, the problem included",
        [(str(number), found.wordings_per_row[number]) for number in sorted(found.wordings_per_row)],
    )
    _print_bars(console, "types of answers", found.answer_types.items())
    _print_histogram(console, "words of a problem", found.problem_words)
    _print_histogram(console, "characters of a problem", found.problem_characters)
    _print_histogram(console, "characters of an answer", found.answer_characters)
    _print_histogram(console, "pixels of an image", found.image_pixels)
    if found.unreadable_images:
        console.print(_text(f"{found.unreadable_images:,} images cannot be read\n", "bold"))
    _print_bars(console, "rejected rows by reason", found.rejected.items())
    _print_bars(console, "dropped wordings by reason", found.dropped_wordings.items())


def _print_histogram(console: Console, title: str, histogram: "Histogram") -> None:
    span = f"{histogram.smallest:,} to {histogram.largest:,}, mean {histogram.mean:,.1f}"
    _print_bars(console, f"{title}: {span}", histogram.bars())


def _print_bars(console: Console, title: str, bars: Iterable[tuple[str, int]]) -> None:
    lines = list(bars)
    if not lines:
        return
    more = lines[_MOST_LINES:]
    if more:
        lines = [*lines[:_MOST_LINES], (f"{len(more):,} others", sum(count for _, count in more))]
    total = sum(count for _, count in lines)
    most = max(count for _, count in lines)
    # A terminal that is not UTF-8 has no block characters.
    block = "█" if console.encoding.lower().startswith("utf") else "#"
    # The counts are what is asked for: labels and bars make room for them.
    widest = min(max(len(name) for name, _ in lines), 60, console.width // 2)
    bar_cells = max(4, min(_BAR_CELLS, console.width - widest - len(f"{most:,}") - len("100.0%") - 7))
    table = Table(
        Column(max_width=widest, overflow="ellipsis", no_wrap=True),
        Column(justify="right", no_wrap=True),
        Column(justify="right", style="dim", no_wrap=True),
        Column(style="cyan", no_wrap=True),
        show_header=False,
        show_edge=False,
        pad_edge=False,
        box=None,
    )
    for name, count in lines:
        # Every count that is not zero has a bar to be seen by.
        cells = max(round(bar_cells * count / most), 1) if count else 0
        table.add_row(_text(name), f"{count:,}", f"{count / total:.1%}" if total else "", block * cells)
    # A table's own title is wrapped to the width of the table.
    console.print(_text(title, "bold"))
    console.print(table)
    console.print()


def _print_row(console: Console, row: "PreparedRow") -> None:
    from r1_sharevl.prep.answer_types import answer_type
    from r1_sharevl.prep.inspection import image_sizes

    sizes = [f"{size[0]}×{size[1]}" if size else "cannot be read" for size in image_sizes(row)]
    fields: Mapping[str, str] = {
        "split": row.split,
        "source": row.source,
        "images": ", ".join(sizes) or "none",
        "problem": row.problem,
        **{f"wording {number}": text for number, text in enumerate(row.variants, start=2)},
        "answer": f"{row.answer}  ({answer_type(row.answer, row.problem)})",
        **{f"meta {name}": str(value) for name, value in row.meta.items()},
    }
    table = Table(
        Column(style="dim", no_wrap=True, max_width=30, overflow="ellipsis"),
        Column(overflow="fold"),
        show_header=False,
        show_edge=False,
        pad_edge=False,
        box=None,
    )
    for name, value in fields.items():
        table.add_row(_text(name), _text(value))
    console.print(_text(f"row {row.id}", "bold"))
    console.print(table)
    console.print()


def _text(text: str, style: str = "") -> Text:
    """Text from data: never markup, and nothing in it that a terminal obeys."""
    from r1_sharevl.prep.inspection import visible

    return Text(visible(text), style)
