"""All rules together keep the answer: each query here, over tables with NULLs, duplicates, and with no rows at all."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import assume, given, settings

from bourne.duck import connect
from bourne.errors import SqlError
from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.rules import optimise
from sql.rules.plans_as_sql import plan_sql
from sql.rules.random_queries import queries

TABLES = {"a": {"x": "integer", "y": "integer", "z": "varchar"}, "b": {"k": "integer", "v": "integer", "w": "varchar"},
          "d": {"p": "integer", "q": "integer", "l": "integer[]"}}  # fmt: skip

RELATIONS = {name: declare_schema(columns, where=name) for name, columns in TABLES.items()}

QUERIES = [
    line for line in Path(__file__).with_name("queries.sql").read_text("utf-8").splitlines()
    if line and not line.startswith("--")
]  # fmt: skip

VALUES = {"integer": ["NULL", "0", "1", "2", "3"], "varchar": ["NULL", "''", "'u'", "'v'"],
          "integer[]": ["NULL", "[]", "[1, NULL]", "[2]"]}  # fmt: skip

SIZES = [(0, 0, 0), (5, 0, 4), (4, 6, 3), (9, 9, 9), (20, 20, 10)]


@functools.cache
def databases() -> list[duckdb.DuckDBPyConnection]:
    chance = random.Random(7)
    found = []
    for number, sizes in enumerate(SIZES):
        connection = connect()
        for (name, columns), size in zip(TABLES.items(), sizes, strict=True):
            connection.execute(
                f"CREATE TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})"
            )
            for _ in range(size):
                # In some tables nothing is NULL: then NOT IN has an answer.
                picked = [chance.choice(VALUES[kind][number % 2 :]) for kind in columns.values()]
                connection.execute(f"INSERT INTO {name} VALUES ({', '.join(picked)})")
        found.append(connection)
    return found


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> Counter[str] | str:
    """Return the rows, unordered; the kind of the error, if DuckDB answers with one."""
    try:
        return Counter(map(repr, connection.execute(sql).fetchall()))
    except duckdb.InvalidInputException:
        return "more than one row"


def check(sql: str, databases: Sequence[duckdb.DuckDBPyConnection]) -> None:
    """Compare DuckDB's answer with that of the optimised plan."""
    query = bind(sql, RELATIONS)
    better = optimise(query.plan)
    assert better.types == query.plan.types
    rendered = plan_sql(better)
    for connection in databases:
        expected = answer(connection, sql)
        if isinstance(expected, Counter):  # a single join that fails is rendered as one that does not
            assert answer(connection, rendered) == expected, rendered


@pytest.mark.parametrize("sql", QUERIES)
def test_answer_is_kept(sql: str) -> None:
    check(sql, databases())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(queries())
def test_answer_of_random_queries_is_kept(sql: str) -> None:
    try:
        bind(sql, RELATIONS)
    except SqlError:
        assume(False)
    check(sql, databases()[2:4])
