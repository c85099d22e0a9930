"""The advantages against plain loops, a worked example, algebraic properties and TRL's own lines."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import nanstd

from r1_sharevl.advantages import hierarchical_advantages, multi_objective_advantages, vanished_shares
from r1_sharevl.errors import UserError

NAN = math.nan
LEVEL_CHOICES = [("global", "local"), ("local", "global"), ("global",), ("local",)]
SCALES = ["group", "batch", "none"]
STD_PRECISION = 1e-6  # TRL's nanstd holds n / (n - 1) in float32, whatever the rewards are in


def compare(value, group, scale, batch, eps):
    """One term of one reward in plain Python: 0 where it has nothing to be compared with."""
    group = [other for other in group if not math.isnan(other)]
    batch = [other for other in batch if not math.isnan(other)]
    if math.isnan(value) or len(set(group)) < 2:
        return 0.0
    deviation = value - statistics.mean(group)
    if scale == "group":
        return deviation / (statistics.stdev(group) + eps)
    if scale == "batch":
        return deviation / (statistics.stdev(batch) + eps)
    return deviation


def loop_oracle(rewards, levels, scale, eps):
    """`A[q][k][i][j]` by loops over nested lists of rewards."""
    batch = [value for question in rewards for prompt in question for value in prompt]
    result = []
    for question in rewards:
        everything = [value for prompt in question for value in prompt]
        table = []
        for k, prompt in enumerate(question):
            table.append([])
            for value in prompt:
                row = []
                for j in range(len(question)):
                    terms = []
                    if "global" in levels:
                        terms.append(compare(value, everything, scale, batch, eps))
                    if "local" in levels and j == k:
                        terms.append(compare(value, prompt, scale, batch, eps))
                    row.append(terms[0] if len(question) == 1 else sum(terms))
                table[k].append(row)
        result.append(table)
    return torch.tensor(result, dtype=torch.float64)


def grid(shape, values):
    """Nested lists of the given (Q, m, n, ...) shape, filled in order."""
    return torch.tensor(list(values), dtype=torch.float64).reshape(shape)


# Multiples of 1/8 keep sums and shifts exact, so that equal rewards stay equal.
EIGHTHS = st.integers(-16, 16).map(lambda number: number / 8)


@st.composite
def reward_grids(draw, values=EIGHTHS, min_prompts=1, functions=None):
    shape = (draw(st.integers(1, 3)), draw(st.integers(min_prompts, 4)), draw(st.integers(1, 5)))
    if functions is not None:
        shape = (*shape, functions)
    kind = draw(st.sampled_from(["mixed", "binary", "constant", "single success"]))
    count = math.prod(shape)
    if kind == "constant":
        numbers = [draw(values)] * count
    elif kind == "binary":
        numbers = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=count, max_size=count))
    elif kind == "single success":
        success = draw(st.integers(0, count - 1))
        numbers = [float(index == success) for index in range(count)]
    else:
        numbers = draw(st.lists(values, min_size=count, max_size=count))
    missing = draw(st.sets(st.integers(0, count - 1), max_size=count if draw(st.booleans()) else 0))
    return grid(shape, [NAN if index in missing else number for index, number in enumerate(numbers)])


# A worked example


def test_worked_example():
    # One question, two prompts, three responses each. Under prompt 0 one of three is right, under prompt 1 all are.
    rewards = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]])
    advantages = hierarchical_advantages(rewards, eps=0.0)
    # Global: mean 4/6 = 2/3; squared deviations 4·(1/3)² + 2·(2/3)² = 4/9 + 8/9 = 12/9; std = √(12/9 / 5) = √(4/15).
    right, wrong = (1 / 3) / math.sqrt(4 / 15), (-2 / 3) / math.sqrt(4 / 15)
    # Local, prompt 0: mean 1/3; squared deviations 4/9 + 1/9 + 1/9 = 6/9; std = √(6/9 / 2) = √(1/3). Prompt 1: 0.
    local_right, local_wrong = (2 / 3) / math.sqrt(1 / 3), (-1 / 3) / math.sqrt(1 / 3)
    expected = torch.tensor(
        [
            [
                [[right + local_right, right], [wrong + local_wrong, wrong], [wrong + local_wrong, wrong]],
                [[right, right], [right, right], [right, right]],
            ]
        ]
    )
    assert advantages.shape == (1, 2, 3, 2)
    torch.testing.assert_close(advantages, expected)


# Against plain loops


@pytest.mark.parametrize("levels", LEVEL_CHOICES)
@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=60, deadline=None)
@given(rewards=reward_grids())
def test_equals_plain_loops(rewards, levels, scale):
    advantages = hierarchical_advantages(rewards, levels=levels, scale_rewards=scale)
    expected = loop_oracle(rewards.tolist(), levels, scale, 1e-4)
    assert advantages.shape == (*rewards.shape, rewards.shape[1])
    torch.testing.assert_close(advantages, expected, rtol=STD_PRECISION, atol=STD_PRECISION)


@settings(max_examples=60, deadline=None)
@given(rewards=reward_grids(values=st.floats(-1, 1, width=32), min_prompts=2), eps=st.sampled_from([1e-2, 1e-6]))
def test_equals_plain_loops_for_any_floats(rewards, eps):
    advantages = hierarchical_advantages(rewards, eps=eps)
    expected = loop_oracle(rewards.tolist(), ("global", "local"), "group", eps)
    torch.testing.assert_close(advantages, expected, rtol=STD_PRECISION, atol=STD_PRECISION)


def test_scale_rewards_as_a_truth_value_means_what_trl_means():
    rewards = torch.rand(3, 2, 4)
    for truth, name in [(True, "group"), (False, "none")]:
        by_truth = hierarchical_advantages(rewards, scale_rewards=truth)
        assert torch.equal(by_truth, hierarchical_advantages(rewards, scale_rewards=name))


def test_input_is_left_alone_and_its_layout_does_not_matter():
    rewards = torch.rand(4, 3, 5)
    strided = rewards.transpose(0, 2).contiguous().transpose(0, 2)
    before = strided.clone()
    assert not strided.is_contiguous()
    assert torch.equal(hierarchical_advantages(strided), hierarchical_advantages(rewards))
    assert torch.equal(strided, before)


# Properties


@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=40, deadline=None)
@given(rewards=reward_grids(), shift=EIGHTHS)
def test_a_shift_of_the_rewards_changes_nothing(rewards, shift, scale):
    shifted = hierarchical_advantages(rewards + shift, scale_rewards=scale)
    torch.testing.assert_close(shifted, hierarchical_advantages(rewards, scale_rewards=scale), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=40, deadline=None)
@given(rewards=reward_grids(min_prompts=2), factor=st.floats(0.01, 100))
def test_a_positive_factor_cancels_where_the_std_divides(rewards, factor, scale):
    advantages = hierarchical_advantages(rewards, scale_rewards=scale, eps=0.0)
    scaled = hierarchical_advantages(rewards * factor, scale_rewards=scale, eps=0.0)
    expected = advantages * factor if scale == "none" else advantages
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=40, deadline=None)
@given(rewards=reward_grids(min_prompts=2))
def test_both_terms_sum_to_zero_and_other_prompts_see_only_the_global_one(rewards, scale):
    both = hierarchical_advantages(rewards, scale_rewards=scale)
    only_global = hierarchical_advantages(rewards, levels=["global"], scale_rewards=scale)
    only_local = hierarchical_advantages(rewards, levels=["local"], scale_rewards=scale)
    num_prompts = rewards.shape[1]
    zero = torch.zeros((), dtype=torch.float64)
    for k, j in itertools.product(range(num_prompts), repeat=2):
        torch.testing.assert_close(only_global[:, k, :, j], only_global[:, k, :, 0], rtol=0, atol=0)
        if j == k:
            local_sums = only_local[:, k, :, k].sum(dim=1)
            torch.testing.assert_close(local_sums, zero.expand_as(local_sums), rtol=0, atol=1e-9)
            torch.testing.assert_close(both[:, k, :, k], only_global[:, k, :, k] + only_local[:, k, :, k])
        else:
            assert (only_local[:, k, :, j] == 0).all()
            assert torch.equal(both[:, k, :, j], only_global[:, k, :, j])
    global_sums = only_global[..., 0].sum(dim=(1, 2))
    torch.testing.assert_close(global_sums, zero.expand_as(global_sums), rtol=0, atol=1e-9)
    assert (both[torch.isnan(rewards)] == 0).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("eps", [1e-4, 0.0])
def test_equal_rewards_give_exactly_zero_although_their_mean_is_rounded(scale, eps):
    rewards = torch.full((2, 2, 6), 0.9)
    assert torch.nanmean(rewards[0, 0]) != rewards[0, 0, 0]  # what makes the plain formula miss 0
    rewards[1, 0, 0] = 0.1
    advantages = hierarchical_advantages(rewards, scale_rewards=scale, eps=eps)
    local = hierarchical_advantages(rewards, levels=["local"], scale_rewards=scale, eps=eps)
    assert (advantages[0] == 0).all()
    assert (local[1, 1] == 0).all()
    assert (advantages[1, 0] != 0).all()


def test_one_scorable_reward_in_a_group_gives_zero_there_and_only_there():
    rewards = torch.tensor([[[1.0, NAN, NAN], [0.0, 1.0, 0.0]], [[NAN, NAN, NAN], [NAN, 1.0, NAN]]])
    local = hierarchical_advantages(rewards, levels=["local"])
    both = hierarchical_advantages(rewards)
    assert (local[0, 0] == 0).all()
    assert local[0, 1, 1, 1] > 0
    assert both[0, 0, 0, 0] == both[0, 0, 0, 1]
    assert both[0, 0, 0, 0] > 0
    assert (both[1] == 0).all()


# One prompt: TRL's GRPO


def trl_advantages(rewards, num_generations, scale):
    """The lines of `_generate_and_score_completions` of TRL 1.16 (grpo_trainer.py:2765-2810), rewards `(B,)`."""
    mean_grouped_rewards = torch.nanmean(rewards.view(-1, num_generations), dim=1)
    mean_grouped_rewards = mean_grouped_rewards.repeat_interleave(num_generations, dim=0)
    if scale in ["group", "none"]:
        if num_generations > 1:
            std_rewards = nanstd(rewards.view(-1, num_generations), dim=1)
            std_rewards = std_rewards.repeat_interleave(num_generations, dim=0)
        else:
            std_rewards = torch.zeros_like(rewards)
    elif rewards.numel() > 1:
        std_rewards = nanstd(rewards).expand_as(rewards)
    else:
        std_rewards = torch.zeros_like(rewards)
    advantages = rewards - mean_grouped_rewards
    if scale != "none":
        advantages = advantages / (std_rewards + 1e-4)
    return torch.nan_to_num(advantages, nan=0.0)


def trl_normalize_then_sum(rewards_per_func, num_generations, weights):
    """TRL 1.16's `multi_objective_aggregation="normalize_then_sum"`, rewards `(B, F)`."""
    unscorable_mask = torch.isnan(rewards_per_func).all(dim=1)
    grouped = rewards_per_func.view(-1, num_generations, len(weights))
    mean_k = torch.nanmean(grouped, dim=1, keepdim=True)
    std_k = nanstd(grouped, dim=1, keepdim=True) if num_generations > 1 else torch.zeros_like(mean_k)
    reward_k = (grouped - mean_k) / (std_k + 1e-4)
    reward_k = reward_k.view(-1, len(weights))
    rewards = (reward_k * weights.unsqueeze(0)).nansum(dim=1)
    rewards[unscorable_mask] = torch.nan
    std_rewards = nanstd(rewards).expand_as(rewards) if rewards.numel() > 1 else torch.zeros_like(rewards)
    advantages = (rewards - torch.nanmean(rewards)) / (std_rewards + 1e-4)
    return torch.nan_to_num(advantages, nan=0.0)


