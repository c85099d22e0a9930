"""`r1sharevl prep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from r1_sharevl.prep.pipeline import PreparedSummary

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl prep synthetic --out data

r1sharevl prep questions.jsonl --out data --validation-share 0.1

r1sharevl prep geometry/train.parquet charts/ --out data --seed 7 --overwrite
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prep", epilog=EXAMPLES)(prep)


def prep(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="[bold]synthetic[/bold] (the built-in figure questions), a .jsonl, .json or .parquet file, or a "
            "folder with data/*.parquet; one or several.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.", show_default=False)],
    train_rows: Annotated[int | None, typer.Option(help="Train rows of the built-in set.", show_default="4000")] = None,
    validation_rows: Annotated[
        int | None, typer.Option(help="Validation rows of the built-in set.", show_default="240")
    ] = None,
    validation_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the questions set aside for validation, for inputs without a validation part.",
            show_default="0.05",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the built-in set and which questions are set aside.")] = 0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the prepared set at --out; it stays until the new one is whole."),
    ] = False,
) -> None:
    """Turn questions, images and answers into a training set.

    A row needs the fields [bold]problem[/bold] and [bold]answer[/bold]. It may have [bold]images[/bold]
    (paths inside the file's folder, or embedded bytes), [bold]variants[/bold] (other
    wordings), [bold]id[/bold], [bold]source[/bold] and any others. <image> in a text marks where an image
    goes.

    Every row is checked, also that the accuracy reward accepts its gold answer.
    Rows that fail are listed in rejected.jsonl with the reason; the rest goes on.
    """
    from r1_sharevl.prep.pipeline import prepare

    columns = (
        TextColumn("Preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None)
        summary = prepare(
            inputs,
            out,
            train_rows=train_rows,
            validation_rows=validation_rows,
            validation_share=validation_share,
            seed=seed,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_summary(summary, inputs)


def _print_summary(summary: "PreparedSummary", inputs: list[str]) -> None:
    table = Table(title="Prepared set", title_justify="left")
    table.add_column("what")
    table.add_column("rows", justify="right")
    for split, count in summary.kept.items():
        table.add_row(f"kept: {split}", f"{count:,}")
    for reason, count in summary.rejected.items():
        table.add_row(f"rejected: {reason}", f"{count:,}")
    table.add_section()
    for name, count in summary.question_types.items():
        table.add_row(f"question type: {name}", f"{count:,}")
    table.add_section()
    for wordings, count in summary.wordings.items():
        table.add_row(f"{wordings} wording{'s' * (wordings > 1)}", f"{count:,}")
    if summary.text_only:
        table.add_row("without an image", f"{summary.text_only:,}")
    console = Console()
    console.print(table)
    console.print(f"Set:      {summary.out}", soft_wrap=True, highlight=False, markup=False)
    if summary.rejected:
        console.print(f"Rejected: {summary.out / 'rejected.jsonl'}", soft_wrap=True, highlight=False, markup=False)
    built_in = "--config configs/quickstart.yaml"
    own = "--model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --use_peft --output_dir runs/first"
    console.print(
        f"Next:     r1sharevl train --dataset {summary.out} {built_in if inputs == ['synthetic'] else own}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
