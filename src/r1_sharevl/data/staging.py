"""A folder that appears whole or not at all."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

MANIFEST = "manifest.json"
"""Every folder written by prep holds this file; only such a folder may be replaced."""


@contextlib.contextmanager
def staged_folder(
    out: Path, *, overwrite: bool = False, marker: str = MANIFEST, what: str = "prepared set"
) -> Iterator[Path]:
    """Build a folder beside `out` and give it that name when the block ends well.

    A block that raises leaves no trace. A process that is killed leaves a hidden folder `.NAME.partial`, which the
    next run for the same `out` removes; a lock on it keeps two live runs apart. With `overwrite` the old folder is
    moved to `.NAME.previous` while the new one takes its place, and comes back if that fails, at the latest in the
    next run.

    Args:
        out: The folder to make; its parents are made too.
        overwrite: Replace `out` where it holds the file `marker`.
        marker: File that the block writes, and that only folders of this kind hold.
        what: What such a folder is, for messages.

    Yields:
        The empty folder to fill.

    Raises:
        UserError: `out` exists and may not be replaced, cannot be written, or another process is writing it.
    """
    out = out.resolve()
    staging = out.with_name(f".{out.name}.partial")
    previous = out.with_name(f".{out.name}.previous")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(staging, out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}: choose another --out") from error
    try:
        if previous.exists() and not out.exists():
            previous.rename(out)
        check_replaceable(out, overwrite, marker=marker, what=what)
        _empty(staging)
        yield staging
        _sync(staging)
        _swap(staging, out, previous, marker)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def check_replaceable(out: Path, overwrite: bool, *, marker: str = MANIFEST, what: str = "prepared set") -> None:
    """Find out before any work whether a folder may be written.

    Args:
        out: The folder.
        overwrite: Whether a folder that holds the file `marker` may be replaced.
        marker: File that only folders of this kind hold.
        what: What such a folder is, for messages.

    Raises:
        UserError: `out` exists and may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / marker).is_file():
        raise UserError(f"{out}: exists and is no {what}, so it is not replaced: choose another --out")
    if not overwrite:
        raise UserError(f"{out}: exists already: choose another --out, or replace it with --overwrite")


def _lock(staging: Path, out: Path) -> int:
    """Make `staging` and take the lock on it; gives the open file descriptor that holds the lock."""
    while True:
        staging.mkdir(exist_ok=True)
        lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(f"{out}: another process is writing it: wait for it or choose another --out") from error
        except OSError as error:
            # Some network file systems have no locks; there, only one run at a time is the user's care.
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                os.close(lock)
                raise
        # A run that ended in between may have renamed or removed the folder that we opened.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(staging)):
                return lock
        os.close(lock)


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def _sync(folder: Path) -> None:
    """Have everything in `folder` on the disk before the rename makes it look finished."""
    for item in (*folder.rglob("*"), folder):
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(staging: Path, out: Path, previous: Path, marker: str) -> None:
    if not (out / marker).exists():
        staging.rename(out)
        return
    shutil.rmtree(previous, ignore_errors=True)
    out.rename(previous)
    try:
        staging.rename(out)
    except BaseException:
        previous.rename(out)
        raise
    shutil.rmtree(previous, ignore_errors=True)
