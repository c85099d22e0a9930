"""Fixtures of the trainer's tests."""

from collections import Counter

import datasets
import pytest


@pytest.fixture
def decoded(monkeypatch):
    """Number of images that `datasets` decodes."""
    count = Counter()
    decode = datasets.Image.decode_example

    def counted(self, value, *args, **kwargs):
        count["images"] += 1
        return decode(self, value, *args, **kwargs)

    monkeypatch.setattr(datasets.Image, "decode_example", counted)
    return count
