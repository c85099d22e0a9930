import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.data.readers import json_values
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
    return records


def faults(records):
    return [(number, record.reason) for number, record in records if isinstance(record, RowError)]


# One object per line.


def test_lines(tmp_path):
    file = write(tmp_path / "train.jsonl", b'\xef\xbb\xbf{"problem": "a", "x": null}\r\n\n{"answer": 1.5}\n[1]\n"text"')
    (source,) = open_sources([file])
    assert list(source.records()) == [
        (1, {"problem": "a", "x": None}),
        (3, {"answer": 1.5}),
        (4, [1]),
        (5, "text"),
    ]
    assert (source.num_rows, source.columns, source.row_word) == (4, ("problem", "x", "answer"), "line")
    assert source.types.as_dict() == {"problem": "string", "x": "string", "answer": "float64"}
    assert source.sample() == [{"problem": "a", "x": None}, {"answer": 1.5}]
    assert source.sample(1) == [{"problem": "a", "x": None}]
    assert (source.where(3), source.default_id(3)) == ("train.jsonl, line 3", "train-3")
    assert (source.base, source.path, source.split) == (tmp_path, file, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b'{"problem": "a"} trailing', "not valid JSON"),
        (b'{"problem": ' + b"[" * 100_000, "not valid JSON"),
        (b'{"answer": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"problem": "\xff\xfe"}', "not UTF-8"),
        ('{"problem": "a"}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_bad_line_stands_in_its_place(tmp_path, line, reason):
    records = read(write(tmp_path / "a.jsonl", b'{"id": 1}\n' + line + b'\n{"id": 3}\n'))
    assert [record for _, record in records if isinstance(record, dict)] == [{"id": 1}, {"id": 3}]
    assert faults(records)[0] == (2, reason)
    message = str(records[1][1])
    assert message.startswith("a.jsonl, line 2: ")
    assert len(message.splitlines()) == 1


def test_numbers_that_are_none(tmp_path):
    record = read(write(tmp_path / "a.jsonl", '{"a": NaN, "b": -Infinity}\n'))[0][1]
    assert record["a"] != record["a"]
    assert record["b"] == float("-inf")


def test_a_line_too_long_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("r1_sharevl.data.readers.json_files.MAX_RECORD_BYTES", 100)
    lines = [b'{"id": 1}', b'{"id": "' + b"x" * 5000 + b'"}', b'{"id": 3}', b"[" + b" " * 97 + b"]", b'{"id": 5}']
    records = read(write(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n"))
    assert faults(records) == [(2, "row too large")]
    assert [number for number, _ in records] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_empty(tmp_path, name, content):
    with pytest.raises(UserError, match=rf"{name}: is empty: it needs at least one row"):
        open_sources([write(tmp_path / name, content)])


def test_names_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("r1_sharevl.data.readers.source._MAX_COLUMNS", 50)
    lines = "\n".join(json.dumps({f"name{number}": 1}) for number in range(60))
    with pytest.raises(UserError, match=r"a.jsonl: more than 50 different field names by line 51"):
        open_sources([write(tmp_path / "a.jsonl", lines)])


def test_a_sample_does_not_read_a_bad_file_whole(tmp_path):
    (source,) = open_sources([write(tmp_path / "a.jsonl", "[]\n" * 1500 + '{"id": 1}\n')])
    assert source.sample() == []


# One document.


def test_a_list(tmp_path):
    records = [{"id": "a", "x": [{"y": "]}"}]}, 5, [1], None, {"x": 'quotes \\" and \\\\'}]
    (source,) = open_sources([write(tmp_path / "train.json", b"\xef\xbb\xbf" + json.dumps(records, indent=1).encode())])
    assert list(source.records()) == list(enumerate(records, start=1))
    assert source.where(2) == "train.json, row 2"
    assert source.columns == ("id", "x")


def test_objects_by_id(tmp_path):
    """MathVista's testmini.json."""
    document = {"1": {"question": "a", "pid": "1"}, "2": {"question": "b", "id": "own"}, "x": {"id": None}}
    for indent in (None, 2):
        records = read(write(tmp_path / "testmini.json", json.dumps(document, indent=indent)))
        assert records == [
            (1, {"question": "a", "pid": "1", "id": "1"}),
            (2, {"question": "b", "id": "own"}),
            (3, {"id": "x"}),
        ]


@pytest.mark.parametrize(
    "document",
    [
        {"data": [{"id": 1}, {"id": 2}]},
        {"anything": [{"id": 1}, {"id": 2}]},
        {"version": "1", "info": {"by": [1]}, "tags": ["x"], "rows": [{"id": 1}, {"id": 2}], "n": 2},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_in_an_object(tmp_path, document, indent):
    assert read(write(tmp_path / "a.json", json.dumps(document, indent=indent))) == [(1, {"id": 1}), (2, {"id": 2})]


@pytest.mark.parametrize(
    "lines",
    [
        ['{"id": 1}', '{"id": 2}'],
        ["", '{"id": 1}', "", '{"id": 2}', ""],
        ['{"id": "a", "images": [{"path": "a.png"}]}'],
        ['{"id": {"x": 1}, "image": {"path": "a.png"}, "n": 1}', "broken"],
        ["broken", '{"id": 1}'],
        ['{"id": "' + "x" * 2_000_000 + '", "images": [{}]}'],
        ['{"id": "' + "x" * 2_000_000 + '"}', '{"id": 2}'],
    ],
)
def test_a_json_file_of_lines(tmp_path, lines):
    (source,) = open_sources([write(tmp_path / "a.json", "\n".join(lines))])
    assert source.row_word == "line"
    wanted = [(number, line) for number, line in enumerate(lines, start=1) if line]
    for (number, record), (wanted_number, line) in zip(source.records(), wanted, strict=True):
        assert number == wanted_number
        assert isinstance(record, RowError) if line == "broken" else record == json.loads(line)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"problem": "a", ', r"a.json: not valid JSON at row 1: the file ends within a value"),
        ('[{"id": 1}, {"id": 2}', r"not valid JSON at row 3: expected , but the file ends"),
        ('[{"id": 1} {"id": 2}]', r"not valid JSON at row 2: expected , but found '{'"),
        ('[{"id": 1}, {"id": "x}]', r"not valid JSON at row 2: the file ends within a value"),
        ('[{"id": 1}] x', r"not valid JSON at row 2: found 'x' after the end of the document"),
        ('{"1": {"id": 1},\n "2": {"id": 2}', r"not valid JSON: expected , but the file ends"),
        ('{"1": {"id": 1},\n 2: {"id": 2}}', r"not valid JSON: expected a quoted name but found '2'"),
        ("hello", r"not valid JSON: expected { but found 'h'"),
        ('{"a":\n[{"id": 1}],\n"b": [{"id": 2}]}', r"expected one list of objects \(found several: a, b\)"),
        ('{"problem":\n"a"}', r"expected one list of objects: write"),
    ],
)
def test_a_broken_document(tmp_path, content, says):
    with pytest.raises(UserError, match=says) as info:
        open_sources([write(tmp_path / "a.json", content)])
    assert len(str(info.value).splitlines()) == 1


def test_a_fault_inside_a_value_is_that_rows_own(tmp_path):
    rows = [b'{"id": 1}', b'{"id": nope}', b'{"id": "\xff"}', b'{"id": [1}}', b"", b"nope", b"9" * 5000, b'{"id": 8}']
    records = read(write(tmp_path / "a.json", b"[" + b",\n".join(rows) + b"]"))
    assert [(number, record) for number, record in records if not isinstance(record, RowError)] == [
        (1, {"id": 1}),
        (8, {"id": 8}),
    ]
    assert faults(records) == [(number, "not UTF-8" if number == 3 else "not valid JSON") for number in range(2, 8)]
    assert str(records[1][1]).startswith("a.json, row 2: not valid JSON")


def test_a_value_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_values, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(json_values, "_CHUNK_BYTES", 100)
    fine = [{"id": "x" * 900}] * 5
    assert len(read(write(tmp_path / "a.json", json.dumps(fine)))) == 5
    with pytest.raises(UserError, match=r"a.json: not valid JSON at row 6: one value takes more than"):
        open_sources([write(tmp_path / "a.json", json.dumps([*fine, {"id": "x" * 5000}]))])


def test_what_is_passed_over_may_be_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(json_values, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(json_values, "_CHUNK_BYTES", 100)
    document = {"info": {str(number): "x" * 50 for number in range(100)}, "data": [{"id": 1}]}
    assert read(write(tmp_path / "a.json", json.dumps(document))) == [(1, {"id": 1})]


json_texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\[]{},: é𝄞'), max_size=8)
json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | json_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(json_trees, max_size=6), st.sampled_from([None, 0, 3]), st.booleans(), st.integers(1, 40))
def test_a_document_read_in_pieces_is_what_json_reads(values, indent, ascii_only, chunk):
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_CHUNK_BYTES", chunk)
        cursor = json_values.JsonCursor(io.BytesIO(data))
        read_values, skipped = [], json_values.JsonCursor(io.BytesIO(data + b" 7"))
        cursor.take("[")
        while cursor.peek() != "]":
            read_values.append(json_values.parse_json(cursor.value()))
            if cursor.peek() != "]":
                cursor.take(",")
        cursor.take("]")
        assert cursor.peek() == ""
        assert read_values == values
        skipped.skip()
        assert (skipped.peek(), skipped.value()) == ("7", "7")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}",:\\ a1\n', max_size=60).map(str.encode))
def test_any_bytes_are_records_or_an_error_of_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    for name in ("a.json", "a.jsonl"):
        try:
            assert read(write(folder / name, data))
        except UserError as error:
            message = str(error)
        else:
            continue
        assert len(message.splitlines()) == 1


# Packed files.


@pytest.mark.parametrize(
    ("name", "content"), [("t.jsonl.gz", b'{"id": 1}\n{"id": 2}\n'), ("t.json.gz", b'[{"id":1},2]')]
)
def test_gzip(tmp_path, name, content):
    file = write(tmp_path / name, gzip.compress(content))
    (source,) = open_sources([file])
    assert [number for number, _ in source.records()] == [1, 2]
    assert source.label == "t"
    write(file, gzip.compress(content * 1000)[:-20])
    with pytest.raises(UserError, match=rf"{name}: "):
        open_sources([file])
    write(file, b"not packed")
    with pytest.raises(UserError, match=rf"{name}: cannot be read: Not a gzipped file"):
        open_sources([file])


def test_a_packed_file_cut_short_says_where(tmp_path):
    data = gzip.compress("".join(json.dumps({"id": number}) + "\n" for number in range(30_000)).encode())
    with pytest.raises(UserError, match=r"a.jsonl.gz: cannot be read after line \d+ \(.+\): copy it again"):
        open_sources([write(tmp_path / "a.jsonl.gz", data[: len(data) // 2])])
