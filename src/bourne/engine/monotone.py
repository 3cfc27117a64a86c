"""Expressions that never go back while the times in them go on.

Law: let the columns have come to bounds: no smaller value comes any more. Then no smaller value than the expression's, of
these bounds, comes of the expression. What is not known to be so has no bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bourne.sql.plan import Call, Cast, Expr, Literal, Ref, Test, walk
from bourne.sql.render import render

# A column's number to its bound, as SQL.
Bounds = Mapping[int, str]


def bound_of(expression: Expr, below: Bounds) -> str | None:
    """Return the bound of an expression over columns with these bounds; None if it has none."""
    if isinstance(expression, Test) and expression.kind == "COALESCE":  # is one of them
        texts = [bound_of(part, below) for part in expression.arguments]
        return None if None in texts else least([text for text in texts if text is not None])
    return render(expression, lambda index: f"({below[index]})") if goes_on(expression, below) else None


def of_expressions(expressions: Sequence[Expr], below: Bounds) -> Bounds:
    """Return the bounds of those expressions that have one, by their places."""
    found = {i: bound_of(expression, below) for i, expression in enumerate(expressions)}
    return {i: text for i, text in found.items() if text is not None}


def of_lists(lists: Sequence[Expr], below: Bounds) -> Bounds:
    """Return the bounds of what is unnested, by the lists' places: the least element at that time."""
    return {
        i: f"list_min({render(item, lambda index: f'({below[index]})')})"
        for i, item in enumerate(lists)
        if _list_goes_on(item, below)
    }


def least(texts: Sequence[str]) -> str:
    """Return the least of some bounds."""
    distinct = list(dict.fromkeys(texts))
    return distinct[0] if len(distinct) == 1 else f"least({', '.join(distinct)})"


def greatest(texts: Sequence[str]) -> str:
    """Return the greatest of some bounds."""
    distinct = list(dict.fromkeys(texts))
    return distinct[0] if len(distinct) == 1 else f"greatest({', '.join(distinct)})"


def goes_on(expression: Expr, below: Bounds) -> bool:
    """Say whether an expression never goes back while the columns of these numbers go on, and has no other columns."""
    match expression:
        case Ref(index=index):
            return index in below
        case Cast(argument=argument, is_try=False, type=target):
            return is_time(argument.type) and is_time(target) and goes_on(argument, below)
        case Call(function="+", arguments=(first, second)) if is_time(expression.type):
            return _is_moved(first, second, below) or _is_moved(second, first, below)
        case Call(function="-", arguments=(first, second)) if is_time(expression.type):
            return _is_moved(first, second, below)
        case Call(function="time_bucket", arguments=(width, time, *origin)):
            return (
                is_constant(width)
                and goes_on(time, below)
                and all(is_constant(each) or _is_local_start(each, below) for each in origin)
            )
        case Call(function="date_trunc", arguments=(part, time)):
            return is_constant(part) and goes_on(time, below)
        case Call(function="__local_window", arguments=(time, *kind)):
            return goes_on(time, below) and all(map(is_constant, kind))
        case Call(function="timezone", arguments=(Literal(text="'UTC'"), time)):
            return goes_on(time, below)
        case Call(function="least", arguments=parts):
            return any(goes_on(part, below) for part in parts) and all(
                is_constant(part) or goes_on(part, below) for part in parts
            )
    return False


def _list_goes_on(item: Expr, below: Bounds) -> bool:
    """Say whether the least element of a list never goes back while those columns go on."""
    match item:
        case Cast(argument=argument, is_try=False):
            return _list_goes_on(argument, below)
        case Call(function="generate_series", arguments=(first, last, step)):
            return goes_on(first, below) and goes_on(last, below) and _is_forward(step)
        case Call(function="list_value", arguments=items) if items:
            return all(goes_on(each, below) for each in items)
        case Call(
            function="list_append", arguments=(Call(function="range", arguments=(first, end, step)), last)
        ):
            return all(goes_on(each, below) for each in (first, end, last)) and _is_forward(step)
        case Call(function="__local_windows", arguments=(time, *kind)):
            return goes_on(time, below) and all(map(is_constant, kind))
    return False


def _is_moved(time: Expr, amount: Expr, below: Bounds) -> bool:
    """Say whether this is such a time, moved by a constant: of fixed length, or of months where it is a day's midnight.

    January 30 at ten is before January 31 at nine, but a month later it is not: both are February 28.
    """
    if not is_constant(amount) or not goes_on(time, below):
        return False
    return "to_months" not in render(amount, str) or _is_midnight(time, below)


def _is_midnight(time: Expr, below: Bounds) -> bool:
    match time:
        case Ref(index=index):
            return "to_months(" in below[index]
        case Cast(argument=argument, type=target):
            return target == "DATE" or _is_midnight(argument, below)
        case Call(function="date_trunc", arguments=(Literal(text=part), _)):
            return part.strip("'").casefold() in ("day", "week", "month", "quarter", "year")
        case Call(function="time_bucket", arguments=(width, _)):
            return "to_months" in render(width, str)
        case Call(function="+" | "-", arguments=(inner, amount)):
            return "to_months" in render(amount, str) and _is_midnight(inner, below)
    return False


def _is_forward(step: Expr) -> bool:
    """Say whether a step is a constant above zero."""
    return re.fullmatch(r"\(*to_(microseconds|months)\([1-9]\d*\)\)*", render(step, str)) is not None


def _is_local_start(expression: Expr, below: Bounds) -> bool:
    """Say whether this is where a local window begins that holds the time: parts of it follow each other, too."""
    match expression:
        case Cast(argument=argument, is_try=False):
            return _is_local_start(argument, below)
        case Call(function="__local_window"):
            return goes_on(expression, below)
    return False


def is_constant(expression: Expr) -> bool:
    """Say whether an expression reads no column."""
    return not any(isinstance(part, Ref) for part in walk(expression))


def is_time(spelled: str) -> bool:
    return spelled.startswith("TIMESTAMP") or spelled == "DATE"
