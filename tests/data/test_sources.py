import hashlib
import json
import os
import pickle
import socket

import datasets
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_sharevl.data.meta import BINARY
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def question(**more):
    return {"problem": "1 + 1?", "answer": "2", **more}


def folder_with(path, *names):
    (path / "data").mkdir(parents=True)
    for name in names:
        pq.write_table(pa.table({"problem": [f"q {name}"], "answer": ["1"]}), path / "data" / f"{name}.parquet")
    return path


def opened(*inputs, **options):
    """Label and split of each source."""
    return [(source.label, source.split) for source in open_sources(inputs, **options)]


def problems(*inputs):
    return [record["problem"] for source in open_sources(inputs) for _, record in source.records()]


# Files.


def test_every_kind_of_file(tmp_path):
    table = pa.table({"problem": ["q"], "answer": ["1"]})
    pq.write_table(table, tmp_path / "a.PARQUET")
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "c.csv").write_text("problem,answer\nq,1\n")
    (tmp_path / "d.tsv").write_text("problem\tanswer\nq\t1\n")
    (tmp_path / "e.json").write_text('[{"problem": "q", "answer": "1"}]')
    write_lines(tmp_path / "f.jsonl", [{"problem": "q", "answer": "1"}])
    write_lines(tmp_path / "g.ndjson", [{"problem": "q", "answer": "1"}])
    sources = open_sources(sorted(tmp_path.iterdir()))
    assert [source.label for source in sources] == list("abcdefg")
    for position, source in enumerate(sources):
        assert (list(source.records()), source.num_rows) == ([(1, {"problem": "q", "answer": "1"})], 1)
        assert (source.columns, source.base, source.input) == (("problem", "answer"), tmp_path, position)
        assert source.types.as_dict() == {"problem": "string", "answer": "string"}
        assert source.sha256() == hashlib.sha256(source.path.read_bytes()).hexdigest()


def test_sources_go_to_other_processes(tmp_path):
    inputs = ["synthetic", write_lines(tmp_path / "a.jsonl", [question()]), folder_with(tmp_path / "geo", "train")]
    for source in open_sources(inputs, train_rows=1):
        copy = pickle.loads(pickle.dumps(source))  # noqa: S301
        assert [number for number, _ in copy.records()] == [1]


def test_inputs_keep_their_order_and_number(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [question()])
    folder = folder_with(tmp_path / "geo", "train", "val")
    sources = open_sources([file, "synthetic", folder], train_rows=1, validation_rows=1)
    assert [(source.label, source.input) for source in sources] == [
        ("a", 0),
        ("synthetic/train", 1),
        ("synthetic/validation", 1),
        ("geo/train", 2),
        ("geo/val", 2),
    ]


def test_a_data_file_that_is_a_link_has_its_pictures_beside_the_link(tmp_path):
    """A link to a file in a store (as the Hub's cache makes them) stands in for the file."""
    write_lines(tmp_path / "store/blob", [question()])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").symlink_to("../store/blob")
    (tmp_path / "alias").symlink_to("data")
    (source,) = open_sources([tmp_path / "alias/a.jsonl"])
    assert (source.base, source.num_rows) == (tmp_path / "data", 1)


def test_labels_tell_files_apart(tmp_path):
    files = [tmp_path / name for name in ("a/train.jsonl", "b/train.jsonl", "c/other.jsonl", "c/other.json")]
    for file in files:
        write_lines(file, [question()])
    folder = folder_with(tmp_path / "geo", "train")
    sources = open_sources([*files, folder])
    assert [source.label for source in sources] == ["a/train", "b/train", str(files[2]), str(files[3]), "geo/train"]
    assert sources[0].default_id(1) == "a/train-1"


# Folders of data files.


def test_a_folders_own_splits_are_kept_and_test_files_left_out(tmp_path):
    names = ["train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001", "test-00000-of-00001"]
    folder = folder_with(tmp_path / "geo", *names)
    parts = [
        ("geo/train-00000-of-00002", "train"),
        ("geo/train-00001-of-00002", "train"),
        ("geo/val-00000-of-00001", "validation"),
    ]
    assert opened(folder) == parts
    assert opened(folder, with_test=True) == [("geo/test-00000-of-00001", None), *parts]


def test_a_folder_without_validation_is_still_to_be_split(tmp_path):
    assert opened(folder_with(tmp_path / "geo", "train", "more_latest")) == [
        ("geo/more_latest", None),
        ("geo/train", None),
    ]


def test_pictures_of_a_folder_may_lie_anywhere_in_it(tmp_path):
    (source,) = open_sources([folder_with(tmp_path / "geo", "train")])
    assert source.base == tmp_path / "geo"


