"""Data sets of the Hugging Face Hub."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ...errors import UserError
from ..images import CANNOT_READ
from ..row_error import RowError
from .folders import settled_splits
from .source import Source, check_names, hash_files, one_line
from .tables import ROWS_AT_A_TIME, records_of, types_of

if TYPE_CHECKING:
    import datasets

HUB_SYNTAX = "owner/name[:config][@revision][#split]"
"""How a data set of the Hub is named: no character of it needs quoting in a shell."""

_MAX_PICTURE_BYTES = 128 * 1024 * 1024
_HUB_NAME = re.compile(
    r"(?P<scheme>hf:/{1,2}datasets/)?"  # a Path has lost one of the slashes
    r"(?P<id>\w[\w.-]{0,95}/\w[\w.-]{0,95})"
    r"(?::(?P<config>[^:@#/\\<>|?*\s]+))?"
    r"(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?"
    r"(?:#(?P<split>\w+(?:\.\w+)*))?",
    re.ASCII,
)
# `train.jsonl`, not `v1.5`.
_FILE_SUFFIX = re.compile(r".*\.[A-Za-z]\w*", re.ASCII)


class HubName(NamedTuple):
    """A data set of the Hub, or one split of it.

    Attributes:
        id: `owner/name`.
        config: Its config (subset); None where it has only one or a default.
        revision: Branch, tag or commit; None for the main branch.
        split: The split; None for its train and validation parts.
    """

    id: str
    config: str | None
    revision: str | None
    split: str | None

    def __str__(self) -> str:
        parts = ((":", self.config), ("@", self.revision), ("#", self.split))
        return self.id + "".join(mark + part for mark, part in parts if part)


def parse_hub_name(text: str) -> HubName | None:
    """Read `owner/name[:config][@revision][#split]`, with or without `hf://datasets/` in front.

    Returns:
        None for what is no such name, or looks like the path of a file: has a suffix such as `.jsonl`, and no
        `hf://datasets/` in front.
    """
    match = _HUB_NAME.fullmatch(text)
    if match is None or (match["scheme"] is None and _FILE_SUFFIX.fullmatch(match["id"])):
        return None
    return HubName(match["id"], match["config"], match["revision"], match["split"])


class HubSource(Source):
    """One split of a data set of the Hub, as `datasets` keeps it in its cache; pictures are left encoded.

    Attributes:
        revision: The commit that was read.
    """

    base: Path
    revision: str

    def __init__(self, dataset: "datasets.Dataset", label: str, split: str | None, repository: Path) -> None:
        self.label = label
        self.path = None
        self.split = split
        # Pictures that are files of the repository are given by their paths in the Hub's cache.
        self.base = repository
        self.num_rows = len(dataset)
        if self.num_rows == 0:
            raise UserError(f"{label}: is empty: name another split")
        self._dataset = dataset.with_format("arrow")
        check_names(Path(label), dataset.column_names)
        self.types = types_of(dataset.data.schema)
        self.columns = tuple(dataset.column_names)
        self.revision = self._files()[0].parent.name

    def records(self) -> Iterator[tuple[int, Any]]:
        tables = self._dataset.iter(ROWS_AT_A_TIME)
        rows = (row for table in tables for batch in table.to_batches() for row in records_of(batch))
        with _Archives(self.base) as archives:
            for number, record in enumerate(rows, start=1):
                try:
                    record = archives.unpacked(record)
                except RowError as error:
                    record = error
                yield number, self._placed(number, record)

    def sha256(self) -> str:
        """Hash the files in `datasets`' cache."""
        return hash_files(self._files())

    def _files(self) -> list[Path]:
        return [Path(entry["filename"]) for entry in self._dataset.cache_files]


