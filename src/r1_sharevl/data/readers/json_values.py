"""JSON as data: one value, and the values of a document that is too large to hold."""

import codecs
import json
import re
from typing import IO, Any

from ..row_error import RowError
from .source import MAX_RECORD_BYTES, one_line

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NOT_JSON = "not valid JSON"
NOT_UTF8 = "not UTF-8"
TOO_LARGE = "row too large"

_CHUNK_BYTES = 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^ \t\r\n,\]}]*")
# A whole string, its closing quote in group 1 where it is there; or a bracket. Possessive: nothing is tried twice.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(")?|[\[\]{}]', re.DOTALL)


def parse_json(text: bytes | str) -> Any:
    """Parse one JSON value as data; gives a `RowError` for what is not valid JSON.

    Args:
        text: UTF-8, or text in which bytes that are not UTF-8 were decoded by `surrogateescape`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        elif not text.isascii():
            text.encode()
        return json.loads(text)
    except UnicodeDecodeError as error:
        return RowError(NOT_UTF8, f"not UTF-8 text (byte {error.start}): save the file as UTF-8")
    except UnicodeEncodeError as error:
        return RowError(NOT_UTF8, f"not UTF-8 text (character {error.start}): save the file as UTF-8")
    except RecursionError:
        return RowError(NOT_JSON, "not valid JSON: nested too deep")
    except ValueError as error:
        # JSONDecodeError, and integers of more digits than Python converts.
        return RowError(NOT_JSON, f"not valid JSON: {one_line(error)}")


class BrokenJsonError(Exception):
    """The document's outer structure is broken: where the next value begins cannot be told."""


class JsonCursor:
    """A place in a JSON document that is read piece by piece.

    Values are found by their brackets and quotes alone and not parsed: a value with a fault inside is passed over like
    any other.

    Args:
        file: The document, UTF-8; other bytes are decoded by `surrogateescape`.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Go to the next character that is no white space and give it, `""` at the document's end."""
        while True:
            self._at = _end(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self, characters: str) -> str:
        """Go past the next character, which must be one of `characters`, and give it.

        Raises:
            BrokenJsonError: It is another one.
        """
        found = self.peek()
        if not found or found not in characters:
            what = f"found {found!a}" if found else "the file ends"
            raise BrokenJsonError(f"expected {' or '.join(characters)} but {what}")
        self._at += 1
        return found

    def key(self) -> Any:
        """Go past an object's next key and the colon; gives the key, a `RowError` where it is not readable."""
        if self.peek() != '"':
            raise BrokenJsonError(f"expected a quoted name but found {self.peek()!a}")
        key = parse_json(self.value())
        self.take(":")
        return key

    def value(self) -> str:
        """Go past the next value and give its text.

        Raises:
            BrokenJsonError: The document ends within it, or it is larger than `MAX_RECORD_BYTES`.
        """
        return self._pass_value(keep=True)

    def skip(self) -> None:
        """Go past the next value, however large, without holding it."""
        self._pass_value(keep=False)

    def _pass_value(self, keep: bool) -> str:
        first = self.peek()
        start = self._at  # of the text to give
        depth = 0
        while True:
            if depth == 0 and first not in ("{", "[", '"'):
                end: int | None = _end(_SCALAR, self._text, self._at)
                if end == len(self._text) and not self._ended:
                    end = None
            else:
                depth, end = self._pass_tokens(depth)
            if end is not None:
                text = self._text[start:end] if keep else ""
                self._at = end
                return text
            passed = self._at - start
            if not keep:
                start, passed = self._at, 0
            if len(self._text) - start > MAX_RECORD_BYTES:
                raise BrokenJsonError(
                    f"one value takes more than {MAX_RECORD_BYTES // 2**20} MiB (or a closing bracket is missing)"
                )
            # `_read_on` drops what lies before `_at`.
            self._at = start
            if not self._read_on() and first in ("{", "[", '"'):
                raise BrokenJsonError(
                    "the file ends within a value (it is cut short, or a bracket or quote is missing)"
                )
            start, self._at = self._at, self._at + passed

    def _pass_tokens(self, depth: int) -> tuple[int, int | None]:
        """Go past strings and brackets from `_at` on; gives the depth there, and the value's end once it is reached."""
        while True:
            match = _TOKEN.search(self._text, self._at)
            if match is None:
                self._at = len(self._text)
                return depth, None
            if self._text[match.start()] == '"':
                if match[1] is None:
                    self._at = match.start()
                    return depth, None
            else:
                depth += 1 if match[0] in ("{", "[") else -1
            self._at = match.end()
            if depth <= 0:
                return depth, match.end()

    def _read_on(self) -> bool:
        """Have more text after `_at`, as much again as there is; False at the end of the file."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        # As much again: what is scanned again for every piece of a large value adds up to no more than twice its size.
        data = self._file.read(max(_CHUNK_BYTES, len(rest)))
        self._ended = not data
        self._text = rest + self._decoder.decode(data, final=not data)
        self._at = 0
        return bool(data) or len(self._text) > len(rest)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a match of a pattern that matches anywhere ends."""
    match = pattern.match(text, at)
    return at if match is None else match.end()