def test_files_directly_in_the_folder(tmp_path):
    write_lines(tmp_path / "train.jsonl", [question()])
    write_lines(tmp_path / "val.json", [question()])
    write_lines(tmp_path / "testmini.jsonl", [question()])
    for name in ("dataset_infos.json", ".hidden.json", "_state.json", "rejected.jsonl", "notes.txt", "config.yaml"):
        (tmp_path / name).write_text("no data")
    assert opened(tmp_path) == [(f"{tmp_path.name}/train", "train"), (f"{tmp_path.name}/val", "validation")]
    # Where there are parquet files, the others only go with them.
    pq.write_table(pa.table({"problem": ["parquet"]}), tmp_path / "all.parquet")
    assert opened(tmp_path) == [(f"{tmp_path.name}/all", None)]
    folder_with(tmp_path, "train")
    assert problems(tmp_path) == ["q train"]


def test_the_same_data_in_two_formats(tmp_path):
    write_lines(tmp_path / "train.jsonl", [question()])
    (tmp_path / "train.csv").write_text("problem,answer\na,b\n")
    with pytest.raises(UserError, match=r"both train.csv and train.jsonl are in it: name the one that is meant"):
        open_sources([tmp_path])


# What `datasets` writes to disk.


def picture_set(count, name=""):
    images = [PIL.Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(count)]
    rows = {"problem": [f"{name}{number}" for number in range(count)], "images": [[image] for image in images]}
    features = datasets.Features({"problem": datasets.Value("string"), "images": datasets.List(datasets.Image())})
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set(tmp_path):
    saved = picture_set(5)
    saved.set_format("numpy", columns=["problem"])
    saved.save_to_disk(tmp_path / "geo")
    (tmp_path / "geo/cache-0123.arrow").write_bytes(b"left by map()")
    (source,) = open_sources([tmp_path / "geo"])
    assert (source.label, source.split, source.base) == ("geo", None, tmp_path / "geo")
    records = [record for _, record in source.records()]
    assert [record["problem"] for record in records] == list("01234")
    assert all(record["images"][0]["bytes"].startswith(b"\x89PNG") for record in records)
    assert source.types.as_dict() == {"problem": "string", "images": BINARY}


def test_a_saved_data_set_in_shards(tmp_path):
    picture_set(5).save_to_disk(tmp_path / "geo", num_shards=2)
    assert opened(tmp_path / "geo") == [("geo/data-00000-of-00002", None), ("geo/data-00001-of-00002", None)]
    assert problems(tmp_path / "geo") == list("01234")


