"""The SQL of a circuit's stages: queries over one table `{input}` whose columns are called c0, c1, …

What is not an operator's own column is carried through: a row's weight, its key, its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bourne.engine.bounds import CLOCK, TIME
from bourne.engine.operators.late import IS_LATE, IS_PARTLY, RECORD, WATERMARK
from bourne.engine.operators.linear import KEY, WEIGHT
from bourne.engine.operators.recompute import GROUP
from bourne.engine.operators.top_n import ROW
from bourne.schema import quote
from bourne.sql.plan import Aggregate, Expr, Filter, Join, Project, Session, TopN, Unnest, Values, Window
from bourne.sql.render import render, render_aggregation, render_order, render_window, session_sql

LinearStep = Project | Filter | Unnest

__all__ = [
    "GROUP",
    "KEY",
    "WEIGHT",
    "LinearStep",
    "linear_sql",
    "recompute_sql",
    "residual_sql",
    "values_sql",
]


def linear_sql(steps: Sequence[LinearStep], types: Sequence[str], carried: Sequence[str]) -> str:
    """Return one nested SELECT for filters, projections and unnesting, innermost first; DuckDB flattens it."""
    query = f"SELECT {_select(_typed(types), carried)} FROM {{input}}"
    for step in steps:
        width = len(step.child.types)
        match step:
            case Filter(predicates=predicates):
                query = f"SELECT * FROM ({query}) WHERE {' AND '.join(_text(p) for p in predicates)}"
            case Project(expressions=expressions):
                query = f"SELECT {_select([_text(e) for e in expressions], carried)} FROM ({query})"
            case Unnest(lists=lists):
                items = [*(_column(i) for i in range(width)), *(f"unnest({_text(item)})" for item in lists)]
                query = f"SELECT {_select(items, carried)} FROM ({query})"
    return query


def late_sql(
    steps: Sequence[LinearStep],
    types: Sequence[str],
    made: Sequence[str],
    bounds: Mapping[int, str],
    lateness_us: int,
    raised: Mapping[int, str],
) -> str:
    """Return `linear_sql` over a log's records, with which record each row is of, and whether it is late, or partly so.

    Columns that are `raised` are no earlier than their bound.
    """
    columns = ", ".join(
        f"greatest({_column(i)}, {_braced(raised[i])}) AS {_column(i)}" if i in raised else _column(i)
        for i in range(len(made))
    )
    partly = " OR ".join(f"{_column(column)} < {_braced(text)}" for column, text in raised.items()) or "false"
    late = " OR ".join(f"{_column(column)} < {_braced(text)}" for column, text in bounds.items())
    time = (
        f"{quote(WATERMARK)} - to_microseconds({lateness_us}) AS {TIME}, CAST(NULL AS TIMESTAMP) AS {CLOCK}"
    )
    inner = linear_sql(steps, types, (WATERMARK, RECORD))
    flags = f"coalesce({late}, false) AS {IS_LATE}, coalesce({partly}, false) AS {IS_PARTLY}"
    return f"SELECT {columns}, {RECORD}, {flags} FROM (SELECT *, {time} FROM ({inner}))"


def recompute_sql(plan: Aggregate | Window | TopN | Session, types: Sequence[str]) -> str:
    """Return the query that computes groups anew: the output's columns, then the group. Each group has a number."""
    source = f"(SELECT {_select(_typed(types), [GROUP])} FROM {{input}})"
    columns = [_column(i) for i in range(len(types))]
    match plan:
        case Aggregate(groups=groups, aggregations=aggregations):
            keys = [f"first({_text(group)})" for group in groups]
            items = [*keys, *(_braced(render_aggregation(a, _column)) for a in aggregations)]
            return f"SELECT {_select(items, [GROUP])} FROM {source} GROUP BY {GROUP}"
        case Session(time=time):
            inner = session_sql(source, columns, render(time, _column), plan.gap_us, [GROUP])
            ends = _select([*columns, f"c{len(types)}", f"c{len(types) + 1}"], [GROUP])
            return f"SELECT {ends} FROM ({inner.replace('SELECT ', f'SELECT {GROUP}, ', 1)})"
        case Window(functions=functions):
            calls = [_braced(render_window(function, _column, partition=GROUP)) for function in functions]
            return f"SELECT {_select([*columns, *calls], [GROUP])} FROM {source}"
        case TopN(orders=orders, limit=limit, offset=offset):
            order = ", ".join([*(_braced(render_order(each, _column)) for each in orders), *columns])
            number = f"row_number() OVER (PARTITION BY {GROUP} ORDER BY {order})"
            last = "" if limit is None else f" AND __number <= {offset + limit}"
            ranked = f"SELECT *, {number} AS __number FROM {source}"
            return f"SELECT {_select(columns, [GROUP])} FROM ({ranked}) WHERE __number > {offset}{last}"


def rank_sql(plan: TopN, types: Sequence[str]) -> str:
    """Return the query that says which place each row (`__row`) has in its group."""
    columns = [_column(i) for i in range(len(types))]
    order = ", ".join([*(_braced(render_order(each, _column)) for each in plan.orders), *columns])
    source = f"(SELECT {_select(_typed(types), [GROUP, ROW])} FROM {{input}})"
    return f"SELECT {ROW}, row_number() OVER (PARTITION BY {GROUP} ORDER BY {order}) AS rank FROM {source}"


def last_sql(types: Sequence[str]) -> str:
    """Return the query that says which place each row (`__row`) has in its group, by all its columns."""
    columns = [_column(i) for i in range(len(types))]
    source = f"(SELECT {_select(_typed(types), [GROUP, ROW])} FROM {{input}})"
    return f"SELECT {ROW}, row_number() OVER (PARTITION BY {GROUP} ORDER BY {', '.join(columns)}) AS rank FROM {source}"


def empty_aggregate_sql(plan: Aggregate, types: Sequence[str]) -> str:
    """Return the query for an aggregate over everything when there is nothing."""
    items = [_braced(render_aggregation(a, _column)) for a in plan.aggregations]
    return f"SELECT {_select(items, [])} FROM (SELECT {_select(_typed(types), [])} FROM {{input}})"


def residual_sql(join: Join) -> str:
    """Return the query that says of pairs of rows whether they count."""
    assert join.residual is not None
    types = (*join.left.types, *join.right.types)
    return f"SELECT coalesce({_text(join.residual)}, false) AS c0 FROM (SELECT {_select(_typed(types), [])} FROM {{input}})"


def values_sql(plan: Values) -> str:
    """Return the query for constant rows."""
    rows = [f"SELECT {_select([_text(e) for e in row], [])}" for row in plan.rows]
    return " UNION ALL ".join(rows)


def _text(expression: Expr) -> str:
    return _braced(render(expression, _column))


def _braced(text: str) -> str:
    """Return a text that survives `format`."""
    return text.replace("{", "{{").replace("}", "}}")


def _column(index: int) -> str:
    return f"c{index}"


def _select(items: Sequence[str], carried: Sequence[str]) -> str:
    named = [f"{text} AS c{i}" for i, text in enumerate(items)]
    return ", ".join([*named, *(quote(name) for name in carried)]) or "NULL"


def _typed(types: Sequence[str]) -> list[str]:
    """Return the input's columns; Arrow forgets some types (HUGEINT is a decimal there): say them again."""
    return [_column(i) if _survives_arrow(t) else f"{_column(i)}::{t}" for i, t in enumerate(types)]


def _survives_arrow(spelled: str) -> bool:
    return spelled not in ("HUGEINT", "UUID", "JSON")
