"""What an inspection counts, and the rows that it draws."""

import io
import itertools
import tracemalloc
from collections import Counter

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sets import png, row, write_set

from r1_sharevl.data.easyr1 import easyr1_features, to_easyr1
from r1_sharevl.errors import UserError
from r1_sharevl.prep.answer_types import ANSWER_TYPES, answer_type
from r1_sharevl.prep.inspection import EDGES, Histogram, inspect_set, visible
from r1_sharevl.prep.prepared_files import PreparedFiles


def mixed_set(folder):
    train = [
        *(row(number) for number in range(5)),
        row(5, images=[{"bytes": png(5, (100, 50)), "path": None}] * 2, source="figures", variants=[], answer="B"),
        row(6, images=[], source="figures", problem="Is it so?", variants=["Is it so?", "So?"], answer="yes"),
        row(7, images=[{"bytes": b"no picture", "path": None}], answer="\\frac{1}{2}", problem="y " * 30),
    ]
    manifest = {"rejected": {"few": 1, "many": 7, "odd": "x"}, "dropped_wordings": {"numbers differ": 2}}
    return write_set(folder, train, [row(8)], manifest=manifest, shard_bytes=1)


def test_counts(tmp_path):
    steps = []
    found = inspect_set(PreparedFiles(mixed_set(tmp_path)), progress=lambda done, total: steps.append((done, total)))
    assert found.rows == {"train": {"sums": 6, "figures": 2}, "validation": {"sums": 1}}
    assert found.images_per_row == {0: 1, 1: 7, 2: 1}
    assert found.wordings_per_row == {1: 1, 2: 1, 3: 7}
    assert found.answer_types == {"option letter": 1, "yes or no": 1, "integer": 6, "fraction": 1}
    assert list(found.answer_types) == [name for name in ANSWER_TYPES if name in found.answer_types]
    assert (found.problem_words.smallest, found.problem_words.largest, found.problem_words.number) == (3, 30, 9)
    assert (found.problem_characters.smallest, found.problem_characters.largest) == (9, 60)
    assert (found.answer_characters.smallest, found.answer_characters.largest) == (1, 11)
    assert found.image_pixels.bars() == [("1k–2k", 6), ("2k–5k", 0), ("5k–10k", 2)]
    assert found.unreadable_images == 1
    assert found.rejected == {"many": 7, "few": 1}
    assert list(found.rejected) == ["many", "few"]
    assert found.dropped_wordings == {"numbers differ": 2}
    assert steps == [(number, 9) for number in range(1, 10)]


def test_one_split(tmp_path):
    steps = []
    files = PreparedFiles(mixed_set(tmp_path))
    found = inspect_set(files, "validation", progress=lambda done, total: steps.append((done, total)))
    assert found.rows == {"validation": {"sums": 1}}
    assert steps == [(1, 1)]
    assert found.images_per_row.total() == 1


def test_without_manifest_and_with_other_columns(tmp_path):
    (tmp_path / "data").mkdir()
    table = pa.table({"problem": ["a b", None], "answer": ["1", "2"], "images": [[{"path": "x.png"}], None]})
    pq.write_table(table, tmp_path / "data/test.parquet")
    found = inspect_set(files := PreparedFiles(tmp_path))
    assert found.rows == {"test": {"": 2}}
    assert found.images_per_row == {0: 1, 1: 1}
    assert (found.unreadable_images, found.rejected) == (1, {})
    assert [item.id for item in files.rows()] == ["test.parquet, row 1", "test.parquet, row 2"]
    assert files.find("test.parquet, row 2").answer == "2"
    assert len(files.sample(5, 0)) == 2


def test_the_release_format_is_read_too(tmp_path):
    rows = [to_easyr1(row(1, variants=['<image>It\'s "so"?\n'])), to_easyr1(row(2, variants=[]))]
    write_set(tmp_path, rows, rows[:1], features=lambda split: easyr1_features(None, split))
    files = PreparedFiles(tmp_path)
    assert [item.variants for item in files.rows("train")] == [('<image>It\'s "so"?\n',), ()]
    assert [item.variants for item in files.rows("validation")] == [()]
    assert inspect_set(files, "train").wordings_per_row == {1: 1, 2: 1}