def test_a_saved_dictionary_of_splits(tmp_path):
    parts = {"train": picture_set(2, "t"), "validation": picture_set(1, "v"), "test": picture_set(1, "x")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "geo")
    assert opened(tmp_path / "geo") == [("geo/train", "train"), ("geo/validation", "validation")]
    assert problems(tmp_path / "geo") == ["t0", "t1", "v0"]
    assert opened(tmp_path / "geo", with_test=True)[-1] == ("geo/test", None)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("state.json", {"_data_files": [{"filename": "../b.arrow"}]}, "does not list the parts of the data"),
        ("state.json", {"_data_files": [{"filename": ".."}]}, "does not list the parts"),
        ("state.json", {"_data_files": []}, "does not list the parts"),
        ("state.json", {"_data_files": 5}, "does not list the parts"),
        ("state.json", [1], "does not list the parts"),
        ("state.json", {"_data_files": [{"filename": "gone.arrow"}]}, "gone.arrow: no such file"),
        ("state.json", {"_indices_data_files": [{"filename": "i.arrow"}]}, "saved by an old `datasets`"),
        ("dataset_dict.json", {"splits": ["../x"]}, "does not list the parts"),
        ("dataset_dict.json", {"splits": [".."]}, "does not list the parts"),
        ("dataset_dict.json", {"splits": ["train"]}, r"train/state.json: cannot be read"),
    ],
)
def test_a_saved_data_set_that_is_not_whole(tmp_path, name, content, says):
    (tmp_path / "geo").mkdir()
    (tmp_path / "geo" / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        open_sources([tmp_path / "geo"])


# Pictures with metadata.


def test_an_imagefolder(tmp_path):
    write_lines(tmp_path / "metadata.jsonl", [question(file_name="a.png"), question(file_name="x/b.png")])
    (tmp_path / "metadata.csv").write_text("file_name\n")
    (source,) = open_sources([tmp_path])
    assert (source.label, source.split, source.base) == (tmp_path.name, None, tmp_path)
    assert [record["file_name"] for _, record in source.records()] == ["a.png", "x/b.png"]


def test_an_imagefolder_of_splits(tmp_path):
    geo = tmp_path / "geo"
    write_lines(geo / "train/metadata.jsonl", [question(file_name="a.png")])
    (geo / "val").mkdir()
    (geo / "val/metadata.csv").write_text("file_name,problem\na.png,v\n")
    (geo / "test").mkdir()
    pq.write_table(pa.table({"file_name": ["a.png"], "problem": ["t"]}), geo / "test/metadata.parquet")
    (geo / "other").mkdir()
    sources = open_sources([geo])
    assert [(source.label, source.split, source.base) for source in sources] == [
        ("geo/train", "train", geo / "train"),
        ("geo/val", "validation", geo / "val"),
    ]
    assert [label for label, _ in opened(geo, with_test=True)] == ["geo/test", "geo/train", "geo/val"]


# What cannot be used.


def test_bad_inputs(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "a.parquet.gz").write_text("x")
    (tmp_path / "empty").mkdir()
    file = write_lines(tmp_path / "a.jsonl", [question()])
    for inputs, says in [
        ([], "no input: name 'synthetic', a .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow file"),
        ([tmp_path / "nothing.jsonl"], "nothing.jsonl: no such file or folder"),
        (["data/nothing.jsonl"], "data/nothing.jsonl: no such file or folder"),
        ([tmp_path / "a.xlsx"], "a.xlsx: unknown kind of file '.xlsx': expected a .jsonl"),
        ([tmp_path / "a.parquet.gz"], "a.parquet.gz: unknown kind of file '.gz'"),
        ([tmp_path / "empty"], "empty: no data files in it: name a .jsonl"),
        ([folder_with(tmp_path / "t", "test")], "t: only test files in it"),
        ([file, tmp_path / "empty/../a.jsonl"], "a.jsonl: named twice"),
        ([folder_with(tmp_path / "g", "train"), tmp_path / "g/data/train.parquet"], "train.parquet: named twice"),
        (["synthetic", "synthetic"], "synthetic: named twice"),
        (["synthetic", folder_with(tmp_path / "synthetic", "train")], "synthetic/train: named twice"),
        (["x" * 5000], "File name too long"),
    ]:
        with pytest.raises(UserError, match=says) as info:
            open_sources(inputs, train_rows=1)
        assert len(str(info.value).splitlines()) == 1


def test_nothing_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jsonl"))
    for name in ("pipe.jsonl", "socket.jsonl", "device.jsonl"):
        if name == "device.jsonl":
            (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(UserError, match=rf"{name}: a pipe, socket or device: name a file or a folder"):
            open_sources([tmp_path / name])
    with pytest.raises(UserError, match=r"jsonl: no such file, or none that can be read"):
        open_sources([tmp_path])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x.parquet").mkdir()
    with pytest.raises(UserError, match=r"x.parquet: no such file, or none that can be read"):
        open_sources([tmp_path / "folder"])


# The built-in set.


def test_synthetic():
    sources = open_sources(["synthetic"], train_rows=12, validation_rows=6, seed=3)
    assert [(source.label, source.split, source.num_rows) for source in sources] == [
        ("synthetic/train", "train", 12),
        ("synthetic/validation", "validation", 6),
    ]
    for source in sources:
        records = list(source.records())
        assert [number for number, _ in records] == list(range(1, source.num_rows + 1))
        assert all(record["id"].startswith(source.split) for _, record in records)
        assert all(tuple(record) == source.columns for _, record in records)
        assert source.types.as_dict(["images", "question_type"]) == {"images": BINARY, "question_type": "string"}
        assert (source.path, source.base, source.sha256()) == (None, None, None)
        assert source.where(2) == f"{source.label}, row 2"


def test_a_split_of_a_folder(tmp_path):
    folder = tmp_path / "sets"
    folder.mkdir()
    for name in ("train", "val", "testmini"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"problem": name, "answer": "1"}) + "\n")
    for split, name in (("train", "train"), ("validation", "val"), ("test", "testmini"), ("dev", "val")):
        (source,) = open_sources([f"{folder}#{split}"])
        assert (source.path.stem, source.split) == (name, None)
    with pytest.raises(UserError, match="sets#best: no data file of this split in it: name the file itself"):
        open_sources([f"{folder}#best"])
    for name in ("train", "val"):
        (folder / f"{name}.jsonl").unlink()
    with pytest.raises(UserError, match=r"only test files in it, which are left out: .* name .*testmini\.jsonl"):
        open_sources([folder])
