"""`r1sharevl warmup`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

EXAMPLES = """
[bold]Example[/bold]

r1sharevl prep synthetic --out data && r1sharevl warmup --data data --out runs/warmup
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("warmup", epilog=EXAMPLES)(warmup)


def warmup(
    data: Annotated[Path, typer.Option(help="Folder of the prepared built-in set.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.", show_default=False)],
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.", min=1, show_default="the recipe's")] = None,
    seed: Annotated[int, typer.Option(help="Decides the weights and the order of the questions.")] = 0,
) -> None:
    """Teach the tiny built-in model to see and to box its answers, so that Share-GRPO has something to start from.

    For the built-in set only (`r1sharevl prep synthetic`). The result is kept in a cache (R1_SHAREVL_CACHE, by default
    ~/.cache/r1_sharevl), so that the same warm-up is not done twice.
    """
    from r1_sharevl.data.schema import load_prepared
    from r1_sharevl.models.warmup import WarmUp, warm_up

    settings = WarmUp(seed=seed) if steps is None else WarmUp(seed=seed, steps=steps)
    folder = warm_up(load_prepared(data), out, settings)
    console = Console()
    console.print(f"Model: {folder}", soft_wrap=True, highlight=False)
    console.print(
        f"Next:  r1sharevl train --config quickstart --model_name_or_path {folder} --dataset {data}",
        soft_wrap=True,
        highlight=False,
    )
