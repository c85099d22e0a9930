"""Experiment trackers: what must hold before transformers starts them, so that no run stops or asks for an account."""

import importlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""Trackers we know, and what pip calls them; transformers has more."""


def prepare_trackers(
    report_to: Sequence[str], output_dir: str | os.PathLike[str], *, main_process: bool = True
) -> None:
    """Check that the trackers are installed, and let Weights & Biases run offline where nobody is logged in.

    Args:
        report_to: Names, as in `TrainingArguments.report_to`.
        output_dir: The run folder, in which Weights & Biases keeps its files unless `WANDB_DIR` says otherwise.
        main_process: Whether this process is the one that reports.

    Raises:
        UserError: A tracker is unknown or its package is not installed.
    """
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join([*_PACKAGES, "none"])
            raise UserError(f"report_to has no {name!r}: choose from {known}, or another tracker of transformers")
        if name in _PACKAGES and importlib.util.find_spec(name) is None:
            raise UserError(
                f"report_to names {name}, which is not installed: pip install {_PACKAGES[name]}, or leave it out "
                "(TensorBoard is the default)"
            )
    if "wandb" in report_to and main_process:
        _allow_offline_wandb(Path(output_dir))


def _allow_offline_wandb(output_dir: Path) -> None:
    os.environ.setdefault("WANDB_DIR", str(output_dir))
    if "WANDB_MODE" in os.environ:
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    wandb = importlib.import_module("wandb")

    if not wandb.login(prompt=False, verify=False):
        wandb.setup(settings=wandb.Settings(mode="offline"))
        logging.getLogger(__name__).info(
            f"wandb: nobody is logged in, so this run is kept on this machine. After `wandb login`, send it by: "
            f"wandb sync {os.environ['WANDB_DIR']}/wandb/offline-run-*"
        )
