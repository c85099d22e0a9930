"""`r1sharevl prep inspect`, in a real process."""

import io
import json
import os
import re
import subprocess
import sys

import PIL.Image
import pytest

from r1_sharevl.data.schema import prepared_features
from r1_sharevl.data.writing import SplitWriter

# Wide, so that no table cell is wrapped or cut.
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}


def run(*args, **environment):
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", "inspect", *map(str, args)]
    settings = {**ENVIRONMENT, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=settings, check=False, timeout=120
    )


def shown(*args, **environment):
    result = run(*args, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def section(output, title):
    """Name -> (count, length of the bar) of the lines below a title."""
    lines = output.split(f"\n{title}", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    found = (re.fullmatch(r"(.+?) +([\d,]+) +([\d.]+%) *([█#]*) *", line).groups() for line in lines)
    return {name: (int(count.replace(",", "")), len(bar)) for name, count, _, bar in found}


@pytest.fixture
def folder(tmp_path):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (120, 50)).save(buffer, format="PNG")
    picture = {"bytes": buffer.getvalue(), "path": None}
    rows = [
        {
            "id": f"row-{number}",
            "problem": f"<image>What is [bold]{number}[/bold] + 1?",
            "images": [picture],
            "answer": "B" if number == 3 else str(number + 1),
            "variants": ["<image>Add one."] * (number % 2),
            "source": "sums" if number < 8 else "[red]odd",
            "level": number,
        }
        for number in range(10)
    ]
    rows[9] |= {"id": "\x1b[2Jevil", "problem": "\x1b]0;owned\x07 \u202e求面积 [/bold]", "images": []}
    (tmp_path / "set/data").mkdir(parents=True)
    features = prepared_features({"level": "int64"})
    for split, part in (("train", rows[:7]), ("validation", rows[7:])):
        with SplitWriter(tmp_path / "set/data", split, features) as writer:
            for row in part:
                writer.add(row)
            writer.finish()
    return tmp_path / "set"


def test_counts_and_rows(folder):
    (folder / "manifest.json").write_text(json.dumps({"rejected": {"image cannot be read": 4, "no answer": 1}}))
    output = shown(folder, "--rows", 2)
    assert f"{folder}: 10 rows (train 7, validation 3)" in output
    rows = section(output, "rows by split and source")
    assert rows == {"train · sums": (7, 32), "validation · sums": (1, 5), "validation · [red]odd": (2, 9)}
    assert section(output, "images per row") == {"0": (1, 4), "1": (9, 32)}
    assert section(output, "wordings per row, the problem included") == {"1": (5, 32), "2": (5, 32)}
    assert section(output, "types of answers") == {"option letter": (1, 4), "integer": (9, 32)}
    assert section(output, "pixels of an image: 6,000 to 6,000, mean 6,000.0") == {"5k–10k": (9, 32)}
    assert section(output, "rejected rows by reason") == {"image cannot be read": (4, 32), "no answer": (1, 8)}
    assert len(re.findall(r"^row ", output, re.MULTILINE)) == 2
    assert len(re.findall(r"^source +(sums|\[red\]odd)", output, re.MULTILINE)) == 2
    assert len(set(re.findall(r"^source +(\S+)", output, re.MULTILINE))) == 2


def test_one_split_and_repeatable(folder):
    first, again, other = (shown(folder, "--split", "validation", "--rows", 2, "--seed", seed) for seed in (5, 5, 7))
    assert ": 3 rows (validation 3)" in first
    assert "train" not in first.replace(str(folder), "")
    assert again == first
    assert other != first
    assert other.split("\nrow ")[0] == first.split("\nrow ")[0]


def test_one_row(folder):
    output = shown(folder, "--id", "row-3")
    fields = dict(re.findall(r"^(\S+(?: \S+)?)  +(.+?) *$", output, re.MULTILINE))
    assert fields == {
        "split": "train",
        "source": "sums",
        "images": "120×50",
        "problem": "<image>What is [bold]3[/bold] + 1?",
        "wording 2": "<image>Add one.",
        "answer": "B  (option letter)",
        "meta level": "3",
    }
    assert "rows by split" not in output


def test_data_cannot_steer_the_terminal(folder):
    output = shown(folder, "--rows", 10)
    assert not set(output) & set("\x1b\x07\u202e")
    assert "row \\x1b[2Jevil" in output
    assert "\\x1b]0;owned\\x07 \\u202e求面积 [/bold]" in output


def test_a_terminal_without_blocks(folder):
    output = shown(folder, "--rows", 10, PYTHONIOENCODING="ascii")
    assert section(output, "images per row") == {"0": (1, 4), "1": (9, 32)}
    assert output.isascii()
    assert "\\u6c42\\u9762\\u79ef" in output
    assert "\nrow " not in shown(folder, "--rows", 0)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing"], "nothing: no such folder"),
        (["SET/data"], "not a prepared set"),
        (["SET", "--split", "test"], "no split 'test': it has train, validation"),
        (["SET", "--id", "none"], "no row with the id 'none'"),
        (["SET", "--id", "row-9", "--split", "train"], "no row with the id 'row-9'"),
        (["SET", "--rows", "-1"], "--rows: found -1, expected 0 or more"),
        (["SET", "--rows", "many"], "--rows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_exit_code_2(folder, args, says):
    result = run(*(arg.replace("SET", str(folder)) for arg in args))
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert result.stdout == ""


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from r1_sharevl.cli import main\n"
        "try:\n    main(['prep', 'inspect', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(','.join(sorted({'torch', 'datasets', 'pyarrow', 'PIL'} & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    for option in ("--split", "--rows", "--seed", "--id"):
        assert option in result.stdout


def test_a_narrow_terminal_keeps_the_counts(tmp_path):
    (tmp_path / "set/data").mkdir(parents=True)
    row = {"problem": "What is 1 + 1?", "images": [], "answer": "2", "variants": [], "source": "long/" * 20}
    with SplitWriter(tmp_path / "set/data", "train", prepared_features()) as writer:
        for number in range(12):
            writer.add({**row, "id": str(number)})
        writer.finish()
    output = shown(tmp_path / "set", COLUMNS="60")
    line = next(line for line in output.splitlines() if line.startswith("train · long/"))
    assert re.fullmatch(r"train · long/[^ ]*… +12 +100\.0% +█+ *", line)
    assert len(line.rstrip()) <= 60
