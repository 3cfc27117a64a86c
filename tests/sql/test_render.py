"""What is read from DuckDB's plan and rendered again means the same: same type, same value, for every expression here."""

from __future__ import annotations

import functools
from pathlib import Path

import duckdb
import pytest

from bourne.duck import connect
from bourne.errors import NotMaintainable
from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.plan import Get, Project
from bourne.sql.render import render

COLUMNS = {"i": "integer", "big": "bigint", "u": "ubigint", "h": "hugeint", "n": "decimal(9,2)", "m": "decimal(18,3)",
           "w": "decimal(30,4)", "f": "float", "d": "double", "b": "boolean", "s": "varchar", "bl": "blob",
           "day": "date", "tm": "time", "ts": "timestamp", "tz": "timestamptz", "uu": "uuid", "j": "json",
           "l": "integer[]", "st": "struct(a integer, b varchar)", "mp": "map(varchar, integer)"}  # fmt: skip

ROWS = """
(1, 10, 18446744073709551615, -5, 1.25, -2.5, 12345678901234567890.1234, 1.5, -0.0, true, 'abc', '\\x00a', '2020-02-29',
 '01:02:03.5', '2020-01-01 10:11:12.131415', '2020-01-01 10:11:12+00', '00000000-0000-0000-0000-000000000001',
 '{"a": [1, {"b": "é"}]}', [3, NULL, 1], {'a': 1, 'b': 'x'}, MAP {'k': 1}),
(-7, -9223372036854775808, 0, 1000000000000000000000000000000, -9999999.99, 0, -1, 'nan', 'inf', false, 'É한', '', '1969-12-31',
 '23:59:59', '1969-12-31 23:59:59', '1969-12-31 23:59:59+00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[1]', [], {'a': NULL, 'b': ''}, MAP {}),
(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""

EXPRESSIONS = [line for line in Path(__file__).with_name("expressions.sql").read_text("utf-8").splitlines()
               if line and not line.startswith("--")]  # fmt: skip


@functools.cache
def database() -> duckdb.DuckDBPyConnection:
    connection = connect()
    columns = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE t ({columns})")
    connection.execute(f"INSERT INTO t VALUES {ROWS}")
    return connection


def test_there_are_many() -> None:
    assert len(EXPRESSIONS) >= 150
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression_comes_back_the_same(text: str) -> None:
    query = bind(f"SELECT {text} AS x FROM t", {"t": declare_schema(COLUMNS, where="t")})
    plan = query.plan
    assert isinstance(plan, Project)
    assert isinstance(plan.child, Get)
    names = plan.child.columns
    rendered = render(plan.expressions[0], lambda index: f'"{names[index]}"')
    assert query.schema.columns[0].type == plan.types[0]
    sql = "SELECT typeof(x), x::VARCHAR FROM (SELECT {} AS x FROM t)"
    try:
        expected = database().execute(sql.format(text)).fetchall()
    except duckdb.Error:
        with pytest.raises(duckdb.Error):
            database().execute(sql.format(rendered)).fetchall()
        return
    assert database().execute(sql.format(rendered)).fetchall() == expected


@pytest.mark.parametrize("text", ["'nan'::DOUBLE + 1", "s::ENUM('abc')", "s COLLATE NOCASE || 'x'"])  # fmt: skip
def test_what_cannot_be_written_exactly_is_refused(text: str) -> None:
    with pytest.raises(NotMaintainable):
        bind(f"SELECT {text} AS x FROM t", {"t": declare_schema(COLUMNS, where="t")})
