"""Questions given as chat messages: TRL's and ms-swift's `messages`, and ShareGPT's `conversations`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..prompts import IMAGE_MARK
from .row_error import RowError, shown

_SYSTEM = ("system", "developer")
_USER = ("user", "human")
_ASSISTANT = ("assistant", "gpt", "model")

NOT_READABLE = "conversation not readable"


@dataclass(frozen=True)
class Conversation:
    """One question and, where the conversation goes on, its answer.

    Attributes:
        problem: The user's text, with `<image>` where it has an image part. System messages are left out: the
            training prompt has its own instruction.
        images: The pictures that come inside the image parts, in order; none where the parts are mere placeholders.
        answer: The assistant's text; None where the conversation ends with the question.
    """

    problem: str
    images: tuple[Any, ...]
    answer: str | None


def is_conversation(value: Any) -> bool:
    """Tell whether a value is a list of chat messages."""
    return isinstance(value, list | tuple) and bool(value) and all(_role(item) is not None for item in value)


def ends_with_answer(value: Any) -> bool:
    """Tell whether a value is a list of chat messages that the assistant closes."""
    return is_conversation(value) and _role(value[-1]) in _ASSISTANT


def read_conversation(messages: Any, where: str) -> Conversation:
    """Read a conversation of one question.

    Args:
        messages: A list of messages, see `is_conversation`.
        where: File, row and field, for error messages.

    Raises:
        RowError: It has not exactly one user message, one of an unknown role, or one with unreadable content.
    """
    user = [message for message in messages if _role(message) in _USER]
    if unknown := [_role(message) for message in messages if _role(message) not in (*_SYSTEM, *_USER, *_ASSISTANT)]:
        raise RowError(NOT_READABLE, f"{where} has a message of role {shown(unknown[0])}: expected user and assistant")
    if len(user) != 1:
        raise RowError(
            NOT_READABLE, f"{where} has {len(user)} user messages, expected one: a question must stand alone"
        )
    problem, images = _content(user[0], where)
    answer = _content(messages[-1], where)[0] if ends_with_answer(messages) else None
    return Conversation(problem, images, answer)


def _role(message: Any) -> str | None:
    role = (message.get("role") or message.get("from")) if isinstance(message, Mapping) else None
    return role.lower() if isinstance(role, str) else None


def _content(message: Mapping[str, Any], where: str) -> tuple[str, tuple[Any, ...]]:
    content = message.get("content", message.get("value"))
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list | tuple):
        raise RowError(NOT_READABLE, f"{where} has a message with content {shown(content)}: expected text or parts")
    pieces: list[str] = []
    images: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            pieces.append(part["text"])
        elif kind in ("image", "image_url"):
            pieces.append(IMAGE_MARK)
            found = (part.get(key) for key in ("image", "image_url", "url", "path"))
            images += [value for value in found if value is not None][:1]
        else:
            raise RowError(NOT_READABLE, f"{where} has a part of type {shown(kind)}: expected text and image parts")
    return "\n".join(pieces), tuple(images)
