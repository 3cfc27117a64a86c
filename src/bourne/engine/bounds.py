"""How far the times in a view's rows have come: which rows cannot come, or change, any more.

Law: let the time of a log's records have come to w: no record with an earlier one is taken in. An expression e of that
time that never goes back while its argument goes on (the start of a window, a local day, an instant some seconds later)
has then come to e(w): no row with a smaller value of it is added or taken back any more. So the bound of a column is its
own expression, of w; windows need no rules of their own. What a smaller value would change is closed, and need not be
remembered.

Such expressions: Begoli et al., One SQL to Rule Them All (2019), on watermarks of relations; Tucker et al., Exploiting
Punctuation Semantics (2003), on what passes through which operator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bourne.log.catalog import LogInfo
from bourne.log.relation import only_grows
from bourne.sql.plan import (
    Aggregate,
    Call,
    Cast,
    Expr,
    Filter,
    Get,
    Join,
    Literal,
    Plan,
    Project,
    Ref,
    TopN,
    Union,
    Unnest,
    Window,
    walk,
)
from bourne.sql.render import render

# What a bound calls the time that the log has come to: a TIMESTAMP.
TIME: Final = "__time"

# A column's number to its bound: SQL over TIME.
Bounds = Mapping[int, str]


def bounds_of(plan: Plan, inputs: Mapping[str, LogInfo]) -> Bounds:
    """Return the bounds of a plan's columns, of those that have one, where what is closed is neither taken in nor kept."""
    match plan:
        case Get(relation=relation, columns=columns, types=types):
            return _of_log(inputs.get(relation), columns, types)
        case Filter(child=child):
            return bounds_of(child, inputs)
        case Project(child=child, expressions=expressions):
            return of_expressions(expressions, bounds_of(child, inputs))
        case Unnest(child=child, lists=lists):
            below = bounds_of(child, inputs)
            width = len(child.types)
            return {**below, **{width + i: text for i, text in _of_lists(lists, below).items()}}
        case Union(children=children):
            found = [bounds_of(child, inputs) for child in children]
            return {
                i: _least([each[i] for each in found]) for i in found[0] if all(i in each for each in found)
            }
        case Aggregate(child=child, groups=groups):
            return of_expressions(groups, bounds_of(child, inputs))
        case TopN(child=child, partitions=partitions):
            below = bounds_of(child, inputs)
            return {p.index: below[p.index] for p in partitions if isinstance(p, Ref) and p.index in below}
        case Window(child=child, functions=functions):
            below = bounds_of(child, inputs)
            common = set.intersection(
                *({p.index for p in f.partitions if isinstance(p, Ref)} for f in functions)
            )
            return {i: below[i] for i in common if i in below}
        case Join():
            return {}
        case _:
            return {}


def of_expressions(expressions: Sequence[Expr], below: Bounds) -> Bounds:
    """Return the bounds of expressions over columns with these bounds."""
    return {
        i: render(expression, lambda index: f"({below[index]})")
        for i, expression in enumerate(expressions)
        if _goes_on(expression, below)
    }


def _of_log(info: LogInfo | None, columns: Sequence[str], types: Sequence[str]) -> Bounds:
    if info is None or not only_grows(info):
        return {}
    if info.bounds:
        known = dict(info.bounds)
        return {i: known[name] for i, name in enumerate(columns) if name in known}
    if info.time is None:
        return {}
    return {
        i: TIME if types[i] == "TIMESTAMP" else f"CAST({TIME} AS {types[i]})"
        for i, name in enumerate(columns)
        if name.casefold() == info.time.casefold()
    }


def _of_lists(lists: Sequence[Expr], below: Bounds) -> Bounds:
    """Return the bounds of what is unnested: the least element at that time."""
    return {
        i: f"list_min({render(item, lambda index: f'({below[index]})')})"
        for i, item in enumerate(lists)
        if _list_goes_on(item, below)
    }


def _least(texts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(texts))
    return distinct[0] if len(distinct) == 1 else f"least({', '.join(distinct)})"


# --- what never goes back ---


def _goes_on(expression: Expr, below: Collection[int]) -> bool:
    """Say whether an expression never goes back while the columns of these numbers go on, and has no other columns."""
    match expression:
        case Ref(index=index):
            return index in below
        case Cast(argument=argument, is_try=False, type=target):
            return _is_time(argument.type) and _is_time(target) and _goes_on(argument, below)
        case Call(function="+", arguments=(first, second)) if _is_time(expression.type):
            return (_goes_on(first, below) and is_constant(second)) or (
                is_constant(first) and _goes_on(second, below)
            )
        case Call(function="-", arguments=(first, second)) if _is_time(expression.type):
            return _goes_on(first, below) and is_constant(second)
        case Call(function="time_bucket", arguments=(width, time, *origin)):
            return (
                is_constant(width)
                and _goes_on(time, below)
                and all(is_constant(each) or _is_local_start(each, below) for each in origin)
            )
        case Call(function="date_trunc", arguments=(part, time)):
            return is_constant(part) and _goes_on(time, below)
        case Call(function="__local_window", arguments=(time, *kind)):
            return _goes_on(time, below) and all(map(is_constant, kind))
        case Call(function="timezone", arguments=(Literal(text="'UTC'"), time)):
            return _goes_on(time, below)
        case Call(function="least" | "greatest", arguments=parts):
            return any(_goes_on(part, below) for part in parts) and all(
                is_constant(part) or _goes_on(part, below) for part in parts
            )
    return False


def _list_goes_on(item: Expr, below: Collection[int]) -> bool:
    """Say whether the least element of a list never goes back while those columns go on."""
    match item:
        case Cast(argument=argument, is_try=False):
            return _list_goes_on(argument, below)
        case Call(function="generate_series" | "range", arguments=(first, last, step)):
            return _goes_on(first, below) and _goes_on(last, below) and is_constant(step)
        case Call(function="list_append", arguments=(items, last)):
            return _list_goes_on(items, below) and _goes_on(last, below)
        case Call(function="__local_windows", arguments=(time, *kind)):
            return _goes_on(time, below) and all(map(is_constant, kind))
    return False


def _is_local_start(expression: Expr, below: Collection[int]) -> bool:
    """Say whether this is where a local window begins that holds the time: parts of it follow each other, too."""
    match expression:
        case Cast(argument=argument, is_try=False):
            return _is_local_start(argument, below)
        case Call(function="__local_window"):
            return _goes_on(expression, below)
    return False


def is_constant(expression: Expr) -> bool:
    """Say whether an expression reads no column."""
    return not any(isinstance(part, Ref) for part in walk(expression))


def _is_time(spelled: str) -> bool:
    return spelled.startswith("TIMESTAMP") or spelled == "DATE"
