import base64
import datetime
import io
import json
import os

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_sharevl.data.meta import MetaTypes, meta_value
from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError


def png(seed=0, size=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_lines(path, records):
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read(*inputs, **options):
    """All rows and all rejected rows of some inputs."""
    rows, rejected = [], []
    for source in open_sources(inputs, **options):
        rows += source.rows(rejected.append)
    return rows, rejected


def question(**more):
    return {"problem": "1 + 1?", "answer": "2", **more}


def only_reject(path, record, base_record=None):
    """The rejection of `record` in a file that also has a good row, which must arrive."""
    write_lines(path, [base_record or question(), record])
    rows, rejected = read(path)
    assert len(rows) == 1
    assert len(rejected) == 1
    return rejected[0]


# JSON Lines.


def test_json_lines_in_the_schema(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img/a.png").write_bytes(png(1))
    embedded = {"bytes": base64.b64encode(png(2)).decode()}
    file = write_lines(
        tmp_path / "train.jsonl",
        [
            question(images=["img/a.png", embedded], variants=["One plus one?"], id="x", source="mine", level=3),
            b"",
            question(image="img/a.png"),
            question(image=embedded, id=17),
            question(images="img/a.png"),
            question(images=[{"path": "img/a.png"}, {"bytes": None, "path": str(tmp_path / "img/a.png")}]),
            question(images=None, variants=None, id=None, source=None),
        ],
    )
    rows, rejected = read(file)
    assert rejected == []
    assert [where for where, _ in rows] == [f"train.jsonl, line {number}" for number in (1, 3, 4, 5, 6, 7)]
    assert rows[0][1] == {
        "id": "x",
        "problem": "1 + 1?",
        "images": [{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}],
        "answer": "2",
        "variants": ["One plus one?"],
        "source": "mine",
        "level": 3,
    }
    assert [row["id"] for _, row in rows] == ["x", "train-3", "17", "train-5", "train-6", "train-7"]
    assert {row["source"] for _, row in rows[1:]} == {"train"}
    assert [len(row["images"]) for _, row in rows] == [2, 1, 1, 1, 2, 0]


def test_byte_order_mark_and_windows_lines(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(question()).encode() for _ in range(2)))
    rows, rejected = read(file)
    assert (len(rows), rejected) == (2, [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b'{"problem": "a", "answer": "b"} trailing', "not valid JSON"),
        (b'{"problem": ' + b"[" * 100_000, "not valid JSON"),
        (b'{"problem": "a", "answer": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"problem": "\xff\xfe", "answer": "b"}', "not UTF-8"),
        (b'["a list"]', "not an object"),
        (b'"text"', "not an object"),
        (b"null", "not an object"),
        (b'{"problem": "a", "answer": "b", "\\ud800": 1}', "field name not printable"),
        (b'{"problem": "a", "answer": "b", "x\\n": 1}', "field name not printable"),
        (b'{"answer": "b"}', "no problem"),
        (b'{"problem": "a", "answer": null}', "no answer"),
        (b'{"problem": "a", "answer": "b", "images": ["x.png"]}', "image file not found"),
        (b'{"problem": "a", "answer": "b", "images": [5]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "images": [{}]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "images": [{"bytes": "not base64!"}]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "images": [""]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "images": ["a\\u0000b"]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "images": ["' + b"x" * 5000 + b'"]}', "image cannot be read"),
        (b'{"problem": "a", "answer": "b", "image": "x.png", "images": ["y.png"]}', "both image and images"),
    ],
)
def test_a_bad_line_is_rejected_and_the_others_arrive(tmp_path, line, reason):
    file = write_lines(tmp_path / "train.jsonl", [question(id="first"), line, question(id="last")])
    rows, rejected = read(file)
    assert [row["id"] for _, row in rows] == ["first", "last"]
    assert [item.reason for item in rejected] == [reason]
    assert rejected[0].where == "train.jsonl, line 2"
    assert rejected[0].detail.startswith("train.jsonl, line 2: ")
    assert len(rejected[0].detail.splitlines()) == 1


def test_a_rejected_row_keeps_its_id(tmp_path):
    assert only_reject(tmp_path / "a.jsonl", question(id="mine", image="x.png")).id == "mine"
    assert only_reject(tmp_path / "a.jsonl", question(id=5, image="x.png")).id == "5"
    assert only_reject(tmp_path / "a.jsonl", question(image="x.png")).id == "a-2"


