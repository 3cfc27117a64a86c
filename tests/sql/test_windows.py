"""Window functions rewritten, everything else kept letter by letter."""

from __future__ import annotations

import pytest

from bourne.duck import connect
from bourne.errors import Span, SqlError
from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.plan import Project, Ref
from bourne.sql.text import Rewritten, find_word, words_of
from bourne.sql.windows import rewrite_windows

RELATIONS = {
    "orders": declare_schema({"id": "bigint", "user": "varchar", "at": "timestamp", "tz": "timestamptz", "group": "integer",
                              "order": "integer", "주문": "integer", "TUMBLE": "integer"}, where="orders"),
    "주문들": declare_schema({"시각": "timestamp", "수량": "integer"}, where="주문들"),
}  # fmt: skip

WINDOW = (
    '(SELECT *, time_bucket(to_microseconds({us}), "{time}") AS window_start, '
    'time_bucket(to_microseconds({us}), "{time}") + to_microseconds({us}) AS window_end FROM "{log}")'
)


def tumble(us: int = 60_000_000, time: str = "at", log: str = "orders") -> str:
    return WINDOW.format(us=us, time=time, log=log)


MINUTE = "INTERVAL '1 minute'"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT id FROM TUMBLE(orders, at, {MINUTE})", f'SELECT id FROM {tumble()} AS "orders"'),
        (f"SELECT id FROM tumble (orders,at,{MINUTE}) t", f"SELECT id FROM {tumble()} t"),
        (f"SELECT id FROM Tumble(ORDERS, AT, {MINUTE}) AS t(a)", f"SELECT id FROM {tumble()} AS t(a)"),
        (f'SELECT id FROM TUMBLE("orders", "at", {MINUTE}) AS "t t"', f'SELECT id FROM {tumble()} AS "t t"'),
        (f"SELECT 수량 FROM TUMBLE(주문들, 시각, {MINUTE})", f'SELECT 수량 FROM {tumble(time="시각", log="주문들")} AS "주문들"'),
        ("SELECT id FROM TUMBLE(orders, at, INTERVAL 10 SECONDS)", f'SELECT id FROM {tumble(10_000_000)} AS "orders"'),
        ("SELECT id FROM TUMBLE(orders, at, '2 hours 1 second')", f'SELECT id FROM {tumble(7_201_000_000)} AS "orders"'),
        ("SELECT id FROM TUMBLE(orders, at, to_days(1 + 1))", f'SELECT id FROM {tumble(172_800_000_000)} AS "orders"'),
        (f"SELECT a.id FROM TUMBLE(orders, at, {MINUTE}) a, TUMBLE(orders, tz, {MINUTE}) b",
         f"SELECT a.id FROM {tumble()} a, {tumble(time='tz')} b"),
        (f"WITH c AS (SELECT * FROM TUMBLE(orders, at, {MINUTE})) SELECT id FROM (SELECT * FROM c)",
         f'WITH c AS (SELECT * FROM {tumble()} AS "orders") SELECT id FROM (SELECT * FROM c)'),
        (f"SELECT id FROM TUMBLE(orders, at, {MINUTE}) WHERE id > 0",
         f'SELECT id FROM {tumble()} AS "orders" WHERE id > 0'),
        ("SELECT 'FROM TUMBLE(orders, at, x)' AS s /* FROM TUMBLE(a, b, c) */ FROM orders -- TUMBLE(",
         "SELECT 'FROM TUMBLE(orders, at, x)' AS s /* FROM TUMBLE(a, b, c) */ FROM orders -- TUMBLE("),
        ("SELECT TUMBLE FROM orders", "SELECT TUMBLE FROM orders"),
        ('SELECT "TUMBLE", orders.TUMBLE FROM orders', 'SELECT "TUMBLE", orders.TUMBLE FROM orders'),
        ("SELECT at, orders.at, t.At FROM orders t", 'SELECT "at", orders."at", t."At" FROM orders t'),
        ("SELECT tz AT TIME ZONE 'Asia/Seoul' FROM orders", "SELECT tz AT TIME ZONE 'Asia/Seoul' FROM orders"),
        ("SELECT 'at', \"at\", 주문 FROM orders", "SELECT 'at', \"at\", 주문 FROM orders"),
        ("  SELECT\n\tid\r\nFROM orders ;", "  SELECT\n\tid\r\nFROM orders ;"),
    ],
)  # fmt: skip
def test_rewriting(sql: str, expected: str) -> None:
    assert rewrite_windows(sql, RELATIONS).sql == expected
    assert rewrite_windows(sql, RELATIONS).original == sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT user, at FROM orders",
        "SELECT o.user, o.at FROM orders AS o WHERE at > TIMESTAMP '2020-01-01' AND user = 'x'",
        "SELECT user, max(at) AS at FROM orders GROUP BY user",
        f"SELECT user, window_start, count(*) AS n FROM TUMBLE(orders, at, {MINUTE}) GROUP BY user, window_start",
        f"SELECT orders.user, orders.window_end FROM TUMBLE(orders, at, {MINUTE})",
        f"SELECT w.at FROM TUMBLE(orders, at, {MINUTE}) AS w WHERE w.window_start < w.at",
        "SELECT 주문 AS 수, sum(주문) AS 합 FROM orders GROUP BY 주문",
        f"SELECT window_start AS 시작, sum(수량) AS 합 FROM TUMBLE(주문들, 시각, {MINUTE}) GROUP BY ALL",
        'SELECT "group", "order" FROM orders',
        "SELECT at AS at FROM orders",
        "SELECT at::DATE AS day, date_trunc('day', at) AS d, at + INTERVAL 1 DAY AS later FROM orders",
        "SELECT (at) AS x, [at] AS y, {'at': at} AS z FROM orders",
        "SELECT x.at FROM (SELECT at FROM orders) AS x",
        "SELECT count(at) AS n FROM orders HAVING max(at) IS NOT NULL",
        "SELECT CASE WHEN at IS NULL THEN user ELSE user END AS x FROM orders",
        "SELECT tz AT TIME ZONE 'Asia/Seoul' AS at FROM orders",
        "SELECT at AT TIME ZONE 'Asia/Seoul' AS x FROM orders",
        "SELECT strftime(at, '%H') AS h FROM orders",
    ],
)
def test_columns_called_like_keywords_bind(sql: str) -> None:
    query = bind(sql, RELATIONS)
    assert query.schema.columns


