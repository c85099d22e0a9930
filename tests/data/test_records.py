import base64
import io
import string

import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_sharevl.data import records
from r1_sharevl.data.fetching import ImageFetcher
from r1_sharevl.data.layouts import guess_layout
from r1_sharevl.data.records import to_row
from r1_sharevl.data.row_checks import COLUMNS, check_row
from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.synthetic import synthetic_rows
from r1_sharevl.rewards import is_correct
from r1_sharevl.rewards.options import parse_options


def png(colour="red"):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), colour).save(buffer, format="PNG")
    return buffer.getvalue()


RED, GREEN, BLUE = png("red"), png("green"), png("blue")


def image(data=RED):
    return {"bytes": data, "path": "x.png"}


def row_of(record, mapping=None, base=None, **options):
    layout = guess_layout(list(record), [record], mapping or {}, "a.jsonl", answer_needed=False)
    return to_row(
        record,
        layout,
        "a.jsonl, line 7",
        default_id="a-7",
        default_source="a",
        fetcher=ImageFetcher(base),
        **options,
    )


def pictures(row):
    return [picture["bytes"] for picture in row["images"]]


def reason_of(record, mapping=None):
    with pytest.raises(RowError) as caught:
        row_of(record, mapping)
    assert str(caught.value).startswith("a.jsonl, line 7: ")
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.reason


QUESTION = {"problem": "1 + 1?", "answer": "2"}

