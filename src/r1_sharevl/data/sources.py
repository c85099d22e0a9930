"""From what the user names to the readers of it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .readers.builtin import SyntheticSource
from .readers.delimited import DelimitedSource, TsvSource
from .readers.folders import ACCEPTED, ACCEPTED_FOLDERS, DataFile, data_suffix, files_in, stem_of
from .readers.hub import HUB_SYNTAX, HubName, open_hub, parse_hub_name
from .readers.json_files import JsonLinesSource, JsonSource, json_shape
from .readers.source import FileSource, Source
from .readers.tables import ArrowSource, ParquetSource

SYNTHETIC = "synthetic"
"""Names the built-in set where a path could stand."""


def open_sources(
    inputs: Sequence[str | Path],
    *,
    train_rows: int = 0,
    validation_rows: int = 0,
    seed: int = 0,
    with_test: bool = False,
) -> list[Source]:
    """Find the readers for what the user names.

    Args:
        inputs: One or several of
            - `"synthetic"`, the built-in set;
            - a `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` (all also as `.gz`), `.parquet` or `.arrow` file;
            - a folder: a prepared set, data files in it or in its `data/`, what `save_to_disk` wrote, or pictures with
              `metadata.jsonl`, `.csv` or `.parquet` (also one in each of `train/`, `validation/`); with `#split` behind
              it only that split;
            - `owner/name[:config][@revision][#split]`, a data set of the Hugging Face Hub, `hf://datasets/` in front
              or not. What exists here as a file or folder is never looked for there.
            Test parts of folders and of data sets are left out, but where the split is named.
        train_rows: Rows of the built-in set's train split.
        validation_rows: Rows of the built-in set's validation split.
        seed: Seed of the built-in set.
        with_test: Open test parts, too, as such of no split.

    Returns:
        One source per file or split, in the order named.

    Raises:
        UserError: Nothing named, a path missing, of an unknown kind or named twice, or data that cannot be used.
    """
    if not inputs:
        raise UserError(
            f"no input: name '{SYNTHETIC}', {ACCEPTED}, {ACCEPTED_FOLDERS}, or a data set of the Hub as {HUB_SYNTAX}"
        )
    # Everything named is found before anything is read or downloaded.
    named = [_find(item, with_test) for item in inputs]
    _check_distinct(named)
    files = [file for found in named if isinstance(found, list) for file in found]
    sources: list[Source] = []
    for position, found in enumerate(named):
        opened: Sequence[Source]
        if isinstance(found, HubName):
            opened = open_hub(found, with_test=with_test)
        elif isinstance(found, list):
            opened = [_open(file, _label(file, files)) for file in found]
        else:
            counts = {"train": train_rows, "validation": validation_rows}
            opened = [SyntheticSource(split, count, seed) for split, count in counts.items() if count]
        for source in opened:
            source.input = position
        sources += opened
    # Besides: a data set of the Hub, and one of its splits again.
    if twice := [label for label, count in Counter(source.label for source in sources).items() if count > 1]:
        raise UserError(f"{twice[0]}: named twice: name each input once")
    return sources


def _find(item: str | Path, with_test: bool) -> str | HubName | list[DataFile]:
    """Find the files behind a name, or tell that it names the built-in set or a data set of the Hub."""
    if item == SYNTHETIC:
        return SYNTHETIC
    path = Path(item)
    try:
        if path.is_dir():
            return files_in(path, with_test=with_test)
        if not path.exists():
            folder, _, split = str(item).rpartition("#")
            if folder and Path(folder).is_dir():
                return files_in(Path(folder), split=split)
            if hub_name := parse_hub_name(str(item)):
                return hub_name
            raise UserError(
                f"{path}: no such file or folder: check the path (the built-in set is called '{SYNTHETIC}', and a data "
                f"set of the Hub {HUB_SYNTAX})"
            )
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not path.is_file():
        raise UserError(f"{path}: a pipe, socket or device: name a file or a folder")
    if data_suffix(path) is None:
        raise UserError(f"{path}: unknown kind of file '{path.suffix}': expected {ACCEPTED}, or {ACCEPTED_FOLDERS}")
    base = path.absolute().parent.resolve()
    return [DataFile(path, base, None, (*base.parts, stem_of(path)), depth=1)]


def _open(found: DataFile, label: str) -> FileSource:
    where = (found.file, label, found.split, found.base)
    suffix = data_suffix(found.file)
    if suffix == ".parquet":
        return ParquetSource(*where)
    if suffix == ".arrow":
        return ArrowSource(*where)
    if suffix == ".csv":
        return DelimitedSource(*where)
    if suffix == ".tsv":
        return TsvSource(*where)
    # Many .json files hold one object per line.
    if suffix == ".json" and (shape := json_shape(found.file)).kind != "lines":
        return JsonSource(*where, shape=shape)
    return JsonLinesSource(*where)


def _check_distinct(named: Sequence[str | HubName | list[DataFile]]) -> None:
    seen: set[str | HubName | Path] = set()
    for found in named:
        for item in found if isinstance(found, list) else [found]:
            key = item.file.resolve() if isinstance(item, DataFile) else item
            if key in seen:
                name = item.file if isinstance(item, DataFile) else item
                raise UserError(f"{name}: named twice: name each input once")
            seen.add(key)


def _label(item: DataFile, files: Sequence[DataFile]) -> str:
    """Name a file by as few parts of its path as tell it apart from the others."""
    others = [other.name for other in files if other is not item]
    for depth in range(item.depth, len(item.name) + 1):
        if all(other[-depth:] != item.name[-depth:] for other in others):
            return "/".join(item.name[-depth:])
    # Two files that differ in their suffix only.
    return str(item.file)
