"""What a source is: a stream of numbered raw records, every damaged one in its place."""

import gzip
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ...errors import UserError
from ..meta import MetaTypes
from ..row_error import RowError

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""The most one record of a text file may take: what is held in memory at once."""

_MAX_COLUMNS = 10_000
# A sample is for guessing: where so many records have no object among them, there is none to guess from.
_SAMPLED_RECORDS = 1000


class Source(ABC):
    """A stream of raw records.

    Attributes:
        label: Name of the source, distinct among the sources of a set; the rows' `source` where they name none.
        input: Position, from 0, of the input it belongs to: a folder is one input and many sources.
        path: The file; None for the built-in set and for the Hub.
        revision: The commit of a data set of the Hub.
        split: `"train"` or `"validation"` where the input says to which the rows belong, else None.
        base: The folder that picture paths start from and cannot leave; None where there may be no paths.
        num_rows: How many records it has, good and bad.
        row_word: What a record's number counts, `"row"` or `"line"`.
        columns: Names of all columns, in order of first appearance.
        types: Types of all columns.
    """

    label: str
    input: int = 0
    path: Path | None
    revision: str | None = None
    split: str | None
    base: Path | None
    num_rows: int
    row_word: str = "row"
    columns: tuple[str, ...]
    types: MetaTypes

    @abstractmethod
    def records(self) -> Iterator[tuple[int, Any]]:
        """Read the records in order, holding a bounded number of them.

        Yields:
            `(number, record)`, counted from 1: an object as a dict, or any other value where the data has one in its
            place, or a `RowError` for what cannot be read.

        Raises:
            UserError: The file is cut short or damaged such that nothing after the place can be read.
        """

    def sample(self, count: int = 20) -> list[dict[str, Any]]:
        """Give the first `count` records that are objects, or fewer where few of the first ones are."""
        records = (record for _, record in islice(self.records(), _SAMPLED_RECORDS))
        return list(islice((record for record in records if isinstance(record, dict)), count))

    def _placed(self, number: int, record: Any) -> Any:
        """Give the record; where it is a fault, with its place in front of the message."""
        return RowError(record.reason, f"{self.where(number)}: {record}") if isinstance(record, RowError) else record

    def where(self, number: int) -> str:
        """Name a record for people, like `train.jsonl, line 7`."""
        return f"{self.label if self.path is None else self.path.name}, {self.row_word} {number}"

    def default_id(self, number: int) -> str:
        """Give the id of a row that has none of its own."""
        return f"{self.label}-{number}"

    def sha256(self) -> str | None:
        """Hash the data's bytes; None for the built-in set. Pictures that a file names by path are not covered."""
        return None if self.path is None else hash_files([self.path])


class FileSource(Source):
    """A file of records; subclasses read it, this class counts the records and says where a fault is.

    Raises:
        UserError: The file is unreadable or empty.
    """

    path: Path

    def __init__(self, path: Path, label: str, split: str | None = None, base: Path | None = None) -> None:
        self.path = path
        self.label = label
        self.split = split
        self.base = (base or path.parent).resolve()
        self._scan()
        self.columns = tuple(self.types.as_dict())
        if self.num_rows == 0:
            raise UserError(f"{path}: is empty: it needs at least one row")

    @abstractmethod
    def _read(self) -> Iterator[tuple[int, Any]]:
        """Read as `records` does; messages of a `RowError` do not say where."""

    def _scan(self) -> None:
        """Set `num_rows` and `types`; reads the whole file where it does not tell by itself."""
        self.num_rows = 0
        self.types = MetaTypes()
        for number, record in self.records():
            self._count(number, record)

    def _count(self, number: int, record: Any) -> None:
        self.num_rows += 1
        if isinstance(record, dict):
            self.types.see(record)
            if len(self.types) > _MAX_COLUMNS:
                raise UserError(
                    f"{self.path}: more than {_MAX_COLUMNS:,} different field names by {self.row_word} {number}: "
                    "use the same names in all rows"
                )

    def records(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            for number, record in self._read():
                yield number, self._placed(number, record)
        # zlib.error and EOFError: gzip files that are damaged and cut short.
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            if number == 0:
                raise UserError(f"{self.path}: cannot be read: {one_line(error)}") from error
            raise UserError(
                f"{self.path}: cannot be read after {self.row_word} {number} ({one_line(error)}): copy it again"
            ) from error


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a table in which two columns have the same name.

    Raises:
        UserError: It has.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}: has two columns named {twice[0][:60]!r}: rename one")


def open_binary(path: Path) -> IO[bytes]:
    """Open a text file for reading, unpacked where it is packed by gzip."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def hash_files(paths: list[Path]) -> str:
    """Give the SHA-256 of the files' bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(1024 * 1024):
                digest.update(data)
    return digest.hexdigest()


def one_line(error: Exception) -> str:
    """Give what an error says, short and on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]
