"""Putting a prepared set on the Hugging Face Hub, as one commit: nobody ever sees half of it."""

import re
import shlex
from pathlib import Path

from .. import hub_commit
from ..data.staging import MANIFEST
from ..hub_commit import PushError as PushError
from ..hub_commit import RepoKind

_SET = RepoKind(
    repo_type="dataset",
    name="prepared set",
    markers=frozenset({MANIFEST}),
    # What prep writes, and so what a new push may remove.
    replaced=re.compile(r"data/[^/]+\.parquet|preview/[^/]+|rejected\.jsonl|rejected_wordings\.jsonl"),
)


def check_can_push(repo_id: str, private: bool = False) -> str:
    """Find out before hours of work whether a set could be pushed.

    Args:
        repo_id: `owner/name`, or `name` for the user's own.
        private: Whether it shall be private.

    Returns:
        The full `owner/name`.

    Raises:
        UserError: The name is no valid one, there is no token or it may not write there, or the dataset exists and is
            no prepared set, or is public while `private` is asked for.
        PushError: The Hub cannot be asked.
    """
    return hub_commit.check_can_push(_SET, repo_id, private)


def push_folder(folder: Path, repo_id: str, private: bool = False) -> str:
    """Upload a prepared set; what an earlier push left there is replaced in the same commit.

    Args:
        folder: The set.
        repo_id: `owner/name`, or `name` for the user's own; it is made where there is none.
        private: Whether it shall be private.

    Returns:
        The dataset's address.

    Raises:
        UserError: As for `check_can_push`.
        PushError: The Hub or the way to it failed. Nothing has changed for those who read the dataset.
    """
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    command = ["hf", "upload", repo_id, str(folder), ".", "--repo-type", "dataset", *(["--private"] if private else [])]
    safe = f"the set is safe at {folder}; once that is mended, push it again with `{shlex.join(command)}`"
    return hub_commit.push_files(_SET, files, repo_id, private, safe=safe)
