"""A window function that is asked for twice is computed once."""

from __future__ import annotations

from bourne.sql.plan import Expr, Plan, Ref, Window, WindowFunction
from bourne.sql.rules.tree import IsShared, columns, project, rewrite, unplaced


def merge_windows(plan: Plan) -> Plan:
    """Replace window functions equal to one before, in the same node or right below, by its column."""
    return rewrite(plan, _merge)


def _merge(node: Plan, _: IsShared) -> Plan:
    if not isinstance(node, Window):
        return node
    outputs: list[Expr] = list(columns(node.child))
    known: dict[WindowFunction, Ref] = {}
    below = node.child
    while isinstance(below, Window):
        known |= {unplaced(f): Ref(i, f.type) for i, f in enumerate(below.functions, len(below.child.types))}
        below = below.child
    fresh: list[WindowFunction] = []
    for function in node.functions:
        column = known.get(unplaced(function))
        if column is None:
            column = Ref(len(node.child.types) + len(fresh), function.type)
            known[unplaced(function)] = column
            fresh.append(function)
        outputs.append(column)
    if len(fresh) == len(node.functions):
        return node
    return project(Window(node.child, tuple(fresh)) if fresh else node.child, outputs)
