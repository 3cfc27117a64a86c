"""A filter on what a mark join found makes it a semi join or anti joins: WHERE x IN (…), NOT IN, EXISTS, NOT EXISTS.

Law: the mark is true if the condition is true of some right row; else NULL if it is unknown of some; else false. So
`WHERE mark` is a semi join. `WHERE NOT mark` keeps the left rows for which the condition is false of every right row:
without a match, and without a right row of which it is unknown, which takes a NULL on one of the two sides:

1. an anti join by all keys;
2. an anti join with the right rows that have a NULL in a key;
3. an anti join of the left rows that have a NULL in a key with all right rows.

Each is by keys, so that a step costs what changed; 2 and 3 see few rows where NULLs are few, and are left out where a
filter lets none through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bourne.sql.plan import Aggregate, Expr, Filter, Join, JoinKey, Logic, Plan, Ref, Test
from bourne.sql.rules.lineage import is_never_null
from bourne.sql.rules.tree import (
    FALSE,
    TRUE,
    IsShared,
    columns,
    conjunction,
    equality,
    filtered,
    project,
    rewrite,
    shift,
    substitute,
)


def mark_to_semi(plan: Plan) -> Plan:
    """Replace each mark join that a filter reads by semi or anti joins."""
    return rewrite(plan, _unmark)


def _unmark(plan: Plan, is_shared: IsShared) -> Plan:
    match plan:
        case Filter(child=Join(kind="mark") as join, predicates=predicates) if not is_shared(join):
            mark = Ref(len(join.left.types), "BOOLEAN")
            if mark in predicates:
                return _kept(replace(join, kind="semi"), predicates, TRUE)
            if Test("NOT", (mark,), "BOOLEAN") in predicates:
                return _kept(surely_unmatched(join), predicates, FALSE)
    return plan


def _kept(plan: Plan, predicates: Sequence[Expr], mark: Expr) -> Plan:
    """Return the plan's rows for which the predicates are true, and the mark, which is known now."""
    outputs = (*columns(plan), mark)
    known = {TRUE, Test("NOT", (FALSE,), "BOOLEAN")}
    rest = [predicate for predicate in substitute(tuple(predicates), outputs) if predicate not in known]
    return project(filtered(plan, rest), outputs)


def surely_unmatched(join: Join) -> Plan:
    """Return the left rows for which the condition of a mark join is false of every right row."""
    width = len(join.left.types)
    safe = tuple(key for key in join.keys if key.is_null_safe)
    others = tuple(key for key in join.keys if not key.is_null_safe)
    if join.residual is not None:
        asked = [equality(key.left, shift(key.right, width)) for key in others]
        unknown = Test("COALESCE", (_all([*asked, join.residual]), TRUE), "BOOLEAN")
        return replace(join, kind="anti", keys=safe, residual=unknown)
    plan: Plan = replace(join, kind="anti")
    if not others:
        return plan
    nullable = [_is_null(key.right) for key in others if not is_never_null(join.right, key.right)]
    if nullable:
        nulls = Filter(join.right, (_any(nullable),))
        plan = _without(plan, distinct_keys(nulls, safe, others), safe, (), others)
    nullable = [_is_null(key.left) for key in others if not is_never_null(join.left, key.left)]
    if nullable:
        is_left_null = JoinKey(_any(nullable), TRUE, is_null_safe=False)
        plan = _without(plan, distinct_keys(join.right, safe, others), safe, (is_left_null,), others)
    return plan


def _without(
    left: Plan, right: Plan, safe: Sequence[JoinKey], more: Sequence[JoinKey], others: Sequence[JoinKey]
) -> Plan:
    """Return the left rows but those that agree with a right row in `safe`, and perhaps in the `others`.

    With one key in `others`, that it is NULL on one side is all there is to ask.
    """
    width = len(left.types)
    keys = [replace(key, right=Ref(i, key.right.type)) for i, key in enumerate(safe)]
    perhaps: list[Expr] = []
    if len(others) > 1:
        for place, key in enumerate(others, len(safe)):
            there = Ref(width + place, key.right.type)
            perhaps.append(_any([equality(key.left, there), _is_null(key.left), _is_null(there)]))
    return Join("anti", left, right, (*keys, *more), conjunction(perhaps))


def distinct_keys(right: Plan, safe: Sequence[JoinKey], others: Sequence[JoinKey] = ()) -> Plan:
    """Return each combination of right keys once: `safe`, and `others` if they are more than one."""
    parts = tuple(key.right for key in (*safe, *(others if len(others) > 1 else ())))
    return Aggregate(right, parts or (TRUE,), ())


def _is_null(expression: Expr) -> Expr:
    return Test("IS NULL", (expression,), "BOOLEAN")


def _any(predicates: Sequence[Expr]) -> Expr:
    return predicates[0] if len(predicates) == 1 else Logic("OR", tuple(predicates))


def _all(predicates: Sequence[Expr]) -> Expr:
    return predicates[0] if len(predicates) == 1 else Logic("AND", tuple(predicates))
