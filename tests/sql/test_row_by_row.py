"""SQL of a chunk step: what looks at several rows is refused; what is accepted says the same however the rows are cut."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.errors import SqlError
from bourne.jobs.processing import Processing
from bourne.schema import Column, Schema
from bourne.testing import SimulatedClock

INPUT = Schema(
    (
        Column("id", "BIGINT"),
        Column("k", "VARCHAR"),
        Column("x", "DOUBLE"),
        Column("l", "BIGINT[]"),
        Column("t", "TIMESTAMP"),
    )
)
RATES = pa.table(
    {
        "k": ["a", "b", "b", None],
        "rate": [1.0, 2.0, 3.0, 4.0],
        "t": pa.array([datetime(2026, 1, day) for day in (1, 2, 3, 4)], pa.timestamp("us")),
    }
)
TAKEN = datetime(2026, 1, 31)


def processing(sql: str) -> Processing:
    return Processing(
        [sql], INPUT, functions=(), lookups={"rates": RATES}, result=None, where="step 'load'",
        clock=SimulatedClock(int(TAKEN.timestamp() * 1e6)),
    )  # fmt: skip


def rows_of(table: pa.Table) -> Counter[str]:
    return Counter(repr(row) for row in table.to_pylist())


REFUSED = {
    "an aggregate": [
        "SELECT count(*) AS n FROM input", "SELECT k, sum(x) AS s FROM input GROUP BY k", "SELECT first(id) AS f FROM input",
        "SELECT k FROM input GROUP BY k HAVING count(*) > 1", "SELECT k FROM rates WHERE EXISTS (SELECT 1 FROM input)",
        "WITH c AS MATERIALIZED (SELECT * FROM input) SELECT count(*) AS n FROM c", "SUMMARIZE input",
        "SELECT id FROM input GROUP BY ALL HAVING max(x) > 1", "SELECT list(id) AS l FROM input",
    ],
    "a window function": [
        "SELECT id, row_number() OVER () AS r FROM input", "SELECT id, lag(x) OVER (ORDER BY t) AS p FROM input",
        "SELECT id FROM input QUALIFY row_number() OVER (PARTITION BY k) = 1",
    ],
    "DISTINCT": [
        "SELECT DISTINCT id FROM input", "SELECT DISTINCT ON (id) id, k FROM input", "SELECT id FROM input UNION SELECT id FROM input",
        "SELECT k FROM input EXCEPT SELECT k FROM rates", "SELECT k FROM input INTERSECT SELECT k FROM rates",
    ],
    "EXCEPT": ["SELECT k FROM input EXCEPT ALL SELECT k FROM rates", "SELECT k FROM rates EXCEPT ALL SELECT k FROM input"],
    "INTERSECT": ["SELECT k FROM input INTERSECT ALL SELECT k FROM rates"],
    "ORDER BY": ["SELECT id FROM input ORDER BY id", "SELECT id FROM (SELECT * FROM input ORDER BY x)"],
    "LIMIT": ["SELECT id FROM input LIMIT 3", "SELECT id FROM input OFFSET 3", "SELECT id FROM input LIMIT 50%"],
    "SAMPLE": ["SELECT id FROM input USING SAMPLE 10%", "SELECT id FROM input TABLESAMPLE 3 ROWS"],
    "a join with 'input' itself": [
        "SELECT a.id FROM input AS a, input AS b", "SELECT id FROM input WHERE x > (SELECT avg(x) FROM input)",
        "WITH c AS MATERIALIZED (SELECT * FROM input) SELECT a.id FROM c AS a JOIN c AS b USING (id)",
        "SELECT id FROM input WHERE id IN (SELECT id + 1 FROM input)",
    ],
    "keeps rows without a partner": [
        "SELECT id, rate FROM rates LEFT JOIN input USING (k)", "SELECT id, rate FROM input RIGHT JOIN rates USING (k)",
        "SELECT id, rate FROM rates FULL JOIN input USING (k)", "SELECT rate FROM rates SEMI JOIN input USING (k)",
        "SELECT rate FROM rates ANTI JOIN input USING (k)", "SELECT k FROM rates WHERE k IN (SELECT k FROM input)",
        "SELECT k FROM rates WHERE NOT EXISTS (SELECT 1 FROM input WHERE input.k = rates.k)",
    ],
    "an ASOF join": [
        "SELECT rates.k, input.id FROM rates ASOF JOIN input ON rates.t >= input.t",
        "SELECT rates.k, input.id FROM rates ASOF RIGHT JOIN input ON rates.t >= input.t",
    ],
    "positional join": ["SELECT input.id FROM input POSITIONAL JOIN rates"],
    "recursive cte": ["WITH RECURSIVE r AS (SELECT id FROM input UNION ALL SELECT id - 1 FROM r WHERE id > 0) SELECT * FROM r"],
    "UNION ALL with rows of something else": ["SELECT k FROM input UNION ALL SELECT k FROM rates", "SELECT id FROM input UNION ALL SELECT 7"],
    "does not read 'input'": [
        "SELECT * FROM (VALUES (1)) AS v(a)", "SELECT k FROM rates", "WITH c AS MATERIALIZED (SELECT * FROM input) SELECT 1 AS one",
        "WITH input AS (SELECT 1 AS a) SELECT a FROM input", "DESCRIBE input",
    ],
    "2 statements": ["SELECT * FROM input; DROP TABLE rates"],
    "insert": ["INSERT INTO rates SELECT k, x, t FROM input"],
    "create table": ["CREATE TABLE z AS SELECT * FROM input"],
    "file system operations are disabled": ["COPY input TO '/tmp/x.csv'", "SELECT * FROM input JOIN 'x.csv' USING (id)"],
    "rowid": ["SELECT id, rowid AS r FROM input"],
    "two columns are called": ["SELECT id AS a, k AS A FROM input"],
    "syntax error": ["SELECT id FORM input,"],
}  # fmt: skip


@pytest.mark.parametrize(("word", "sql"), [(word, sql) for word, found in REFUSED.items() for sql in found])
def test_what_would_show_how_rows_are_cut_is_refused_by_name(word, sql):
    with pytest.raises(SqlError, match=word.replace("(", r"\(")):
        processing(sql)


ACCEPTED = [
    "FROM input", "SELECT * EXCLUDE (l) FROM input", "SELECT id FROM input;", "SELECT id -- why\nFROM input -- end",
    "SELECT id, u FROM (SELECT id, unnest(l) AS u FROM input)", "SELECT id, list_sum(l) AS s FROM input",
    "SELECT id + 1 AS id, upper(k) AS k FROM input WHERE x > 1 OR x IS NULL",
    "SELECT id, rate FROM input LEFT JOIN rates USING (k)", "SELECT id, rate FROM rates RIGHT JOIN input USING (k)",
    "SELECT id, rate FROM input, rates", "SELECT id, rate FROM rates JOIN input ON input.x < rates.rate",
    "SELECT id FROM input WHERE k IN (SELECT k FROM rates)", "SELECT id FROM input WHERE k NOT IN (SELECT k FROM rates)",
    "SELECT id FROM input SEMI JOIN rates USING (k)", "SELECT id FROM input ANTI JOIN rates USING (k)",
    "SELECT id, (SELECT max(rate) FROM rates) AS m FROM input",
    "SELECT id, (SELECT sum(rate) FROM rates WHERE rates.k = input.k) AS m FROM input",
    "SELECT id FROM input WHERE EXISTS (SELECT 1 FROM rates WHERE input.k = rates.k)",
    "SELECT input.id, rates.rate FROM input ASOF JOIN rates ON input.t >= rates.t",
    "SELECT input.id, rates.rate FROM input ASOF LEFT JOIN rates ON input.t >= rates.t",
    "SELECT id FROM input UNION ALL SELECT id + 1 FROM input",
    "WITH c AS MATERIALIZED (SELECT * FROM input) SELECT id FROM c UNION ALL SELECT id FROM c WHERE x > 1",
    "WITH c AS (SELECT k, max(rate) AS rate FROM rates GROUP BY k) SELECT id, rate FROM input JOIN c USING (k)",
    "SELECT id, now() AS at, current_date AS day, current_timestamp AS at2 FROM input",
    "SELECT k, name, value FROM (SELECT k, x, x + 1 AS y FROM input) UNPIVOT (value FOR name IN (x, y))",
]  # fmt: skip

ROW = st.fixed_dictionaries({
    "id": st.integers(0, 20), "k": st.sampled_from(["a", "b", "c", "한", None]), "x": st.sampled_from([-1.5, 0.0, 1.5, 2.5, None]),
    "l": st.sampled_from([[], [1], [1, 1, 2], None]),
    "t": st.sampled_from([datetime(2026, 1, day) for day in (1, 2, 3, 5)] + [None]),
})  # fmt: skip


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Queries of the shapes that are accepted, one in the other."""
    source = draw(
        st.sampled_from(["input", "(SELECT * FROM input WHERE x > 0)", "(FROM input UNION ALL FROM input)"])
    )
    join = draw(st.sampled_from(["", "JOIN rates USING (k)", "LEFT JOIN rates USING (k)", "SEMI JOIN rates USING (k)",
                                 "ANTI JOIN rates USING (k)", "ASOF JOIN rates USING (k, t)", "CROSS JOIN (SELECT rate FROM rates)"]))  # fmt: skip
    has_rate = join.startswith(("JOIN", "LEFT", "ASOF", "CROSS"))
    values = [
        "id",
        "k",
        "coalesce(x, 0) + id AS y",
        "unnest(l) AS u",
        *(["rate", "rate * x AS z"] if has_rate else []),
    ]
    chosen = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
    where = draw(
        st.sampled_from(
            [
                "",
                "WHERE id % 2 = 0",
                "WHERE k IN (SELECT k FROM rates WHERE k IS NOT NULL)",
                "WHERE k IS NULL OR x < 2",
            ]
        )
    )
    return f"SELECT {', '.join(chosen)} FROM {source} AS q {join} {where}"


