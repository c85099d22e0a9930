"""`r1sharevl eval`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from r1_sharevl import UserError

from .model_options import Device, DType, MaxPixels, MinPixels, TrustRemoteCode

if TYPE_CHECKING:
    from r1_sharevl.evaluation import Comparison, EvalResult, Scores

_EPILOG = """
[bold]Examples[/bold]

r1sharevl eval runs/my-run --data data

r1sharevl eval runs/my-run/checkpoint-500 --data data/geometry --temperature 0 --max-new-tokens 1024

r1sharevl eval Qwen/Qwen2.5-VL-3B-Instruct runs/my-run --data data/geometry --out runs/before-after --run runs/my-run
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("eval", epilog=_EPILOG, no_args_is_help=True)(evaluate)


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [MODEL_B]",
            help="Folder of a model or of a LoRA adapter, or a Hub id. Two are evaluated and compared.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder of a prepared set (r1sharevl prep).", show_default=False)],
    split: Annotated[str, typer.Option(help="Which split of it.")] = "validation",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Eval folder; an evaluation there that was stopped is continued.",
            show_default="runs/eval/MODEL/DATA-SPLIT",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Responses per question: the k of avg@k, pass@k, majority@k.")] = 8,
    limit: Annotated[int | None, typer.Option(help="Only the first N questions.", show_default="all")] = None,
    batch_size: Annotated[int, typer.Option(help="Responses generated at once.")] = 32,
    max_new_tokens: Annotated[int, typer.Option(help="Token limit of a response.")] = 2048,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy, one response each.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Probability mass of the tokens that may be drawn.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    instruction_file: Annotated[
        Path | None,
        typer.Option(help="Text file with the instruction put after each question.", show_default="as in training"),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Column with sub-scores; may be repeated.", show_default="text columns with few values"),
    ] = None,
    device: Device = "auto",
    dtype: DType = "auto",
    min_pixels: MinPixels = None,
    max_pixels: MaxPixels = None,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away what the eval folder holds.")] = False,
    run: Annotated[
        Path | None,
        typer.Option(help="Training run whose curves go on the page of a comparison.", show_default=False),
    ] = None,
) -> None:
    """Measure a model on a prepared set, or compare two.

    Several responses are sampled for every question; the scores come with 95 % intervals, a page for reading
    (report.md) and files for programs (scores.json, predictions.jsonl).
    """
    if len(models) > 2:
        raise UserError(f"eval takes one model, or two to compare, got {len(models)}")
    if run is not None and len(models) == 1:
        raise UserError("--run: its curves go on the page of a comparison: give two models")
    options: dict[str, Any] = {
        "split": split,
        "samples": samples,
        "limit": limit,
        "batch_size": batch_size,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "group_by": group_by or None,
        "device": device,
        "dtype": dtype,
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "trust_remote_code": trust_remote_code,
        "overwrite": overwrite,
    }
    if instruction_file is not None:
        options["instruction"] = _read_instruction(instruction_file)

    from transformers.utils import logging as transformers_logging

    from r1_sharevl import evaluation

    transformers_logging.disable_progress_bar()
    folder = out or evaluation.default_out(models, str(data), split)
    console = Console()
    if len(models) == 1:
        result = _with_progress(models[0], models[0], data, folder, options)
        console.print(_scores_table(result, Path(models[0]).name))
        console.print(f"Report: {result.report}", highlight=False, soft_wrap=True)
        return
    names = evaluation.distinct_names(models)
    for model, name in zip(models, names, strict=True):
        _with_progress(model, name, data, folder / name, options)
    comparison = evaluation.compare(folder / names[0], folder / names[1], folder, names=(names[0], names[1]), run=run)
    console.print(_comparison_table(comparison))
    console.print(
        f"{comparison.names[1]} gained {len(comparison.gained)} questions and lost {len(comparison.lost)} "
        f"(exact McNemar test: p = {comparison.p_value:.2g})",
        highlight=False,
    )
    console.print(f"Report: {comparison.report}", highlight=False, soft_wrap=True)


def _with_progress(model: str, name: str, data: Path, out: Path, options: dict[str, Any]) -> "EvalResult":
    from r1_sharevl import evaluation

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("responses"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task: TaskID | None = None
    with ExitStack() as shown:
        loading = shown.enter_context(console.status(f"{escape(name)}: loading"))

        def update(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                loading.stop()
                shown.enter_context(progress)
                # Responses kept from an earlier start say nothing about the speed of this one.
                task = progress.add_task(name, total=total, completed=done)
            progress.update(task, completed=done)

        return evaluation.evaluate(model, data, out=out, on_progress=update, **options)


def _scores_table(result: "EvalResult", name: str) -> Table:
    from r1_sharevl.evaluation import group_rows, score_rows

    scores = result.scores
    table = Table(
        "score",
        Column(escape(name), justify="right"),
        title=_questions_and_samples(scores),
        box=SIMPLE,
        pad_edge=False,
        show_edge=False,
    )
    for row in score_rows(scores):
        table.add_row(*row)
    for column in scores.groups:
        table.add_section()
        for value, count, share in group_rows(scores, column):
            table.add_row(escape(f"{column} {value} ({count})"), share)
    return table


def _comparison_table(comparison: "Comparison") -> Table:
    from r1_sharevl.evaluation import comparison_rows

    heads = [*map(escape, comparison.names), "difference"]
    columns = [Column(head, justify="right") for head in heads]
    table = Table(
        "score",
        *columns,
        title=_questions_and_samples(comparison.scores[0]),
        box=SIMPLE,
        pad_edge=False,
        show_edge=False,
    )
    for row in comparison_rows(comparison):
        table.add_row(*row)
    return table


def _questions_and_samples(scores: "Scores") -> str:
    each = "1 response" if scores.samples == 1 else f"{scores.samples} responses"
    return f"{scores.questions:,} questions, {each} each, 95 % intervals"


def _read_instruction(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the instruction file cannot be read ({error})") from error
