"""Rows as JSON, CSV and Arrow, as HTTP carries them.

Numbers keep all their digits; what JSON has not (dates, times, blobs, intervals) is text, as DuckDB writes it; NaN and
infinities are texts, too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import pyarrow as pa

from bourne.connect.json_text import to_json
from bourne.connect.row_texts import csv_text, json_rows
from bourne.schema import Schema

BodyFormat = Literal["json", "csv", "arrow"]

MEDIA_TYPES: Final[dict[BodyFormat, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}

# So few rows of plain types are written by Python: DuckDB would take a millisecond for its first one.
_FEW_ROWS: Final = 64


def rows_json(table: pa.Table, json_columns: Collection[str] = ()) -> list[str]:
    """Return each row as a JSON object; `json_columns` hold JSON already."""
    if table.num_rows <= _FEW_ROWS and not json_columns and all(map(_is_plain, table.schema.types)):
        return [to_json(row) for row in table.to_pylist()]
    return list(json_rows(table, json_columns=json_columns))


def json_columns(schema: Schema) -> frozenset[str]:
    """Return the columns whose values are JSON already."""
    return frozenset(column.name for column in schema.columns if column.type == "JSON")


def columns_json(schema: Schema, names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return what there is to say of some columns, in that order, or of all."""
    types = {column.name: column.type for column in schema.columns}
    return [{"name": name, "type": types[name]} for name in names or types if name in types]


def table_body(table: pa.Table, kind: Literal["csv", "arrow"], types: Sequence[str]) -> Iterator[bytes]:
    """Yield a table as CSV or as an Arrow IPC stream, whose metadata says the SQL types: Arrow has no HUGEINT."""
    if kind == "csv":
        for text in csv_text(table):
            yield text.encode()
        return
    table = table.replace_schema_metadata({"bourne.types": json.dumps(types)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    yield sink.getvalue()


def json_body(head: dict[str, Any], rows: list[str]) -> bytes:
    """Return an object of some members and the rows."""
    start = json.dumps(head, ensure_ascii=False)[:-1]
    return f'{start}{", " if head else ""}"rows": [{", ".join(rows)}]}}'.encode()


def _is_plain(kind: pa.DataType) -> bool:
    """Say whether Python's own values of a type are written as DuckDB writes them."""
    types = pa.types
    return bool(
        types.is_integer(kind) or types.is_string(kind) or types.is_boolean(kind) or types.is_float64(kind)
        or types.is_float32(kind) or types.is_decimal128(kind)
    )  # fmt: skip
