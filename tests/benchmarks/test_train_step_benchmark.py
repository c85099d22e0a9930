"""The benchmark of a training step: that it runs, and that its page says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from train_step import ResultFile, main
from train_step_arms import Shape
from train_step_page import memory_share, ratios, write_page

FOLDER = Path(__file__).parents[2] / "benchmarks"
PAGE = FOLDER.parent / "docs" / "performance.md"


def entry(slow, fast, prompt=96, **more):
    arms = {
        "trl": {"seconds": slow, "memory": 4_000_000_000, "responses": 8, "pairs": 8},
        "share": {"seconds": fast, "memory": 1_000_000_000, "responses": 4, "pairs": 8},
    }
    for arm in arms.values():
        arm["phases"] = [{"load_data": 0.25, "prepare": 0.5, "generate": 1.0, "update": s} for s in arm["seconds"]]
    sizes = {"prompt": prompt, "completion": 16, "num_variants": 2, "responses_per_prompt": 2, "uneven": False}
    return sizes | {"shortest": 16, "ordinary_tokens": 448, "packed_tokens": 159, "arms": arms} | more


def result(kind="cpu"):
    parts = {
        "forward": [entry([6.0, 9.0, 8.0], [2.0, 2.0, 4.0]), entry([6.0], [2.0], uneven=True, shortest=6)],
        "growth": [entry([3.0], [2.0], prompt=512), entry([6.0], [2.0], prompt=512, responses_per_prompt=4)],
        "step": [entry([10.0], [4.0], prompt=1024)],
    }
    return {
        "date": "2026-01-01",
        "kind": kind,
        "machine": "a machine",
        "model_says": "a model",
        "versions": {"torch": "2.0"},
        "arms": {"trl": "TRL's GRPO, same pairs", "share": "Share-GRPO"},
        "parts": {name: {"entries": entries} for name, entries in parts.items()},
    }


def test_ratio_is_of_medians_with_the_rounds_extremes():
    found = entry([6.0, 9.0, 8.0], [2.0, 2.0, 4.0])
    assert ratios(found, "trl") == (4.0, 2.0, 4.5)
    assert memory_share(found) == 0.25


def test_page_gets_tables_between_its_marks_and_keeps_the_rest(tmp_path):
    page = tmp_path / "performance.md"
    text = PAGE.read_text(encoding="utf-8")  # the real one: it must have the marks
    page.write_text(text, encoding="utf-8")
    for _ in range(2):  # the second time over the first
        write_page(result(), page, Path("2026-01-01-cpu-train-step.json"))
    lines = page.read_text(encoding="utf-8").splitlines()
    row = "| 96 | 16 | 448 → 159 | 2.82× | 8.00 | 2.00 | **4.00×** (2.00 to 4.50) | 4.00 | 1.00 | 25% |"
    assert lines.count(row) == 1
    assert sum(line.startswith("| 96 | 6 to 16 |") for line in lines) == 1
    assert sum(line.startswith("| 4 | 8 |") for line in lines) == 1
    phases = "0.75 | 1.00 | 0.00 | 0.00 | 10.00 | 10.00"
    assert f"| 1024 | 16 | TRL's GRPO, same pairs | 8 / 8 | {phases} | **2.50×** (2.50 to 2.50) | 4.00 |" in lines
    assert lines.count("<!-- train_step.py cpu: end -->") == 1
    before, after = (text.split(mark)[index] for mark, index in (("<!-- train_step.py cpu: b", 0), ("cpu: end -->", 1)))
    written = page.read_text(encoding="utf-8")
    assert written.startswith(before)
    assert written.endswith(after)
    assert (tmp_path / "images" / "performance-cpu.png").stat().st_size > 10_000


def test_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("no marks\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train_step\.py cpu: begin"):
        write_page(result(), page, Path("x.json"))
    assert page.read_text(encoding="utf-8") == "no marks\n"


def test_result_is_stored_shape_by_shape_beside_what_was_there(tmp_path):
    path, about = tmp_path / "results" / "x.json", {"kind": "cpu", "machine": "a machine"}
    for prompt in (1024, 128, 512):
        ResultFile(path, about).add("forward", entry([6.0], [2.0], prompt=prompt))  # a run each, cut off behind it
    ResultFile(path, about).add("step", entry([6.0], [2.0]))
    ResultFile(path, about).add("forward", entry([9.0], [2.0], prompt=512))
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["machine"] == "a machine"
    seconds = [(one["prompt"], one["arms"]["trl"]["seconds"]) for one in found["parts"]["forward"]["entries"]]
    assert seconds == [(128, [6.0]), (512, [9.0]), (1024, [6.0])]
    assert len(found["parts"]["step"]["entries"]) == 1
    shapes = [Shape(prompt, 16, responses_per_prompt=2) for prompt in (96, 128)]
    lacks = ResultFile(path, about).lacks({"forward": shapes, "step": shapes, "growth": shapes[:1]})
    assert lacks == ["forward 96,16", "step 128,16", "growth 96,16"]
    with pytest.raises(SystemExit, match="was measured with another machine"):
        ResultFile(path, about | {"machine": "another"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--shapes", "abc"], "--shapes abc: not among the shapes of forward, step, growth: 1024,256 1024,64 128,"),
        (["--parts", "growth", "--shapes", "1024,64"], "--shapes 1024,64: not among the shapes of growth: 512,64"),
        (["--page", "nope.json"], "--page nope.json: there is no such file"),
    ],
    ids=["no shape", "shape of no part", "no file"],
)
def test_wrong_arguments_are_named(options, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_step.py", *options])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which it sets
    with pytest.raises(SystemExit, match="2"):
        main()
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_quick_run_measures_both_trainers_on_the_same_pairs(tmp_path):
    """Small prompts, but the real trainers in their own processes; it stops if their gradients differ."""
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    options = ["--quick", "--parts", "forward", "step", "--results", str(tmp_path), "--into", str(page)]
    subprocess.run(
        [sys.executable, str(FOLDER / "train_step.py"), *options],
        check=True,
        capture_output=True,
        timeout=500,
    )
    (file,) = tmp_path.glob("*-cpu-train-step-quick-full.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    even, uneven = found["parts"]["forward"]["entries"]
    assert (even["ordinary_tokens"], even["packed_tokens"]) == (4 * (96 + 16), 95 + 4 * 16)
    assert uneven["packed_tokens"] < even["packed_tokens"]
    (step,) = found["parts"]["step"]["entries"]
    sizes = {arm: (values["responses"], values["pairs"]) for arm, values in step["arms"].items()}
    assert sizes == {"trl": (8, 8), "trl_same_rollouts": (4, 4), "share": (4, 8)}
    for values in step["arms"].values():
        assert len(set(values["seconds"])) == 3
        for seconds, phases in zip(values["seconds"], values["phases"], strict=True):
            assert phases["old_logps"] > 0
            assert sum(phases.values()) == pytest.approx(seconds, rel=0.05)
    assert file.name in page.read_text(encoding="utf-8")
