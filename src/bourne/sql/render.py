"""Bound expressions to SQL text that DuckDB binds to the same expression again.

That it does is not believed but checked: `bourne.sql.bind` binds what this file renders and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bourne.schema import quote
from bourne.sql.plan import (
    Aggregation,
    Call,
    Case,
    Cast,
    Expr,
    Frame,
    Literal,
    Logic,
    Order,
    Ref,
    Test,
    WindowFunction,
)


def render(expression: Expr, column: Callable[[int], str]) -> str:
    """Return the expression as SQL; `column` names the child's columns."""

    def text(part: Expr) -> str:
        return render(part, column)

    match expression:
        case Ref(index=index):
            return column(index)
        case Literal(text=literal):
            return literal
        case Cast(argument=argument, type=target, is_try=is_try):
            return f"{'TRY_CAST' if is_try else 'CAST'}({text(argument)} AS {target})"
        case Logic(word=word, arguments=arguments):
            return "(" + f" {word} ".join(text(a) for a in arguments) + ")"
        case Case(branches=branches, otherwise=otherwise):
            whens = " ".join(f"WHEN {text(when)} THEN {text(then)}" for when, then in branches)
            return f"CASE {whens} ELSE {text(otherwise)} END"
        case Test(kind=kind, arguments=arguments):
            return _test(kind, [text(a) for a in arguments])
        case Call():
            return _call(expression, [text(a) for a in expression.arguments])


def render_order(order: Order, column: Callable[[int], str]) -> str:
    """Return one key of an ORDER BY as SQL."""
    direction = "DESC" if order.is_descending else "ASC"
    return (
        f"{render(order.expression, column)} {direction} NULLS {'FIRST' if order.is_nulls_first else 'LAST'}"
    )


def render_orders(orders: Sequence[Order], column: Callable[[int], str]) -> str:
    """Return `ORDER BY …` as SQL, nothing if there are no keys."""
    return f"ORDER BY {', '.join(render_order(order, column) for order in orders)}" if orders else ""


def render_aggregation(aggregation: Aggregation, column: Callable[[int], str]) -> str:
    """Return the call of an aggregate function as SQL."""
    if aggregation.function == "count_star":
        call = "count(*)"
    else:
        arguments = ", ".join(render(argument, column) for argument in aggregation.arguments)
        inside = [
            "DISTINCT" if aggregation.is_distinct else "",
            arguments,
            render_orders(aggregation.orders, column),
        ]
        call = f"{quote(aggregation.function)}({' '.join(part for part in inside if part)})"
    return call + (f" FILTER (WHERE {render(aggregation.filter, column)})" if aggregation.filter else "")


def render_window(
    function: WindowFunction, column: Callable[[int], str], *, partition: str | None = None
) -> str:
    """Return a function with its OVER as SQL; `partition` replaces what it partitions by."""
    if function.function == "count_star":
        call = "count(*)"
    else:
        inside = [
            "DISTINCT" if function.is_distinct else "",
            ", ".join(render(argument, column) for argument in function.arguments),
            render_orders(function.argument_orders, column),
            "IGNORE NULLS" if function.is_ignoring_nulls else "",
        ]
        call = f"{quote(function.function)}({' '.join(part for part in inside if part)})"
    if function.filter:
        call += f" FILTER (WHERE {render(function.filter, column)})"
    partitions = partition or ", ".join(render(part, column) for part in function.partitions)
    window = [
        f"PARTITION BY {partitions}" if partitions else "",
        render_orders(function.orders, column),
        _frame(function.frame, column),
    ]
    return f"{call} OVER ({' '.join(part for part in window if part)})"


def _frame(frame: Frame, column: Callable[[int], str]) -> str:
    def bound(words: str, offset: Expr | None) -> str:
        return f"{render(offset, column)} {words}" if offset else words

    start, end = bound(frame.start, frame.start_offset), bound(frame.end, frame.end_offset)
    exclude = "" if frame.exclude == "NO OTHERS" else f" EXCLUDE {frame.exclude}"
    return f"{frame.unit} BETWEEN {start} AND {end}{exclude}"


def _test(kind: str, arguments: list[str]) -> str:
    first, rest = arguments[0], ", ".join(arguments[1:])
    return {
        "NOT": f"(NOT {first})",
        "IS NULL": f"({first} IS NULL)",
        "IS NOT NULL": f"({first} IS NOT NULL)",
        "IN": f"({first} IN ({rest}))",
        "NOT IN": f"({first} NOT IN ({rest}))",
        "COALESCE": f"COALESCE({', '.join(arguments)})",
        "TRY": f"TRY({first})",
    }[kind]


def _call(call: Call, arguments: list[str]) -> str:
    is_symbol = not call.function.isidentifier()
    if is_symbol and len(arguments) == 2:
        return f"({arguments[0]} {call.function} {arguments[1]})"
    if is_symbol and len(arguments) == 1:
        return f"({call.function} {arguments[0]})"
    named = [f"{quote(name)} := {a}" if name else a for name, a in zip(call.names, arguments, strict=True)]
    return f"{quote(call.function)}({', '.join(named)})"
