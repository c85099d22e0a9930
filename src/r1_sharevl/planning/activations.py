"""Bytes that a forward pass keeps for the backward pass, and what it needs while it runs.

Counted from transformers 5's modelling files (qwen2_vl, qwen2_5_vl, qwen3_vl) operation by operation: which tensors
autograd saves. The tests measure the same with `torch.autograd.graph.saved_tensors_hooks` on real models. `h` below is
the width of the residual stream; one saved tensor of a token is its width times the bytes of its dtype.
"""

from dataclasses import dataclass

from .shapes import LanguageShape, VisionShape

LANGUAGE_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Precision:
    """Bytes per number.

    Attributes:
        stored: Of the model's dtype, which is also the residual stream's.
        compute: Of matrix products: 2 under bf16 or fp16 autocast, else as stored.
    """

    stored: int
    compute: int


@dataclass(frozen=True)
class LoraCost:
    """What makes an adapter cost activations.

    Attributes:
        rank: Of the adapters.
        stored: Bytes per number of the adapter's dtype.
        dropout: Whether the adapters drop inputs.
        targets: Names of the adapted linear layers, among `LANGUAGE_LINEARS`.
        mask_bytes: Bytes per number of a dropout mask: 1 (bool) on CUDA; on a CPU the input's dtype.
    """

    rank: int
    stored: int
    dropout: bool
    targets: tuple[str, ...] = LANGUAGE_LINEARS
    mask_bytes: int = 1


def decoder_layer(
    shape: LanguageShape, precision: Precision, *, trained: bool, lora: LoraCost | None = None, padded_to: int = 0
) -> float:
    """Bytes saved per token by one decoder layer.

    Args:
        shape: The language model.
        precision: Dtypes.
        trained: Whether the layer's own weights have gradients; without, a linear layer keeps no input.
        lora: Adapters on the layer.
        padded_to: Length of the padded rows when attention needs a mask (SDPA with padding), 0 for none: keys and
            values are then repeated for every query head (`use_gqa_in_sdpa`), and each layer makes the boolean mask a
            float one.
    """
    store, compute = precision.stored, precision.compute
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * _rms_norm(shape.hidden, store, trained)
    if shape.qk_norm:
        norms += _rms_norm(queries, compute, trained) + _rms_norm(keys, compute, trained)
    # The output of a norm is one tensor for all the linear layers that read it, unless each casts its own copy.
    readers = 5 if store != compute else 2
    inputs = readers * compute * shape.hidden if trained else 0
    heads = queries + 2 * (queries if padded_to else keys)
    attention = compute * (heads + queries) + 4 * shape.heads + compute * padded_to  # output; log-sum-exp; mask
    # silu keeps gate; the product keeps silu's result and up; down_proj keeps its input.
    mlp = compute * shape.mlp * (4 if trained else 3)
    return norms + inputs + attention + mlp + _lora(shape, precision, lora)


def _rms_norm(width: int, stored: int, trained: bool) -> float:
    # It computes in float32 whatever comes in: the float32 input (the residual itself, if that is float32) is kept, the
    # normalised value if the weight is trained, and one number per token.
    return 4 * width + (stored * width if trained else 0) + 4


def _lora(shape: LanguageShape, precision: Precision, lora: LoraCost | None) -> float:
    """peft's `Linear.forward`: input → dropout → A → B; the input is cast to A's dtype, the product to autocast's."""
    if lora is None:
        return 0
    queries = shape.heads * shape.head_dim
    widths = {"o_proj": queries, "down_proj": shape.mlp}
    total = 0.0
    for name in lora.targets:
        width = widths.get(name, shape.hidden)
        if lora.dropout:
            total += (lora.mask_bytes + precision.compute) * width
        elif lora.stored != precision.compute or name in ("q_proj", "gate_proj", "o_proj", "down_proj"):
            total += precision.compute * width  # without dropout and casts, the readers of one tensor share it
        total += precision.compute * lora.rank
    return total


def vision_block(shape: VisionShape, precision: Precision) -> float:
    """Bytes saved per patch by one trained vision block.

    The rotary embedding computes in float32 and casts back, so queries and keys are kept beside the fused projection;
    the attention of the windows is concatenated, so its result is kept twice.
    """
    store, compute, h = precision.stored, precision.compute, shape.hidden
    casts = store != compute
    if shape.gated:
        norms = 2 * _rms_norm(h, store, True)
        inputs = (1 + (2 if casts else 1)) * compute * h
        mlp = 4 * compute * shape.mlp
    else:
        norms = 2 * (4 * h + 8)  # LayerNorm runs in float32 under autocast: input, mean, deviation
        inputs = 2 * compute * h
        mlp = 2 * compute * shape.mlp
    attention = compute * h * (3 + 2 + 2) + 4 * shape.heads
    return norms + inputs + attention + mlp


def decoder_working_set(shape: LanguageShape, precision: Precision) -> float:
    """Bytes per token that a decoder layer needs at its worst while it runs without gradients.

    In the MLP: silu's result, up, their product; beside them the residual stream twice and its normalised copy.
    """
    return 3 * precision.compute * shape.mlp + shape.hidden * (2 * precision.stored + precision.compute)


def two_part_attention(
    shape: LanguageShape, precision: Precision, *, tokens: int, scored: int, seen: int, grouped: bool = True
) -> float:
    """Bytes that a decoder layer keeps over packed rows beyond `decoder_layer` without padding.

    The keys and values that each response sees are copied into a rectangle, and so are its queries where responses
    differ in length; the pieces of the result are joined.

    Args:
        shape: The language model.
        precision: Dtypes.
        tokens: Of the packed rows.
        scored: Of the responses.
        seen: Keys that the responses' tokens see, added up over the responses.
        grouped: Whether the kernels take fewer key and value heads than query heads; without, they are repeated first.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    repeated = 0 if grouped else 2 * tokens * (queries - keys)
    copied = scored * queries + 2 * seen * (keys if grouped else queries)
    return precision.compute * (tokens * queries + repeated + copied)


def two_part_working_set(
    shape: LanguageShape, precision: Precision, *, tokens: int, scored: int, seen: int, grouped: bool = True
) -> float:
    """Bytes that attention over packed rows needs at its worst while it runs without gradients.

    Queries, keys and values, their copies, and the pieces of the result; beside them the residual stream twice. See
    `two_part_attention` for the arguments.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    own = tokens * (queries + 2 * keys)
    kept = two_part_attention(shape, precision, tokens=tokens, scored=scored, seen=seen, grouped=grouped)
    return precision.compute * (own + scored * queries) + kept + tokens * shape.hidden * 2 * precision.stored


def decoder_backward(shape: LanguageShape, precision: Precision) -> float:
    """Bytes per token of the gradients alive at the worst moment of a layer's backward pass.

    In the MLP: those of the product and of one of its factors; beside them that of the residual stream.
    """
    return 2 * precision.compute * shape.mlp + precision.stored * shape.hidden


def vision_working_set(shape: VisionShape, precision: Precision) -> float:
    """Bytes per patch that a vision block needs at its worst while it runs without gradients."""
    mlp = (3 if shape.gated else 2) * precision.compute * shape.mlp
    # Attention: the fused projection, queries and keys in float32 before and after the rotation, and their casts.
    attention = shape.hidden * (3 * precision.compute + 4 * 4 + 2 * precision.compute)
    return max(mlp, attention) + shape.hidden * (2 * precision.stored + precision.compute)
