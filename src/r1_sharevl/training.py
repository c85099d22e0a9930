"""One training run, from its settings to the run folder."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
import yaml
from packaging.version import Version
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint
from trl import ModelConfig, get_quantization_config

from .arguments import RunArguments, settings_of
from .config import ShareGRPOConfig
from .data.schema import load_prepared
from .errors import UserError
from .models.adapters import adapter_config
from .models.checkpoints import check_checkpoint, first_line, load_processor
from .plots import plot_training
from .rewards import load_reward
from .trainer import ShareGRPOTrainer

CONFIG_NAME = "config.yaml"
SUMMARY_KEYS = {
    "reward": "reward",
    "rewards/accuracy_reward/mean": "accuracy",
    "share_grpo/no_advantage/all": "questions without advantage",
    "completions/mean_length": "tokens per response",
    "entropy": "entropy (nats)",
}
"""What a run is followed by: the trainer's metric and its name for people."""


@dataclass
class TrainingResult:
    """What a finished run left.

    Attributes:
        output_dir: The run folder: model, checkpoints, TensorBoard logs, plots, config.yaml, trainer_state.json.
        steps: Optimizer steps done, those before a resume included.
        seconds: Time of this call.
        metrics: For each metric of `SUMMARY_KEYS` its means over the first and the last tenth of the logged steps.
        plots: The curves drawn.
    """

    output_dir: Path
    steps: int
    seconds: float
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    plots: list[Path] = field(default_factory=list)


def run_training(run: RunArguments, args: ShareGRPOConfig, model_args: ModelConfig) -> TrainingResult:
    """Train as the settings say, and leave a run folder.

    Raises:
        UserError: A setting, the dataset, the model or a reward function is not usable.
    """
    name = model_args.model_name_or_path
    checkpoint = _checkpoint_to_resume(Path(args.output_dir), resume=run.resume or bool(args.resume_from_checkpoint))
    if isinstance(args.resume_from_checkpoint, str) and args.resume_from_checkpoint.lower() != "true":
        checkpoint = args.resume_from_checkpoint
        if not Path(checkpoint, "trainer_state.json").is_file():
            raise UserError(f"{checkpoint} is no checkpoint of a run: it has no trainer_state.json")
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
    args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(args.model_init_kwargs or {}),
    }
    try:
        trainer = ShareGRPOTrainer(
            model=name,
            reward_funcs=rewards,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            quantization_config=get_quantization_config(model_args),
            peft_config=adapter_config(model_args, train_vision=run.train_vision),
        )
    except OSError as error:  # transformers' way to say that a checkpoint is missing or broken
        raise UserError(f"{name}: cannot be loaded: {first_line(error)}") from error
    except (ValueError, ImportError) as error:  # TRL's way to say that settings do not go together, or need a package
        raise UserError(str(error)) from error
    for printer in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printer)
    progress = _QuietLog() if args.disable_tqdm else _Progress()
    trainer.add_callback(progress)
    trainer.add_callback(_Plots)
    if trainer.is_world_process_zero():
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        Path(args.output_dir, CONFIG_NAME).write_text(yaml.safe_dump(settings, sort_keys=True), encoding="utf-8")

    try:
        output = trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        if isinstance(progress, _Progress) and progress.training_bar is not None:
            progress.training_bar.close()  # what stopped the run starts on a line of its own
    trainer.save_model(args.output_dir)
    trainer.save_state()
    history = trainer.state.log_history
    plots = plot_training(history, Path(args.output_dir, "plots")) if trainer.is_world_process_zero() else []
    if args.push_to_hub:
        trainer.push_to_hub(dataset_name=run.dataset)
    if Version(transformers.__version__) >= Version("5.18"):
        trainer.end()  # finishes the trackers and the process group
    return TrainingResult(
        output_dir=Path(args.output_dir),
        steps=trainer.state.global_step,
        seconds=output.metrics["train_runtime"],
        metrics=summarise(history),
        plots=plots,
    )


def summarise(history: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the mean of each followed metric over the first and the last tenth of the logged steps."""
    summary: dict[str, tuple[float, float]] = {}
    for key in SUMMARY_KEYS:
        values = [entry[key] for entry in history if entry.get(key) is not None]
        if values:
            tenth = max(1, len(values) // 10)
            summary[key] = (sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth)
    return summary


def _checkpoint_to_resume(output_dir: Path, *, resume: bool) -> str | None:
    newest = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
    if newest is None and resume:
        raise UserError(f"{output_dir} has no checkpoint to resume from: leave --resume out to start the run")
    if newest is not None and not resume:
        raise UserError(
            f"{output_dir} already holds {os.path.basename(newest)}: give --resume to continue that run, or another "
            "--output_dir to start a new one"
        )
    return newest


def _log_line(state: TrainerState, logs: dict[str, Any]) -> str | None:
    """One line for people; the full set of metrics goes to TensorBoard."""
    if any(key.startswith("eval_") for key in logs):
        values = {name: logs.get(f"eval_{key}") for key, name in SUMMARY_KEYS.items()}
        start = f"step {state.global_step} evaluation"
    else:
        values = {name: logs.get(key) for key, name in SUMMARY_KEYS.items()}
        start = f"step {state.global_step}/{state.max_steps}"
    shown = [f"{name} {value:.3g}" for name, value in values.items() if value is not None]
    return f"{start}  " + "  ".join(shown) if shown else None


class _Progress(ProgressCallback):
    """transformers' bar with ETA; of the forty metrics of a step only those people follow are printed."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs:
            line = _log_line(state, logs)
            if line:
                self.training_bar.write(line)


class _QuietLog(TrainerCallback):
    """The same lines without a bar."""

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        line = _log_line(state, logs or {}) if state.is_world_process_zero else None
        if line:
            logging.getLogger(__name__).info(line)


class _Plots(TrainerCallback):
    """Draws the curves at every checkpoint, so that a long run can be looked at."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            plot_training(state.log_history, Path(args.output_dir, "plots"))
