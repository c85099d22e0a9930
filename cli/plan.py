"""`r1sharevl plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from r1_sharevl.planning.advice import Advice
    from r1_sharevl.planning.plan import Plan

EXAMPLES = """
[bold]Examples[/bold]

r1sharevl plan --config qwen2_5_vl_3b_qlora_12gb --gpu-memory 12

r1sharevl plan --config qwen2_5_vl_7b_full_8x80gb --accelerate fsdp2 --num-processes 8 --gpu-memory 80

r1sharevl plan --config my.yaml --data data/train --max_completion_length 1024 --json
"""

_GIB = 2**30


def _launch_word(name: str) -> Any:
    return typer.Option(f"--{name}", f"--{name.replace('-', '_')}", help="As for train.", hidden=True)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(
        "plan",
        epilog=EXAMPLES,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(plan)


def plan(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(help="YAML file of settings, or the name of a packaged recipe.", show_default=False),
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory", min=0.1, help="GiB of one GPU. Default: that of the GPU here, if any.", show_default=False
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus",
            "--num-processes",
            "--num_processes",
            min=1,
            help="GPUs over all machines, one process each. Default: 1.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    accelerate: Annotated[
        str | None,
        typer.Option(
            help="accelerate's config file, or the name of a packaged one: how the model is spread over the GPUs.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    num_machines: Annotated[int | None, _launch_word("num-machines")] = None,
    machine_rank: Annotated[int | None, _launch_word("machine-rank")] = None,
    main_process_ip: Annotated[str | None, _launch_word("main-process-ip")] = None,
    main_process_port: Annotated[int | None, _launch_word("main-process-port")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Prepared set, for the real prompt lengths. Default: --dataset if it exists."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, sizes in bytes.")] = False,
) -> None:
    """Say what a run will be, before it is started: its batches and its memory per GPU.

    Takes every word that [bold]r1sharevl train[/bold] takes. No weights are loaded and no GPU is needed.
    Memory is an estimate, in two phases that peak apart: generating the responses, and the update.
    Where it exceeds the GPU, the settings to change are listed, each with the estimate after the change.
    """
    # Where the processes run changes no number, but with any such word `train` takes the file `ddp`.
    machines = (num_machines, machine_rank, main_process_ip, main_process_port)
    if accelerate is None and any(word is not None for word in machines):
        accelerate = "ddp"

    from r1_sharevl.planning.command import plan_command
    from r1_sharevl.recipes import find_launch_recipe, find_recipe

    made, advices, faster = plan_command(
        context.args,
        config=None if config is None else find_recipe(config),
        accelerate=None if accelerate is None else find_launch_recipe(accelerate),
        gpus=gpus,
        card_bytes=None if gpu_memory is None else int(gpu_memory * _GIB),
        data=data,
    )
    console = Console()
    if as_json:
        import dataclasses
        import json

        # Not through rich, which would wrap and colour it.
        found = {
            "advice": [dataclasses.asdict(one) for one in advices],
            "faster": None if faster is None else dataclasses.asdict(faster),
        }
        typer.echo(json.dumps({**made.to_dict(), **found}, indent=2))
        return
    _print_batch(console, made)
    _print_memory(console, made)
    _print_verdict(console, made, advices)
    if faster is not None:
        words = f"{faster.flags} ({faster.effect}; about {faster.peak / _GIB:.1f} GiB)"
        console.print(f"Faster: {escape(words)}", soft_wrap=True, highlight=False)


def _print_batch(console: Console, made: "Plan") -> None:
    batch, prompt = made.batch, made.prompt
    per_question = batch.prompts // batch.questions
    table = Table(title="One generation batch", title_justify="left", show_header=False)
    rows = [
        ("questions", f"{batch.questions:,}"),
        ("prompts", f"{batch.prompts:,} ({per_question} per question)"),
        ("responses generated", f"{batch.responses:,} ({batch.responses_per_process:,} per process, at once)"),
        ("(prompt, response) pairs trained", f"{batch.pairs:,} ({batch.pairs_per_process:,} per process)"),
        ("micro-batches per process", f"{batch.micro_batches:,} of {batch.micro_batch} pairs"),
        ("tokens of a micro-batch, at most", _tokens_of(made)),
        ("optimizer steps per generation", f"{batch.optimizer_steps:g}"),
        ("questions per optimizer step", f"{batch.questions_per_step:g}"),
        ("optimizer steps per epoch", "unknown" if batch.steps_per_epoch is None else f"{batch.steps_per_epoch:,}"),
        ("prompt tokens", f"{prompt.tokens:,} longest, {prompt.typical_tokens or prompt.tokens:,} typical"),
        ("response tokens, at most", f"{made.completion_tokens:,}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    console.print(f"Prompts: {escape(prompt.source)}.", soft_wrap=True, highlight=False)
    console.print()


def _tokens_of(made: "Plan") -> str:
    size = made.micro_batch
    if size.is_packed:
        return f"{size.tokens:,}: prompts once ({size.row_tokens:,} in rows by themselves)"
    reason = made.why_not_shared or "sharing prompts would save less than a tenth"
    return f"{size.tokens:,}: in rows by themselves ({reason})"


def _print_memory(console: Console, made: "Plan") -> None:
    memory, spread = made.memory, made.sharding
    where = "one GPU" if spread.gpus == 1 else f"each of {spread.gpus} GPUs ({spread.kind})"
    table = Table(title=f"Memory of {where}, GiB (estimate)", title_justify="left")
    table.add_column("part")
    table.add_column("generate", justify="right")
    table.add_column("update", justify="right")
    for part in dict.fromkeys([*memory.update, *memory.generate]):
        values = [phase.get(part) for phase in (memory.generate, memory.update)]
        table.add_row(part, *("" if value is None else f"{value / _GIB:.2f}" for value in values))
    table.add_section()
    table.add_row("allocated", *(f"{memory.allocated[phase] / _GIB:.2f}" for phase in ("generate", "update")))
    console.print(table)
    console.print(
        f"Model:  {escape(made.model)}, {made.parameters:,} parameters, {made.trainable:,} trained",
        soft_wrap=True,
        highlight=False,
    )
    if made.config_source != "checkpoint":
        console.print("        its config could not be fetched: sizes from the built-in table", highlight=False)
    for note in memory.notes:
        console.print(f"Note:   {escape(note)}", soft_wrap=True, highlight=False)


def _print_verdict(console: Console, made: "Plan", advices: "list[Advice]") -> None:
    need = f"{made.memory.peak / _GIB:.1f} GiB with allowances for CUDA and fragmentation"
    if made.card_bytes is None:
        console.print(f"Needs:  about {need} (--gpu-memory GIB says whether that fits)", highlight=False)
        return
    verdict = "fits" if made.fits else "does not fit"
    console.print(f"Needs:  about {need}: [bold]{verdict}[/bold] in {made.card_bytes / _GIB:.1f} GiB", highlight=False)
    if made.fits:
        return
    if not advices:
        console.print("No single setting lowers it: take a smaller model or more GPUs.", highlight=False)
        return
    console.print()
    table = Table(title="What to change, best first", title_justify="left")
    table.add_column("flags", overflow="fold")
    table.add_column("GiB then", justify="right")
    table.add_column("fits")
    table.add_column("what it means")
    for advice in advices:
        table.add_row(
            escape(advice.flags), f"{advice.peak / _GIB:.1f}", "yes" if advice.fits else "no", escape(advice.effect)
        )
    console.print(table)
    best = next((advice for advice in advices if advice.fits), advices[0])
    console.print(f"To copy: {escape(best.flags)}", soft_wrap=True, highlight=False)
