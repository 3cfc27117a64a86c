"""A plan becomes a circuit: each node an operator, by its fast rule where there is one, else by the generic one.

Invariant: what has no rule is refused here, when the view is declared, never computed wrongly. Whether a stream only
grows is known here and decides which rules are right for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import duckdb

from bourne.engine.bounds import CLOCK, TIME
from bourne.engine.circuit import Circuit, Node
from bourne.engine.compile_groups import aggregate
from bourne.engine.compile_inputs import get, values
from bourne.engine.compile_joins import as_of, join
from bourne.engine.compile_order import session, temporal, top_n, windows
from bourne.engine.compile_panes import panes
from bourne.engine.graph import Graph, Times, check_storable, label_of, picked_columns
from bourne.engine.kernels.stage import Databases, Stage
from bourne.engine.operators.aggregate import Aggregate as AggregateOperator
from bourne.engine.operators.apply import Apply
from bourne.engine.operators.hold import Hold
from bourne.engine.operators.linear import KEY, KeyedLinear, KeyedPick, Pick
from bourne.engine.operators.union import Union as UnionOperator
from bourne.engine.stages import linear_sql
from bourne.engine.watermark import is_timed
from bourne.errors import NotMaintainable, SqlError
from bourne.log.catalog import LogInfo
from bourne.log.relation import only_grows
from bourne.schema import arrow_type
from bourne.sql.outline import Names
from bourne.sql.plan import (
    Aggregate,
    AsOf,
    BoundQuery,
    Filter,
    Get,
    Join,
    Plan,
    Project,
    Session,
    Temporal,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    nodes,
)
from bourne.sql.rules import optimise
from bourne.sql.text import find_word
from bourne.udf import reason


def compile_circuit(
    query: BoundQuery,
    database: Databases | duckdb.DuckDBPyConnection,
    *,
    sql: str,
    inputs: Mapping[str, LogInfo] | None = None,
    view: str | None = None,
) -> Circuit:
    """Return a new circuit without state. `database` runs its stages; a single one must have one thread.

    `inputs` says of which log the records of each relation are; one that only grows, where it says nothing.

    Raises:
        NotMaintainable: an operator or function has no rule yet; names its place in `sql`.
    """
    try:
        for column in query.schema.columns:
            check_storable(column.type, sql)
        plan = optimise(query.plan)
        databases = database if isinstance(database, Databases) else Databases(lambda _: database)
        graph = Graph(databases, sql, inputs or {}, plan, Names(plan, query.schema.names), _rule, query.emit)
        return _circuit(graph) if query.function is None else _applied(_circuit(graph), query)
    except NotMaintainable as error:
        raise error.in_view(view) from None
    except duckdb.Error as error:
        raise SqlError(f"a constant cannot be computed: {reason(error)}", sql=sql, view=view) from error


def _circuit(graph: Graph) -> Circuit:
    if not graph.emit.closes and _keyed_output(graph):
        return Circuit(graph.read_nodes(), "upsert")
    top, times = graph.guaranteed(graph.plan, range(len(graph.plan.types)))
    is_plain = not any(node.operator.is_stateful for node in graph.nodes)
    if graph.emit.is_final and not (graph.grows[top] and (graph.is_final or is_plain or not times)):
        top = _held(graph, top, times)
    if top != len(graph.nodes) - 1:
        every = range(len(graph.plan.types))
        top = graph.add(Pick(every), (top,), graph.plan.types, "output", grows=graph.grows[top])
    promised = {column: graph.bounds[bound] for column, bound in times}
    is_by_clock = bool(promised) and all(CLOCK in text and TIME not in text for text in promised.values())
    return Circuit(
        graph.read_nodes(), "append" if graph.grows[top] else "weights", graph.emit, tuple(graph.bounds),
        _promised(promised, graph.emit.lateness_us or 0, is_by_clock=is_by_clock), graph.databases.linear, is_by_clock,
    )  # fmt: skip


def _promised(
    bounds: Mapping[int, str], lateness_us: int, *, is_by_clock: bool
) -> tuple[tuple[int, str], ...]:
    """Return the bounds of the output as those above know them: over this view's watermark, or over its clock."""
    if is_by_clock:
        return tuple((column, text.replace(CLOCK, TIME)) for column, text in bounds.items())
    late = f"({TIME} - to_microseconds({lateness_us}))"
    return tuple((column, text.replace(TIME, late)) for column, text in bounds.items() if CLOCK not in text)