# Data sets that people have: name, record, and what the row shall be, apart from the default id and source.
DATA_SETS = [
    (
        "EasyR1, Geometry3K",
        {"images": [image()], "problem": "<image>Find x.", "answer": "2 \\sqrt { 221 }"},
        {"problem": "<image>Find x.", "answer": "2 \\sqrt { 221 }", "images": [RED]},
    ),
    (
        "R1-ShareVL-52K",
        {"images": [image()], "problem": "<image>Find x.", "answer": "3",
         "new_questions": "['<image>x = ?', \"What's x?\"]"},
        {"problem": "<image>Find x.", "answer": "3", "images": [RED], "variants": ["<image>x = ?", "What's x?"]},
    ),
    (
        "GEOQA-8K",
        {"image": image(), "problem": "<image>Find the angle.", "solution": "<answer> 145° </answer>"},
        {"problem": "<image>Find the angle.", "answer": "145°", "images": [RED]},
    ),
    (
        "ViRL39K",
        {"question": "<image>Which?\nA. 1\nB. 2", "answer": "\\boxed{A}", "qid": "q-1", "image": ["images/red.png"],
         "source": "geo", "category": "c", "PassRate_32BTrained": 0.5},
        {"problem": "<image>Which?\nA. 1\nB. 2", "answer": "A", "images": [RED], "id": "q-1", "source": "geo",
         "category": "c", "PassRate_32BTrained": 0.5},
    ),
    (
        "ViRL39K as text",
        {"question": "<image><image>?", "answer": "\\boxed{7}", "qid": "q-1",
         "image": "['images/red.png', 'blue.png']"},
        {"problem": "<image><image>?", "answer": "7", "images": [RED, BLUE], "id": "q-1"},
    ),
    (
        "MathVision with options",
        {"id": "3", "question": "Where is it?\n<image1>", "options": ["left", "right"], "image": "images/3.jpg",
         "decoded_image": image(), "answer": "B", "solution": None, "level": 1},
        {"problem": "Where is it?\n<image>\nA. left\nB. right", "answer": "B", "images": [RED], "id": "3",
         "image": "images/3.jpg", "solution": None, "level": 1},
    ),
    (
        "MathVision with options in the picture",
        {"id": "3", "question": "Which?\n<image1>", "options": ["A", "B", "C"], "answer": "B",
         "decoded_image": image()},
        {"problem": "Which?\n<image>", "answer": "B", "images": [RED], "id": "3"},
    ),
    (
        "MathVista",
        {"pid": "5", "question": "Higher?", "decoded_image": image(), "choices": ["Yes", "No"], "answer": "No",
         "query": "Hint: Please answer"},
        {"problem": "Higher?\nA. Yes\nB. No", "answer": "No", "images": [RED], "id": "5",
         "query": "Hint: Please answer"},
    ),
    (
        "MathVista without choices",
        {"pid": "5", "question": "How high?", "decoded_image": image(), "choices": None, "answer": "1.2"},
        {"problem": "How high?", "answer": "1.2", "images": [RED], "id": "5"},
    ),
    (
        "VLMEvalKit",
        {"index": "9", "image": base64.b64encode(RED).decode(), "question": "Which?", "hint": "Look up.", "A": "None",
         "B": "NA", "C": "", "D": None, "answer": "A"},
        {"problem": "Hint: Look up.\nWhich?\nA. None\nB. NA", "answer": "A", "images": [RED], "id": "9"},
    ),
    (
        "VLMEvalKit with several images",
        {"index": 9.0, "image": repr([base64.b64encode(RED).decode(), base64.b64encode(BLUE).decode()]),
         "question": "Which?", "answer": "x"},
        {"problem": "Which?", "answer": "x", "images": [RED, BLUE], "id": "9"},
    ),
    (
        "MMMU",
        {"id": "v_1", "question": "From <image 2> to <image 1>?", "options": "['<image 3>', 'none']", "answer": "A",
         "image_1": image(RED), "image_2": image(GREEN), "image_3": image(BLUE), "image_4": None},
        {"problem": "From <image> to <image>?\nA. <image>\nB. none", "answer": "A", "images": [GREEN, RED, BLUE],
         "id": "v_1"},
    ),
    (
        "MMMU open",
        {"question": "<image 1> How many?", "options": "[]", "answer": "3", "image_1": image(), "image_2": None},
        {"problem": "<image> How many?", "answer": "3", "images": [RED]},
    ),
    (
        "verl",
        {"data_source": "geo", "prompt": [{"role": "user", "content": "<image>1 + 1?"}], "images": [image()],
         "reward_model": {"style": "rule", "ground_truth": "2"}},
        {"problem": "<image>1 + 1?", "answer": "2", "images": [RED], "source": "geo"},
    ),
    (
        "TRL",
        {"prompt": [{"role": "system", "content": [{"type": "text", "text": "Think."}]},
                    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1 + 1?"}]}],
         "image": image(), "solution": "$2$"},
        {"problem": "<image>\n1 + 1?", "answer": "2", "images": [RED]},
    ),
    (
        "ms-swift",
        {"messages": [{"role": "user", "content": "<image>1 + 1?"}, {"role": "assistant", "content": "\\boxed{2}"}],
         "images": ["images/red.png"]},
        {"problem": "<image>1 + 1?", "answer": "2", "images": [RED]},
    ),
    (
        "pictures in the messages",
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "images/red.png"},
                                                   {"type": "text", "text": "1 + 1?"}]}], "answer": 2},
        {"problem": "<image>\n1 + 1?", "answer": "2", "images": [RED]},
    ),
    (
        "GSM8K",
        {"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
        {"problem": "1 + 1?", "answer": "2", "images": []},
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("data")
    (base / "images").mkdir()
    (base / "images/red.png").write_bytes(RED)
    (base / "blue.png").write_bytes(BLUE)
    return base


@pytest.mark.parametrize(("record", "wanted"), [case[1:] for case in DATA_SETS], ids=[case[0] for case in DATA_SETS])
def test_data_sets_that_people_have(folder, record, wanted):
    row = row_of(record, base=folder)
    images = [{"bytes": data, "path": None} for data in wanted["images"]]
    assert row == {"id": "a-7", "source": "a", "variants": [], **wanted, "images": images}
    check_row(row, "here")
    assert is_correct(f"\\boxed{{{row['answer']}}}", row["answer"], row["problem"])


@pytest.mark.parametrize(("record", "wanted"), [case[1:] for case in DATA_SETS], ids=[case[0] for case in DATA_SETS])
def test_they_may_come_from_a_table(folder, record, wanted):
    """Arrow gives every object all keys and every missing value as None."""
    record = pa.Table.from_pylist([record, dict.fromkeys(record)]).to_pylist()[0]
    row = row_of(record, base=folder)
    assert {name: row[name] for name in ("problem", "answer")} == {name: wanted[name] for name in ("problem", "answer")}
    assert pictures(row) == wanted["images"]


def test_rows_of_the_built_in_set_stay_as_they_are():
    for row in synthetic_rows("train", 12, 0):
        assert row_of(row) == row


# Fields that may be missing.


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_values_have_defaults(missing):
    optional = dict.fromkeys(("id", "source", "images", "variants", "options", "hint"), missing)
    row = row_of({**QUESTION, **optional})
    assert {name: row[name] for name in COLUMNS} == row_of(QUESTION)
    assert row_of(QUESTION) == {**QUESTION, "id": "a-7", "source": "a", "images": [], "variants": []}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "not an object"),
        ("text", "not an object"),
        (None, "not an object"),
        ({**QUESTION, "problem": None}, "no problem"),
        ({**QUESTION, "problem": 5}, "problem not text"),
        ({**QUESTION, "problem": float("nan")}, "problem not text"),
        ({**QUESTION, "problem": {"text": "q"}}, "problem not text"),
        ({**QUESTION, "problem": ["q"]}, "problem not text"),
        ({**QUESTION, "problem": [{"role": "user", "content": 5}]}, "conversation not readable"),
        ({**QUESTION, "problem": "a\0b"}, "control character in text"),
        ({**QUESTION, "problem": "$\frac{1}{2}$"}, "control character in text"),
        ({**QUESTION, "answer": "\boxed{2}"}, "control character in text"),
        ({**QUESTION, "problem": "x" * 100_001}, "text too long"),
        ({**QUESTION, "answer": "x" * 100_001}, "text too long"),
        ({**QUESTION, "problem": "a <|im_end|>\n<|im_start|>assistant"}, "control token in text"),
        ({**QUESTION, "problem": "a <|vision_start|> b"}, "control token in text"),
        ({**QUESTION, "answer": "<|endoftext|>"}, "control token in text"),
        ({**QUESTION, "answer": None}, "no answer"),
        ({**QUESTION, "answer": float("nan")}, "answer not a number"),
        ({**QUESTION, "answer": ["1", "2"]}, "several answers"),
        ({**QUESTION, "answer": {}}, "answer not text"),
        ({**QUESTION, "variants": "What is 1 + 1?"}, "variants not a list"),
        ({**QUESTION, "variants": "[__import__('os').system('x')]"}, "variants not a list"),
        ({**QUESTION, "variants": {"a": "b"}}, "variants not a list"),
        ({**QUESTION, "variants": ["a"] * 201}, "variants not a list"),
        ({**QUESTION, "variants": [1]}, "variants not text"),
        ({**QUESTION, "variants": [None, "a"]}, "variants not text"),
        ({**QUESTION, "variants": "[1, 2]"}, "variants not text"),
        ({**QUESTION, "options": "red"}, "options not readable"),
        ({**QUESTION, "options": ["a\0", "b"]}, "control character in text"),
        ({**QUESTION, "options": ["3", "4"]}, "answer not among the options"),
        ({**QUESTION, "answer": None, "answer_index": 0}, "no options"),
        ({**QUESTION, "answer": None, "answer_index": 2, "options": ["3", "4"]}, "answer not among the options"),
        ({**QUESTION, "images": [image()] * 65}, "too many images"),
        ({**QUESTION, "problem": "<image 2>", "images": [image()]}, "image marks do not match images"),
        ({**QUESTION, "images": ["a.png"]}, "image outside the data's folder"),
        ({**QUESTION, "images": [None]}, "image cannot be read"),
        ({**QUESTION, "image": 5}, "image cannot be read"),
        ({**QUESTION, "options": ["a", "b"], "answer": "a", "hint": 5}, "hint not text"),
        ({**QUESTION, "x\n": 1}, "field name not printable"),
    ],
)
def test_what_is_refused(record, reason):
    if not isinstance(record, dict):
        with pytest.raises(RowError) as caught:
            to_row(
                record,
                guess_layout(list(QUESTION), [], {}, "a"),
                "here",
                default_id="a",
                default_source="a",
                fetcher=ImageFetcher(None),
            )
        assert caught.value.reason == reason
        return
    mapping = {name: name for name in ("hint", "problem", "answer") if name in record}
    assert reason_of(record, mapping) == reason


