"""Readers of one file (or of the built-in set): a stream of rows, every unusable row reported and passed over."""

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .meta import MetaTypes
from .records import NEEDED, OWN_FIELDS, to_row
from .row_error import RowError
from .synthetic import synthetic_rows

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROWS_AT_A_TIME = 16


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used.

    Attributes:
        id: The row's id, None where it could not be read.
        where: File and row.
        reason: The kind of fault, the same for all rows that have it.
        detail: One line: where, what was found and what to do.
    """

    id: str | None
    where: str
    reason: str
    detail: str


OnReject = Callable[[Rejected], None]


class Source(ABC):
    """A stream of rows in the schema's shape.

    Attributes:
        label: Name of the source, distinct among the sources of a set; the rows' `source` where they name none.
        path: The file; None for the built-in set.
        split: `"train"` or `"validation"` where the input says to which the rows belong, else None.
        num_rows: How many rows it has, good and bad.
        meta_types: Types of the meta columns.
    """

    label: str
    path: Path | None
    split: str | None
    num_rows: int
    meta_types: MetaTypes

    @abstractmethod
    def rows(self, on_reject: OnReject) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the rows in order.

        Args:
            on_reject: Called with each row that cannot be read.

        Yields:
            `(where, row)`, `where` like `train.jsonl, line 7`. Pictures are fetched but not decoded, see `to_row`.
        """

    def sha256(self) -> str | None:
        """Hash the file's bytes; None for the built-in set. Pictures that the file names by path are not covered."""
        if self.path is None:
            return None
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class SyntheticSource(Source):
    """One split of the built-in set."""

    def __init__(self, split: str, num_rows: int, seed: int) -> None:
        self.label = f"synthetic/{split}"
        self.path = None
        self.split = split
        self.num_rows = num_rows
        self.meta_types = MetaTypes()
        self._seed = seed
        for row in synthetic_rows(split, min(num_rows, 1), seed):
            self.meta_types.see(row)

    def rows(self, on_reject: OnReject) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, row in enumerate(synthetic_rows(self.split or "train", self.num_rows, self._seed), start=1):
            yield f"{self.label}, row {number}", row


class FileSource(Source):
    """A file of records; subclasses read the records, this class makes rows of them.

    Raises:
        UserError: The file is unreadable or empty, or has no column of a needed name.
    """

    path: Path
    row_word = "row"

    def __init__(self, path: Path, label: str, split: str | None = None, base: Path | None = None) -> None:
        self.path = path
        self.label = label
        self.split = split
        self._base = (base or path.parent).resolve()
        try:
            columns = self._scan()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        if self.num_rows == 0:
            raise UserError(f"{path}: is empty: it needs at least one row with {' and '.join(NEEDED)}")
        # No columns at all: nothing in it could be read, which the rejected rows will say.
        missing = [name for name in NEEDED if columns and name not in columns]
        if missing:
            raise UserError(
                f"{path}: no column '{missing[0]}' (found: {', '.join(sorted(columns))}): rename the column that "
                f"holds the {missing[0]}"
            )

    @abstractmethod
    def _scan(self) -> set[str]:
        """Set `num_rows` and `meta_types`, and give the names of all columns."""

    @abstractmethod
    def _records(self) -> Iterator[tuple[int, Any]]:
        """Read `(number, record)` in order, counted from 1; a `RowError` in place of a record that cannot be read."""

    def rows(self, on_reject: OnReject) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, record in self._records():
            where = f"{self.path.name}, {self.row_word} {number}"
            default_id = f"{self.label}-{number}"
            try:
                if isinstance(record, RowError):
                    raise RowError(record.reason, f"{where}: {record}")
                row = to_row(record, where, default_id=default_id, default_source=self.label, base=self._base)
            except RowError as error:
                row_id = record.get("id") if isinstance(record, dict) else None
                row_id = str(row_id) if isinstance(row_id, str | int) else default_id
                on_reject(Rejected(row_id, where, error.reason, str(error)))
            else:
                yield where, row


class JsonLinesSource(FileSource):
    """A file of one JSON object per line, read one line at a time."""

    row_word = "line"

    def _scan(self) -> set[str]:
        self.num_rows = 0
        self.meta_types = MetaTypes()
        columns: set[str] = set()
        for _, record in self._records():
            self.num_rows += 1
            if isinstance(record, dict):
                columns.update(record)
                self.meta_types.see(record)
        return columns

    def _records(self) -> Iterator[tuple[int, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if text.strip():
                    yield number, _parse_json(text)


class JsonSource(FileSource):
    """A file that is one JSON list of objects; it is held in memory, so large sets belong into JSON Lines."""

    def _scan(self) -> set[str]:
        records = _parse_json(self.path.read_bytes().removeprefix(_BYTE_ORDER_MARK))
        if isinstance(records, RowError):
            raise UserError(f"{self.path}: {records}")
        if not isinstance(records, list):
            raise UserError(f"{self.path}: expected a list of objects: write [{{…}}, {{…}}] or one object per line")
        self._list = records
        self.num_rows = len(records)
        self.meta_types = MetaTypes()
        objects = [record for record in records if isinstance(record, dict)]
        for record in objects:
            self.meta_types.see(record)
        return set(itertools.chain.from_iterable(objects))

    def _records(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._list, start=1)


class ParquetSource(FileSource):
    """A parquet file, read a few rows at a time. Meta columns with binary content are left out."""

    def _scan(self) -> set[str]:
        try:
            schema = pq.read_schema(self.path)
            self.num_rows = pq.read_metadata(self.path).num_rows
        except pa.ArrowException as error:
            raise UserError(f"{self.path}: not a readable parquet file ({_one_line(error)}): copy it again") from error
        twice = [name for name in schema.names if schema.names.count(name) > 1]
        if twice:
            raise UserError(f"{self.path}: has two columns named '{twice[0]}': rename one")
        self._columns = [field.name for field in schema if field.name in OWN_FIELDS or not _has_binary(field.type)]
        self.meta_types = MetaTypes(
            {name: _dtype_of(schema.field(name).type) for name in self._columns if name not in OWN_FIELDS}
        )
        return set(schema.names)

    def _records(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=self._columns):
                    for record in batch.to_pylist():
                        number += 1
                        yield number, record
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{self.path}: cannot be read after row {number} ({_one_line(error)}): copy it again"
            ) from error


def _parse_json(text: bytes) -> Any:
    """Parse JSON as data; gives a `RowError` for what is not valid JSON."""
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError as error:
        return RowError("not UTF-8", f"not UTF-8 text (byte {error.start}): save the file as UTF-8")
    except RecursionError:
        return RowError("not valid JSON", "not valid JSON: nested too deep")
    except ValueError as error:
        # JSONDecodeError, and integers of more digits than Python converts.
        return RowError("not valid JSON", f"not valid JSON: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _has_binary(dtype: pa.DataType) -> bool:
    if pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype):
        return True
    return any(_has_binary(dtype.field(index).type) for index in range(dtype.num_fields))


def _dtype_of(dtype: pa.DataType) -> str:
    """Give the meta type of a parquet column, as `MetaTypes` has it."""
    if pa.types.is_boolean(dtype):
        return "bool"
    if pa.types.is_integer(dtype) and dtype != pa.uint64():
        return "int64"
    return "float64" if pa.types.is_floating(dtype) else "string"