def assert_same_bits(actual, expected):
    assert torch.equal(actual.flatten().view(torch.int32), expected.flatten().view(torch.int32))


@st.composite
def float32_batches(draw, functions=None):
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 12)), *(() if functions is None else (functions,)))
    values = draw(st.sampled_from([[0.0, 1.0], [0.0, 0.1, 0.9, 1.0, NAN], [0.9, NAN], [0.9]]))
    count = math.prod(shape)
    return torch.tensor(draw(st.lists(st.sampled_from(values), min_size=count, max_size=count))).reshape(shape)


@pytest.mark.parametrize("levels", LEVEL_CHOICES)
@pytest.mark.parametrize("scale", SCALES)
@settings(max_examples=40, deadline=None)
@given(rewards=float32_batches())
def test_one_prompt_gives_trls_grpo_advantage_bit_for_bit(rewards, levels, scale):
    expected = trl_advantages(rewards.flatten(), rewards.shape[1], scale)
    assert_same_bits(hierarchical_advantages(rewards.unsqueeze(1), levels=levels, scale_rewards=scale), expected)


@settings(max_examples=80, deadline=None)
@given(rewards=float32_batches(functions=2))
def test_one_prompt_gives_trls_normalize_then_sum_bit_for_bit(rewards):
    weights = torch.tensor([0.9, 0.1])
    expected = trl_normalize_then_sum(rewards.flatten(0, 1), rewards.shape[1], weights)
    assert_same_bits(multi_objective_advantages(rewards.unsqueeze(1), weights), expected)


