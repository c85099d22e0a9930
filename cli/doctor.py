"""`r1sharevl doctor`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl doctor

r1sharevl doctor --output-dir /scratch/runs --json
"""
_MARKS = {"ok": "[green]ok[/green]", "absent": "-", "warning": "[yellow]look[/yellow]", "broken": "[red]broken[/red]"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor", epilog=EXAMPLES)(doctor)


def doctor(
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="Where runs will be written.", metavar="FOLDER")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the Hub whose the token is; without, nothing goes over the network.")
    ] = False,
) -> None:
    """Say what this machine has for training, and which recipes fit it.

    Exit code 1 if something that training needs is broken; what is optional may be missing.
    """
    from r1_sharevl.launching.diagnosis import diagnose

    findings = diagnose(output_dir, online=online)
    console = Console()
    if as_json:
        console.print_json(json.dumps([finding.to_dict() for finding in findings]), highlight=False)
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        group = ""
        for finding in findings:
            if finding.group != group:
                group = finding.group
                table.add_row(f"[bold]{group}[/bold]")
            table.add_row(_MARKS[finding.state], f"  {finding.name}", escape(finding.found))
            if finding.advice:
                table.add_row("", "", f"[dim]{escape(finding.advice)}[/dim]")
        console.print(table)
    raise typer.Exit(1 if any(finding.state == "broken" for finding in findings) else 0)
