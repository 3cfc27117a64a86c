"""Inputs become nodes: logs, views and tables as signed rows, and rows that are there from the beginning."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from bourne.engine.delta import empty_delta
from bourne.engine.graph import Graph
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.changes import Clamped, Netted, Taken, Upserted
from bourne.engine.operators.constant import Constant
from bourne.engine.operators.late import RECORD, WATERMARK
from bourne.engine.operators.linear import Pick
from bourne.engine.operators.operator import Operator
from bourne.engine.stages import values_sql
from bourne.errors import NotMaintainable
from bourne.log.relation import is_exact, is_keyed, key_column, only_grows, relation_schema
from bourne.schema import arrow_type
from bourne.sql.outline import describe
from bourne.sql.plan import Get, Values
from bourne.sql.text import find_word
from bourne.sql.unstable import ARRIVAL


def get(graph: Graph, plan: Get) -> int:
    """Return a node with the columns that this place needs of a relation; its records are taken in once."""
    needed = graph.needed[plan.relation]
    if plan.relation not in graph.of_relation:
        graph.check_types(needed.values(), None)
        graph.of_relation[plan.relation] = _input(graph, plan.relation, needed)
    number = graph.of_relation[plan.relation]
    names = graph.nodes[number].columns if graph.has_late(plan.relation) else list(needed)
    picked = [names.index(name) for name in plan.columns]
    if picked == list(range(len(graph.nodes[number].types))):
        return number
    detail = f"columns {', '.join(plan.columns)}"
    return graph.add(Pick(picked), (number,), plan.types, "columns", grows=graph.grows[number], detail=detail)


def _input(graph: Graph, relation: str, needed: Mapping[str, str]) -> int:
    """Return the node that turns the changes of a log into signed rows: those of its columns that are needed."""
    info, columns, types = graph.inputs.get(relation), list(needed), list(needed.values())
    if ARRIVAL in needed and info is not None and not only_grows(info):
        raise NotMaintainable(
            f"windows by the time of arrival, of {relation!r}, which changes its mind,", sql=graph.sql,
            span=find_word(graph.sql, "now"), hint="its rows do not arrive, they change: name a log of plain records",
        )  # fmt: skip
    if graph.has_late(relation):
        columns, types = [*columns, WATERMARK, RECORD], [*types, "TIMESTAMP", "BIGINT"]
    arrow = [arrow_type(spelled) for spelled in types]
    operator: Operator = Taken()
    rule, growth, keeps_rows = "each record is a row", None, False
    if info is not None and is_keyed(info):
        key = key_column(info)
        assert key is not None
        operator = Upserted(arrow, arrow_type(key.type))
        rule, growth = "the newest record of a key is its row", "a row per key"
    elif info is not None and is_exact(info) and not only_grows(info):
        operator, rule = Netted(), "records add rows and take rows back"
    elif info is not None and not only_grows(info):
        whole = relation_schema(info)
        columns = list(whole.names)
        operator = Clamped(list(whole.to_arrow().types), [columns.index(name) for name in needed])
        rule, growth = "rows as often as their weights sum up to", "every distinct row"
        keeps_rows = True
    grows = info is None or only_grows(info)
    return graph.add(
        operator, (), types, f"input {relation}", grows=grows, rule=rule, growth=growth, relation=relation,
        columns=columns, detail=f"input {relation}: {', '.join(needed)}", keeps_rows=keeps_rows,
    )  # fmt: skip


def values(graph: Graph, plan: Values) -> int:
    graph.check_types(plan.types, None)
    if not plan.rows:
        rows = empty_delta([arrow_type(spelled) for spelled in plan.types]).table
        return graph.add(Constant(rows), (), plan.types, "no rows", grows=True)
    rows = Stage(graph.databases.linear, values_sql(plan)).run(pa.table({"c0": pa.nulls(0)}))
    if not plan.types:  # a table without columns has no rows: give it one
        rows = pa.table({"c0": pa.nulls(len(plan.rows), pa.bool_())})
        return graph.add(Constant(rows), (), ("BOOLEAN",), "one row", grows=True)
    detail = describe(plan, graph.names)
    return graph.add(Constant(rows), (), plan.types, "constant rows", grows=True, detail=detail)