def test_the_global_term_of_many_functions_is_trls_over_the_whole_question():
    rewards = torch.rand(4, 2, 3, 2)
    weights = torch.tensor([0.7, 0.3])
    advantages = multi_objective_advantages(rewards, weights, levels=["global"])
    expected = trl_normalize_then_sum(rewards.flatten(0, 2), 6, weights).view(4, 2, 3, 1).expand(4, 2, 3, 2)
    torch.testing.assert_close(advantages, expected)


# Several reward functions


def multi_loop_oracle(rewards, weights, levels, eps):
    """`multi_objective_advantages` by loops over nested lists `[q][k][i][f]`."""
    indices = [
        (q, k, i) for q, question in enumerate(rewards) for k, prompt in enumerate(question) for i in range(len(prompt))
    ]
    by_level = {}
    for level in levels:
        summed = {}
        for q, k, i in indices:
            values = rewards[q][k][i]
            if all(math.isnan(value) for value in values):
                continue
            prompts = rewards[q] if level == "global" else [rewards[q][k]]
            summed[q, k, i] = sum(
                weight * compare(values[f], [r[f] for prompt in prompts for r in prompt], "group", [], eps)
                for f, weight in enumerate(weights)
            )
        numbers = list(summed.values())
        if len(numbers) > 1:
            mean, std = statistics.mean(numbers), statistics.stdev(numbers)
            by_level[level] = {index: (value - mean) / (std + eps) for index, value in summed.items()}
        else:
            by_level[level] = {}
    num_prompts = len(rewards[0])
    result = []
    for q, k, i in indices:
        for j in range(num_prompts):
            used = [level for level in levels if level == "global" or j == k]
            terms = [by_level[level].get((q, k, i), 0.0) for level in used]
            result.append(terms[0] if num_prompts == 1 else sum(terms))
    return grid((len(rewards), num_prompts, len(rewards[0][0]), num_prompts), result)


