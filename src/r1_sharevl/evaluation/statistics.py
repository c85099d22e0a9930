"""Numbers with their uncertainty: scores of sampled answers, intervals, and the paired test of two models.

One legend for the shapes: `Q` questions, `k` responses sampled for each of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
_MAX_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % confidence interval.

    Attributes:
        value: The measured value.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def wilson_interval(successes: float, total: int, confidence: float = CONFIDENCE) -> Estimate:
    """Score interval of a proportion (Wilson 1927); unlike the normal one it stays inside [0, 1] and works at 0 and 1.

    Args:
        successes: How many of the trials succeeded.
        total: How many trials there were, at least 1.
        confidence: Probability that the interval covers the true proportion.

    Returns:
        `successes / total` with its interval.

    Raises:
        ValueError: `total` is not positive or `successes` is outside [0, total].
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"successes must be in [0, total] and total at least 1, got {successes} of {total}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / total
    spread = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    centre = share + z**2 / (2 * total)
    # Rounding may put an end that is exactly 0 or 1 a hair on the wrong side of the share.
    return Estimate(
        share, max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))
    )


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    seed: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean of `values` with a percentile bootstrap interval (Efron 1979).

    Args:
        values: One value per question, shape `(Q,)`: questions, not responses, are what is resampled, since the
            responses to one question are not independent.
        seed: Seed of the resampling; the same seed gives the same interval.
        confidence: Probability that the interval covers the true mean.
        resamples: How many times `Q` questions are drawn with replacement.

    Returns:
        The mean with its interval.

    Raises:
        ValueError: `values` is empty.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("there are no values to average")
    random = np.random.default_rng(seed)
    at_once = max(1, _MAX_DRAWS_AT_ONCE // sample.size)
    means = np.concatenate(
        [
            sample[random.integers(sample.size, size=(min(at_once, resamples - start), sample.size))].mean(axis=1)
            for start in range(0, resamples, at_once)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(sample.mean()), float(low), float(high))


def mean_interval(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean over questions: Wilson's interval where every question is just right or wrong, else the bootstrap's.

    One sample per question gives such values, and so does a model that answers each question always or never right;
    there the bootstrap would be too narrow, down to an empty interval at 0 % and 100 %.

    Args:
        values: One value in [0, 1] per question, shape `(Q,)`.
        seed: Seed of the bootstrap.

    Returns:
        The mean with its 95 % interval.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size and np.isin(sample, (0.0, 1.0)).all():
        return wilson_interval(float(sample.sum()), sample.size)
    return bootstrap_interval(sample, seed)


def pass_at_k(correct: int, total: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of `k` responses is right (arXiv 2107.03374).

    Args:
        correct: How many of the question's responses are right.
        total: How many responses were sampled for the question.
        k: How many of them may be tried, at most `total`.

    Returns:
        `1 - C(total - correct, k) / C(total, k)`.

    Raises:
        ValueError: `k` or `correct` is outside its range.
    """
    if not 1 <= k <= total or not 0 <= correct <= total:
        raise ValueError(f"need 1 <= k <= total and 0 <= correct <= total, got k={k}, correct={correct}, total={total}")
    return 1.0 - math.comb(total - correct, k) / math.comb(total, k)


def majority_verdict(answers: Sequence[str | None], correct: Sequence[bool]) -> bool:
    """Whether the answer that most responses to one question agree on is right.

    Right answers count as one answer however they are written; wrong ones must agree in letters and digits, upper or
    lower case. Responses without an answer do not vote. Of answers with equally many votes the one sampled first
    wins: the order of samples is random, so that favours nobody.

    Args:
        answers: The extracted answer of each response, in the order of sampling; None where there was none.
        correct: Whether each response was right.

    Returns:
        The verdict on the winning answer; False where no response had an answer.
    """
    votes: dict[tuple[bool, str], int] = {}
    for answer, is_right in zip(answers, correct, strict=True):
        if answer is None:
            continue
        ballot = (True, "") if is_right else (False, "".join(answer.casefold().split()))
        votes[ballot] = votes.get(ballot, 0) + 1
    if not votes:
        return False
    winner = max(votes, key=lambda ballot: votes[ballot])
    return winner[0]


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact McNemar test: how likely so uneven a split is if gaining and losing were equally likely.

    Args:
        gained: Questions only the second model got right.
        lost: Questions only the first model got right.

    Returns:
        The p-value, 1.0 where no question changed.

    Raises:
        ValueError: A count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts cannot be negative, got {gained} and {lost}")
    changed = gained + lost
    tail = sum(math.comb(changed, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def paired_difference(scores_a: Sequence[float], scores_b: Sequence[float], seed: int = 0) -> Estimate:
    """How much better the second model is, question by question: narrower than comparing two separate intervals.

    Args:
        scores_a: First model's score per question, shape `(Q,)`.
        scores_b: Second model's, the same questions in the same order.
        seed: Seed of the bootstrap over questions.

    Returns:
        Mean of (second − first) with its 95 % bootstrap interval.

    Raises:
        ValueError: The lengths differ or there are no questions.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(f"the models need scores of the same questions, got {len(scores_a)} and {len(scores_b)}")
    return bootstrap_interval(np.asarray(scores_b, dtype=np.float64) - np.asarray(scores_a, dtype=np.float64), seed)
