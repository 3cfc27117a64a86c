"""row_number() filters: which become TopN, and that the rows stay the same ones."""

from __future__ import annotations

import pytest

from bourne.sql.plan import (
    Call,
    Cast,
    Expr,
    Filter,
    Frame,
    Get,
    Literal,
    Logic,
    Order,
    Plan,
    Project,
    Ref,
    TopN,
    Window,
    WindowFunction,
    nodes,
)
from bourne.sql.rules import optimise
from sql.rules.plans_as_sql import plan_sql
from sql.rules.test_answers import answer, databases

X, Y, Z, NUMBER = Ref(0, "INTEGER"), Ref(1, "INTEGER"), Ref(2, "VARCHAR"), Ref(3, "BIGINT")
TABLE = Get("a", ("x", "y", "z"), ("INTEGER", "INTEGER", "VARCHAR"))
ALL = Frame("ROWS", "UNBOUNDED PRECEDING", "CURRENT ROW")


def numbered(partitions: tuple[Expr, ...], function: str = "row_number") -> Window:
    # The order is by all columns: rows that are equal in it are equal.
    orders = (Order(Y, True, False), Order(Z, False, True), Order(X, False, True))
    return Window(TABLE, (WindowFunction(function, (), "BIGINT", partitions, orders, ALL),))


def compare(left: Expr, symbol: str, right: Expr) -> Expr:
    return Call(symbol, (left, right), ("", ""), "BOOLEAN", None)


def number(value: int) -> Expr:
    return Cast(Literal(str(value), "INTEGER"), "BIGINT", False, None)


def limits(plan: Plan) -> list[tuple[int | None, int]]:
    return [(node.limit, node.offset) for node in nodes(plan) if isinstance(node, TopN)]


@pytest.mark.parametrize(
    ("predicates", "expected"),
    [
        ((compare(NUMBER, "<=", number(2)),), (2, 0)),
        ((compare(NUMBER, "<", Literal("(3)::BIGINT", "BIGINT")),), (2, 0)),
        ((compare(number(2), ">=", NUMBER),), (2, 0)),
        ((compare(NUMBER, "=", number(1)),), (1, 0)),
        ((compare(NUMBER, "=", number(3)),), (1, 2)),
        ((compare(NUMBER, ">=", number(2)), compare(NUMBER, "<=", number(4))), (3, 1)),
        ((Logic("AND", (compare(NUMBER, ">", number(1)), compare(NUMBER, "<", number(4)))),), (2, 1)),
        ((compare(NUMBER, "<=", number(3)), compare(NUMBER, "<=", number(2))), (2, 0)),
        ((compare(NUMBER, "<=", number(2)), compare(Y, ">", Literal("1", "INTEGER"))), (2, 0)),
        ((compare(NUMBER, "<=", number(2)), compare(X, ">", Literal("1", "INTEGER"))), (2, 0)),
        ((compare(NUMBER, ">=", number(3)), compare(NUMBER, "<=", number(2))), None),
        ((compare(NUMBER, "<=", number(0)),), None),
        ((compare(NUMBER, ">=", number(2)),), None),
        ((compare(NUMBER, "!=", number(2)),), None),
        ((compare(NUMBER, "<=", Cast(Y, "BIGINT", False, None)),), None),
    ],
)
@pytest.mark.parametrize("partitions", [(), (X,), (X, Z)])
@pytest.mark.parametrize("is_number_used", [True, False])
def test_filters_on_row_number(
    predicates: tuple[Expr, ...],
    expected: tuple[int, int] | None,
    partitions: tuple[Expr, ...],
    is_number_used: bool,
) -> None:
    plan = Project(Filter(numbered(partitions), predicates), (X, Y, NUMBER) if is_number_used else (X, Y))
    better = optimise(plan)
    assert limits(better) == ([expected] if expected else [])
    if expected:
        assert any(isinstance(node, Window) for node in nodes(better)) == is_number_used
    for connection in databases():
        assert answer(connection, plan_sql(better)) == answer(connection, plan_sql(plan))


def test_other_functions_keep_their_rows() -> None:
    for function in ("rank", "dense_rank"):
        plan = Filter(numbered((X,), function), (compare(NUMBER, "<=", number(2)),))
        assert limits(optimise(plan)) == []
    both = Window(TABLE, (*numbered((X,)).functions, *numbered((X,), "rank").functions))
    assert limits(optimise(Filter(both, (compare(NUMBER, "<=", number(2)),)))) == []


def test_a_function_asked_for_twice_is_one() -> None:
    twice = Window(TABLE, numbered((X,)).functions * 2)
    plan = Filter(twice, (compare(Ref(4, "BIGINT"), "<=", number(2)),))
    stacked = Filter(Window(numbered((X,)), numbered((X,)).functions), plan.predicates)
    for given in (plan, stacked):
        better = optimise(given)
        assert limits(better) == [(2, 0)]
        assert better.types == given.types
        for connection in databases():
            assert answer(connection, plan_sql(better)) == answer(connection, plan_sql(given))