# Pictures by path.


@pytest.fixture
def outside(tmp_path):
    """A data folder with a secret picture beside it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    return tmp_path / "data"


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "x/../../secret.png", "{outside}/secret.png", "../no-such.png", "link.png", "dir/secret.png"],
)
def test_paths_out_of_the_folder_are_refused(outside, path):
    (outside / "x").mkdir()
    (outside / "link.png").symlink_to("../secret.png")
    (outside / "dir").symlink_to("..")
    record = question(image=path.format(outside=outside.parent))
    rejected = only_reject(outside / "a.jsonl", record)
    assert rejected.reason == "image outside the data's folder"
    assert "move the picture into that folder" in rejected.detail


def test_links_and_absolute_paths_inside_the_folder_are_followed(outside):
    (outside / "a.png").write_bytes(png(3))
    (outside / "link.png").symlink_to("a.png")
    file = write_lines(outside / "a.jsonl", [question(images=["link.png", str(outside / "a.png"), "./x/../a.png"])])
    (outside / "x").mkdir()
    rows, rejected = read(file)
    assert rejected == []
    assert [image["bytes"] for image in rows[0][1]["images"]] == [png(3)] * 3


def test_a_data_folder_behind_a_link_is_one_folder(outside):
    (outside / "a.png").write_bytes(png(3))
    write_lines(outside / "a.jsonl", [question(image="a.png")])
    (outside.parent / "alias").symlink_to("data")
    rows, rejected = read(outside.parent / "alias/a.jsonl")
    assert (len(rows), rejected) == (1, [])


def test_a_data_file_that_is_a_link_has_its_pictures_beside_the_link(outside):
    """A link to a file in a store (as the Hub's cache makes them) stands in for the file."""
    (outside / "a.png").write_bytes(png(3))
    write_lines(outside.parent / "blob", [question(image="a.png")])
    (outside / "a.jsonl").symlink_to("../blob")
    rows, rejected = read(outside / "a.jsonl")
    assert (len(rows), rejected) == (1, [])


def test_what_is_no_file_is_refused(outside):
    os.mkfifo(outside / "pipe.png")  # reading it would wait forever
    assert only_reject(outside / "a.jsonl", question(image="pipe.png")).reason == "image cannot be read"
    assert only_reject(outside / "a.jsonl", question(image=".")).reason == "image cannot be read"
    (outside / "round.png").symlink_to("round.png")
    assert only_reject(outside / "a.jsonl", question(image="round.png")).reason == "image cannot be read"


# JSON, parquet, folders.


def test_json_list(tmp_path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps([question(id="a"), 5, question()], indent=1))
    rows, rejected = read(file)
    assert [where for where, _ in rows] == ["train.json, row 1", "train.json, row 3"]
    assert [item.where for item in rejected] == ["train.json, row 2"]


def test_json_file_of_lines(tmp_path):
    rows, _ = read(write_lines(tmp_path / "train.json", [question(), question()]))
    assert [where for where, _ in rows] == ["train.json, line 1", "train.json, line 2"]


def test_json_list_cut_short(tmp_path):
    (tmp_path / "a.json").write_text('[{"problem": "a", ')
    with pytest.raises(UserError, match=r"a.json: not valid JSON"):
        open_sources([tmp_path / "a.json"])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("images", pa.array([[{"bytes": png(1), "path": "x.png"}], []])),
        ("images", pa.array([[png(1)], []])),
        ("images", pa.array([["a.png"], []])),
        ("image", pa.array([{"bytes": png(1), "path": None}, None])),
        ("image", pa.array([png(1), None])),
        ("image", pa.array(["a.png", None])),
    ],
)
def test_parquet_image_columns(tmp_path, name, column):
    (tmp_path / "a.png").write_bytes(png(1))
    pq.write_table(pa.table({"problem": ["a", "b"], "answer": ["1", "2"], name: column}), tmp_path / "a.parquet")
    rows, rejected = read(tmp_path / "a.parquet")
    assert rejected == []
    assert [where for where, _ in rows] == ["a.parquet, row 1", "a.parquet, row 2"]
    assert [row["images"] for _, row in rows] == [[{"bytes": png(1), "path": None}], []]


