"""Estimates whether packed rows cost less than the same rows by themselves."""

from collections.abc import Sequence

from .packing import PromptSpan

WORTHWHILE = 0.9
"""Largest share of the rows' cost at which they are packed: below it the gain is more than noise."""

TOKENS_PER_PROMPT = 16
"""What a prompt's own calls of the attention kernels cost: 8 to 12 tokens were measured on a CPU at hidden size 384."""


def sharing_pays(spans: Sequence[PromptSpan], rows: int, width: int, *, padded: bool, hidden_size: int) -> bool:
    """Estimate from shapes whether a forward and backward pass over packed rows costs less than over ordinary ones.

    Costs are counted in tokens. A layer has about `12 h²` weights (`24 h²` operations per token), and a query that sees
    a key costs `4 h` operations: `6 h` such pairs are one token. Ordinary rows of equal length attend causally and
    compute half of their pairs. With padding there is a mask, and they compute all. Packed, a response computes its
    prompt and all of its own rectangle. What the vision tower saves is left out, so that the estimate errs on the side
    of ordinary rows.

    Args:
        spans: The packed sequence.
        rows: Number of ordinary rows.
        width: Their length, with padding.
        padded: Whether any of them has padding.
        hidden_size: Of the decoder, `h`.
    """
    pairs_per_token = 6 * hidden_size
    tokens, pairs = 0, 0.0
    for span in spans:
        columns = max(span.responses, default=0)
        tokens += span.stop - span.start + TOKENS_PER_PROMPT
        pairs += span.prefix**2 / 2 + len(span.responses) * columns * (span.prefix + columns)
    packed = tokens + pairs / pairs_per_token
    ordinary = rows * width + rows * width**2 * (1.0 if padded else 0.5) / pairs_per_token
    return packed <= WORTHWHILE * ordinary
