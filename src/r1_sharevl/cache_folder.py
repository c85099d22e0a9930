"""Where files are kept that only save work: a warmed-up model, a language model's answers."""

import os
from pathlib import Path

CACHE_VARIABLE = "R1_SHAREVL_CACHE"
"""Environment variable that names the cache folder; `~/.cache/r1_sharevl` without it."""


def cache_folder() -> Path:
    """Give the cache folder; it need not exist."""
    folder = os.environ.get(CACHE_VARIABLE)
    return Path(folder) if folder else Path.home() / ".cache" / "r1_sharevl"
