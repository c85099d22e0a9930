"""Two processes evaluate together: the same bytes as one, whatever happens to one of them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from process_group import run_group
from r1_sharevl import UserError
from r1_sharevl.errors import StoppedError
from r1_sharevl.evaluation import evaluate
from r1_sharevl.evaluation.predictions import part_path
from r1_sharevl.evaluation.ranks import Ranks, SharedEvaluation, join_ranks

PREDICTIONS = "predictions.jsonl"
SCRIPT = Path(__file__).parent / "shared_eval.py"
FILES = (PREDICTIONS, "scores.json", "questions.jsonl", "settings.json")


def _launch(jobs, folder, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return run_group([*command, str(SCRIPT), json.dumps(jobs)], cwd=folder)


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, prepared, tmp_path_factory):
    """What one process writes."""
    folder = tmp_path_factory.mktemp("alone") / "eval"
    _finish(tiny_checkpoint, prepared, folder)
    return folder


def _finish(model, data, folder):
    evaluate(str(model), str(data), out=folder, samples=2, batch_size=3, max_new_tokens=6, device="cpu")


def _same(folder, other):
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(folder.glob("predictions.part-*"))


@pytest.mark.slow
def test_two_processes_write_what_one_does(alone, tiny_checkpoint, prepared, tmp_path):
    job = {"model": str(tiny_checkpoint), "data": str(prepared)}
    # What was left by three processes that were killed.
    shutil.copytree(alone, tmp_path / "continued")
    lines = (alone / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (tmp_path / "continued" / PREDICTIONS).write_bytes(b"".join(lines[:4]))
    settings = json.loads((alone / "settings.json").read_text())["settings"]
    part_path(tmp_path / "continued", settings, 1).write_bytes(lines[20][:50])
    part_path(tmp_path / "continued", settings, 2).write_bytes(b"".join(lines[12:15]))
    outs = [str(tmp_path / name) for name in ("whole", "continued", "killed")]
    code, errors = _launch([job | {"out": out} for out in outs[:2]] + [job | {"out": outs[2], "die": 1}], tmp_path)
    assert code == 1, errors
    for out in outs[:2]:
        _same(Path(out), alone)
        first, second = (json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(2))
        assert (first["average"], first["predictions"]) == (second["average"], second["predictions"])
        assert first["progress"][-1] == [24, 24]
        assert second["progress"] == [], "only the first process shows progress"
        counts = [done for done, _ in first["progress"]]
        assert counts == sorted(counts)
    # One was killed in its second batch: what both had written is kept, and one process can finish it.
    killed = tmp_path / "killed"
    kept = (killed / PREDICTIONS).read_bytes().count(b"\n")
    part = part_path(killed, settings, 1).read_bytes().count(b"\n")
    assert part == 3
    assert kept + part < 24
    said = re.findall(r"stopped by SIGTERM: (\d+) of 24 responses are kept in .*killed: the same command", errors)
    assert said == [str(kept + part)], errors
    assert not (killed / "scores.json").exists()
    _finish(tiny_checkpoint, prepared, killed)
    _same(killed, alone)


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_and_is_said_once(tiny_checkpoint, prepared, tmp_path):
    """Also under a launcher that leaves the other processes alone, as `srun` may."""
    job = {"model": str(tiny_checkpoint), "data": str(prepared), "out": str(tmp_path / "eval"), "fail": 1}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps([job])],
            env={**os.environ, **where, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [1, 2], errors
    assert "".join(errors).count("error: row 'x': cannot be read") == 1, errors
    assert "stopped by" not in "".join(errors)
    assert not any("Traceback" in text for text in errors), errors
    assert not (tmp_path / "eval" / "scores.json").exists()


def test_an_error_that_all_meet_is_said_by_the_first(tmp_path):
    store = _store()
    ended = []
    for rank in range(2):
        shared = SharedEvaluation(Ranks(rank, 2, store))
        shared._store = store  # in one process the two would be numbered as two evaluations
        with pytest.raises((UserError, StoppedError)) as caught, shared.one_error():
            raise UserError("nowhere: no such folder")
        ended.append((type(caught.value), str(caught.value)))
    assert ended == [(UserError, "nowhere: no such folder"), (StoppedError, "")]
    # Who waits for another process learns of it.
    with pytest.raises(StoppedError), shared.one_error():
        shared.told("ready")
    with pytest.raises(StoppedError):
        shared.wait_for_others("left")


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert join_ranks() == Ranks(0, 1, None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_ranks().is_first
    shared = SharedEvaluation(Ranks())
    assert list(shared.deal(["a", "b"])) == ["a", "b"]
    shared.tell("written")
    shared.wait_for_others("left")
    assert (shared.count("done", 3), shared.count("done", 2), shared.has_failed()) == (3, 5, False)


def test_half_an_environment_of_a_launcher(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match=r"the launcher's environment: .*RANK.*: start with torchrun or accelerate"):
        join_ranks()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match=r"the launcher's environment: .*two.*: start with torchrun or accelerate"):
        join_ranks()


def test_processes_that_cannot_share(scripted, by_seed, numbered, tmp_path):
    store = _store()
    with pytest.raises(UserError, match="2 processes: only the transformers backend is run by several"):
        evaluate(scripted(by_seed), numbered(2), out=tmp_path, ranks=Ranks(0, 2, store))
    with pytest.raises(UserError, match="2 processes share an evaluation through its folder: give out"):
        evaluate(scripted(by_seed), numbered(2), ranks=Ranks(0, 2, store))


def test_batches_are_dealt_once_each():
    store = _store()
    first, second = SharedEvaluation(Ranks(0, 2, store)), SharedEvaluation(Ranks(1, 2, store))
    second._store = first._store  # in one process the two would be numbered as two evaluations
    one, other = first.deal(range(5)), second.deal(range(5))
    assert [next(one), next(other), next(other), next(one), next(other)] == [0, 1, 2, 3, 4]
    assert list(one) == list(other) == []


def _store():
    from torch.distributed import HashStore

    return HashStore()
