"""The questions seen so far, on disk, and whether another one is among them."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ...errors import UserError
from ...rewards.comparison import can_be_scored, same
from .keys import QuestionKeys
from .pictures import PictureKey, same_picture

DUPLICATE = "duplicate"
"""Same text (or one that the other row has as a wording), same pixels, same answer."""

CONTRADICTION = "same question with another answer"
"""Same text and pixels, but the data contradict themselves."""

NEAR_DUPLICATE = "near duplicate"
"""Nearly the same text, the same pictures scaled or encoded otherwise, and the same answer."""

CONTAMINATION = "in an evaluation set"
"""Nearly the same text and the same pictures, up to scale and encoding, as a question to be evaluated on."""

MAX_CANDIDATES = 32
"""Oldest questions looked at of those that share a text and a band: thousands of look-alikes (blank pictures, say)
must not make the search quadratic. Exact duplicates are not concerned."""

# All keys at once, which takes half the time, and yet a limit for each.
_CANDIDATES = """
SELECT (SELECT group_concat(question) FROM (SELECT question FROM bands WHERE key = wanted.value LIMIT ?2))
FROM json_each(?1) AS wanted
"""
_CACHE_KIB = 16 * 1024
_TABLES = """
CREATE TABLE questions (id INTEGER PRIMARY KEY, name TEXT, split TEXT, answer TEXT);
CREATE TABLE pictures (
    question INTEGER, place INTEGER, width INTEGER, height INTEGER, bits BLOB, thumbnail BLOB,
    PRIMARY KEY (question, place)) WITHOUT ROWID;
