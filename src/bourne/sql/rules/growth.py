"""Which parts of a plan only ever grow: rows are added, none vanishes and none changes, if that holds for the logs.

Whoever reads such a stream needs no way to take a row back.
"""

from __future__ import annotations

from collections.abc import Callable

from bourne.sql.plan import (
    Aggregate,
    Filter,
    Get,
    Join,
    Plan,
    Project,
    Union,
    Unnest,
    Values,
    children,
    nodes,
)


def append_only(plan: Plan, growing: Callable[[Get], bool]) -> dict[int, bool]:
    """Say for each node, by its id, whether its output can only grow; `growing` says it of the logs."""
    found: dict[int, bool] = {}
    for node in nodes(plan):
        inputs = all(found[id(child)] for child in children(node))
        match node:
            case Get():
                found[id(node)] = growing(node)
            case Values() | Project() | Filter() | Unnest() | Union():
                found[id(node)] = inputs
            case Aggregate(groups=groups, aggregations=aggregations):
                found[id(node)] = inputs and bool(groups) and not aggregations
            case Join(kind=kind):  # a row of the other joins waits for its match, and is changed by it
                found[id(node)] = inputs and kind in {"inner", "semi"}
            case _:
                found[id(node)] = False
    return found
