"""`r1sharevl train`."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl train --config quickstart

r1sharevl train --dataset data --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct --use_peft --output_dir runs/3b

r1sharevl train --config qwen2_5_vl_3b_lora_24gb --dataset data --num_variants 4 --learning_rate 2e-6

r1sharevl train --config my.yaml --num-processes 2

r1sharevl train --config my.yaml --accelerate fsdp2 --num-processes 8
"""

_LAUNCH = "Launch of several processes (accelerate's options)"


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
        str | None,
        typer.Option(
            help="YAML file of settings, or the name of a packaged recipe; flags win over it.", show_default=False
        ),
    ] = None,
    list_options: Annotated[
        bool, typer.Option("--list-options", help="Print every setting with its default and exit.")
    ] = False,
    accelerate: Annotated[
        str | None,
        typer.Option(
            help="accelerate's config file, or single_gpu, ddp (the default), fsdp2, zero2, zero3, multi_node.",
            metavar="FILE",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
    num_processes: Annotated[
        int | None,
        typer.Option(
            "--num-processes",
            "--num_processes",
            min=1,
            help="Processes over all machines, one per GPU.",
            metavar="N",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
    num_machines: Annotated[
        int | None,
        typer.Option(
            "--num-machines",
            "--num_machines",
            min=1,
            help="Machines; start the command on each.",
            metavar="N",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
    machine_rank: Annotated[
        int | None,
        typer.Option(
            "--machine-rank",
            "--machine_rank",
            min=0,
            help="Number of this machine, from 0.",
            metavar="N",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
    main_process_ip: Annotated[
        str | None,
        typer.Option(
            "--main-process-ip",
            "--main_process_ip",
            help="Address of machine 0.",
            metavar="IP",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
    main_process_port: Annotated[
        int | None,
        typer.Option(
            "--main-process-port",
            "--main_process_port",
            min=0,
            max=65535,
            help="Port of machine 0; by default a free one, on several machines 29500.",
            metavar="N",
            rich_help_panel=_LAUNCH,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a vision-language model with Share-GRPO.

    You need [bold]--dataset[/bold], [bold]--model_name_or_path[/bold] and [bold]--output_dir[/bold],
    as flags or as keys of the YAML file. So are all other settings: of the run,
    of ShareGRPOConfig (TRL's GRPOConfig and Share-GRPO's own) and of TRL's
    ModelConfig. [bold]--list-options[/bold] shows them.

    One process by default. With any option of the launch, accelerate starts the
    processes, as [bold]accelerate launch -m r1_sharevl.cli train[/bold] would.

    A run that was stopped goes on with [bold]--resume[/bold].
    """
    if list_options:
        from r1_sharevl.arguments import describe_settings

        _print_settings(describe_settings())
        return
    from r1_sharevl.recipes import find_recipe

    path = find_recipe(config) if config is not None else None
    launch_options = (accelerate, num_processes, num_machines, machine_rank, main_process_ip, main_process_port)
    if any(option is not None for option in launch_options):
        from r1_sharevl.launching.accelerate_launcher import Launch, launch

        words = ["train", *(["--config", str(path)] if path is not None else []), *context.args]
        raise typer.Exit(launch(words, Launch(*launch_options)))

    from r1_sharevl.arguments import parse_run
    from r1_sharevl.launching.agreement import check_agreement

    run, training, model = parse_run(context.args, path)
    check_agreement(model)

    from r1_sharevl.callbacks import SUMMARY_KEYS
    from r1_sharevl.training import run_training

    result = run_training(run, training, model)
    if training.process_index != 0:
        return
    console = Console()
    minutes = f"{result.seconds / 60:.1f} minutes" if result.seconds >= 60 else f"{result.seconds:.0f} seconds"
    table = Table(title=f"Trained {result.steps} steps in {minutes}", title_justify="left")
    table.add_column("mean per response")
    table.add_column("first tenth", justify="right")
    table.add_column("last tenth", justify="right")
    for key, (first, last) in result.metrics.items():
        table.add_row(SUMMARY_KEYS[key], f"{first:.3f}", f"{last:.3f}")
    console.print(table)
    console.print(f"Model:  {result.output_dir}", soft_wrap=True, highlight=False)
    if result.plots:
        console.print(f"Curves: {result.plots[0].parent}", soft_wrap=True, highlight=False)
    if result.hub is not None:
        console.print(f"Hub:    {result.hub}", soft_wrap=True, highlight=False)
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
