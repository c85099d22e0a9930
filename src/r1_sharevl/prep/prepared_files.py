"""A prepared set as it lies on the disk: read row by row, a few pictures at a time."""

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.easyr1 import wordings_of
from ..data.shards import find_shards
from ..data.staging import MANIFEST
from ..errors import UserError

_ROWS_AT_A_TIME = 16
# Column chunks are read in pieces: a foreign file may be one row group of gigabytes.
_BUFFER_BYTES = 1024 * 1024
_NEEDED = ("problem", "answer")
_OWN = ("id", "problem", "images", "answer", "variants", "new_questions", "source")


@dataclass(frozen=True)
class PreparedRow:
    """A row of a prepared set.

    Attributes:
        split: The split it is in.
        id: Its name.
        source: Where it comes from.
        problem: The question.
        answer: The gold answer.
        variants: Other wordings.
        images: The picture files' bytes; None for one that is not in the set.
        meta: The free columns.
    """

    split: str
    id: str
    source: str
    problem: str
    answer: str
    variants: tuple[str, ...]
    images: tuple[bytes | None, ...]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """Where a row lies: which file of which split, and which row of it."""

    split: str
    file: Path
    number: int


class PreparedFiles:
    """The files of a prepared set, of either format.

    Attributes:
        folder: The set's folder.
        shards: The parquet files of each split, in order.
        num_rows: Rows of each split.

    Raises:
        UserError: The folder is no prepared set, or a file is missing, unreadable or has other columns.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = find_shards(folder)
        self.num_rows = {
            split: sum(_readable(file, pq.read_metadata).num_rows for file in files)
            for split, files in self.shards.items()
        }
        for file in self._files():
            names = _readable(file, pq.read_schema).names
            if missing := [name for name in _NEEDED if name not in names]:
                raise UserError(
                    f"{file}: no column '{missing[0]}' (found: {', '.join(names)}): run the data through "
                    "`r1sharevl prep`"
                )

    def manifest(self) -> dict[str, Any]:
        """Read `manifest.json`; empty where there is none, as in a set that `r1sharevl prep` did not make.

        Raises:
            UserError: It is damaged.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read: {error}: make the set again") from error
        return content if isinstance(content, dict) else {}

    def rows(self, split: str | None = None) -> Iterator[PreparedRow]:
        """Read all rows of a split, or of all splits, in order and with bounded memory.

        Raises:
            UserError: There is no such split, or a file is damaged.
        """
        for name in self._splits(split):
            for file in self.shards[name]:
                for number, record in enumerate(_records(file)):
                    yield _row(record, _Place(name, file, number))

    def sample(self, count: int, seed: int, split: str | None = None) -> list[PreparedRow]:
        """Draw rows: as evenly from every source as there are rows, the same ones for the same seed and ids.

        Args:
            count: How many rows; fewer where the set has fewer.
            seed: Seeds the draw.
            split: Only from this split.

        Returns:
            The rows, sources taking turns.
        """
        # The smallest hashes of each source: a sample that needs one pass and does not hang on the rows' order.
        drawn: dict[str, list[tuple[int, int, _Place]]] = {}
        for order, (place, row_id, source) in enumerate(self._names(split)):
            digest = hashlib.blake2b(f"{seed}\n{source}\n{row_id}".encode(), digest_size=8).digest()
            # Negative, because heapq keeps the largest.
            entry = (-int.from_bytes(digest, "big"), -order, place)
            heap = drawn.setdefault(source, [])
            if len(heap) < count:
                heapq.heappush(heap, entry)
            elif heap and entry > heap[0]:
                heapq.heapreplace(heap, entry)
        queues = [sorted(heap, reverse=True) for heap in drawn.values()]
        queues.sort(reverse=True)
        turns = (queue[turn] for turn in range(count) for queue in queues if turn < len(queue))
        places = [place for _, (_, _, place) in zip(range(count), turns, strict=False)]
        return self._read(places)

    def find(self, row_id: str, split: str | None = None) -> PreparedRow:
        """Read the row of an id.

        Raises:
            UserError: There is none.
        """
        for place, found, _ in self._names(split):
            if found == row_id:
                return self._read([place])[0]
        where = f"split '{split}' of {self.folder}" if split else str(self.folder)
        raise UserError(f"{where}: no row with the id {row_id!r}: leave --id out to see some that there are")

    def _splits(self, split: str | None) -> list[str]:
        if split is None:
            return list(self.shards)
        if split not in self.shards:
            raise UserError(f"{self.folder}: no split '{split}': it has {', '.join(self.shards)}")
        return [split]

    def _files(self) -> Iterator[Path]:
        for files in self.shards.values():
            yield from files

    def _names(self, split: str | None) -> Iterator[tuple[_Place, str, str]]:
        """Read the place, id and source of every row."""
        for name in self._splits(split):
            for file in self.shards[name]:
                columns = [column for column in ("id", "source") if column in _readable(file, pq.read_schema).names]
                # Without columns a batch has no rows.
                for number, record in enumerate(_records(file, columns or ["answer"], rows_at_a_time=4096)):
                    place = _Place(name, file, number)
                    yield place, _id(record, place), _text(record.get("source"))

    def _read(self, places: Sequence[_Place]) -> list[PreparedRow]:
        rows: dict[_Place, PreparedRow] = {}
        for file in dict.fromkeys(place.file for place in places):
            wanted = {place.number: place for place in places if place.file == file}
            metadata = _readable(file, pq.read_metadata)
            start = 0
            for group in range(metadata.num_row_groups):
                end = start + metadata.row_group(group).num_rows
                if any(start <= number < end for number in wanted):
                    for number, record in enumerate(_records(file, groups=[group]), start):
                        if number in wanted:
                            rows[wanted[number]] = _row(record, wanted[number])
                start = end
        return [rows[place] for place in places]


def _readable(file: Path, read: Any) -> Any:
    try:
        return read(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a readable parquet file: copy it again or make the set again") from error


def _records(
    file: Path,
    columns: Iterable[str] | None = None,
    groups: list[int] | None = None,
    rows_at_a_time: int = _ROWS_AT_A_TIME,
) -> Iterator[dict[str, Any]]:
    try:
        # With pre_buffer all that was read stays in memory until the file is closed.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as parquet:
            for batch in parquet.iter_batches(
                rows_at_a_time, row_groups=groups, columns=None if columns is None else list(columns)
            ):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a readable parquet file: copy it again or make the set again") from error


def _row(record: dict[str, Any], place: _Place) -> PreparedRow:
    problem = _text(record["problem"])
    variants = record.get("variants")
    if variants is None and "new_questions" in record:
        variants = wordings_of(problem, record["new_questions"])
    return PreparedRow(
        split=place.split,
        id=_id(record, place),
        source=_text(record.get("source")),
        problem=problem,
        answer=_text(record["answer"]),
        variants=tuple(_text(text) for text in variants or ()),
        images=tuple(image.get("bytes") if isinstance(image, dict) else None for image in record.get("images") or ()),
        meta={name: value for name, value in record.items() if name not in _OWN},
    )


def _id(record: dict[str, Any], place: _Place) -> str:
    row_id = record.get("id")
    return f"{place.file.name}, row {place.number + 1}" if row_id is None else str(row_id)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
