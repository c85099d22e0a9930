"""Check records in worker processes, in order and with few of them in flight."""

import contextlib
import os
import signal
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue

from ..data.rejected import Rejected
from ..errors import UserError
from .checking import Candidate, CheckSettings, RawRecord, check_record

Checked = list[tuple[RawRecord, Candidate | Rejected]]

# Enough work to outweigh sending it, and little enough that the chunks in flight fit into memory beside each other,
# also where the rows name large picture files.
_CHUNK_ROWS = 8
_CHUNK_BYTES = 4 * 1024 * 1024
_CHUNKS_PER_WORKER = 2


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_all(
    records: Iterable[RawRecord], settings: CheckSettings, workers: int
) -> Generator[tuple[RawRecord, Candidate | Rejected], None, None]:
    """Check records.

    Args:
        records: The records; read a bounded number ahead.
        settings: What a row must be like.
        workers: Worker processes; 1 checks in this process.

    Yields:
        Each record without its content, and what became of it, in the order of `records`.

    Raises:
        UserError: A worker process was killed, most likely for want of memory.
    """
    if workers == 1:
        for record in records:
            yield replace(record, content=None), check_record(record, settings)
        return
    team: list[_Worker] = []
    idle: SimpleQueue[_Worker] = SimpleQueue()

    def check(chunk: list[RawRecord]) -> Checked:
        worker = idle.get()
        try:
            return worker.check(chunk)
        finally:
            idle.put(worker)

    # The threads only wait, each for one process.
    threads = ThreadPoolExecutor(workers)
    flying: deque[Future[Checked]] = deque()
    try:
        with _ctrl_c_waiting():
            for _ in range(workers):
                team.append(_Worker(settings))
                idle.put(team[-1])
        for chunk in _chunks(records):
            flying.append(threads.submit(check, chunk))
            if len(flying) >= _CHUNKS_PER_WORKER * workers:
                yield from flying.popleft().result()
        while flying:
            yield from flying.popleft().result()
    finally:
        for worker in team:
            worker.stop()
        threads.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _ctrl_c_waiting() -> Iterator[None]:
    """Put Ctrl-C off, for the processes started meanwhile as long as they live.

    It goes to the whole group of processes, and the parent alone decides what follows; half a start would print a
    traceback.
    """
    resource_tracker.ensure_running()  # started with the first process, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A process that checks chunks, with a pipe of its own.

    Not `ProcessPoolExecutor`, whose workers share their pipes: one that is killed while it writes leaves half a message
    there, for whose other half everybody waits.
    """

    def __init__(self, settings: CheckSettings) -> None:
        # Not forked: this process has threads, and a fork would hand their locks to the children.
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, settings), daemon=True)
        self._process.start()
        # The process now has the only other end: when it dies, reading ends.
        theirs.close()

    def check(self, chunk: list[RawRecord]) -> Checked:
        try:
            self._pipe.send(chunk)
            result: Checked | Exception = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise UserError(
                f"a worker process ended (exit code {self._process.exitcode}), most likely because the memory was used "
                "up: run again with fewer --workers"
            ) from error
        if isinstance(result, Exception):
            raise result
        return result

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, settings: CheckSettings) -> None:
    """Check chunks until the parent process is gone or has closed its end."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            chunk: list[RawRecord] = pipe.recv()
            result: Checked | Exception
            try:
                result = [(replace(record, content=None), check_record(record, settings)) for record in chunk]
            except Exception as error:
                error.add_note(traceback.format_exc())
                result = error
            pipe.send(result)


def _chunks(records: Iterable[RawRecord]) -> Iterator[list[RawRecord]]:
    chunk: list[RawRecord] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += _size(record.content)
        if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(value: object) -> int:
    """Estimate the bytes of a record's texts and pictures."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    return sum(_size(item) for item in value) if isinstance(value, list | tuple) else 8
