"""The prompts of a generation batch with its images taken out: a row names an image by a number."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from trl.data_utils import is_conversational, prepare_multimodal_messages

from ..errors import UserError

Messages = list[dict[str, Any]]
Row = dict[str, Any]


class Conversations:
    """The conversations of a process's rows, and the distinct images in them.

    A conversation is copied, compared, logged and sent to other processes as a small text, because `{"type": "image",
    "image": 3}` stands for the image itself. Images are told apart by identity: rows of one prompt hold the same
    objects.

    Args:
        rows: Rows of a dataset: `prompt`, and perhaps `images` or `image`.
        is_multimodal: Whether the model reads images; if not, rows stay as they are.

    Attributes:
        rows: The rows with numbers for images in their prompts, and without image columns.
        pictures: The distinct images.
        index: Number of each image of a row, padded by -1, shape `(B, I)`.

    Raises:
        UserError: A row has images, and a plain text as its prompt.
    """

    def __init__(self, rows: Sequence[Row], *, is_multimodal: bool) -> None:
        self.pictures: list[Any] = []
        self._numbers: dict[int, int] = {}
        self.rows = self._numbered_rows(rows) if is_multimodal else list(rows)
        self._originals = {id(own): row for own, row in zip(self.rows, rows, strict=True)}
        numbers = [self.images_of(row["prompt"]) if is_multimodal else [] for row in self.rows]
        self.index = torch.full((len(rows), max(map(len, numbers), default=0)), -1)
        for position, own in enumerate(numbers):
            self.index[position, : len(own)] = torch.tensor(own, dtype=torch.long)

    def _numbered_rows(self, rows: Sequence[Row]) -> list[Row]:
        # As TRL has it: the first row decides on the column, and prompts stay as they are where no row has an image.
        column = next((name for name in ("images", "image") if rows and name in rows[0]), None)
        images = [_images_in(row, column) for row in rows]
        takes_images = column is not None and any(own != [] for own in images)
        return [
            {
                **{name: value for name, value in row.items() if name not in ("images", "image")},
                "prompt": self._numbered_prompt(row["prompt"], own, takes_images),
            }
            for row, own in zip(rows, images, strict=True)
        ]

    def _numbered_prompt(self, prompt: str | Messages, images: list[Any] | None, takes_images: bool) -> str | Messages:
        if not is_conversational({"prompt": prompt}):
            if images:
                raise UserError(
                    f"a row has images, but its prompt is a text ({str(prompt)[:60]!r}): give the prompt as messages, "
                    'such as [{"role": "user", "content": "..."}]'
                )
            return prompt
        assert not isinstance(prompt, str)  # noqa: S101
        messages = prepare_multimodal_messages(prompt, images=images) if takes_images else prompt
        return _with_images_replaced(messages, self._number_of)

    def _number_of(self, image: Any) -> int:
        number = self._numbers.setdefault(id(image), len(self.pictures))
        if number == len(self.pictures):
            self.pictures.append(image)
        return number

    @staticmethod
    def images_of(prompt: str | Messages) -> list[int]:
        """List the numbers of a prompt's images, in order."""
        if isinstance(prompt, str):
            return []
        parts = [part for message in prompt if isinstance(message.get("content"), list) for part in message["content"]]
        return [part["image"] for part in parts if part["type"] == "image" and "image" in part]

    def with_images(self, prompt: str | Messages) -> str | Messages:
        """Put the images themselves back into a prompt."""
        if isinstance(prompt, str) or not self.pictures:
            return prompt
        return _with_images_replaced(prompt, self.pictures.__getitem__)

    def original(self, row: Row) -> Row:
        """Return the row that one of `rows` was made of."""
        return self._originals[id(row)]


def _images_in(row: Row, column: str | None) -> list[Any] | None:
    if column == "image":
        return None if row.get("image") is None else [row["image"]]
    return None if column is None else row.get("images")


def _with_images_replaced(messages: Messages, replaced: Any) -> Messages:
    return [
        {
            **message,
            "content": [
                {**part, "image": replaced(part["image"])} if part["type"] == "image" and "image" in part else part
                for part in message["content"]
            ],
        }
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def key_of(prompt: str | Messages) -> str:
    """A text that is equal for equal prompts, images being numbers."""
    return json.dumps(prompt, sort_keys=True, default=repr)
