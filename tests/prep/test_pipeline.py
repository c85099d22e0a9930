import base64
import hashlib
import io
import json
import signal
import subprocess
import sys

import datasets
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import yaml

from r1_sharevl.data import writing
from r1_sharevl.data.row_checks import check_row
from r1_sharevl.data.schema import load_prepared, prepared_features
from r1_sharevl.errors import UserError
from r1_sharevl.prep import pipeline as prepare_module
from r1_sharevl.prep.settings import PrepSettings


def prepare(inputs, out, *, overwrite=False, progress=None, **settings):
    return prepare_module.prepare(inputs, out, PrepSettings(**settings), overwrite=overwrite, progress=progress)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(seed=0, size=(12, 8)):
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=fmt, **options)
    return buffer.getvalue()


def base64_of(image, fmt="PNG", **options):
    return {"bytes": base64.b64encode(encoded(image, fmt, **options)).decode()}


def question(number, **more):
    return {"problem": f"What is {number} + 1?", "answer": str(number + 1), **more}


def write_lines(path, records):
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records) + b"\n")
    return path


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def rejected_of(folder):
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


def all_rows(folder):
    return {split: list(rows) for split, rows in datasets.load_dataset(str(folder)).items()}


# Round trips.


def test_json_lines_arrive_pixel_for_pixel(tmp_path):
    pictures = [picture(1), picture(2, (30, 20)), picture(3)]
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "img").mkdir()
    pictures[0].save(tmp_path / "img/a.png")
    pictures[2].save(tmp_path / "img/turned.png", exif=exif)
    photo = encoded(pictures[1], "JPEG")
    (tmp_path / "img/photo.jpg").write_bytes(photo)
    records = [
        question(
            1,
            images=["img/a.png"],
            variants=["Please work out how much 1 + 1 is.", "How much is 1 + 1?"],
            level=2,
            id="first",
        ),
        question(2, images=[base64_of(pictures[1].convert("L")), "img/photo.jpg"], level=None),
        question(3, image="img/turned.png", level=0.5),
        question(4),
    ]
    summary = prepare(write_lines(tmp_path / "train.jsonl", records), tmp_path / "out", validation_share=0)
    assert summary.kept == {"train": 4}
    assert summary.rejected == {}
    assert summary.wordings == {1: 3, 3: 1}
    assert summary.text_only == 1

    for dataset in (datasets.load_dataset(str(tmp_path / "out"), split="train"), load_prepared(tmp_path / "out")):
        assert dataset.features == prepared_features({"level": "float64"})
        rows = list(dataset)
        assert [row["id"] for row in rows] == ["first", "train-2", "train-3", "train-4"]
        assert [row["problem"] for row in rows] == [record["problem"] for record in records]
        assert [row["answer"] for row in rows] == ["2", "3", "4", "5"]
        assert rows[0]["variants"] == ["Please work out how much 1 + 1 is.", "How much is 1 + 1?"]
        assert [row["level"] for row in rows] == [2.0, None, 0.5, None]
        expected = [
            [pictures[0]],
            [pictures[1].convert("L").convert("RGB"), PIL.Image.open(io.BytesIO(photo))],
            [pictures[2].rotate(180)],
            [],
        ]
        for row, images in zip(rows, expected, strict=True):
            assert len(row["images"]) == len(images)
            for found, wanted in zip(row["images"], images, strict=True):
                assert found.mode == "RGB"
                np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
        for row in rows:
            check_row(row, "here")


def test_parquet_of_another_writer_arrives(tmp_path):
    pictures = [picture(seed) for seed in range(5)]
    raw = datasets.Dataset.from_dict(
        {
            "problem": [f"<image>{n} + 1?" for n in range(5)],
            "answer": [str(n + 1) for n in range(5)],
            "image": pictures,
            "topic": ["a", "b", "a", "b", None],
        },
        features=datasets.Features(
            {
                "problem": datasets.Value("large_string"),
                "answer": datasets.Value("string"),
                "image": datasets.Image(),
                "topic": datasets.ClassLabel(names=["a", "b"]),
            }
        ),
    )
    raw.to_parquet(tmp_path / "raw.parquet")
    prepare(tmp_path / "raw.parquet", tmp_path / "out", validation_share=0)
    rows = list(load_prepared(tmp_path / "out"))
    assert [row["topic"] for row in rows] == [0, 1, 0, 1, None]
    for row, wanted in zip(rows, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(row["images"][0]), np.asarray(wanted))


