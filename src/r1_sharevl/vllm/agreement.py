"""Whether vLLM and the trainer give a response the same probability, as one model reading one prompt does."""

import math

import torch

from ..errors import RunError


def gap_sums(trainer: torch.Tensor, sampling: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum `|log π_trainer − log π_vLLM|` over the tokens that vLLM sampled.

    Args:
        trainer: Log-probabilities by the trainer's model, shape `(B, T)`.
        sampling: Those that vLLM reported, shape `(B, T)`; NaN where it reported none (shared pairs).
        mask: 1 for the tokens of responses, shape `(B, T)`.

    Returns:
        Shape `(2,)`: the sum in nats, and the number of tokens.
    """
    counted = mask.bool() & ~torch.isnan(sampling)
    gaps = (trainer.detach() - sampling)[counted].abs().double()
    return torch.stack([gaps.sum(), counted.sum().double()])


def check_gap(gap: float, limit: float, *, top_p: float = 1.0) -> None:
    """Stop a run whose responses are not those of the model that is trained.

    Args:
        gap: Mean absolute difference per token, in nats.
        limit: `max_vllm_logprob_gap`.
        top_p: That of sampling, where vLLM reports log-probabilities from after it: it raises them by up to
            `-log(top_p)`, which is no error.

    Raises:
        RunError: The gap is not a number, or above the limit.
    """
    allowed = limit - math.log(top_p)
    if not gap <= allowed:
        raise RunError(
            f"vLLM and the trainer disagree: their log-probabilities of the sampled tokens differ by {gap:.3f} on "
            f"average (max_vllm_logprob_gap allows {allowed:.3f}; bfloat16 alone gives 0.001 to 0.02). Training would "
            "go on with responses of another model or to other prompts. Check that vLLM serves this very checkpoint "
            "with this chat template and these pixel bounds, and that both have a supported version (docs/vllm.md); "
            "checkpoints on disk are safe"
        )
