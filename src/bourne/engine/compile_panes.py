"""Aggregates over hopping windows become nodes: panes, where every record would otherwise be a row per window."""

from __future__ import annotations

from dataclasses import dataclass

from bourne.engine.bounds import bounds_of
from bourne.engine.graph import Graph
from bourne.engine.kernels.stage import Stage
from bourne.engine.monotone import is_constant
from bourne.engine.operators.aggregate import Function
from bourne.engine.operators.functions import make_accumulator
from bourne.engine.operators.panes import Panes
from bourne.engine.stages import linear_sql
from bourne.schema import arrow_type, is_storable
from bourne.sql.outline import describe
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    Call,
    Cast,
    Expr,
    Filter,
    Get,
    Literal,
    Plan,
    Project,
    Ref,
    Test,
    Unnest,
)
from bourne.sql.rules.tree import refs, substitute, unplaced

# Functions of which that of the whole is made of those of the parts.
_MERGEABLE = frozenset({"count", "count_star", "sum", "avg", "min", "max", "bool_and", "bool_or"})


@dataclass(frozen=True, slots=True)
class _Hops:
    """A hopping window as it stands in a plan: what is below it, its list of starts, and what is read of both."""

    below: Plan
    starts: Expr
    newest: Expr
    oldest: Expr
    groups: tuple[Expr, ...]
    aggregations: tuple[Aggregation, ...]
    predicates: tuple[Expr, ...]

    @property
    def width(self) -> int:
        return len(self.below.types)


def panes(graph: Graph, plan: Aggregate) -> int | None:
    """Return a node for an aggregate over hopping windows that come out once; None if it is not one that can be merged."""
    hops = _hops(graph, plan) if graph.is_final else None
    if hops is None:
        return None
    keys = [group for group in hops.groups if refs(group) and max(refs(group)) < hops.width]
    read = [
        part for each in hops.aggregations for part in (*each.arguments[:1], each.filter) if part is not None
    ]
    columns = list(dict.fromkeys((*keys, *read)))
    is_there = Test("IS NOT NULL", (hops.newest,), "BOOLEAN")
    below = Project(Filter(hops.below, (*hops.predicates, is_there)), (*columns, hops.newest, hops.oldest))
    bound = bounds_of(Project(hops.below, (hops.oldest,)), graph.inputs).get(0)
    places = {column: place for place, column in enumerate(columns)}
    if bound is None or not all(is_storable(column.type) for column in columns):
        return None

    def functions() -> list[Function] | None:
        made = []
        for each in hops.aggregations:
            accumulator = make_accumulator(
                each.function,
                [arrow_type(a.type) for a in each.arguments],
                arrow_type(each.type),
                is_growing=True,
            )
            if accumulator is None:
                return None
            argument = places[each.arguments[0]] if each.arguments else None
            made.append(Function(accumulator, argument, None if each.filter is None else places[each.filter]))
        return made

    own = functions()
    if own is None:
        return None
    steps, get = graph.linear_part(below)
    if not isinstance(get, Get):
        return None
    last = len(below.expressions) - 1
    source = graph.late(steps, get, below, {last - 1: bound}, raised={last: bound})
    given = graph.nodes[source]
    element = hops.newest.type
    pane = Get("panes", ("pane",), (element,))
    of_pane = Unnest(pane, (substitute(hops.starts, [Ref(0, element)] * hops.width),), (element,))
    starts = Stage(graph.databases.linear, linear_sql([of_pane], [element], ()))
    operator = Panes(
        given.arrow_types, len(keys), own, lambda: [each.accumulator for each in functions() or []], starts.run,
        bound=graph.bound(bound),
    )  # fmt: skip
    types = (*(key.type for key in keys), element, *(each.type for each in hops.aggregations))
    made = graph.add(
        operator, (source,), types, "panes", grows=True, rule="a row per group and slide; windows are put together when they close",
        cost="O(delta and the panes of windows that close)", growth="a row per group and slide of open windows",
        detail=describe(plan, graph.names), is_timed=True,
    )  # fmt: skip
    at = Ref(len(keys), element)
    items: list[Expr] = [
        Ref(keys.index(group), group.type) if group in keys else substitute(group, [at] * (hops.width + 1))
        for group in hops.groups
    ]
    items += [Ref(len(keys) + 1 + i, each.type) for i, each in enumerate(hops.aggregations)]
    rows = Get("windows", tuple(f"c{i}" for i in range(len(types))), types)
    graph.of_plan[id(rows)] = (rows, made)
    return graph.linear(Project(rows, tuple(items)))


