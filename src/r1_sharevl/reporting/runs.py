"""What a run folder tells about its run, whether it is going, was killed or is finished."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..checkpoint_seal import STATE_FILE, checkpoints_of
from ..errors import UserError
from ..history import METRICS_NAME, History, points, read_history
from ..run_folder import CONFIG_FILE
from ..samples import SAMPLES_FOLDER, Sample, SampleFolder

_BATCHES_SHOWN = 8
_MAX_CONFIG_BYTES = 2**20


@dataclass(frozen=True)
class Run:
    """A run as far as its folder tells.

    Attributes:
        folder: The run folder.
        config: The settings that are not the default; empty if there is no readable `config.yaml`.
        history: The logged metrics.
        samples: By step, oldest first: sample responses of a few generation batches over the whole run.
        damaged: Files that could not be read.
    """

    folder: Path
    config: dict[str, Any]
    history: History
    samples: dict[int, list[Sample]]
    damaged: tuple[Path, ...]

    @property
    def max_steps(self) -> int | None:
        """Steps the run is to have, if known."""
        return self.history.max_steps

    @property
    def seconds(self) -> float | None:
        """Time of all optimizer steps, from the time of those that were logged; None if it was not measured."""
        entries = self.history.entries
        times = points(entries, "time/step") or points(entries, "step_time")
        total, previous = 0.0, 0.0
        for step, seconds in times:
            total += seconds * max(step - previous, 0)
            previous = step
        return total if times else None

    @property
    def not_finite(self) -> dict[str, int]:
        """Metrics that were NaN or infinite, with the first step at which they were."""
        found: dict[str, int] = {}
        for entry in self.history.entries:
            for key, value in entry.items():
                if isinstance(value, float) and not math.isfinite(value) and isinstance(entry.get("step"), int):
                    found.setdefault(str(key), entry["step"])
        return found


def read_run(folder: str | Path) -> Run:
    """Read a run folder, or a checkpoint of one.

    Raises:
        UserError: There is no such folder, or it holds no run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output_dir of a training run")
    marks = (CONFIG_FILE, METRICS_NAME, STATE_FILE)
    if not any((folder / name).is_file() for name in marks) and not checkpoints_of(folder):
        raise UserError(
            f"{folder} holds no training run: none of {', '.join(marks)} is there, and no checkpoint. Give the "
            "output_dir of a training run"
        )
    history = read_history(folder)
    config, damaged = _read_config(folder / CONFIG_FILE)
    samples, damaged_samples = _read_samples(SampleFolder(folder / SAMPLES_FOLDER))
    return Run(folder, config, history, samples, (*damaged, *history.damaged, *damaged_samples))


def _read_config(path: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    if not path.is_file():
        return {}, ()
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            return {}, (path,)
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}, (path,)
    return (config, ()) if isinstance(config, dict) else ({}, (path,))


def _read_samples(samples: SampleFolder) -> tuple[dict[int, list[Sample]], tuple[Path, ...]]:
    files = samples.files()
    count = min(_BATCHES_SHOWN, len(files))
    picked = sorted({round(index * (len(files) - 1) / max(count - 1, 1)) for index in range(count)})
    found: dict[int, list[Sample]] = {}
    damaged = []
    for index in picked:
        try:
            for sample in samples.read(files[index]):
                found.setdefault(sample.step, []).append(sample)
        except (OSError, ValueError):
            damaged.append(files[index])
    return found, tuple(damaged)
