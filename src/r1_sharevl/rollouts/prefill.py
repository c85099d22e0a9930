"""Computes each distinct prompt once before rows are generated from it, however many responses it gets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from ..shared_prefix.forward import packed_inputs
from ..shared_prefix.images import PreparedImages
from ..shared_prefix.packing import PromptSpan
from ..shared_prefix.support import SharedModel
from ..shared_prefix.vision import shown_images

_ORDINARY: dict[str, tuple[Any, ...]] = {
    "use_cache": (None, True),
    "cache_implementation": (None,),
    "prefill_chunk_size": (None,),
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "token_healing": (None, False),
    "penalty_alpha": (None, 0.0),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "assistant_early_exit": (None,),
}
"""Settings of generation that decide on the cache or on the loop over tokens, and the values that go with a prefill."""


@dataclass(frozen=True)
class Prefill:
    """Rows whose prompts are in the cache already, but for their last tokens.

    Attributes:
        inputs: Keyword arguments of `generate`: `input_ids` and `attention_mask`, padded on the left, shape `(B, P)`;
            `position_ids`, shape `(B, P)` or `(axes, B, P)`; `past_key_values`, P - 1 long.
        tokens: How many positions were computed; none of them is padding.
    """

    inputs: dict[str, Any]
    tokens: int


def why_no_prefill(model: SharedModel, config: GenerationConfig) -> str | None:
    """Say why rows cannot be generated from prompts that were computed before, or return None if they can.

    Args:
        model: The model.
        config: Of the generation, with the model's defaults where it leaves something open.
    """
    if model.attends_densely:
        return "attn_implementation eager would compute all pairs of tokens of all prompts"
    for name, ordinary in _ORDINARY.items():
        value = getattr(config, name, None)
        if value not in ordinary:
            return f"a cache that is filled before does not go with {name}={value!r} of the generation"
    return None


def prefill(
    model: SharedModel,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[Sequence[int]],
    images: PreparedImages,
    *,
    padding_token: int,
    multiple_of: int | None = None,
    device: torch.device,
) -> Prefill:
    """Compute the distinct prompts of rows in one pass, without padding, and fill a cache for all rows with them.

    The prompts stand behind each other in one sequence, without their last tokens; each image is encoded once. Which
    pass `generate` makes then, over the last tokens, gives the logits of the first new ones.

    Args:
        model: The model, without gradients; its decoder uses two-part attention (see `two_part_attention_in`).
        prompts: Token ids of each row.
        numbers: The images of each row, as indices of `images`.
        images: What the numbers point at.
        padding_token: Fills the rows on the left.
        multiple_of: Their length is rounded up to a multiple of it.
        device: Of the pass.
    """
    keys = [(tuple(ids), tuple(own)) for ids, own in zip(prompts, numbers, strict=True)]
    distinct = list(dict.fromkeys(keys))
    spans: list[PromptSpan] = []
    for ids, _ in distinct:
        spans.append(PromptSpan(spans[-1].stop if spans else 0, len(ids) - 1, ()))
    positions = [model.positions(torch.tensor(ids), images.grids[list(own)]) for ids, own in distinct]
    cache = _packed_cache(model, distinct, spans, positions, images, device)

    longest = max(map(len, prompts))
    width = longest if multiple_of is None else -(-longest // multiple_of) * multiple_of
    input_ids = torch.full((len(keys), width), padding_token)
    attention_mask = torch.zeros(len(keys), width, dtype=torch.long)
    position_ids = torch.zeros(model.axes, len(keys), width, dtype=torch.long)
    places = torch.zeros(len(keys), width - 1, dtype=torch.long)  # padded ones hold any token: the mask hides it
    index_of = {key: index for index, key in enumerate(distinct)}
    for row, key in enumerate(keys):
        index, padding = index_of[key], width - len(key[0])
        input_ids[row, padding:] = torch.tensor(key[0])
        attention_mask[row, padding:] = 1
        position_ids[:, row, padding:] = positions[index]
        places[row, padding:] = torch.arange(spans[index].start, spans[index].stop)
    inputs: dict[str, Any] = {
        "input_ids": input_ids.to(device),
        "attention_mask": attention_mask.to(device),
        "position_ids": (position_ids if model.axes > 1 else position_ids[0]).to(device),
    }
    if cache is not None:
        inputs["past_key_values"] = _rows_of(cache, places.to(device))
    return Prefill(inputs, spans[-1].stop)


def _packed_cache(
    model: SharedModel,
    prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    spans: Sequence[PromptSpan],
    positions: Sequence[torch.Tensor],
    images: PreparedImages,
    device: torch.device,
) -> DynamicCache | None:
    """Run distinct prompts, given by their tokens and images, through the model; None if all have one token."""
    tokens = torch.tensor([token for ids, _ in prompts for token in ids[:-1]])
    if not len(tokens):
        return None
    packed = torch.cat([own[:, :-1] for own in positions], dim=1)
    cache = DynamicCache(config=model.decoder.config)
    shown = [number for _, own in prompts for number in own]
    with shown_images(model.tower, images, shown, device) as fields:
        model.network(
            **packed_inputs(model, tokens, packed, spans, device),
            **fields,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,  # nobody reads them
        )
    return cache


def _rows_of(packed: DynamicCache, places: torch.Tensor) -> DynamicCache:
    """Take the tokens at `places`, shape `(B, P)`, out of the cache of a packed sequence, and empty it."""
    rows = DynamicCache()
    for index, layer in enumerate(packed.layers):
        keys, values = (states[0][:, places].transpose(0, 1) for states in (layer.keys, layer.values))
        rows.update(keys, values, index)  # (B, key_value_heads, P, head_dim)
        layer.keys = layer.values = None  # `reset` keeps the memory in some versions of transformers
    return rows
