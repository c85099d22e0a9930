"""Free columns: one type for each, whatever the inputs hold."""

import datetime
import decimal
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .row_checks import check_encodable
from .row_error import RowError

BINARY = "binary"
"""The type of a column that holds bytes or objects with bytes, pictures for one: no type of a meta column."""


class MetaTypes:
    """Finds one column type for each column from the values seen.

    A parquet column has one type for all rows, while JSON has one per value and several inputs may disagree. Booleans,
    integers, floats and texts keep their type; integers among floats become floats; a column that is `BINARY` anywhere
    is `BINARY`; any other mixture, and lists and objects, become text (JSON for what is not text).
    """

    def __init__(self, types: Mapping[str, str] | None = None) -> None:
        # None: only nulls so far.
        self._types: dict[str, str | None] = dict(types or {})

    def see(self, record: Mapping[str, Any]) -> None:
        """Take the values of one raw record into account."""
        for name, value in record.items():
            # No column can have any other name: such a record is rejected.
            if name.isprintable():
                self._merge(name, _type_of(value))

    def update(self, others: Iterable["MetaTypes"]) -> None:
        """Take everything into account that `others` have seen."""
        for other in others:
            for name, dtype in other._types.items():
                self._merge(name, dtype)

    def as_dict(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Give the type of each column, in order of first appearance.

        Args:
            names: Columns to give, those never seen are left out; None gives all.

        Returns:
            A `datasets.Value` dtype, or `BINARY`, by column.
        """
        return {name: dtype or "string" for name, dtype in self._types.items() if names is None or name in names}

    def __len__(self) -> int:
        return len(self._types)

    def _merge(self, name: str, dtype: str | None) -> None:
        known = self._types.get(name)
        if known is None or dtype is None or known == dtype:
            self._types[name] = known or dtype
        elif BINARY in (known, dtype):
            self._types[name] = BINARY
        else:
            self._types[name] = "float64" if {known, dtype} == {"int64", "float64"} else "string"


def _type_of(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else "string"
    if isinstance(value, bytes):
        return BINARY
    return "float64" if isinstance(value, float) else "string"


def meta_value(value: Any, dtype: str, name: str, where: str) -> Any:
    """Bring a meta value into the type of its column.

    Args:
        value: The raw value.
        dtype: The column's type, from `MetaTypes`; not `BINARY`.
        name: The column, for error messages.
        where: File and row, for error messages.

    Returns:
        The value as bool, int, float or str, or None.

    Raises:
        RowError: A text that is not valid Unicode, or a value nested too deep to be written as text.
    """
    if value is None:
        return None
    if dtype == "float64":
        return float(value)
    if dtype != "string":
        return value
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | decimal.Decimal):
        return str(value)
    if not isinstance(value, str):
        try:
            # ASCII only: a lone surrogate inside becomes an escape.
            return json.dumps(value, default=str)
        except RecursionError as error:
            raise RowError("nested too deep", f"{where}: field '{name}' is nested too deep: flatten it") from error
    check_encodable(value, name, where)
    return value
