"""Joins of DuckDB's plan: equal keys, the rest of the condition, and which columns come out.

Law: a comparison by `=` or IS NOT DISTINCT FROM between an expression of the left and one of the right is a key;
whatever else is asked for is the residual, over the left and then the right columns. Keys and residual together are
the join's condition, whose truth for `mark` has three values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from bourne.sql.bind_lateral import undo_lateral
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.plan import (
    AsOf,
    Call,
    Comparison,
    Expr,
    Join,
    JoinKey,
    JoinKind,
    Literal,
    Logic,
    Plan,
    Project,
    Ref,
    walk,
)
from bourne.sql.round_trip import read_checked
from bourne.sql.rules.tree import project, shift

_KINDS: dict[str, JoinKind] = {kind.upper(): kind for kind in get_args(JoinKind)} | {"OUTER": "full"}

_KEYS = {"COMPARE_EQUAL": False, "COMPARE_NOT_DISTINCT_FROM": True}

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}

_WORDS: dict[JoinKind, tuple[str, ...]] = {
    "mark": ("EXISTS", "IN", "ANY", "ALL"),
    "single": ("SELECT",),
}


def bind_join(binding: Binding, node: Json, left: Plan, right: Plan) -> Plan:
    """Read a comparison join, a join on any condition, or a cross product."""
    binding.expect(
        node, "join_type", "mark_index", "conditions", "condition", "mark_types", "left_projection_map",
        "right_projection_map",
    )  # fmt: skip
    kind = _KINDS.get(node.get("join_type", "INNER"))
    if kind is None:
        raise binding.refuse(f"a {node['join_type']} join", "JOIN")
    keys, residuals = _conditions(binding, node, left, right)
    span = binding.place(*_WORDS.get(kind, ("JOIN",)))
    join = Join(kind, left, right, tuple(keys), _conjunction(residuals), span)
    return _projected(undo_lateral(join), join, node)


def bind_as_of(binding: Binding, node: Json, left: Plan, right: Plan) -> Plan:
    """Read an ASOF join."""
    binding.expect(
        node, "join_type", "mark_index", "conditions", "left_projection_map", "right_projection_map"
    )
    kind, span = node.get("join_type", "INNER"), binding.place("ASOF")
    if kind not in ("INNER", "LEFT"):
        raise binding.refuse(
            f"an ASOF {kind} join", "ASOF", hint="only inner and LEFT ones can be kept up to date"
        )
    keys: list[JoinKey] = []
    times: list[tuple[Expr, Expr, Comparison]] = []
    for condition in node["conditions"]:
        if set(condition) != {"left", "right", "comparison"}:
            raise binding.refuse("this condition of an ASOF join", "ASOF", span=span)
        (left_part,) = read_checked(binding, [condition["left"]], left.types)
        (right_part,) = read_checked(binding, [condition["right"]], right.types)
        if condition["comparison"] in _KEYS:
            keys.append(JoinKey(left_part, right_part, _KEYS[condition["comparison"]]))
        elif condition["comparison"] in _NEAREST:
            times.append((left_part, right_part, _NEAREST[condition["comparison"]]))
    if len(times) != 1 or len(keys) + 1 != len(node["conditions"]):
        raise binding.refuse("this condition of an ASOF join", "ASOF", span=span)
    ((first, second, comparison),) = times
    if not all(time.type in _TIMES for time in (first, second)):
        raise binding.refuse(f"an ASOF join by {first.type}", "ASOF", hint="join by a date or a timestamp")
    plan = AsOf(left, right, tuple(keys), first, second, comparison, kind == "LEFT", span)
    width = len(left.types)
    lefts = node.get("left_projection_map") or range(width)
    rights = node.get("right_projection_map") or range(len(right.types))
    return project(plan, [Ref(i, plan.types[i]) for i in (*lefts, *(width + i for i in rights))])


_NEAREST: dict[str, Comparison] = {
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_LESSTHAN": "<",
}

_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS")


def _conditions(binding: Binding, node: Json, left: Plan, right: Plan) -> tuple[list[JoinKey], list[Expr]]:
    keys: list[JoinKey] = []
    residuals: list[Expr] = []
    types = (*left.types, *right.types)
    width = len(left.types)
    for condition in node.get("conditions", []):
        comparison = condition["comparison"]
        if set(condition) - {"left", "right", "comparison"}:
            raise binding.refuse("this join condition", "JOIN", span=binding.span(condition["left"]))
        if "right" not in condition and comparison == "INVALID":
            (whole,) = read_checked(binding, [condition["left"]], types)
            residuals.append(whole)
            continue
        (first,) = read_checked(binding, [condition["left"]], left.types)
        (second,) = read_checked(binding, [condition["right"]], right.types)
        if comparison in _KEYS:
            keys.append(JoinKey(first, second, _KEYS[comparison]))
        elif comparison in _COMPARISONS:
            residuals.append(_comparison(_COMPARISONS[comparison], first, shift(second, width)))
        else:
            raise binding.refuse(f"a join by {comparison}", "JOIN", span=binding.span(condition["left"]))
    if "condition" in node:
        (whole,) = read_checked(binding, [node["condition"]], types)
        for part in _conjuncts(whole):
            key = _key(part, width)
            if key is not None:
                keys.append(key)
            elif not (isinstance(part, Literal) and part.text == "true"):
                residuals.append(part)
    return keys, residuals


def _key(part: Expr, width: int) -> JoinKey | None:
    """Return the key that a comparison of one side with the other is, if it is one."""
    if not isinstance(part, Call) or part.function not in ("=", "IS NOT DISTINCT FROM"):
        return None
    first, second = part.arguments
    if first.type != second.type:
        return None
    if _side(first, width) == "right" and _side(second, width) == "left":
        first, second = second, first
    if _side(first, width) != "left" or _side(second, width) != "right":
        return None
    return JoinKey(first, shift(second, -width), part.function != "=")


def _side(expression: Expr, width: int) -> str | None:
    """Return the one side of a join that an expression reads."""
    sides = {"left" if part.index < width else "right" for part in walk(expression) if isinstance(part, Ref)}
    return sides.pop() if len(sides) == 1 else None


def _comparison(symbol: str, first: Expr, second: Expr) -> Expr:
    return Call(symbol, (first, second), ("", ""), "BOOLEAN", None)


def _conjuncts(expression: Expr) -> tuple[Expr, ...]:
    if isinstance(expression, Logic) and expression.word == "AND":
        return tuple(part for argument in expression.arguments for part in _conjuncts(argument))
    return (expression,)


def _conjunction(parts: Sequence[Expr]) -> Expr | None:
    if len(parts) > 1:
        return Logic("AND", tuple(parts))
    return parts[0] if parts else None


def _projected(plan: Plan, join: Join, node: Json) -> Plan:
    """Let only those columns of a join, given as any plan, out that DuckDB's projection maps name."""
    width, both = len(join.left.types), len(join.types)
    lefts = node.get("left_projection_map") or range(width)
    rights: Sequence[int] = range(both - width)
    if join.kind not in ("semi", "anti", "mark"):
        rights = node.get("right_projection_map") or rights
    picked = [*lefts, *(width + index for index in rights)]
    if picked == list(range(both)):
        return plan
    return Project(plan, tuple(Ref(index, join.types[index]) for index in picked))