def test_a_prepared_set_prepared_again_is_the_same(tmp_path):
    records = [question(n, image=base64_of(picture(n)), level=n) for n in range(30)]
    prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "one", validation_share=0.3)
    prepare(tmp_path / "one", tmp_path / "two")
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert {name: one[name] for name in one if name.startswith("data/")} == {
        name: two[name] for name in two if name.startswith("data/")
    }
    assert len(one) == 6


def test_several_inputs_keep_their_source(tmp_path):
    write_lines(tmp_path / "a.jsonl", [question(1, level=1), question(2, source="mine", level=2)])
    write_lines(tmp_path / "b.jsonl", [question(3, level="hard"), b"junk"])
    prepare([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", validation_share=0)
    rows = list(load_prepared(tmp_path / "out"))
    assert [(row["source"], row["level"]) for row in rows] == [("a", "1"), ("mine", "2"), ("b", "hard")]
    manifest = manifest_of(tmp_path / "out")
    assert manifest["kept_by_source"] == {"a": 1, "b": 1, "mine": 1}
    assert [(entry["rows"], entry["kept"], entry["rejected"]) for entry in manifest["inputs"]] == [(2, 2, 0), (2, 1, 1)]


def test_the_parts_of_a_folder_are_one_source(tmp_path):
    (tmp_path / "sums").mkdir()
    write_lines(tmp_path / "sums/train.jsonl", [question(1), question(2)])
    write_lines(tmp_path / "sums/val.jsonl", [question(3)])
    summary = prepare(tmp_path / "sums", tmp_path / "out")
    assert summary.kept == {"train": 2, "validation": 1}
    assert summary.kept_by_source == {"sums": 3}
    rows = all_rows(tmp_path / "out")
    assert [row["id"] for split in ("train", "validation") for row in rows[split]] == [
        "sums/train-1",
        "sums/train-2",
        "sums/val-1",
    ]


def test_the_built_in_set(tmp_path):
    summary = prepare("synthetic", tmp_path / "out", train_rows=24, validation_rows=12, seed=1)
    assert summary.kept == {"train": 24, "validation": 12}
    assert summary.rejected == {}
    assert sum(summary.question_types.values()) == 36
    assert min(summary.wordings) >= 4
    rows = all_rows(tmp_path / "out")
    assert {split: len(items) for split, items in rows.items()} == {"train": 24, "validation": 12}
    for row in rows["train"] + rows["validation"]:
        check_row(row, "here")
    pixels = {split: {row["images"][0].tobytes() for row in items} for split, items in rows.items()}
    assert not pixels["train"] & pixels["validation"]


# Splitting.


def test_splits_are_by_question_and_reproducible(tmp_path):
    same = base64_of(picture(0))
    records = [question(n // 3, image=base64_of(picture(n // 3))) for n in range(600)]
    records += [{"problem": text, "answer": "2", "image": same} for text in ("1  + 1?", "1 + 1?", " 1 + 1? ") * 5]
    file = write_lines(tmp_path / "a.jsonl", records)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        prepare(file, tmp_path / name, validation_share=0.2, seed=seed)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    splits = {
        name: {split: {row["problem"].strip() for row in rows} for split, rows in all_rows(tmp_path / name).items()}
        for name in ("one", "other")
    }
    assert splits["one"] != splits["other"]
    kept = manifest_of(tmp_path / "one")["kept"]
    assert 0.12 < kept["validation"] / sum(kept.values()) < 0.28  # 201 questions: within 3 standard deviations
    for split in splits.values():
        normal = {name: {" ".join(problem.split()) for problem in problems} for name, problems in split.items()}
        assert not normal["train"] & normal["validation"]


def test_the_same_words_about_other_pictures_are_other_questions(tmp_path):
    records = [{"problem": "How many?", "answer": "2", "image": base64_of(picture(n))} for n in range(200)]
    summary = prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", validation_share=0.5)
    assert min(summary.kept.values()) > 60


def test_more_rows_do_not_move_the_old_ones(tmp_path):
    def validation_of(name, count):
        file = write_lines(tmp_path / f"{name}.jsonl", [question(n, id=str(n)) for n in range(count)])
        prepare(file, tmp_path / name, validation_share=0.3)
        return {int(row["id"]) for row in load_prepared(tmp_path / name, "validation")}

    few, many = validation_of("few", 50), validation_of("many", 100)
    assert few == {number for number in many if number < 50}


def test_without_validation_there_is_no_empty_split(tmp_path):
    prepare(write_lines(tmp_path / "a.jsonl", [question(1)]), tmp_path / "out", validation_share=0)
    assert [file.name for file in (tmp_path / "out/data").iterdir()] == ["train-00000-of-00001.parquet"]
    with pytest.raises(UserError, match="no split 'validation': it has train"):
        load_prepared(tmp_path / "out", "validation")


# Rejected rows.


def test_bad_rows_are_listed_and_counted(tmp_path):
    good = picture(1)
    records = [
        question(1, image=base64_of(good)),
        b"{broken",
        question(2, images=[{"bytes": base64.b64encode(encoded(good)[:60]).decode()}], id="cut"),
        {"problem": "<image><image>?", "answer": "1", "image": base64_of(good)},
        {"problem": "x", "answer": {"a": 5}},
        {"problem": "x", "answer": "  "},
        question(3, id="twice"),
        question(4, id="twice"),
        question(5, variants="no list"),
        question(6, note="\ud800"),
        question(7, source="\ud800"),
        {**question(8), "\ud800": 1},
    ]
    summary = prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", validation_share=0)
    rejected = rejected_of(tmp_path / "out")
    assert [(item["id"], item["where"], item["reason"]) for item in rejected] == [
        ("a-2", "a.jsonl, line 2", "not valid JSON"),
        ("cut", "a.jsonl, line 3", "image cannot be read"),
        ("a-4", "a.jsonl, line 4", "image marks do not match images"),
        ("a-5", "a.jsonl, line 5", "answer not text"),
        ("a-6", "a.jsonl, line 6", "empty answer"),
        ("twice", "a.jsonl, line 8", "duplicate id"),
        ("a-9", "a.jsonl, line 9", "variants not a list"),
        ("a-10", "a.jsonl, line 10", "text not valid Unicode"),
        ("a-11", "a.jsonl, line 11", "text not valid Unicode"),
        ("a-12", "a.jsonl, line 12", "field name not printable"),
    ]
    assert all(item["detail"].startswith(item["where"] + ": ") for item in rejected)
    assert [row["id"] for row in load_prepared(tmp_path / "out")] == ["a-1", "twice"]
    manifest = manifest_of(tmp_path / "out")
    counts = {}
    for item in rejected:
        counts[item["reason"]] = counts.get(item["reason"], 0) + 1
    assert manifest["rejected"] == counts == summary.rejected
    assert next(iter(summary.rejected)) == "text not valid Unicode"  # most frequent first


def test_ids_twice_in_two_files(tmp_path):
    for name in ("a", "b"):
        write_lines(tmp_path / f"{name}.jsonl", [question(ord(name), id="1")])
    summary = prepare([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", validation_share=0)
    assert summary.rejected == {}
    assert load_prepared(tmp_path / "out")["id"][:] == ["1", "b/1"]


def test_a_rejected_row_does_not_take_its_id(tmp_path):
    records = [{"problem": "x", "answer": "", "id": "1"}, question(1, id="1")]
    assert prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", validation_share=0).kept == {
        "train": 1
    }


def test_gold_answers_the_reward_cannot_accept(tmp_path):
    # An answer with an unbalanced brace cannot be boxed, so no response can ever be right.
    records = [question(1), {"problem": "Which?", "answer": "{"}, {"problem": "Which?", "answer": "}"}]
    summary = prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", validation_share=0)
    assert summary.kept == {"train": 1}
    assert summary.rejected == {"gold answer not accepted": 2}
    assert "str '{'" in rejected_of(tmp_path / "out")[0]["detail"]


@pytest.mark.parametrize("answer", ["7", "-3.5", "\\frac{1}{2}", "B", "x^2 + 1", "90^\\circ", "red", "1,000", "25%"])
def test_ordinary_gold_answers_are_accepted(tmp_path, answer):
    record = {"problem": "Which one?\nA. one\nB. two", "answer": answer}
    summary = prepare(write_lines(tmp_path / "a.jsonl", [record]), tmp_path / "out", validation_share=0)
    assert summary.rejected == {}


def test_all_rows_rejected_points_to_the_most_common_reason(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"problem": "x", "answer": {"a": n}} for n in range(3)] + [b"junk"])
    with pytest.raises(UserError, match=r"no row is left: 3 of 4 rows .* 'answer not text', first a.jsonl, line 1: "):
        prepare(file, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]


def test_all_rows_in_validation(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(1)])
    with pytest.raises(UserError, match="no row is left for training, all 1 are for validation: lower"):
        prepare(file, tmp_path / "out", validation_share=0.999999)


# What is written besides the rows.


def test_manifest_and_card(tmp_path):
    file = write_lines(tmp_path / "a|b.jsonl", [question(n, topic="x") for n in range(40)] + [b"junk"])
    prepare(file, tmp_path / "out", validation_share=0.2, seed=5)
    manifest = manifest_of(tmp_path / "out")
    assert manifest["inputs"] == [
        {
            "label": "a|b",
            "path": str(file),
            "revision": None,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "columns": "problem=problem answer=answer",
            "rows": 41,
            "kept": 40,
            "rejected": 1,
        }
    ]
    assert (manifest["seed"], manifest["validation_share"]) == (5, 0.2)
    assert sum(manifest["kept"].values()) == 40
    assert manifest["kept"] == {split: len(rows) for split, rows in all_rows(tmp_path / "out").items()}
    assert set(manifest["versions"]) >= {"r1_sharevl", "python", "datasets", "pyarrow", "pillow", "math-verify"}

    _, front, body = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    files = yaml.safe_load(front)["configs"][0]["data_files"]
    assert files == [{"split": split, "path": f"data/{split}-*.parquet"} for split in ("train", "validation")]
    assert f"| train | {manifest['kept']['train']} |" in body
    assert "not valid JSON: 1" in body
    assert "`topic`" in body
    assert "a\\|b" in body


def test_shards_and_row_groups_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_GROUP_BYTES", 3000)
    monkeypatch.setattr(writing.SplitWriter.__init__, "__defaults__", (6000,))
    records = [question(n, image=base64_of(picture(n, (16, 16)))) for n in range(40)]
    prepare(write_lines(tmp_path / "a.jsonl", records), tmp_path / "out", validation_share=0)
    shards = sorted((tmp_path / "out/data").iterdir())
    count = len(shards)
    assert count > 3
    assert [file.name for file in shards] == [f"train-{n:05d}-of-{count:05d}.parquet" for n in range(count)]
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for group in range(file.num_row_groups):
                assert file.metadata.row_group(group).num_rows <= 5
    assert [row["problem"] for row in load_prepared(tmp_path / "out")] == [record["problem"] for record in records]


def test_progress_counts_every_row(tmp_path):
    seen = []
    file = write_lines(tmp_path / "a.jsonl", [question(1), b"junk", {"problem": "x", "answer": {}}, question(2)])
    prepare(file, tmp_path / "out", validation_share=0, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# Settings.


def test_settings_that_do_not_fit(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(1)])
    for inputs, settings, says in [
        (file, {"train_rows": 5}, "--train-rows: only for the built-in set"),
        (file, {"validation_rows": 5}, "--validation-rows: only for the built-in set"),
        ("synthetic", {"train_rows": 0}, "--train-rows: found 0, expected 1 or more"),
        ("synthetic", {"validation_rows": -1}, "--validation-rows: found -1"),
        ("synthetic", {"validation_share": 0.1}, "--validation-share: not for 'synthetic'"),
        (file, {"validation_share": 1.0}, "--validation-share: found 1.0"),
        (file, {"validation_share": float("nan")}, "--validation-share: found nan"),
        ([], {}, "no input"),
    ]:
        with pytest.raises(UserError, match=says):
            prepare(inputs, tmp_path / "out", **settings)
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]


def test_built_in_set_without_validation_rows(tmp_path):
    assert prepare("synthetic", tmp_path / "out", train_rows=3, validation_rows=0).kept == {"train": 3}


# Failures.


class DiskFullError(OSError):
    pass


def fail_after(monkeypatch, count):
    add = writing.SplitWriter.add
    calls = iter(range(10**6))

    def failing(self, row):
        if next(calls) == count:
            raise DiskFullError("No space left on device")
        add(self, row)

    monkeypatch.setattr(writing.SplitWriter, "add", failing)


def test_a_failing_writer_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_GROUP_ROWS", 4)
    file = write_lines(tmp_path / "a.jsonl", [question(n) for n in range(20)])
    with monkeypatch.context() as patch:
        fail_after(patch, 11)
        with pytest.raises(DiskFullError):
            prepare(file, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == ["a.jsonl"]
    assert sum(prepare(file, tmp_path / "out").kept.values()) == 20


@pytest.mark.parametrize("broken", ["SplitWriter.add", "write_card", "write_json"])
def test_overwriting_keeps_the_old_set_on_failure(tmp_path, monkeypatch, broken):
    old = write_lines(tmp_path / "old.jsonl", [question(1)])
    prepare(old, tmp_path / "out", validation_share=0)
    before = files_of(tmp_path / "out")
    new = write_lines(tmp_path / "new.jsonl", [question(n) for n in range(20)])
    with monkeypatch.context() as patch:
        if broken == "SplitWriter.add":
            fail_after(patch, 11)
        else:

            def failing(*args):
                raise DiskFullError

            patch.setattr(prepare_module, broken, failing)
        with pytest.raises(DiskFullError):
            prepare(new, tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["new.jsonl", "old.jsonl", "out"]
    prepare(new, tmp_path / "out", overwrite=True, validation_share=0)
    assert len(load_prepared(tmp_path / "out")) == 20


def test_an_existing_set_is_refused(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(1)])
    prepare(file, tmp_path / "out", validation_share=0)
    with pytest.raises(UserError, match="exists already: choose another --out, or replace it with --overwrite"):
        prepare(file, tmp_path / "out", validation_share=0)
    # Said before an input is looked at.
    with pytest.raises(UserError, match="exists already"):
        prepare(tmp_path / "nowhere.jsonl", tmp_path / "out")


def test_a_set_may_be_prepared_in_place_but_never_over_raw_data(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question(1)])
    prepare(file, tmp_path / "out", validation_share=0)
    before = files_of(tmp_path / "out/data")
    prepare(tmp_path / "out", tmp_path / "out", overwrite=True, validation_share=0)
    assert files_of(tmp_path / "out/data") == before
    raw = write_lines(tmp_path / "out/raw.jsonl", [question(1)])
    with pytest.raises(UserError, match=r"raw.jsonl: lies inside .*out, the folder to write"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert raw.exists()


CHILD = """
import sys
from pathlib import Path
from r1_sharevl.data import writing
from r1_sharevl.prep.pipeline import prepare
from r1_sharevl.prep.settings import PrepSettings

writing._GROUP_ROWS = 4
stop = int(sys.argv[3])

def progress(done, total):
    if done == stop:
        print("there", flush=True)
        sys.stdin.read()

if stop == 0:
    # Everything is written, and only the renaming of the folder is left.
    from r1_sharevl.data import staging
    def wait(*_):
        print("there", flush=True)
        sys.stdin.read()
    staging._swap = wait
prepare(Path(sys.argv[1]), Path(sys.argv[2]), PrepSettings(validation_share=0), progress=progress, overwrite=True)
"""


@pytest.mark.parametrize("stop", [1, 13, 40, 0])
@pytest.mark.parametrize("old", [False, True])
def test_a_killed_run_leaves_no_half_set(tmp_path, stop, old):
    file = write_lines(tmp_path / "a.jsonl", [question(n, image=base64_of(picture(n))) for n in range(40)])
    out = tmp_path / "out"
    if old:
        prepare(write_lines(tmp_path / "old.jsonl", [question(1)]), out, validation_share=0)
        (tmp_path / "old.jsonl").unlink()
    before = files_of(out)
    command = [sys.executable, "-c", CHILD, str(file), str(out), str(stop)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "there\n"
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert (tmp_path / ".out.partial").exists()
    assert files_of(out) == before
    if old:
        assert len(load_prepared(out)) == 1
    else:
        with pytest.raises(UserError, match="no such folder"):
            load_prepared(out)
    if stop:
        with pytest.raises(UserError, match="not a prepared set"):
            load_prepared(tmp_path / ".out.partial")
    prepare(file, out, overwrite=True, validation_share=0)
    assert len(load_prepared(out)) == 40
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl", "out"]