def test_parquet_paths_cannot_leave_the_folder(outside):
    table = pa.table({"problem": ["a"], "answer": ["1"], "images": [[{"bytes": None, "path": "../secret.png"}]]})
    pq.write_table(table, outside / "a.parquet")
    _, rejected = read(outside / "a.parquet")
    assert [item.reason for item in rejected] == ["image outside the data's folder"]


def test_parquet_is_read_in_order_over_row_groups(tmp_path):
    table = pa.table({"problem": [f"q{i}" for i in range(100)], "answer": ["1"] * 100})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    rows, _ = read(tmp_path / "a.parquet")
    assert [row["problem"] for _, row in rows] == [f"q{i}" for i in range(100)]


def test_parquet_meta_columns(tmp_path):
    table = pa.table(
        {
            "problem": ["a"],
            "answer": ["1"],
            "level": pa.array([1], pa.int8()),
            "huge": pa.array([2**64 - 1], pa.uint64()),
            "score": pa.array([0.5], pa.float32()),
            "good": [True],
            "tags": [["x"]],
            "day": [datetime.date(2025, 1, 2)],
            "raw": [b"x"],
            "preview": [{"bytes": b"x", "path": "y"}],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (source,) = open_sources([tmp_path / "a.parquet"])
    types = source.meta_types.as_dict()
    assert types == {
        "level": "int64",
        "huge": "string",
        "score": "float64",
        "good": "bool",
        "tags": "string",
        "day": "string",
    }
    (_, row) = next(source.rows(print))
    stored = {name: meta_value(row[name], dtype, name, "here") for name, dtype in types.items()}
    assert stored == {
        "level": 1,
        "huge": "18446744073709551615",
        "score": 0.5,
        "good": True,
        "tags": '["x"]',
        "day": "2025-01-02",
    }


def test_damaged_parquet(tmp_path):
    pq.write_table(pa.table(question(problem=["a"], answer=["1"])), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-9])
    with pytest.raises(UserError, match=r"a.parquet: not a readable parquet file \(.*\): copy it again"):
        open_sources([tmp_path / "a.parquet"])


def test_parquet_damaged_in_the_middle(tmp_path):
    table = pa.table({"problem": [f"{i} {'x' * 50}" for i in range(5000)], "answer": ["1"] * 5000})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"a.parquet: cannot be read after row \d+"):
        read(tmp_path / "a.parquet")