def _held(graph: Graph, number: int, times: Times) -> int:
    """Return a node that holds changes back until their rows are complete."""
    if not times:
        untimed = ", ".join(
            sorted(name for name, info in graph.inputs.items() if info.table is None and not _goes_on(info))
        )
        cause = f" (of {untimed} none is known: a log says time=…, and does not change its mind; a view ends with EMIT FINAL)"
        raise NotMaintainable(
            "EMIT FINAL of rows that are never complete", sql=graph.sql, span=find_word(graph.sql, "EMIT"),
            hint=f"let the SELECT give a column of time that goes on with a log's{cause if untimed else ' (time=…)'}: "
            "window_start or window_end, by which it groups; or leave EMIT FINAL out",
        )  # fmt: skip
    node = graph.nodes[number]
    graph.check_types(node.types, None)
    operator = Hold(node.arrow_types, times=times, early_us=graph.emit.early_us, is_growing=graph.is_final)
    seconds = {option: us and f"{us / 1e6:g} s" for option, us in
               (("early", graph.emit.early_us), ("late", graph.emit.lateness_us))}  # fmt: skip
    names = graph.names.of(graph.plan)
    rule = f"changes come out when the row's {' or '.join(names[column] for column, _ in times)} is over"
    rule += f", before that every {seconds['early']}" if seconds["early"] else ""
    rule += f", corrections for {seconds['late']} after it" if seconds["late"] else ""
    return graph.add(
        operator, (number,), node.types, "hold", grows=graph.is_final, rule=rule,
        growth="rows that are not complete", is_timed=True,
    )  # fmt: skip


def _goes_on(info: LogInfo) -> bool:
    """Say whether an input has a time that goes on."""
    return only_grows(info) and is_timed(info)


def _applied(circuit: Circuit, query: BoundQuery) -> Circuit:
    """Return the circuit of a plan of one relation's columns with a function behind it."""
    assert query.function is not None
    (relation,) = (node for node in nodes(query.plan) if isinstance(node, Get))
    types = tuple(column.type for column in query.schema.columns)
    node = Node(
        Apply(query.function, relation.columns), (len(circuit.nodes) - 1,), types,
        tuple(arrow_type(spelled) for spelled in types), "function", rule="a call of Python",
        detail=f"function {query.function.name}",
    )  # fmt: skip
    return replace(circuit, nodes=(*circuit.nodes, node), output_bounds=())


def _rule(graph: Graph, plan: Plan) -> int:
    """Compile a plan by the rule for its kind."""
    match plan:
        case Get():
            return get(graph, plan)
        case Values():
            return values(graph, plan)
        case Project() | Filter() | Unnest():
            return graph.linear(plan)
        case Union(children=inputs):
            numbers = [graph.compile(child) for child in inputs]
            grows = all(graph.grows[number] for number in numbers)
            return graph.add(UnionOperator(), numbers, plan.types, "union", grows=grows)
        case Join():
            return join(graph, plan)
        case AsOf():
            return as_of(graph, plan)
        case Aggregate():
            number = panes(graph, plan)
            return aggregate(graph, plan, is_keyed=False) if number is None else number
        case Window():
            return windows(graph, plan)
        case TopN():
            return top_n(graph, plan)
        case Temporal():
            return temporal(graph, plan)
        case Session():
            return session(graph, plan)


def _keyed_output(graph: Graph) -> bool:
    """Compile a plan that is an aggregate and what follows it row by row: its output is the newest row per group.

    Return False, and do nothing, if it is not.
    """
    steps: list[Project | Filter] = []
    below = graph.plan
    while isinstance(below, Project | Filter):
        steps.insert(0, below)
        below = below.child
    if not isinstance(below, Aggregate) or graph.parents[id(below)] > 1 or not below.aggregations:
        return False
    number = aggregate(graph, below, is_keyed=True)
    if not isinstance(graph.nodes[number].operator, AggregateOperator):
        graph.of_plan[id(below)] = (below, number)
        return False
    picked = picked_columns(steps, len(below.types))
    if picked == list(range(len(below.types))):
        return True
    if picked is not None:
        detail = f"columns {', '.join(graph.names.of(graph.plan))}"
        graph.add(KeyedPick(picked), (number,), graph.plan.types, "columns", grows=False, detail=detail)
    else:
        query = linear_sql(steps, graph.nodes[number].types, (KEY,))
        operator = KeyedLinear(Stage(graph.databases.linear, query))
        graph.add(
            operator, (number,), graph.plan.types, label_of(steps), grows=False, rule="one DuckDB query",
            growth="a bit per group", detail=graph.say(steps),
        )  # fmt: skip
    return True
