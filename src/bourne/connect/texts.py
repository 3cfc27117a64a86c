"""Texts, such as CSV fields, as values: exactly or not at all, as `bourne.values` has it.

Law: a text is taken for a number if it says that number. For a binary floating-point number that is: printed with as
many digits, it is that text again, so 0.1 and what any program prints for a double are taken, and 9007199254740993,
which a double cannot be, is not. A text that cannot be read stays a text, which `conform` refuses by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.json_text import to_json
from bourne.connect.plain_texts import is_float, read_plain_array
from bourne.duck import cursor
from bourne.schema import Column, arrow_type
from bourne.values import MISFITS, fit_objects

_INTEGER = r"^[+-]?[0-9]+$"
_FLOAT = r"(?i)^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)$"

_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}

# Every number of so many characters has at most 15 digits, which a double always holds.
_SAFE_CHARS = 15


def read_texts(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """Return texts as values that `conform` fits into the column; as they are if one cannot be read.

    White space around is dropped and an empty text is NULL, but for VARCHAR and BLOB. Lists, structs and maps are
    JSON; a blob is written as DuckDB does.
    """
    if column.type == "VARCHAR":
        return values
    plain = None if column.type == "BLOB" else read_plain_array(values, column.type, empty_is_null=True)
    if plain is not None:
        return pa.chunked_array([plain])
    texts = values
    if column.type != "BLOB":
        trimmed = pc.utf8_trim_whitespace(values)
        texts = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return _read(texts, arrow_type(column.type), column.type)
    except MISFITS:
        return texts


def _read(texts: pa.ChunkedArray, target: pa.DataType, spelled: str) -> pa.ChunkedArray:
    types = pa.types
    if types.is_integer(target):
        _check(texts, _INTEGER)
        return pc.replace_substring_regex(texts, r"^\+", "").cast(target)
    if types.is_floating(target):
        return _read_floats(texts)
    if types.is_boolean(target):
        folded = pc.utf8_lower(texts)
        known = pa.array([*_BOOLEANS, None])
        if not pc.all(pc.is_in(folded, known), min_count=0).as_py():
            raise ValueError("not a boolean")
        return pc.take(pa.array([*_BOOLEANS.values(), None]), pc.index_in(folded, known))
    if types.is_nested(target):
        return fit_objects(
            [None if text is None else json.loads(text) for text in texts.to_pylist()], target, spelled
        )
    if (
        types.is_string(target)
        or types.is_decimal(target)
        or (types.is_temporal(target) and spelled != "INTERVAL")
    ):
        return texts  # `conform` reads these itself
    relation = cursor().from_arrow(pa.table({"x": texts}))
    return relation.select(duckdb.SQLExpression(f"x::{spelled} AS x")).to_arrow_table().column(0)


def _check(texts: pa.ChunkedArray, pattern: str) -> None:
    if not pc.all(pc.match_substring_regex(texts, pattern), min_count=0).as_py():
        raise ValueError("not a number")


def _read_floats(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    _check(texts, _FLOAT)
    numbers = pc.replace_substring_regex(texts, r"^\+", "").cast(pa.float64())
    is_extreme = pc.or_(pc.is_inf(numbers), pc.less(pc.abs(numbers), 1e-300))
    is_long = pc.greater(pc.utf8_length(texts), _SAFE_CHARS)
    is_shortest = pc.equal(numbers.cast(pa.string()), texts)  # of those that are long, most
    doubtful = pc.or_(pc.and_not(is_long, is_shortest), is_extreme)
    if not all(map(is_float, texts.filter(doubtful).to_pylist())):
        raise ValueError("a double cannot be that number")
    return numbers


def _read_json_float(value: Any) -> Any:
    if isinstance(value, Decimal) and is_float(value):
        return float(value)
    return _SPECIAL.get(value, value) if isinstance(value, str) else value


def _read_json_blob(value: Any) -> Any:
    try:
        return cursor().execute("SELECT CAST(? AS BLOB)", [value]).fetchall()[0][0]
    except duckdb.Error:
        return value


_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# How a value that came as JSON is read for a column, where `conform` would not take it as it is.
JSON_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "DOUBLE": _read_json_float,
    "FLOAT": _read_json_float,
    "BLOB": _read_json_blob,
    "JSON": to_json,
}
