"""Joins by the distance of two times: their rows meet by stretches of time, not each with each.

Law: if l and r match only where r.t - l.t is between two constants, c and c + w, cut time into stretches of length w. Then
x = r.t - c lies in l.t's stretch or in the next one, in exactly one of them: r, copied into its own stretch and into the
one before it, meets l once, by an equality. The condition itself stays, so nothing else depends on this.

Of two copies of a row without a partner only one would be right, so the side whose lonely rows come out is not copied; a
full join stays as it is. A shared rule of stream processors; Flink keeps such rows in lists by their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bourne.duck import cursor
from bourne.sql.plan import Call, Cast, Expr, Filter, Join, JoinKey, Literal, Plan, Project, Ref, Unnest
from bourne.sql.rules.tree import IsShared, conjunction, conjuncts, refs, rewrite, shift

# Shorter stretches than this are no use, longer ones than a century do not separate anything.
_WIDTH_MAX_US = 100 * 366 * 24 * 3600 * 1_000_000


def interval_joins(plan: Plan) -> Plan:
    """Give each join by a distance of times a key of stretches of time."""
    return rewrite(rewrite(plan, _gather), _stretch)


def _gather(node: Plan, is_shared: IsShared) -> Plan:
    """Put the conditions above an inner join into it."""
    if isinstance(node, Filter) and isinstance(node.child, Join) and not is_shared(node.child):
        join = node.child
        if join.kind == "inner":
            return replace(join, residual=conjunction(conjuncts([join.residual, *node.predicates])))
    return node


@dataclass(frozen=True, slots=True)
class _Bound:
    """`right - left >= at_us` (or `<=`) of two times, each an expression over its own side."""

    left: Expr
    right: Expr
    at_us: int
    is_lower: bool


def _stretch(node: Plan, _: IsShared) -> Plan:
    if (
        not isinstance(node, Join)
        or node.kind not in ("inner", "left", "semi", "anti")
        or node.residual is None
    ):
        return node
    width = len(node.left.types)
    found = [bound for part in conjuncts([node.residual]) if (bound := _bound(part, width)) is not None]
    for lower in (each for each in found if each.is_lower):
        for upper in (each for each in found if not each.is_lower):
            length = upper.at_us - lower.at_us
            if (lower.left, lower.right) == (upper.left, upper.right) and 0 <= length <= _WIDTH_MAX_US:
                return _keyed(node, lower, max(length, 1))
    return node


def _keyed(join: Join, lower: _Bound, length_us: int) -> Plan:
    """Return the join with the key; its output has the same columns."""
    step = Literal(f"(to_microseconds({length_us}))", "INTERVAL")
    moved = _plus(lower.right, -lower.at_us)
    own = _bucket(step, moved)
    before = Call("-", (own, step), ("", ""), "TIMESTAMP", None)
    both = Call("list_value", (before, own), ("", ""), "TIMESTAMP[]", None)
    right = Unnest(join.right, (both,), ("TIMESTAMP",))
    key = JoinKey(_bucket(step, lower.left), Ref(len(join.right.types), "TIMESTAMP"), is_null_safe=False)
    joined = replace(join, right=right, keys=(*join.keys, key))
    if join.kind in ("semi", "anti"):
        return joined
    return Project(joined, tuple(Ref(i, kind) for i, kind in enumerate(join.types)))


def _bucket(step: Expr, time: Expr) -> Expr:
    return Call("time_bucket", (step, _timestamp(time)), ("", ""), "TIMESTAMP", None)


def _timestamp(time: Expr) -> Expr:
    return time if time.type == "TIMESTAMP" else Cast(time, "TIMESTAMP", is_try=False, span=None)


def _plus(time: Expr, us: int) -> Expr:
    given = _timestamp(time)
    if not us:
        return given
    return Call("+", (given, Literal(f"(to_microseconds({us}))", "INTERVAL")), ("", ""), "TIMESTAMP", None)


def _bound(part: Expr, width: int) -> _Bound | None:
    """Return what a condition says of the distance of two times, if it does."""
    match part:
        case (
            Call(function=">=" | ">", arguments=(later, earlier))
            | Call(function="<=" | "<", arguments=(earlier, later))
        ):
            pass
        case _:
            return None
    if not _is_time(later.type) or not _is_time(earlier.type):
        return None
    (first, first_us), (second, second_us) = _offset(earlier), _offset(later)
    sides = _side(first, width), _side(second, width)
    if sides == ("left", "right"):  # earlier + a <= later + b
        return _Bound(first, shift(second, -width), first_us - second_us, is_lower=True)
    if sides == ("right", "left"):
        return _Bound(second, shift(first, -width), second_us - first_us, is_lower=False)
    return None


def _offset(time: Expr) -> tuple[Expr, int]:
    """Return a time as another one, and the microseconds that are added to it."""
    match time:
        case Call(function="+" | "-", arguments=(inner, Literal(text=text, type="INTERVAL"))):
            us = _fixed_us(text)
            if us is not None and _is_time(inner.type):
                below, more = _offset(inner)
                return below, more + (us if time.function == "+" else -us)
        case Call(function="+", arguments=(Literal(text=text, type="INTERVAL"), inner)):
            us = _fixed_us(text)
            if us is not None and _is_time(inner.type):
                below, more = _offset(inner)
                return below, more + us
    return time, 0


def _fixed_us(text: str) -> int | None:
    """Return a constant interval in microseconds; None for one with months."""
    months, us = (
        cursor()
        .execute(
            f"SELECT datepart('year', i) * 12 + datepart('month', i), epoch_us(i) FROM (SELECT {text} AS i)"
        )
        .fetchall()[0]
    )
    return None if months is None or months else us


def _is_time(spelled: str) -> bool:
    return spelled in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def _side(expression: Expr, width: int) -> str:
    used: Sequence[int] = sorted(refs(expression))
    if not used:
        return "none"
    return "left" if used[-1] < width else "right" if used[0] >= width else "both"
