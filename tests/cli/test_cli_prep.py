import json
import os
import subprocess
import sys

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
    for line in ("kept: train", "kept: validation", "question type: ", " wordings"):
        assert line in result.stdout
    assert "Next:     r1sharevl train --dataset set --config configs/quickstart.yaml\n" in result.stdout


def test_own_data_with_rejected_rows(tmp_path):
    write_lines(tmp_path / "q.jsonl", [*(question(n, variants=["x", "y"]) for n in range(5)), "junk", "junk"])
    result = run("q.jsonl", "--out", "set", "--validation-share", "0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    rows = {line[1]: line[2] for line in cells if len(line) == 4}
    assert rows == {"kept: train": "5", "rejected: not valid JSON": "2", "3 wordings": "5", "without an image": "5"}
    assert "Rejected: set/rejected.jsonl" in result.stdout
    assert "Next:     r1sharevl train --dataset set --model_name_or_path " in result.stdout
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
        (["q.csv", "--out", "x"], "q.csv: unknown kind of file '.csv': expected .jsonl, .json, .parquet or a folder"),
        (["empty.jsonl", "--out", "x"], "empty.jsonl: is empty"),
        (["columns.jsonl", "--out", "x"], "columns.jsonl: no column 'problem' (found: answer, question)"),
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
    write_lines(tmp_path / "columns.jsonl", [{"question": "x", "answer": "y"}])
    write_lines(tmp_path / "marks.jsonl", [{"problem": "<image><image>", "answer": "1", "image": {"bytes": dot}}])
    write_lines(tmp_path / "image.jsonl", [question(1, image={"bytes": dot[:60]})])
    write_lines(tmp_path / "path.jsonl", [question(1, image="../../../etc/passwd")])
    (tmp_path / "q.csv").write_text("problem,answer\n")
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
