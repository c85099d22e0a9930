import os
import signal
import subprocess
import sys

import pytest

from r1_sharevl.data.staging import MANIFEST, staged_folder
from r1_sharevl.errors import UserError


def make(out, content="new", **options):
    with staged_folder(out, **options) as staging:
        (staging / "sub").mkdir()
        (staging / "sub/file").write_text(content)
        (staging / MANIFEST).write_text("{}")


def fail(out, error, **options):
    with staged_folder(out, **options) as staging:
        (staging / MANIFEST).write_text("{}")
        raise error


def everything(folder):
    return sorted(str(item.relative_to(folder)) for item in folder.rglob("*"))


WHOLE = ["out", f"out/{MANIFEST}", "out/sub", "out/sub/file"]


def test_nothing_is_visible_before_the_end(tmp_path):
    with staged_folder(tmp_path / "out") as staging:
        (staging / MANIFEST).write_text("{}")
        assert staging.parent == tmp_path
        assert not (tmp_path / "out").exists()
    assert everything(tmp_path) == ["out", f"out/{MANIFEST}"]


def test_parents_are_made(tmp_path):
    make(tmp_path / "a/b/out")
    assert (tmp_path / "a/b/out/sub/file").read_text() == "new"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out")
    assert everything(tmp_path) == WHOLE


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_no_trace(tmp_path, error):
    with pytest.raises(error):
        fail(tmp_path / "out", error)
    assert everything(tmp_path) == []


def test_an_existing_set_is_not_replaced_unless_asked(tmp_path):
    make(tmp_path / "out", "old")
    with pytest.raises(UserError, match="out: exists already: choose another --out, or replace it with --overwrite"):
        make(tmp_path / "out")
    assert (tmp_path / "out/sub/file").read_text() == "old"
    make(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/sub/file").read_text() == "new"
    assert everything(tmp_path) == WHOLE


def test_other_folders_and_files_are_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("out", "file"):
        with pytest.raises(UserError, match=f"{name}: exists and is no prepared set, so it is not replaced"):
            make(tmp_path / name, overwrite=True)
    assert everything(tmp_path) == ["file", "out", "out/thesis.tex"]


def test_a_failure_keeps_the_old_set(tmp_path):
    make(tmp_path / "out", "old")
    with pytest.raises(RuntimeError):
        fail(tmp_path / "out", RuntimeError, overwrite=True)
    assert (tmp_path / "out/sub/file").read_text() == "old"
    assert everything(tmp_path) == WHOLE


def test_a_failing_swap_brings_the_old_set_back(tmp_path, monkeypatch):
    make(tmp_path / "out", "old")
    rename = os.rename

    def failing(source, target, **options):
        if str(source).endswith(".partial"):
            raise OSError("no")
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no"):
        make(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/sub/file").read_text() == "old"
    assert everything(tmp_path) == WHOLE


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".out.partial/data").mkdir(parents=True)
    (tmp_path / ".out.partial/data/file").write_text("half")
    make(tmp_path / "out")
    assert everything(tmp_path) == WHOLE


def test_a_set_set_aside_by_a_killed_run_comes_back(tmp_path):
    make(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.previous")
    with pytest.raises(UserError, match="exists already"):
        make(tmp_path / "out")
    assert (tmp_path / "out/sub/file").read_text() == "old"
    assert everything(tmp_path) == WHOLE


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/set")
    make(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk/set/sub/file").read_text() == "new"


def test_unwritable_places(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written: .*: choose another --out"):
        make(tmp_path / "file/out")


HOLDER = """
import sys
from pathlib import Path
from r1_sharevl.data.staging import staged_folder
with staged_folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("x")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_live_runs_do_not_meet_and_a_killed_one_frees_the_place(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "ready\n"
            with pytest.raises(UserError, match="another process is writing it"):
                make(tmp_path / "out")
            assert (tmp_path / ".out.partial/half").exists()
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    assert not (tmp_path / "out").exists()
    make(tmp_path / "out")
    assert everything(tmp_path) == WHOLE
