"""Rows as JSON texts, in columns: one object for each row, exactly.

A number keeps all its digits: decimals and integers are numbers of any size. Times are ISO 8601 text, those of an instant
with a zone end with Z; blobs are base64; NaN and infinities, which JSON lacks, are text. The same holds in lists, structs
and maps.
"""

from __future__ import annotations

from typing import Final

import duckdb
import pyarrow as pa

from bourne.connect.json_text import to_json
from bourne.connect.nested_json import nested_json
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
            values = nested_json(values, _scalars)
        columns.append(values)
        name = to_json(column.name)
        value = f"coalesce({_expression(f'c{number}', column.type, target)}, 'null')"
        parts.append(f"{_literal((',' if number else '') + name + ':')} || {value}")
    table = pa.table(columns, [f"c{number}" for number in range(len(columns))])
    expression = duckdb.SQLExpression(f"'{{' || {' || '.join(parts)} || '}}' AS line")
    return cursor().from_arrow(table).select(expression).to_arrow_table().column(0)


def _scalars(values: pa.Array) -> list[str]:
    """Return the values in a list, struct or map as JSON."""
    relation = cursor().from_arrow(pa.table([values], ["x"]))
    text = f"coalesce({_expression('x', str(relation.types[0]), values.type)}, 'null') AS line"
    found: list[str] = relation.select(duckdb.SQLExpression(text)).to_arrow_table().column(0).to_pylist()
    return found


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


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
