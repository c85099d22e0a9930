"""Cuts a generation batch into micro-batches whose rows share prompts."""

from typing import Any

import torch

from ..shared_prefix.packing import prompt_numbers

PER_BATCH = ("distinct_images",)
"""Keys of a generation batch that do not have one entry per row; every micro-batch refers to the same object."""


def micro_batches(rows: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Cut a generation batch into micro-batches of equal size, in a random order that keeps prompts together.

    Whole prompts are shuffled, and the rows within each. A prompt is cut only where a micro-batch ends. The order comes
    from torch's global generator, which a checkpoint keeps.

    A loss that divides by the number of rows (`grpo`, `sapo`, `luspo`, `dr_grpo`) or by the tokens of the generation
    batch (`dapo`, `cispo`, `vespo`) gives an optimizer step the same gradient whichever of its rows share a
    micro-batch. What TRL defines over a micro-batch is computed over the rows that now stand in it: `bnpo` and the
    entropy bonus are means over its tokens, and `top_entropy_quantile` takes its threshold from them.

    Args:
        rows: As `_generate_and_score_completions` returns them, with `image_index`; tensors have one entry per row, or
            no axis at all.
        count: How many micro-batches; divides the number of rows, as TRL demands.

    Returns:
        One dictionary per micro-batch.
    """
    numbers = torch.tensor(prompt_numbers(rows["prompt_ids"], rows["prompt_mask"], rows["image_index"]))
    prompts = [(numbers == number).nonzero()[:, 0] for number in range(int(numbers.max()) + 1)]
    order = torch.cat([prompts[index][torch.randperm(len(prompts[index]))] for index in torch.randperm(len(prompts))])
    return [
        {name: value if _is_shared(name, value) else value[chosen] for name, value in rows.items()}
        for chosen in order.view(count, -1)
    ]


def _is_shared(name: str, value: Any) -> bool:
    return value is None or name in PER_BATCH or value.ndim == 0
