"""What is refused, by which name and at which place; data in `refusals.sql`.

Each case is `-- kind: construct | text that the span covers`, then the SQL up to an empty line. `kind` is `sql` (wrong SQL) or `not` (right,
but not maintained yet). `·` stands for a place that cannot be named.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bourne.errors import NotMaintainable, SqlError
from bourne.schema import declare_schema
from bourne.sql.bind import bind

RELATIONS = {
    "orders": declare_schema(
        {"id": "bigint", "i": "integer", "s": "varchar", "at": "timestamp", "tz": "timestamptz", "d": "double",
         "n": "decimal(9,2)", "l": "integer[]", "user": "varchar", "iv": "interval", "주문": "integer"}, where="orders"),
}  # fmt: skip


def _cases() -> list[tuple[str, str, str, str]]:
    cases = []
    for block in Path(__file__).with_name("refusals.sql").read_text("utf-8").split("\n\n"):
        head, _, sql = block.strip().partition("\n")
        if not sql:
            continue
        kind, _, rest = head.removeprefix("-- ").partition(": ")
        construct, _, covered = rest.rpartition(" | ")
        cases.append((kind, construct, covered, sql))
    return cases


CASES = _cases()


def test_there_are_cases() -> None:
    assert len(CASES) > 60


@pytest.mark.parametrize(("kind", "construct", "covered", "sql"), CASES, ids=[case[3][:60] for case in CASES])
def test_refusal(kind: str, construct: str, covered: str, sql: str) -> None:
    with pytest.raises(SqlError) as caught:
        bind(sql, RELATIONS, view="v")
    error = caught.value
    assert isinstance(error, NotMaintainable) == (kind == "not"), error
    assert construct in error.what
    assert error.sql == sql
    assert "view 'v'" in str(error)
    found = None if error.span is None else sql[error.span.start : error.span.end]
    assert found == (None if covered == "·" else covered)


@pytest.mark.parametrize(
    "before", ["", "/* 한국어 é 𝄞 */ ", "\n\n", "-- 𝄞𝄞\n\t", "WITH 가 AS (SELECT '𝄞' AS x FROM orders) "]
)
def test_place_is_in_characters_of_the_users_text(before: str) -> None:
    for text, covered in [
        ("SELECT '한' AS a, nope FROM orders", "nope"),
        ("SELECT '한' AS a, now() AS b FROM orders", "now()"),
        ("SELECT '한' AS a, user, at, nope FROM TUMBLE(orders, at, INTERVAL '1 day')", "nope"),
        ("SELECT 주문, random() FROM TUMBLE(orders, at, INTERVAL '1 day') AS 나 WHERE 주문 > 0", "random()"),
        ("SELECT 주문 FROM orders USING SAMPLE 3 ROWS", "SAMPLE"),
    ]:
        with pytest.raises(SqlError) as caught:
            bind(before + text, RELATIONS)
        span = caught.value.span
        assert span is not None
        assert (before + text)[span.start : span.end] == covered
        line = (before + text)[: span.start].count("\n") + 1
        assert f"line {line}, column " in str(caught.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 3000 + "1" + ")" * 3000 + " AS x FROM orders",
        "SELECT " + "+".join(["i"] * 3000) + " AS x FROM orders",
        "SELECT " + "abs(" * 400 + "i" + ")" * 400 + " AS x FROM orders",
        "SELECT " + "CASE WHEN i > 0 THEN " * 300 + "1" + " END" * 300 + " AS x FROM orders",
        "SELECT i FROM orders WHERE " + "NOT (" * 400 + "i > 0" + ")" * 400,
        "SELECT i FROM " + "(SELECT i FROM " * 300 + "orders" + ")" * 300,
        "SELECT i FROM orders WHERE " + " AND ".join(f"(i > {j} OR i < {j})" for j in range(2000)),
    ],
    ids=["parentheses", "sum", "calls", "case", "not", "subqueries", "conjunction"],
)
def test_deep_or_long_sql_is_answered_or_refused_cleanly(sql: str) -> None:
    try:
        bind(sql, RELATIONS)
    except SqlError as error:
        assert len(error.what) < 10_000


VOLATILE = [
    "now()",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "today()",
    "transaction_timestamp()",
    "get_current_timestamp()",
    "get_current_time()",
    "random()",
    "uuid()",
    "gen_random_uuid()",
    "uuidv4()",
    "uuidv7()",
    "age(at)",
    "version()",
    "current_setting('TimeZone')",
    "current_schema()",
    "current_schemas(true)",
    "current_database()",
    "current_query()",
    "txid_current()",
    "current_localtime()",
    "current_localtimestamp()",
    "setseed(0.5)",
]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT epoch(system.main.now()) AS x FROM orders",
        'SELECT "PG_CATALOG".now() AS x FROM orders',
        "SELECT epoch(ago(INTERVAL 1 DAY)) AS x FROM orders",
        "SELECT * FROM range(TIMESTAMP '2026-11-20', now()::TIMESTAMP, INTERVAL 1 DAY)",
        "SELECT epoch(age(TIMESTAMP '2020-01-01')) AS x FROM orders",
    ],
)
def test_the_clock_is_found_wherever_it_is_read(sql: str) -> None:
    with pytest.raises(NotMaintainable, match="whose answer changes"):
        bind(sql, RELATIONS)


def test_columns_and_functions_may_be_called_like_what_changes() -> None:
    schema = declare_schema(
        {"now": "timestamp", "age": "integer", "today": "date", "user": "varchar"}, where="people"
    )
    query = bind(
        "SELECT now, age + 1 AS a, year(today) AS y, p.user, age(now, now) AS z FROM people p",
        {"people": schema},
    )
    assert [column.name for column in query.schema.columns] == ["now", "a", "y", "user", "z"]


@pytest.mark.parametrize("call", VOLATILE)
@pytest.mark.parametrize("sql", ["SELECT {} AS x FROM orders", "SELECT i FROM orders WHERE ({}) IS NOT NULL",
                                 "SELECT count({}) AS c FROM orders", "SELECT count(*) AS c FROM orders GROUP BY ({})",
                                 "SELECT i FROM (SELECT i, ({}) AS x FROM orders) WHERE x IS NULL",
                                 "SELECT length(({})::VARCHAR) AS n FROM orders",
                                 "SELECT i FROM orders WHERE s > concat(({})::VARCHAR, 'a')",
                                 "SELECT list_transform([i], lambda j: j + length(({})::VARCHAR)) AS x FROM orders",
                                 "SELECT i FROM orders GROUP BY i HAVING max(({})::VARCHAR) > ''"])  # fmt: skip
def test_what_changes_from_call_to_call_is_refused(call: str, sql: str) -> None:
    with pytest.raises(SqlError) as caught:
        bind(sql.format(call), RELATIONS)
    assert "whose answer changes" in caught.value.what or "cannot be maintained" in caught.value.what, (
        caught.value
    )
