"""What a plan means, said in SQL again by `render_plan`, is what the query means: the binder has no engine to hide behind.

The queries are in `meaning.sql`, one a line. They run over small random tables with NULLs and duplicates.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from bourne.duck import connect
from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.render import render_plan

RELATIONS = {
    name: declare_schema(columns, where=name)
    for name, columns in {
        "a": {"id": "integer", "k": "integer", "v": "integer", "s": "varchar", "d": "double", "at": "timestamp",
              "l": "integer[]", "n": "decimal(9,2)"},
        "b": {"id": "integer", "k": "integer", "w": "integer", "t": "varchar"},
        "customer": {"ck": "integer", "name": "varchar", "nation": "integer", "segment": "varchar",
                     "balance": "decimal(9,2)"},
        "orders": {"ok": "integer", "ck": "integer", "at": "date", "priority": "varchar"},
        "lineitem": {"ok": "integer", "pk": "integer", "sk": "integer", "quantity": "integer",
                     "price": "decimal(9,2)", "discount": "decimal(4,2)", "ship": "date", "flag": "varchar"},
        "part": {"pk": "integer", "brand": "varchar", "size": "integer", "kind": "varchar"},
        "supplier": {"sk": "integer", "name": "varchar", "nation": "integer"},
        "nation": {"nk": "integer", "name": "varchar", "region": "varchar"},
    }.items()
}  # fmt: skip

QUERIES = [line for line in Path(__file__).with_name("meaning.sql").read_text("utf-8").splitlines()
           if line and not line.startswith("--")]  # fmt: skip

SIZES = (0, 1, 7, 25)


def _value(kind: str, chance: random.Random) -> Any:
    if chance.random() < 0.15:
        return None
    number = chance.randrange(1, 6)
    match kind:
        case "VARCHAR":
            return chance.choice(["x", "y", "f", "u", "p", "xa"])
        case "DOUBLE":
            return number / 4
        case "TIMESTAMP" | "DATE":
            day = datetime(2020, 1, 1) + timedelta(days=number, minutes=20 * number)
            return day if kind == "TIMESTAMP" else day.date()
        case "INTEGER[]":
            return [_value("INTEGER", chance) for _ in range(chance.randrange(4))]
        case "INTEGER":
            return number
    return Decimal(number) / 2


@functools.cache
def database(size: int) -> duckdb.DuckDBPyConnection:
    """Return DuckDB with random rows in each table; `id` is unique."""
    chance = random.Random(size)
    connection = connect()
    for name, schema in RELATIONS.items():
        columns = ", ".join(f'"{column.name}" {column.type}' for column in schema.columns)
        connection.execute(f"CREATE TABLE {name} ({columns})")
        for number in range(size):
            row = [
                number if column.name == "id" else _value(column.type, chance) for column in schema.columns
            ]
            marks = ", ".join("?" for _ in row)
            connection.execute(f"INSERT INTO {name} VALUES ({marks})", row)
    return connection


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Counter[str] | str:
    """Return the rows with how often they are there, or of which kind the error is."""
    try:
        table: pa.Table = connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        return type(error).__name__
    names = [f"c{index}" for index in range(table.num_columns)]
    types = [str(field.type) for field in table.schema]
    found = table.rename_columns(names).to_pylist()
    return Counter(repr([types, [_rounded(row[name]) for name in names]]) for row in found)


def _rounded(value: Any) -> Any:
    """Sums of floating-point numbers depend on the order in their last digits."""
    return float(f"{value:.9g}") if isinstance(value, float) and math.isfinite(value) else value


@pytest.mark.parametrize("sql", QUERIES)
def test_plan_means_the_query(sql: str) -> None:
    query = bind(sql, RELATIONS)
    text = render_plan(query.plan)
    for size in SIZES:
        assert _rows(database(size), text) == _rows(database(size), query.sql), (size, text)


def test_there_are_many() -> None:
    assert len(QUERIES) >= 150
    assert len(set(QUERIES)) == len(QUERIES)


def test_the_tables_make_a_difference() -> None:
    """Nearly every query has rows to get wrong."""
    full = [sql for sql in QUERIES if _rows(database(25), sql)]
    assert len(full) >= 0.95 * len(QUERIES)


# What SQL leaves open: (query, what holds of every answer that it may have).
OPEN = {
    "SELECT k, any_value(v) AS x FROM a GROUP BY k": "SELECT k, x FROM answer WHERE NOT EXISTS (SELECT 1 FROM a WHERE a.k IS NOT DISTINCT FROM answer.k AND a.v IS NOT DISTINCT FROM answer.x)",
    "SELECT k, arg_max(s, v) AS x FROM a WHERE s IS NOT NULL GROUP BY k": "SELECT k, x FROM answer WHERE x IS NOT NULL AND NOT EXISTS (SELECT 1 FROM a WHERE a.k IS NOT DISTINCT FROM answer.k AND a.s = x AND a.v = (SELECT max(v) FROM a AS c WHERE c.s IS NOT NULL AND c.k IS NOT DISTINCT FROM answer.k))",
    "SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY v) AS x FROM a": "SELECT * FROM answer JOIN a USING (id) JOIN answer AS other ON other.k IS NOT DISTINCT FROM a.k AND other.x = answer.x + 1 JOIN a AS later ON later.id = other.id WHERE later.v < a.v",
    "SELECT id, k, v FROM a ORDER BY v LIMIT 5": "SELECT * FROM a WHERE v < (SELECT max(v) FROM answer) AND id NOT IN (SELECT id FROM answer)",
}  # fmt: skip


@pytest.mark.parametrize("sql", OPEN)
def test_an_answer_that_sql_leaves_open_is_one_of_the_possible_and_the_same_for_every_order_of_rows(
    sql: str,
) -> None:
    text = render_plan(bind(sql, RELATIONS).plan)
    names = [column.name for column in bind(sql, RELATIONS).schema.columns]
    renamed = ", ".join(f"c{i} AS {name}" for i, name in enumerate(names))
    answers = []
    for order in itertools.islice(itertools.permutations(["id", "v", "hash(id)", "-id"]), 6):
        with database(25).cursor() as connection:
            connection.execute("CREATE TEMP TABLE copy AS SELECT * FROM a ORDER BY " + ", ".join(order))
            own = text.replace('FROM "a"', "FROM copy")
            answers.append(_rows(connection, own))
            connection.execute(f"CREATE TEMP TABLE answer AS SELECT {renamed} FROM ({own})")
            assert connection.execute(OPEN[sql]).fetchall() == []
    assert all(answer == answers[0] for answer in answers)
