"""Reads each row of a dataset once per generation batch, however often the sampler repeats it."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, Image, List

Row = dict[str, Any]


class DistinctRows:
    """A map-style dataset for a DataLoader whose sampler repeats rows, and whole batches.

    TRL's sampler gives a row's index once per response, and the same batch once per micro-batch and iteration. Reading
    a row means decoding its images, so the rows of the latest batch are kept. Rows of one index are equal: each has
    dictionaries and lists of its own, but they hold the same images.

    A batch with the indices of the latest one is that one again, also where the next generation batch has them, in
    this order, as it may with a dataset of a few rows: a transform that the dataset applies on the fly
    (`Dataset.with_transform`) and that draws at random then draws nothing new. Each worker of a DataLoader keeps the
    latest batch that it has read itself, so a batch that is repeated is read once per worker.

    Args:
        dataset: Where the rows are.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lists = {name: kind.feature for name, kind in dataset.features.items() if _is_list_of_images(kind)}
        self._undecoded = dataset.with_format("arrow") if self._lists else None
        self._indices: list[int] = []  # of the latest batch
        self._rows: dict[int, Row] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Row:
        return self._dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Read a batch, as PyTorch's DataLoader asks for it."""
        if list(indices) != self._indices:
            distinct = list(dict.fromkeys(indices))
            self._rows = dict(zip(distinct, self._read(distinct), strict=True))
            self._indices = list(indices)
        return [_own(self._rows[index]) for index in indices]

    def _read(self, indices: list[int]) -> list[Row]:
        """Read rows as the dataset does, but decode the first image of a list once.

        datasets decodes it twice: to see whether its kind needs to be decoded at all.
        """
        chosen = self._dataset.format
        as_it_is = chosen["type"] is None and set(chosen["columns"]) == set(self._dataset.column_names)
        if self._undecoded is None or not as_it_is:
            rows: list[Row] = self._dataset.__getitems__(indices)
            return rows
        columns = self._undecoded[indices].to_pydict()
        others = {name: values for name, values in columns.items() if name not in self._lists}
        decoded = Features({name: self._dataset.features[name] for name in others}).decode_batch(others)
        for name, image in self._lists.items():
            decoded[name] = [_decoded(image, own) for own in columns[name]]
        return [{name: decoded[name][place] for name in columns} for place in range(len(indices))]


def _is_list_of_images(kind: Any) -> bool:
    return isinstance(kind, List) and isinstance(kind.feature, Image) and kind.feature.decode


def _decoded(image: Image, values: list[Any] | None) -> list[Any] | None:
    return values and [None if value is None else image.decode_example(value) for value in values]


def _own(value: Any) -> Any:
    """Copy what a row is built of, but not what it holds."""
    if isinstance(value, dict):
        return {name: _own(entry) for name, entry in value.items()}
    return [_own(entry) for entry in value] if isinstance(value, list) else value
