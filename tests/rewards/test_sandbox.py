"""The processes that math-verify runs in: no answer can make the caller hang, raise or run out of memory."""

import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r1_sharevl.rewards import is_correct, sandbox
from r1_sharevl.rewards.sandbox import WorkerLostError, WorkerPool

LIMIT_S = 1.0
HOSTILE = {
    "a tower of powers": "9^{9^{9^9}}",
    "a tower of powers in a sum": "9^{9^{9^{9}}}+1",
    "a huge power": "10^{10^{10}}",
    "a huge factorial": "999999999!",
    "a huge binomial": r"\binom{10^9}{5\cdot10^8}",
    "an endless product": r"\prod_{i=1}^{10^8} i",
    "a large expansion": "(x+y+z)^{300}",
    "a thousand digits": "7" * 999,
    "the factorial of a thousand digits": "7" * 900 + "!",
    "deep fractions": r"\frac{" * 90 + "1" + "}{1}" * 90,
    "deep parentheses": "(" * 450 + "1" + ")" * 450,
    "unbalanced parentheses": "(" * 900,
    "unbalanced braces": r"\}" * 400,
    "many backslashes": "\\" * 998,
    "a null and a lone surrogate": "\x00\ud800+x",
    "100 kB in the box": "x+" * 50_000 + "x",
    "100 kB of unclosed boxes": r"5} \boxed{" * 10_000,
}
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


def judged(text):
    return is_correct(f"<think>a</think> \\boxed{{{text}}}", "x+1", time_limit=LIMIT_S)