def test_user_is_the_column_not_the_session() -> None:
    query = bind("SELECT user FROM orders", RELATIONS)
    assert query.plan.types == ("VARCHAR",)
    assert isinstance(query.plan, Project)
    assert isinstance(query.plan.expressions[0], Ref)


def test_windows_are_aligned_and_half_open() -> None:
    sql = rewrite_windows(
        f"SELECT at, window_start, window_end FROM TUMBLE(orders, at, {MINUTE})", RELATIONS
    ).sql
    connection = connect()
    connection.execute('CREATE TABLE orders ("at" TIMESTAMP)')
    connection.execute("INSERT INTO orders VALUES ('2020-01-01 00:00:00'), ('2020-01-01 00:00:59.999999'), "
                       "('1969-12-31 23:59:59'), (NULL)")  # fmt: skip
    rows = connection.execute(sql).fetchall()
    starts = [str(row[1]) for row in rows]
    assert starts == ["2020-01-01 00:00:00", "2020-01-01 00:00:00", "1969-12-31 23:59:00", "None"]
    assert [str(row[2]) for row in rows][2] == "1970-01-01 00:00:00"


def test_a_log_with_a_column_called_like_the_windows_is_refused() -> None:
    relations = {"t": declare_schema({"at": "timestamp", "Window_End": "timestamp"}, where="t")}
    with pytest.raises(SqlError, match="has a column 'Window_End' already"):
        rewrite_windows("SELECT window_end FROM TUMBLE(t, at, INTERVAL 1 DAY)", relations)


def test_origin_maps_back_through_pieces() -> None:
    text = f"SELECT '한' AS k, at, nope FROM TUMBLE(orders, at, {MINUTE}) AS w WHERE at IS NULL"
    rewritten = rewrite_windows(text, RELATIONS)

    def origin(piece: str, nth: int = 1) -> str:
        start = -1
        for _ in range(nth):
            start = rewritten.sql.index(piece, start + 1)
        byte = len(rewritten.sql[:start].encode())
        span = rewritten.origin(byte, len(piece.encode()))
        return text[span.start : span.end]

    assert origin("'한'") == "'한'"
    assert origin('"at"') == "at"
    assert origin("nope") == "nope"
    assert origin("time_bucket") == f"TUMBLE(orders, at, {MINUTE})"
    assert origin("AS w WHERE") == "AS w WHERE"
    assert origin('"at" IS NULL') == "at IS NULL"
    assert origin('k, "at", nope') == "k, at, nope"


def test_origin_stays_inside_the_text() -> None:
    rewritten = Rewritten("SELECT 1", "SELECT 1", ())
    assert rewritten.origin(100, 100) == Span(8, 8)
    assert rewritten.origin(7, 100) == Span(7, 8)


def test_find_word_sees_whole_words_outside_strings_and_comments() -> None:
    text = "SELECT 'LIMIT' /* LIMIT */ FROM orders ORDER BY limits -- LIMIT\n LIMIT 3"
    assert find_word(text, "LIMIT") == Span(text.rindex("LIMIT"), text.rindex("LIMIT") + 5)
    assert find_word(text, "ORDER") == Span(text.index("ORDER BY"), text.index("ORDER BY") + 8)
    assert find_word(text, "nope", "from") == Span(text.index("FROM"), text.index("FROM") + 4)
    assert find_word(text, "nope") is None


def test_words_of_a_text() -> None:
    assert {"select", "a b", "orders"} <= words_of("SELECT \"A b\" FROM orders WHERE x = 'string'")
    assert "string" not in words_of("SELECT 'string'")
    with pytest.raises(SqlError):
        words_of("SELECT 'open")
