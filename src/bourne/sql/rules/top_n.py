"""A filter on row_number() keeps the first rows of each partition: TopN, which need not number the others.

Law: the rows numbered from a to b are the rows that TopN with offset a - 1 and limit b - a + 1 keeps, in the same
order; numbered again among themselves they have the same numbers, less the offset. Where the order leaves rows equal,
SQL leaves their numbers open; here they follow from the other columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bourne.sql.plan import (
    Call,
    Cast,
    Expr,
    Filter,
    Literal,
    Plan,
    Ref,
    TopN,
    Window,
    WindowFunction,
)
from bourne.sql.rules.tree import FALSE, IsShared, columns, filtered, project, rewrite

_INTEGER = re.compile(r"\(?(-?\d+)\)?(?:::\w+)?")
_SWAPPED: Mapping[str, str] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def top_n(plan: Plan) -> Plan:
    """Replace each row_number() that is only computed to keep the first rows."""
    return rewrite(plan, _limited)


def _limited(plan: Plan, is_shared: IsShared) -> Plan:
    match plan:
        case Filter(child=Window(child=child, functions=(function,)) as window, predicates=predicates) if (
            not is_shared(window)
        ):
            number = Ref(len(child.types), function.type)
            bounds = [_bounds(predicate, number) for predicate in predicates]
            first = max([1, *(low for low, _ in filter(None, bounds) if low is not None)])
            lasts = [high for _, high in filter(None, bounds) if high is not None]
            if not lasts or not _is_plain_row_number(function):
                return plan
            rest = [predicate for predicate, bound in zip(predicates, bounds, strict=True) if bound is None]
            if min(lasts) < first:
                return Filter(window, (FALSE,))
            limit, offset = min(lasts) - first + 1, first - 1
            kept = TopN(child, function.partitions, function.orders, limit, offset, function.span)
            outputs = (*columns(child), _plus(number, offset))
            return filtered(project(Window(kept, (function,)), outputs), rest)
    return plan


def _is_plain_row_number(function: WindowFunction) -> bool:
    return function.function == "row_number" and not function.argument_orders and function.filter is None


def _bounds(predicate: Expr, number: Ref) -> tuple[int | None, int | None] | None:
    """Return the first and the last number that a predicate lets through; None if it asks for something else."""
    if not isinstance(predicate, Call) or predicate.function not in _SWAPPED:
        return None
    sides: Sequence[Expr] = predicate.arguments
    symbol = predicate.function
    if sides[1] == number:
        sides, symbol = (sides[1], sides[0]), _SWAPPED[symbol]
    value = _integer(sides[1])
    if sides[0] != number or value is None:
        return None
    return {
        "<": (None, value - 1),
        "<=": (None, value),
        ">": (value + 1, None),
        ">=": (value, None),
        "=": (value, value),
    }[symbol]


def _integer(expression: Expr) -> int | None:
    """Return the value of a whole number's literal, also where it was cast to the type of row_number()."""
    if isinstance(expression, Cast) and expression.type == "BIGINT":
        expression = expression.argument
    match expression:
        case Literal(text=text, type=kind) if kind.endswith("INT") or kind == "INTEGER":
            found = _INTEGER.fullmatch(text)
            return int(found[1]) if found else None
    return None


def _plus(number: Ref, offset: int) -> Expr:
    if not offset:
        return number
    return Call("+", (number, Literal(f"({offset})::BIGINT", "BIGINT")), ("", ""), "BIGINT", None)
