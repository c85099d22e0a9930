"""From what a user gives to a plan."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from ..arguments import parse_run, settings_of
from ..recipes import cards_of
from .advice import Advice, advise, faster
from .plan import Plan, Planner
from .settings import planned_config
from .sharding import Sharding, sharding_from_file


def plan_command(
    flags: Sequence[str],
    *,
    config: Path | None = None,
    accelerate: Path | None = None,
    gpus: int | None = None,
    card_bytes: int | None = None,
    data: Path | None = None,
) -> tuple[Plan, list[Advice], Advice | None]:
    """Plan the run that `r1sharevl train` would start with the same words.

    Args:
        flags: Command-line words of the run's settings.
        config: YAML file of settings.
        accelerate: accelerate's config file.
        gpus: Processes; None takes the file's number, or 1.
        card_bytes: Memory of a GPU; None takes that of the GPU here, if there is one.
        data: Prepared set to measure prompts in; None takes the run's, if it exists.

    Returns:
        The plan; where it does not fit the card, the changes to make, best first; and where it does, the micro-batch
        that would be faster, if any.

    Raises:
        UserError: A setting, a file or the model is not usable.
    """
    if accelerate is not None:
        sharding = sharding_from_file(accelerate, gpus)
    else:
        sharding = Sharding("ddp", gpus) if gpus is not None and gpus > 1 else Sharding()
    run, args, model_args = parse_run(flags, config, planned_config(sharding.gpus))
    if data is None and Path(run.dataset, "data").is_dir():
        data = Path(run.dataset)
    planner = Planner(run, args, model_args, data=data, card_bytes=card_here() if card_bytes is None else card_bytes)
    plan = planner.plan(run, args, model_args, sharding)
    cards = None if config is None else cards_of(config.stem)
    if cards is not None and cards.count > sharding.gpus:
        written_for = (
            f"the recipe is written for {cards.count} GPUs, and this is the plan for {sharding.gpus}: add the launch "
            f"words of its header, such as --accelerate fsdp2 --num-processes {cards.count}"
        )
        memory = dataclasses.replace(plan.memory, notes=(*plan.memory.notes, written_for))
        plan = dataclasses.replace(plan, memory=memory)
    settings = settings_of(run, args, model_args)
    if plan.fits is False:
        return plan, advise(planner, settings, plan), None
    return plan, [], faster(planner, settings, plan)


def card_here() -> int | None:
    """Return the memory of this process's GPU in bytes, or None without one."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
