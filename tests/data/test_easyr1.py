"""The release's format: what it reads, by its own steps, is what the prepared rows say."""

import ast
import io
import json
import random

import datasets
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_sharevl.data.easyr1 import NO_IMAGE, easyr1_features, to_easyr1, wordings_of
from r1_sharevl.data.row_error import RowError
from r1_sharevl.data.writing import SplitWriter

HARD = [
    "plain",
    'it\'s "quoted" and \'\'\'tripled"""',
    "two\nlines\r\nand\ta tab",
    r"$\frac{1}{2}$ \n \\ \x41 \N{DIGIT ONE} trailing \\",
    "求阴影部分的面积 🙂👩‍🏫 \u2028\u202e\x00",
    "__import__('os').system('touch owned')",
    "'] + [print('owned')] + ['",
]


def png(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def row(images=1, **changes):
    return {
        "id": "a",
        "problem": "Why?",
        "images": [{"bytes": png(seed), "path": None} for seed in range(images)],
        "answer": "\\frac{1}{2}",
        "variants": ["For what reason?"],
        "source": "s",
        **changes,
    }


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def write(folder, train, validation=(), meta=None, **options):
    (folder / "data").mkdir()
    for split, rows in (("train", train), ("validation", validation)):
        with SplitWriter(folder / "data", split, easyr1_features(meta, split), **options) as writer:
            for item in rows:
                writer.add(to_easyr1(item))
            writer.finish()
    return folder


def read_as_the_release(data_path, index, question_num):
    """The steps of `RLHFDataset` in the release's `verl/utils/dataset.py`, up to the processor."""
    if data_path.is_dir():
        data = datasets.load_dataset("parquet", data_dir=str(data_path), split="train")
    else:
        data = datasets.load_dataset("parquet", data_files=str(data_path), split="train")
    found = data[index]
    questions = []
    if "new_questions" in found and isinstance(found["new_questions"], str):
        found["new_questions"] = eval(found["new_questions"])  # noqa: S307 # it does, on what we wrote
    if "new_questions" in found:
        found["new_questions"].append(found["problem"])
        questions.extend(random.sample(found["new_questions"], question_num))
    else:
        questions.append(found["problem"])
    prompts = []
    for question in questions:
        content = []
        for position, piece in enumerate(question.split("<image>")):
            if position != 0:
                content.append({"type": "image"})
            if piece:
                content.append({"type": "text", "text": piece})
        assert sum(part["type"] == "image" for part in content) == len(found["images"])
        prompts.append(content)
    return prompts, [image.convert("RGB") for image in found["images"]], found["answer"]


def test_the_release_reads_train_and_validation(tmp_path):
    rows = [row(images=1 + number, id=str(number), variants=HARD) for number in range(2)]
    write(tmp_path, rows, [row(variants=[])])
    for number in range(2):
        prompts, images, answer = read_as_the_release(tmp_path, number, question_num=2)
        assert len(prompts) == 2
        assert prompts[0] != prompts[1]
        assert len(images) == 1 + number
        assert images[number].tobytes() == PIL.Image.open(io.BytesIO(png(number))).tobytes()
        assert answer == "\\frac{1}{2}"
    # In validation its `question_num` is None, with which `random.sample` fails.
    prompts, _, _ = read_as_the_release(tmp_path / "data/validation-00000-of-00001.parquet", 0, question_num=None)
    assert prompts == [[{"type": "image"}, {"type": "text", "text": "Why?"}]]


def test_a_row_without_wordings_does_not_stop_the_release(tmp_path):
    write(tmp_path, [row(variants=[])])
    prompts, _, _ = read_as_the_release(tmp_path, 0, question_num=2)
    assert prompts == [[{"type": "image"}, {"type": "text", "text": "Why?"}]] * 2


@pytest.mark.parametrize("question_num", [1, 2, 3, 7])
@pytest.mark.parametrize("variants", [[], ["For what reason?"], HARD])
def test_as_many_texts_as_the_release_draws(variants, question_num):
    texts = ast.literal_eval(to_easyr1(row(variants=variants), question_num=question_num)["new_questions"])
    assert len(texts) >= question_num - 1
    assert len(texts) >= len(variants)
    assert texts[: len(variants)] == ["<image>" + text for text in variants]
    assert set(texts) <= {"<image>Why?", *("<image>" + text for text in variants)}


def test_opened_by_datasets(tmp_path):
    write(tmp_path, [row(variants=HARD, level=3)] * 3, [row(level=None)], meta={"level": "int64"}, shard_bytes=1)
    opened = datasets.load_dataset(str(tmp_path))
    assert set(opened) == {"train", "validation"}
    assert opened["train"].column_names == ["problem", "images", "answer", "new_questions", "id", "source", "level"]
    first = opened["train"][0]
    assert ast.literal_eval(first["new_questions"]) == ["<image>" + text for text in HARD]
    assert (first["id"], first["source"], first["level"], first["images"][0].size) == ("a", "s", 3, (8, 8))


def test_files_name_no_type_that_older_datasets_refuse(tmp_path):
    write(tmp_path, [row(List="x")], meta={"List": "string"})
    schema = pq.read_schema(tmp_path / "data/train-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["images"] == {"feature": {"_type": "Image"}, "_type": "Sequence"}
    assert features["List"] == {"dtype": "string", "_type": "Value"}
    assert {feature["_type"] for feature in features.values()} == {"Sequence", "Value"}


def test_marks_that_are_there_stay():
    made = to_easyr1(row(images=2, problem="<image> or <image>?", variants=["Compare."]))
    assert made["problem"] == "<image> or <image>?"
    assert ast.literal_eval(made["new_questions"]) == ["<image><image>Compare."]


def test_only_its_own_column_holds_wordings():
    assert "new_questions" not in easyr1_features({"new_questions": "string"}, "validation")
    made = to_easyr1(row(new_questions="['theirs']"))
    assert ast.literal_eval(made["new_questions"]) == ["<image>For what reason?"]
    assert "variants" not in made


def test_rows_without_an_image_are_refused():
    with pytest.raises(RowError, match=r"x\.jsonl, line 3: has no image") as error:
        to_easyr1(row(images=0), "x.jsonl, line 3")
    assert error.value.reason == NO_IMAGE
    with pytest.raises(RowError, match="row 'a': has no image"):
        to_easyr1(row(images=0))


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.text(st.characters(codec="utf-8")))
def test_any_wordings_come_back(variants, problem):
    made = to_easyr1(row(problem=problem, variants=variants))
    texts = ast.literal_eval(made["new_questions"])
    marked = [text if "<image>" in text else "<image>" + text for text in variants]
    assert texts[: len(marked)] == marked
    assert wordings_of(made["problem"], made["new_questions"]) == [
        text for text in dict.fromkeys(marked) if text != made["problem"]
    ]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[",
        "1",
        "{'a': 1}",
        "[1, None]",
        "__import__('os').system('touch owned')",
        "[open('x')]",
        "[" * 5000,
        "-" * 10**5,
        f"['{'x' * 10**6}']",
        "\x00",
    ],
    ids=lambda text: repr(text)[:20],
)
def test_what_is_no_list_of_texts_gives_no_wordings(text):
    assert wordings_of("Why?", text) == []
