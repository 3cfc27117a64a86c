"""DISTINCT, UNION, EXCEPT and INTERSECT of DuckDB's plan, with and without ALL.

Law: a row that is l times in the left and r times in the right is max(l - r, 0) times in EXCEPT ALL and min(l, r)
times in INTERSECT ALL; without ALL it is there once, if l > 0 and r = 0 (EXCEPT) or r > 0 (INTERSECT). So both are
one count per row and side; NULLs are alike in it, as in GROUP BY.
"""

from __future__ import annotations

from bourne.sql.bind_expressions import read_expression, read_order
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    Call,
    Expr,
    Filter,
    Literal,
    Plan,
    Project,
    Ref,
    TopN,
    Union,
    Unnest,
)


def bind_distinct(binding: Binding, node: Json, child: Plan) -> Plan:
    """Read DISTINCT, as groups without functions, or DISTINCT ON, as the first row of each."""
    binding.expect(node, "distinct_type", "distinct_targets", "order_by")
    targets = tuple(read_expression(binding, target, child.types) for target in node["distinct_targets"])
    words = ("DISTINCT", "UNION", "EXCEPT", "INTERSECT")
    binding.check_keys(targets, *words)
    place = binding.place(*words)
    is_all = targets == columns(child)
    if not all(isinstance(target, Ref) for target in targets):
        raise binding.refuse("this DISTINCT", "DISTINCT")
    below = node["children"][0]
    if (
        is_all
        and below["type"] in ("LOGICAL_EXCEPT", "LOGICAL_INTERSECT")
        and not below.get("setop_all", True)
    ):
        return child  # they give a row once already
    if is_all:
        return Aggregate(child, targets, (), place)
    if node["distinct_type"] != "DISTINCT_ON":
        raise binding.refuse("this DISTINCT", "DISTINCT")
    orders = node.get("order_by", {}).get("orders", [])
    if not orders:
        raise binding.refuse(
            "DISTINCT ON without an ORDER BY", "DISTINCT", hint="say by ORDER BY which row is wanted"
        )
    return TopN(
        child, targets, tuple(read_order(binding, order, child.types) for order in orders), 1, span=place
    )


def bind_union(binding: Binding, node: Json, inputs: list[Plan]) -> Plan:
    """Read UNION ALL; a union right below it is part of it."""
    binding.expect(node, "table_index", "column_count", "setop_all", "allow_out_of_order")
    parts: list[Plan] = []
    for child, plan in zip(node["children"], inputs, strict=True):
        parts += plan.children if child["type"] == "LOGICAL_UNION" and isinstance(plan, Union) else [plan]
    if any(part.types != parts[0].types for part in parts):
        raise binding.refuse("a UNION of different types", "UNION", hint="CAST both sides to the same types")
    return Union(tuple(parts))


def bind_difference(binding: Binding, node: Json, left: Plan, right: Plan) -> Plan:
    """Read EXCEPT or INTERSECT, [ALL]."""
    binding.expect(node, "table_index", "column_count", "setop_all", "allow_out_of_order")
    if left.types != right.types:
        raise binding.refuse(
            "sides of different types", "EXCEPT", "INTERSECT", hint="CAST both to the same types"
        )
    is_except = node["type"] == "LOGICAL_EXCEPT"
    place = binding.place("EXCEPT" if is_except else "INTERSECT")
    one, none = Literal("1", "INTEGER"), Literal("NULL::INTEGER", "INTEGER")
    both = Union((Project(left, (*columns(left), one, none)), Project(right, (*columns(right), none, one))))
    groups, width = columns(left), len(left.types)
    counts = tuple(
        Aggregation("count", (Ref(width + side, "INTEGER"),), "BIGINT", span=place) for side in (0, 1)
    )
    counted = Aggregate(both, groups, counts, place)
    lefts, rights = Ref(width, "BIGINT"), Ref(width + 1, "BIGINT")
    if not node.get("setop_all", True):
        is_kept = _call("=" if is_except else ">", rights, Literal("(0)::BIGINT", "BIGINT"))
        return Project(Filter(counted, (_is_positive(lefts), is_kept)), groups)
    copies = _call("-", lefts, rights) if is_except else _call("least", lefts, rights)
    times = Call("range", (copies,), ("",), "BIGINT[]", None)
    return Project(Unnest(Filter(counted, (_is_positive(copies),)), (times,), ("BIGINT",)), groups)


def columns(plan: Plan) -> tuple[Ref, ...]:
    """Return all columns of a plan."""
    return tuple(Ref(index, kind) for index, kind in enumerate(plan.types))


def _is_positive(count: Expr) -> Expr:
    return _call(">", count, Literal("(0)::BIGINT", "BIGINT"))


def _call(function: str, first: Expr, second: Expr) -> Expr:
    kind = "BOOLEAN" if function in ("=", ">") else first.type
    return Call(function, (first, second), ("", ""), kind, None)
