import io
import subprocess
import sys

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1_sharevl.data.row_checks import COLUMNS, check_row
from r1_sharevl.data.schema import load_prepared, prepared_features
from r1_sharevl.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def png(colour="red", size=(8, 6)):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def good_row(**changes):
    row = {
        "id": "a",
        "problem": "<image> What colour?",
        "images": [{"bytes": png(), "path": None}],
        "answer": "red",
        "variants": ["Name the colour: <image>"],
        "source": "test",
    }
    return {**row, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": [PIL.Image.new("L", (4, 4))]},
        {"images": [png()]},
        {"images": [], "problem": "1 + 1?", "variants": []},
        {"images": [png(), png()], "problem": "Same?", "variants": ["<image> <image>?", "No marks"]},
        {"images": (png(),), "variants": ()},
        {"source": ""},
        {"meta": object()},
    ],
)
def test_good_rows_pass(changes):
    check_row(good_row(**changes), "train.jsonl, line 1")


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"id": ""}, "empty id", "field 'id' is empty"),
        ({"id": 3}, "id not text", "field 'id' must be text, found int 3"),
        ({"problem": " \n"}, "empty problem", "field 'problem' is empty"),
        ({"problem": None}, "problem not text", "found nothing"),
        ({"answer": ""}, "empty answer", "field 'answer' is empty"),
        ({"answer": 4}, "answer not text", "found int 4: put it in quotes"),
        ({"answer": ["A"]}, "answer not text", "found list"),
        ({"answer": True}, "answer not text", "found bool True"),
        ({"source": None}, "source not text", "field 'source'"),
        ({"variants": "Other?"}, "variants not a list", "found str 'Other\\?'"),
        ({"variants": None}, "variants not a list", "found nothing"),
        ({"variants": ["ok", 5]}, "variants not text", r"field 'variants\[2\]'"),
        ({"variants": [""]}, "empty variants", r"field 'variants\[1\]'"),
        ({"images": png()}, "images not a list", "found bytes"),
        ({"images": ["a.png"]}, "image cannot be read", "image 1: expected a picture or its bytes"),
        ({"images": [None]}, "image cannot be read", "image 1"),
        ({"images": [{"path": "/etc/passwd"}]}, "image cannot be read", "image 1"),
        ({"images": [png()[:40]]}, "image cannot be read", "image 1"),
        ({"images": []}, "image marks do not match images", "has 1 <image> mark but the row has 0 images"),
        (
            {"problem": "<image><image>?"},
            "image marks do not match images",
            "has 2 <image> marks but the row has 1 image",
        ),
        ({"variants": ["x", "<image><image>"]}, "image marks do not match images", r"'variants\[2\]' has 2"),
        ({"problem": "\ud800?"}, "text not valid Unicode", "half a surrogate pair"),
        ({"variants": ["\udc00"]}, "text not valid Unicode", r"variants\[1\]"),
    ],
)
def test_bad_rows_are_named(changes, reason, says):
    with pytest.raises(UserError, match=f"^train.jsonl, line 7: .*{says}") as caught:
        check_row(good_row(**changes), "train.jsonl, line 7")
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COLUMNS)
def test_missing_fields_are_named(name):
    row = good_row()
    del row[name]
    with pytest.raises(UserError, match=f"field '{name}' is missing"):
        check_row(row, "here")