CREATE TABLE exact (key BLOB PRIMARY KEY, question INTEGER) WITHOUT ROWID;
CREATE TABLE bands (key INTEGER, question INTEGER, PRIMARY KEY (key, question)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Match:
    """An earlier question that is the one asked about.

    Attributes:
        kind: `DUPLICATE`, `CONTRADICTION`, `NEAR_DUPLICATE` or `CONTAMINATION`.
        name: The name that the earlier question was added with.
        split: The split that it was added with.
    """

    kind: str
    name: str
    split: str | None


class QuestionIndex:
    """Finds duplicates among any number of questions, with bounded memory.

    It is scratch: the file must not exist, is of no use to another process, and is removed on `close`.
    """

    def __init__(self, path: Path) -> None:
        """Make the file.

        Raises:
            UserError: It exists or cannot be written.
        """
        self._path = path
        try:
            # SQLite would open whatever is there.
            path.open("xb").close()
        except OSError as error:
            raise UserError(f"{path}: cannot be made: {error.strerror or error}: remove it, or name another") from error
        with self._disk():
            self._connection = sqlite3.connect(path, isolation_level=None)
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
                self._connection.execute(f"PRAGMA {setting}")
            self._connection.executescript(_TABLES)
            # One transaction for all: nobody else reads the file, and nothing is ever rolled back.
            self._connection.execute("BEGIN")

    def add(self, keys: QuestionKeys, name: str, split: str | None = None) -> None:
        """Add a question.

        Args:
            keys: Its keys.
            name: What a match shall call it, such as file and row.
            split: What a match shall tell of it besides.

        Raises:
            UserError: The disk is full.
        """
        with self._disk():
            row = self._connection.execute(
                "INSERT INTO questions (name, split, answer) VALUES (?, ?, ?)", (name, split, keys.answer)
            ).lastrowid
            self._connection.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (row, place, picture.width, picture.height, picture.bits, picture.thumbnail)
                    for place, picture in enumerate(keys.pictures)
                ),
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO exact VALUES (?, ?)", ((key, row) for key in keys.exact)
            )
            self._connection.execute(
                "INSERT OR IGNORE INTO bands SELECT value, ? FROM json_each(?)",
                (row, json.dumps(_band_keys(keys.near, keys.pictures))),
            )

    def find(self, keys: QuestionKeys, *, near: bool = True) -> Match | None:
        """Find an earlier question that asks the same.

        Several images must be the same in the same order.

        Args:
            keys: The keys of the question asked about.
            near: Look for near duplicates, too.

        Returns:
            The oldest duplicate, else the oldest contradiction, else the oldest near duplicate, else None.

        Raises:
            UserError: The file cannot be read.
        """
        with self._disk():
            contradicting: Match | None = None
            for row in self._exact(keys.exact):
                name, split, answer = self._question(row)
                if _same_answer(answer, keys.answer):
                    return Match(DUPLICATE, name, split)
                contradicting = contradicting or Match(CONTRADICTION, name, split)
            if contradicting is not None or not near:
                return contradicting
            for row in self._candidates(keys.near, keys.pictures[:1]):
                pictures = self._pictures(row)
                if len(pictures) == len(keys.pictures) and all(map(same_picture, pictures, keys.pictures)):
                    name, split, answer = self._question(row)
                    if _same_answer(answer, keys.answer):
                        return Match(NEAR_DUPLICATE, name, split)
        return None

    def find_contamination(self, keys: QuestionKeys) -> Match | None:
        """Find a question of an evaluation set, all of which were added to this index, that the row gives away.

        The texts must be nearly the same and every image of the evaluation's question must be among the row's, in any
        order. Answers do not matter. A question without images is found in rows without images only.

        Args:
            keys: The keys of the row.

        Returns:
            The first such question, of kind `CONTAMINATION`, else None.

        Raises:
            UserError: The file cannot be read.
        """
        with self._disk():
            for row in (*self._exact(keys.exact), *self._candidates(keys.near, keys.pictures)):
                if all(any(same_picture(theirs, ours) for ours in keys.pictures) for theirs in self._pictures(row)):
                    name, split, _ = self._question(row)
                    return Match(CONTAMINATION, name, split)
        return None

    def close(self) -> None:
        """Close and remove the file."""
        self._connection.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exact(self, exact: Sequence[bytes]) -> list[int]:
        query = "SELECT question FROM exact WHERE key = ?"
        return sorted({row for key in exact for (row,) in self._connection.execute(query, (key,))})

    def _candidates(self, near: Sequence[int], pictures: Sequence[PictureKey]) -> list[int]:
        keys = json.dumps(_band_keys(near, pictures))
        found = self._connection.execute(_CANDIDATES, (keys, MAX_CANDIDATES))
        return sorted({int(row) for (rows,) in found if rows for row in rows.split(",")})

    def _question(self, row: int) -> tuple[str, str | None, str]:
        found: tuple[str, str | None, str] = self._connection.execute(
            "SELECT name, split, answer FROM questions WHERE id = ?", (row,)
        ).fetchone()
        return found

    def _pictures(self, row: int) -> list[PictureKey]:
        query = "SELECT width, height, bits, thumbnail FROM pictures WHERE question = ? ORDER BY place"
        return [PictureKey(*columns) for columns in self._connection.execute(query, (row,))]

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UserError(
                f"{self._path}: the index of questions cannot be used: {error}: is the disk full?"
            ) from error


def _band_keys(near: Sequence[int], pictures: Sequence[PictureKey]) -> list[int]:
    """Give the numbers of which two questions with a nearly equal text and picture share one or more, as 64-bit ints.

    The text is part of each: pictures alone would put all figures that look alike into one bucket.
    """
    if not pictures:
        return list(near)
    places = {band << 16 | value for picture in pictures for band, value in enumerate(picture.bands(), start=1)}
    # Odd multiplier (Knuth's): the places must not cancel against the few bits in which two hashes differ.
    spread = [(place * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF for place in places]
    return sorted({_signed((text & 0xFFFFFFFFFFFFFFFF) ^ place) for text in near for place in spread})


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _same_answer(first: str, second: str) -> bool:
    return first == second or (can_be_scored(first) and same(first, second) is True)
