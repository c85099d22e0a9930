"""The sizes of a model that decide what a token costs, read from its config."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LanguageShape:
    """A decoder of gated MLPs and grouped-query attention.

    Attributes:
        hidden: Width of the residual stream.
        mlp: Width of the MLP.
        layers: Decoder layers.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        vocabulary: Rows of the output head.
        qk_norm: Whether queries and keys are normalised per head.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    qk_norm: bool


@dataclass(frozen=True)
class VisionShape:
    """A vision transformer.

    Attributes:
        hidden: Width of the residual stream.
        mlp: Width of the MLP.
        layers: Blocks.
        heads: Attention heads.
        gated: Whether the MLP is gated (Qwen2.5-VL) or has two layers.
        patch: Side of a patch in pixels.
        merge: Patches per side that become one image token.
        numbers_per_patch: Numbers of `pixel_values` in one patch.
    """

    hidden: int
    mlp: int
    layers: int
    heads: int
    gated: bool
    patch: int
    merge: int
    numbers_per_patch: int


def language_shape(config: Any) -> LanguageShape:
    """Read the language model's sizes from a (multimodal) config."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    return LanguageShape(
        hidden=text.hidden_size,
        mlp=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=text.vocab_size,
        qk_norm=text.model_type.startswith(("qwen3", "gemma3")),
    )


def vision_shape(config: Any) -> VisionShape | None:
    """Read the vision tower's sizes from a config, or None for a text model."""
    vision = getattr(config, "vision_config", None)
    if vision is None:
        return None
    hidden: Any = (
        getattr(vision, "embed_dim", None) or vision.hidden_size
    )  # Qwen2-VL: hidden_size is the language model's
    patch = _side(vision.patch_size)
    frames = _side(getattr(vision, "temporal_patch_size", 1) or 1)
    channels: Any = getattr(vision, "in_channels", None) or getattr(vision, "num_channels", 3)
    depth: Any = getattr(vision, "depth", None)  # Qwen's name; not every transformers has the alias
    return VisionShape(
        hidden=hidden,
        mlp=int(getattr(vision, "intermediate_size", None) or hidden * getattr(vision, "mlp_ratio", 4)),
        layers=vision.num_hidden_layers if depth is None else depth,
        heads=vision.num_attention_heads,
        gated=vision.model_type.startswith("qwen2_5_vl"),
        patch=patch,
        merge=getattr(vision, "spatial_merge_size", 1) or 1,
        numbers_per_patch=channels * frames * patch * patch,
    )


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[-1])
