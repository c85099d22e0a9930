import datetime
import decimal
import json

import pytest

from r1_sharevl.data.meta import BINARY, MetaTypes, meta_value
from r1_sharevl.data.row_error import RowError


def test_a_type_for_every_column():
    types = MetaTypes()
    for record in [
        {"a": 1, "b": None, "c": True, "d": 1, "e": "x", "f": [1], "g": None, "problem": 1},
        {"a": 2.5, "b": 3, "c": 1, "d": "x", "f": {"k": 1}, "h": 2**70, "i": b"x", "no\nname": 1},
    ]:
        types.see(record)
    assert types.as_dict() == {
        "a": "float64",
        "b": "int64",
        "c": "string",
        "d": "string",
        "e": "string",
        "f": "string",
        "g": "string",
        "problem": "int64",
        "h": "string",
        "i": BINARY,
    }
    assert len(types) == 10


def test_types_of_several_inputs():
    types = MetaTypes({"a": "int64", "b": "string", "c": "string"})
    other = MetaTypes({"b": BINARY, "a": "float64", "d": "bool"})
    other.update([types])
    assert other.as_dict() == {"b": BINARY, "a": "float64", "d": "bool", "c": "string"}
    types.update([MetaTypes({"b": BINARY})])
    assert types.as_dict() == {"a": "int64", "b": BINARY, "c": "string"}  # what `other` saw does not come back


def test_only_the_types_asked_for():
    types = MetaTypes({"a": "int64", "b": "string", "c": "bool"})
    assert list(types.as_dict(["c", "unseen", "a"]).items()) == [("a", "int64"), ("c", "bool")]
    assert types.as_dict([]) == {}


def test_values():
    assert meta_value(3, "float64", "m", "here") == 3.0
    assert meta_value(3, "int64", "m", "here") == 3
    assert meta_value("text", "string", "m", "here") == "text"
    assert meta_value(datetime.date(2025, 1, 2), "string", "m", "here") == "2025-01-02"
    assert meta_value(decimal.Decimal("1.50"), "string", "m", "here") == "1.50"
    assert json.loads(meta_value({"k": ["\ud800", 1]}, "string", "m", "here")) == {"k": ["\ud800", 1]}
    assert meta_value(None, "string", "m", "here") is None
    with pytest.raises(RowError, match="here: field 'm'"):
        meta_value("\ud800", "string", "m", "here")
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RowError, match="nested too deep"):
        meta_value(nested, "string", "m", "here")