def test_long_values_are_cut_in_messages():
    with pytest.raises(UserError) as caught:
        check_row(good_row(variants="x" * 1_000_000), "here")
    assert len(str(caught.value)) < 200
    with pytest.raises(UserError, match="int of more than 60 digits"):
        check_row(good_row(answer=10**5000), "here")


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.sampled_from(["<image>", "<image><image>", png(), png()[:50], {"bytes": png()}, {"bytes": "x"}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(row=junk | st.fixed_dictionaries({}, optional=dict.fromkeys(COLUMNS, junk)), base=st.booleans())
@example(row={"images": [bytearray(b"x")]}, base=True)
@example(row={"answer": 10**5000}, base=True)
def test_junk_never_raises_anything_but_user_errors(row, base):
    if base and isinstance(row, dict):
        row = good_row(**row)
    fault = None
    try:
        check_row(row, "here")
    except UserError as error:
        fault = str(error)
    if fault is not None:
        assert fault.startswith("here: ")
        assert len(fault.splitlines()) == 1
    else:
        assert all(row[name] for name in ("id", "problem", "answer"))
        pa.Table.from_pylist([{name: row[name] for name in ("id", "problem", "answer", "variants", "source")}])


# Opening a prepared set.


def write_set(folder, rows, split="train", features=None, name=None):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=(features or prepared_features()).arrow_schema)
    pq.write_table(table, folder / "data" / (name or f"{split}-00000-of-00001.parquet"))
    return folder


def test_load_prepared_gives_decoded_images_and_keeps_meta(tmp_path):
    features = prepared_features({"level": "int64"})
    write_set(tmp_path / "set", [good_row(level=3), good_row(id="b", level=None)], features=features)
    dataset = load_prepared(tmp_path / "set")
    assert dataset.column_names == [*COLUMNS, "level"]
    assert dataset.features == features
    assert dataset[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert dataset["level"][:] == [3, None]


def test_load_prepared_casts_other_writers_columns(tmp_path):
    (tmp_path / "data").mkdir()
    table = pa.table(
        {
            "answer": pa.array(["4"], pa.large_string()),
            "id": pa.array([17]),
            "images": pa.array([[png("blue")]]),
            "problem": ["2 + 2?"],
            "source": ["x"],
            "variants": pa.array([[]], pa.list_(pa.null())),
        }
    )
    pq.write_table(table, tmp_path / "data/train.parquet")
    dataset = load_prepared(tmp_path)
    assert dataset.features == prepared_features()
    row = dataset[0]
    assert (row["id"], row["variants"]) == ("17", [])
    np.testing.assert_array_equal(np.asarray(row["images"][0]), np.asarray(PIL.Image.new("RGB", (8, 6), "blue")))


def test_load_prepared_reads_all_shards_in_order(tmp_path):
    write_set(tmp_path, [good_row(id="a")], name="train-00000-of-00002.parquet")
    write_set(tmp_path, [good_row(id="b")], name="train-00001-of-00002.parquet")
    assert load_prepared(tmp_path)["id"][:] == ["a", "b"]


def test_load_prepared_sees_a_replaced_set(tmp_path):
    write_set(tmp_path, [good_row(id="old")])
    assert load_prepared(tmp_path)["id"][:] == ["old"]
    write_set(tmp_path, [good_row(id="new")])
    assert load_prepared(tmp_path)["id"][:] == ["new"]


def test_folder_missing(tmp_path):
    with pytest.raises(UserError, match="no such folder: make a prepared set with `r1sharevl prep"):
        load_prepared(tmp_path / "nothing")


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        load_prepared(tmp_path / "file")


def test_not_a_prepared_set(tmp_path):
    with pytest.raises(
        UserError, match=r"not a prepared set \(no data/\*.parquet in it\): make one with `r1sharevl prep"
    ):
        load_prepared(tmp_path)


def test_split_missing_names_those_there(tmp_path):
    write_set(tmp_path, [good_row()])
    write_set(tmp_path, [good_row()], split="validation")
    with pytest.raises(UserError, match="no split 'test': it has train, validation"):
        load_prepared(tmp_path, "test")


def test_shard_missing(tmp_path):
    write_set(tmp_path, [good_row()], name="train-00001-of-00002.parquet")
    with pytest.raises(UserError, match="1 of its 2 files"):
        load_prepared(tmp_path)


def test_damaged_shard(tmp_path):
    write_set(tmp_path, [good_row()])
    file = tmp_path / "data/train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: not a readable parquet file"):
        load_prepared(tmp_path)


@pytest.mark.parametrize("name", COLUMNS)
def test_column_missing(tmp_path, name):
    features = datasets.Features({key: value for key, value in prepared_features().items() if key != name})
    write_set(tmp_path, [good_row()], features=features)
    others = ", ".join(features)
    with pytest.raises(UserError, match=rf"no column '{name}' \(found: {others}\)"):
        load_prepared(tmp_path)


def test_column_of_another_type(tmp_path):
    features = prepared_features()
    features["variants"] = datasets.Value("string")
    write_set(tmp_path, [good_row(variants="x")], features=features)
    with pytest.raises(UserError, match="column 'variants' has type string, expected list"):
        load_prepared(tmp_path)


def test_empty_split(tmp_path):
    write_set(tmp_path, [])
    with pytest.raises(UserError, match="split 'train' is empty"):
        load_prepared(tmp_path)


def test_empty_cells(tmp_path):
    write_set(tmp_path, [good_row(), good_row(answer=None)])
    with pytest.raises(UserError, match="column 'answer' of split 'train' has 1 empty cells"):
        load_prepared(tmp_path)


def test_importing_the_schema_does_not_import_torch():
    code = "import r1_sharevl.data.schema, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
