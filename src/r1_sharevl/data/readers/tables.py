"""Parquet and Arrow files, read a few rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ..meta import BINARY, MetaTypes
from ..row_error import RowError
from .json_values import NOT_UTF8
from .source import FileSource, check_names, one_line

ROWS_AT_A_TIME = 16
NOT_DECODED = "row cannot be decoded"

_BUFFER_BYTES = 1024 * 1024
# What Arrow's other format, the one that is a stream, does not begin with.
_ARROW_FILE_MAGIC = b"ARROW1"


class ParquetSource(FileSource):
    """A parquet file."""

    def _scan(self) -> None:
        with _unreadable_as_user_error(self.path, "parquet"), pq.ParquetFile(self.path) as file:
            self.num_rows = file.metadata.num_rows
            names = file.schema_arrow.names
            self.types = types_of(file.schema_arrow)
        check_names(self.path, names)

    def _read(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._rows(), start=1)

    def _rows(self) -> Iterator[Any]:
        # By default each column of a row group is read whole, and pandas writes up to a million rows into one group.
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            for batch in file.iter_batches(ROWS_AT_A_TIME):
                yield from records_of(batch)


class ArrowSource(FileSource):
    """An Arrow file, in the stream format (as `datasets` writes it) or the file format (Feather)."""

    def _scan(self) -> None:
        with _unreadable_as_user_error(self.path, "Arrow"), _mapped(self.path) as file:
            reader = _open(file)
            names = reader.schema.names
            self.types = types_of(reader.schema)
            self.num_rows = sum(batch.num_rows for batch in _batches(reader))
        check_names(self.path, names)

    def _read(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._rows(), start=1)

    def _rows(self) -> Iterator[Any]:
        with _mapped(self.path) as file:
            for batch in _batches(_open(file)):
                # Once for the batch: the check of a slice goes through all that the batch's lists hold.
                valid = _is_valid(batch)
                for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
                    yield from records_of(batch.slice(start, ROWS_AT_A_TIME), valid=valid)


def records_of(batch: pa.RecordBatch, *, valid: bool = True) -> Iterator[dict[str, Any] | RowError]:
    """Give the rows of a batch as dicts, a `RowError` in place of each that holds what Python has no value for.

    Args:
        batch: The rows.
        valid: Offsets and texts of the batch are known to be in order; otherwise each row is checked.
    """
    try:
        if not valid:
            batch.validate(full=True)
        yield from batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            reason = NOT_UTF8 if "utf8" in str(error).lower().replace("-", "") else NOT_DECODED
            yield RowError(reason, f"cannot be decoded ({one_line(error)}): write the row again")
            return
        for index in range(batch.num_rows):
            yield from records_of(batch.slice(index, 1), valid=valid)


def types_of(schema: pa.Schema) -> MetaTypes:
    """Give the types of all columns of a table."""
    return MetaTypes({field.name: _dtype_of(field.type) for field in schema})


def _is_valid(batch: pa.RecordBatch) -> bool:
    """Nobody vouches for the offsets in an Arrow file: followed unchecked, they lead anywhere in memory."""
    try:
        batch.validate(full=True)
    except pa.ArrowException:
        return False
    return True


@contextmanager
def _unreadable_as_user_error(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    # UnicodeDecodeError: in the name of a column.
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable {kind} file ({one_line(error)}): copy it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from error


def _mapped(path: Path) -> Any:
    """Map the file: its writer decides how large a batch is, and only the rows in use shall be in memory."""
    return pa.memory_map(str(path))


def _open(file: Any) -> Any:
    is_file_format = file.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    file.seek(0)
    return pa.ipc.open_file(file) if is_file_format else pa.ipc.open_stream(file)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(index) for index in range(reader.num_record_batches))
    return iter(reader)


def _dtype_of(dtype: pa.DataType) -> str:
    """Give the type of a column as `MetaTypes` has it."""
    if _has_binary(dtype):
        return BINARY
    if pa.types.is_dictionary(dtype):
        return _dtype_of(dtype.value_type)
    if pa.types.is_boolean(dtype):
        return "bool"
    if pa.types.is_integer(dtype) and dtype != pa.uint64():
        return "int64"
    return "float64" if pa.types.is_floating(dtype) else "string"


def _has_binary(dtype: pa.DataType) -> bool:
    if (
        pa.types.is_binary(dtype)
        or pa.types.is_large_binary(dtype)
        or pa.types.is_fixed_size_binary(dtype)
        or pa.types.is_binary_view(dtype)
    ):
        return True
    if pa.types.is_dictionary(dtype):
        return _has_binary(dtype.value_type)
    return any(_has_binary(dtype.field(index).type) for index in range(dtype.num_fields))
