"""What the rules make of a query: where filters, keys, columns and distinct values end up."""

from __future__ import annotations

from collections import Counter

import pytest

from bourne.sql.bind import bind
from bourne.sql.plan import Aggregate, Filter, Get, Join, Plan, children, nodes
from bourne.sql.render import render
from bourne.sql.rules import append_only, optimise
from bourne.sql.rules.tree import is_same
from sql.rules.test_answers import RELATIONS


def optimised(sql: str) -> Plan:
    query = bind(sql, RELATIONS)
    return optimise(query.plan)


def kinds(plan: Plan) -> Counter[str]:
    """Count the nodes by kind; joins by theirs, with `cross` for those without keys."""
    names = [
        (node.kind if node.keys else f"{node.kind} cross") if isinstance(node, Join) else type(node).__name__
        for node in nodes(plan)
    ]
    return Counter(name for name in names if name not in ("Project", "Get", "Filter"))


def predicates_on(plan: Plan, relation: str) -> list[str]:
    """Return the predicates of the filters right above a relation."""
    return [
        render(predicate, lambda index, names=node.child.columns: names[index])
        for node in nodes(plan)
        if isinstance(node, Filter) and isinstance(node.child, Get) and node.child.relation == relation
        for predicate in node.predicates
    ]


SHAPES = {
    "SELECT * FROM a, b WHERE a.x = b.k": {"inner": 1},
    "SELECT * FROM a, b, d WHERE a.x = d.p AND b.k = d.q": {"inner": 2},
    "SELECT * FROM a, b, d WHERE a.x = d.p": {"inner": 1, "inner cross": 1},
    "SELECT * FROM a, (SELECT k, v FROM b, d) t, d d2 WHERE a.x = t.k AND d2.p = a.y": {
        "inner": 2,
        "inner cross": 1,
    },
    "SELECT * FROM a LEFT JOIN b ON a.x = b.k WHERE b.v > 1": {"inner": 1},
    "SELECT * FROM a LEFT JOIN b ON a.x = b.k WHERE b.v IS NULL": {"left": 1},
    "SELECT * FROM a WHERE x IN (SELECT k FROM b)": {"semi": 1},
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE k = x)": {"semi": 1},
    "SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE k = x)": {"anti": 1},
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE k = x AND v > y)": {"semi": 1},
    "SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE k = x AND v > y)": {"anti": 1},
    "SELECT x, EXISTS (SELECT 1 FROM b WHERE k = x) FROM a": {"left": 1, "Aggregate": 1},
    "SELECT x, (SELECT count(*) FROM b WHERE k = x) FROM a": {"left": 1, "Aggregate": 1},
    "SELECT x, (SELECT max(v) FROM b WHERE k = x) FROM a": {"left": 1, "Aggregate": 1},
    "SELECT x FROM a WHERE y > (SELECT max(v) FROM b WHERE k = x)": {"inner": 1, "Aggregate": 1},
    "SELECT x, (SELECT v FROM b WHERE k = x) FROM a": {"single": 1},
    "SELECT x, (SELECT v FROM b WHERE k = x ORDER BY v LIMIT 1) FROM a": {"left": 1, "TopN": 1},
    "SELECT x, t.v FROM a, LATERAL (SELECT v FROM b WHERE k = x AND v > y) t": {"inner": 1},
    "SELECT x, t.v FROM a LEFT JOIN LATERAL (SELECT v FROM b WHERE k = x AND v > y) t ON true": {"left": 1},
    "SELECT x FROM (SELECT x, count(*) OVER (PARTITION BY y) AS n FROM a)": {},
    "SELECT x, y FROM a QUALIFY row_number() OVER (PARTITION BY x ORDER BY y) = 1": {"TopN": 1},
    "SELECT x, 1 AS c FROM a, (SELECT 2)": {},
    "SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b)": {"inner cross": 1, "Aggregate": 2},
    "SELECT x FROM a UNION ALL (SELECT k FROM b UNION ALL SELECT p FROM d)": {"Union": 1},
}


@pytest.mark.parametrize(("sql", "expected"), SHAPES.items())
def test_operators_that_are_left(sql: str, expected: dict[str, int]) -> None:
    assert kinds(optimised(sql)) == expected


def test_not_in_is_anti_joins_by_key() -> None:
    plan = optimised("SELECT * FROM a WHERE y NOT IN (SELECT v FROM b WHERE k = x)")
    assert kinds(plan) == {"anti": 3, "Aggregate": 2}
    no_nulls = "SELECT * FROM a WHERE x NOT IN (SELECT k FROM b WHERE k IS NOT NULL) AND x > 0"
    assert kinds(optimised(no_nulls)) == {"anti": 1}


