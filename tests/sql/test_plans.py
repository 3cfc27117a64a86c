"""Golden plans: a DuckDB that binds differently is noticed here before it computes differently anywhere.

After a wanted change: BOURNE_UPDATE_PLANS=1 pytest tests/sql/test_plans.py
"""

from __future__ import annotations

import os
import pprint
from pathlib import Path

import pytest

from bourne.schema import declare_schema
from bourne.sql.bind import bind

RELATIONS = {
    "orders": declare_schema({"id": "bigint", "user": "varchar", "amount": "decimal(10,2)", "qty": "integer",
                              "at": "timestamp", "tags": "varchar[]"}, where="orders"),
    "visits": declare_schema({"user": "varchar", "at": "timestamp", "rating": "integer"}, where="visits"),
}  # fmt: skip

FOLDER = Path(__file__).with_name("plans")

VIEWS = {
    "projection": "SELECT id, amount * qty AS cost, upper(user) || '!' AS who FROM orders WHERE qty > 0 AND NOT user LIKE 'x%'",
    "aggregate": "SELECT user, count(*) AS n, sum(amount * qty) AS total, avg(amount) AS mean, max(at) AS last "
                 "FROM orders GROUP BY user",
    "global": "SELECT count(*) AS n FROM orders",
    "tumble": "SELECT user, window_start, sum(amount) AS total FROM TUMBLE(orders, at, INTERVAL '1 minute') "
              "GROUP BY user, window_start",
    "having": "SELECT qty % 2 AS odd, count(id) AS n FROM orders GROUP BY ALL HAVING count(id) > 1 OR min(user) IS NULL",
    "cte": "WITH large AS (SELECT *, amount > 100 AS is_large FROM orders), "
           "counted AS MATERIALIZED (SELECT is_large, count(*) AS n FROM large GROUP BY 1) SELECT n FROM counted WHERE is_large",
    "case": "SELECT CASE WHEN amount > 1 THEN 'a' WHEN qty IN (1, 2, NULL) THEN user END AS x, TRY_CAST(user AS DATE) AS d, "
            "COALESCE(qty, 0) AS q FROM orders WHERE at >= TIMESTAMP '2020-01-01' OR at IS NULL",
    "join": "SELECT o.id, v.rating FROM orders AS o LEFT JOIN visits AS v ON o.user = v.user AND o.at > v.at AND v.rating > 1",
    "correlated": "SELECT id, (SELECT count(*) FROM visits AS v WHERE v.user = o.user) AS n, "
                  "user IN (SELECT user FROM visits WHERE rating > 3) AS is_fond FROM orders AS o",
    "rollup": "SELECT user, qty, grouping(user, qty) AS level, sum(amount) FILTER (WHERE qty > 0) AS total, "
              "arg_max(id, at) AS latest, list(id ORDER BY at) AS ids FROM orders GROUP BY ROLLUP (user, qty)",
    "window": "SELECT id, sum(amount) OVER (PARTITION BY user ORDER BY at ROWS 2 PRECEDING) AS recent, "
              "last_value(id) OVER (ORDER BY qty) AS last, rank() OVER (ORDER BY amount DESC) AS place FROM orders",
    "except": "SELECT user FROM orders EXCEPT ALL SELECT user FROM visits",
    "top": "SELECT id FROM orders ORDER BY amount DESC, id LIMIT 10 OFFSET 5",
    "unnest": "SELECT id, tag FROM orders, unnest(tags) AS t(tag)",
    "nested": "SELECT {'u': user, 't': [tags[1], 'x']} AS s, list_contains(['a', 'b'], user) AS c FROM orders",
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_plan_is_as_before(name: str) -> None:
    query = bind(VIEWS[name], RELATIONS)
    text = f"{query.sql}\n\n{pprint.pformat(query.schema, width=100)}\n\n{pprint.pformat(query.plan, width=100)}\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("BOURNE_UPDATE_PLANS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_every_plan_has_a_view() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(VIEWS)