def test_damaged_pictures_are_counted_only(tmp_path):
    whole = png(1)
    bomb = io.BytesIO()
    PIL.Image.new("1", (30000, 30000)).save(bomb, format="PNG")
    images = [whole[:20], b"", b"\x89PNG\r\n\x1a\n", whole[:60], bomb.getvalue()]
    write_set(tmp_path, [row(1, images=[{"bytes": data, "path": None} for data in images])])
    found = inspect_set(PreparedFiles(tmp_path))
    # A header is enough: the fourth is cut behind it. The last would be gigabytes.
    assert (found.unreadable_images, found.image_pixels.number) == (4, 1)


def test_memory_does_not_grow_with_rows(tmp_path):
    def peak(count):
        picture = [{"bytes": b"\x00" * 200_000, "path": None}]
        folder = write_set(tmp_path / str(count), (row(number, images=picture) for number in range(count)))
        arrow = []
        tracemalloc.start()
        # Arrow's buffers are not Python's, and are counted apart.
        inspect_set(PreparedFiles(folder), progress=lambda *_: arrow.append(pa.total_allocated_bytes()))
        _, python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return python + max(arrow) - arrow[0]

    peak(20)
    assert peak(800) < 1.2 * peak(200)


# Which rows are drawn.


def test_every_source_has_its_turn(tmp_path):
    rows = [row(number, source="big" if number < 90 else f"small {number % 3}") for number in range(100)]
    files = PreparedFiles(write_set(tmp_path, rows[:60], rows[60:], shard_bytes=1))
    drawn = files.sample(20, seed=0)
    counts = Counter(item.source for item in drawn)
    assert len({item.id for item in drawn}) == 20
    assert counts == {"small 0": 4, "small 1": 3, "small 2": 3, "big": 10}
    assert len({item.source for item in drawn[:4]}) == 4
    by_id = {item["id"]: item for item in rows}
    for item in drawn:
        assert item.problem == by_id[item.id]["problem"]
        assert item.images == (by_id[item.id]["images"][0]["bytes"],)


def test_draw_is_repeatable_and_does_not_hang_on_the_order(tmp_path):
    rows = [row(number) for number in range(40)]
    files = PreparedFiles(write_set(tmp_path / "a", rows))
    turned = PreparedFiles(write_set(tmp_path / "b", rows[::-1], shard_bytes=1))
    names = [item.id for item in files.sample(8, seed=3)]
    assert [item.id for item in files.sample(8, seed=3)] == names
    assert [item.id for item in turned.sample(8, seed=3)] == names
    assert [item.id for item in files.sample(8, seed=4)] != names
    assert [item.id for item in files.sample(5, seed=3)] == names[:5]
    assert files.sample(0, seed=3) == []
    assert {item.id for item in files.sample(99, seed=3)} == {item["id"] for item in rows}


def test_rows_are_found_in_every_row_group(tmp_path):
    files = PreparedFiles(write_set(tmp_path, [row(number) for number in range(250)]))
    assert pq.read_metadata(files.shards["train"][0]).num_row_groups == 3
    for item in [*files.sample(20, seed=0), files.find("row-0"), files.find("row-100"), files.find("row-249")]:
        assert item.answer == str(int(item.id.removeprefix("row-")) + 1)


def test_meta_and_split_arrive(tmp_path):
    files = PreparedFiles(write_set(tmp_path, [row(1, level=3)], [row(2, level=None)], meta={"level": "int64"}))
    assert files.find("row-1").meta == {"level": 3}
    assert [item.split for item in files.sample(2, 0, "validation")] == ["validation"]
    assert files.find("row-2", "validation").split == "validation"
    with pytest.raises(UserError, match=r"split 'train' of .*: no row with the id 'row-2'"):
        files.find("row-2", "train")


# What is no prepared set.


