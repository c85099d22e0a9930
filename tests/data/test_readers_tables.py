import datetime
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_sharevl.data.meta import BINARY, meta_value
from r1_sharevl.data.readers import tables
from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError

KINDS = ("stream.arrow", "file.arrow", "a.parquet")


def write(folder, name, table, rows_per_group=20):
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=rows_per_group)
    else:
        new = pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows_per_group)
    return path


def questions(count):
    return {"problem": [f"q{number}" for number in range(count)], "answer": ["1"] * count}


@pytest.mark.parametrize("name", KINDS)
def test_rows_come_in_order_over_batches(tmp_path, name):
    (source,) = open_sources([write(tmp_path, name, pa.table(questions(90)))])
    records = list(source.records())
    assert records == [(number, {"problem": f"q{number - 1}", "answer": "1"}) for number in range(1, 91)]
    assert (source.num_rows, source.columns, source.where(90)) == (90, ("problem", "answer"), f"{name}, row 90")
    assert [record["problem"] for record in source.sample(3)] == ["q0", "q1", "q2"]


@pytest.mark.parametrize("name", KINDS)
def test_pictures_are_left_as_they_are(tmp_path, name):
    table = pa.table(
        {
            **questions(2),
            "images": [[{"bytes": b"x", "path": "x.png"}], []],
            "image": [b"x", None],
            "more": [[b"x"], []],
            "view": pa.array([b"x", None], pa.binary_view()) if name.endswith("arrow") else [b"x", None],
            "fixed": pa.array([b"x", None], pa.binary(1)),
            "coded": pa.array([b"x", None]).dictionary_encode(),
            "paths": [["a.png"], None],
        }
    )
    (source,) = open_sources([write(tmp_path, name, table)])
    wanted = table.to_pylist()
    assert [record for _, record in source.records()] == wanted
    types = source.types.as_dict()
    assert [column for column, dtype in types.items() if dtype == BINARY] == [
        "images", "image", "more", "view", "fixed", "coded"
    ]  # fmt: skip
    assert types["paths"] == "string"


def test_pictures_coded_by_number_in_a_list(tmp_path):
    column = pa.ListArray.from_arrays([0, 1, 2], pa.array([b"x", b"y"]).dictionary_encode())
    (source,) = open_sources([write(tmp_path, "stream.arrow", pa.table({"images": column}))])
    assert source.types.as_dict() == {"images": BINARY}
    assert source.sample() == [{"images": [b"x"]}, {"images": [b"y"]}]


