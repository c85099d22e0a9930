import base64
import csv
import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.data.readers import delimited
from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path):
    (source,) = open_sources([path])
    records = list(source.records())
    assert len(records) == source.num_rows
    return [record.reason if isinstance(record, RowError) else record for _, record in records]


def picture(seed, size=300):
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()


def test_everything_is_text(tmp_path):
    content = '\ufeffproblem, answer ,x\r\nWhat is,3.0,\r\n\r\nNA,None,null\r\n"a ""b""\nc",é, y \r\n'
    (source,) = open_sources([write(tmp_path / "train.csv", content)])
    assert list(source.records()) == [
        (1, {"problem": "What is", "answer": "3.0", "x": None}),
        (2, {"problem": "NA", "answer": "None", "x": "null"}),
        (3, {"problem": 'a "b"\nc', "answer": "é", "x": " y "}),
    ]
    assert source.columns == ("problem", "answer", "x")
    assert source.types.as_dict() == dict.fromkeys(source.columns, "string")
    assert (source.where(3), source.label) == ("train.csv, row 3", "train")


def test_tabs(tmp_path):
    assert read(write(tmp_path / "A.TSV", "a\tb\n1,5\t2\n")) == [{"a": "1,5", "b": "2"}]
    assert read(write(tmp_path / "a.tsv.gz", gzip.compress(b"a\tb\n1,5\t2\n"))) == [{"a": "1,5", "b": "2"}]


def test_cells_as_large_as_a_picture(tmp_path):
    cell = picture(0, 1_000_000)
    assert read(write(tmp_path / "a.csv", f"id,image\n1,{cell}\n2,x\n")) == [
        {"id": "1", "image": cell},
        {"id": "2", "image": "x"},
    ]


def test_the_row_numbers_that_pandas_writes(tmp_path):
    assert read(write(tmp_path / "a.csv", ",problem\n0,a\n")) == [{"Unnamed: 0": "0", "problem": "a"}]


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        (b"1", ["wrong number of cells"]),
        (b"1,2,3", ["wrong number of cells"]),
        (b"\xff\xfe,2", ["not UTF-8"]),
        (b'"a"b,2', ["not valid CSV"]),
        (b'"never closed,2', ["not valid CSV"]),
        # The quote that opens here is closed rows later, where the row has too many cells.
        (b'"never closed,2\n5,6\n7,8",9,10', ["wrong number of cells", "5", "wrong number of cells"]),
        (b'x,"' + b"y" * 3000 + b'"', ["not valid CSV"]),
        (b"y" * 3000 + b",1", ["not valid CSV"]),
    ],
)
def test_a_bad_row_takes_no_other_with_it(tmp_path, monkeypatch, row, reasons):
    monkeypatch.setattr(delimited, "MAX_ROW_BYTES", 1000)
    good = b"".join(b"%d,good\n" % number for number in range(300))
    found = read(write(tmp_path / "a.csv", b"a,b\n1,2\n" + row + b"\n" + good))
    found = [record if isinstance(record, str) else record["a"] for record in found]
    assert found == ["1", *reasons, *map(str, range(300))]


def test_what_is_said_of_a_bad_row(tmp_path):
    (source,) = open_sources([write(tmp_path / "a.csv", 'a,b\n1,2\n"x"y,2\n1\n')])
    messages = [str(record) for _, record in source.records() if isinstance(record, RowError)]
    assert messages[0].startswith("a.csv, row 2: not a row of cells")
    assert messages[1] == "a.csv, row 3: has 1 cells under 2 names: put cells with separators in quotes"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a.csv: is empty"),
        (b"a,b\n", "a.csv: is empty"),
        (b"a,b,a\n1,2,3\n", "a.csv: has two columns named 'a': rename one"),
        (
            b"a;b\n1;2\n",
            "a.csv: cells stand between semicolons: save it with commas or, as .tsv, with tabs between them",
        ),
        (b"a,\xff\n1,2\n", "a.csv: not UTF-8 text: save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "a.csv: not UTF-8 text: save the file as UTF-8"),
        (b'a,"b\n1,2\n', "a.csv: the line of names is not valid: unexpected end of data"),
        (b"a,b\r1,2\r3,4\r", "a.csv: the line of names is not valid"),
    ],
)
def test_bad_files(tmp_path, content, says):
    with pytest.raises(UserError, match=says) as info:
        open_sources([write(tmp_path / "a.csv", content)])
    assert len(str(info.value).splitlines()) == 1


cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r") | st.sampled_from('",\t\n'), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(["csv", "tsv"]))
def test_what_csv_writes_is_read(tmp_path_factory, rows, kind):
    text = io.StringIO()
    writer = csv.writer(text, delimiter="," if kind == "csv" else "\t", quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])
    file = write(tmp_path_factory.mktemp("csv") / f"a.{kind}", text.getvalue())
    assert read(file) == [{name: cell or None for name, cell in zip("abc", row, strict=True)} for row in rows]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('",\n a1é', max_size=60).map(str.encode))
def test_any_bytes_are_records_or_an_error_of_one_line(tmp_path_factory, data):
    file = write(tmp_path_factory.mktemp("any") / "a.csv", b"a,b\n" + data)
    try:
        assert read(file)
    except UserError as error:
        message = str(error)
    else:
        return
    assert message.endswith("is empty: it needs at least one row")


# VLMEvalKit's pictures by index.


def evaluation_file(path, rows):
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t")
    writer.writerows([["index", "question", "image"], *rows])
    content = text.getvalue().encode()
    return write(path, gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_a_picture_of_another_row(tmp_path, name):
    first, second = picture(1), picture(2, 100_000)
    rows = [
        ["1", "forward", "4"],
        ["2", "own", first],
        ["3", "é\nbefore", "2"],
        ["4", "own\n\nlines", second],
        ["5", "again", "2"],
        ["6", "again", "2"],
        ["7", "none", ""],
        ["8", "a path", "img/8.png"],
    ]
    records = read(evaluation_file(tmp_path / name, rows))
    assert [record["image"] for record in records] == [
        second, first, first, second, first, first, None, "img/8.png"
    ]  # fmt: skip
    assert [record["index"] for record in records] == list("12345678")


def test_a_reference_to_nothing(tmp_path):
    rows = [
        ["1", "of another reference", "3"],
        ["2", "no such row", "99"],
        ["3", "itself", "3"],
        ["4", "own", picture(1)],
    ]
    (source,) = open_sources([evaluation_file(tmp_path / "a.tsv", rows)])
    records = dict(source.records())
    assert [records[number].reason for number in (1, 2, 3)] == ["image reference not found"] * 3
    assert str(records[2]) == "a.tsv, row 2: field 'image' names row '99', but no row of that index has an image"
    assert records[4]["image"] == picture(1)


def test_without_an_index_a_short_image_is_left_as_it_is(tmp_path):
    assert read(write(tmp_path / "a.tsv", "id\timage\n1\t7\n")) == [{"id": "1", "image": "7"}]
    assert read(write(tmp_path / "a.tsv", "index\timages\n1\t7\n")) == [{"index": "1", "images": "7"}]
