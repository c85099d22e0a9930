"""The text of a completion, in either of the forms TRL hands to reward functions."""

from collections.abc import Mapping, Sequence
from typing import Any

Completion = str | Sequence[Mapping[str, Any]]
"""A plain string, or a conversation's list of messages `{"role": ..., "content": ...}`."""


def completion_text(completion: Completion) -> str:
    """Return the text of a completion's last message.

    Args:
        completion: A string, or messages whose `content` is a string or a list of `{"type": "text", "text": ...}`
            parts.

    Returns:
        The text; empty if there is no message or it has no text.
    """
    if isinstance(completion, str):
        return completion
    if not completion:
        return ""
    content = completion[-1].get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")