@pytest.mark.parametrize("name", KINDS)
def test_types_of_meta_columns(tmp_path, name):
    table = pa.table(
        {
            "level": pa.array([1], pa.int8()),
            "huge": pa.array([2**64 - 1], pa.uint64()),
            "score": pa.array([0.5], pa.float32()),
            "half": pa.array([np.float16(0.5)], pa.float16()),
            "good": [True],
            "tags": [["x"]],
            "day": [datetime.date(2025, 1, 2)],
            "kind": pa.array(["a"]).dictionary_encode(),
            "code": pa.array([7]).dictionary_encode(),
            "nothing": pa.array([None], pa.null()),
        }
    )
    (source,) = open_sources([write(tmp_path, name, table)])
    types = source.types.as_dict()
    assert types == {
        "level": "int64",
        "huge": "string",
        "score": "float64",
        "half": "float64",
        "good": "bool",
        "tags": "string",
        "day": "string",
        "kind": "string",
        "code": "int64",
        "nothing": "string",
    }
    ((_, row),) = source.records()
    assert {name: meta_value(row[name], dtype, name, "here") for name, dtype in types.items()} == {
        "level": 1,
        "huge": "18446744073709551615",
        "score": 0.5,
        "half": 0.5,
        "good": True,
        "tags": '["x"]',
        "day": "2025-01-02",
        "kind": "a",
        "code": 7,
        "nothing": None,
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_row_that_is_not_text_takes_no_other_with_it(tmp_path, name):
    texts = pa.array([b"good"] * 20 + [b"bad\xff"] + [b"good"] * 20).view(pa.string())
    dates = pa.array([0] * 30 + [2**62] + [0] * 10).view(pa.timestamp("us"))
    (source,) = open_sources([write(tmp_path, name, pa.table({"problem": texts, "day": dates}))])
    records = dict(source.records())
    faults = {number: record.reason for number, record in records.items() if isinstance(record, RowError)}
    assert faults == {21: "not UTF-8", 31: "row cannot be decoded"}
    assert str(records[21]).startswith(f"{name}, row 21: cannot be decoded")
    assert sum(isinstance(record, dict) for record in records.values()) == source.num_rows - 2


@pytest.mark.parametrize("name", KINDS)
def test_empty(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: is empty"):
        open_sources([write(tmp_path, name, pa.table(questions(0)))])


@pytest.mark.parametrize("name", KINDS)
def test_a_column_twice(tmp_path, name):
    table = pa.table([["a"], ["1"], [1], [2]], names=["problem", "answer", "x", "x"])
    with pytest.raises(UserError, match=f"{name}: has two columns named 'x': rename one"):
        open_sources([write(tmp_path, name, table)])


@pytest.mark.parametrize("name", KINDS)
def test_cut_short(tmp_path, name):
    path = write(tmp_path, name, pa.table(questions(1000)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] if name == "a.parquet" else whole[: len(whole) // 2])
    kind = "parquet" if name == "a.parquet" else "Arrow"
    with pytest.raises(UserError, match=rf"{name}: not a readable {kind} file \(.*\): copy it again"):
        open_sources([path])


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"no table", b"ARROW1\0\0", b"PAR1"])
def test_something_else(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: not a readable"):
        open_sources([tmp_path / name])


def test_parquet_damaged_in_the_middle(tmp_path):
    table = pa.table({"problem": [f"{i} {'x' * 50}" for i in range(5000)], "answer": ["1"] * 5000})
    path = write(tmp_path, "a.parquet", table, rows_per_group=1000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    (source,) = open_sources([path])
    with pytest.raises(UserError, match=r"a.parquet: cannot be read after row \d+ \(.*\): copy it again"):
        list(source.records())


@pytest.mark.parametrize("name", KINDS)
def test_any_flipped_bytes_are_records_or_an_error_of_one_line(tmp_path, name):
    count = 60
    table = pa.table(
        {
            "problem": [f"q{number} é" for number in range(count)],
            "answer": pa.array([str(number) for number in range(count)]).dictionary_encode(),
            "images": [[{"bytes": b"x" * number, "path": "p"}] for number in range(count)],
        }
    )
    path = write(tmp_path, name, table)
    whole = path.read_bytes()
    broken = 0
    for seed in range(150):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 5))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            (source,) = open_sources([path])
            assert all(isinstance(record, dict | RowError) for _, record in source.records())
            continue
        except UserError as error:
            message = str(error)
        broken += 1
        assert len(message.splitlines()) == 1
    assert broken < 150


def test_a_parquet_file_of_one_large_group_is_not_held_whole(tmp_path):
    """As pandas writes it: a million rows to the group."""
    rows = 30_000
    noise = np.random.default_rng(0).bytes(1000 * rows)
    column = [noise[1000 * row : 1000 * (row + 1)] for row in range(rows)]
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", row_group_size=10**6, use_dictionary=False)
    (source,) = open_sources([tmp_path / "a.parquet"])
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for number, _ in source.records() if number % 1000 == 0]
    assert max(held) < len(noise) / 4


def test_an_arrow_batch_is_read_a_few_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_A_TIME", 3)
    (source,) = open_sources([write(tmp_path, "stream.arrow", pa.table(questions(10)), rows_per_group=10)])
    assert [record["problem"] for _, record in source.records()] == [f"q{number}" for number in range(10)]
