"""The instruction template: a question and its images become chat messages, the same way in training and evaluation."""

from collections.abc import Sequence
from typing import Any

from .errors import UserError

IMAGE_MARK = "<image>"
"""Stands in a question's text where one of its images goes."""

DEFAULT_INSTRUCTION = (
    "First think about the problem as an inner monologue inside <think> </think> tags, then give the final answer in "
    "\\boxed{}."
)
"""Appended to every question; asks for what `format_reward` checks (the R1-ShareVL release's `format_prompt`)."""


def to_messages(problem: str, num_images: int, instruction: str = DEFAULT_INSTRUCTION) -> list[dict[str, Any]]:
    """Make the conversational prompt of one question.

    Args:
        problem: The question's text. Each `<image>` in it marks the place of one image; without any mark the images
            stand in front of the text.
        num_images: How many images the question has.
        instruction: Text appended after the question (empty for none).

    Returns:
        One user message whose content is a list of `{"type": "image"}` placeholders and `{"type": "text"}` parts,
        the form that TRL and transformers' chat templates take. `with_images` fills the placeholders.

    Raises:
        UserError: The number of marks is neither 0 nor `num_images`.
    """
    text = f"{problem.strip()}\n{instruction}" if instruction else problem.strip()
    pieces = text.split(IMAGE_MARK)
    num_marks = len(pieces) - 1
    if num_marks not in (0, num_images):
        raise UserError(
            f"the text has {num_marks} {IMAGE_MARK} marks but {num_images} images: write one mark per image, or none "
            "to put the images in front"
        )
    if num_marks == 0:
        pieces = [""] * num_images + [text]
    content: list[dict[str, Any]] = []
    for position, piece in enumerate(pieces):
        if position > 0:
            content.append({"type": "image"})
        if piece.strip():
            content.append({"type": "text", "text": piece.strip()})
    return [{"role": "user", "content": content}]


def with_images(messages: list[dict[str, Any]], images: Sequence[Any]) -> list[dict[str, Any]]:
    """Fill the image placeholders of `messages`, in order, with `images`; the input is left as it is."""
    remaining = iter(images)
    return [
        {
            **message,
            "content": [
                {**part, "image": next(remaining)} if part["type"] == "image" else part for part in message["content"]
            ],
        }
        for message in messages
    ]
