"""The plan of a run: its batches, its memory, whether it fits a card, and what to change where it does not."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from trl import ModelConfig

from ..arguments import RunArguments
from ..config import ShareGRPOConfig
from ..errors import UserError
from ..models.checkpoints import load_processor
from ..models.quantization import check_sharded_quantization
from .batch import BatchPlan, plan_batch
from .counting import ParameterCount, build_on_meta, count_parameters, load_config
from .memory import GIB, MemoryEstimate, Workload, estimate_memory
from .pass_size import PassSize, why_not_shared
from .prompt_size import PromptSize, assumed_prompt, measured_prompt
from .settings import read_settings
from .shapes import language_shape, vision_shape
from .sharding import Sharding


@dataclass(frozen=True)
class Plan:
    """What a run will be.

    Attributes:
        model: Folder or Hub id.
        config_source: "checkpoint", or "built-in table" where the config could not be fetched.
        parameters: All, adapters included.
        trainable: Those that are trained.
        batch: One generation batch.
        prompt: Length of a prompt.
        completion_tokens: Longest response.
        sharding: How it is spread over GPUs.
        micro_batch: What goes through the model at once.
        why_not_shared: Why rows of the same prompt do not share its tokens and images, or None if they do.
        memory: Of one GPU.
        card_bytes: Memory of the card it was held against, or None.
    """

    model: str
    config_source: str
    parameters: int
    trainable: int
    batch: BatchPlan
    prompt: PromptSize
    completion_tokens: int
    sharding: Sharding
    micro_batch: PassSize
    why_not_shared: str | None
    memory: MemoryEstimate
    card_bytes: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the estimate is within the card, or None without a card."""
        return None if self.card_bytes is None else self.memory.peak <= self.card_bytes

    def summary(self) -> list[str]:
        """A few lines for the start of a run."""
        batch, memory = self.batch, self.memory
        card = "" if self.card_bytes is None else f" of {self.card_bytes / GIB:.1f} GiB"
        lines = [
            f"batch: {batch.questions} questions x {batch.prompts // batch.questions} prompts, {batch.responses} "
            f"responses, {batch.pairs} pairs, {batch.optimizer_steps:g} optimizer steps per generation",
            f"memory per GPU: about {memory.peak / GIB:.1f} GiB{card} (estimate; highest in `{memory.peak_phase}`)",
        ]
        if self.fits is False:
            lines.append("this may not fit: `r1sharevl plan` says what to change")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, sizes in bytes."""
        return {
            "model": self.model,
            "config_source": self.config_source,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable,
            "batch": dataclasses.asdict(self.batch),
            "prompt": {
                **dataclasses.asdict(self.prompt),
                "tokens": self.prompt.tokens,
            },
            "completion_tokens": self.completion_tokens,
            "sharding": dataclasses.asdict(self.sharding),
            "micro_batch": {**dataclasses.asdict(self.micro_batch), "is_packed": self.micro_batch.is_packed},
            "why_not_shared": self.why_not_shared,
            "memory": {
                "generate": self.memory.generate,
                "update": self.memory.update,
                "allocated": self.memory.allocated,
                "peak": self.memory.peak,
                "peak_phase": self.memory.peak_phase,
                "notes": list(self.memory.notes),
            },
            "card_bytes": self.card_bytes,
            "fits": self.fits,
        }


class Planner:
    """Plans variants of one run; what they share (config, prompt lengths, parameter counts) is found out once.

    Args:
        run, args, model_args: The settings of the run, or of one of the variants.
        data: Folder of a prepared set to measure prompts in; None assumes lengths.
        card_bytes: Memory of the card, or None.
        config: The model's config, where nothing may be fetched for it; None loads it.

    Raises:
        UserError: The model or the data cannot be read.
    """

    def __init__(
        self,
        run: RunArguments,
        args: ShareGRPOConfig,
        model_args: ModelConfig,
        *,
        data: Path | None = None,
        card_bytes: int | None = None,
        config: PreTrainedConfig | None = None,
    ) -> None:
        self.card_bytes = card_bytes
        self.trust_remote_code = args.trust_remote_code
        self.name = model_args.model_name_or_path
        self.config: Any = config
        self.config_source = "built-in table"
        if config is None:
            self.config, self.config_source = load_config(
                self.name, model_args.model_revision, trust_remote_code=args.trust_remote_code
            )
        self.processor: Any = None
        if self.config_source == "checkpoint":
            try:
                self.processor = load_processor(
                    self.name, revision=model_args.model_revision, trust_remote_code=args.trust_remote_code
                )
            except UserError:
                self.processor = None  # the arithmetic of the known families needs none
        self.data, self.split, self.instruction = data, run.train_split, args.instruction
        self._counts: dict[tuple[Any, ...], ParameterCount] = {}
        self._prompts: dict[tuple[int | None, int | None], PromptSize] = {}

    def plan(self, run: RunArguments, args: ShareGRPOConfig, model_args: ModelConfig, sharding: Sharding) -> Plan:
        """Plan one variant.

        Args:
            run, args, model_args: Settings, with `args` made for `sharding.gpus` processes.
            sharding: How it is spread.

        Raises:
            UserError: Quantised weights would be cut up; `shared_prefix` is on, and rows cannot share.
        """
        check_sharded_quantization(model_args, sharding.kind)
        prompt = self._prompt(run)
        count = self._count(run, model_args)
        batch = plan_batch(args, prompt.questions)
        reason = why_not_shared(self.config, args, model_args)
        language = language_shape(self.config)
        work = Workload(
            args,
            model_args,
            run.train_vision,
            batch,
            prompt,
            sharding,
            hidden_size=language.hidden,
            card_bytes=self.card_bytes,
            shares=reason is None,
        )
        memory = estimate_memory(count, language, vision_shape(self.config), work)
        return Plan(
            model=self.name,
            config_source=self.config_source,
            parameters=count.total,
            trainable=count.trainable,
            batch=batch,
            prompt=prompt,
            completion_tokens=args.max_completion_length,
            sharding=sharding,
            micro_batch=work.micro_batch,
            why_not_shared=reason,
            memory=memory,
            card_bytes=self.card_bytes,
        )

    def plan_settings(self, settings: Mapping[str, Any], sharding: Sharding) -> Plan:
        """Plan the run that a mapping of settings describes.

        Raises:
            UserError: The settings do not go together.
        """
        run, args, model_args = read_settings(settings, sharding.gpus)
        return self.plan(run, args, model_args, sharding)

    def _prompt(self, run: RunArguments) -> PromptSize:
        bounds = (run.min_pixels, run.max_pixels)
        if bounds not in self._prompts:
            self._prompts[bounds] = (
                assumed_prompt(self.config, self.processor, *bounds)
                if self.data is None
                else measured_prompt(self.data, self.split, self.config, self.processor, self.instruction, *bounds)
            )
        return self._prompts[bounds]

    def _count(self, run: RunArguments, model_args: ModelConfig) -> ParameterCount:
        key = (repr(model_args), run.train_vision)
        if key not in self._counts:
            model = build_on_meta(
                self.config, model_args, train_vision=run.train_vision, trust_remote_code=self.trust_remote_code
            )
            self._counts[key] = count_parameters(model, double_quantised=model_args.use_bnb_nested_quant)
        return self._counts[key]
