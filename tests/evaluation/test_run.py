"""`evaluate`: what it counts, what it writes, and that stopping and starting it again changes nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from r1_sharevl import UserError
from r1_sharevl.evaluation import evaluate

PREDICTIONS = "predictions.jsonl"


def _lines(folder):
    return (folder / PREDICTIONS).read_bytes().splitlines(keepends=True)


def test_scores_files_and_result_agree(scripted, boxed, numbered, tmp_path):
    """Four questions, four samples: always right, right every other time, never, never with an answer."""

    def answer(text, place, seed):
        number = int(re.search(r"Number (\d)", text)[1])
        wrong = boxed("99")
        return [boxed("0"), [boxed("1"), wrong][place % 2], wrong, ["No box.", "and so ..."][place % 2]][number]

    result = evaluate(scripted(answer), numbered(4), out=tmp_path / "eval", samples=4, batch_size=4)
    scores = result.scores
    assert scores.average.value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert {k: estimate.value for k, estimate in scores.pass_at_k.items()} == pytest.approx(
        # Question 1: two of four right, so a pair misses with chance 1/6.
        {1: 0.375, 2: (1 + 5 / 6) / 4, 4: 0.5}
    )
    assert scores.majority.value == 0.5
    assert scores.answer_found == 0.75
    assert scores.cut_off == 0.125
    assert scores.why == {"right": 6, "wrong": 6, "no answer found": 2, "cut off": 2, "could not be scored": 0}
    assert {value: (group.questions, group.average.value) for value, group in scores.groups["source"].items()} == {
        "even": (2, 0.5),
        "odd": (2, 0.25),
    }
    written = json.loads((tmp_path / "eval" / "scores.json").read_text())
    assert written["average"]["value"] == scores.average.value
    assert written["pass_at_k"]["4"]["value"] == 0.5
    assert (written["schema"], written["split"], written["questions"], written["samples"]) == (1, "validation", 4, 4)
    records = [json.loads(line) for line in _lines(tmp_path / "eval")]
    assert records == [prediction.to_dict() for prediction in result.predictions]
    assert set(records[0]) == {"id", "sample", "response", "extracted", "correct", "why", "tokens", "cut_off"}
    questions = [json.loads(line) for line in (tmp_path / "eval" / "questions.jsonl").read_text().splitlines()]
    assert [(question["id"], question["answer"]) for question in questions] == [(f"q{n}", str(n)) for n in range(4)]
    assert result.report == tmp_path / "eval" / "report.md"


def test_without_out_nothing_is_written(scripted, by_seed, numbered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = evaluate(scripted(by_seed), numbered(4), samples=2)
    assert (result.out, result.report, len(result.predictions)) == (None, None, 8)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_the_prepared_set_reach_the_model(scripted, boxed, prepared):
    """Images, in their place, and the training instruction: the built-in set through the one prompt template."""
    backend = scripted(lambda text, place, seed: boxed("A"))
    result = evaluate(backend, prepared, samples=1, batch_size=5, instruction="Answer now.")
    assert [len(texts) for texts, _ in backend.batches] == [5, 5, 2]
    assert all(text.endswith("Answer now.") for texts, _ in backend.batches for text in texts)
    assert set(result.scores.groups) == {"question_type"}
    rows = datasets.load_dataset(str(prepared), split="validation")
    right = sum(answer == "A" for answer in rows["answer"])
    assert result.scores.average.value == right / 12
    assert 0 < right < 12


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_stopped_between_batches(scripted, by_seed, numbered, tmp_path, stop_after):
    def run(out, **options):
        return evaluate(scripted(by_seed, **options), numbered(5), out=out, samples=4, batch_size=3)

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop_after=stop_after)
    assert len(_lines(tmp_path / "stopped")) == 3 * stop_after
    assert not (tmp_path / "stopped" / "scores.json").exists()
    continued = run(tmp_path / "stopped")
    assert _lines(tmp_path / "stopped") == _lines(tmp_path / "whole")
    for name in ("scores.json", "questions.jsonl", "report.md", "settings.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(continued.predictions) == 20


@pytest.mark.parametrize("bytes_left", [0, 1, 150, 700, 1400, 1500])
def test_stopped_within_a_line(scripted, by_seed, numbered, tmp_path, bytes_left):
    """Any prefix of the file is continued to the same file, and what is whole is not generated again."""

    def run(backend):
        return evaluate(backend, numbered(5), out=tmp_path, samples=4, batch_size=3)

    run(scripted(by_seed))
    whole = _lines(tmp_path)
    content = b"".join(whole)
    assert len(content) > 1500
    (tmp_path / PREDICTIONS).write_bytes(content[:bytes_left])
    lines_left = content[:bytes_left].count(b"\n")
    backend = scripted(by_seed)
    run(backend)
    assert _lines(tmp_path) == whole
    assert sum(len(texts) for texts, _ in backend.batches) == 20 - lines_left // 3 * 3


def test_finished_evaluation_is_not_generated_again(scripted, by_seed, numbered, tmp_path):
    evaluate(scripted(by_seed), numbered(3), out=tmp_path)
    backend = scripted(by_seed)
    evaluate(backend, numbered(3), out=tmp_path)
    assert backend.batches == []


def test_progress_counts_what_was_kept(scripted, by_seed, numbered, tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        evaluate(scripted(by_seed, stop_after=2), numbered(4), out=tmp_path, samples=2, batch_size=3)
    evaluate(
        scripted(by_seed), numbered(4), out=tmp_path, samples=2, batch_size=3, on_progress=lambda *x: seen.append(x)
    )
    assert seen == [(6, 8), (8, 8)]


def test_batches_and_seeds_depend_on_the_arguments_alone(scripted, by_seed, numbered):
    runs = []
    for options in ({}, {}, {"seed": 1}, {"limit": 3}):
        backend = scripted(by_seed)
        evaluate(backend, numbered(4), samples=2, batch_size=3, **options)
        runs.append(backend.batches)
    assert runs[0] == runs[1]
    assert [texts for texts, _ in runs[0]] == [texts for texts, _ in runs[2]]
    seeds = [seed for batches in runs[:1] + runs[2:3] for _, seed in batches]
    assert len(set(seeds)) == len(seeds) == 6
    assert sum(len(texts) for texts, _ in runs[3]) == 6


def test_greedy_asks_once(scripted, by_seed, numbered):
    backend = scripted(by_seed, {"backend": "scripted", "temperature": 0.0})
    assert evaluate(backend, numbered(3), samples=8).scores.samples == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 3}, "samples was 2 there and is 3 now"),
        ({"seed": 4}, "seed was 0 there and is 4 now"),
        ({"batch_size": 7}, "batch_size was 32 there and is 7 now"),
        ({"instruction": "Think."}, "the instruction differ"),
        ({"limit": 2}, "the data differ"),
    ],
)
def test_other_settings_are_refused(scripted, by_seed, numbered, tmp_path, changed, message):
    evaluate(scripted(by_seed), numbered(4), out=tmp_path, samples=2)
    before = _lines(tmp_path)
    options = {"samples": 2, **changed}
    with pytest.raises(UserError, match=f"other settings \\({message}\\): give another --out, or --overwrite it"):
        evaluate(scripted(by_seed), numbered(4), out=tmp_path, **options)
    assert _lines(tmp_path) == before
    evaluate(scripted(by_seed), numbered(4), out=tmp_path, overwrite=True, **options)
    assert len(_lines(tmp_path)) == options.get("limit", 4) * options["samples"]


def test_another_model_is_refused(scripted, by_seed, numbered, tmp_path):
    evaluate(scripted(by_seed, {"model_fingerprint": "a", "dtype": "float32"}), numbered(2), out=tmp_path)
    with pytest.raises(UserError, match="the model's weights differ"):
        evaluate(scripted(by_seed, {"model_fingerprint": "b", "dtype": "float32"}), numbered(2), out=tmp_path)
    with pytest.raises(UserError, match="dtype was 'float32' there and is None now"):
        evaluate(scripted(by_seed, {"model_fingerprint": "a"}), numbered(2), out=tmp_path)


def test_changed_image_is_other_data(scripted, by_seed, make_rows, tmp_path):
    rows = make_rows(4)
    evaluate(scripted(by_seed), rows, out=tmp_path, samples=1)
    evaluate(scripted(by_seed), rows, out=tmp_path, samples=1)
    turned = make_rows(4, {2: {"images": [rows[2]["images"][0].rotate(90)]}})
    with pytest.raises(UserError, match="the data differ"):
        evaluate(scripted(by_seed), turned, out=tmp_path, samples=1)


def test_damaged_or_foreign_predictions(scripted, by_seed, numbered, tmp_path):
    def run(**options):
        evaluate(scripted(by_seed), numbered(3), out=tmp_path, samples=2, **options)

    run()
    lines = _lines(tmp_path)
    (tmp_path / PREDICTIONS).write_bytes(b"".join([lines[0], b"{]\n", *lines[2:]]))
    with pytest.raises(UserError, match=r"predictions\.jsonl, line 2: not a prediction .*--overwrite"):
        run()
    (tmp_path / PREDICTIONS).write_bytes(b"".join([lines[0], lines[2], lines[1]]))
    with pytest.raises(UserError, match=r"predictions\.jsonl, line 2: is not what comes there"):
        run()
    (tmp_path / PREDICTIONS).write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(UserError, match=r"predictions\.jsonl, line 7: is not what comes there"):
        run()
    run(overwrite=True)
    assert _lines(tmp_path) == lines


def test_folders_of_something_else_are_left_alone(scripted, by_seed, numbered, tmp_path):
    def run(out, **options):
        evaluate(scripted(by_seed), numbered(2), out=out, **options)

    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="file: is a file"):
        run(tmp_path / "file")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.md").write_text("mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "settings.json").write_text('{"editor": "vi"}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"has a report\.md but no settings\.json"):
            run(tmp_path / "a", overwrite=overwrite)
        with pytest.raises(UserError, match=r"settings\.json: was not written by r1sharevl eval"):
            run(tmp_path / "b", overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "file", "report.md", "settings.json"]


def test_two_at_once_are_refused(scripted, by_seed, numbered, tmp_path):
    def answer(text, place, seed):
        with pytest.raises(UserError, match="another evaluation is writing to it"):
            evaluate(scripted(by_seed), numbered(2), out=tmp_path, overwrite=True)
        return by_seed(text, place, seed)

    evaluate(scripted(answer), numbered(2), out=tmp_path, samples=1)
    assert len(_lines(tmp_path)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"group_by": ["colour"]}, "has no column 'colour' to group by, found id, problem"),
    ],
)
def test_arguments_that_make_no_sense(scripted, by_seed, numbered, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(scripted(by_seed), numbered(2), **options)


def test_datasets_that_do_not_fit(scripted, by_seed, numbered, make_rows):
    def run(rows):
        evaluate(scripted(by_seed), rows)

    with pytest.raises(UserError, match="the dataset: has no column 'answer', found id"):
        run(numbered(2).remove_columns("answer"))
    with pytest.raises(UserError, match="the dataset: has no rows to evaluate"):
        run(numbered(2).select([]))
    with pytest.raises(UserError, match="the id 'q0' stands twice"):
        run(datasets.concatenate_datasets([numbered(2), numbered(1)]))
    with pytest.raises(UserError, match=r"row 'q1', problem: the text has 1 <image> marks but 0 images"):
        run(numbered(2).map(lambda row: row | {"problem": "<image> What?"} if row["id"] == "q1" else row))
    with pytest.raises(UserError, match=r"row 'validation-1-000001', images: not a picture that can be read"):
        run(make_rows(2, {1: {"images": [{"bytes": b"GIF89a, so it says", "path": None}]}}))
    with pytest.raises(UserError, match=r"row 'validation-1-000001', images: /nowhere\.png cannot be read"):
        run(make_rows(2, {1: {"images": [{"bytes": None, "path": "/nowhere.png"}]}}))


def test_same_responses_through_the_real_model(tiny_checkpoint, prepared, tmp_path):
    """Twice the same command, and once more after losing the end of the file: the same bytes."""
    options = {"samples": 2, "batch_size": 5, "max_new_tokens": 6, "limit": 6}
    for name in ("one", "two"):
        evaluate(tiny_checkpoint, prepared, out=tmp_path / name, **options)
    assert _lines(tmp_path / "one") == _lines(tmp_path / "two")
    (tmp_path / "two" / PREDICTIONS).write_bytes(b"".join(_lines(tmp_path / "one"))[:-700])
    evaluate(tiny_checkpoint, prepared, out=tmp_path / "two", **options)
    assert _lines(tmp_path / "one") == _lines(tmp_path / "two")
    samples = [json.loads(line) for line in _lines(tmp_path / "one")]
    assert len({(sample["id"], sample["response"]) for sample in samples}) == 12


@pytest.mark.slow
def test_killed_process_continues_to_the_same_file(tiny_checkpoint, prepared, tmp_path):
    def start(out):
        command = [sys.executable, "-m", "r1_sharevl.cli", "eval", str(tiny_checkpoint), "--data", str(prepared)]
        options = ["--samples=4", "--batch-size=2", "--max-new-tokens=40", f"--out={out}"]
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)

    def finish(out):
        process = start(out)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()

    finish(tmp_path / "whole")
    whole = _lines(tmp_path / "whole")
    assert len(whole) == 48
    for lines_before_the_kill in (2, 20):
        process = start(tmp_path / "killed")
        _wait_for_lines(process, tmp_path / "killed" / PREDICTIONS, lines_before_the_kill)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        left = _lines(tmp_path / "killed")
        assert lines_before_the_kill <= len(left) < 48
        # What the kill leaves when it hits the middle of a write.
        with (tmp_path / "killed" / PREDICTIONS).open("ab") as file:
            file.write(whole[len(left)][:30])
    finish(tmp_path / "killed")
    assert _lines(tmp_path / "killed") == whole
    assert (tmp_path / "killed" / "scores.json").read_bytes() == (tmp_path / "whole" / "scores.json").read_bytes()


def _wait_for_lines(process: subprocess.Popen, path: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while not (path.exists() and path.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