class _Archives:
    """Reads the pictures that `datasets` gives as `zip://picture.png::/path/of/archive.zip`.

    Args:
        base: The folder that archives must lie in.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._open: dict[str, zipfile.ZipFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._open.values():
            archive.close()

    def unpacked(self, value: Any) -> Any:
        """Give `value` with such pictures as bytes.

        Raises:
            RowError: A picture cannot be read.
        """
        if isinstance(value, list):
            return [self.unpacked(item) for item in value]
        if not isinstance(value, dict):
            return value
        path = value.get("path")
        if set(value) == {"bytes", "path"} and value["bytes"] is None and isinstance(path, str) and "::" in path:
            return {"bytes": self._read(path), "path": path}
        return {name: self.unpacked(item) for name, item in value.items()}

    def _read(self, path: str) -> bytes:
        member, _, archive = path.removeprefix("zip://").partition("::")
        try:
            if archive not in self._open:
                if not Path(archive).resolve().is_relative_to(self._base):
                    raise RowError(CANNOT_READ, f"picture {path[:200]!a} is not in the data set's own files")
                self._open[archive] = zipfile.ZipFile(archive)
            with self._open[archive].open(member) as file:
                data = file.read(_MAX_PICTURE_BYTES + 1)
        except RowError:
            raise
        # Encrypted members and unknown ways of packing: RuntimeError, of which NotImplementedError is one.
        except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise RowError(CANNOT_READ, f"picture {path[:200]!a} cannot be unpacked: {one_line(error)}") from error
        if len(data) > _MAX_PICTURE_BYTES:
            raise RowError(CANNOT_READ, f"picture {path[:200]!a} has more than {_MAX_PICTURE_BYTES // 2**20} MiB")
        return data


def open_hub(name: HubName, *, with_test: bool = False) -> list[HubSource]:
    """Download a data set, or take it from the cache, and open its train and validation parts or the split named.

    No code of the data set's is run: `datasets` reads data files only.

    Args:
        name: The data set.
        with_test: Open its test parts, too, as such of no split.

    Raises:
        UserError: The Hub cannot be reached, or has no such data set, config, revision or split for this user; or all
            its splits are test splits and none is named.
    """
    # Takes a second: not for those who read files.
    import datasets
    import huggingface_hub.constants

    try:
        loaded = datasets.load_dataset(name.id, name.config, split=name.split, revision=name.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"{name}: no such file or folder here, and on the Hub: {one_line(error)} Check the name; for a closed data "
            "set, accept its terms there and log in with `hf auth login`"
        ) from error
    except (ConnectionError, TimeoutError) as error:
        raise UserError(
            f"{name}: no such file or folder here, and the Hub cannot be reached ({one_line(error)}): check the name "
            "and the network (and HF_HUB_OFFLINE), or download the data and name its folder"
        ) from error
    # Whatever reading files of any kind from the network may raise.
    except Exception as error:
        raise UserError(
            f"{name}: cannot be loaded from the Hub: {one_line(error)} (a config, revision and split are named like "
            f"{HUB_SYNTAX})"
        ) from error
    repository = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"datasets--{name.id.replace('/', '--')}"
    repository = repository.resolve()
    label = str(name._replace(split=None))
    if name.split:
        sources = [HubSource(loaded, f"{label}/{name.split}", None, repository)]
    else:
        splits = dict(zip(loaded, settled_splits(loaded), strict=True))
        kept = [split for split, part in splits.items() if with_test or part != "test"]
        if not kept:
            raise UserError(f"{name}: has only test splits: name the one that is meant: {name}#{next(iter(splits))}")
        sources = [
            HubSource(loaded[split], f"{label}/{split}", None if splits[split] == "test" else splits[split], repository)
            for split in kept
        ]
    if name.revision:
        _check_revision(name, sources[0].revision, repository)
    return sources


def _check_revision(name: HubName, found: str, repository: Path) -> None:
    """Refuse another revision than the one named: without the Hub, `datasets` takes any that it has in its cache."""
    resolved = repository / "refs" / str(name.revision)
    wanted = resolved.read_text().strip() if resolved.is_file() else name.revision
    if found != wanted:
        raise UserError(
            f"{name}: the Hub cannot be reached or has no such revision, and the cache holds another one, "
            f"{found[:40]}: check the revision or the network"
        )