def check_law(sql: str, rows: list[dict[str, Any]], cuts: list[int]) -> None:
    """What becomes of all rows is what becomes of their parts, together."""
    table = pa.Table.from_pylist(rows, schema=INPUT.to_arrow())
    work = processing(sql)
    try:
        bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
        parts = [rows_of(work.apply(table.slice(low, high - low))) for low, high in pairwise(bounds)]
        assert sum(parts, Counter()) == rows_of(work.apply(table)), sql
    finally:
        work.close()


@pytest.mark.parametrize("sql", ACCEPTED)
def test_what_is_accepted_is_the_same_however_it_is_cut(sql):
    rows = [
        {"id": n, "k": "abc"[n % 3] if n % 5 else None, "x": n / 2, "l": [1, 2, 2][: n % 4], "t": datetime(2026, 1, 1 + n % 5)}
        for n in range(12)
    ]  # fmt: skip
    check_law(sql, rows, [1, 2, 5, 5, 11])


@given(queries(), st.lists(ROW, max_size=8), st.lists(st.integers(0, 8), max_size=4))
@settings(max_examples=40, deadline=None)
def test_the_law(sql, rows, cuts):
    check_law(sql, rows, cuts)


@pytest.mark.long
@given(queries(), st.lists(ROW, max_size=20), st.lists(st.integers(0, 20), max_size=8))
@settings(max_examples=2000, deadline=None)
def test_the_law_for_long(sql, rows, cuts):
    check_law(sql, rows, cuts)


def test_now_is_the_time_of_the_chunk():
    clock = SimulatedClock(1_000_000)
    work = Processing(
        ["SELECT epoch_us(now()) AS a, epoch_us(current_timestamp) AS b, current_date AS d FROM input"], INPUT, functions=(),
        lookups={}, result=None, clock=clock, where="step 'load'",
    )  # fmt: skip
    row = pa.Table.from_pylist([{"id": 1}], schema=INPUT.to_arrow())
    assert work.apply(row).to_pylist()[0] == {
        "a": 1_000_000,
        "b": 1_000_000,
        "d": datetime(1970, 1, 1).date(),
    }
    clock.advance(86_400_000_000)
    assert work.apply(row).to_pylist()[0]["d"] == datetime(1970, 1, 2).date()
