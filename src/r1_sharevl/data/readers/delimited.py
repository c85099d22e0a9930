"""CSV and TSV files, every cell text or None; in VLMEvalKit's TSV files a picture may stand in another row."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from ...errors import UserError
from ..row_error import RowError
from .json_values import BYTE_ORDER_MARK, NOT_UTF8
from .source import FileSource, check_names, one_line, open_binary

MAX_ROW_BYTES = 64 * 1024 * 1024
"""The most one row of a CSV file may take: a quote that is never closed holds all that follows."""

NOT_CSV = "not valid CSV"
WRONG_CELLS = "wrong number of cells"
NO_REFERENCE = "image reference not found"

# As VLMEvalKit has it: a cell up to this long is no picture but the index of the row that holds it.
_MAX_REFERENCE = 64


class _Line(NamedTuple):
    offset: int
    data: bytes


class _RowLines:
    """The lines of a file for `csv.reader`, which remembers those of the current row.

    After a fault the row's lines except the first are read again: an unclosed quote makes one row of all that follows.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._offset = file.tell()
        self._again: deque[_Line] = deque()
        self.begin_row()

    def begin_row(self) -> None:
        self._row: list[_Line] = []
        self._row_bytes = 0
        self.is_utf8 = True

    def begin_after_first_line(self) -> None:
        self._again.extendleft(reversed(self._row[1:]))

    @property
    def row_offset(self) -> int:
        return self._row[0].offset

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._next_line()
        if not line.data:
            raise StopIteration
        self._row.append(line)
        self._row_bytes += len(line.data)
        if self._row_bytes >= MAX_ROW_BYTES:
            raise csv.Error(f"longer than {MAX_ROW_BYTES // 2**20} MiB (is a quote missing?)")
        try:
            return line.data.decode()
        except UnicodeDecodeError:
            self.is_utf8 = False
            return line.data.decode(errors="replace")

    def _next_line(self) -> _Line:
        line = _Line(self._offset, self._file.readline(MAX_ROW_BYTES))
        self._offset += len(line.data)
        if len(line.data) == MAX_ROW_BYTES:
            while (rest := self._file.readline(1024 * 1024)) and not rest.endswith(b"\n"):
                self._offset += len(rest)
            self._offset += len(rest)
        if line.offset == 0:
            line = _Line(0, line.data.removeprefix(BYTE_ORDER_MARK))
        return line


class DelimitedSource(FileSource):
    """A file of cells between commas under a line of names.

    Rows are those that `csv` reads: cells in double quotes may hold line breaks. An empty cell is None, every other one
    a text, `NA` and `null` too. Rows are counted from 1 below the names.
    """

    _delimiter = ","

    def _read(self) -> Iterator[tuple[int, Any]]:
        return ((number, record) for number, _, record in self._rows())

    def _rows(self) -> Iterator[tuple[int, int, Any]]:
        """Give each row's number, the place of its first byte, and its record."""
        with open_binary(self.path) as file:
            lines = _RowLines(file)
            reader = self._reader(lines)
            names = self._names(lines, reader)
            number = 0
            while True:
                lines.begin_row()
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    record: Any = RowError(
                        NOT_CSV,
                        f"not a row of cells ({one_line(error)}): put cells with quotes in quotes, doubled inside",
                    )
                else:
                    if cells is None:
                        return
                    if not cells:
                        continue
                    record = self._record(names, cells, lines.is_utf8)
                number += 1
                yield number, lines.row_offset, record
                if isinstance(record, RowError) and record.reason in (NOT_CSV, WRONG_CELLS):
                    lines.begin_after_first_line()

    def _reader(self, lines: Iterator[str]) -> Any:
        # The limit is one for the whole process; 128 kB, as it is at first, is less than many a picture.
        csv.field_size_limit(MAX_ROW_BYTES)
        # Strict: otherwise `"a"b` is read as `ab`, and a last cell without its closing quote as if it were whole.
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _names(self, lines: _RowLines, reader: Any) -> list[str]:
        try:
            cells: list[str] = next((cells for cells in reader if cells), [])
        except csv.Error as error:
            if not lines.is_utf8:
                raise UserError(f"{self.path}: not UTF-8 text: save the file as UTF-8") from error
            raise UserError(f"{self.path}: the line of names is not valid: {one_line(error)}: correct it") from error
        if not lines.is_utf8:
            raise UserError(f"{self.path}: not UTF-8 text: save the file as UTF-8")
        # Named as pandas does: its files begin with a column of row numbers that has no name.
        if len(cells) == 1 and self._delimiter == "," and ";" in cells[0]:
            raise UserError(
                f"{self.path}: cells stand between semicolons: save it with commas or, as .tsv, with tabs between them"
            )
        names = [cell.strip() or f"Unnamed: {position}" for position, cell in enumerate(cells)]
        check_names(self.path, names)
        if len(names) == 1:
            raise UserError(
                f"{self.path}: only one column, {names[0][:60]!a}: name the columns in the first line, with "
                f"{'commas' if self._delimiter == ',' else 'tabs'} between them"
            )
        return names

    def _record(self, names: list[str], cells: list[str], is_utf8: bool) -> Any:
        if not is_utf8:
            return RowError(NOT_UTF8, "not UTF-8 text: save the file as UTF-8")
        if len(cells) != len(names):
            return RowError(
                WRONG_CELLS, f"has {len(cells)} cells under {len(names)} names: put cells with separators in quotes"
            )
        return {name: cell or None for name, cell in zip(names, cells, strict=True)}


class TsvSource(DelimitedSource):
    """A file of cells between tabs; with the columns `index` and `image`, pictures named by index are put in place.

    VLMEvalKit's files hold a picture that several rows share once; the others' `image` is the index of that row. What
    is not the index of another row but looks like a path is left as it is.
    """

    _delimiter = "\t"
    _holders: dict[str, int] | None = None
    """Where the rows begin whose pictures others name, by index; None until the file was read once."""

    _image_cell = 0

    def _read(self) -> Iterator[tuple[int, Any]]:
        return self._find_holders() if self._holders is None else self._resolve(self._holders)

    def _find_holders(self) -> Iterator[tuple[int, Any]]:
        named: set[str] = set()
        holders: dict[str, int] = {}
        for number, offset, record in self._rows():
            if isinstance(record, dict) and "index" in record and record.get("image"):
                self._image_cell = list(record).index("image")
                if len(record["image"]) <= _MAX_REFERENCE:
                    named.add(record["image"])
                elif record["index"]:
                    holders[record["index"]] = offset
            yield number, record
        self._holders = {index: offset for index, offset in holders.items() if index in named}

    def _resolve(self, holders: dict[str, int]) -> Iterator[tuple[int, Any]]:
        last = last_image = None
        for number, _, record in self._rows():
            reference = record.get("image") if isinstance(record, dict) and "index" in record else None
            if reference and len(reference) <= _MAX_REFERENCE:
                if reference in holders:
                    # Rows that share a picture mostly follow each other.
                    if reference != last:
                        last, last_image = reference, self._image_at(holders[reference])
                    record["image"] = last_image
                elif not set("./") & set(reference):
                    record = RowError(
                        NO_REFERENCE, f"field 'image' names row {reference!a}, but no row of that index has an image"
                    )
            yield number, record

    def _image_at(self, offset: int) -> str:
        with open_binary(self.path) as file:
            file.seek(offset)
            cells: list[str] = next(self._reader(_RowLines(file)))
            return cells[self._image_cell]
