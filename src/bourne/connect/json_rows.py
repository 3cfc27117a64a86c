"""Rows as JSON texts, in columns: one object for each row, exactly.

A number keeps all its digits: decimals and integers are numbers of any size. Times are ISO 8601 text, those of an instant
with a zone end with Z; blobs are base64; NaN and infinities, which JSON lacks, are text. Lists, structs and maps are
as `json_text` has them, or, where a date in them is beyond the year 9999, as `row_texts` has them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import duckdb
import pyarrow as pa

from bourne.connect.json_text import to_json
from bourne.connect.row_texts import text_columns
from bourne.duck import cursor
from bourne.schema import Schema, arrow_type, quote

_NUMBERS: Final = ("DECIMAL", "HUGEINT", "UHUGEINT")


def rows_as_json(rows: pa.Table, schema: Schema) -> pa.ChunkedArray:
    """Return each row as the text of a JSON object with the columns of the schema, all of which the rows have."""
    columns, parts = [], []
    for number, column in enumerate(schema.columns):
        target = arrow_type(column.type)
        values = rows.column(column.name)
        if pa.types.is_nested(target):
            values = _nested(values)
        columns.append(values)
        name = to_json(column.name)
        value = f"coalesce({_expression(f'c{number}', column.type, target)}, 'null')"
        parts.append(f"{_literal((',' if number else '') + name + ':')} || {value}")
    table = pa.table(columns, [f"c{number}" for number in range(len(columns))])
    expression = duckdb.SQLExpression(f"'{{' || {' || '.join(parts)} || '}}' AS line")
    return cursor().from_arrow(table).select(expression).to_arrow_table().column(0)


def _nested(values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        texts = [None if value is None else to_json(_plain(value)) for value in values.to_pylist()]
    except (OverflowError, ValueError):  # a date beyond Python's: as DuckDB writes it
        return text_columns(pa.table([values], ["x"]))[0]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _expression(name: str, kind: str, target: pa.DataType) -> str:
    """Return SQL for the JSON text of a column, NULL where it is NULL."""
    name = quote(name)
    types = pa.types
    if kind == "JSON" or types.is_nested(target):
        return name
    if types.is_boolean(target) or types.is_integer(target) or kind.startswith(_NUMBERS):
        return f"{name}::{kind}::VARCHAR"
    if types.is_floating(target):
        special = f"CASE WHEN isnan({name}) THEN '\"NaN\"' WHEN {name} > 0 THEN '\"Infinity\"' ELSE '\"-Infinity\"' END"
        return f"CASE WHEN {name} IS NULL THEN NULL WHEN isfinite({name}) THEN {name}::VARCHAR ELSE {special} END"
    if types.is_binary(target) or types.is_large_binary(target):
        return f"'\"' || base64({name}) || '\"'"
    if types.is_timestamp(target):
        text = f"regexp_replace({name}::VARCHAR, '^(\\S+) (\\d)', '\\1T\\2')"  # not before "(BC)"
        text = f"regexp_replace({text}, '[+]00$', 'Z')" if target.tz else text
        return f"'\"' || {text} || '\"'"
    return f"to_json({name}::VARCHAR)::VARCHAR"


def _plain(value: Any) -> Any:
    """Return a nested value as `to_json` is to write it: bytes as base64, times as ISO text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