@pytest.mark.parametrize("value", ["", " ", 5.5, True, [], {"a": 1}, "\ud800"])
def test_odd_ids_and_sources_are_left_for_the_check(value):
    row = row_of({**QUESTION, "id": value}, {"id": "id"})
    assert row["id"] == ("5.5" if value == 5.5 else value)
    with pytest.raises(RowError):
        check_row({**row, "problem": "", "id": value}, "here")


def test_invisible_ends_are_cut():
    row = row_of({"problem": "\ufeff1 + 1?\u200b\n", "answer": "\u200b2\ufeff ", "variants": ["\ufeffa b\u2060"]})
    assert (row["problem"], row["answer"], row["variants"]) == ("1 + 1?", "2", ["a b"])
    assert row_of({"problem": "a\tb\r\nc\u200dd", "answer": "2"})["problem"] == "a\tb\r\nc\u200dd"


def test_both_image_and_images():
    def read(**more):
        record = {**QUESTION, "image": None, "images": None, **more}
        layout = guess_layout(list(record), [], {}, "a.jsonl")
        return pictures(to_row(record, layout, "here", default_id="a", default_source="a", fetcher=ImageFetcher(None)))

    layout_rows = [{**QUESTION, "image": image(), "images": None}, {**QUESTION, "image": None, "images": [image()]}]
    layout = guess_layout(list(layout_rows[0]), layout_rows, {}, "a.jsonl")
    rows = [
        to_row(record, layout, "here", default_id="a", default_source="a", fetcher=ImageFetcher(None))
        for record in layout_rows
    ]
    assert [pictures(row) for row in rows] == [[RED], [RED]]
    assert read(images=[image(RED), image(BLUE)]) == [RED, BLUE]
    assert read(image=image(BLUE)) == [BLUE]
    with pytest.raises(RowError) as caught:
        read(image=image(), images=[image()])
    assert caught.value.reason == "both image and images"