def is_alive(pid):
    """Whether a process runs; one that ended and whose parent has not asked (a zombie) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_answers_are_wrong(answer):
    assert judged(answer) is False
    assert judged("1+x") is True


@pytest.mark.timeout(120)
def test_hostile_answers_from_two_threads_at_once():
    # Their own texts, so that no verdict comes from the cache.
    answers = [f"{number}^{{9^{{9^9}}}}" for number in range(5, 9)] + [f"{number}+x" for number in range(1, 5)]
    with ThreadPoolExecutor(2) as executor:
        assert list(executor.map(judged, answers)) == [False] * 4 + [True] + [False] * 3


@pytest.mark.timeout(60)
def test_the_time_limit_is_kept_outside_the_main_thread():
    verdicts = queue.Queue()

    def judge():
        started = time.monotonic()
        verdicts.put((judged("8^{8^{8^8}}"), time.monotonic() - started))

    thread = threading.Thread(target=judge)
    thread.start()
    thread.join()
    verdict, seconds = verdicts.get_nowait()
    assert verdict is False
    # Two comparisons (the second asks whether the gold answer is to blame), each perhaps with the start of a helper.
    assert seconds < 30


def test_a_lost_worker_is_replaced():
    pool = WorkerPool()
    assert pool.equal("x+1", "1+x", LIMIT_S) is True
    with pytest.raises(WorkerLostError):
        pool.equal("5", "9^{9^{9^9}}", LIMIT_S)
    assert pool.equal("x+1", "1+x", LIMIT_S) is True
    pool.close()


@LINUX
def test_one_worker_serves_many_requests_and_is_then_replaced(monkeypatch):
    monkeypatch.setattr(sandbox, "REQUESTS_PER_WORKER", 3)
    pool = WorkerPool()
    workers = []
    for _ in range(4):
        before = children_of(os.getpid())
        assert pool.equal("x+1", "1+x", LIMIT_S) is True
        workers.append(children_of(os.getpid()) - before)
    assert [len(new) for new in workers] == [1, 0, 0, 1]
    pool.close()


def test_a_worker_that_never_answers_is_given_up(monkeypatch, tmp_path):
    mute = tmp_path / "worker.py"
    mute.write_text("import os, time; os.write(0, b'{}\\n'); time.sleep(600)")
    monkeypatch.setattr(sandbox, "_WORKER_FILE", mute)
    started = time.monotonic()
    with pytest.raises(WorkerLostError):
        WorkerPool().equal("x", "y", LIMIT_S)
    assert time.monotonic() - started < 30


def test_a_gold_answer_that_takes_too_long_even_alone_cannot_be_scored(monkeypatch):
    pool = WorkerPool()

    def never(gold, answer, time_limit):
        raise WorkerLostError

    monkeypatch.setattr(pool, "equal", never)
    monkeypatch.setattr(sandbox, "_pool", pool)
    assert is_correct(r"\boxed{x+2}", "x^{77}+1", time_limit=LIMIT_S) is None


@LINUX
@pytest.mark.timeout(60)
def test_ctrl_c_gets_through_and_leaves_no_worker_at_work():
    pool = WorkerPool()
    before = children_of(os.getpid())
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pool.equal("x+1", "7^{7^{7^7}}", 30.0)
    assert children_of(os.getpid()) == before
    assert pool.equal("x+1", "1+x", LIMIT_S) is True
    pool.close()


def _judge_in_child(verdicts):
    verdicts.put(judged("x+2-1"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_workers():
    assert judged("x+3-2") is True
    context = multiprocessing.get_context("fork")
    verdicts = context.Queue()
    child = context.Process(target=_judge_in_child, args=(verdicts,))
    slots = sandbox.worker_pool()._slots
    for _ in range(sandbox.MAX_WORKERS):
        slots.acquire()  # as if all of the parent's helpers were at work
    child.start()
    slots.release(sandbox.MAX_WORKERS)
    assert verdicts.get(timeout=60) is True
    child.join()
    assert judged("x+4-3") is True


def run_script(body, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(body))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children_of(pid):
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def test_a_script_needs_no_main_guard_and_no_torch(tmp_path):
    body = r"""
        import sys
        from r1_sharevl.rewards import is_correct
        print(is_correct(r"\boxed{1+x}", "x+1"), {"torch", "sympy", "trl", "datasets"} & set(sys.modules))
    """
    out, err = run_script(body, tmp_path).communicate(timeout=60)
    assert (out, err) == ("True set()\n", "")


# Busy in Python only the helper's look at its parent can end it in time; busy in C only its own alarm can, for no
# Python code runs before the multiplication is done.
@LINUX
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("answer", "time_limit"),
    [("1+x", 60.0), (r"\prod_{i=1}^{10^8} i", 60.0), ("9^{9^{9}}", 3.0)],
    ids=["idle", "busy in Python", "busy in C"],
)
def test_no_worker_outlives_a_killed_parent(answer, time_limit, tmp_path):
    body = f"""
        import sys, time
        from r1_sharevl.rewards import is_correct
        is_correct(r"\\boxed{{2+x}}", "x+2")
        print("ready", flush=True)
        is_correct(r"\\boxed{{{answer}}}", "5", time_limit={time_limit})
        time.sleep(600)
    """
    parent = run_script(body, tmp_path)
    assert parent.stdout.readline() == "ready\n"
    time.sleep(0.5)  # let it get to work
    workers = children_of(parent.pid)
    assert len(workers) == 1
    parent.kill()
    parent.communicate()
    wait_until(lambda: not any(is_alive(pid) for pid in workers))


@LINUX
@pytest.mark.timeout(60)
def test_the_memory_of_a_worker_is_bounded(tmp_path):
    # This takes about 280 MB in a few seconds if nothing stops it.
    body = r"""
        import resource
        from r1_sharevl.rewards import is_correct, sandbox
        sandbox.MEMORY_LIMIT = 160 << 20
        assert is_correct(r"\boxed{2^{2^{32}}}", "5", time_limit=6.0) is False
        assert is_correct(r"\boxed{1+x}", "x+1") is True
        sandbox.worker_pool().close()
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
    """
    out, err = run_script(body, tmp_path).communicate(timeout=60)
    assert err == ""
    assert int(out) < 160


def test_a_broken_installation_says_so(monkeypatch, tmp_path):
    broken = tmp_path / "worker.py"
    broken.write_text("import no_such_module")
    monkeypatch.setattr(sandbox, "_WORKER_FILE", broken)
    with pytest.raises(RuntimeError, match=r"did not start \(exit code 1\).*import math_verify"):
        WorkerPool().equal("x", "y", LIMIT_S)
