"""Rows as JSON texts, by DuckDB."""

from __future__ import annotations

import pyarrow as pa

from bourne.duck import cursor
from bourne.schema import Schema, cast_back


def rows_as_json(table: pa.Table, schema: Schema) -> list[str]:
    """Return each row as a JSON object. Numbers keep their digits; what JSON has not is text, as DuckDB writes it."""
    columns = ", ".join(cast_back(column) for column in schema.columns)
    with cursor() as connection:
        connection.register("given", table)
        found = connection.sql(
            f"SELECT to_json(r)::VARCHAR FROM (SELECT {columns} FROM given) AS r"
        ).fetchall()
    return [text for (text,) in found]
