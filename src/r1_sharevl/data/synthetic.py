"""The built-in question set: small figures drawn by code, with several wordings of each question.

Every row is a pure function of (split, index, seed). A figure's pixels decide its split, so a validation figure never
occurs in training, not even rotated or mirrored (the online image transforms make such copies).
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

from PIL import Image, ImageDraw

from ..errors import UserError
from ..prompts import IMAGE_MARK

IMAGE_SIZE = 112
"""Side of every figure in pixels: 16 image tokens of a Qwen2.5-VL (patches of 14 pixels, 2 × 2 of them merged)."""

SPLITS = ("train", "validation")

_CELL = 28  # objects stand in a grid of 4 × 4 cells
_NUM_CELLS = IMAGE_SIZE // _CELL
_UNIT = 14  # one division of the ruler
_VALIDATION_SHARE = 4  # one figure in so many belongs to the validation split

_COLOURS = {
    "red": (230, 20, 20),
    "green": (0, 170, 30),
    "blue": (20, 40, 230),
    "yellow": (255, 205, 0),
    "purple": (150, 40, 190),
    "black": (30, 30, 30),
}
_CHOICES = ("red", "green", "blue", "yellow")
_GREYS = ((140, 140, 140), (180, 180, 180))
_PAPER = (255, 255, 255)
_INK = (60, 60, 60)


@dataclass(frozen=True)
class QuestionType:
    """One kind of question about one kind of figure.

    Attributes:
        draw: Draws a figure that answers `answer`, with all else chosen by the random generator.
        wordings: Ways to ask it, all of equal meaning.
        answers: Every possible answer, all equally frequent.
        options: The text of each option, in the order of `answers`; empty for a free-form answer.
        reasons: One short sentence per answer, the reasoning that leads to it.
    """

    draw: Callable[[random.Random, str], Image.Image]
    wordings: tuple[str, ...]
    answers: tuple[str, ...]
    reasons: tuple[str, ...]
    options: tuple[str, ...] = ()


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), _PAPER)
    return image, ImageDraw.Draw(image)


def _cells(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Centres in pixels of `count` different cells, each moved a little; figures drawn there never touch."""
    chosen = rng.sample(range(_NUM_CELLS**2), count)
    return [_centre(rng, cell % _NUM_CELLS, cell // _NUM_CELLS) for cell in chosen]


def _centre(rng: random.Random, column: int, row: int) -> tuple[int, int]:
    return tuple(_CELL * place + _CELL // 2 + rng.randint(-2, 2) for place in (column, row))  # type: ignore[return-value]


def _box(centre: tuple[int, int], radius: int) -> tuple[int, int, int, int]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _draw_count(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    colour = _COLOURS[rng.choice(list(_COLOURS))]
    for centre in _cells(rng, int(answer)):
        pen.ellipse(_box(centre, rng.randint(7, 10)), fill=colour)
    return image


def _draw_odd_colour(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    common = rng.choice(_GREYS)
    for place, centre in enumerate(_cells(rng, rng.randint(3, 7))):
        colour = _COLOURS[_CHOICES["ABCD".index(answer)]] if place == 0 else common
        pen.ellipse(_box(centre, rng.randint(8, 10)), fill=colour)
    return image


def _draw_position(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    near, far = sorted(rng.sample(range(_NUM_CELLS), 2))
    line = rng.randrange(_NUM_CELLS)
    circle, square = ((near, line), (far, line)) if answer in "AB" else ((line, near), (line, far))
    if answer in "BD":
        circle, square = square, circle
    pen.ellipse(_box(_centre(rng, *circle), rng.randint(8, 10)), fill=_COLOURS["red"])
    pen.rectangle(_box(_centre(rng, *square), rng.randint(7, 9)), fill=_COLOURS["blue"])
    return image


def _draw_tallest(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    ground = IMAGE_SIZE - rng.randint(6, 10)
    tallest = rng.randint(70, 96)
    for place, name in enumerate(rng.sample(_CHOICES, len(_CHOICES))):
        height = tallest if name == _CHOICES["ABCD".index(answer)] else rng.randint(14, tallest - 20)
        left = _CELL * place + rng.randint(3, 8)
        pen.rectangle((left, ground - height + 1, left + 17, ground), fill=_COLOURS[name])
    pen.line((0, ground + 1, IMAGE_SIZE, ground + 1), fill=_INK, width=2)
    return image


def _draw_ruler(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    length = int(answer)
    margin = _UNIT // 2
    divisions = IMAGE_SIZE // _UNIT - 1
    ruler = rng.randint(50, 100)
    pen.line((margin, ruler, IMAGE_SIZE - margin, ruler), fill=_INK, width=2)
    for division in range(divisions + 1):
        across = margin + _UNIT * division
        pen.line((across, ruler, across, ruler + 7), fill=_INK, width=1)
    left = margin + _UNIT * rng.randint(0, divisions - length)
    bottom = ruler - rng.randint(3, 8)
    colour = _COLOURS[rng.choice(list(_COLOURS))]
    pen.rectangle((left, bottom - rng.randint(9, 20), left + _UNIT * length, bottom), fill=colour)
    return image


def _draw_clock(rng: random.Random, answer: str) -> Image.Image:
    image, pen = _canvas()
    middle = IMAGE_SIZE // 2 + rng.randint(-3, 3), IMAGE_SIZE // 2 + rng.randint(-3, 3)
    radius = rng.randint(44, 50)
    pen.ellipse(_box(middle, radius), outline=_INK, width=2)

    def at(hour: int, distance: float) -> tuple[float, float]:
        angle = pi * hour / 6
        return middle[0] + distance * sin(angle), middle[1] - distance * cos(angle)

    for hour in range(12):
        pen.line((*at(hour, radius - (9 if hour % 3 == 0 else 5)), *at(hour, radius)), fill=_INK, width=2)
    colour = _COLOURS[rng.choice(list(_COLOURS))]
    pen.line((*middle, *at(int(answer), rng.uniform(0.6, 0.75) * radius)), fill=colour, width=6)
    pen.ellipse(_box(middle, 4), fill=_INK)
    return image


def _numbers(first: int, last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, last + 1))


QUESTION_TYPES: dict[str, QuestionType] = {
    "count": QuestionType(
        draw=_draw_count,
        wordings=(
            "How many dots are in the picture?",
            "Count the dots in the image. How many are there?",
            "What is the number of dots shown?",
            "Find out how many dots the figure has.",
            "The figure shows some dots. Give their number.",
        ),
        answers=_numbers(1, 6),
        reasons=tuple(f"I count {number} dots." for number in _numbers(1, 6)),
    ),
    "ruler": QuestionType(
        draw=_draw_ruler,
        wordings=(
            "How many divisions of the ruler long is the bar?",
            "Read the length of the bar from the ruler, in divisions.",
            "What is the length of the bar, measured in divisions of the ruler?",
            "The bar lies along a ruler. How many divisions does it span?",
            "Measure the bar with the ruler below it and give its length in divisions.",
        ),
        answers=_numbers(1, 6),
        reasons=tuple(f"The bar spans {number}." for number in _numbers(1, 6)),
    ),
    "clock": QuestionType(
        draw=_draw_clock,
        wordings=(
            "Which hour does the hand of the clock point to?",
            "The clock has one hand. What hour does it show?",
            "Read the clock: at which hour is its only hand?",
            "To what hour from 1 to 12 is the hand of the clock turned?",
            "What hour is the single hand on this clock pointing at?",
        ),
        answers=_numbers(1, 12),
        reasons=tuple(f"The hand is at {number}." for number in _numbers(1, 12)),
    ),
    "tallest": QuestionType(
        draw=_draw_tallest,
        wordings=(
            "What is the colour of the tallest bar?",
            "Which of the four bars has the greatest height?",
            "Find the highest bar of the chart and name its colour.",
            "One bar is taller than all others. Which one?",
            "Compare the bars. Which colour reaches highest?",
        ),
        answers=("A", "B", "C", "D"),
        options=_CHOICES,
        reasons=tuple(f"The tallest is {colour}." for colour in _CHOICES),
    ),
    "position": QuestionType(
        draw=_draw_position,
        wordings=(
            "Where is the circle, seen from the square?",
            "On which side of the square is the circle?",
            "In which direction must one go from the square to reach the circle?",
            "Looking from the square, where does the circle lie?",
            "What is the position of the circle relative to the square?",
        ),
        answers=("A", "B", "C", "D"),
        options=("left", "right", "above", "below"),
        reasons=tuple(f"The circle is {side}." for side in ("left", "right", "above", "below")),
    ),
    "odd_colour": QuestionType(
        draw=_draw_odd_colour,
        wordings=(
            "One dot differs in colour from all others. What is its colour?",
            "What colour is the dot that does not match the rest?",
            "All dots but one have the same colour. Which colour has that one?",
            "Find the odd dot out and name its colour.",
            "Which colour occurs only once among the dots?",
        ),
        answers=("A", "B", "C", "D"),
        options=_CHOICES,
        reasons=tuple(f"The odd one is {colour}." for colour in _CHOICES),
    ),
}


def synthetic_rows(split: str, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Draw the first `count` rows of a split.

    Args:
        split: `train` or `validation`.
        count: How many rows. The question types take turns, so a multiple of six has equally many of each.
        seed: Seeds everything; rows of different seeds have different figures, and the splits stay apart across seeds.

    Yields:
        Rows of the prepared schema (`id`, `problem`, `images`, `answer`, `variants`, `source`) and the meta column
        `question_type`, a key of `QUESTION_TYPES`.

    Raises:
        UserError: There is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"the built-in set has no split {split!r}: choose one of {', '.join(SPLITS)}")
    for index in range(count):
        yield _row(split, index, seed)


def chance_accuracy(question_type: str) -> float:
    """Expected accuracy of guessing: one over the number of answers, which are all equally frequent."""
    return 1 / len(QUESTION_TYPES[question_type].answers)


def reasoning(question_type: str, answer: str) -> str:
    """The short reasoning, one sentence, that ends at `answer` (one of the type's answers, right or wrong)."""
    kind = QUESTION_TYPES[question_type]
    return kind.reasons[kind.answers.index(answer)]


def _row(split: str, index: int, seed: int) -> dict[str, Any]:
    names = list(QUESTION_TYPES)
    name = names[index % len(names)]
    kind = QUESTION_TYPES[name]
    rng = random.Random(f"{seed}/{split}/{index}")
    answer = rng.choice(kind.answers)
    image = kind.draw(rng, answer)
    while _split_of(image) != split:
        image = kind.draw(rng, answer)
    options = "".join(f"\n{letter}. {text}" for letter, text in zip("ABCD", kind.options, strict=False))
    mark = rng.choice((f"{IMAGE_MARK}\n", f"{IMAGE_MARK} ", ""))
    wordings = [mark + wording + options for wording in rng.sample(kind.wordings, len(kind.wordings))]
    return {
        "id": f"{split}-{seed}-{index:06d}",
        "problem": wordings[0],
        "images": [image],
        "answer": answer,
        "variants": wordings[1:],
        "source": "synthetic",
        "question_type": name,
    }


def _split_of(image: Image.Image) -> str:
    """The split a figure belongs to, decided by a hash of its pixels that rotating and mirroring leave unchanged."""
    turns = [image, *(image.transpose(turn) for turn in Image.Transpose)]
    digest = hashlib.sha256(min(turn.tobytes() for turn in turns)).digest()
    return "validation" if digest[0] % _VALIDATION_SHARE == 0 else "train"
