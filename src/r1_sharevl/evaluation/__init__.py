"""Evaluation: generate answers to a prepared set, score them, and say how sure the scores are."""

from .comparison import compare
from .comparison_report import Comparison, comparison_rows
from .folders import default_out, distinct_names
from .report import group_rows, score_rows
from .run import EvalResult, evaluate
from .summary import Scores

__all__ = [
    "Comparison",
    "EvalResult",
    "Scores",
    "compare",
    "comparison_rows",
    "default_out",
    "distinct_names",
    "evaluate",
    "group_rows",
    "score_rows",
]