@pytest.mark.parametrize("case", ["missing", "file", "empty", "shard", "damaged", "columns", "split", "manifest"])
def test_mistakes_are_named(tmp_path, case):
    folder = tmp_path / "set"
    if case == "file":
        folder.write_text("x")
    elif case == "empty":
        folder.mkdir()
    elif case != "missing":
        write_set(folder, [row(number) for number in range(200)], shard_bytes=1)
    if case == "shard":
        (folder / "data/train-00001-of-00002.parquet").unlink()
    elif case == "damaged":
        (folder / "data/train-00001-of-00002.parquet").write_bytes(b"PAR1")
    elif case == "columns":
        pq.write_table(pa.table({"question": ["x"]}), folder / "data/test.parquet")
    elif case == "manifest":
        (folder / "manifest.json").write_text("{")
    says = {
        "missing": "no such folder",
        "file": "is a file, not a folder",
        "empty": "not a prepared set",
        "shard": "split 'train' has 1 of its 2 files",
        "damaged": "train-00001-of-00002.parquet: not a readable parquet file",
        "columns": "test.parquet: no column 'problem'",
        "split": "no split 'test': it has train",
        "manifest": "manifest.json: cannot be read",
    }
    with pytest.raises(UserError, match=says[case]) as error:
        inspect_set(PreparedFiles(folder), "test" if case == "split" else None)
    assert "\n" not in str(error.value)


def test_a_file_cut_in_its_middle_is_named(tmp_path):
    write_set(tmp_path, [row(number) for number in range(50)])
    file = tmp_path / "data/train-00000-of-00001.parquet"
    content = bytearray(file.read_bytes())
    content[4:2000] = bytes(1996)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet: not a readable parquet file"):
        inspect_set(PreparedFiles(tmp_path))


# Histograms, types and texts.


@given(st.lists(st.integers(0, 10**10)))
def test_histogram(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert sum(histogram.counts) == sum(count for _, count in histogram.bars()) == len(values)
    assert (histogram.smallest, histogram.largest) == (min(values, default=0), max(values, default=0))
    assert histogram.mean == (sum(values) / len(values) if values else 0)
    for (low, high), count in zip(itertools.pairwise((*EDGES, float("inf"))), histogram.counts, strict=True):
        assert count == sum(low <= value < high for value in values)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, "0"),
        (1, "1"),
        (2, "2–4"),
        (9, "5–9"),
        (10, "10–19"),
        (999, "500–999"),
        (1000, "1k–2k"),
        (10**6, "1M–2M"),
        (10**9, "500M or more"),
    ],
)
def test_labels(value, label):
    histogram = Histogram()
    histogram.add(value)
    assert histogram.bars() == [(label, 1)]


OPTIONS = "Which?\nA. red\nB. 12 cm\nC. green"


@pytest.mark.parametrize(
    ("answer", "problem", "expected"),
    [
        ("B", "", "option letter"),
        ("(b)", OPTIONS, "option letter"),
        ("B. 12 cm", OPTIONS, "option letter"),
        ("A, C", OPTIONS, "option letter"),
        ("D", OPTIONS, "expression"),
        ("E. coli", "", "text"),
        ("b", "", "expression"),
        ("12 cm", OPTIONS, "number with unit"),
        ("Yes.", "", "yes or no"),
        ("-1,000", "", "integer"),
        ("$12$", "", "integer"),
        ("3.50", "", "decimal"),
        ("1e-3", "", "decimal"),
        ("\\frac{1}{2}", "", "fraction"),
        ("4/2", "", "fraction"),
        ("3 1/2", "", "fraction"),
        ("50\\%", "", "percentage"),
        ("35^\\circ", "", "number with unit"),
        ("(1, 2)", "", "list"),
        ("1 and 2", "", "list"),
        ("(x + 1)", "", "expression"),
        ("2\\sqrt{3}", "", "expression"),
        ("2x + 1", "", "expression"),
        ("x = 5", "", "expression"),
        ("red", "", "text"),
        ("三角形", "", "text"),
        ("\\angle ABC", "", "text"),
        ("", "", "cannot be scored"),
        ("\\frac{1}{2", "", "cannot be scored"),
        ("x" * 1001, "", "cannot be scored"),
    ],
)
def test_answer_types(answer, problem, expected):
    assert answer_type(answer, problem) == expected


@given(st.text(), st.text())
def test_every_answer_has_a_type(answer, problem):
    assert answer_type(answer, problem) in ANSWER_TYPES


@given(st.text())
def test_nothing_invisible_is_left(text):
    shown = visible(text)
    assert not set(shown) & set("\x1b\x07\x08\r\x9b\u202e\u2066\u200b\ud800")
    if text.isprintable():
        assert shown == text


def test_visible_cuts_and_keeps():
    assert visible("a\n\tb 求 👩‍🏫") == "a\n\tb 求 👩‍🏫"
    assert visible("\x1b[31m\u202e") == "\\x1b[31m\\u202e"
    assert visible("abc", 2) == "ab…"
