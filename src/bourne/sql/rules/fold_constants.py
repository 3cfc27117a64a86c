"""Relations that are constant become constants: no rows, or one row that is joined to every other.

DuckDB's plan of a correlated count(*) asks what an aggregate gives over no rows; the answer is known.
"""

from __future__ import annotations

from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    Filter,
    Join,
    Literal,
    Plan,
    Project,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
)
from bourne.sql.rules.tree import IsShared, columns, project, rewrite, substitute

# What these give over no rows; functions that are in neither are left to be computed.
_ZERO = frozenset({"count", "count_star"})
_NULL = frozenset({"sum", "min", "max", "avg", "first", "last", "any_value", "bool_and", "bool_or", "string_agg", "list",
                   "arg_min", "arg_max", "median", "stddev_samp", "var_samp"})  # fmt: skip


def fold_constants(plan: Plan) -> Plan:
    """Replace what is constant by its value."""
    return rewrite(plan, _fold)


def _fold(node: Plan, _: IsShared) -> Plan:
    match node:
        case Project() | Filter() | Unnest() | Window() | TopN() if _is_empty(node.child):
            return Values((), node.types)
        case Project(child=Values(rows=(row,)), expressions=expressions):
            return Values((substitute(expressions, row),), node.types)
        case Aggregate(child=child, groups=groups, aggregations=aggregations) if _is_empty(child):
            if groups:
                return Values((), node.types)
            values = [_over_nothing(aggregation) for aggregation in aggregations]
            known = tuple(value for value in values if value is not None)
            return Values((known,), node.types) if len(known) == len(values) else node
        case Union(children=inputs):
            rest = tuple(child for child in inputs if not _is_empty(child))
            if len(rest) < len(inputs):
                return Union(rest) if rest else Values((), node.types)
        case Join(
            kind="inner" | "left" | "single", left=left, right=Values(rows=(row,)), keys=(), residual=None
        ):
            return project(left, (*columns(left), *row))
        case Join(kind="inner", left=Values(rows=(row,)), right=right, keys=(), residual=None):
            return project(right, (*row, *columns(right)))
    return node


def _is_empty(plan: Plan) -> bool:
    return isinstance(plan, Values) and not plan.rows


def _over_nothing(aggregation: Aggregation) -> Literal | None:
    if aggregation.function in _ZERO:
        return Literal(f"(0)::{aggregation.type}", aggregation.type)
    if aggregation.function in _NULL:
        return Literal(f"NULL::{aggregation.type}", aggregation.type)
    return None
