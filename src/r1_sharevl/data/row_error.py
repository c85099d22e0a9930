"""What is said about a row that cannot be used."""

from typing import Any

from ..errors import UserError


class RowError(UserError):
    """One row cannot be used; `prep` lists it in `rejected.jsonl` and goes on.

    Attributes:
        reason: The kind of fault in a few words, the same for every row that has it, so that faults can be counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, str]]:
        # The default would call RowError(message) when the error comes back from a worker process.
        return RowError, (self.reason, str(self))


def shown(value: Any, limit: int = 60) -> str:
    """Describe `value` in an error message: its type, and for texts and numbers what it says, on one short line."""
    kind = type(value).__name__
    if value is None:
        return "nothing (null)"
    if isinstance(value, int) and not -(10**limit) < value < 10**limit:
        return f"{kind} of more than {limit} digits"
    if not isinstance(value, str | int | float):
        return kind
    # Cut before repr as well: the text may be megabytes long.
    text = repr(value[: limit + 1]) if isinstance(value, str) else repr(value)
    return f"{kind} {text if len(text) <= limit else text[:limit] + '…'}"