@pytest.mark.parametrize("levels", LEVEL_CHOICES)
@settings(max_examples=60, deadline=None)
@given(rewards=reward_grids(functions=3))
def test_many_functions_equal_plain_loops(rewards, levels):
    weights = [0.6, 0.3, -0.5]
    advantages = multi_objective_advantages(rewards, torch.tensor(weights, dtype=torch.float64), levels=levels)
    expected = multi_loop_oracle(rewards.tolist(), weights, levels, 1e-4)
    torch.testing.assert_close(advantages, expected, rtol=STD_PRECISION, atol=STD_PRECISION)


def test_equal_rewards_of_many_functions_are_not_blown_up_by_the_whitening():
    rewards = torch.full((2, 2, 6, 1), 0.9)
    assert (multi_objective_advantages(rewards, torch.ones(1)) == 0).all()


# What vanished


def test_vanished_shares_worked_example():
    rewards = torch.tensor(
        [
            [[1.0, 0.0], [1.0, 1.0]],  # prompt 1 of 2 vanished
            [[1.0, 1.0], [0.0, 0.0]],  # both prompts vanished, the question did not
            [[0.9, 0.9], [0.9, NAN]],  # everything vanished
            [[NAN, 1.0], [NAN, NAN]],  # nothing to compare with
        ]
    )
    assert vanished_shares(rewards) == {"global": 0.5, "local": 7 / 8, "all": 0.5}
    assert vanished_shares(rewards, levels=["local"]) == {"global": 0.5, "local": 7 / 8, "all": 0.75}


