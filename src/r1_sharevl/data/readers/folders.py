"""What lies in a folder that the user names: the data files in it, and to which split each belongs."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UserError

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
TABLE_SUFFIXES = (".parquet", ".arrow")
SUFFIXES = (*TEXT_SUFFIXES, *TABLE_SUFFIXES)
ACCEPTED = f"a {', '.join(SUFFIXES)} file (text files also as .gz)"
ACCEPTED_FOLDERS = (
    "a prepared set, a folder of data files, a save_to_disk folder, or pictures with metadata.jsonl, .csv or .parquet"
)

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
    "testmini": "test",
    "eval": "test",
}
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# What tools leave beside the data.
_NO_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "manifest.json", "rejected.jsonl"})


class DataFile(NamedTuple):
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


def data_suffix(path: Path) -> str | None:
    """Tell the kind of a data file from its name; None for one that we do not read."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    return suffix if suffix in (TEXT_SUFFIXES if packed else SUFFIXES) else None


def stem_of(path: Path) -> str:
    """Give a data file's name without what tells its kind."""
    return Path(path.name[:-3] if path.name.lower().endswith(".gz") else path.name).stem


def split_of(name: str) -> str | None:
    """Tell the split, `"test"` included, from a name such as `train-00000-of-00002` or `my_val`."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def settled_splits(names: Iterable[str]) -> list[str | None]:
    """Give the split of each part of a data set from the parts' names; `"test"` parts are to be left out."""
    splits = [split_of(name) for name in names]
    # A train part without a validation part of its own may still be divided.
    return splits if "validation" in splits else [split if split == "test" else None for split in splits]


def files_in(folder: Path, *, split: str | None = None, with_test: bool = False) -> list[DataFile]:
    """Find the data files of a folder.

    Args:
        folder: The folder.
        split: Only the files of this split (`train`, `validation`, `test` or another word for it), as such of no split.
        with_test: Give its test files, too, as such of no split.

    Raises:
        UserError: There are none, or it is not clear which are meant.
    """
    base = folder.resolve()
    files = _saved(folder, base)
    if files is None:
        files = _with_metadata(folder, base) or _plain_files(folder, base)
    if split is not None:
        wanted = split_of(split)
        files = [file._replace(split=None) for file in files if wanted and split_of(file.name[-1]) == wanted]
        if not files:
            raise UserError(f"{folder}#{split}: no data file of this split in it: name the file itself")
    if with_test:
        files = [file._replace(split=None) if file.split == "test" else file for file in files]
    kept = [file for file in files if file.split != "test"]
    if not kept:
        if files:
            raise UserError(
                f"{folder}: only test files in it, which are left out: to use them all the same, name {files[0].file}"
            )
        raise UserError(f"{folder}: no data files in it: name {ACCEPTED}, {ACCEPTED_FOLDERS}")
    for found in kept:
        if not found.file.is_file():
            raise UserError(f"{found.file}: no such file, or none that can be read: copy the whole folder again")
    return kept


def _saved(folder: Path, base: Path) -> list[DataFile] | None:
    """Find the Arrow files of a `Dataset` or `DatasetDict` that `save_to_disk` wrote; None where it wrote neither."""
    if (folder / "state.json").is_file():
        return _saved_part(folder, base, None, 1)
    if not (folder / "dataset_dict.json").is_file():
        return None
    parts = _inside(folder, _json_object(folder / "dataset_dict.json").get("splits"), "dataset_dict.json")
    splits = settled_splits(part.name for part in parts)
    return [file for part, split in zip(parts, splits, strict=True) for file in _saved_part(part, base, split, 2)]


def _saved_part(folder: Path, base: Path, split: str | None, depth: int) -> list[DataFile]:
    state = _json_object(folder / "state.json")
    if state.get("_indices_data_files"):
        raise UserError(
            f"{folder}: saved by an old `datasets` with a list of the rows that count: load it and save it again"
        )
    entries = state.get("_data_files")
    names = [e.get("filename") if isinstance(e, dict) else None for e in entries] if isinstance(entries, list) else None
    # The folder may hold other Arrow files, left there by `map`.
    files = _inside(folder, names, "state.json")
    name = (*base.parts, folder.name) if depth == 2 else base.parts
    if len(files) == 1:
        return [DataFile(files[0], base, split, name, depth)]
    return [DataFile(file, base, split, (*name, file.stem), depth + 1) for file in files]


def _inside(folder: Path, names: Any, listed_in: str) -> list[Path]:
    """Give the items of `folder` that a file in it lists; they cannot be elsewhere."""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and _is_plain(name) for name in names):
        raise UserError(f"{folder / listed_in}: does not list the parts of the data: save the data set again")
    return [folder / name for name in names]


def _is_plain(name: str) -> bool:
    return name == Path(name).name and name != ".." and name.isprintable()


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: it must come from `save_to_disk`: save the data set again") from error
    return content if isinstance(content, dict) else {}


def _with_metadata(folder: Path, base: Path) -> list[DataFile]:
    """Find the metadata of an `imagefolder`; its picture paths start beside it."""
    if file := _metadata_in(folder):
        return [DataFile(file, base, None, base.parts, 1)]
    found = {
        part.name: file
        for part in sorted(folder.iterdir())
        if part.is_dir() and split_of(part.name) and (file := _metadata_in(part))
    }
    splits = settled_splits(found)
    return [
        DataFile(file, (base / name).resolve(), split, (*base.parts, name), 2)
        for (name, file), split in zip(found.items(), splits, strict=True)
    ]


def _metadata_in(folder: Path) -> Path | None:
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _plain_files(folder: Path, base: Path) -> list[DataFile]:
    """Find the data files in `data/` or in the folder itself; where there are parquet files, only those."""
    places = [place for place in (folder / "data", folder) if place.is_dir()]
    by_place = [
        [file for file in sorted(place.iterdir()) if file.name not in _NO_DATA and not file.name.startswith((".", "_"))]
        for place in places
    ]
    files: list[Path] = next(
        (
            chosen
            for suffixes in ((".parquet",), SUFFIXES)
            for content in by_place
            if (chosen := [file for file in content if data_suffix(file) in suffixes])
        ),
        [],
    )
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(stem_of(file), file)
        if other is not file:
            raise UserError(f"{folder}: both {other.name} and {file.name} are in it: name the one that is meant")
    splits = settled_splits(stems)
    return [
        DataFile(file, base, split, (*base.parts, stem), 2)
        for (stem, file), split in zip(stems.items(), splits, strict=True)
    ]
