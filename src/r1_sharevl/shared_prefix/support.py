"""Which models can share the prefix of their responses, and what must be known of them."""

from typing import Any

import torch
from peft import PeftModel, PeftType
from transformers import PretrainedConfig, PreTrainedModel

from ..errors import UserError

VISION_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
"""Model types whose positions have three axes and whose images come as patches with a grid."""

TEXT_FAMILIES = ("qwen2", "qwen3", "llama", "mistral")
"""Model types of decoders without images."""

_PLAIN_ATTENTION = ("sdpa", "eager", "flex_attention")


def why_not(model: torch.nn.Module) -> str | None:
    """Say why the responses to a prompt cannot share its tokens in this model, or return None if they can.

    Args:
        model: The model or its PEFT wrapper, taken out of DDP and the like.
    """
    network = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(network, PreTrainedModel) or not type(network).__module__.startswith("transformers."):
        return f"{type(network).__name__} is not a model of transformers itself, so its attention is not known"
    reason = why_not_family(network.config, network.get_decoder().config._attn_implementation)
    if reason is None and isinstance(model, PeftModel):
        reason = next(filter(None, map(_why_not_adapter, model.peft_config.values())), None)
    return reason


def why_not_family(config: PretrainedConfig, attention: str = "sdpa") -> str | None:
    """Say the same from a model's config alone.

    Args:
        config: Of the whole model.
        attention: The decoder's `attn_implementation`. Packed rows do not use it, but it must compute the same.
    """
    kind = config.model_type
    if kind not in (*VISION_FAMILIES, *TEXT_FAMILIES):
        return (
            f"the model family {kind} is not known to share prefixes "
            f"({', '.join((*VISION_FAMILIES, *TEXT_FAMILIES))} are)"
        )
    text = config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kind == "mistral" and text.sliding_window is not None:  # this config does not list the kinds of its layers
        layers = {"sliding_attention"}
    if layers != {"full_attention"}:
        return f"the model has layers with {', '.join(sorted(layers - {'full_attention'}))}"
    rope = (text.rope_parameters or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        return f"the model's {rope} positions depend on the longest row of a pass"
    if attention not in _PLAIN_ATTENTION and "flash" not in attention:
        return f"attn_implementation {attention} is not known to compute what sdpa computes: use sdpa"
    return None


def why_not_settings(args: Any, config: PretrainedConfig) -> str | None:
    """Say which of a run's settings stands against it, or return None.

    Args:
        args: The training arguments.
        config: Of the whole model.
    """
    if args.torch_compile:
        return "torch_compile compiles anew for every number of prompts and responses in a pass"
    if args.neftune_noise_alpha is not None:
        return "the noise of neftune_noise_alpha depends on the length of a row"
    text = config.get_text_config()
    weight = args.router_aux_loss_coef
    weight = getattr(text, "router_aux_loss_coef", 0.0) if weight is None else weight
    if hasattr(text, "output_router_logits") and (weight or text.output_router_logits):
        return (
            "the load-balancing loss of a mixture of experts counts every row's tokens (router_aux_loss_coef 0 leaves "
            "it out, where the model's config does not have output_router_logits true)"
        )
    return None


def cannot_be_on(reason: str) -> UserError:
    """Make the error of a run with `shared_prefix: on` that cannot share.

    Args:
        reason: From one of the functions above.
    """
    return UserError(f"shared_prefix cannot be on: {reason}; leave it at auto to train ordinary rows")


def _why_not_adapter(adapter: Any) -> str | None:
    if adapter.peft_type != PeftType.LORA:
        return f"adapters of the type {PeftType(adapter.peft_type).value} are not known to see every token by itself"
    if adapter.alora_invocation_tokens is not None:
        return "an activated LoRA looks for its invocation tokens once per row"
    return None


def base_model(model: Any) -> PreTrainedModel:
    """Take a model out of its adapters."""
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(found, PreTrainedModel)  # noqa: S101
    return found


class SharedModel:
    """A model of a family that `why_not` does not object to.

    Args:
        model: The model or its PEFT wrapper, taken out of DDP and the like.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.network = base_model(model)
        self.decoder = self.network.get_decoder()
        self.is_visual = self.network.config.model_type in VISION_FAMILIES
        self.axes = 3 if self.is_visual else 1

    @property
    def tower(self) -> torch.nn.Module | None:
        """The vision tower."""
        return self.network.base_model.visual if self.is_visual else None

    @property
    def attends_densely(self) -> bool:
        """Whether only the dense mask goes with the model's attention."""
        return bool(self.decoder.config._attn_implementation == "eager")

    def mask(self, sees: torch.Tensor) -> torch.Tensor:
        """Turn a boolean mask into what the model's attention takes."""
        if not self.attends_densely:
            return sees
        dtype = self.network.dtype
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)

    def positions(self, prompt: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """Give the positions of a prompt's tokens.

        Args:
            prompt: Token ids, shape `(P,)`.
            grids: Patches of its images, shape `(I, 3)`.

        Returns:
            Shape `(axes, P)`. A response goes on from the largest one on all axes.
        """
        if not self.is_visual or not len(grids):
            return torch.arange(len(prompt)).expand(self.axes, -1)
        kinds = (prompt == self.network.config.image_token_id).int()
        found, _ = self.network.base_model.get_rope_index(
            prompt[None], mm_token_type_ids=kinds[None], image_grid_thw=grids
        )
        positions: torch.Tensor = found[:, 0]
        return positions