def test_equal_rewards_count_as_vanished_although_their_std_is_not_zero():
    rewards = torch.full((1, 2, 6), 0.9)
    std = nanstd(rewards[0], dim=1)
    assert not torch.isclose(std, torch.zeros_like(std)).any()  # TRL's question
    assert vanished_shares(rewards) == {"global": 1.0, "local": 1.0, "all": 1.0}


@pytest.mark.parametrize("levels", LEVEL_CHOICES)
@settings(max_examples=60, deadline=None)
@given(rewards=reward_grids(min_prompts=2))
def test_vanished_shares_count_zero_advantages(rewards, levels):
    shares = vanished_shares(rewards, levels=levels)
    trained = hierarchical_advantages(rewards, levels=levels)
    only_global = hierarchical_advantages(rewards, levels=["global"])
    only_local = hierarchical_advantages(rewards, levels=["local"])
    num_questions, num_prompts, _ = rewards.shape
    questions, prompts = range(num_questions), range(num_prompts)
    assert shares["all"] == pytest.approx(statistics.mean(not trained[q].any() for q in questions))
    assert shares["global"] == pytest.approx(statistics.mean(not only_global[q].any() for q in questions))
    assert shares["local"] == pytest.approx(
        statistics.mean(not only_local[q, k].any() for q in questions for k in prompts)
    )


# Bad input


@pytest.mark.parametrize(
    ("rewards", "options", "message"),
    [
        (torch.zeros(4, 6), {}, r"shape \(4, 6\).*\(questions, prompts, responses\)"),
        (torch.zeros(0, 2, 3), {}, r"shape \(0, 2, 3\).*non-empty"),
        (torch.zeros(2, 2, 3, dtype=torch.long), {}, r"torch.int64 tensor"),
        (torch.zeros(2, 2, 3), {"levels": ()}, r"levels is \(\): choose 'global', 'local' or both"),
        (torch.zeros(2, 2, 3), {"levels": ("global", "locale")}, r"locale.*choose 'global', 'local' or both"),
        (torch.zeros(2, 2, 3), {"scale_rewards": "std"}, r"scale_rewards is 'std': choose 'group', 'batch' or 'none'"),
    ],
)
def test_bad_input_is_named_in_one_line(rewards, options, message):
    with pytest.raises(UserError, match=message) as caught:
        hierarchical_advantages(rewards, **options)
    assert "\n" not in str(caught.value)


def test_bad_input_with_many_functions_is_named():
    with pytest.raises(UserError, match=r"weights has shape \(2,\) but there are 3 reward functions"):
        multi_objective_advantages(torch.zeros(1, 2, 2, 3), torch.ones(2))
    with pytest.raises(UserError, match=r"shape \(1, 2, 2\).*reward functions\)"):
        multi_objective_advantages(torch.zeros(1, 2, 2), torch.ones(2))
    with pytest.raises(UserError, match=r"shape \(4,\)"):
        vanished_shares(torch.zeros(4))
