"""What is kept of a row that cannot be used."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used.

    Attributes:
        id: The row's id, None where it could not be read.
        where: File and row.
        reason: The kind of fault, the same for all rows that have it.
        detail: One line: where, what was found and what to do.
    """

    id: str | None
    where: str
    reason: str
    detail: str
