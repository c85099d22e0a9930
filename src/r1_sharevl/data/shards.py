"""The parquet files of a prepared set."""

import re
from pathlib import Path

from ..errors import UserError

_SHARD_NAME = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})")


def find_shards(folder: Path, split: str | None = None) -> dict[str, list[Path]]:
    """Find the files of a set's splits, in order.

    Args:
        folder: The prepared set.
        split: Only this split; None for all.

    Returns:
        Split -> its files, at least one.

    Raises:
        UserError: The folder is missing or no prepared set, it has no such split, or files of a split are missing.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}: make a prepared set with `r1sharevl prep INPUT --out {folder}`")
    shards: dict[str, list[Path]] = {}
    counts: dict[str, int] = {}
    for file in sorted((folder / "data").glob("*.parquet")):
        match = _SHARD_NAME.fullmatch(file.stem)
        name = match["split"] if match else file.stem
        shards.setdefault(name, []).append(file)
        counts[name] = int(match["count"]) if match else 1
    if not shards:
        raise UserError(
            f"{folder}: not a prepared set (no data/*.parquet in it): make one with `r1sharevl prep INPUT --out FOLDER`"
        )
    if split is not None and split not in shards:
        raise UserError(f"{folder}: no split '{split}': it has {', '.join(sorted(shards))}")
    wanted = shards if split is None else {split: shards[split]}
    for name, files in wanted.items():
        if len(files) != counts[name]:
            raise UserError(
                f"{folder}: split '{name}' has {len(files)} of its {counts[name]} files in data/: copy the whole "
                "folder again"
            )
    return wanted
