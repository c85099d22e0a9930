"""TRL's GRPOTrainer for long runs: whole checkpoints, and resumed runs that go on as if they had not stopped."""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, send_to_device
from datasets import Dataset
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from .checkpoint_seal import checkpoints_of, num_processes_of, open_checkpoint, seal_checkpoint
from .errors import RunError, UserError
from .models.checkpoints import first_line

logger = logging.getLogger(__name__)

ROLLOUTS_NAME = "rollouts_{rank}.pt"
"""File of a checkpoint taken between two generations: the responses that are not trained on yet, one per process."""


class ResumableGRPOTrainer(GRPOTrainer):
    """[`~trl.GRPOTrainer`] whose runs can be stopped, killed and resumed.

    What is overridden, and why:
        - `_get_train_sampler`, `_save_rng_state`, `_load_rng_state`, `_load_from_checkpoint`, `_load_best_model`: a
          resumed run goes on exactly where it stopped, also between two generations and after the first epoch;
        - `_load_optimizer_and_scheduler`: a run resumed with another learning rate uses it;
        - `_save_checkpoint`: a checkpoint is sealed when all processes have written it, and older ones go only then;
        - `_determine_best_metric`: a metric that is not there is the user's mistake;
        - `_get_grad_norm`: an update from gradients that are NaN or infinite is skipped.

    Raises:
        RunError: A checkpoint cannot be written, or would hold parameters that are NaN or infinite.
        UserError: An evaluation gives no `metric_for_best_model`.
    """

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        sampler = super()._get_train_sampler(dataset)
        return _ResumableRepeatSampler(sampler, epoch=lambda: int(self.state.epoch or 0))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if not self._load_full_weights(resume_from_checkpoint, model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_full_weights(self.state.best_model_checkpoint, self.model):
            super()._load_best_model()

    def _load_full_weights(self, checkpoint: str, model: Any) -> bool:
        """Load a fully fine-tuned model's weights by `from_pretrained`, and say whether this was the case for it.

        transformers 5 saves families such as Qwen2.5-VL under the parameter names of their first release, but its
        `Trainer` reads a checkpoint by the names in the module: none matches, it warns, and the run goes on from the
        weights it started with. `from_pretrained` knows both names.
        """
        if not isinstance(model, PreTrainedModel) or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False  # adapters and sharded checkpoints have ways of their own
        loaded = type(model).from_pretrained(checkpoint, dtype=model.dtype)
        model.load_state_dict(loaded.state_dict())
        return True

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        scheduler = self.lr_scheduler
        ours = isinstance(scheduler, LambdaLR) and not self.is_deepspeed_enabled
        asked = list(scheduler.base_lrs) if ours else None
        super()._load_optimizer_and_scheduler(checkpoint)
        if asked is None or asked == scheduler.base_lrs:
            return
        # Both states have brought the learning rate of the run before, which the parent would go on with.
        scheduler.base_lrs = asked
        scheduler._last_lr = [
            rate * factor(scheduler.last_epoch) for rate, factor in zip(asked, scheduler.lr_lambdas, strict=True)
        ]
        for group, initial, now in zip(self.optimizer.param_groups, asked, scheduler._last_lr, strict=True):
            group["initial_lr"], group["lr"] = initial, now

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._step % (self.args.steps_per_generation * self.num_iterations) and self._buffered_inputs is not None:
            path = os.path.join(output_dir, ROLLOUTS_NAME.format(rank=self.args.process_index))
            torch.save({"step": self._step, "rollouts": self._buffered_inputs}, path)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        self._step = self._micro_batches_behind()
        path = os.path.join(checkpoint, ROLLOUTS_NAME.format(rank=self.args.process_index))
        saved = torch.load(path, map_location="cpu", weights_only=True) if os.path.exists(path) else None
        fits = (
            saved is not None
            and saved["step"] == self._step
            and len(saved["rollouts"]) == self.args.steps_per_generation
            and num_processes_of(Path(checkpoint)) in (None, self.accelerator.num_processes)
        )
        # Generating is done by all processes together, so one that has lost its responses makes all of them generate.
        if gather(torch.tensor([int(fits)], device=self.accelerator.device)).all():
            assert saved is not None  # noqa: S101
            # The images stay in the host's memory until their micro-batch is trained.
            self._buffered_inputs = send_to_device(
                saved["rollouts"],
                self.accelerator.device,
                skip_keys=["pixel_values", "distinct_images", "image_index"],
            )
        elif self.accelerator.is_main_process and self._step % (self.args.steps_per_generation * self.num_iterations):
            logger.warning(
                f"{checkpoint} has no responses that fit these settings, so new ones are generated in the middle of a "
                "generation's steps, and the run will differ from one that was not interrupted"
            )

    def _micro_batches_behind(self) -> int:
        """How many micro-batches the steps before a resume have used: an epoch's last step may use fewer."""
        steps, per_step = self.state.global_step, self.args.gradient_accumulation_steps
        loader = self.callback_handler.train_dataloader
        if not has_length(loader):
            return steps * per_step
        epochs, steps = divmod(steps, math.ceil(len(loader) / per_step))
        return epochs * len(loader) + steps * per_step

    def check_parameters(self) -> None:
        """Check, on all processes together, that no trained parameter is NaN or infinite.

        With DeepSpeed's ZeRO-3 there is nothing to see outside of its engine; there `_get_grad_norm` ends the run.

        Raises:
            RunError: On all processes, if one is.
        """
        spoiled = [
            name
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            and not torch.isfinite(parameter.to_local() if isinstance(parameter, DTensor) else parameter).all()
        ]
        # Each process may hold another part of them.
        if gather(torch.tensor([len(spoiled)], device=self.accelerator.device)).any():
            raise RunError(
                f"stopped at step {self.state.global_step}: {(spoiled or ['a parameter of another process'])[0]} has "
                "values that are NaN or infinite, so this step is not saved; the checkpoints in "
                f"{self.args.output_dir} are kept; lower learning_rate, and go on with --resume"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.check_parameters()
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        kept = self.args.save_total_limit
        try:
            if self.args.should_save:
                open_checkpoint(folder)
            self.accelerator.wait_for_everyone()
            # The parent would delete older checkpoints while other processes still write this one.
            self.args.save_total_limit = None
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal_checkpoint(folder, num_processes=self.accelerator.num_processes)
        except (torch.OutOfMemoryError, torch.AcceleratorError, torch.distributed.DistError):
            raise  # no matter of the disk
        except (OSError, RuntimeError, SafetensorError) as error:  # each library's way to say that a write failed
            shutil.rmtree(folder, ignore_errors=True)
            raise RunError(
                f"{folder} could not be written and is removed: {first_line(error)}; earlier checkpoints are kept. "
                "Free some space if the disk is full, and go on with --resume"
            ) from error
        finally:
            self.args.save_total_limit = kept
        if self.args.should_save:
            self._rotate_checkpoints(folder, kept)
        # Whoever goes on may end: torchrun then ends the others, who must not be writing the seal.
        self.accelerator.wait_for_everyone()

    def _rotate_checkpoints(self, newest: Path, limit: int | None) -> None:
        """Delete older checkpoints until `limit` are left, as transformers counts them: with the newest and the best.

        By number transformers would take a damaged checkpoint of a later step, which a resume has skipped, for the
        newest one; by time of change it would go wrong in a folder that was copied.
        """
        if not limit or limit < 0:
            return
        best = None if self.state.best_model_checkpoint is None else Path(self.state.best_model_checkpoint).name
        names = [path.name for path in checkpoints_of(newest.parent)]
        older = [name for name in names[names.index(newest.name) + 1 :] if name != best]
        best_is_older = best in names and best != newest.name
        for name in older[max(0, limit - 1 - best_is_older) :]:
            shutil.rmtree(newest.parent / name, ignore_errors=True)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        try:
            better: bool = super()._determine_best_metric(metrics, trial)
        except KeyError as error:
            found = ", ".join(sorted(name.removeprefix("eval_") for name in metrics))
            raise UserError(
                f"metric_for_best_model is {self.args.metric_for_best_model!r}, which the evaluation does not give: "
                f"choose from {found}"
            ) from error
        return better

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # the parent would look only after one more step
            logger.info(f"All {self.state.max_steps} steps are done already: nothing is left to train")
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        scaled = self.args.fp16 or self.accelerator.scaler is not None  # the loss scaler skips the update
        if norm is None or scaled or math.isfinite(norm):
            return norm
        if self.is_deepspeed_enabled:  # its engine has updated the weights already
            raise RunError(
                f"stopped at step {self.state.global_step + 1}: the gradient norm is {float(norm)}, and DeepSpeed has "
                f"updated the weights with it; the checkpoints in {self.args.output_dir} are kept; lower "
                "learning_rate, and go on with --resume"
            )
        logger.warning(f"step {self.state.global_step + 1}: the gradient norm is {float(norm)}, no weight is updated")
        model.zero_grad()  # the optimizer leaves parameters without a gradient alone
        return norm


class _ResumableRepeatSampler(RepeatSampler):
    """TRL's `RepeatSampler`, whose order in an epoch does not depend on how many epochs this process has seen.

    TRL's keeps drawing from one generator, so a run resumed in its third epoch would get the order of the first.
    """

    def __init__(self, sampler: RepeatSampler, epoch: Callable[[], int]) -> None:
        super().__init__(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
        )
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self.epoch()):
                torch.randperm(self.num_samples, generator=self.generator)
        yield from super().__iter__()
