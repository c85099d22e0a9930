"""Readers: from a file, a data set of the Hub or the built-in set to a stream of raw records."""

from .source import Source

__all__ = ["Source"]
