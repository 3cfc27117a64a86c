"""Conditions on the time of day: rows that are there from one instant of the clock on, or until one.

Law: a condition is kept only if it compares something that does not depend on the clock with the clock, moved by a constant
or cut to days: then it turns once, at an instant that is known from the row. Everything else that asks a clock is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bourne.errors import NotMaintainable
from bourne.sql.bind_expressions import check_calls, read_any
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.intervals import NoInterval, signed_us
from bourne.sql.plan import Call, Cast, ClockTest, Comparison, Expr, Literal, walk
from bourne.sql.round_trip import check_expressions
from bourne.sql.unstable import CLOCKS, hidden, named_in

_TURNED: dict[str, Comparison] = {">": "<", ">=": "<=", "<": ">", "<=": ">="}
_DAY_US = 24 * 3600 * 1_000_000


def asks_clock(node: Any) -> bool:
    """Say whether a bound expression asks for the time of day."""
    if isinstance(node, dict):
        return any(asks_clock(value) for value in node.values())
    if isinstance(node, list):
        return any(asks_clock(item) for item in node)
    return isinstance(node, str) and named_in(node) in CLOCKS


def read_clock_tests(binding: Binding, node: Json, types: tuple[str, ...]) -> list[ClockTest]:
    """Read a condition that asks a clock; equality with a day is two of them.

    Raises:
        NotMaintainable: it does not turn at an instant that is known from the row.
    """
    expression = read_any(binding, node, types)
    check_expressions(binding, [expression], [node], types)
    found = [_test(part) for part in _parts(expression)]
    tests = [test for test in found if test is not None]
    if len(tests) < len(found) or (len(tests) > 1 and not all(test.is_date for test in tests)):
        raise _refuse(binding, expression, node)
    for test in tests:
        check_calls(binding, test.expression)
    return tests


def _parts(expression: Expr) -> list[Expr]:
    if isinstance(expression, Call) and expression.function == "=":
        return [replace(expression, function=word) for word in (">=", "<=")]
    return [expression]


def _refuse(binding: Binding, expression: Expr, node: Json) -> NotMaintainable:
    name = next(found for part in walk(expression) if (found := hidden(part)) in CLOCKS)
    return binding.refuse(
        f"this condition on {name}()", name, "WHERE", span=binding.span(node),
        hint="compare a column with the clock, moved by a constant of fixed length: at > now() - INTERVAL '1 hour', "
        "day >= current_date - 7; several are joined by AND",
    )  # fmt: skip


def _test(expression: Expr) -> ClockTest | None:
    match expression:
        case Call(function=">" | ">=" | "<" | "<=" as word, arguments=(first, second)):
            comparison: Comparison = word
        case _:
            return None
    if first.type == "INTERVAL":
        return _age_test(comparison, first, second)
    if _asks(first):
        first, second, comparison = second, first, _TURNED[comparison]
    clock = _clock(second)
    if clock is None or _asks(first) or not _is_time(first.type):
        return None
    is_date, offset_us = clock
    return ClockTest(_timestamp(first), comparison, offset_us, is_date)


def _age_test(comparison: Comparison, first: Expr, second: Expr) -> ClockTest | None:
    """Read `now() - at < INTERVAL …`, or the same turned round."""
    if isinstance(first, Literal):
        first, second, comparison = second, first, _TURNED[comparison]
    match first, second:
        case Call(function="-", arguments=(later, earlier)), Literal() if _is_time(later.type):
            limit = _fixed_us(second)
        case _:
            return None
    if limit is None:
        return None
    if _asks(later):  # now - x < limit: x > now - limit
        clock, other, offset, word = _clock(later), earlier, -limit, _TURNED[comparison]
    else:  # x - now < limit: x < now + limit
        clock, other, offset, word = _clock(earlier), later, limit, comparison
    if clock is None or clock[0] or _asks(other):
        return None
    return ClockTest(_timestamp(other), word, clock[1] + offset, is_date=False)


def _clock(expression: Expr) -> tuple[bool, int] | None:
    """Return whether an expression is the clock cut to days, and by how many microseconds it is moved after that."""
    name = hidden(expression)
    if name in CLOCKS:
        return CLOCKS[name], 0
    match expression:
        case Cast(argument=argument, type=target, is_try=False):
            below = _clock(argument)
            if below is None or (target == "DATE" and below[1] % _DAY_US and below[0]):
                return None
            if target == "DATE":
                return (True, below[1]) if below[0] or below[1] == 0 else None
            return below if _is_time(target) else None
        case Call(function="+" | "-" as sign, arguments=(inner, amount)):
            below, us = _clock(inner), _moved_us(amount)
            return (
                None if below is None or us is None else (below[0], below[1] + (us if sign == "+" else -us))
            )
        case Call(function="+", arguments=(amount, inner)):
            below, us = _clock(inner), _moved_us(amount)
            return None if below is None or us is None else (below[0], below[1] + us)
    return None


def _moved_us(amount: Expr) -> int | None:
    if isinstance(amount, Literal) and amount.type == "INTEGER":  # added to a date: days
        days = re.search(r"-?\d+", amount.text)
        return None if days is None else int(days[0]) * _DAY_US
    return _fixed_us(amount)


def _fixed_us(amount: Expr) -> int | None:
    """Return a constant interval of fixed length in microseconds."""
    if not isinstance(amount, Literal) or amount.type != "INTERVAL":
        return None
    try:
        return signed_us(amount.text)
    except NoInterval:
        return None


def _asks(expression: Expr) -> bool:
    return any(hidden(part) in CLOCKS for part in walk(expression) if isinstance(part, Cast))


def _timestamp(expression: Expr) -> Expr:
    match expression:
        case Cast(argument=argument, type="TIMESTAMP WITH TIME ZONE", is_try=False) if (
            argument.type == "TIMESTAMP"
        ):
            return argument  # what DuckDB put there to compare it with now()
    return (
        expression
        if expression.type == "TIMESTAMP"
        else Cast(expression, "TIMESTAMP", is_try=False, span=None)
    )


def _is_time(spelled: str) -> bool:
    return spelled == "DATE" or spelled.startswith("TIMESTAMP")
