import json
import os
import signal
import subprocess
import sys
import time

import pytest

from r1_sharevl.data.schema import load_prepared

# Wide, so that no table cell is wrapped or cut.
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def run(*args, cwd):
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False, timeout=300)


def write_lines(path, records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))


def question(number, **more):
    return {"problem": f"What is {number} + 1?", "answer": str(number + 1), **more}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_built_in_set(tmp_path):
    result = run("synthetic", "--out", "set", "--train-rows", 12, "--validation-rows", 6, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(load_prepared(tmp_path / "set")) == 12
    assert len(load_prepared(tmp_path / "set", "validation")) == 6
    for line in ("kept: train", "kept: validation", "question type: ", " other wordings"):
        assert line in result.stdout
    assert "Next:     r1sharevl warmup --data set --out runs/warmup\n" in result.stdout


def test_own_data_with_rejected_rows(tmp_path):
    write_lines(
        tmp_path / "q.jsonl",
        [*(question(n, variants=[f"Please tell: what is {n} + 1?", "How much?"]) for n in range(5)), "junk", "junk"],
    )
    result = run("q.jsonl", "--out", "set", "--validation-share", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    rows = {line[1]: line[2] for line in cells if len(line) == 4}
    assert rows == {
        "kept: train": "5",
        "rejected: not valid JSON": "2",
        "with 1 other wording": "5",
        "dropped wordings: numbers differ": "5",
        "without an image": "5",
    }
    assert "Rejected: set/rejected.jsonl" in result.stdout
    assert "Next:     r1sharevl train --config qwen2_5_vl_3b_lora_24gb --dataset set\n" in result.stdout
    assert len(load_prepared(tmp_path / "set")) == 5


def test_overwrite_and_seed(tmp_path):
    write_lines(tmp_path / "q.jsonl", [question(n) for n in range(40)])
    arguments = ["q.jsonl", "--out", "set", "--validation-share", "0.5"]
    assert run(*arguments, cwd=tmp_path).returncode == 0
    first = load_prepared(tmp_path / "set")["id"][:]
    assert run(*arguments, "--seed", "1", "--overwrite", cwd=tmp_path).returncode == 0
    assert load_prepared(tmp_path / "set")["id"][:] != first


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing.jsonl", "--out", "x"], "nothing.jsonl: no such file or folder"),
        (["q.xlsx", "--out", "x"], "q.xlsx: unknown kind of file '.xlsx': expected "),
        (["q.csv", "--out", "x"], "q.csv: is empty: it needs at least one row"),
        (["empty.jsonl", "--out", "x"], "empty.jsonl: is empty"),
        (
            ["columns.jsonl", "--out", "x"],
            "columns: no column for 'problem' (found: answer, figure): name it with --map problem=COLUMN",
        ),
        (["good.jsonl", "--out", "x", "--map", "problem"], "--map problem: expected WHAT=COLUMN"),
        (["good.jsonl", "--out", "x", "--map", "frage=problem"], "--map frage=problem: there is no role 'frage'"),
        (["good.jsonl", "--out", "x", "--map", "problem=q"], "--map problem=q: no column 'q' (found: answer, problem)"),
        (["good.jsonl", "--out", "x", "--weights", "2;1"], "--weights 2;1: expected numbers with commas between them"),
        (["good.jsonl", "--out", "x", "--weights", "2,1"], "--weights: found 2 for 1 inputs"),
        (["good.jsonl", "--out", "x", "--variants", "2"], "--model: not given: name the model"),
        (["good.jsonl", "--out", "x", "--model", "m"], "--model: no wordings are asked for"),
        (["good.jsonl", "--out", "x", "--rewriter", "api", "--model", "m"], "--rewriter: say with --variants how many"),
        (
            ["good.jsonl", "--out", "x", "--rewriter", "local", "--variants", "1", "--model", "no/such/folder"],
            "no such",
        ),
        (
            ["good.jsonl", "--out", "x", "--variants", "2", "--model", "m", "--base-url", "x"],
            "--base-url: 'x' is no addr",
        ),
        (
            ["good.jsonl", "--out", "x", "--pass-rate", "0.9:0.1", "--pass-rate-model", "m"],
            "--pass-rate: found '0.9:0.1'",
        ),
        (["good.jsonl", "--out", "x", "--pass-rate", "0:1"], "--pass-rate: needs --pass-rate-model"),
        (["good.jsonl", "--out", "x", "--pass-rate-model", "m"], "--pass-rate-model: say with --pass-rate"),
        (["good.jsonl", "--out", "x", "--max-prompt-length", "9"], "--max-prompt-length: needs --processor"),
        (["good.jsonl", "--out", "x", "--decontaminate", "nowhere"], "nowhere: no such file or folder"),
        (["good.jsonl", "--out", "x", "--push-to-hub", "a/b"], "--push-to-hub a/b"),
        (["inspect", "good.jsonl"], "good.jsonl: is a file, not a folder"),
        (["marks.jsonl", "--out", "x"], "field 'problem' has 2 <image> marks but the row has 1 image"),
        (["image.jsonl", "--out", "x"], "the image cannot be read"),
        (["path.jsonl", "--out", "x"], "leads out of"),
        (["good.jsonl", "--out", "full"], "exists and is no prepared set"),
        (["good.jsonl", "--out", "x", "--validation-share", "2"], "--validation-share: found 2.0"),
        (["good.jsonl", "--out", "x", "--train-rows", "5"], "--train-rows: only for the built-in set"),
        (["synthetic", "--out", "x", "--train-rows", "many"], "--train-rows"),
        (["good.jsonl", "--out", "x", "--no-such"], "--no-such"),
        (["good.jsonl"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_exit_code_2(tmp_path, args, says):
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVQI12P4z8AAAAMBAQAY3Y2wAAAAAElFTkSuQmCC"
    write_lines(tmp_path / "good.jsonl", [question(1)])
    write_lines(tmp_path / "empty.jsonl", [])
    write_lines(tmp_path / "columns.jsonl", [{"figure": "x", "answer": "y"}])
    write_lines(tmp_path / "marks.jsonl", [{"problem": "<image><image>", "answer": "1", "image": {"bytes": dot}}])
    write_lines(tmp_path / "image.jsonl", [question(1, image={"bytes": dot[:60]})])
    write_lines(tmp_path / "path.jsonl", [question(1, image="../../../etc/passwd")])
    (tmp_path / "q.csv").write_text("problem,answer\n")
    (tmp_path / "q.xlsx").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    result = run(*args, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_shows_what_would_become_of_the_rows(tmp_path):
    rows = [{"query": f"What is {n} + 1?", "solution": f"\\boxed{{{n + 1}}}", "level": n} for n in range(40)]
    rows[3]["solution"] = ""
    write_lines(tmp_path / "q.jsonl", rows)
    before = sorted(tmp_path.rglob("*"))
    result = run("q.jsonl", "--dry-run", "--validation-share", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Columns of q: problem=query answer=solution\n" in result.stdout
    assert "empty answer: q.jsonl, line 4: field 'answer' is empty" in result.stdout
    assert "problem: What is 0 + 1?" in result.stdout
    assert "Read 20 of 40 rows." in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_many_rows_in_several_processes_are_what_one_process_makes(tmp_path):
    write_lines(tmp_path / "q.jsonl", [question(n, answer=str(n + 1) if n % 9 else "") for n in range(400)])
    for workers in (1, 2):
        result = run("q.jsonl", "--out", f"set{workers}", "--workers", workers, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    for file in ("manifest.json", "rejected.jsonl", "data/train-00000-of-00001.parquet"):
        assert (tmp_path / "set1" / file).read_bytes() == (tmp_path / "set2" / file).read_bytes()


def test_ctrl_c_says_what_is_lost(tmp_path):
    write_lines(tmp_path / "q.jsonl", [question(n) for n in range(30000)])
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", "q.jsonl", "--out", "set", "--workers", "2"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does it, the whole group shall get the signal
    ) as child:
        deadline = time.monotonic() + 60
        while not (tmp_path / ".set.partial/rejected.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.splitlines() == [
        "Nothing was written to set. Run the same command again: what models answered is kept.",
        "error: interrupted",
    ]
    assert [item.name for item in tmp_path.iterdir()] == ["q.jsonl"]


def test_help_shows_examples(tmp_path):
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "r1sharevl prep synthetic --out data" in result.stdout
    for option in ("--out", "--train-rows", "--validation-rows", "--validation-share", "--seed", "--overwrite"):
        assert option in result.stdout
    assert "[bold]" not in result.stdout


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from r1_sharevl.cli import main\n"
        "try:\n    main(['prep', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(','.join(sorted({'torch', 'datasets', 'pyarrow', 'PIL'} & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
