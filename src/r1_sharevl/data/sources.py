"""From what the user names to the readers of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .readers import FileSource, JsonLinesSource, JsonSource, ParquetSource, Source, SyntheticSource

SYNTHETIC = "synthetic"
"""Names the built-in set where a path could stand."""

SUFFIXES = (".jsonl", ".json", ".parquet")

# What people call the parts of a data set; a test part is never trained on, nor mixed with other data.
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


class _Found(NamedTuple):
    """One file to read.

    Attributes:
        file: The file.
        base: The folder that picture paths start from and cannot leave.
        split: The split its rows belong to, None where that is still to be decided.
        name: The parts of its full name, of which a label is made.
        depth: How many of these parts its label has at least.
    """

    file: Path
    base: Path
    split: str | None
    name: tuple[str, ...]
    depth: int


def open_sources(
    inputs: Sequence[str | Path], *, train_rows: int = 0, validation_rows: int = 0, seed: int = 0
) -> list[Source]:
    """Find the readers for what the user names.

    Args:
        inputs: `"synthetic"`, or paths: a `.jsonl`, `.json` or `.parquet` file, or a folder with `data/*.parquet` (a
            prepared set, for one). A folder's test files are left out.
        train_rows: Rows of the built-in set's train split.
        validation_rows: Rows of the built-in set's validation split.
        seed: Seed of the built-in set.

    Returns:
        One source per file, in the order named.

    Raises:
        UserError: Nothing named, a path missing, of an unknown kind or named twice, or a file that cannot be used.
    """
    if not inputs:
        raise UserError(f"no input: name '{SYNTHETIC}', a {', '.join(SUFFIXES)} file, or a folder with data/*.parquet")
    found: list[_Found] = []
    sources: list[Source] = []
    for item in inputs:
        if item == SYNTHETIC:
            counts = {"train": train_rows, "validation": validation_rows}
            sources += [SyntheticSource(split, count, seed) for split, count in counts.items() if count]
        else:
            found += _files_of(Path(item))
    _check_distinct(inputs, found)
    return sources + [_file_source(item, _label(item, found)) for item in found]


def _files_of(path: Path) -> list[_Found]:
    """List the files behind a path."""
    if path.is_dir():
        base = path.resolve()
        files = sorted((path / "data").glob("*.parquet"))
        splits = [_split_of(file) for file in files]
        # A train part without a validation part of its own may still be divided.
        settled = "validation" in splits
        found = [
            _Found(file, base, split if settled else None, (*base.parts, file.stem), depth=2)
            for file, split in zip(files, splits, strict=True)
            if split != "test"
        ]
        if not found:
            what = "only test files" if files else "nothing"
            raise UserError(f"{path}: {what} in data/*.parquet: name a {', '.join(SUFFIXES)} file or a prepared set")
        return found
    if not path.exists():
        raise UserError(f"{path}: no such file or folder: check the path (the built-in set is called '{SYNTHETIC}')")
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise UserError(f"{path}: unknown kind of file '{path.suffix}': expected {', '.join(SUFFIXES)} or a folder")
    base = path.absolute().parent.resolve()
    return [_Found(path, base, None, (*base.parts, path.stem), depth=1)]


def _split_of(file: Path) -> str | None:
    """Tell the split from a file name such as `train-00000-of-00002.parquet` or `my_val.parquet`."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def _file_source(found: _Found, label: str) -> FileSource:
    suffix = found.file.suffix.lower()
    if suffix == ".parquet":
        return ParquetSource(found.file, label, found.split, found.base)
    if suffix == ".json" and _starts_with_list(found.file):
        return JsonSource(found.file, label, found.split, found.base)
    # Many .json files hold one object per line.
    return JsonLinesSource(found.file, label, found.split, found.base)


def _starts_with_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_distinct(inputs: Sequence[str | Path], found: Sequence[_Found]) -> None:
    seen: set[Path] = set()
    for item in found:
        file = item.file.resolve()
        if file in seen:
            raise UserError(f"{item.file}: named twice: name each input once")
        seen.add(file)
    if list(inputs).count(SYNTHETIC) > 1:
        raise UserError(f"{SYNTHETIC}: named twice: name each input once")


def _label(item: _Found, found: Sequence[_Found]) -> str:
    """Name a file by as few parts of its path as tell it apart from the others."""
    others = [other.name for other in found if other is not item]
    for depth in range(item.depth, len(item.name) + 1):
        if all(other[-depth:] != item.name[-depth:] for other in others):
            return "/".join(item.name[-depth:])
    # Two files that differ in their suffix only.
    return str(item.file)
