"""A plan as lines: what it says, and that it says each node and tells all columns apart."""

from __future__ import annotations

import pytest

from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.outline import Names, describe, outline
from bourne.sql.plan import Plan, children, nodes
from bourne.sql.rules import optimise
from sql.test_plans import RELATIONS, VIEWS

OUTLINES = {
    "SELECT user, sum(amount) AS total FROM orders WHERE qty > 1 GROUP BY user HAVING count(*) > 2": """
project user, total
  filter c1 > 2
    aggregate by user: count(*) AS c1, sum(amount) AS total
      filter qty > 1
        orders: qty, user, amount""",
    # A column of two logs is told by its log, one that is read twice by a number.
    "SELECT o.id, v.rating FROM orders AS o LEFT JOIN visits AS v ON o.user = v.user AND o.at > v.at": """
project id, rating
  left join on orders.user = visits.user AND orders.at > visits.at
    orders: user, at, id
    visits: user, at, rating""",
    "SELECT a.id, b.id AS other FROM orders AS a, orders AS b WHERE a.qty = b.qty AND a.id < b.id": """
project id, id_2
  inner join on qty = qty_2 AND id < id_2
    orders: qty, id
    orders: qty, id""",
    # What is read twice is shown once; one of its readers aggregates everything.
    "WITH t AS (SELECT user, count(*) AS n FROM orders GROUP BY user) SELECT * FROM t WHERE n > (SELECT avg(n) FROM t)": """
project user, n
  inner join on CAST(n AS DOUBLE) > c0
    [1] aggregate by user: count(*) AS n
      orders: user
    aggregate everything: avg(n) AS c0
      [1] again""",
    # Constants and defaults are said shortly, texts never changed.
    """SELECT id, 'CAST(1 AS INTEGER) ~~ "a"' AS "글 자" FROM orders WHERE user LIKE 'it''s "%"' ORDER BY id DESC LIMIT 3""": """
top 3 ORDER BY id DESC
  project id, 'CAST(1 AS INTEGER) ~~ "a"' AS 글 자
    filter user LIKE 'it''s "%"'
      orders: user, id""",
    "SELECT user, rank() OVER (PARTITION BY user ORDER BY at) AS place FROM orders": """
project user, place
  window rank() OVER (PARTITION BY user ORDER BY at) AS place
    orders: user, at""",
    "SELECT user FROM orders UNION SELECT user FROM visits": """
distinct user
  union all
    orders: user
    visits: user""",
    "SELECT 1 AS one": """
constant rows (1)""",
}  # fmt: skip


def plan_of(sql: str) -> tuple[Plan, Names]:
    query = bind(sql, RELATIONS)
    plan = optimise(query.plan)
    return plan, Names(plan, query.schema.names)


@pytest.mark.parametrize("sql", OUTLINES)
def test_what_a_plan_says(sql: str) -> None:
    assert "\n".join(outline(*plan_of(sql))) == OUTLINES[sql].strip("\n")


@pytest.mark.parametrize("name", VIEWS)
def test_each_node_is_said_once_and_each_edge_shown(name: str) -> None:
    plan, names = plan_of(VIEWS[name])
    lines = outline(plan, names)
    edges = sum(len(children(node)) for node in nodes(plan))
    assert len(lines) == edges + 1
    assert sum(line.endswith("] again") for line in lines) == edges + 1 - len(nodes(plan))
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("name", VIEWS)
def test_no_two_columns_of_a_node_have_the_same_name(name: str) -> None:
    plan, names = plan_of(VIEWS[name])
    for node in nodes(plan):
        assert len(set(names.of(node))) == len(names.of(node)) == len(node.types), describe(node, names)


def test_names_of_logs_in_any_script() -> None:
    relations = {"주문": declare_schema({"이름": "varchar"}, where="주문")}
    query = bind('SELECT "이름" FROM "주문" WHERE "이름" > \'가\'', relations)
    plan = optimise(query.plan)
    assert outline(plan, Names(plan, query.schema.names)) == ["filter 이름 > '가'", "  주문: 이름"]
