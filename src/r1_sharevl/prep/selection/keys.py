"""What a question is recognised by: made in worker processes, small, and enough to find its duplicates."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image

from ...data.images import open_image
from ...rewards.comparison import can_be_scored, same_plain
from ...rewards.options import parse_options, same_choice
from .pictures import PictureKey, picture_key, pixel_digest
from .texts import exact_form, near_hash, text_tokens


@dataclass(frozen=True)
class QuestionKeys:
    """What a question is recognised by; about 1 kB for a figure, 6 kB for a photo.

    Attributes:
        exact: For each distinct text (the problem and its wordings), a hash of it with the pixels of all images.
        near: For each distinct text, a hash of what nearly equal texts have in common (`texts.near_hash`).
        pictures: What each image is compared by, in order.
        answer: The answer; an option's letter where the problem has options and the answer is one of them.
    """

    exact: tuple[bytes, ...]
    near: tuple[int, ...]
    pictures: tuple[PictureKey, ...]
    answer: str


def question_keys(
    problem: str, wordings: Sequence[str], images: Sequence[bytes | PIL.Image.Image], answer: str
) -> QuestionKeys:
    """Make the keys of a question.

    Args:
        problem: The question's text.
        wordings: Other wordings of it.
        images: Its images in order, encoded or decoded.
        answer: The right answer; empty where it is not known.

    Returns:
        The keys.

    Raises:
        RowError: An image cannot be decoded.
    """
    pictures = [open_image(image, f"image {number}") for number, image in enumerate(images, start=1)]
    pixels = b"".join(pixel_digest(picture) for picture in pictures)
    texts = [text_tokens(text, len(images)) for text in (problem, *wordings)]
    exact = [
        hashlib.blake2b(pixels + exact_form(tokens).encode(errors="surrogatepass"), digest_size=16).digest()
        for tokens in texts
    ]
    return QuestionKeys(
        exact=tuple(dict.fromkeys(exact)),
        near=tuple(dict.fromkeys(near_hash(tokens) for tokens in texts)),
        pictures=tuple(picture_key(picture) for picture in pictures),
        answer=_plain_answer(answer, problem),
    )


def _plain_answer(answer: str, problem: str) -> str:
    """Give an option's letter in place of its text, so that rows that write either agree."""
    if not can_be_scored(answer):
        return answer
    options = parse_options(problem)
    return next((label for label in options if same_choice(label, answer, options, same_plain)), answer)
