r"""Find the final answer in a response: the last `\boxed{...}` after the thinking."""

import re

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

# Escaped pairs (`\{`, `\\`) are consumed whole, so that they never count as braces. One backslash too many in front of
# `boxed` (a response written as if inside JSON) is still a box. Each branch consumes what it looks at: linear time.
_TOKEN = re.compile(r"(?P<box>\\\\?boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)


def text_after_thinking(response: str) -> str | None:
    """Return what a response says to the user.

    Args:
        response: The whole response.

    Returns:
        The text after the last `</think>`, or all of it where the response has no think block. `None` if a `<think>`
        is opened and never closed: the response was cut off while thinking, and nothing in it is an answer.
    """
    visible = response.rpartition(THINK_CLOSE)[2]
    return None if THINK_OPEN in visible else visible


def extract_answer(text: str) -> str | None:
    r"""Return the content of the last balanced `\boxed{...}` after the think block.

    Only `\boxed{...}` is an answer: `\boxed 5` and `\fbox{5}` are not, and no other part of the text is ever guessed
    at. A box that is never closed is skipped; of nested boxes the outermost counts. Takes linear time on any text.

    Args:
        text: A whole response.

    Returns:
        The content, stripped of surrounding white space and otherwise as it stands (an empty box gives `""`), or
        `None` if there is no complete box.
    """
    visible = text_after_thinking(text)
    if visible is None:
        return None
    answer: tuple[int, int] | None = None
    open_braces: list[int | None] = []  # where the content of each open box starts; None for any other brace
    for token in _TOKEN.finditer(visible):
        if token["box"]:
            open_braces.append(token.end())
        elif token["open"]:
            open_braces.append(None)
        elif token["close"] and open_braces:
            start = open_braces.pop()
            if start is not None:
                answer = (start, token.start())
    return None if answer is None else visible[slice(*answer)].strip()
