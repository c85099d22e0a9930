"""A full disk and a target that cannot be written: one clear line, and what was there before is untouched."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def write_questions(folder, name, count, size):
    (folder / "img").mkdir(exist_ok=True)
    lines = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "img" / f"{name}-{number}.png")
        row = {"problem": f"What is {number} + 1?", "answer": str(number + 1), "image": f"img/{name}-{number}.png"}
        lines.append(json.dumps(row) + "\n")
    (folder / f"{name}.jsonl").write_text("".join(lines))


def prep(*args, cwd, **more):
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", *map(str, args), "--validation-share", "0"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False, timeout=300, **more
    )


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_file_that_may_grow_no_further(tmp_path):
    write_questions(tmp_path, "old", 2, 8)
    write_questions(tmp_path, "new", 40, 64)
    assert prep("old.jsonl", "--out", "set", cwd=tmp_path).returncode == 0
    before = files_of(tmp_path / "set")
    limit = 200_000  # the new set has 40 pictures of 12 kB
    result = prep(
        "new.jsonl",
        "--out",
        "set",
        "--overwrite",
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: set: cannot be written: File too large: make room or choose another --out")
    assert files_of(tmp_path / "set") == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["img", "new.jsonl", "old.jsonl", "set"]
    assert prep("new.jsonl", "--out", "set", "--overwrite", cwd=tmp_path).returncode == 0


def in_own_disk(tmp_path, script):
    """Run a shell script in which `disk/` is a disk of 600 kB of its own; skip where the system allows none."""
    (tmp_path / "disk").mkdir()
    probe = subprocess.run([*IN_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "disk")], check=False)
    if probe.returncode:
        pytest.skip("this system lets nobody mount a disk in a namespace of their own")
    whole = f"set -e; mount -t tmpfs -o size=600k tmpfs disk; {script}"
    return subprocess.run(
        [*IN_NAMESPACE, "sh", "-c", whole],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PREP": f"{sys.executable} -m r1_sharevl.cli prep --validation-share 0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("before", "after", "code", "says"),
    [
        ("", "", 1, "error: disk/set: cannot be written: No space left on device: make room or choose another --out"),
        (
            "mount -o remount,ro disk",
            "mount -o remount,rw disk",
            2,
            "error: {}/disk/set: cannot be written: Read-only file system: choose another --out",
        ),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_no_more(tmp_path, before, after, code, says):
    write_questions(tmp_path, "old", 2, 8)
    write_questions(tmp_path, "new", 60, 72)
    script = (
        "$PREP old.jsonl --out disk/set > /dev/null; cp -r disk/set was;"
        f"{before or ':'}; code=0; $PREP new.jsonl --out disk/set --overwrite || code=$?; {after or ':'};"
        "diff -r disk/set was; ls -A disk; exit $code"
    )
    result = in_own_disk(tmp_path, script)
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(says.format(Path(tmp_path).resolve()))
    assert result.stdout == "set\n"
