r"""Answers that list several things: `1, 2`, `[1, 2]`, `(1, 2)`, `\{1, 2\}`, `red and blue`."""

import re
from dataclasses import dataclass

_BRACKETS = {"[": "]", "(": ")", "\\{": "\\}"}
_CONNECTIVE = re.compile(r"\s*,?\s+(?:and|or)\s+")
_OPENING = re.compile(r"\\\{|[(\[{]")
_CLOSING = re.compile(r"\\\}|[)\]}]")
_PIECE = re.compile(r"\\[{}]|[(\[{)\]}]|,")


@dataclass(frozen=True, slots=True)
class Enumeration:
    """The elements of a list, set, tuple, interval or bare enumeration, as they are written."""

    brackets: str
    """`[]`, `()`, `[)`, `(]`, or `{}` for a set; empty for a bare enumeration."""
    elements: tuple[str, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether the order counts: in everything with brackets except a set."""
        return self.brackets not in ("", "{}")


def parse_enumeration(text: str) -> Enumeration | None:
    """Read a normalised text as an enumeration.

    Args:
        text: The text. Its elements stand between commas, or between "and" or "or" outside all brackets. Where some
            comma has a space behind it, a comma inside a number (`1,000, 2,000`) separates thousands.

    Returns:
        The enumeration, or `None` if `text` has no brackets around it and fewer than two elements.
    """
    brackets, inner = _split_brackets(text)
    if not brackets:
        inner = _CONNECTIVE.sub(", ", inner)
    elements = _split(inner, ", " in inner)
    if elements is None or (not brackets and len(elements) < 2) or not all(elements):
        return None
    return Enumeration(brackets, tuple(elements))


def _split_brackets(text: str) -> tuple[str, str]:
    opening = "\\{" if text.startswith("\\{") else text[:1]
    closing = "\\}" if text.endswith("\\}") else text[-1:]
    if opening in _BRACKETS and closing in _BRACKETS.values() and len(text) >= len(opening) + len(closing):
        is_set = opening == "\\{"
        inner = text[len(opening) : -len(closing)]
        if is_set == (closing == "\\}") and _is_balanced(inner):
            return ("{}" if is_set else opening + closing), inner
    return "", text


def _is_balanced(text: str) -> bool:
    depth = 0
    for piece in _PIECE.finditer(text):
        depth += (_OPENING.fullmatch(piece[0]) is not None) - (_CLOSING.fullmatch(piece[0]) is not None)
        if depth < 0:
            return False
    return depth == 0


def _split(text: str, has_spaced_commas: bool) -> list[str] | None:
    """Split at the commas outside all brackets; `None` if the brackets do not match."""
    elements, start, depth = [], 0, 0
    for piece in _PIECE.finditer(text):
        if piece[0] != ",":
            depth += 1 if _OPENING.fullmatch(piece[0]) else -1
            if depth < 0:
                return None
        elif depth == 0 and not (has_spaced_commas and _is_thousands_comma(text, piece.start())):
            elements.append(text[start : piece.start()].strip())
            start = piece.end()
    if depth != 0:
        return None
    return [*elements, text[start:].strip()]


def _is_thousands_comma(text: str, position: int) -> bool:
    behind = text[position + 1 : position + 5]
    return (
        text[position - 1 : position].isdigit()
        and behind[:3].isdigit()
        and len(behind) >= 3
        and not behind[3:].isdigit()
    )
