"""The built-in set as a source."""

from collections.abc import Iterator
from typing import Any

from ..meta import BINARY, MetaTypes
from ..synthetic import synthetic_rows
from .source import Source


class SyntheticSource(Source):
    """One split of the built-in set; its pictures come decoded."""

    def __init__(self, split: str, num_rows: int, seed: int) -> None:
        self.label = f"synthetic/{split}"
        self.path = None
        self.split: str = split
        self.base = None
        self.num_rows = num_rows
        self.types = MetaTypes()
        self._seed = seed
        for row in synthetic_rows(split, min(num_rows, 1), seed):
            self.types.see(row)
        self.types.update([MetaTypes({"images": BINARY})])
        self.columns = tuple(self.types.as_dict())

    def records(self) -> Iterator[tuple[int, Any]]:
        return enumerate(synthetic_rows(self.split, self.num_rows, self._seed), start=1)
