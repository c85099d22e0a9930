"""`r1sharevl prep --variants` against a real server that misbehaves, and through kills: the set is always the same."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest
from wordings.llm_server import HTTP_FAULTS, STYLES, TEXT_FAULTS, LLMServer, seeded_plan

SUBJECTS = ("apples", "lamps", "windows", "birds", "chairs", "coins", "flags", "wheels")


def question(number):
    subject = SUBJECTS[number % len(SUBJECTS)]
    problem = f"There are {number + 3} {subject} in each of {2 * number + 5} rows. How many {subject} are there?"
    return {"problem": problem, "answer": str((number + 3) * (2 * number + 5))}


@pytest.fixture
def questions(tmp_path):
    rows = [question(number) for number in range(24)]
    rows[5]["answer"] = " "  # a bad row among them
    rows[7]["variants"] = ["Please find out: " + rows[7]["problem"]]  # has one already
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "q.jsonl"


def command(server, out, *more, cache="cache.sqlite3"):
    args = [sys.executable, "-m", "r1_sharevl.cli", "prep", "q.jsonl", "--out", out, "--variants", "2"]
    args += ["--model", "writer", "--base-url", server.base_url, "--cache", cache, "--concurrency", "4", *more]
    return args


def environment():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI")}
    return {**clean, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def run(folder, *args):
    return subprocess.run(
        *args, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def content(folder):
    """All files of a set but the manifest, which names the server's port."""
    names = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "manifest.json"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in names}


@pytest.fixture
def undisturbed(tmp_path, questions):
    with LLMServer() as server:
        result = run(tmp_path, command(server, "undisturbed", cache="other.sqlite3"))
        assert result.returncode == 0, result.stderr
        assert len(server.log) == 23
    return content(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("faults", [HTTP_FAULTS, STYLES], ids=["transport", "style"])
def test_faults_that_pass_change_nothing(tmp_path, undisturbed, faults):
    with LLMServer(plan=seeded_plan(3, faults, share=0.6, tries=1)) as server:
        result = run(tmp_path, command(server, "set", "--timeout", "2", "--max-retries", "4"))
        assert result.returncode == 0, result.stderr
        assert Counter(seen.fault for seen in server.log)[None] < len(server.log)
    assert content(tmp_path / "set") == undisturbed
    assert "23 answers asked for, 0 from the cache; " in result.stdout


@pytest.mark.slow
def test_replies_of_no_use_are_asked_again_or_counted(tmp_path, questions):
    # Every first reply is of no use or half of it, and some questions never get a better one.
    def plan(seen):
        hopeless = "apples" in seen.problem
        return TEXT_FAULTS[len(seen.problem) % len(TEXT_FAULTS)] if hopeless or not seen.taken else None

    with LLMServer(plan=plan) as server:
        result = run(tmp_path, command(server, "set", "--unworded", "drop"))
    assert result.returncode == 0, result.stderr
    kept = json.loads((tmp_path / "set/manifest.json").read_text())
    dropped = [json.loads(line) for line in (tmp_path / "set/rejected_wordings.jsonl").read_text().splitlines()]
    rejected = [json.loads(line) for line in (tmp_path / "set/rejected.jsonl").read_text().splitlines()]
    assert sum(kept["dropped_wordings"].values()) == len(dropped) > 0
    assert {row["reason"] for row in rejected} <= {"empty answer", "no good wording"}
    assert sum(kept["kept"].values()) + len(rejected) == 24


@pytest.mark.slow
def test_a_question_that_cannot_be_asked_is_rejected_with_its_reason(tmp_path, questions):
    with LLMServer(plan=lambda seen: "400 the context is too long" if "coins" in seen.problem else None) as server:
        result = run(tmp_path, command(server, "set"))
    assert result.returncode == 0, result.stderr
    rejected = [json.loads(line) for line in (tmp_path / "set/rejected.jsonl").read_text().splitlines()]
    coins = [row for row in rejected if row["reason"] == "wordings could not be asked for"]
    assert [row["where"] for row in coins] == [f"q.jsonl, line {number}" for number in (14, 22)]
    assert all("the context is too long" in row["detail"] for row in coins)


def arrivals(server):
    """The messages of requests whose answer the client has; those held are answered to nobody."""
    return [json.dumps(seen.body["messages"]) for seen in server.answered() if seen.fault != "held"]


def kill_after(server, limit, args, folder):
    """Run the command, and kill it once at least `limit` answers have arrived in all."""
    server.plan = lambda seen: "held" if len(arrivals(server)) >= limit else None
    with subprocess.Popen(args, cwd=folder, env=environment(), stdout=subprocess.DEVNULL) as child:
        # A slot asks again only once its last answer is kept: four requests that are held say that all others are.
        assert server.wait_until(lambda: server.active == 4 and len(arrivals(server)) >= limit, 60)
        child.send_signal(signal.SIGKILL)
    server.release.set()
    assert server.wait_until(lambda: server.active == 0)
    server.release.clear()


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_set_and_asks_nothing_twice(tmp_path, undisturbed):
    with LLMServer() as server:
        for limit in (1, 7, 15):
            kill_after(server, limit, command(server, "set"), tmp_path)
            assert not (tmp_path / "set").exists()
        arrived = arrivals(server)
        server.plan = lambda seen: None
        before = len(server.log)
        result = run(tmp_path, command(server, "set"))
        assert result.returncode == 0, result.stderr
        after = [json.dumps(seen.body["messages"]) for seen in server.log[before:]]
    assert len(arrived) >= 15
    assert not set(arrived) & set(after)
    assert content(tmp_path / "set") == undisturbed
    assert sorted(item.name for item in tmp_path.iterdir() if item.name.startswith(".")) == []


@pytest.mark.slow
def test_a_server_that_goes_away_leaves_the_answers(tmp_path, undisturbed):
    with LLMServer(plan=lambda seen: "500" if len(server.answered()) >= 9 else None) as server:
        result = run(tmp_path, command(server, "set", "--max-retries", "0"))
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1
        assert "run the same command again" in result.stderr
        assert not (tmp_path / "set").exists()
        arrived = arrivals(server)
        server.plan = lambda seen: None
        before = len(server.log)
        assert run(tmp_path, command(server, "set")).returncode == 0
        assert not set(arrived) & {json.dumps(seen.body["messages"]) for seen in server.log[before:]}
    assert content(tmp_path / "set") == undisturbed


def test_a_wrong_address_is_one_line(tmp_path, questions):
    args = [sys.executable, "-m", "r1_sharevl.cli", "prep", "q.jsonl", "--out", "set", "--variants", "2"]
    result = run(tmp_path, [*args, "--model", "x", "--base-url", "http://127.0.0.1:9/v1", "--cache", "c"])
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "http://127.0.0.1:9/v1: cannot be reached" in result.stderr
    assert not (tmp_path / "set").exists()
