"""A pass through the model over packed rows."""

from collections.abc import Sequence
from typing import Any

import torch

from .attention import SharedPrefix, dense_mask
from .images import PreparedImages
from .packing import PackedRows, pack
from .support import SharedModel
from .vision import images_once


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
    distinct = sorted(set(shown))
    inputs: dict[str, Any] = {
        "input_ids": packed.tokens[None].to(device),
        "position_ids": packed.positions[:, None].to(device) if model.axes > 1 else packed.positions.to(device),
        "shift_labels": packed.labels[None].to(device),
        "fused_lm_head": True,
        **images.fields(distinct, device, shown=shown),
    }
    if dense:
        inputs["attention_mask"] = model.mask(dense_mask(packed.spans, device))
    else:
        # A mask of four dimensions passes through the model as it is, so that none is made. Two-part attention ignores
        # it; any other would fail over its shape instead of attending wrongly.
        inputs["attention_mask"] = torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=device)
        inputs["shared_prefix"] = SharedPrefix(packed.spans, device)
    called = model.network if forward is None else forward
    if distinct:
        assert model.tower is not None  # noqa: S101
        with images_once(model.tower, images.grids[distinct], [distinct.index(index) for index in shown]):
            outputs = called(**inputs)
    else:
        outputs = called(**inputs)
    entropy = None if outputs.entropy is None else packed.scatter(outputs.entropy[0])
    return packed.scatter(outputs.log_probs[0]), entropy
