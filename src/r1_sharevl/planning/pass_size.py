"""How much goes through the model at once: rows by themselves, or packed rows that share their prompts."""

from dataclasses import dataclass
from typing import Any

from trl import ModelConfig

from ..config import ShareGRPOConfig
from ..shared_prefix.cost import sharing_pays
from ..shared_prefix.packing import PromptSpan
from ..shared_prefix.support import cannot_be_on, why_not_family, why_not_settings
from .batch import BatchPlan
from .prompt_size import PromptSize


@dataclass(frozen=True)
class PassSize:
    """One micro-batch on its way through the model, as large as it gets.

    Attributes:
        tokens: That the decoder computes, padding included.
        row_tokens: That it would compute for rows by themselves.
        scored: Of responses.
        seen: Keys that the responses' tokens see, added up over the responses: what two-part attention copies. 0 for
            rows by themselves.
        padded_to: Length of padded rows whose attention needs a mask, or 0.
        patches: That the vision tower computes.
        pixel_bytes: Of the images.
    """

    tokens: int
    row_tokens: int
    scored: int
    seen: int
    padded_to: int
    patches: int
    pixel_bytes: int

    @property
    def is_packed(self) -> bool:
        """Whether prompts are computed once for all of their rows."""
        return self.seen > 0


def why_not_shared(config: Any, args: ShareGRPOConfig, model_args: ModelConfig) -> str | None:
    """Say why the run will train every row by itself, or return None if rows will share their prompts.

    Args:
        config: The model's config.
        args, model_args: The run's settings.

    Raises:
        UserError: They must, by `shared_prefix: on`, and cannot.
    """
    if args.shared_prefix == "off":
        return "shared_prefix is off"
    if args.shared_prefix == "auto" and args.num_variants == 1:
        return "plain GRPO shares prompts with --shared_prefix on only"
    reason = why_not_family(config, model_args.attn_implementation or "sdpa") or why_not_settings(args, config)
    if reason is not None and args.shared_prefix == "on":
        raise cannot_be_on(reason)
    return reason


def pass_size(
    batch: BatchPlan, prompt: PromptSize, args: ShareGRPOConfig, *, shares: bool, needs_mask: bool, hidden_size: int
) -> PassSize:
    """Measure a micro-batch whose prompts and responses are all as long as they get.

    Args:
        batch: The run's batches.
        prompt: Its prompts.
        args: The training settings.
        shares: Whether rows share their prompts.
        needs_mask: Whether the attention implementation masks padding by a tensor.
        hidden_size: Of the decoder.
    """
    rows, prompts = batch.micro_batch, batch.prompts_per_micro_batch
    length = prompt.tokens + args.max_completion_length
    scored = rows * args.max_completion_length
    packed = prompts * (prompt.tokens - 1) + scored
    pays = sharing_pays(
        _spans(rows, prompts, prompt.tokens - 1, args.max_completion_length),
        rows,
        length,
        padded=rows > 1,
        hidden_size=hidden_size,
    )
    if shares and (args.shared_prefix == "on" or pays):
        seen = rows * (prompt.tokens - 1 + args.max_completion_length)
        return PassSize(packed, rows * length, scored, seen, 0, prompts * prompt.patches, prompts * prompt.pixel_bytes)
    padded_to = length if needs_mask and rows > 1 else 0
    return PassSize(
        rows * length, rows * length, scored, 0, padded_to, rows * prompt.patches, rows * prompt.pixel_bytes
    )


def _spans(rows: int, prompts: int, prefix: int, response: int) -> list[PromptSpan]:
    """Lay out prompts that have the rows between them, as evenly as may be."""
    spans: list[PromptSpan] = []
    for index in range(prompts):
        responses = rows // prompts + (index < rows % prompts)
        spans.append(PromptSpan(spans[-1].stop if spans else 0, prefix, (response,) * responses))
    return spans
