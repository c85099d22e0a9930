"""A pass through the model over packed rows."""

from collections.abc import Sequence
from typing import Any

import torch

from .attention import SharedPrefix, dense_mask
from .images import PreparedImages
from .packing import PackedRows, PromptSpan, pack
from .support import SharedModel
from .vision import shown_images


def pack_rows(
    model: SharedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    completion_length: int,
    image_index: torch.Tensor,
    images: PreparedImages,
) -> PackedRows:
    """Pack rows with the positions that `model` gives their prompts; see `packing.pack` for the arguments."""

    def positions_of(prompt: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
        return model.positions(prompt, images.grids[list(indices)])

    return pack(input_ids, attention_mask, completion_length, image_index, positions_of)


def packed_inputs(
    model: SharedModel,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    spans: Sequence[PromptSpan],
    device: torch.device,
) -> dict[str, Any]:
    """Make the model's keyword arguments for a packed sequence without images, for two-part attention.

    Args:
        model: The model.
        tokens: Shape `(T,)`.
        positions: Shape `(axes, T)`.
        spans: Of the sequence.
        device: Of the pass.
    """
    return {
        "input_ids": tokens[None].to(device),
        "position_ids": (positions[:, None] if model.axes > 1 else positions).to(device),
        # A mask of four dimensions passes through the model as it is, so that none is made. Two-part attention ignores
        # it; any other would fail over its shape instead of attending wrongly.
        "attention_mask": torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=device),
        "shared_prefix": SharedPrefix(spans, device),
    }


def packed_log_probs(
    model: SharedModel,
    packed: PackedRows,
    image_index: torch.Tensor,
    images: PreparedImages,
    *,
    forward: Any = None,
    device: torch.device,
    dense: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the model once over packed rows.

    Args:
        model: The model; its decoder uses two-part attention (see `two_part_attention_in`) unless `dense`.
        packed: The rows.
        image_index: Index of each image of a row, padded by -1, shape `(B, I)`.
        images: What the indices point at.
        forward: What is called, such as the model wrapped in DDP; the model itself where None. It has TRL's fused head.
        device: Of the pass.
        dense: Whether to use the dense mask.

    Returns:
        Log-probabilities of the completions' tokens, shape `(B, C)`, and entropies, if the fused head computes them. 0
        where a row has no token.
    """
    shown = [index for row in packed.first_rows for index in image_index[row].tolist() if index >= 0]
    inputs = packed_inputs(model, packed.tokens, packed.positions, packed.spans, device)
    if dense:
        del inputs["shared_prefix"]
        inputs["attention_mask"] = model.mask(dense_mask(packed.spans, device))
    with shown_images(model.tower, images, shown, device) as fields:
        outputs = (model.network if forward is None else forward)(
            **inputs, **fields, shift_labels=packed.labels[None].to(device), fused_lm_head=True
        )
    entropy = None if outputs.entropy is None else packed.scatter(outputs.entropy[0])
    return packed.scatter(outputs.log_probs[0]), entropy
