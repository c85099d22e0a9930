"""The logged metrics of a run: where they lie, and their points."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .checkpoint_seal import STATE_FILE, checkpoints_of

METRICS_NAME = "metrics.jsonl"
"""One logged step per line, written while the run goes on."""
_LARGEST = 1e30  # what is beyond it is a fault, and breaks the axes of a figure


@dataclass(frozen=True)
class History:
    """The logged metrics of a run.

    Attributes:
        entries: One mapping of metrics per logged step, with `step`, as transformers' `log_history`.
        source: The file they were read from; None if there is none.
        max_steps: Steps the run is to have, if known.
        damaged: Files that could not be read.
    """

    entries: tuple[dict[str, Any], ...] = ()
    source: Path | None = None
    max_steps: int | None = None
    damaged: tuple[Path, ...] = field(default=())

    @property
    def last_step(self) -> int:
        """The newest step logged, 0 if there is none."""
        return max((int(step) for step in map(_step, self.entries) if step is not None), default=0)


def read_history(run: str | Path) -> History:
    """Read the metrics of a run that is going, was killed or is finished, or of one checkpoint.

    The run's `metrics.jsonl`, its `trainer_state.json` and those of its checkpoints are looked at in this order; the
    first that reaches furthest is taken.
    """
    folder = Path(run)
    files = [folder / METRICS_NAME, *(place / STATE_FILE for place in (folder, *checkpoints_of(folder)))]
    best, damaged = History(), []
    for path in files:
        if not path.is_file():
            continue
        try:
            found = _read_lines(path) if path.name == METRICS_NAME else _read_state(path)
        except (OSError, ValueError, RecursionError):
            damaged.append(path)
            continue
        if found.last_step > best.last_step or best.source is None:
            best = found
    return History(best.entries, best.source, best.max_steps, tuple(damaged))


def points(entries: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return the (step, value) pairs of a metric; entries without it or without a finite value are left out."""
    found = []
    for entry in entries:
        step, value = _step(entry), _number(entry.get(key))
        if step is not None and value is not None:
            found.append((step, value))
    return found


def first_and_last_tenth(values: Sequence[float]) -> tuple[float, float]:
    """Return the means of the first and of the last tenth of at least one value."""
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def _read_lines(path: Path) -> History:
    entries, max_steps, torn = [], None, False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            torn = True  # the last line of a killed run
            continue
        if isinstance(entry, dict):
            max_steps = _whole(entry.pop("max_steps", None)) or max_steps
            entries.append(entry)
    if torn and not entries:
        raise ValueError(f"{path} holds no metrics")
    return History(tuple(entries), path, max_steps)


def _read_state(path: Path) -> History:
    state = json.loads(path.read_text(encoding="utf-8"))
    entries = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} is no trainer state")
    return History(tuple(entry for entry in entries if isinstance(entry, dict)), path, _whole(state.get("max_steps")))


def _step(entry: Mapping[str, Any]) -> float | None:
    return _number(entry.get("step"))


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number <= 0 else int(number)


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _LARGEST:
        return None
    return None if math.isnan(value) else float(value)
