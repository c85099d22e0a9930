"""Writes the page of a run."""

import os
from pathlib import Path

from ..errors import UserError
from .page import page_html
from .runs import read_run

REPORT_NAME = "report.html"


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one HTML page about a run: numbers, curves, sample responses, settings.

    Args:
        run: The run folder, or a checkpoint.
        out: The file to write; `report.html` in the run folder by default. Its folder is made if missing.

    Returns:
        The page. It needs no other file and no network, and a run may go on while it is made.

    Raises:
        UserError: There is no run, or the page cannot be written.
    """
    found = read_run(run)
    page = Path(out) if out is not None else found.folder / REPORT_NAME
    if page.is_dir():
        page = page / REPORT_NAME
    content = page_html(found)
    unfinished = page.with_name(f".{page.name}.tmp")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(content, encoding="utf-8")
        os.replace(unfinished, page)
    except OSError as error:
        raise UserError(f"{page}: the page cannot be written: {error.strerror or error}; give another --out") from error
    return page
