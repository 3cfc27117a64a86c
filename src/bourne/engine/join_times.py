"""What a join says of the times of its two sides: which rows can have no partner any more, and what it gives.

Law: let a condition be that f of a row of one side is not after g of one of the other, and let no row come any more whose f
is before F. Then a row whose g is before F has met all its partners: it can go. An equality says so twice. The rows that
are left have a g that is not before F; so what comes out later has none either.

A side that has no time (a table) may get a row for any old one of the other. There a row counts as long as its own time is
open: after that, it stays as it was joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal as OneOf

from bourne.engine.monotone import Bounds, bound_of, greatest, is_constant, is_time, least
from bourne.sql.plan import AsOf, Call, Cast, Expr, Join, Plan, Ref
from bourne.sql.render import render
from bourne.sql.rules.tree import conjuncts, refs, shift

Side = OneOf[0, 1]


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows match only if `earlier`, of one side, is not after `later`, of the other. Each is over its own columns."""

    side: Side  # of `earlier`
    earlier: Expr
    later: Expr


@dataclass(frozen=True, slots=True)
class JoinTimes:
    """Of each side, when a row can go: an expression over its columns is before a bound. And the output's bounds.

    `used` are the columns of each side that this relies on; `is_looking_up` says of a side that the other has no time.
    """

    ends: tuple[list[tuple[Expr, str]], list[tuple[Expr, str]]] = field(default_factory=lambda: ([], []))
    bounds: Bounds = field(default_factory=dict)
    used: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    is_looking_up: tuple[bool, bool] = (False, False)


def join_times(join: Join, left: Bounds, right: Bounds, is_timeless: Callable[[Plan], bool]) -> JoinTimes:
    """Return what a join's conditions say; `left` and `right` are the bounds of the sides' columns."""
    given = (left, right)
    ends: tuple[list[tuple[Expr, str]], list[tuple[Expr, str]]] = ([], [])
    used: list[set[int]] = [set(), set()]
    looking_up = [False, False]
    for condition in _conditions(join):
        used[condition.side] |= refs(condition.earlier)
        used[1 - condition.side] |= refs(condition.later)
        text = bound_of(condition.earlier, given[condition.side])
        if text is not None:
            ends[1 - condition.side].append((condition.later, text))
    for side, other in ((0, join.right), (1, join.left)):
        is_plain = not ends[side] and given[side] and not given[1 - side] and is_timeless(other)
        if is_plain and not _is_preserved(join, 1 - side):
            column, text = _lasting(given[side])
            ends[side].append((Ref(column, (join.left, join.right)[side].types[column]), text))
            used[side].add(column)
            looking_up[side] = True
    first, second = map(frozenset, used)
    return JoinTimes(ends, _output(join, given, ends), (first, second), (looking_up[0], looking_up[1]))


def as_of_times(plan: AsOf, left: Bounds, right: Bounds) -> JoinTimes:
    """Return what an ASOF join says: a row may get a nearer partner until the right side's time has come to its own.

    A right row may be the nearest one as long as left rows are to come, or are kept, that are not before it.
    """
    text = bound_of(plan.right_time, right)
    if plan.comparison not in (">=", ">") or text is None:
        return JoinTimes()
    used = (frozenset(refs(plan.left_time)), frozenset(refs(plan.right_time)))
    own = bound_of(plan.left_time, left)
    ends: tuple[list[tuple[Expr, str]], list[tuple[Expr, str]]] = ([(plan.left_time, text)], [])
    if own is not None:
        ends[1].append((plan.right_time, least([own, text])))
    found = {
        column: least([bound, inverse])
        for column, bound in left.items()
        if (inverse := _inverse(plan.left_time, column, text)) is not None
    }
    return JoinTimes(ends, found, used)


def _is_preserved(join: Join, side: int) -> bool:
    """Say whether rows of a side come out by themselves: where one has partners depends on what was forgotten then."""
    return join.kind in (("full", "right") if side else ("full", "left", "semi", "anti", "single", "mark"))


def _lasting(bounds: Bounds) -> tuple[int, str]:
    """Return the time by which a row counts: the start or end of a window, rather than an instant."""
    return max(bounds.items(), key=lambda item: (len(item[1]), -item[0]))


def _output(join: Join, given: Sequence[Bounds], ends: Sequence[Sequence[tuple[Expr, str]]]) -> Bounds:
    """Return the bounds of the output's columns; where one is NULL for want of a partner, others of the row say its time."""
    found: dict[int, str] = {}
    width = len(join.left.types)
    for side in (0, 1):
        if join.kind in ("semi", "anti", "mark") and side:
            continue
        for column, own in given[side].items():
            texts = [
                inverse for end, text in ends[side] if (inverse := _inverse(end, column, text)) is not None
            ]
            if texts:
                found[column + (width if side else 0)] = least([own, greatest(texts)])
    return found


def _inverse(end: Expr, column: int, text: str) -> str | None:
    """Return what a column is not before where an expression of it is not before a bound; None if that is not known."""
    match end:
        case Ref(index=index):
            return text if index == column else None
        case Cast(argument=argument, is_try=False) if is_time(argument.type):
            inner = _inverse(argument, column, text)
            return None if inner is None else f"CAST(({inner}) AS {argument.type})"
        case Call(function="+", arguments=(inner_end, amount)) if is_constant(amount) and _is_fixed(amount):
            return _inverse(inner_end, column, f"(({text}) - {_text(amount)})")
        case Call(function="-", arguments=(inner_end, amount)) if is_constant(amount) and _is_fixed(amount):
            return _inverse(inner_end, column, f"(({text}) + {_text(amount)})")
    return None


def _is_fixed(amount: Expr) -> bool:
    return amount.type == "INTERVAL" and "to_microseconds" in _text(amount)


def _text(amount: Expr) -> str:
    return render(amount, str)


def _conditions(join: Join) -> Iterator[Condition]:
    """Yield the conditions on times that all pairs meet."""
    for key in join.keys:
        if is_time(key.left.type):
            yield Condition(0, key.left, key.right)
            yield Condition(1, key.right, key.left)
    width = len(join.left.types)
    for part in conjuncts([join.residual]):
        match part:
            case (
                Call(function="<=" | "<", arguments=(earlier, later))
                | Call(function=">=" | ">", arguments=(later, earlier))
            ) if is_time(earlier.type) and is_time(later.type):
                sides = _sides(earlier, width), _sides(later, width)
                if sides == (0, 1):
                    yield Condition(0, earlier, shift(later, -width))
                elif sides == (1, 0):
                    yield Condition(1, shift(earlier, -width), later)


def _sides(expression: Expr, width: int) -> int | None:
    used = sorted(refs(expression))
    if not used or (used[0] < width <= used[-1]):
        return None
    return int(used[0] >= width)
