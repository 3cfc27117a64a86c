"""Where a plan's values come from, which of them are there only once, and which are never NULL."""

from __future__ import annotations

from collections.abc import Sequence

from bourne.sql.plan import (
    Aggregate,
    Expr,
    Filter,
    Join,
    Literal,
    Plan,
    Project,
    Ref,
    TopN,
    Unnest,
    Values,
    Window,
)
from bourne.sql.rules.totality import rejects_nulls
from bourne.sql.rules.tree import refs, shift, substitute, unplaced


def comes_from(plan: Plan, parts: tuple[Expr, ...], source: Plan) -> tuple[Expr, ...] | None:
    """Return expressions over `source` whose combined values, in its rows, include those of the parts in the plan's.

    None if that is not known: the plan's rows have to be rows of `source`, perhaps fewer, repeated or with more columns.
    """
    while plan is not source:
        used = refs(parts)
        match plan:
            case Project(child=child, expressions=expressions):
                parts, plan = substitute(parts, expressions), child
            case Filter(child=child) | TopN(child=child):
                plan = child
            case Window(child=child) | Unnest(child=child) if used <= set(range(len(child.types))):
                plan = child
            case Aggregate(child=child, groups=groups) if groups and used <= set(range(len(groups))):
                parts, plan = substitute(parts, groups), child
            case Join(kind=kind, left=left, right=right):
                width = len(left.types)
                if kind not in {"right", "full"} and used <= set(range(width)):
                    plan = left
                elif kind in {"inner", "right"} and min(used, default=0) >= width:
                    parts, plan = shift(parts, -width), right
                else:
                    return None
            case _:
                return None
    return parts


def is_unique(plan: Plan, parts: Sequence[Expr]) -> bool:
    """Say whether no two rows of the plan agree in all the parts."""
    given = tuple(parts)
    while True:
        match plan:
            case Project(child=child, expressions=expressions):
                given, plan = substitute(given, expressions), child
            case Filter(child=child):
                plan = child
            case Values(rows=rows):
                return len(rows) <= 1
            case TopN(partitions=partitions, limit=1):
                return set(unplaced(partitions)) <= set(unplaced(given))
            case Aggregate(groups=groups):
                return set(range(len(groups))) <= {part.index for part in given if isinstance(part, Ref)}
            case _:
                return False


def is_never_null(plan: Plan, part: Expr) -> bool:
    """Say whether the part, over the plan's columns, surely has a value in every row."""
    while isinstance(part, Ref):
        index = part.index
        match plan:
            case Filter(child=child, predicates=predicates):
                if any(rejects_nulls(predicate, frozenset([index])) for predicate in predicates):
                    return True
                plan = child
            case Project(child=child, expressions=expressions):
                part, plan = expressions[index], child
            case Window(child=child) | Unnest(child=child) | TopN(child=child) if index < len(child.types):
                plan = child
            case Aggregate(child=child, groups=groups, aggregations=aggregations):
                if index >= len(groups):
                    return aggregations[index - len(groups)].function in {"count", "count_star"}
                part, plan = groups[index], child
            case Join(kind=kind, left=left, keys=keys) if kind not in {"right", "full"} and index < len(
                left.types
            ):
                if kind in {"inner", "semi"} and any(
                    key.left == part and not key.is_null_safe for key in keys
                ):
                    return True
                plan = left
            case _:
                return False
    return isinstance(part, Literal) and not part.text.startswith("NULL")
