"""One training run, from its settings to the run folder."""

import errno
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from packaging.version import Version
from safetensors import SafetensorError
from transformers import PrinterCallback, ProgressCallback
from transformers.integrations import TensorBoardCallback
from trl import ModelConfig

from .arguments import RunArguments, settings_of
from .callbacks import (
    SUMMARY_KEYS,
    CardWriter,
    CollapseStop,
    CurveDrawer,
    MetricsLog,
    ProgressBar,
    ProgressLines,
    SignalStop,
    continued_tensorboard,
)
from .checkpoint_seal import checkpoints_of, step_of
from .config import ShareGRPOConfig
from .data.schema import load_prepared
from .errors import RunError, StoppedError, UserError
from .history import first_and_last_tenth
from .models.adapters import adapter_config
from .models.attention import attention_implementation
from .models.checkpoints import check_checkpoint, first_line, load_processor, why_not_loaded
from .models.parameters import parameter_counts
from .models.quantization import quantization_config
from .models.skeleton import load_skeleton
from .models.vision import freeze_vision, stop_gradients_at_vision
from .models.weight_names import keep_used_conversions
from .planning.at_start import log_plan, out_of_memory_message
from .planning.pass_size import why_not_shared
from .publishing.hub import check_can_push, push_model
from .publishing.model_card import write_model_card
from .publishing.provenance import record_provenance
from .resuming import check_named_checkpoint, check_settings, newest_whole_checkpoint
from .rewards import load_reward
from .run_folder import CONFIG_FILE
from .trackers import prepare_trackers
from .trainer import ShareGRPOTrainer

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

logger = logging.getLogger(__name__)


@dataclass
class TrainingResult:
    """What a finished run left.

    Attributes:
        output_dir: The run folder: model, checkpoints, TensorBoard logs, plots, config.yaml, trainer_state.json.
        steps: Optimizer steps done, those before a resume included.
        seconds: Time of this call.
        metrics: For each metric of `SUMMARY_KEYS` its means over the first and the last tenth of the logged steps.
        plots: The curves drawn.
        hub: The model's address on the Hugging Face Hub, where it was pushed.
    """

    output_dir: Path
    steps: int
    seconds: float
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    plots: list[Path] = field(default_factory=list)
    hub: str | None = None


