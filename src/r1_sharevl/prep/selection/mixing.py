"""Several sources mixed by weight: how many rows to take of each, and which."""

import math
import random
from collections.abc import Sequence
from fractions import Fraction


class Quota:
    """Takes `target` rows of a source, spread evenly over it, as they stream by.

    Selection sampling (Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S): where every row is good,
    each set of `target` rows is equally likely and exactly so many are taken. Where rows are rejected before they get
    here, later ones are taken more often, by the share of good rows so far; nothing can be made up for when the last
    rows of a source are all bad, and a row or two may then be missing.

    Attributes:
        target: Rows to take.
        taken: Rows taken so far, never more than `target`.
    """

    def __init__(self, target: int, total: int, seed: int | str) -> None:
        """Start a source.

        Args:
            target: Rows to take, 0 to `total`.
            total: Rows of the source, good and bad.
            seed: Decides which rows are taken, with the positions of the good ones.
        """
        if not 0 <= target <= total:
            raise ValueError(f"target {target} is not between 0 and {total}")
        self.target = target
        self.taken = 0
        self._total = total
        self._good = 0
        self._next = 0
        self._random = random.Random(f"r1_sharevl.mixing/{seed}")

    def take(self, position: int) -> bool:
        """Decide on a good row.

        Args:
            position: Its place in the source, from 0; bad rows count. Must grow from call to call.

        Returns:
            Whether to keep it.
        """
        if not self._next <= position < self._total:
            raise ValueError(f"position {position} is not between {self._next} and {self._total - 1}")
        self._next = position + 1
        self._good += 1
        share = self._good / (position + 1)
        behind = self._total - position - 1
        # Good rows to come, this one included. Rather a standard deviation too few: a row not taken is gone.
        expected = 1 + max(0.0, behind * share - math.sqrt(behind * share * (1 - share)))
        took = self._random.random() * expected < self.target - self.taken
        self.taken += took
        return took


def quotas(totals: Sequence[int], weights: Sequence[Fraction | float], seed: int) -> list[Quota]:
    """Share out the rows: as many as possible in the proportion of the weights, none of them twice.

    Args:
        totals: Rows of each source, good and bad.
        weights: Weight of each source, above 0.
        seed: Decides which rows are taken.

    Returns:
        One `Quota` per source, whose target is `floor(w_i · min_j(n_j / w_j))` of its `n_i` rows.
    """
    # By way of the decimal digits: 0.1 shall be a tenth.
    exact = [Fraction(str(weight)) for weight in weights]
    scale = min(Fraction(total) / weight for total, weight in zip(totals, exact, strict=True))
    return [
        Quota(math.floor(weight * scale), total, f"{seed}/{number}")
        for number, (total, weight) in enumerate(zip(totals, exact, strict=True))
    ]
