"""JSON files: one object per line, or one document that holds a list of objects or objects by id."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import UserError
from ..row_error import RowError
from .json_values import BYTE_ORDER_MARK, TOO_LARGE, BrokenJsonError, JsonCursor, parse_json
from .source import MAX_RECORD_BYTES, FileSource, one_line, open_binary

# Names of the list in a document such as {"version": "1.0", "data": […]}. An object with any other fields beside its
# one list of objects may as well be a single row.
_LIST_NAMES = frozenset(
    {"annotations", "data", "examples", "instances", "items", "questions", "records", "rows", "samples"}
)
_FIRST_LINES = 20
_FIRST_LINE_BYTES = 1024 * 1024


class JsonShape(NamedTuple):
    """How a `.json` file holds its records.

    Attributes:
        kind: One object per line; a list; objects by id; or a list that an object holds under a name.
        name: That name.
    """

    kind: Literal["lines", "list", "by id", "list in object"]
    name: str | None = None


class JsonLinesSource(FileSource):
    """A file of one JSON object per line, read one line at a time."""

    row_word = "line"

    def _read(self) -> Iterator[tuple[int, Any]]:
        with open_binary(self.path) as file:
            number = 0
            while line := file.readline(MAX_RECORD_BYTES):
                number += 1
                if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
                    del line
                    while (rest := file.readline(_FIRST_LINE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                    yield number, RowError(TOO_LARGE, f"longer than {MAX_RECORD_BYTES // 2**20} MiB: leave it out")
                    continue
                text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                if text.strip():
                    yield number, parse_json(text)


class JsonSource(FileSource):
    """A file that is one JSON document, read one record at a time.

    A record with a fault inside is passed over; where brackets or quotes do not match, the file is refused.
    """

    def __init__(
        self, path: Path, label: str, split: str | None = None, base: Path | None = None, *, shape: JsonShape
    ) -> None:
        self._shape = shape
        super().__init__(path, label, split, base)

    def _read(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            with open_binary(self.path) as file:
                cursor = JsonCursor(file)
                for number, record in enumerate(self._records_at(cursor), start=1):
                    yield number, record
                if self._shape.kind != "list in object" and (rest := cursor.peek()):
                    raise BrokenJsonError(f"found {rest!a} after the end of the document")
        except BrokenJsonError as error:
            raise _broken(self.path, error, f" at row {number + 1}") from error

    def _records_at(self, cursor: JsonCursor) -> Iterator[Any]:
        if self._shape.kind == "list":
            yield from _list_values(cursor)
        elif self._shape.kind == "by id":
            for key in _keys(cursor):
                value = parse_json(cursor.value())
                if isinstance(key, RowError):
                    value = key
                elif isinstance(value, dict) and value.get("id") is None:
                    value["id"] = key
                yield value
        else:
            for key in _keys(cursor):
                if key == self._shape.name and cursor.peek() == "[":
                    yield from _list_values(cursor)
                    return
                cursor.skip()


def json_shape(path: Path) -> JsonShape:
    """Find out how a `.json` file holds its records; reads it once, holding little of it.

    Raises:
        UserError: It holds them in no way that we know, or cannot be read.
    """
    try:
        with open_binary(path) as file:
            first = [file.readline(_FIRST_LINE_BYTES) for _ in range(_FIRST_LINES)]
        lines = [line for line in (first[0].removeprefix(BYTE_ORDER_MARK), *first[1:]) if line.strip()]
        # Nothing in it: the reader of lines says so.
        if not lines or (len(lines) > 1 and isinstance(parse_json(lines[0]), dict)):
            return JsonShape("lines")
        with open_binary(path) as file:
            on_one_line = not any(line.endswith(b"\n") for line in lines[:-1])
            return _document_shape(path, JsonCursor(file), on_one_line)
    except BrokenJsonError as error:
        if any(isinstance(parse_json(line), dict) for line in lines):
            return JsonShape("lines")
        raise _broken(path, error) from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from error


def _document_shape(path: Path, cursor: JsonCursor, on_one_line: bool) -> JsonShape:
    if cursor.peek() == "[":
        return JsonShape("list")
    lists: list[str] = []
    fields = objects = 0
    for key in _keys(cursor):
        fields += 1
        objects += cursor.peek() == "{"
        if cursor.peek() != "[":
            cursor.skip()
        elif _skip_list(cursor) and isinstance(key, str):
            lists.append(key)
    more = cursor.peek()
    if not more and fields and objects == fields:
        return JsonShape("by id")
    if not more and len(lists) == 1 and (fields == 1 or lists[0] in _LIST_NAMES):
        return JsonShape("list in object", lists[0])
    if on_one_line or more:
        return JsonShape("lines")
    found = f" (found several: {', '.join(lists[:10])})" if len(lists) > 1 else ""
    raise UserError(
        f"{path}: expected one list of objects{found}: write [{{…}}, {{…}}], or one object per line in a .jsonl file"
    )


def _keys(cursor: JsonCursor) -> Iterator[Any]:
    """Go through an object: yields each key with the cursor at its value, which the caller must pass."""
    cursor.take("{")
    while cursor.peek() != "}":
        yield cursor.key()
        if cursor.peek() != "}":
            cursor.take(",")
    cursor.take("}")


def _list_values(cursor: JsonCursor) -> Iterator[Any]:
    cursor.take("[")
    while cursor.peek() != "]":
        yield parse_json(cursor.value())
        if cursor.peek() != "]":
            cursor.take(",")
    cursor.take("]")


def _skip_list(cursor: JsonCursor) -> bool:
    """Go past a list; tells whether its first value is an object."""
    cursor.take("[")
    of_objects = cursor.peek() == "{"
    while cursor.peek() != "]":
        cursor.skip()
        if cursor.peek() != "]":
            cursor.take(",")
    cursor.take("]")
    return of_objects


def _broken(path: Path, error: BrokenJsonError, where: str = "") -> UserError:
    return UserError(f"{path}: not valid JSON{where}: {error}: mend or copy the file again")
