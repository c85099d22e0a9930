"""The questions: order, batches, groups, fingerprint, and the rows shown on pages."""

import pytest
from PIL import Image

from r1_sharevl.evaluation.questions import pick_examples, read_questions


def test_longest_first_images_included(make_rows):
    changes = {
        0: {"problem": "short", "images": []},
        1: {"problem": "short", "images": [Image.new("RGB", (560, 560))]},
        2: {"problem": "l" + "o" * 100 + "ng", "images": []},
        3: {"problem": "short", "images": []},
    }
    assert read_questions(make_rows(4, changes)).order == [1, 2, 0, 3]


@pytest.mark.parametrize(("samples", "batch_size"), [(1, 3), (4, 3), (4, 100)])
def test_batches_hold_every_response_once(make_rows, samples, batch_size):
    questions = read_questions(make_rows(7))
    batches = list(questions.batches(samples, batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    pairs = [pair for batch in batches for pair in batch]
    assert sorted(pairs) == [(row, sample) for row in range(7) for sample in range(samples)]


def test_images_come_back_as_they_were(make_rows):
    rows = make_rows(3)
    questions = read_questions(rows)
    for row in range(3):
        (image,) = questions.images(row)
        assert image.tobytes() == rows[row]["images"][0].convert("RGB").tobytes()
    assert questions.image_counts == [1, 1, 1]


@pytest.mark.parametrize("field", ["id", "problem", "answer"])
def test_fingerprint_names_the_content(make_rows, field):
    fingerprint = read_questions(make_rows(3)).fingerprint
    assert read_questions(make_rows(3)).fingerprint == fingerprint
    assert read_questions(make_rows(3, {1: {"variants": [], "source": "elsewhere"}})).fingerprint == fingerprint
    assert read_questions(make_rows(3, {1: {field: "other"}})).fingerprint != fingerprint


def test_groups_are_text_columns_with_few_values(make_rows):
    rows = make_rows(24)
    rows = rows.add_column("note", [f"note {number}" for number in range(24)])
    rows = rows.add_column("level", ["easy", "hard"] * 12).add_column("year", list(range(2)) * 12)
    questions = read_questions(rows).questions
    assert set(questions[0].groups) == {"question_type", "level"}
    assert read_questions(rows, group_by=["year"]).questions[3].groups == {"year": "1"}


def test_a_folder_and_its_rows_are_the_same_questions(prepared, make_rows):
    assert read_questions(prepared).fingerprint == read_questions(make_rows(12)).fingerprint


def test_examples_take_turns_between_groups(make_rows):
    questions = read_questions(make_rows(24)).questions
    chosen = pick_examples(questions, 8)
    assert len(set(chosen)) == 8
    kinds = [questions[position].groups["question_type"] for position in chosen]
    assert sorted(kinds[:6]) == sorted(set(kinds))
    assert sorted(pick_examples(questions[:3], 8)) == [0, 1, 2]
