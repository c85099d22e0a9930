"""`r1sharevl merge` and `r1sharevl card`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from r1_sharevl import UserError

if TYPE_CHECKING:
    from r1_sharevl.publishing.agreement import Agreement

MERGE_EXAMPLES = """
[bold]Examples[/bold]

r1sharevl merge runs/3b --out models/3b

r1sharevl merge runs/3b --checkpoint best --out models/3b --eval runs/eval/3b/geometry-validation

r1sharevl merge runs/3b --out models/3b --base /models/Qwen2.5-VL-3B-Instruct --push-to-hub me/3b-share-grpo
"""
CARD_EXAMPLES = """
[bold]Examples[/bold]

r1sharevl card runs/3b --eval runs/eval/3b/geometry-validation

r1sharevl card models/3b --push-to-hub me/3b-share-grpo --private
"""

_Evals = Annotated[
    list[Path] | None,
    typer.Option("--eval", help="Eval folder whose scores go on the model card; may be repeated.", show_default=False),
]
_PushToHub = Annotated[
    str | None, typer.Option(help="Put the model on the Hugging Face Hub as owner/name.", show_default=False)
]
_Private = Annotated[bool, typer.Option("--private", help="Make the model on the Hub private.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("merge", epilog=MERGE_EXAMPLES, no_args_is_help=True)(merge)
    app.command("card", epilog=CARD_EXAMPLES, no_args_is_help=True)(card)


def merge(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a LoRA or QLoRA run, or of an adapter.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the full checkpoint.", show_default=False)],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Merge a checkpoint of the run: a step, best or last.", show_default="the final adapter"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the base model.", show_default="what the adapter names")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of the saved weights: auto (the base's own), bfloat16, float16 or float32.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    check: Annotated[
        bool,
        typer.Option(help="Ask adapter + base and the merged model the same questions; refuse if the answers differ."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a merged model at --out.")] = False,
    evals: _Evals = None,
    push_to_hub: _PushToHub = None,
    private: _Private = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the base's own code.")] = False,
) -> None:
    """Merge the adapter of a LoRA or QLoRA run into its base model: a full checkpoint with processor and model card."""
    _check_private(private, push_to_hub)

    from transformers.utils import logging as transformers_logging

    from r1_sharevl.publishing.hub import check_can_push, push_model
    from r1_sharevl.publishing.merging import merge_adapter

    transformers_logging.disable_progress_bar()
    if push_to_hub is not None:
        check_can_push(push_to_hub, private)
    with Console(stderr=True).status("merging") as status:
        result = merge_adapter(
            run,
            out,
            checkpoint=checkpoint,
            base=base,
            dtype=dtype,
            device=device,
            check=check,
            overwrite=overwrite,
            evals=evals or (),
            trust_remote_code=trust_remote_code,
            on_stage=status.update,
        )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"Merged: {result.out} ({result.parameters:,} parameters, {result.dtype})")
    if result.untied:
        console.print("        Input and output embeddings were one matrix; the adapter made them two.")
    if result.agreement is not None:
        for line in _agreement_lines(result.agreement):
            console.print(line)
    if push_to_hub is not None:
        console.print(f"Hub:    {push_model(result.out, push_to_hub, private)}")
    console.print(f'Next:   r1sharevl chat {result.out} IMAGE "question"')


def card(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a run or of a merged model.", show_default=False)
    ],
    evals: _Evals = None,
    push_to_hub: _PushToHub = None,
    private: _Private = False,
) -> None:
    """Write the model card of a run or a merged model anew, for example after an evaluation, and push the model."""
    _check_private(private, push_to_hub)

    from r1_sharevl.publishing.hub import check_can_push, push_model
    from r1_sharevl.publishing.model_card import check_model_folder, write_model_card

    check_model_folder(folder)
    repo_id = check_can_push(push_to_hub, private) if push_to_hub is not None else None
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"Card: {write_model_card(folder, evals=evals or (), repo_id=repo_id)}")
    if push_to_hub is not None:
        console.print(f"Hub:  {push_model(folder, push_to_hub, private)}")


def _check_private(private: bool, push_to_hub: str | None) -> None:
    if private and push_to_hub is None:
        raise UserError("--private: says how to push, but --push-to-hub is not given")


def _agreement_lines(agreement: "Agreement") -> list[str]:
    lines = [
        f"Check:  {agreement.same_answers} of {agreement.answers} greedy answers are those of adapter + base; "
        f"log-probabilities differ by {agreement.gap:.2g} nats per token (the adapter moved them by "
        f"{agreement.adapter_effect:.2g}), in {agreement.dtype}"
    ]
    if agreement.lost_in_rounding:
        lines.append(
            f"        Rounding to {agreement.dtype} changed the model more than the adapter did: "
            "merge with --dtype float32 to keep what was learnt."
        )
    return lines