def test_columns_named_by_the_user_are_read_in_their_order():
    record = {**QUESTION, "left": image(RED), "right": [image(GREEN), image(BLUE)]}
    assert pictures(row_of(record, {"images": "right,left"})) == [GREEN, BLUE, RED]


def test_a_gap_in_numbered_columns_keeps_the_numbers():
    record = {"problem": "<image 3>, <image 1>", "answer": "2", "image_1": image(RED), "image_2": None}
    row = row_of({**record, "image_3": image(BLUE)})
    assert (row["problem"], pictures(row)) == ("<image>, <image>", [BLUE, RED])
    assert reason_of({**record, "image_3": None}) == "image marks do not match images"


def test_images_of_one_row_are_bounded(monkeypatch):
    monkeypatch.setattr(records, "MAX_ROW_IMAGE_BYTES", 2 * len(RED))
    assert len(row_of({**QUESTION, "images": [image()] * 2})["images"]) == 2
    assert reason_of({**QUESTION, "images": [image()] * 3}) == "image too large"


# Options, hint and other wordings.


def test_hint_and_options_go_into_every_wording():
    record = {"question": "Which?", "options": ["red", "blue"], "answer": "A", "hint": "Look.", "variants": ["What?"]}
    row = row_of(record)
    assert row["problem"] == "Hint: Look.\nWhich?\nA. red\nB. blue"
    assert row["variants"] == ["Hint: Look.\nWhat?\nA. red\nB. blue"]
    assert "options" not in row
    assert row_of({**record, "hint": " "})["problem"] == "Which?\nA. red\nB. blue"


