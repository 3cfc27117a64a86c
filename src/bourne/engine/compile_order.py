"""What depends on the order of rows becomes nodes: the first rows of each partition, and window functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bourne.engine.bounds import bounds_of
from bourne.engine.compile_groups import anew, until
from bourne.engine.graph import Graph
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.closing import Closing
from bourne.engine.operators.linear import Pick
from bourne.engine.operators.session import Session as SessionOperator
from bourne.engine.operators.temporal import Temporal as TemporalOperator
from bourne.engine.operators.temporal import Turn
from bourne.engine.operators.top_n import TopN as TopNOperator
from bourne.engine.stages import rank_sql
from bourne.sql.outline import describe
from bourne.sql.plan import Expr, Ref, Session, Temporal, TopN, Window
from bourne.sql.rules.tree import refs

# The first rows of each partition are kept in a matrix: up to so many each, or of all together.
_FIRST_MAX = 64
_FIRST_OF_ALL_MAX = 1 << 16


def top_n(graph: Graph, plan: TopN) -> int:
    """Return a node for the first rows of each partition."""
    if _is_pruning(graph, plan):
        return _first_rows(graph, plan, has_rank=False)
    number, columns, times = graph.with_groups(plan.child, plan.partitions)
    given = graph.nodes[number]
    why = (
        "its input takes rows back" if not graph.grows[number] else "rows before the first one count"
        if plan.offset else "there is no last one" if plan.limit is None else "they are many"
    )  # fmt: skip
    result = anew(graph,
        plan, number, columns, given.types, f"top {plan.limit}", times=times,
        rule=f"touched partitions computed anew: {why}",
        cost="O(partition)" if columns else "O(state)", growth="every row",
    )  # fmt: skip
    if len(given.types) == len(plan.types):
        return result
    return graph.columns(range(len(plan.types)), result, plan, grows=graph.grows[result])


def _is_pruning(graph: Graph, plan: TopN) -> bool:
    """Say whether rows that are not among the first now never will be, and the first are few enough."""
    is_few = plan.limit is not None and plan.limit <= (_FIRST_MAX if plan.partitions else _FIRST_OF_ALL_MAX)
    return is_few and plan.offset == 0 and graph.will_grow(plan.child)


def _first_rows(graph: Graph, plan: TopN, *, has_rank: bool) -> int:
    """Return a node that remembers nothing but the first rows; with `has_rank`, their rank is one more column."""
    assert plan.limit is not None
    keys = [*plan.partitions, *(order.expression for order in plan.orders)]
    count = len(plan.partitions)
    number, columns, times = graph.with_groups(plan.child, keys, count)
    given = graph.nodes[number]
    graph.check_types(given.types, plan.span)
    orders = [
        (column, order.is_descending, order.is_nulls_first)
        for column, order in zip(columns[count:], plan.orders, strict=True)
    ]
    operator = TopNOperator(
        Stage(graph.databases.grouped, rank_sql(plan, given.types)).run, types=given.arrow_types, key=columns[:count],
        orders=orders, n=plan.limit, has_rank=has_rank, closing=Closing(times) if times else None,
        is_final=graph.is_final and bool(times),
    )  # fmt: skip
    types = (*given.types, "BIGINT") if has_rank else given.types
    is_final = graph.is_final and bool(times)
    result = graph.add(
        operator, (number,), types, f"top {plan.limit}", grows=is_final,
        rule="only rows that can still be in it" + until(bool(times), is_final=is_final),
        growth="the first rows of each partition" if count else "the first rows",
        detail=describe(plan, graph.names), is_timed=bool(times),
    )  # fmt: skip
    shown = [*range(len(plan.types)), *([len(given.types)] if has_rank else [])]
    if shown == list(range(len(types))):
        return result
    return graph.add(Pick(shown), (result,), [types[i] for i in shown], "columns", grows=is_final)


def temporal(graph: Graph, plan: Temporal) -> int:
    """Return a node for rows that come and go as time goes on."""
    width = len(plan.types)
    number, columns = graph.with_columns(plan.child, [test.expression for test in plan.tests])
    given = graph.nodes[number]
    graph.check_types(given.types, None)
    turns = [
        Turn(column, test.comparison, test.offset_us, test.is_date)
        for column, test in zip(columns, plan.tests, strict=True)
    ]
    return graph.add(
        TemporalOperator(given.arrow_types, turns, width), (number,), plan.types, "filter by the clock", grows=False,
        rule="rows come and go when their time has come", growth="rows whose time has not ended",
        detail=describe(plan, graph.names), is_timed=True,
    )  # fmt: skip


def session(graph: Graph, plan: Session) -> int:
    """Return a node for sessions: their own operator where the input only grows, else keys computed anew."""
    width = len(plan.child.types)
    end = bounds_of(plan, graph.inputs).get(width + 1) if graph.emit.closes else None
    bound = None if end is None else graph.bound(end)
    number, columns = graph.with_columns(
        plan.child, [*plan.keys, plan.time], keep_to=() if bound is None else sorted(refs(plan.time))
    )
    given, key = graph.nodes[number], columns[:-1]
    types = (*given.types, *plan.types[width:])
    if not graph.grows[number] or plan.time.type not in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        wide = replace(plan, time=Ref(columns[-1], plan.time.type))
        result = anew(graph,
            wide, number, key, types, "sessions", times=[],
            rule="touched keys computed anew: rows are taken back", cost="O(partition)", growth="every row",
        )  # fmt: skip
    else:
        graph.check_types(given.types, None)
        is_timed = bound is not None
        is_final = graph.is_final and is_timed
        operator = SessionOperator(
            given.arrow_types, key=key, time=columns[-1], gap_us=plan.gap_us, bound=bound, is_final=is_final
        )
        result = graph.add(
            operator, (number,), types, "sessions", grows=is_final,
            rule="sessions that new rows touch" + until(is_timed, is_final=is_final), cost="O(delta and the sessions it touches)",
            growth="rows of open sessions" if is_timed else "every row", detail=describe(plan, graph.names),
            keeps_rows=not is_timed, is_timed=is_timed,
        )  # fmt: skip
    order = [*range(width), len(given.types), len(given.types) + 1]
    if order == list(range(len(order))):
        return result
    return graph.columns(order, result, plan, grows=graph.grows[result])


def windows(graph: Graph, plan: Window) -> int:
    """Return nodes for window functions: one for those of the same partitions, one above the other."""
    if isinstance(plan.child, TopN) and _is_rank_of(graph, plan, plan.child):
        return _first_rows(graph, plan.child, has_rank=True)
    width = len(plan.child.types)
    number = -1
    below, places = plan.child, dict[int, int]()
    left = dict(enumerate(plan.functions))
    while left:
        partitions = next(iter(left.values())).partitions
        now = {i: function for i, function in left.items() if function.partitions == partitions}
        layer = plan if len(now) == len(plan.functions) else Window(below, tuple(now.values()))
        places |= {i: len(below.types) + at for at, i in enumerate(now)}
        number = _window(graph, layer, partitions)
        graph.of_plan[id(layer)] = (layer, number)
        below, left = layer, {i: function for i, function in left.items() if i not in now}
    order = [*range(width), *(places[i] for i in range(len(plan.functions)))]
    if order == list(range(len(order))):
        return number
    return graph.columns(order, number, plan, grows=graph.grows[number])


def _is_rank_of(graph: Graph, plan: Window, below: TopN) -> bool:
    """Say whether the only function is the rank of the rows that the top-n below keeps in order."""
    function, *others = plan.functions
    return (
        not others and function.function == "row_number"
        and (function.partitions, function.orders) == (below.partitions, below.orders)
        and graph.parents[id(below)] <= 1 and _is_pruning(graph, below)
    )  # fmt: skip


def _window(graph: Graph, plan: Window, partitions: Sequence[Expr]) -> int:
    number, columns, times = graph.with_groups(plan.child, partitions)
    given = graph.nodes[number]
    types = (*given.types, *(function.type for function in plan.functions))
    label = "window " + ", ".join(function.function for function in plan.functions)
    result = anew(graph,
        plan, number, columns, types, label, times=times,
        rule="touched partitions computed anew: window functions have no rule of their own",
        cost="O(partition)" if columns else "O(state)", growth="every row",
    )  # fmt: skip
    width, more = len(plan.child.types), len(given.types)
    if width == more:
        return result
    order = [*range(width), *range(more, len(types))]
    return graph.columns(order, result, plan, grows=graph.grows[result])