PUSHED = {
    "SELECT * FROM a, b WHERE x = k AND y > 1 AND v > 2": ["(y > CAST(1 AS INTEGER))"],
    "SELECT * FROM (SELECT x, y + 0 AS t FROM a) WHERE x > 1": ["(x > CAST(1 AS INTEGER))"],
    "SELECT n FROM (SELECT x, count(*) AS n FROM a GROUP BY x) WHERE x > 1 AND n > 1": ["(x > CAST(1 AS INTEGER))"],
    "SELECT y FROM (SELECT x, y FROM a UNION ALL SELECT k, v FROM b) WHERE x > 1": ["(x > CAST(1 AS INTEGER))"],
    "SELECT n FROM (SELECT x, count(*) OVER (PARTITION BY x) AS n FROM a) WHERE x > 1": ["(x > CAST(1 AS INTEGER))"],
    "SELECT n FROM (SELECT y, count(*) OVER (PARTITION BY x) AS n FROM a) WHERE y > 1": [],
    "SELECT v FROM a LEFT JOIN b ON x = k WHERE y > 1": ["(y > CAST(1 AS INTEGER))"],
    "SELECT v FROM b LEFT JOIN a ON x = k AND y > 1": ["(y > CAST(1 AS INTEGER))"],
    "SELECT v FROM a LEFT JOIN b ON x = k AND y > 1": [],
    "SELECT v FROM a FULL JOIN b ON x = k WHERE y > 1": [],
    "SELECT v FROM b RIGHT JOIN a ON x = k WHERE y > 1": ["(y > CAST(1 AS INTEGER))"],
    "SELECT x FROM a WHERE y > 1 AND x IN (SELECT k FROM b)": ["(y > CAST(1 AS INTEGER))"],
    # What may fail stays above what may take its rows away before it sees them.
    "SELECT * FROM a, b WHERE x = k AND CAST(z AS INTEGER) > 1": [],
    "SELECT * FROM a SEMI JOIN b ON x = k WHERE CAST(z AS INTEGER) > 1": [],
    "SELECT * FROM a LEFT JOIN b ON x = k WHERE CAST(z AS INTEGER) > 1": ["(CAST(z AS INTEGER) > CAST(1 AS INTEGER))"],
    "SELECT * FROM a LEFT JOIN b ON x = k WHERE v IS NULL AND CAST(z AS INTEGER) > 1": [],
    "SELECT * FROM a, b WHERE x = k AND TRY_CAST(z AS INTEGER) > 1":
        ["(TRY_CAST(z AS INTEGER) > CAST(1 AS INTEGER))"],
}  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), PUSHED.items())
def test_filters_on_the_table_itself(sql: str, expected: list[str]) -> None:
    assert predicates_on(optimised(sql), "a") == expected


def test_a_shared_node_is_not_filtered_for_one_reader() -> None:
    plan = optimised(
        "WITH c AS (SELECT x, count(*) AS n FROM a GROUP BY x) SELECT c1.n FROM c c1, c c2 WHERE c1.x = 1 AND c1.n = c2.x"
    )
    assert kinds(plan) == {"inner": 1, "Aggregate": 1}
    assert predicates_on(plan, "a") == []
    (aggregate,) = (node for node in nodes(plan) if isinstance(node, Aggregate))
    assert sum(child is aggregate for node in nodes(plan) for child in children(node)) == 2


COLUMNS = {
    "SELECT x FROM a": {"a": ("x",)},
    "SELECT count(*) FROM (SELECT z, x FROM a)": {"a": ("x",)},
    "SELECT a.z FROM a, b WHERE a.x = b.k": {"a": ("x", "z"), "b": ("k",)},
    "SELECT n FROM (SELECT x, count(*) AS n, sum(y) AS s FROM a GROUP BY x)": {"a": ("x",)},
    "SELECT x FROM (SELECT x, z FROM a UNION ALL SELECT k, w FROM b)": {"a": ("x",), "b": ("k",)},
    "SELECT x FROM a WHERE z = 'u' AND x IN (SELECT k FROM (SELECT * FROM b))": {
        "a": ("x", "z"),
        "b": ("k",),
    },
}


@pytest.mark.parametrize(("sql", "expected"), COLUMNS.items())
def test_columns_that_are_read(sql: str, expected: dict[str, tuple[str, ...]]) -> None:
    plan = optimised(sql)
    found = {node.relation: tuple(sorted(node.columns)) for node in nodes(plan) if isinstance(node, Get)}
    assert found == expected


def test_joins_keep_only_what_is_read() -> None:
    plan = optimised(
        "SELECT a.y FROM a, b, d WHERE a.x = b.k AND b.v = d.p AND a.z = 'u' AND b.w <> 'v' AND d.q > 1"
    )
    joins = [node for node in nodes(plan) if isinstance(node, Join)]
    assert [(len(join.left.types), len(join.right.types)) for join in joins] == [(2, 2), (2, 1)]


GROWTH = {
    "SELECT x FROM a WHERE y > 1": True,
    "SELECT DISTINCT x FROM a": True,
    "SELECT x FROM a UNION SELECT k FROM b": True,
    "SELECT x FROM a, b WHERE x = k": True,
    "SELECT x FROM a WHERE x IN (SELECT k FROM b)": True,
    "SELECT x FROM a LEFT JOIN b ON x = k WHERE v > 1": True,
    "SELECT p, unnest(l) AS e FROM d": True,
    "SELECT x FROM a LEFT JOIN b ON x = k": False,
    "SELECT x FROM a WHERE x NOT IN (SELECT k FROM b)": False,
    "SELECT x, count(*) FROM a GROUP BY x": False,
    "SELECT count(*) FROM a": False,
    "SELECT x FROM a ORDER BY x LIMIT 1": False,
    "SELECT x, row_number() OVER (ORDER BY x) FROM a": False,
    "SELECT x FROM a UNION ALL SELECT max(k) FROM b": False,
}


@pytest.mark.parametrize(("sql", "expected"), GROWTH.items())
def test_what_only_grows(sql: str, expected: bool) -> None:
    plan = optimised(sql)
    assert append_only(plan, lambda get: True)[id(plan)] is expected
    assert append_only(plan, lambda get: get.relation != "a")[id(plan)] is (
        expected and sql.endswith("FROM d")
    )


@pytest.mark.parametrize("sql", [*SHAPES, *PUSHED, *COLUMNS])
def test_what_is_optimised_stays_as_it_is(sql: str) -> None:
    plan = optimised(sql)
    assert is_same(optimise(plan), plan)
