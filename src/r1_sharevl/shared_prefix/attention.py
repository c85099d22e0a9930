"""Attention over packed rows: every response sees its prompt and itself, and nothing else.

Two ways compute the same. *Two-part attention* runs the shared prefixes, and then the responses over [prefix, own]; it
is chosen by name through transformers' registry of attention functions, so no modelling code is patched or copied. The
*dense mask* goes through the model's own attention; it costs T x T and serves as a fallback and as the tests' oracle.
The idea of the former is that of Prefix Grouper (arXiv 2506.05433).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .packing import PromptSpan

TWO_PART = "r1_sharevl_two_part"
"""Name of the attention function in transformers' registry."""


@dataclass(frozen=True, eq=False)
class _Responses:
    """The responses of a prompt as a rectangle of R rows and C columns, padded on the right.

    Attributes:
        part: Where they stand in the packed sequence.
        prefix: Number of tokens in front of each.
        count, width: R and C.
        places: Index within `part` of each of the R * C; a padded one repeats the last. None if all are equally long,
            shape `(R * C,)`.
        real: Which of the R * C are no padding, shape `(N,)`; None if all are equally long.
        masks: Those written down so far, by device.
    """

    part: slice
    prefix: int
    count: int
    width: int
    places: torch.Tensor | None
    real: torch.Tensor | None
    masks: dict[torch.device, torch.Tensor] = field(default_factory=dict)

    def mask(self, device: torch.device) -> Any:
        """Which of [prefix, own] each column sees, shape `(C, prefix + C)`.

        Padding stands behind all real tokens of its response, so causality alone keeps it from being seen.
        """
        shape = self.width, self.prefix + self.width
        if device.type == "cuda":
            return causal_lower_right(*shape)  # flash needs no mask written down
        if device not in self.masks:  # once for all layers
            self.masks[device] = torch.ones(shape, dtype=torch.bool, device=device).tril(self.prefix)
        return self.masks[device]

    def rectangle(self, states: torch.Tensor) -> torch.Tensor:
        """Take the responses out of `(1, heads, T, head_dim)` into `(R, heads, C, head_dim)`."""
        part = states[0, :, self.part]
        if self.places is not None:
            part = part.index_select(1, self.places.to(states.device))
        return part.unflatten(1, (self.count, -1)).transpose(0, 1)

    def line(self, rectangle: torch.Tensor) -> torch.Tensor:
        """Undo `rectangle`, shape `(1, heads, N, head_dim)`."""
        states = rectangle.transpose(0, 1).flatten(1, 2)
        return (states if self.real is None else states.index_select(1, self.real.to(states.device)))[None]


class SharedPrefix:
    """What attention must know of a packed sequence. It travels through the model's forward as a keyword argument.

    Args:
        spans: Of the packed sequence, without gaps.
        device: Of the pass. Layers on other devices copy what they need.
    """

    def __init__(self, spans: Sequence[PromptSpan], device: torch.device) -> None:
        self.spans = tuple(spans)
        self.responses = [_responses(span, device) for span in spans]


def _responses(span: PromptSpan, device: torch.device) -> _Responses | None:
    if not span.responses:
        return None
    count, width = len(span.responses), max(span.responses)
    part = slice(span.start + span.prefix, span.stop)
    if min(span.responses) == width:
        return _Responses(part, span.prefix, count, width, None, None)
    lengths, columns = torch.tensor(span.responses), torch.arange(width)
    starts = lengths.cumsum(0) - lengths
    places = (starts[:, None] + torch.minimum(columns, lengths[:, None] - 1)).flatten()
    real = (columns < lengths[:, None]).flatten().nonzero()[:, 0]
    return _Responses(part, span.prefix, count, width, places.to(device), real.to(device))


def two_part_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within packed rows. Without `shared_prefix` this is transformers' `sdpa`.

    Args:
        module: The attention layer.
        query: Shape `(1, heads, T, head_dim)`.
        key, value: Shape `(1, key_value_heads, T, head_dim)`.
        attention_mask: Of ordinary rows; ignored for packed ones.
        dropout: Probability of dropping an attention weight.
        scaling: Of the scores; `1 / sqrt(head_dim)` where None.
        shared_prefix: Describes the packed sequence.
        kwargs: Further arguments of transformers' attention functions.

    Returns:
        Shape `(1, T, heads, head_dim)`, and None for the weights.
    """
    if shared_prefix is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    kind = query.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        # Rotary positions made float32 of queries and keys. Autocast's list has the attention but not its causal bias,
        # which compares the types first.
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    grouped = query.shape[1] != key.shape[1]
    if grouped and not _takes_grouped_heads(query, key, value, dropout):
        groups, grouped = query.shape[1] // key.shape[1], False
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    settings: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": grouped}
    parts = []
    for span, responses in zip(shared_prefix.spans, shared_prefix.responses, strict=True):
        prefix = slice(span.start, span.start + span.prefix)
        shared = key[:, :, prefix], value[:, :, prefix]
        if span.prefix:
            parts.append(scaled_dot_product_attention(query[:, :, prefix], *shared, is_causal=True, **settings))
        if responses is None:
            continue
        keys, values = (
            torch.cat([states.expand(responses.count, -1, -1, -1), responses.rectangle(own)], dim=2)
            for states, own in zip(shared, (key, value), strict=True)
        )  # (R, key_value_heads, prefix + C, head_dim)
        own_query = responses.rectangle(query)  # (R, heads, C, head_dim)
        out = scaled_dot_product_attention(own_query, keys, values, attn_mask=responses.mask(query.device), **settings)
        parts.append(responses.line(out))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _takes_grouped_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """Whether torch's fast kernels take fewer key and value heads than query heads, which saves copies of them.

    On CPUs they do, with a mask, too. On GPUs only flash does; without it, all of the scores would be written down.
    """
    if query.device.type == "cuda":
        return bool(can_use_flash_attention(SDPAParams(query, key, value, None, dropout, True, True)))
    return query.device.type == "cpu"


def dense_mask(spans: Sequence[PromptSpan], device: torch.device) -> torch.Tensor:
    """Write down who sees whom in a packed sequence.

    Returns:
        True where the query (third axis) sees the key (fourth), shape `(1, 1, T, T)`.
    """
    prompt, response = [], []
    for number, span in enumerate(spans):
        prompt += [number] * (span.stop - span.start)
        response += [0] * span.prefix
        for index, length in enumerate(span.responses, start=1):
            response += [index] * length
    prompts, responses = torch.tensor(prompt, device=device), torch.tensor(response, device=device)
    order = torch.arange(len(prompts), device=device)
    sees = (prompts[:, None] == prompts) & (order <= order[:, None])
    sees &= (responses == 0) | (responses == responses[:, None])
    return sees[None, None]


AttentionInterface.register(TWO_PART, two_part_attention)
# Without a mask function under the same name, ordinary padded rows would silently lose their mask.
AttentionMaskInterface.register(TWO_PART, sdpa_mask)


@contextmanager
def two_part_attention_in(decoder: torch.nn.Module) -> Iterator[None]:
    """Let the layers of a decoder use two-part attention, and what they used before afterwards.

    It must last until the backward pass is over: gradient checkpointing runs the layers again there.
    """
    configs = list(_configs_in(decoder))
    before = [config._attn_implementation for config in configs]
    for config in configs:
        config._attn_implementation = TWO_PART
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _configs_in(decoder: torch.nn.Module) -> Iterator[PretrainedConfig]:
    """Give each config once; there are several where peft copied a layer for `modules_to_save`, config and all."""
    seen = set()
    for module in decoder.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig) and id(config) not in seen:
            seen.add(id(config))
            yield config
