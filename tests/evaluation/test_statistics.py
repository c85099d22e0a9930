"""Statistics against loops over every case, other derivations, and published values."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.evaluation.statistics import (
    bootstrap_interval,
    majority_verdict,
    mcnemar_exact,
    mean_interval,
    paired_difference,
    pass_at_k,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 1 - 0.1170, 1.0),
    ],
)
def test_wilson_published_values(successes, total, low, high):
    estimate = wilson_interval(successes, total)
    assert estimate.value == successes / total
    assert estimate.low == pytest.approx(low, abs=5e-5)
    assert estimate.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_solve_the_score_equation(case):
    successes, total = case
    estimate = wilson_interval(successes, total)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    for end in (estimate.low, estimate.high):
        # The score test is exactly at its critical value there: |p̂ − p| = z √(p(1−p)/n).
        deviation = (estimate.value - end) ** 2
        assert deviation == pytest.approx(1.959963984540054**2 * end * (1 - end) / total, abs=1e-9)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes, total):
    with pytest.raises(ValueError, match="successes must be in"):
        wilson_interval(successes, total)


def test_bootstrap_equals_the_distribution_over_all_resamples():
    values = [0.0, 0.25, 1.0, 0.5]
    means = sorted(sum(drawn) / 4 for drawn in itertools.product(values, repeat=4))
    estimate = bootstrap_interval(values, resamples=40_000)
    assert estimate.value == pytest.approx(0.4375)
    assert estimate.low == pytest.approx(np.quantile(means, 0.025), abs=0.0626)
    assert estimate.high == pytest.approx(np.quantile(means, 0.975), abs=0.0626)


def test_bootstrap_is_seeded_and_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        values = random.beta(2, 3, size=100)
        estimate = bootstrap_interval(values, seed=trial, resamples=1_000)
        assert estimate == bootstrap_interval(values, seed=trial, resamples=1_000)
        covered += estimate.low <= 0.4 <= estimate.high
    # 300 trials at 95 %: 285 expected, standard deviation 3.8.
    assert 270 <= covered <= 297


def test_bootstrap_in_pieces_uses_every_resample(monkeypatch):
    values = np.linspace(0, 1, 50)
    whole = bootstrap_interval(values, resamples=2_000)
    monkeypatch.setattr("r1_sharevl.evaluation.statistics._MAX_DRAWS_AT_ONCE", 50 * 300)
    in_pieces = bootstrap_interval(values, resamples=2_000)
    # numpy draws the same numbers whether asked for 2,000 rows at once or for 300 at a time.
    assert in_pieces == whole


def test_bootstrap_refuses_nothing():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])


def test_mean_interval_is_never_empty_at_the_ends():
    assert mean_interval([1.0] * 50) == wilson_interval(50, 50)
    assert mean_interval([1.0, 0.0, 0.0]) == wilson_interval(1, 3)
    assert mean_interval([0.5, 1.0, 0.0], seed=3) == bootstrap_interval([0.5, 1.0, 0.0], seed=3)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(1, n), st.just(n))))
def test_pass_at_k_counts_the_subsets_with_a_right_response(case):
    correct, k, total = case
    responses = [True] * correct + [False] * (total - correct)
    subsets = list(itertools.combinations(responses, k))
    assert pass_at_k(correct, total, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_one_is_the_average():
    assert pass_at_k(3, 8, 1) == pytest.approx(3 / 8)


@pytest.mark.parametrize(("correct", "total", "k"), [(1, 8, 0), (1, 8, 9), (9, 8, 1), (-1, 8, 1)])
def test_pass_at_k_refuses_impossible_counts(correct, total, k):
    with pytest.raises(ValueError, match="1 <= k <= total"):
        pass_at_k(correct, total, k)


@pytest.mark.parametrize(
    ("answers", "correct", "verdict"),
    [
        (["4", "4", "5"], [True, True, False], True),
        (["4", "5", "5"], [True, False, False], False),
        # One answer in three spellings outvotes a wrong one given twice.
        (["1/2", "0.5", r"\frac12", "3", "3"], [True, True, True, False, False], True),
        (["a", "A ", "B"], [False, False, True], False),
        # A tie goes to what was sampled first.
        (["4", "5"], [True, False], True),
        (["5", "4"], [False, True], False),
        # Responses without an answer do not vote.
        ([None, None, None, "4"], [False, False, False, True], True),
        ([None, None], [False, False], False),
    ],
)
def test_majority_verdict(answers, correct, verdict):
    assert majority_verdict(answers, correct) is verdict


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        # Two-sided sign tests: 2 * (1) / 2**6, 2 * (1 + 8) / 2**8, 2 * (1 + 10 + 45) / 2**10.
        (6, 0, 0.03125),
        (1, 7, 0.0703125),
        (8, 2, 0.109375),
    ],
)
def test_mcnemar_known_values(gained, lost, p_value):
    assert mcnemar_exact(gained, lost) == pytest.approx(p_value, rel=1e-12)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_counts_the_splits_at_least_as_uneven(gained, lost):
    changed = gained + lost
    uneven = abs(gained - lost)
    extreme = sum(math.comb(changed, i) for i in range(changed + 1) if abs(2 * i - changed) >= uneven)
    assert mcnemar_exact(gained, lost) == pytest.approx(float(Fraction(extreme, 2**changed)))


def test_mcnemar_with_thousands_of_changes_and_negative_counts():
    assert 0 < mcnemar_exact(2_600, 2_400) < 0.01
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 3)


def test_paired_difference_is_narrow_where_the_models_agree():
    random = np.random.default_rng(0)
    hardness = random.random(300)
    first = (hardness > 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:15]] = 1.0
    estimate = paired_difference(first.tolist(), second.tolist())
    assert estimate.value == pytest.approx(0.05)
    assert 0 < estimate.low < 0.05 < estimate.high < 0.08
    # Unpaired, the two intervals overlap.
    assert mean_interval(first.tolist()).high > mean_interval(second.tolist()).low


def test_paired_difference_needs_the_same_questions():
    with pytest.raises(ValueError, match="same questions, got 1 and 2"):
        paired_difference([1.0], [1.0, 0.0])