def _hops(graph: Graph, plan: Aggregate) -> _Hops | None:
    """Return the hopping window that an aggregate is over, if its groups and functions allow for panes."""
    steps, source = graph.linear_part(plan.child)
    if not isinstance(source, Get) or not graph.has_late(source.relation):
        return None
    wanted: tuple[tuple[Expr, ...], tuple[Aggregation, ...]] = (plan.groups, plan.aggregations)
    predicates: tuple[Expr, ...] = ()
    for step in reversed(steps):
        match step:
            case Project(expressions=expressions):
                wanted, predicates = substitute(wanted, expressions), substitute(predicates, expressions)
            case Filter(predicates=more):
                predicates = (*predicates, *more)
            case Unnest(child=below, lists=(starts,)):
                found = _ends(starts)
                if found is None:
                    return None
                hops = _Hops(below, starts, *found, *wanted, predicates)
                return hops if _is_mergeable(hops) else None
            case _:
                return None
    return None


def _is_mergeable(hops: _Hops) -> bool:
    """Say whether each group is of the record or of the window, and all else of the record alone."""
    width = hops.width
    sides = [{index >= width for index in refs(group)} for group in hops.groups]
    inner = refs((hops.aggregations, hops.predicates))
    is_plain = all(
        each.function in _MERGEABLE and not each.is_distinct and not each.orders for each in hops.aggregations
    )
    return (
        is_plain and bool(hops.aggregations) and {True} in sides and all(len(side) == 1 for side in sides)
        and all(index < width for index in inner) and len(refs(hops.starts)) == 1
        and hops.newest.type in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
    )  # fmt: skip


def _ends(starts: Expr) -> tuple[Expr, Expr] | None:
    """Return the newest and the oldest of the starts of a record's windows, if these are hopping windows."""
    match starts:
        case Call(
            function="generate_series",
            arguments=(Call(function="-", arguments=(last, back)) as oldest, newest, step),
        ):
            is_hop = unplaced(last) == unplaced(newest) and is_constant(back) and _is_start(newest, step)
            return (newest, oldest) if is_hop else None
        case Call(function="__local_windows", arguments=(time, zone, kind, count)):
            first, last = (_number(0), Call("-", (_number(1), count), ("", ""), "BIGINT", None))
            newest, oldest = (
                Call("__local_window", (time, zone, kind, place), ("",) * 4, "TIMESTAMP", None)
                for place in (first, last)
            )
            return newest, oldest
        case Cast(argument=argument, is_try=False, type=target) if target.endswith("[]"):
            found = _ends(argument)
            if found is None:
                return None
            last_cast, first_cast = (Cast(end, target[:-2], is_try=False, span=None) for end in found)
            return last_cast, first_cast
    return None


def _is_start(time: Expr, step: Expr) -> bool:
    """Say whether this is the start of a stretch as long as a step: that of a start is itself."""
    match time:
        case Call(function="time_bucket", arguments=(width, inner)):
            return unplaced(width) == unplaced(step) and isinstance(inner, Ref)
        case Call(function="+", arguments=(Call(function="time_bucket", arguments=(width, inner)), offset)):
            match inner:
                case Call(function="-", arguments=(Ref(), other)):
                    return unplaced((width, other)) == unplaced((step, offset)) and is_constant(offset)
    return False


def _number(value: int) -> Literal:
    return Literal(f"({value})::BIGINT", "BIGINT")
