"""Aggregates become nodes: rows updated in place where each function has an accumulator, else groups computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from bourne.engine.delta import table_of
from bourne.engine.graph import Graph, Times
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.aggregate import Aggregate as AggregateOperator
from bourne.engine.operators.aggregate import Function
from bourne.engine.operators.closing import Closing
from bourne.engine.operators.distinct import Distinct, Pairs
from bourne.engine.operators.extremes import Retractable
from bourne.engine.operators.functions import make_accumulator
from bourne.engine.operators.recompute import Recompute
from bourne.engine.stages import empty_aggregate_sql, recompute_sql
from bourne.schema import arrow_type, is_storable
from bourne.sql.outline import describe
from bourne.sql.plan import Aggregate, Aggregation, Expr, Literal, Plan, Project, Ref, Session, TopN, Window


def aggregate(graph: Graph, plan: Aggregate, *, is_keyed: bool) -> int:
    """Return a node for an aggregate: accumulators where all its functions have one, else computed anew."""
    read = [e for each in plan.aggregations for e in (*each.arguments[:1], *_filter_of(each))]
    columns = list(dict.fromkeys((*plan.groups, *read)))
    below = Project(plan.child, (*plan.groups, *columns[len(set(plan.groups)) :]) or _any_column(plan.child))
    graph.check_types([group.type for group in plan.groups], plan.span)
    grows = graph.will_grow(below)
    places = {expression: i for i, expression in reversed(list(enumerate(below.expressions)))}
    functions = _functions(graph, plan.aggregations, places, grows=grows)
    if isinstance(functions, str):
        return _groups_anew(graph, plan, why=functions)
    source, times = graph.guaranteed(below, range(len(plan.groups)))
    is_final = graph.is_final and bool(times)
    operator = AggregateOperator(
        [arrow_type(group.type) for group in plan.groups], functions, is_growing=grows, is_keyed=is_keyed,
        closing=Closing(times) if times else None, is_final=is_final,
    )  # fmt: skip
    return graph.add(
        operator, (source,), plan.types, _aggregate_label(plan),
        grows=is_final or (grows and not plan.aggregations and bool(plan.groups)),
        rule="a row per group, updated in place" + until(bool(times), is_final=is_final),
        growth=_aggregate_growth(plan, functions), detail=describe(plan, graph.names), is_timed=bool(times),
    )  # fmt: skip


def _functions(
    graph: Graph, aggregations: Sequence[Aggregation], places: Mapping[Expr, int], *, grows: bool
) -> list[Function] | str:
    """Return the functions with what accumulates each, or why there is none for one of them."""
    result: list[Function] = []
    pairs: dict[Expr, Pairs] = {}
    for each in aggregations:
        if each.orders:
            return f"{each.function} with ORDER BY has no accumulator"
        if not all(is_storable(argument.type) for argument in each.arguments):
            return f"the arguments of {each.function} cannot be stored"
        types = [arrow_type(argument.type) for argument in each.arguments]
        accumulator = make_accumulator(each.function, types, arrow_type(each.type), is_growing=grows)
        if accumulator is None:
            named = ", ".join(argument.type for argument in each.arguments)
            return f"{each.function}({named}) has no accumulator{'' if grows else ' that takes rows back'}"
        argument = places[each.arguments[0]] if each.arguments else None
        test = None if each.filter is None else places[each.filter]
        if each.is_distinct and each.arguments:
            shared = pairs.setdefault(each.arguments[0], Pairs(types[0]))
            result.append(Function(Distinct(accumulator, shared), argument, test, shared))
        else:
            result.append(Function(accumulator, argument, test))
    return result


def _groups_anew(graph: Graph, plan: Aggregate, *, why: str) -> int:
    """Return a node for an aggregate whose groups are computed anew."""
    number, columns, times = graph.with_groups(plan.child, plan.groups)
    given = graph.nodes[number]
    when_empty = None
    if not plan.groups:
        empty = Stage(graph.databases.grouped, empty_aggregate_sql(plan, given.types))
        when_empty = empty.run(table_of([pa.array([], target) for target in given.arrow_types]))
    return anew(graph,
        plan, number, columns, plan.types, _aggregate_label(plan), times=times, when_empty=when_empty,
        rule=f"touched groups computed anew: {why}", cost="O(group)" if columns else "O(state)", growth="every row",
    )  # fmt: skip


def anew(
    graph: Graph, plan: Aggregate | TopN | Window | Session, number: int, key: Sequence[int], types: Sequence[str], label: str, *,
    times: Times, rule: str, growth: str | None, cost: str = "O(delta)",
    when_empty: pa.Table | None = None,
) -> int:  # fmt: skip
    """Return a node that computes touched groups anew; `key` are the columns of node `number` that tell groups apart."""
    given = graph.nodes[number]
    span = (
        plan.functions[0].span
        if isinstance(plan, Window)
        else None
        if isinstance(plan, Session)
        else plan.span
    )
    graph.check_types((*given.types, *types), span)
    operator = Recompute(
        Stage(graph.databases.grouped, recompute_sql(plan, given.types)).run,
        types=given.arrow_types, key=key, output_types=[arrow_type(spelled) for spelled in types],
        is_growing=graph.grows[number], when_empty=when_empty, closing=Closing(times) if times else None,
        is_final=graph.is_final and bool(times),
    )  # fmt: skip
    is_final = graph.is_final and bool(times)
    return graph.add(
        operator, (number,), types, label, grows=is_final, rule=rule + until(bool(times), is_final=is_final), cost=cost,
        growth=growth, detail=describe(plan, graph.names), keeps_rows=not times, is_timed=bool(times),
    )  # fmt: skip


def until(is_timed: bool, *, is_final: bool) -> str:
    """Say what becomes of groups that are closed."""
    return (
        ""
        if not is_timed
        else "; comes out, and is forgotten, when it is closed"
        if is_final
        else "; forgotten when closed"
    )


def _any_column(plan: Plan) -> tuple[Expr]:
    """Return what to hand on where only the number of rows counts: a table without columns has no rows."""
    return (Ref(0, plan.types[0]) if plan.types else Literal("true", "BOOLEAN"),)


def _filter_of(aggregation: Aggregation) -> tuple[Expr, ...]:
    return () if aggregation.filter is None else (aggregation.filter,)


def _aggregate_label(plan: Aggregate) -> str:
    if not plan.aggregations:
        return "distinct"
    functions = ", ".join(dict.fromkeys(aggregation.function for aggregation in plan.aggregations))
    return f"aggregate {functions}"


def _aggregate_growth(plan: Aggregate, functions: Sequence[Function]) -> str | None:
    kept = ["a row per group"] if plan.groups else []
    if any(function.pairs is not None for function in functions):
        kept.append("the distinct values of each" if plan.groups else "the distinct values")
    if any(isinstance(function.accumulator, Retractable) for function in functions):
        kept.append("the values of min and max, which may come back")
    return ", and ".join(kept) or None