def test_a_wording_that_cannot_show_the_options_is_left_for_the_checks():
    trap = "Given\nA. a\nB. b\nC. c\nwhich?"
    row = row_of({"question": "Which?", "options": ["red", "blue"], "answer": "A", "variants": [trap, "What?"]})
    assert row["variants"] == [trap, "What?\nA. red\nB. blue"]
    assert reason_of({"question": trap, "options": ["red", "blue"], "answer": "A"}) == "options cannot be told apart"


def test_an_index_becomes_a_letter():
    record = {"question": "Which?", "choices": ["red", "blue"], "answer": 1}
    assert reason_of(record) == "answer not among the options"
    assert row_of(record, {"answer_index": "answer"})["answer"] == "B"
    assert row_of({**record, "answer": "0"}, {"answer_index": "answer"})["answer"] == "A"
    assert row_of({"question": "Which?", "choices": ["red", "blue"], "answer_index": 1})["answer"] == "B"


def test_truth_values_follow_the_options():
    record = {"question": "AB is a diameter.", "options": ["True", "False"], "answer": False}
    assert row_of(record)["answer"] == "False"
    assert row_of({**record, "options": ["Yes", "No"]})["answer"] == "No"


def test_without_need_an_unusable_answer_is_empty():
    for answer in (None, float("nan"), ["1", "2"]):
        assert row_of({**QUESTION, "answer": answer}, answer_needed=False)["answer"] == ""
    assert row_of({"problem": "1 + 1?"}, answer_needed=False)["answer"] == ""
    assert row_of(QUESTION, answer_needed=False)["answer"] == "2"


# Free columns.


def test_free_columns_cannot_replace_the_schemas():
    row = row_of(
        {"question": "q", "problem": "old", "gold": "2", "answer": "old", "source": "s", "n": 1},
        {"problem": "question", "answer": "gold", "source": ""},
    )
    assert row == {
        "id": "a-7", "problem": "q", "images": [], "answer": "2", "variants": [], "source": "a", "n": 1
    }  # fmt: skip


# Anything at all.

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["id", "question", "image", "images", "answer", "variants", "source", "options", "hint", "A", "B", "answer_index"]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON_VALUES), JSON_VALUES)
def test_any_record_gives_a_row_or_a_row_error(record, problem):
    record = {"problem": problem, **record}
    columns = ["problem", "image", "answer", "variants", "source", "id", "options", "hint", "answer_index"]
    layout = guess_layout(columns, [], {}, "a")
    message = "here"
    try:
        row = to_row(record, layout, "here", default_id="a", default_source="a", fetcher=ImageFetcher(None))
        check_row(row, "here")
    except RowError as error:
        message = str(error)
    assert message.startswith("here")
    assert len(message.splitlines()) == 1


@given(st.dictionaries(NAMES, JSON_VALUES), st.lists(st.dictionaries(NAMES, JSON_VALUES), max_size=3))
def test_any_sample_has_a_layout(record, sample):
    columns = ["problem", "answer", *record]
    layout = guess_layout(columns, [record, *sample], {}, "a")
    used = [column for names in layout.columns.values() for column in names]
    assert set(used) <= set(columns)
    assert len(used) == len(set(used))


@given(
    st.lists(st.text(alphabet=string.ascii_lowercase + " 0123", min_size=1, max_size=9), min_size=2, max_size=8),
    st.integers(0, 7),
    st.booleans(),
)
def test_the_right_option_stays_the_right_one(texts, place, by_index):
    texts = [" ".join(f"{text} {number}".split()) for number, text in enumerate(texts)]
    place %= len(texts)
    answer = {"answer_index": place} if by_index else {"answer": texts[place]}
    row = row_of({"question": "Which one?", "options": texts, **answer})
    options = parse_options(row["problem"])
    assert list(options.values()) == texts
    letter = string.ascii_uppercase[place]
    assert is_correct(f"\\boxed{{{letter}}}", row["answer"], row["problem"])
    other = string.ascii_uppercase[(place + 1) % len(texts)]
    assert not is_correct(f"\\boxed{{{other}}}", row["answer"], row["problem"])