def test_parquet_with_a_column_twice(tmp_path):
    table = pa.table([["a"], ["1"], [1], [2]], names=["problem", "answer", "x", "x"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has two columns named 'x': rename one"):
        open_sources([tmp_path / "a.parquet"])


def folder_with(path, *names):
    (path / "data").mkdir(parents=True)
    for name in names:
        pq.write_table(pa.table({"problem": [f"q {name}"], "answer": ["1"]}), path / "data" / f"{name}.parquet")
    return path


def test_a_folders_own_splits_are_kept_and_test_files_left_out(tmp_path):
    names = ["train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001", "test-00000-of-00001"]
    sources = open_sources([folder_with(tmp_path / "geo", *names)])
    assert [(source.path.stem, source.split) for source in sources] == [
        ("train-00000-of-00002", "train"),
        ("train-00001-of-00002", "train"),
        ("val-00000-of-00001", "validation"),
    ]


def test_a_folder_without_validation_is_still_to_be_split(tmp_path):
    sources = open_sources([folder_with(tmp_path / "geo", "train", "more_latest")])
    assert [source.split for source in sources] == [None, None]


def test_folder_pictures_may_lie_anywhere_in_it(tmp_path):
    folder = folder_with(tmp_path / "geo")
    (folder / "img").mkdir()
    (folder / "img/a.png").write_bytes(png(1))
    table = pa.table({"problem": ["a"], "answer": ["1"], "image": ["img/a.png"]})
    pq.write_table(table, folder / "data/x.parquet")
    rows, rejected = read(folder)
    assert rejected == []
    assert rows[0][1]["images"][0]["bytes"] == png(1)


def test_labels_tell_files_apart(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    files = [tmp_path / name for name in ("a/train.jsonl", "b/train.jsonl", "c/other.jsonl", "c/other.json")]
    for file in files:
        write_lines(file, [question()])
    folder = folder_with(tmp_path / "geo", "train")
    labels = [source.label for source in open_sources([*files, folder])]
    assert labels == ["a/train", "b/train", str(files[2]), str(files[3]), "geo/train"]
    rows, _ = read(*files, folder)
    assert [row["id"] for _, row in rows][:2] == ["a/train-1", "b/train-1"]


# What cannot be used as a whole.


def test_missing_column_names_those_found(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"question": "a", "answer": "b"}] * 3)
    with pytest.raises(UserError, match=r"a.jsonl: no column 'problem' \(found: answer, question\): rename"):
        open_sources([file])
    pq.write_table(pa.table({"problem": ["a"], "gold": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no column 'answer' \(found: gold, problem\)"):
        open_sources([tmp_path / "a.parquet"])


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty_json_lines(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jsonl: is empty"):
        open_sources([tmp_path / "a.jsonl"])


def test_empty_json_and_parquet(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    pq.write_table(pa.table({"problem": pa.array([], pa.string()), "answer": []}), tmp_path / "a.parquet")
    for name in ("a.json", "a.parquet"):
        with pytest.raises(UserError, match=f"{name}: is empty"):
            open_sources([tmp_path / name])


def test_bad_inputs(tmp_path):
    (tmp_path / "a.csv").write_text("problem,answer\n")
    (tmp_path / "empty").mkdir()
    file = write_lines(tmp_path / "a.jsonl", [question()])
    for inputs, says in [
        ([], "no input: name 'synthetic'"),
        ([tmp_path / "nothing.jsonl"], "nothing.jsonl: no such file or folder"),
        ([tmp_path / "a.csv"], "a.csv: unknown kind of file '.csv'"),
        ([tmp_path / "empty"], r"empty: nothing in data/\*.parquet"),
        ([folder_with(tmp_path / "t", "test")], r"only test files in data/\*.parquet"),
        ([file, tmp_path / "empty/../a.jsonl"], "a.jsonl: named twice"),
        (["synthetic", "synthetic"], "synthetic: named twice"),
    ]:
        with pytest.raises(UserError, match=says):
            open_sources(inputs)


# The built-in set.


def test_synthetic(tmp_path):
    sources = open_sources(["synthetic"], train_rows=12, validation_rows=6, seed=3)
    assert [(source.label, source.split, source.num_rows) for source in sources] == [
        ("synthetic/train", "train", 12),
        ("synthetic/validation", "validation", 6),
    ]
    for source in sources:
        rows = [row for _, row in source.rows(print)]
        assert len(rows) == source.num_rows
        assert all(row["id"].startswith(source.split) for row in rows)
        own = {"id", "problem", "images", "answer", "variants", "source"}
        assert all(set(row) - own == set(source.meta_types.as_dict()) for row in rows)


# Types of meta columns.


def test_meta_types():
    types = MetaTypes()
    for record in [
        {"a": 1, "b": None, "c": True, "d": 1, "e": "x", "f": [1], "g": None, "problem": 1},
        {"a": 2.5, "b": 3, "c": 1, "d": "x", "f": {"k": 1}, "h": 2**70},
    ]:
        types.see(record)
    assert types.as_dict() == {
        "a": "float64",
        "b": "int64",
        "c": "string",
        "d": "string",
        "e": "string",
        "f": "string",
        "g": "string",
        "h": "string",
    }
    other = MetaTypes({"b": "float64", "i": "bool"})
    other.update([types])
    assert other.as_dict()["b"] == "float64"
    assert other.as_dict()["i"] == "bool"
    assert (types.as_dict()["b"], "i" in types.as_dict()) == ("int64", False)


def test_meta_values():
    assert meta_value(3, "float64", "m", "here") == 3.0
    assert meta_value("text", "string", "m", "here") == "text"
    assert json.loads(meta_value({"k": ["\ud800", 1]}, "string", "m", "here")) == {"k": ["\ud800", 1]}
    assert meta_value(None, "string", "m", "here") is None
    with pytest.raises(RowError, match="here: field 'm'"):
        meta_value("\ud800", "string", "m", "here")
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RowError, match="nested too deep"):
        meta_value(nested, "string", "m", "here")
