"""The advantages of Share-GRPO (arXiv 2505.16673): pure functions from rewards to the advantage of each pair.

Shape letters: `Q` questions, `m` prompts per question, `n` responses per prompt, `F` reward functions. A reward
`rewards[q, k, i]` belongs to response `i` sampled under prompt `k` of question `q`; an advantage `[q, k, i, j]` is
that response's when it is trained under prompt `j` of the same question. NaN: the response could not be scored.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from trl.trainer.utils import nanstd

from .errors import UserError

LEVELS = ("global", "local")
"""What a reward is compared with: all responses to its question, and those sampled under its own prompt."""


def hierarchical_advantages(
    rewards: Tensor,
    *,
    levels: Iterable[str] = LEVELS,
    scale_rewards: str | bool = "group",
    eps: float = 1e-4,
) -> Tensor:
    """Compute the advantage of every (response, prompt) pair.

        G[q,k,i]   = (r[q,k,i] - mean of the question's m·n rewards) / (their std + eps)
        L[q,k,i]   = (r[q,k,i] - mean of the prompt's n rewards) / (their std + eps)
        A[q,k,i,j] = G[q,k,i] + (L[q,k,i] if j == k else 0)

    `std` is the unbiased one. NaN rewards are left out of every mean and std. A term is exactly 0 for a NaN reward,
    and where the scorable rewards of its group are fewer than two or all equal. With `m == 1` both terms would be the
    same one, so it is added once: the result is TRL 1.16's GRPO advantage bit for bit (there, equal rewards whose mean
    is rounded, such as six times 0.9, give about 6e-4 instead of 0).

    Args:
        rewards: Floating-point tensor `(Q, m, n)`.
        levels: The terms to add, a non-empty subset of `{"global", "local"}` (the paper's ablation). Without "global"
            a response gets 0 under every prompt but its own.
        scale_rewards: What both terms are divided by, in TRL's words: "group" or `True`, the std of the term's own
            group; "batch", the std of all rewards (both plus `eps`); "none" or `False`, nothing.
        eps: Added to each std. TRL has 1e-4 built in.

    Returns:
        Advantages `(Q, m, n, m)`, of the dtype and on the device of `rewards`, never NaN.

    Raises:
        UserError: `rewards` has another shape or holds no floats, or `levels` or `scale_rewards` is unknown.
    """
    names: dict[str | bool, str | bool] = {True: "group", False: "none"}
    scale = names.get(scale_rewards, scale_rewards)
    if scale not in ("group", "batch", "none"):
        raise UserError(f"scale_rewards is {scale_rewards!r}: choose 'group', 'batch' or 'none'")
    _check_floats(rewards, "(questions, prompts, responses)")
    one_prompt = rewards.shape[1] == 1

    def term(grouped: Tensor) -> Tensor:
        # The operations of TRL's GRPOTrainer in its order; only the mask is ours.
        advantages = grouped - torch.nanmean(grouped, dim=1, keepdim=True)
        if scale == "group":
            advantages = advantages / (nanstd(grouped, dim=1, keepdim=True) + eps)
        elif scale == "batch":
            advantages = advantages / (nanstd(grouped.flatten()) + eps)
        if not one_prompt:
            advantages = advantages.masked_fill(_without_spread(grouped), 0.0)
        return torch.nan_to_num(advantages, nan=0.0)

    return _add_levels(rewards, levels, term)


def multi_objective_advantages(
    rewards_per_func: Tensor,
    weights: Tensor,
    *,
    levels: Iterable[str] = LEVELS,
    eps: float = 1e-4,
) -> Tensor:
    """Compute the advantages where each reward function is normalised on its own (GDPO, arXiv 2601.05242).

    TRL's `multi_objective_aggregation="normalize_then_sum"` with the two levels of Share-GRPO. For each level the
    rewards of each function are normalised in their group (the question's m·n responses, or the prompt's n), summed
    with `weights`, and the sums are whitened over the batch. The local term counts only under a response's own prompt.
    A function's NaN rewards are left out; a response that no function could score gets 0. A function contributes
    nothing to a group where its scorable rewards are fewer than two or all equal. With `m == 1` the result is TRL's.

    Args:
        rewards_per_func: Floating-point tensor `(Q, m, n, F)`.
        weights: Weight of each reward function, `(F,)`.
        levels: As in `hierarchical_advantages`.
        eps: Added to each std. TRL has 1e-4 built in.

    Returns:
        Advantages `(Q, m, n, m)`, of the dtype and on the device of `rewards_per_func`, never NaN.

    Raises:
        UserError: A tensor has another shape or holds no floats, or a level is unknown.
    """
    _check_floats(rewards_per_func, "(questions, prompts, responses, reward functions)")
    if weights.shape != rewards_per_func.shape[3:]:
        raise UserError(
            f"weights has shape {tuple(weights.shape)} but there are {rewards_per_func.shape[3]} reward functions: "
            "give one weight each"
        )
    one_prompt = rewards_per_func.shape[1] == 1

    def term(grouped: Tensor) -> Tensor:
        # The operations of TRL's GRPOTrainer in its order; only the mask is ours.
        std = nanstd(grouped, dim=1, keepdim=True) if grouped.shape[1] > 1 else torch.zeros_like(grouped)
        normalised = (grouped - torch.nanmean(grouped, dim=1, keepdim=True)) / (std + eps)
        if not one_prompt:
            normalised = normalised.masked_fill(_without_spread(grouped), 0.0)
        summed = (normalised * weights.to(grouped)).nansum(dim=2)
        summed = summed.masked_fill(torch.isnan(grouped).all(dim=2), torch.nan).flatten()
        batch_std = nanstd(summed) if summed.numel() > 1 else torch.zeros_like(summed)
        whitened = (summed - torch.nanmean(summed)) / (batch_std + eps)
        return torch.nan_to_num(whitened, nan=0.0)

    return _add_levels(rewards_per_func, levels, term)


def vanished_shares(rewards: Tensor, *, levels: Iterable[str] = LEVELS) -> dict[str, float]:
    """Measure how much of a batch teaches nothing because the rewards that are compared do not differ.

    A group counts as vanished when its scorable rewards are fewer than two or all equal. They are compared directly,
    not through their std as in TRL's `frac_reward_zero_std`: the std of six rewards of 0.9 is 6.5e-8 in float32, so
    TRL does not count them.

    Args:
        rewards: Floating-point tensor `(Q, m, n)`, NaN where a response could not be scored.
        levels: The levels that are trained; they decide what "all" means.

    Returns:
        Three shares between 0 and 1. "global": of the questions, those with no global advantage. "local": of the Q·m
        (question, prompt) groups, those with no local advantage. "all": of the questions, those where every pair's
        advantage is 0, so that they do not train at all. As a question without a global advantage has no local one
        either, "all" is "global" unless only the local level is trained; then it is the share of questions whose
        prompts have all vanished.

    Raises:
        UserError: As in `hierarchical_advantages`.
    """
    _check_floats(rewards, "(questions, prompts, responses)")
    question = _without_spread(rewards.flatten(1, 2)).squeeze(1)  # (Q,)
    prompt = _without_spread(rewards.flatten(0, 1)).view(rewards.shape[:2])  # (Q, m)
    nothing = question if "global" in _check_levels(levels) else prompt.all(dim=1)
    return {
        "global": question.float().mean().item(),
        "local": prompt.float().mean().item(),
        "all": nothing.float().mean().item(),
    }


def _add_levels(rewards: Tensor, levels: Iterable[str], term: Callable[[Tensor], Tensor]) -> Tensor:
    """Add the terms of the chosen levels: `term` turns rewards `(groups, group size, ...)` into one value each."""
    chosen = _check_levels(levels)
    shape = rewards.shape[:3]
    num_prompts = shape[1]
    if num_prompts == 1:
        return term(rewards.flatten(0, 1)).view(*shape, 1)
    advantages = rewards.new_zeros(*shape, num_prompts)
    if "global" in chosen:
        advantages += term(rewards.flatten(1, 2)).view(*shape, 1)
    if "local" in chosen:
        own_prompt = torch.eye(num_prompts, dtype=rewards.dtype, device=rewards.device)  # (k, j)
        advantages += term(rewards.flatten(0, 1)).view(*shape, 1) * own_prompt.unsqueeze(1)
    return advantages


def _without_spread(grouped: Tensor) -> Tensor:
    """Tell which groups have fewer than two different non-NaN values: `(groups, size, ...)` -> `(groups, 1, ...)`."""
    missing = torch.isnan(grouped)
    highest = grouped.masked_fill(missing, -torch.inf).amax(dim=1, keepdim=True)
    lowest = grouped.masked_fill(missing, torch.inf).amin(dim=1, keepdim=True)
    return highest <= lowest


def _check_levels(levels: Iterable[str]) -> set[str]:
    chosen = {levels} if isinstance(levels, str) else set(levels)
    if not chosen or not chosen <= set(LEVELS):
        raise UserError(f"levels is {levels!r}: choose 'global', 'local' or both")
    return chosen


def _check_floats(rewards: Tensor, meaning: str) -> None:
    if rewards.ndim != meaning.count(",") + 1 or rewards.numel() == 0 or not rewards.is_floating_point():
        raise UserError(
            f"the rewards are a {rewards.dtype} tensor of shape {tuple(rewards.shape)}: give a non-empty tensor of "
            f"floats of shape {meaning}"
        )
