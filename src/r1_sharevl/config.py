"""The settings that Share-GRPO adds to TRL's GRPO."""

import math
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments
from trl import GRPOConfig

from .errors import UserError
from .prompts import DEFAULT_INSTRUCTION

BEST_METRIC = "rewards/accuracy_reward/mean"
"""What the best checkpoint is chosen by. Without an accuracy reward the trainer takes the first reward instead."""


@dataclass
class ShareGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`ShareGRPOTrainer`].

    It inherits every parameter from [`~trl.GRPOConfig`] and only adds those of Share-GRPO (R1-ShareVL, arXiv
    2505.16673). `num_generations` keeps its meaning: responses *generated* per question, over all of its prompts.
    The batch sizes count trained (prompt, response) *pairs*: `num_variants * num_generations` per question, because
    every response is trained under every prompt of its question.

    Parameters:
        num_variants (`int`, *optional*, defaults to `2`):
            Prompts per question, `m` in the paper (`question_num` in the R1-ShareVL release). `1` is plain GRPO, bit
            for bit. Must divide `num_generations`: each prompt gets `num_generations / num_variants` responses.
        share_trajectories (`bool`, *optional*, defaults to `True`):
            Whether a response is trained under every prompt of its question. If `False`, only under its own, as in
            GRPO with varied prompts; a question then takes `num_generations` rows of a batch.
        advantage_levels (`list[str]`, *optional*, defaults to `["global", "local"]`):
            Groups whose normalised rewards make the advantage: `"global"`, all responses to the question; `"local"`,
            those to the same prompt (used for the pair of a response and its own prompt). The paper's ablation.
        transform_probability (`float`, *optional*, defaults to `0.3`):
            Probability that a prompt's images are transformed, with a sentence that says how (a literal in the
            release).
        image_transforms (`list[str]`, *optional*):
            Names of the transforms to draw from. If `None`, all nine of the release.
        instruction (`str`, *optional*):
            Text appended to every question that asks for the thinking and the boxed answer (`format_prompt` in the
            release). Evaluate with the same one.
        shared_prefix (`str`, *optional*, defaults to `"auto"`):
            Whether the rows of a prompt share its tokens, images and prefill instead of computing them once per row;
            the results are the same up to rounding. `"auto"` does it in Share-GRPO (`num_variants` above 1) where the
            model family can, and trains ordinary rows with a line that says why otherwise; `"on"` demands it, also for
            plain GRPO; `"off"` never does.
        max_vllm_logprob_gap (`float`, *optional*, defaults to `0.1`):
            Largest mean absolute difference, in nats per sampled token, between the log-probabilities that vLLM
            reports and those of the model in training, before the run stops: beyond it the responses are not the
            model's. bfloat16 gives 0.001 to 0.02. At a temperature other than 1, `top_p` below 1 adds `-log(top_p)` to
            it. `None` never stops.
        vllm_engine_kwargs (`dict[str, Any]`, *optional*):
            Settings of vLLM's engine in colocate mode that have no setting of their own, such as `enforce_eager`,
            `dtype` or `limit_mm_per_prompt`; they win over those that TRL chooses.
    """

    _VALID_DICT_FIELDS = [*GRPOConfig._VALID_DICT_FIELDS, "vllm_engine_kwargs"]  # noqa: RUF012 (as in the parent)

    num_variants: int = field(
        default=2,
        metadata={
            "help": "Prompts per question (`m` in the Share-GRPO paper). 1 is plain GRPO. Divides num_generations."
        },
    )
    share_trajectories: bool = field(
        default=True,
        metadata={
            "help": "Whether every response is trained under every prompt of its question, or under its own only."
        },
    )
    advantage_levels: list[str] = field(
        default_factory=lambda: ["global", "local"],
        metadata={"help": "Groups that make the advantage: 'global' (the question) and/or 'local' (the prompt)."},
    )
    transform_probability: float = field(
        default=0.3, metadata={"help": "Probability that the images of a prompt are transformed, between 0 and 1."}
    )
    image_transforms: list[str] | None = field(
        default=None,
        metadata={"help": "Names of the image transforms to draw from. Default: all nine of the release."},
    )
    instruction: str = field(
        default=DEFAULT_INSTRUCTION,
        metadata={"help": "Text appended to every question: asks for the thinking and the boxed answer."},
    )
    shared_prefix: str = field(
        default="auto",
        metadata={
            "help": "Compute a prompt's tokens and images once for all of its responses: auto (where the model can), "
            "on or off. The results are the same up to rounding.",
        },
    )
    max_vllm_logprob_gap: float | None = field(
        default=0.1,
        metadata={
            "help": "Stop when vLLM's log-probabilities of the sampled tokens differ from the trainer's by more than "
            "this on average, in nats. None never stops."
        },
    )
    vllm_engine_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Further settings of vLLM's engine in colocate mode, as JSON: '{\"enforce_eager\": true}'."},
    )

    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Evaluation metric that chooses the best checkpoint. Default: the accuracy reward's mean, or the "
            "first reward's where there is none; greater is better."
        },
    )

    def __post_init__(self) -> None:
        if self.num_variants < 1:
            raise UserError(f"num_variants is {self.num_variants}: give 1 (plain GRPO) or more prompts per question")
        if self.num_generations % self.num_variants:
            raise UserError(
                f"num_generations ({self.num_generations} responses per question) is not a multiple of num_variants "
                f"({self.num_variants} prompts per question): "
                f"{_nearest('num_generations', self.num_generations, self.num_variants)}"
            )
        if not 0 <= self.transform_probability <= 1:
            raise UserError(f"transform_probability is {self.transform_probability}: give a number between 0 and 1")
        if self.max_steps == 0:
            raise UserError("max_steps is 0: give a number of optimizer steps, or -1 to train num_train_epochs")
        unknown = set(self.advantage_levels) - {"global", "local"}
        if unknown or not self.advantage_levels:
            raise UserError(f"advantage_levels is {self.advantage_levels}: give 'global', 'local' or both")
        if isinstance(self.shared_prefix, bool):  # YAML reads a bare on or off so
            self.shared_prefix = "on" if self.shared_prefix else "off"
        if self.shared_prefix not in ("auto", "on", "off"):
            raise UserError(f"shared_prefix is {self.shared_prefix!r}: choose from auto, on, off")
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model = BEST_METRIC  # transformers' default, the loss, says nothing in GRPO
        if self.max_vllm_logprob_gap is not None and not self.max_vllm_logprob_gap > 0:
            raise UserError(
                f"max_vllm_logprob_gap is {self.max_vllm_logprob_gap}: give a number above 0, or null to never stop"
            )
        self._fit_eval_batch()
        try:
            super().__post_init__()
        except ValueError:
            # TRL refuses sizes that do not divide, too; our message names the sizes that work.
            if getattr(self, "distributed_state", None) is not None:
                self._check_batch_sizes()
            raise
        if isinstance(self.vllm_engine_kwargs, str):  # TRL has read what looked like JSON
            raise UserError(
                f"vllm_engine_kwargs is {self.vllm_engine_kwargs!r}: give a mapping, or JSON such as '{{}}'"
            )
        self._check_batch_sizes()

    @property
    def rows_per_question(self) -> int:
        """Rows of a generation batch that belong to one question: `m·m·n` pairs, or `m·n` without sharing."""
        return self.num_generations * self.copies_per_response

    @property
    def copies_per_response(self) -> int:
        """Rows that train the same response, each under another prompt: `m`, or 1 without sharing."""
        return self.num_variants if self.share_trajectories else 1

    @property
    def rows_per_prompt(self) -> int:
        """Rows of a prompt that a process holds together: fewer than all where processes cut through questions."""
        rows = self.generation_batch_size // self.world_size
        if self.copies_per_response == self.num_variants:  # every prompt of a question has as many of its rows
            return math.gcd(rows, self.rows_per_question) // self.num_variants
        return math.gcd(rows, self.num_generations // self.num_variants)

    def _fit_eval_batch(self) -> None:
        """Let transformers' default size of an evaluation batch hold whole questions, as TRL demands."""
        size: int = TrainingArguments.per_device_eval_batch_size
        if self.eval_strategy != "no" and vars(self)["per_device_eval_batch_size"] == size:
            each = self.num_generations_eval or self.num_generations
            self.per_device_eval_batch_size = -(-size // each) * each

    def _check_batch_sizes(self) -> None:
        num_processes = self.world_size
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        rows_per_rank = self.per_device_train_batch_size * steps
        if self.generation_batch_size is not None and self.steps_per_generation is None:
            if self.generation_batch_size % (self.per_device_train_batch_size * num_processes):
                raise UserError(
                    f"generation_batch_size ({self.generation_batch_size}) is not a multiple of "
                    f"per_device_train_batch_size x processes ({self.per_device_train_batch_size} x {num_processes}): "
                    + _nearest(
                        "generation_batch_size",
                        self.generation_batch_size,
                        self.per_device_train_batch_size * num_processes,
                    )
                )
            rows_per_rank = self.generation_batch_size // num_processes
        rows = rows_per_rank * num_processes
        if rows % self.rows_per_question:
            what = "num_variants x num_generations" if self.copies_per_response > 1 else "num_generations"
            raise UserError(
                f"a generation batch has {rows} rows (per_device_train_batch_size {self.per_device_train_batch_size} x "
                f"steps_per_generation {rows_per_rank // self.per_device_train_batch_size} x {num_processes} "
                f"processes), not a multiple of the {self.rows_per_question} rows of a question ({what}): "
                + _nearest("generation_batch_size", rows, self._generation_batch_quantum(num_processes))
                + ", or change the factors to such a product"
            )
        if rows_per_rank % self.copies_per_response:
            raise UserError(
                f"a process has {rows_per_rank} rows of a generation batch, which is not a multiple of num_variants "
                f"({self.num_variants}), so the rows of one response would be split across processes: "
                + _nearest("generation_batch_size", rows, self._generation_batch_quantum(num_processes))
            )

    def _generation_batch_quantum(self, num_processes: int) -> int:
        """Every generation batch size that works is a multiple of this."""
        return math.lcm(
            self.rows_per_question,
            self.per_device_train_batch_size * num_processes,
            self.copies_per_response * num_processes,
        )


def _nearest(name: str, value: int, quantum: int) -> str:
    below, above = value // quantum * quantum, -(-value // quantum) * quantum
    return f"set {name} to " + (f"{below} or {above}" if below else str(above))
