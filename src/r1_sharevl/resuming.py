"""Continuing a run: which checkpoint, and whether the settings are still those of the run."""

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from .checkpoint_seal import checkpoints_of, num_processes_of, step_of, why_not_whole
from .errors import UserError

logger = logging.getLogger(__name__)

_FREE = re.compile(
    "output_dir|run_name|resume|resume_from_checkpoint|disable_tqdm|report_to|push_to_hub"
    "|load_best_model_at_end|metric_for_best_model|greater_is_better|num_completions_to_print"
    "|(log|logging|save|eval|hub|dataloader|trackio|collapse|gradient_checkpointing)_.*|gradient_checkpointing"
    "|vllm_(?!importance_).*"
)
"""Settings that may change when a run goes on: what it reports, where it saves, how it computes the same."""
_LENGTH = ("max_steps", "num_train_epochs")
"""Settings that may change where the learning rate does not depend on them."""
_FIXED = ("use_peft", "lora_r", "lora_target_modules", "train_vision", "load_in_4bit", "load_in_8bit", "optim")
"""Settings that decide which tensors a checkpoint holds."""


def newest_whole_checkpoint(output_dir: Path, *, log: bool = True) -> Path:
    """Find the checkpoint to resume from.

    Args:
        output_dir: The run folder.
        log: Whether to name the newer checkpoints that are skipped, and why.

    Raises:
        UserError: There is none; the message says why each was refused.
    """
    refused: list[str] = []
    for folder in checkpoints_of(output_dir):
        reason = why_not_whole(folder)
        if reason is None:
            if log:
                for skipped in refused:
                    logger.warning(f"skipped {skipped}")
                logger.info(f"resuming from {folder}")
            return folder
        refused.append(f"{folder.name}: {reason}")
    if refused:
        raise UserError(
            f"{output_dir} has no whole checkpoint to resume from ({'; '.join(refused)}): delete them and leave "
            "--resume out to start the run anew"
        )
    raise UserError(f"{output_dir} has no checkpoint to resume from: leave --resume out to start the run")


def check_named_checkpoint(checkpoint: Path, output_dir: Path) -> None:
    """Check that a run can go on from `checkpoint`, and that its own checkpoints will be the newest ones.

    Args:
        checkpoint: A checkpoint that the user has named.
        output_dir: Where the run goes on.

    Raises:
        UserError: It is not whole, or whole ones of later steps lie in `output_dir`: the next `--resume` would take
            those, of the branch that was given up.
    """
    reason = why_not_whole(checkpoint)
    if reason is not None:
        raise UserError(f"{checkpoint} is no checkpoint to resume from: {reason}")
    step = step_of(checkpoint)
    found = checkpoints_of(output_dir)
    later = [path.name for path in reversed(found) if int(path.name[11:]) > step and why_not_whole(path) is None]
    if later:
        raise UserError(
            f"{output_dir} holds later checkpoints than step {step} of {checkpoint} ({', '.join(later)}), which the "
            "next --resume would take: move them away, or give another --output_dir"
        )


def check_settings(config: Path, settings: dict[str, Any], checkpoint: Path, num_processes: int) -> str | None:
    """Compare the settings of a run with those it is resumed with.

    Args:
        config: The run's config.yaml; if it is not there, nothing is compared.
        settings: The settings now, as `settings_of` returns them.
        checkpoint: Where the run goes on.
        num_processes: How many processes train now.

    Returns:
        One line that names the settings whose change makes another run of it, or None.

    Raises:
        UserError: A setting has changed without which the checkpoint cannot be loaded.
    """
    try:
        before = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(before, dict):
        return None
    changed = {
        name: f"{name} {_shown(before, name)} -> {_shown(settings, name)}"
        for name in sorted({str(name) for name in before} | settings.keys())
        if before.get(name) != settings.get(name) and not _FREE.fullmatch(name)
    }
    if settings.get("lr_scheduler_type") == "constant":
        changed = {name: text for name, text in changed.items() if name not in _LENGTH}
    fixed = [text for name, text in changed.items() if name in _FIXED]
    if fixed:
        raise UserError(
            f"{checkpoint} cannot be resumed with other settings than it was made with ({'; '.join(fixed)}): set them "
            "back, or start a new run in another --output_dir"
        )
    processes = num_processes_of(checkpoint)
    texts = list(changed.values())
    if processes not in (None, num_processes):
        texts.append(f"processes {processes} -> {num_processes}")
    if not texts:
        return None
    return f"settings differ from those in {config}, so this is not the run that was stopped: {'; '.join(texts)}"


def _shown(settings: dict[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "default"
