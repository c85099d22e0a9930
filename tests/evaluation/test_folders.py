"""Names and folders when none are given."""

from pathlib import Path

import pytest

from r1_sharevl.evaluation import default_out, distinct_names


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["runs/a"], ["a"]),
        (["warmup", "runs/share"], ["warmup", "share"]),
        (["runs/a/checkpoint-9", "runs/b/checkpoint-9"], ["a-checkpoint-9", "b-checkpoint-9"]),
        (["x/1/final/model", "x/2/final/model"], ["1-final-model", "2-final-model"]),
        (["Qwen/Qwen2.5-VL-3B-Instruct", "runs/a"], ["Qwen2.5-VL-3B-Instruct", "a"]),
        (["runs/a", "runs/a"], ["a-1", "a-2"]),
        (["/a", "/b/a"], ["a", "b-a"]),
    ],
)
def test_distinct_names(models, names):
    assert distinct_names(models) == names


def test_relative_and_absolute_paths_of_one_model(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert distinct_names(["."]) == ["run"]
    assert default_out(["."], "../data/", "test") == Path("runs/eval/run/data-test")


def test_default_out(tmp_path):
    assert default_out(["Qwen/Qwen2.5-VL-3B"], "sets/geo", "test") == Path("runs/eval/Qwen2.5-VL-3B/geo-test")
    assert default_out(["a/x", "b/x"], "geo", "validation") == Path("runs/eval/a-x-vs-b-x/geo-validation")
    (tmp_path / "run" / "checkpoint-5").mkdir(parents=True)
    checkpoint = str(tmp_path / "run" / "checkpoint-5")
    assert default_out([checkpoint], "geo", "test") == Path("runs/eval/run-checkpoint-5/geo-test")
