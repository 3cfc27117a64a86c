"""An aggregate or a window function that is asked for twice is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from bourne.sql.plan import Aggregate, Aggregation, Expr, Plan, Ref, Window, WindowFunction
from bourne.sql.rules.tree import IsShared, columns, project, rewrite, unplaced

F = TypeVar("F", Aggregation, WindowFunction)


def merge_functions(plan: Plan) -> Plan:
    """Replace a function that is equal to one before by its column; window functions also by one right below."""
    return rewrite(plan, _merge)


def _merge(node: Plan, _: IsShared) -> Plan:
    match node:
        case Aggregate(child=child, groups=groups, aggregations=aggregations):
            kept, outputs = _once(aggregations, {}, len(groups))
            if len(kept) == len(aggregations):
                return node
            merged = Aggregate(child, groups, tuple(kept), node.span)
            return project(merged, (*columns(merged)[: len(groups)], *outputs))
        case Window(child=child, functions=functions):
            known: dict[object, Ref] = {}
            below = child
            while isinstance(below, Window):
                start = len(below.child.types)
                known |= {unplaced(f): Ref(i, f.type) for i, f in enumerate(below.functions, start)}
                below = below.child
            fresh, outputs = _once(functions, known, len(child.types))
            if len(fresh) == len(functions):
                return node
            return project(Window(child, tuple(fresh)) if fresh else child, (*columns(child), *outputs))
    return node


def _once(functions: Sequence[F], known: dict[object, Ref], start: int) -> tuple[list[F], list[Expr]]:
    """Return the functions that are not known yet, to be columns from `start` on, and where each one's value is."""
    fresh: list[F] = []
    outputs: list[Expr] = []
    for function in functions:
        plain = unplaced(function)
        if plain not in known:
            known[plain] = Ref(start + len(fresh), function.type)
            fresh.append(function)
        outputs.append(known[plain])
    return fresh, outputs
