import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.prep.selection.mixing import Quota, quotas


def take_all(quota, positions):
    return [position for position in positions if quota.take(position)]


@st.composite
def sources(draw):
    total = draw(st.integers(1, 60))
    return total, draw(st.integers(0, total)), draw(st.integers(0, 5))


@given(sources())
def test_where_every_row_is_good_exactly_so_many_are_taken(source):
    total, target, seed = source
    quota = Quota(target, total, seed)
    assert len(take_all(quota, range(total))) == target == quota.taken == quota.target


@given(sources(), st.data())
def test_never_too_many_and_always_the_same(source, data):
    total, target, seed = source
    good = sorted(data.draw(st.sets(st.integers(0, total - 1))))
    taken = take_all(Quota(target, total, seed), good)
    assert len(taken) <= min(target, len(good))
    assert take_all(Quota(target, total, seed), good) == taken
    if target == total:
        assert taken == good


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_rejected_rows_are_made_up_for(share):
    rng = random.Random(0)
    short = Counter()
    for seed in range(40):
        good = [position for position in range(2000) if rng.random() < share]
        quota = Quota(700, 2000, seed)
        take_all(quota, good)
        short[quota.target - quota.taken] += 1
    assert short[0] >= 30
    assert max(short) <= 3


def test_the_rows_are_spread_evenly():
    taken = Counter(position for seed in range(2000) for position in take_all(Quota(3, 10, seed), range(10)))
    # Binomial with 2,000 trials of 0.3: five standard deviations are 102.
    assert all(abs(taken[position] - 600) < 102 for position in range(10))
    first, second = (take_all(Quota(30, 100, seed), range(100)) for seed in (0, 1))
    assert first != second


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 1, 2, 3.0, 7])), min_size=1, max_size=5))
def test_as_many_as_possible_in_proportion(pairs):
    totals, weights = zip(*pairs, strict=True)
    targets = [quota.target for quota in quotas(totals, weights, seed=0)]
    assert all(target <= total for target, total in zip(targets, totals, strict=True))
    # One source at least is used whole, and the others are within one row of their proportion to it.
    whole = [number for number, target in enumerate(targets) if target == totals[number]]
    assert any(
        all(
            target <= totals[number] * weight / weights[number] + 1e-6
            and target > totals[number] * weight / weights[number] - 1 - 1e-6
            for target, weight in zip(targets, weights, strict=True)
        )
        for number in whole
    )


def test_weights_are_decimal():
    # As binary floats, 0.3 and 0.1 make 299.99….
    assert [quota.target for quota in quotas([300, 100], [0.3, 0.1], 0)] == [300, 100]
    assert [quota.target for quota in quotas([100, 100], [2, 1], 0)] == [100, 50]
    assert [quota.target for quota in quotas([5, 100], [1, 3], 0)] == [5, 15]
    assert [quota.target for quota in quotas([0, 100], [1, 3], 0)] == [0, 0]


def test_sources_are_drawn_independently():
    first, second = (take_all(quota, range(400)) for quota in quotas([400, 400, 100], [1, 1, 1], seed=3)[:2])
    assert len(first) == len(second) == 100
    assert first != second


def test_positions_that_cannot_be_are_refused():
    quota = Quota(2, 5, 0)
    quota.take(2)
    for position in (2, 1, 5, -1):
        with pytest.raises(ValueError, match="position"):
            quota.take(position)
    with pytest.raises(ValueError, match="target 6 is not between 0 and 5"):
        Quota(6, 5, 0)
