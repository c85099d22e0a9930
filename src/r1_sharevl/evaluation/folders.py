"""Where evaluations go when nobody says where."""

from collections.abc import Sequence
from pathlib import Path

DEFAULT_ROOT = Path("runs") / "eval"


def distinct_names(models: Sequence[str]) -> list[str]:
    """Short names for models: the last part of each path, with as many parents as it takes to tell them apart.

    Args:
        models: Folders or Hub ids.

    Returns:
        One name per model, fit for a folder: `a/checkpoint-9` and `b/checkpoint-9` become `a-checkpoint-9` and
        `b-checkpoint-9`. The same model twice gets numbered names.
    """
    parts = [Path(model).resolve().parts if Path(model).exists() else Path(model).parts for model in models]
    if len(set(parts)) < len(parts):
        return [f"{path[-1]}-{number}" for number, path in enumerate(parts, start=1)]
    depth = 1
    while len(set(names := [_join(path[-depth:]) for path in parts])) < len(parts):
        depth += 1
    return names


def default_out(models: Sequence[str], data: str, split: str) -> Path:
    """The folder of an evaluation, or of a comparison of two, when none is given.

    Args:
        models: The models, one or two.
        data: The prepared set's folder.
        split: Its split.

    Returns:
        `runs/eval/<model>/<data>-<split>`, or `runs/eval/<model>-vs-<model>/<data>-<split>`. Not inside the model's
        own folder, which a trainer may delete and an upload would publish.
    """
    names = [_named_checkpoint(model, name) for model, name in zip(models, distinct_names(models), strict=True)]
    return DEFAULT_ROOT / "-vs-".join(names) / f"{Path(data).resolve().name}-{split}"


def _named_checkpoint(model: str, name: str) -> str:
    # "checkpoint-500" says little: every run has one.
    path = Path(model).resolve()
    return _join(path.parts[-2:]) if name.startswith("checkpoint-") and path.exists() else name


def _join(parts: Sequence[str]) -> str:
    return "-".join(part for part in parts if part.strip("/"))
