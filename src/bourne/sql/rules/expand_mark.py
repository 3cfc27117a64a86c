"""A mark join whose mark is a value (`SELECT x IN (…)`, `WHERE x IN (…) OR …`) becomes plain joins.

Law: every left row meets at most one row of each of the inputs joined to it here, as they are distinct in their keys:
no left row is lost or doubled. What such a row says is that a combination of keys has a match, or surely has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from bourne.sql.plan import Aggregate, Case, Expr, Filter, Join, JoinKey, Literal, Logic, Plan, Ref, Test
from bourne.sql.rules.lineage import is_never_null
from bourne.sql.rules.mark_to_semi import distinct_keys, surely_unmatched
from bourne.sql.rules.tree import FALSE, TRUE, IsShared, columns, project, refs, replace_refs, rewrite

_UNKNOWN = Literal("NULL::BOOLEAN", "BOOLEAN")


def expand_mark(plan: Plan) -> Plan:
    """Replace every mark join."""
    return rewrite(plan, _expand)


def _expand(node: Plan, _: IsShared) -> Plan:
    if not isinstance(node, Join) or node.kind != "mark":
        return node
    others = [key for key in node.keys if not key.is_null_safe]
    if node.residual is None and len(others) <= 1:
        return _by_keys(node, others)
    return _by_rows(node)


def _by_keys(join: Join, others: Sequence[JoinKey]) -> Plan:
    """At most one key may be NULL: then the answer is unknown, if there is any right row to compare with."""
    safe = [key for key in join.keys if key.is_null_safe]
    ordered = [*safe, *others]
    plan, is_match = _looked_up(join.left, Aggregate(join.right, tuple(key.right for key in ordered) or (TRUE,), ()),
                                ordered)  # fmt: skip
    branches: list[tuple[Expr, Expr]] = [(is_match, TRUE)]
    for key in others:
        if not is_never_null(join.left, key.left):
            plan, is_any = _looked_up(plan, distinct_keys(join.right, safe), safe)
            branches.append((Logic("AND", (_test("IS NULL", key.left), is_any)), _UNKNOWN))
        if not is_never_null(join.right, key.right):
            nulls = Filter(join.right, (_test("IS NULL", key.right),))
            plan, is_null = _looked_up(plan, distinct_keys(nulls, safe), safe)
            branches.append((is_null, _UNKNOWN))
    return _with_mark(join, plan, Case(tuple(branches), FALSE, "BOOLEAN"))


def _by_rows(join: Join) -> Plan:
    """Ask once for each distinct combination of what the condition reads of the left rows."""
    width = len(join.left.types)
    used = sorted(index for index in refs(join.residual) if index < width)
    asked: list[Expr] = [key.left for key in join.keys] + [Ref(i, join.left.types[i]) for i in used]
    count = len(asked)
    rows = Aggregate(join.left, tuple(asked) or (TRUE,), ())
    keys = tuple(
        JoinKey(Ref(i, key.left.type), key.right, key.is_null_safe) for i, key in enumerate(join.keys)
    )
    places = {old: new for new, old in enumerate(used, len(keys))}
    residual = replace_refs(
        join.residual,
        lambda ref: Ref(
            places[ref.index] if ref.index < width else ref.index - width + len(rows.types), ref.type
        ),
    )
    lookup = [JoinKey(part, Ref(i, part.type), is_null_safe=True) for i, part in enumerate(asked)]
    matched = Join("semi", rows, join.right, keys, residual, join.span)
    unmatched = surely_unmatched(Join("mark", rows, join.right, keys, residual, join.span))
    plan, is_match = _looked_up(join.left, matched, lookup[:count])
    plan, is_none = _looked_up(plan, unmatched, lookup[:count])
    return _with_mark(join, plan, Case(((is_match, TRUE), (is_none, FALSE)), _UNKNOWN, "BOOLEAN"))


def _looked_up(left: Plan, right: Plan, keys: Sequence[JoinKey]) -> tuple[Plan, Expr]:
    """Join the left rows to the right one with their keys, its first columns; say how to tell whether there is one."""
    there = project(right, (*columns(right), TRUE))
    on = tuple(JoinKey(key.left, Ref(i, key.right.type), key.is_null_safe) for i, key in enumerate(keys))
    found = Ref(len(left.types) + len(right.types), "BOOLEAN")
    return Join("left", left, there, on), _test("IS NOT NULL", found)


def _with_mark(join: Join, plan: Plan, mark: Expr) -> Plan:
    """Return the columns that the mark join had."""
    return project(plan, (*columns(join.left), mark))


def _test(kind: str, expression: Expr) -> Expr:
    return Test(kind, (expression,), "BOOLEAN")
