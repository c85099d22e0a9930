"""What is in a prepared set: counts, lengths, image sizes and types of answers, in one pass and with bounded memory."""

import bisect
import io
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image

from ..data.images import FORMATS
from .answer_types import ANSWER_TYPES, answer_type
from .prepared_files import PreparedFiles, PreparedRow

_STEPS = (1, 2, 5)
_LARGEST_EDGE_POWER = 9
EDGES = (0, *(step * 10**power for power in range(_LARGEST_EDGE_POWER) for step in _STEPS))
"""Lower ends of a histogram's bars: 0, 1, 2, 5, 10, 20, 50, …"""

# Joiners make up many emoji and letters; all other invisible characters can hide or reorder text.
_KEPT_INVISIBLE = frozenset("\n\t\u200c\u200d")


@dataclass
class Histogram:
    """Counts of whole numbers in bars that grow by 2 to 2.5 times.

    Attributes:
        counts: Count of each bar; the bar `i` reaches from `EDGES[i]` up to but not including `EDGES[i + 1]`.
        number: How many values there are.
        total: Their sum.
        smallest: The smallest one, 0 where there are none.
        largest: The largest one, 0 where there are none.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(EDGES))
    number: int = 0
    total: int = 0
    smallest: int = 0
    largest: int = 0

    def add(self, value: int) -> None:
        """Count a value of 0 or more."""
        self.counts[bisect.bisect_right(EDGES, value) - 1] += 1
        self.smallest = value if self.number == 0 else min(self.smallest, value)
        self.largest = max(self.largest, value)
        self.number += 1
        self.total += value

    @property
    def mean(self) -> float:
        """The mean, 0 where there are no values."""
        return self.total / self.number if self.number else 0.0

    def bars(self) -> list[tuple[str, int]]:
        """Give label and count of each bar from the first to the last that is not empty."""
        filled = [index for index, count in enumerate(self.counts) if count]
        if not filled:
            return []
        return [(_label(index), self.counts[index]) for index in range(filled[0], filled[-1] + 1)]


@dataclass
class Inspection:
    """What is in a prepared set.

    Attributes:
        folder: The set.
        rows: Split -> source -> rows.
        images_per_row: Images -> rows that have so many.
        wordings_per_row: Different wordings, the problem included -> rows that have so many.
        answer_types: Type of answer -> rows, in the order of `ANSWER_TYPES`.
        problem_words: Words of the problems; texts without spaces, such as Chinese ones, count as few.
        problem_characters: Characters of the problems.
        answer_characters: Characters of the answers.
        image_pixels: Width times height of the images.
        unreadable_images: Images whose header cannot be read or that are not in the set.
        rejected: Reason -> rows that prep rejected; empty where the set has no manifest.
        dropped_wordings: Reason -> wordings that prep dropped; empty where the set has no manifest.
    """

    folder: Path
    rows: dict[str, Counter[str]] = field(default_factory=dict)
    images_per_row: Counter[int] = field(default_factory=Counter)
    wordings_per_row: Counter[int] = field(default_factory=Counter)
    answer_types: dict[str, int] = field(default_factory=dict)
    problem_words: Histogram = field(default_factory=Histogram)
    problem_characters: Histogram = field(default_factory=Histogram)
    answer_characters: Histogram = field(default_factory=Histogram)
    image_pixels: Histogram = field(default_factory=Histogram)
    unreadable_images: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    dropped_wordings: dict[str, int] = field(default_factory=dict)


def inspect_set(
    files: PreparedFiles, split: str | None = None, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Count what is in a prepared set.

    Args:
        files: The set.
        split: Only this split; all where None.
        progress: Called after each row with the rows done and the rows in total.

    Returns:
        The counts.

    Raises:
        UserError: There is no such split, or a file is damaged.
    """
    manifest = files.manifest()
    result = Inspection(
        files.folder,
        rejected=counts_by_reason(manifest.get("rejected")),
        dropped_wordings=counts_by_reason(manifest.get("dropped_wordings")),
    )
    total = sum(count for name, count in files.num_rows.items() if split in (None, name))
    types: Counter[str] = Counter()
    for done, row in enumerate(files.rows(split), start=1):
        result.rows.setdefault(row.split, Counter())[row.source] += 1
        result.images_per_row[len(row.images)] += 1
        result.wordings_per_row[len({row.problem, *row.variants})] += 1
        types[answer_type(row.answer, row.problem)] += 1
        result.problem_words.add(len(row.problem.split()))
        result.problem_characters.add(len(row.problem))
        result.answer_characters.add(len(row.answer))
        for size in image_sizes(row):
            if size is None:
                result.unreadable_images += 1
            else:
                result.image_pixels.add(size[0] * size[1])
        if progress is not None:
            progress(done, total)
    result.answer_types = {name: types[name] for name in ANSWER_TYPES if types[name]}
    return result


def image_sizes(row: PreparedRow) -> list[tuple[int, int] | None]:
    """Read width and height of a row's images from their headers; None for one that cannot be read."""
    return [_size(data) for data in row.images]


def counts_by_reason(found: object) -> dict[str, int]:
    """Take counts out of a manifest that may have been edited: most frequent first, what is no count left out."""
    pairs = found.items() if isinstance(found, Mapping) else ()
    counts = [(str(name), count) for name, count in pairs if isinstance(count, int)]
    return dict(sorted(counts, key=lambda pair: -pair[1]))


def visible(text: str, limit: int = 2000) -> str:
    r"""Make a text from data fit to be shown: nothing in it can move the cursor, hide, or turn the reading direction.

    Args:
        text: Any text.
        limit: It is cut after so many characters.

    Returns:
        The text with control and formatting characters as escapes such as `\x1b`.
    """
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in _KEPT_INVISIBLE
        else character
        for character in cut
    )


def _size(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    try:
        with warnings.catch_warnings():
            # Of large pictures and of odd metadata.
            warnings.simplefilter("ignore")
            with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Exception:
        # Pillow raises many types on damaged headers: OSError, SyntaxError, struct.error, ValueError, …
        return None


def _label(index: int) -> str:
    low = EDGES[index]
    if index + 1 == len(EDGES):
        return f"{_short(low)} or more"
    high = EDGES[index + 1] - 1
    if high == low:
        return _short(low)
    return f"{_short(low)}–{_short(high)}" if high < 1000 else f"{_short(low)}–{_short(high + 1)}"


def _short(number: int) -> str:
    for size, name in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number // size}{name}"
    return str(number)
