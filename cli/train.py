"""`r1sharevl train`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl train --config configs/quickstart.yaml

r1sharevl train --dataset data --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --use_peft --output_dir runs/3b

r1sharevl train --config my.yaml --num_variants 4 --learning_rate 2e-6

accelerate launch --num_processes 8 -m r1_sharevl.cli train --config my.yaml
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(
        "train",
        epilog=EXAMPLES,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(train)


def train(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; flags win over it.", show_default=False)
    ] = None,
    list_options: Annotated[
        bool, typer.Option("--list-options", help="Print every setting with its default and exit.")
    ] = False,
) -> None:
    """Train a vision-language model with Share-GRPO.

    You need [bold]--dataset[/bold], [bold]--model_name_or_path[/bold] and [bold]--output_dir[/bold],
    as flags or as keys of the YAML file. So are all other settings: of the run,
    of ShareGRPOConfig (TRL's GRPOConfig and Share-GRPO's own) and of TRL's
    ModelConfig. [bold]--list-options[/bold] shows them.

    A run that was stopped goes on with [bold]--resume[/bold].
    """
    from r1_sharevl.arguments import describe_settings, parse_run

    if list_options:
        _print_settings(describe_settings())
        return
    run, training, model = parse_run(context.args, config)

    from r1_sharevl.training import SUMMARY_KEYS, run_training

    result = run_training(run, training, model)
    if training.process_index != 0:
        return
    console = Console()
    table = Table(title=f"Trained {result.steps} steps in {result.seconds / 60:.1f} minutes", title_justify="left")
    table.add_column("mean per response")
    table.add_column("first tenth", justify="right")
    table.add_column("last tenth", justify="right")
    for key, (first, last) in result.metrics.items():
        table.add_row(SUMMARY_KEYS[key], f"{first:.3f}", f"{last:.3f}")
    console.print(table)
    console.print(f"Model:  {result.output_dir}", soft_wrap=True, highlight=False)
    if result.plots:
        console.print(f"Curves: {result.plots[0].parent}", soft_wrap=True, highlight=False)
    console.print(f"Next:   r1sharevl eval {result.output_dir} --data {run.dataset}", soft_wrap=True, highlight=False)


def _print_settings(groups: dict[str, list[tuple[str, Any, str]]]) -> None:
    console = Console()
    for title, settings in groups.items():
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("setting", no_wrap=True)
        table.add_column("default", max_width=24)
        table.add_column("what it does")
        for name, default, text in settings:
            table.add_row(f"--{name}", escape(str(default)), escape(text))
        console.print(table)
        console.print()
