"""The built-in set: its rows, its splits, and whether the figures really show what the answers say."""

import subprocess
import sys
from collections import Counter, deque

import numpy as np
import pytest
from PIL import Image

from r1_sharevl.data import synthetic
from r1_sharevl.data.row_checks import check_row
from r1_sharevl.data.synthetic import IMAGE_SIZE, QUESTION_TYPES, chance_accuracy, reasoning, synthetic_rows
from r1_sharevl.errors import UserError
from r1_sharevl.prompts import to_messages

COUNT = 300


@pytest.fixture(scope="module")
def train():
    return list(synthetic_rows("train", COUNT, 0))


@pytest.fixture(scope="module")
def validation():
    return list(synthetic_rows("validation", 120, 0))


def of_type(rows, name):
    found = [row for row in rows if row["question_type"] == name]
    assert len(found) == len(rows) // len(QUESTION_TYPES)
    return found


def pixels(row):
    return np.asarray(row["images"][0]).astype(int)


def ink(row):
    """Everything that is not white paper."""
    return (pixels(row) < 250).any(axis=-1)


def blobs(mask):
    """Label the 4-connected components of a mask, by flooding: a list of (row, column) arrays."""
    left = mask.copy()
    found = []
    while left.any():
        start = tuple(np.argwhere(left)[0])
        left[start] = False
        queue, members = deque([start]), []
        while queue:
            y, x = queue.popleft()
            members.append((y, x))
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1] and left[near]:
                    left[near] = False
                    queue.append(near)
        found.append(np.array(members))
    return found


def test_rows_have_the_schema(train, validation):
    for row in train + validation:
        check_row(row, row["id"])
        assert row["source"] == "synthetic"
        assert row["images"][0].size == (IMAGE_SIZE, IMAGE_SIZE)
        assert row["images"][0].mode == "RGB"
    assert len({row["id"] for row in train + validation}) == len(train) + len(validation)


def test_at_least_four_honest_wordings(train):
    for row in train:
        wordings = [row["problem"], *row["variants"]]
        assert len({" ".join(wording.split()).casefold() for wording in wordings}) == len(wordings) >= 4
        options = {wording.partition("\nA. ")[2] for wording in wordings}
        assert len(options) == 1, "the options differ between wordings"
        assert bool(options.pop()) == bool(QUESTION_TYPES[row["question_type"]].options)


def test_image_marks(train):
    with_mark = 0
    for row in train:
        for wording in (row["problem"], *row["variants"]):
            content = to_messages(wording, 1)[0]["content"]
            assert [part["type"] for part in content] == ["image", "text"]
            with_mark += "<image>" in wording
    share = with_mark / sum(1 + len(row["variants"]) for row in train)
    assert 0.5 < share < 0.8


def test_option_letters_are_on_offer(train):
    for row in train:
        kind = QUESTION_TYPES[row["question_type"]]
        assert row["answer"] in kind.answers
        if kind.options:
            offered = [line[0] for line in row["problem"].splitlines() if line[1:3] == ". "]
            assert offered == list(kind.answers) == list("ABCD")
            assert f"\n{row['answer']}. {kind.options[kind.answers.index(row['answer'])]}" in row["problem"]


def test_answers_are_balanced(train):
    for name, kind in QUESTION_TYPES.items():
        counts = Counter(row["answer"] for row in of_type(train, name))
        expected = len(of_type(train, name)) * chance_accuracy(name)
        assert set(counts) == set(kind.answers)
        # Four standard deviations of a binomial count.
        assert max(abs(count - expected) for count in counts.values()) < 4 * expected**0.5


def test_the_text_tells_nothing_about_the_answer():
    answers = {}
    for row in synthetic_rows("train", 3000, 3):
        text = row["problem"].replace("<image>", "").strip()
        answers.setdefault((row["question_type"], text), Counter())[row["answer"]] += 1
    assert len(answers) == sum(len(kind.wordings) for kind in QUESTION_TYPES.values())
    for (name, _), counts in answers.items():
        # About 100 rows each: three standard deviations above chance.
        assert counts.most_common(1)[0][1] / counts.total() < chance_accuracy(name) + 0.15


def test_reasoning_names_the_answer():
    for name, kind in QUESTION_TYPES.items():
        assert len({reasoning(name, answer) for answer in kind.answers}) == len(kind.answers)
        for answer, said in zip(kind.answers, kind.options or kind.answers, strict=True):
            assert said.removesuffix(" from the left").removeprefix("the ") in reasoning(name, answer)


def symmetric_copies(image):
    yield from (image, *(image.transpose(turn) for turn in Image.Transpose))


def test_every_turned_or_mirrored_copy_of_a_figure_belongs_to_its_split(train, validation):
    for split, rows in (("train", train[:120]), ("validation", validation)):
        for row in rows:
            copies = list(symmetric_copies(row["images"][0]))
            assert len(copies) == 8
            assert {synthetic._split_of(copy) for copy in copies} == {split}


