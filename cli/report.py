"""`r1sharevl report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl report runs/3b

r1sharevl report runs/3b --out 3b.html --open
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("report", epilog=EXAMPLES)(report)


def report(
    run: Annotated[Path, typer.Argument(help="Run folder: the output_dir of a training run.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page.", show_default="RUN/report.html")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Make one HTML page about a training run: numbers, curves, sample responses with images, settings.

    The run may be going, killed or finished. The page is one file that needs no network.
    """
    from r1_sharevl.reporting import write_report

    page = write_report(run, out)
    Console().print(f"Page: {page}", soft_wrap=True, highlight=False)
    if open_page:
        typer.launch(page.resolve().as_uri())
