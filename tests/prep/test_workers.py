import base64
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import psutil
import pytest

from r1_sharevl.data.fetching import ImageFetcher
from r1_sharevl.data.layouts import guess_layout
from r1_sharevl.data.rejected import Rejected
from r1_sharevl.data.row_error import RowError
from r1_sharevl.errors import UserError
from r1_sharevl.prep.checking import Candidate, CheckSettings, RawRecord, SourceSettings
from r1_sharevl.prep.workers import check_all


def encoded(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def content(number):
    if number % 7 == 3:
        return RowError("not valid JSON", "not valid JSON: x")
    if number % 7 == 5:
        return {"problem": f"What is {number} + 1?", "answer": " "}
    picture = {"bytes": encoded(number)}
    return {"problem": f"What is {number} + 1?", "answer": str(number + 1), "images": [picture], "level": number}


def records(count):
    for number in range(count):
        yield RawRecord(0, number, f"a.jsonl, line {number + 1}", f"a-{number + 1}", content(number))


@pytest.fixture
def settings(tmp_path):
    layout = guess_layout(["problem", "answer", "images", "level"], [content(0)], {}, "a.jsonl")
    return CheckSettings((SourceSettings("a", layout, ImageFetcher(tmp_path, allow_urls=False)),), {"level": "int64"})


def test_workers_give_what_one_process_gives_in_order(settings):
    alone = list(check_all(records(150), settings, workers=1))
    together = list(check_all(records(150), settings, workers=2))
    assert [record.position for record, _ in alone] == list(range(150))
    assert together == alone
    kinds = [type(item) for _, item in alone]
    assert kinds.count(Rejected) == sum(number % 7 in (3, 5) for number in range(150))
    assert kinds.count(Candidate) == 150 - kinds.count(Rejected)
    assert all(record.content is None for record, _ in alone)


def test_few_records_are_read_ahead(settings):
    read = []

    def watched():
        for record in records(2000):
            read.append(record.position)
            yield record

    results = check_all(watched(), settings, workers=2)
    try:
        for _ in range(10):
            next(results)
        assert len(read) <= 6 * 32
    finally:
        results.close()


def test_stopping_early_ends_the_workers(settings):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    results = check_all(records(500), settings, workers=2)
    next(results)
    results.close()
    after = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in after if "spawn_main" in " ".join(child.cmdline())] == []


def test_a_killed_worker_is_told_in_one_line(settings):
    results = check_all(records(3000), settings, workers=2)
    next(results)
    spawned = [
        child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())
    ]
    os.kill(spawned[0].pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"a worker process ended \(exit code -9\), most likely because the memory was"):
        list(results)


def test_an_error_in_a_worker_comes_with_its_traceback(settings):
    bad = RawRecord(5, 0, "a.jsonl, line 1", "a-1", {})  # there is no source number 5
    with pytest.raises(IndexError) as info:
        list(check_all([*records(40), bad], settings, workers=2))
    assert "check_record" in info.value.__notes__[0]


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_workers import check_all, records, settings
from pathlib import Path

if __name__ == "__main__":
    results = check_all(records(100000), settings.__wrapped__(Path(sys.argv[1])), workers=2)
    next(results)
    print("there", flush=True)
    sys.stdin.read()
"""


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), os.path.dirname(__file__)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "there\n"
        workers = psutil.Process(child.pid).children(recursive=True)
        assert len(workers) >= 2
        child.send_signal(signal.SIGKILL)
        child.wait()
    deadline = time.monotonic() + 60
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline, "workers are still there"
        time.sleep(0.05)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the signal masks that Linux shows in /proc")
def test_ctrl_c_reaches_no_worker_not_even_one_that_starts():
    # In a process of its own: only where multiprocessing has started nothing before was the first worker reached.
    script = """if True:
        import re, signal, subprocess, sys
        from multiprocessing import get_context, active_children
        from r1_sharevl.prep.workers import _ctrl_c_waiting

        if __name__ == "__main__":
            with _ctrl_c_waiting():
                child = get_context("spawn").Process(target=signal.pause)
                child.start()
            mask = int(re.search(r"SigBlk:\\s*(\\w+)", open(f"/proc/{child.pid}/status").read())[1], 16)
            own = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            child.kill()
            print(bool(mask >> (signal.SIGINT - 1) & 1), signal.SIGINT in own)
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True False\n", done.stderr
