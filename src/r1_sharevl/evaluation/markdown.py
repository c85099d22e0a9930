"""Numbers on the Markdown pages of an evaluation."""

from .statistics import Estimate

IMAGE_WIDTH = 224


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def percent_interval(estimate: Estimate) -> str:
    """A share as a percentage with its interval."""
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points_interval(estimate: Estimate) -> str:
    """A difference of shares in percentage points, signed, with its interval."""
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
