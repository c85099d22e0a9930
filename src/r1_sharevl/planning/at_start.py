"""The plan at the start of a run, and what it says when the GPU is full."""

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import ModelConfig

from ..arguments import RunArguments
from ..config import ShareGRPOConfig
from ..errors import UserError
from ..resuming import newest_whole_checkpoint
from .advice import advise
from .command import card_here
from .plan import Planner
from .settings import read_settings
from .sharding import sharding_of_this_run

logger = logging.getLogger(__name__)

_PHASES = {
    "_generate_single_turn": "generating responses",
    "_calculate_rewards": "scoring responses",
    "_generate_and_score_completions": "preparing the batch",
    "train": "training the model",
}
"""Functions of TRL's trainer on the way to the error, innermost first, and what they do."""


def log_plan(run: RunArguments, args: ShareGRPOConfig, model_args: ModelConfig) -> None:
    """Log a few lines of the plan of the run that this process is part of; its data set is not measured.

    A plan that cannot be made is no reason not to run. No settings are made anew for it: that would reset what
    accelerate and transformers know of the run's processes.

    Args:
        run, args, model_args: The run's settings.
    """
    try:
        planner = Planner(run, args, model_args, card_bytes=_card(args))
        plan = planner.plan(run, args, model_args, sharding_of_this_run(args))
    except Exception as error:
        logger.debug(f"No plan: {error}")
        return
    for line in plan.summary():
        logger.info(line)


def out_of_memory_message(settings: Mapping[str, Any], args: ShareGRPOConfig, error: BaseException) -> str:
    """Say in one line what to do about a full GPU: the plan's first two advices, and where the run goes on.

    Args:
        settings: The run's settings.
        args: The training settings.
        error: What was raised, to see in which phase.
    """
    try:
        sharding = sharding_of_this_run(args)
        variant = read_settings(settings, sharding.gpus)  # resets accelerate's state: the run is over
        planner = Planner(*variant, card_bytes=_card(args))
        advices = advise(planner, settings, planner.plan(*variant, sharding))
    except Exception as no_plan:  # the message that matters is the one about memory
        logger.debug(f"No advice: {no_plan}")
        advices = []
    advised = [advice.flags for advice in advices[:2]]
    what = f"try {' or '.join(advised)}" if advised else "`r1sharevl plan` says which settings need less"
    try:
        newest = newest_whole_checkpoint(Path(args.output_dir), log=False)
    except UserError:
        return f"out of GPU memory while {_phase(error)}: {what}; no checkpoint was written yet, so start again"
    return f"out of GPU memory while {_phase(error)}: {what}; {newest} is safe, go on from it with --resume"


def _card(args: ShareGRPOConfig) -> int | None:
    return card_here() if args.device.type == "cuda" else None


def _phase(error: BaseException) -> str:
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return next((what for name, what in _PHASES.items() if name in functions), "loading the model")
