"""A row that a sink refused is the same row again, whatever its values are, and people can read its letter."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from bourne.connect.sink import Change, Shape
from bourne.schema import Column, Schema
from bourne.sink_letters import as_letters, from_letters

ODD_VALUES = {
    "bigint": "-9223372036854775808",
    "hugeint": "170141183460469231731687303715884105727",
    "decimal(38,10)": "'1234567890123456789012345678.0123456789'",
    "decimal(30,5)[]": "[1.5, NULL]",
    "varchar": "chr(0) || '한\"\\' || chr(10)",
    "blob": "'\\x00\\xff{'::BLOB",
    "blob[]": "['\\xff'::BLOB]",
    "json": "'{\"a\": 1.0e400}'",
    "date": "'infinity'",
    "date[]": "['infinity'::DATE]",
    "time": "'24:00:00'",
    "timestamp_ns": "'2020-01-01 00:00:00.123456789'",
    "interval": "INTERVAL '1 month 3 days 4 microseconds'",
    "map(varchar, double)": "map {'a': 'inf'::DOUBLE}",
}


@pytest.mark.parametrize("has_weights", [False, True])
@pytest.mark.parametrize("kind", ODD_VALUES)
def test_a_letter_says_a_row_exactly(kind, has_weights):
    schema = Schema((Column("id", "BIGINT"), Column("x", kind.upper())))
    values = f"({ODD_VALUES[kind]})::{kind}"
    found = duckdb.sql(f"SELECT 1 AS id, {values} AS x UNION ALL SELECT 2, NULL").to_arrow_table()
    rows = pa.Table.from_arrays(found.columns, schema=schema.to_arrow())
    shape = Shape("s", schema, has_weights=has_weights)
    weights = pa.array([3, -1]) if has_weights else None
    letters = as_letters(Change(rows, weights=weights), shape, view="v", before=None, reason="no")
    again = from_letters([letter.data for letter in letters], shape)
    assert again.rows.equals(rows)
    assert (again.weights is None) == (weights is None) and (weights is None or again.weights.equals(weights))
    assert letters[1].data.startswith(b'{"id": 2, "x": null')
