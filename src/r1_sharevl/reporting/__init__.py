"""The page of a training run: `r1sharevl report`."""

from .report import write_report
from .runs import Run, read_run

__all__ = ["Run", "read_run", "write_report"]