def run_training(run: RunArguments, args: ShareGRPOConfig, model_args: ModelConfig) -> TrainingResult:
    """Train as the settings say, and leave a run folder.

    Raises:
        UserError: A setting, the dataset, the model or a reward function is not usable.
        StoppedError: SIGTERM or SIGINT came; the step was finished and a checkpoint written.
        RunError: The run has collapsed, or the disk is full.
    """
    name = model_args.model_name_or_path
    output_dir = Path(args.output_dir)
    _check_writable(output_dir)
    checkpoint = _checkpoint_to_resume(run, args)
    repo_id = _repository(args)
    prepare_trackers(args.report_to, args.output_dir, main_process=args.process_index == 0)
    rewards = [load_reward(spec) for spec in run.reward_funcs]
    train_dataset = load_prepared(run.dataset, run.train_split)
    eval_dataset = load_prepared(run.dataset, run.eval_split) if args.eval_strategy != "no" else None
    check_checkpoint(name)
    processor = load_processor(
        name,
        revision=model_args.model_revision,
        min_pixels=run.min_pixels,
        max_pixels=run.max_pixels,
        trust_remote_code=args.trust_remote_code,
    )
    settings = settings_of(run, args, model_args)
    # What is asked of this call only, and a secret.
    for asked_now in ("resume", "resume_from_checkpoint", "hub_token"):
        settings.pop(asked_now, None)
    if checkpoint is not None:
        changed = check_settings(output_dir / CONFIG_FILE, settings, checkpoint, args.world_size)
        if changed and args.process_index == 0:
            logger.warning(changed)
    skeleton = load_skeleton(name, revision=model_args.model_revision, trust_remote_code=args.trust_remote_code)
    why_not_shared(skeleton.config, args, model_args)  # refuses what a config tells, before weights are loaded
    # TRL would make the repository at once and fill it at every checkpoint, with its own card and every file.
    args.push_to_hub = False
    args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": attention_implementation(
            model_args.attn_implementation,
            skeleton,
            device=args.device,
            dtype=model_args.dtype,
            autocast=args.bf16 or args.fp16,
        ),
        "dtype": model_args.dtype,
        **(args.model_init_kwargs or {}),
    }
    if args.process_index == 0:
        log_plan(run, args, model_args)
    try:
        trainer = ShareGRPOTrainer(
            model=name,
            reward_funcs=rewards,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            quantization_config=quantization_config(model_args, skeleton),
            peft_config=adapter_config(model_args, skeleton, train_vision=run.train_vision),
            sample_responses=run.sample_responses,
        )
    except (OSError, SafetensorError) as error:  # a checkpoint that is missing or broken
        raise UserError(f"{name}: cannot be loaded: {why_not_loaded(name, error)}") from error
    except torch.OutOfMemoryError as error:
        raise RunError(out_of_memory_message(settings, args, error)) from error
    except (ValueError, ImportError) as error:  # TRL's way to say that settings do not go together, or need a package
        raise UserError(str(error)) from error
    keep_used_conversions(trainer.model)
    vision_is_frozen = not run.train_vision if model_args.use_peft else run.train_vision is False
    if vision_is_frozen and not model_args.use_peft:
        freeze_vision(trainer.model)
    if vision_is_frozen and args.gradient_checkpointing:
        stop_gradients_at_vision(trainer.model)
    counts = parameter_counts(trainer.model)
    logger.info(f"Trains {counts.trainable:,} of {counts.total:,} parameters ({counts.share:.2%})")
    for printer in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printer)
    progress = ProgressLines() if args.disable_tqdm else ProgressBar()
    trainer.add_callback(progress)
    trainer.add_callback(CurveDrawer())
    trainer.add_callback(CardWriter())
    trainer.add_callback(MetricsLog())
    if checkpoint is not None and trainer.is_world_process_zero() and "tensorboard" in args.report_to:
        continued = continued_tensorboard(output_dir, step_of(checkpoint))
        if continued is not None:
            trainer.remove_callback(TensorBoardCallback)
            trainer.add_callback(continued)
    trainer.add_callback(CollapseStop(run.collapse_patience, run.collapse_entropy))
    stop = SignalStop()
    trainer.add_callback(stop)  # the last one: it ends the run when the others have seen the checkpoint
    trainer.accelerator.wait_for_everyone()  # every process has read the settings of the run it resumes
    if trainer.is_world_process_zero():
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        Path(args.output_dir, CONFIG_FILE).write_text(yaml.safe_dump(settings, sort_keys=True), encoding="utf-8")
        record_provenance(output_dir, base=name, dataset=run.dataset, split=run.train_split)

    try:
        with stop:
            output = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            _save_trained(trainer)
    except (StoppedError, RunError, UserError) as error:
        with suppress(OSError):  # a full disk has been reported
            trainer.callback_handler.on_train_end(args, trainer.state, trainer.control)  # trackers write what they hold
        if isinstance(error, StoppedError):
            trainer.accelerator.wait_for_everyone()  # torchrun ends the others as soon as one has ended
            _end(trainer)
        raise
    except torch.OutOfMemoryError as error:
        with suppress(OSError):
            trainer.callback_handler.on_train_end(args, trainer.state, trainer.control)
        raise RunError(out_of_memory_message(settings, args, error)) from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise RunError(
                f"{output_dir}: {first_line(error)}; its checkpoints are kept. Free some space, and go on with --resume"
            ) from error
        raise
    finally:
        if isinstance(progress, ProgressBar):
            progress.close()
    history = trainer.state.log_history
    plots = sorted(Path(args.output_dir, "plots").glob("*.png"))
    is_main = trainer.is_world_process_zero()
    _end(trainer)
    hub = None
    if is_main:
        write_model_card(output_dir, repo_id=repo_id)
        if repo_id is not None:
            hub = push_model(output_dir, repo_id, bool(args.hub_private_repo), args.hub_token)
    return TrainingResult(
        output_dir=Path(args.output_dir),
        steps=trainer.state.global_step,
        seconds=output.metrics["train_runtime"],
        metrics=summarise(history),
        plots=plots,
        hub=hub,
    )


def summarise(history: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the mean of each followed metric over the first and the last tenth of the logged steps."""
    summary: dict[str, tuple[float, float]] = {}
    for key in SUMMARY_KEYS:
        values = [entry[key] for entry in history if entry.get(key) is not None]
        if values:
            summary[key] = first_and_last_tenth(values)
    return summary


def _check_writable(output_dir: Path) -> None:
    nearest = next(path for path in (output_dir, *output_dir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"output_dir {output_dir}: {nearest} is not a folder that can be written: give another one")


def _checkpoint_to_resume(run: RunArguments, args: ShareGRPOConfig) -> Path | None:
    named = args.resume_from_checkpoint
    output_dir = Path(args.output_dir)
    if isinstance(named, str) and named.lower() not in ("true", "false"):
        check_named_checkpoint(Path(named), output_dir)
        return Path(named)
    if run.resume or (named and str(named).lower() == "true"):
        return newest_whole_checkpoint(output_dir, log=args.process_index == 0)
    found = checkpoints_of(output_dir)
    if found:
        raise UserError(
            f"{output_dir} already holds {found[0].name}: give --resume to continue that run, or another "
            "--output_dir to start a new one"
        )
    return None


def _repository(args: ShareGRPOConfig) -> str | None:
    """Find out before the training whether its model may be pushed, and where."""
    if not args.push_to_hub:
        return None
    if args.hub_revision is not None:
        raise UserError("hub_revision is not supported: the model is pushed to the main branch; leave it out")
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    return check_can_push(name, bool(args.hub_private_repo), args.hub_token)


def _save_trained(trainer: ShareGRPOTrainer) -> None:
    trainer.check_parameters()
    try:
        trainer.save_model(trainer.args.output_dir)
        trainer.save_state()
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:  # each library's way to say that a write failed
        raise RunError(
            f"{trainer.args.output_dir}: the trained model could not be written: {first_line(error)}; the checkpoints "
            "are kept. Free some space if the disk is full, and go on with --resume"
        ) from error


def _end(trainer: ShareGRPOTrainer) -> None:
    if Version(transformers.__version__) >= Version("5.18"):
        trainer.end()  # finishes the trackers and the process group