def test_no_figure_is_in_both_splits():
    training = {row["images"][0].tobytes() for row in synthetic_rows("train", 1200, 0)}
    for seed in (0, 1):
        for row in synthetic_rows("validation", 300, seed):
            assert not training & {copy.tobytes() for copy in symmetric_copies(row["images"][0])}


def test_rows_are_a_pure_function_of_split_index_and_seed(train, tmp_path):
    program = (
        "import hashlib\nfrom r1_sharevl.data.synthetic import synthetic_rows\ndigest = hashlib.sha256()\n"
        "for row in synthetic_rows('train', 60, 0):\n"
        "    digest.update(repr([row['id'], row['problem'], row['answer'], row['variants']]).encode())\n"
        "    digest.update(row['images'][0].tobytes())\nprint(digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    shorter = list(synthetic_rows("train", 60, 0))
    for row, again in zip(shorter, train, strict=False):
        assert row["images"][0].tobytes() == again["images"][0].tobytes()
        assert {**row, "images": None} == {**again, "images": None}
    other_seed = next(synthetic_rows("train", 1, 1))
    assert other_seed["images"][0].tobytes() != train[0]["images"][0].tobytes()


def test_unknown_split():
    with pytest.raises(UserError, match="no split 'test': choose one of train, validation"):
        next(synthetic_rows("test", 1, 0))


def test_count_is_the_number_of_blobs(train):
    for row in of_type(train, "count"):
        assert len(blobs(ink(row))) == int(row["answer"])


def colour_name(pixel):
    """Name a pixel of one of the four colours on offer by its bright channels."""
    return {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 0): "yellow"}[
        tuple(int(channel > 100) for channel in pixel)
    ]


def option(row):
    return QUESTION_TYPES[row["question_type"]].options["ABCD".index(row["answer"])]


def test_tallest_bar_is_the_tallest_column_of_ink(train):
    for row in of_type(train, "tallest"):
        ground = np.flatnonzero(ink(row).all(axis=1))[0]
        heights = {}
        for start in range(0, IMAGE_SIZE, 28):
            columns = ink(row)[:ground, start : start + 28].sum(axis=0)
            heights[colour_name(pixels(row)[ground - 1, start + columns.argmax()])] = columns.max()
        assert len(heights) == 4
        second, first = sorted(heights, key=heights.get)[-2:]
        assert first == option(row)
        assert heights[first] - heights[second] >= 14, "too close for a person to tell"


def test_ruler_length_from_pixels(train):
    for row in of_type(train, "ruler"):
        figure = ink(row)
        widths = figure.sum(axis=1)
        line = np.flatnonzero(widths > 90)[-1]
        ticks = np.flatnonzero(figure[line + 2])
        division = np.diff(ticks)
        assert set(division.tolist()) == {14}
        bar = np.flatnonzero(figure[: line - 3].any(axis=0))
        assert (bar[-1] - bar[0]) / 14 == int(row["answer"])
        assert {bar[0], bar[-1]} <= set(ticks.tolist()), "the bar does not begin and end at a tick"


def test_clock_hour_from_pixels(train):
    for row in of_type(train, "clock"):
        figure = ink(row)
        rim = np.argwhere(figure)
        middle = (rim.min(axis=0) + rim.max(axis=0)) / 2
        offsets = rim - middle
        distance = np.hypot(*offsets.T)
        hand = offsets[(distance > 12) & (distance < 22)].mean(axis=0)
        hour = np.degrees(np.arctan2(hand[1], -hand[0])) / 30 % 12
        assert round(hour) % 12 == int(row["answer"]) % 12
        assert abs(hour - round(hour)) < 0.25


def test_position_from_pixels(train):
    for row in of_type(train, "position"):
        places = {}
        for blob in blobs(ink(row)):
            first, last = blob.min(axis=0), blob.max(axis=0)
            fills = len(blob) / np.prod(last - first + 1)  # a circle fills pi / 4 of its box
            places["square" if fills > 0.95 else "circle" if fills < 0.9 else "unclear"] = (first + last) // 2
        assert places.keys() == {"circle", "square"}
        down, right = places["circle"] - places["square"]
        across = abs(right) > abs(down)
        assert min(abs(right), abs(down)) <= 5 < 20 <= max(abs(right), abs(down))
        side = ("left" if right < 0 else "right") if across else ("above" if down < 0 else "below")
        assert option(row) == side


def test_odd_colour_from_pixels(train):
    for row in of_type(train, "odd_colour"):
        colours = Counter()
        for blob in blobs(ink(row)):
            colours[tuple(pixels(row)[tuple(blob[len(blob) // 2])].tolist())] += 1
        (common, times), (odd, once) = colours.most_common()
        assert once == 1 < times
        assert len(set(common)) == 1, "the other dots are grey"
        assert colour_name(odd) == option(row)
