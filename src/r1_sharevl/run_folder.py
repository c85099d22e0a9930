"""What lies in the folder of a training run, and how it is found again."""

import json
from pathlib import Path
from typing import Any

import yaml

from .checkpoint_seal import SEAL_NAME, STATE_FILE, checkpoints_of, named_step
from .errors import UserError

CONFIG_FILE = "config.yaml"
"""The settings of the run; given as `--config` they describe it again."""
LAST, BEST = "last", "best"


def run_of(folder: Path) -> Path:
    """The run folder of a model's folder: its parent for a checkpoint, else itself."""
    return folder.parent if named_step(folder) is not None and not (folder / CONFIG_FILE).exists() else folder


def read_settings(run: Path) -> dict[str, Any]:
    """Read the settings of a run; empty where there are none, as in a folder that `r1sharevl train` did not make.

    Raises:
        UserError: The file is damaged.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error
    return settings if isinstance(settings, dict) else {}


def training_instruction(model: str | Path) -> str | None:
    """The instruction that a model was trained with; None if its folder does not say.

    Args:
        model: Folder of a run, a checkpoint or a merged model, or a Hub id.
    """
    folder = Path(model)
    instruction = read_settings(run_of(folder.resolve())).get("instruction") if folder.is_dir() else None
    return instruction if isinstance(instruction, str) else None


def find_checkpoint(run: Path, which: str) -> Path:
    """Find a checkpoint of a run.

    Args:
        run: The run folder.
        which: The number of a step, `last`, or `best` (by the metric that the run was told to follow).

    Raises:
        UserError: There is none.
    """
    whole = {step: path for path in checkpoints_of(run) if (step := named_step(path)) is not None and _is_whole(path)}
    if not whole:
        raise UserError(f"{run}: has no whole checkpoint, so --checkpoint {which} is not there")
    if which == LAST:
        return whole[max(whole)]
    listed = ", ".join(map(str, sorted(whole)))
    if which == BEST:
        best = _best(run if (run / STATE_FILE).is_file() else whole[max(whole)])
        if best is None:
            raise UserError(f"{run}: no best checkpoint was kept in this run: give one of the steps {listed}, or last")
        if best not in whole:
            raise UserError(f"{run}: the best checkpoint was of step {best}, which is not there; found {listed}")
        return whole[best]
    if not which.isascii() or not which.isdigit() or int(which) not in whole:
        raise UserError(f"{run}: has no checkpoint {which!r}: give one of the steps {listed}, best or last")
    return whole[int(which)]


def _is_whole(folder: Path) -> bool:
    # The trainer writes its state last, and then the seal. What only a resume needs may be missing.
    if not (folder / STATE_FILE).is_file():
        return False
    return not (folder / SEAL_NAME).exists() or _read_object(folder / SEAL_NAME).get("complete") is True


def _best(folder: Path) -> int | None:
    best = _read_object(folder / STATE_FILE).get("best_model_checkpoint")
    # Of the path only the name counts: the run may have been moved.
    return named_step(Path(best)) if isinstance(best, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}
