"""`compare`: the numbers, the page, and what cannot be compared."""

import json
import re

import numpy as np
import pytest

from r1_sharevl import UserError
from r1_sharevl.evaluation import compare, comparison_rows, evaluate
from r1_sharevl.plots import plot_training


def _right_on(boxed, numbers):
    def answer(text, place, seed):
        number = re.search(r"Number (\d+)", text)[1]
        return boxed(number if int(number) in numbers else "99")

    return answer


@pytest.fixture
def two(scripted, boxed, numbered, tmp_path):
    """Twenty questions: the first model has 0-9 right, the second 5-17."""
    for name, numbers in (("before", range(10)), ("after", range(5, 18))):
        evaluate(scripted(_right_on(boxed, numbers)), numbered(20), out=tmp_path / name, samples=2)
    return tmp_path


def test_numbers(two):
    result = compare(two / "before", two / "after", two / "both")
    assert result.names == ("before", "after")
    assert sorted(result.gained) == sorted(f"q{n}" for n in range(10, 18))
    assert sorted(result.lost) == sorted(f"q{n}" for n in range(5))
    # 8 gained, 5 lost: 2 · (C(13,0) + … + C(13,5)) / 2¹³.
    assert result.p_value == pytest.approx(2 * (1 + 13 + 78 + 286 + 715 + 1287) / 2**13)
    average, passed, majority = result.differences
    assert (average.name, passed.name, majority.name) == ("avg@2", "pass@2", "majority@2")
    assert (average.a.value, average.b.value) == (0.5, 0.65)
    assert average.difference.value == pytest.approx(0.15)
    drawn = np.random.default_rng(0).choice([1.0] * 8 + [-1.0] * 5 + [0.0] * 7, size=(20_000, 20)).mean(axis=1)
    assert average.difference.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.051)
    assert average.difference.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.051)
    assert comparison_rows(result)[0][:3] == ("avg@2", "50.0 % [29.9, 70.1]", "65.0 % [43.3, 81.9]")
    written = json.loads((two / "both" / "comparison.json").read_text())
    assert (written["gained"], written["lost"], written["mcnemar_p"]) == (result.gained, result.lost, result.p_value)
    assert [model["name"] for model in written["models"]] == ["before", "after"]


def test_page_has_its_pictures_and_lists(two):
    page = compare(two / "before", two / "after", two / "both").report
    text = page.read_text()
    pictures = re.findall(r'<img src="([^"]+)"', text)
    assert {"plots/scores.png", "plots/lengths.png"} <= set(pictures)
    assert all((page.parent / path).is_file() for path in pictures)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all((page.parent / path).is_file() for path in links)
    assert "## Gained (8)" in text
    assert "## Lost (5)" in text
    assert "which may be chance" in text
    assert "different settings" not in text


def test_sample_rows_show_the_images(scripted, boxed, make_rows, tmp_path):
    for name in ("a", "b"):
        evaluate(scripted(lambda *_: boxed("A")), make_rows(6), out=tmp_path / name, samples=1)
    text = compare(tmp_path / "a", tmp_path / "b", tmp_path / "both").report.read_text()
    assert len(re.findall(r'<img src="\.\./a/samples/[0-9a-f]+-0\.png"', text)) == 6


def test_made_again_it_is_the_same(two):
    one = compare(two / "before", two / "after", two / "both").report.read_bytes()
    assert compare(two / "before", two / "after", two / "both").report.read_bytes() == one


def test_other_sampling_is_compared_and_said(scripted, boxed, numbered, two):
    settings = {"backend": "scripted", "max_new_tokens": 64, "temperature": 0.5}
    evaluate(scripted(_right_on(boxed, range(3)), settings), numbered(20), out=two / "cool", samples=4)
    result = compare(two / "before", two / "cool", two / "both")
    assert [difference.name for difference in result.differences] == ["avg@2 and avg@4", "pass@2"]
    text = result.report.read_text()
    assert "different settings" in text
    assert "| temperature | None | 0.5 |" in text
    assert "| samples | 2 | 4 |" in text


def test_training_curves_are_put_on_the_page(two):
    history = [{"step": step, "reward": 0.1 * step, "entropy": 1.0} for step in range(1, 9)]
    plot_training(history, two / "run" / "plots")
    result = compare(two / "before", two / "after", two / "both", run=two / "run")
    assert 'src="plots/training/entropy.png"' in result.report.read_text()
    assert (two / "both/plots/training/reward.png").read_bytes() == (two / "run/plots/reward.png").read_bytes()


def test_training_curves_are_drawn_from_the_log_of_the_last_checkpoint(two):
    for step in (9, 10):
        folder = two / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        history = [{"step": n, "reward": 0.5, **({"entropy": 1.0} if step == 10 else {})} for n in range(step)]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    compare(two / "before", two / "after", two / "both", run=two / "run")
    assert sorted(path.name for path in (two / "both/plots/training").iterdir()) == ["entropy.png", "reward.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: None, "run: no such run folder"),
        (lambda run: run.mkdir(), "run: not a training run, it has neither"),
        (
            lambda run: (run.mkdir(), (run / "trainer_state.json").write_text("{")),
            r"trainer_state\.json: not a trainer",
        ),
    ],
)
def test_runs_without_curves(two, make, message):
    make(two / "run")
    with pytest.raises(UserError, match=message):
        compare(two / "before", two / "after", two / "both", run=two / "run")


def test_what_cannot_be_compared(scripted, by_seed, numbered, two):
    evaluate(scripted(by_seed), numbered(19), out=two / "fewer", samples=2)
    with pytest.raises(UserError, match=r"made on different questions \(20 and 19\)"):
        compare(two / "before", two / "fewer", two / "both")
    with pytest.raises(UserError, match=r"nowhere: not a finished evaluation, settings\.json is missing"):
        compare(two / "before", two / "nowhere", two / "both")
    with pytest.raises(UserError, match="before: holds one of the evaluations to compare"):
        compare(two / "before", two / "after", two / "before")
    (two / "mine").mkdir()
    (two / "mine" / "report.md").write_text("mine")
    with pytest.raises(UserError, match=r"mine: has a report\.md that is no comparison's"):
        compare(two / "before", two / "after", two / "mine")
    predictions = two / "after" / "predictions.jsonl"
    predictions.write_bytes(b"".join(predictions.read_bytes().splitlines(keepends=True)[:-3]))
    with pytest.raises(UserError, match="has 37 of 40 predictions: run the same r1sharevl eval again"):
        compare(two / "before", two / "after", two / "both")
