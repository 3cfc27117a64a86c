"""Plans as SQL for DuckDB: what a rule must keep is what this gives, before and after."""

from __future__ import annotations

from collections.abc import Sequence

from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    Expr,
    Filter,
    Frame,
    Get,
    Join,
    Order,
    Plan,
    Project,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    WindowFunction,
    children,
    nodes,
)
from bourne.sql.render import render


def plan_sql(plan: Plan) -> str:
    """Return one query: a common table expression per node."""
    names: dict[int, str] = {}
    parts: list[str] = []
    for node in nodes(plan):
        names[id(node)] = name = f"n{len(names)}"
        heads = ", ".join(f"c{i}" for i in range(max(1, len(node.types))))
        inputs = [names[id(child)] for child in children(node)]
        parts.append(f"{name}({heads}) AS MATERIALIZED ({_select(node, inputs)})")
    return f"WITH {', '.join(parts)} SELECT * FROM {names[id(plan)]}"


def _select(node: Plan, inputs: Sequence[str]) -> str:
    match node:
        case Get(relation=relation, columns=columns):
            return f"SELECT {', '.join(columns) or '1'} FROM {relation}"
        case Values(rows=rows, types=types):
            if not types:
                return f"SELECT 1 FROM range({len(rows)})"
            if not rows:
                return f"SELECT {', '.join(f'NULL::{kind}' for kind in types)} WHERE false"
            return "VALUES " + ", ".join(f"({_list(row)})" for row in rows)
        case Project(expressions=expressions):
            return f"SELECT {_list(expressions)} FROM {inputs[0]}"
        case Filter(predicates=predicates):
            return f"SELECT * FROM {inputs[0]} WHERE {' AND '.join(_text(p) for p in predicates)}"
        case Unnest(lists=lists):
            return f"SELECT *, {', '.join(f'unnest({_text(e)})' for e in lists)} FROM {inputs[0]}"
        case Aggregate(groups=groups, aggregations=aggregations):
            selected = ", ".join([*map(_text, groups), *map(_aggregation, aggregations)]) or "1"
            return f"SELECT {selected} FROM {inputs[0]}" + (f" GROUP BY {_list(groups)}" if groups else "")
        case Union():
            return " UNION ALL ".join(f"SELECT * FROM {name}" for name in inputs)
        case Window(functions=functions):
            return f"SELECT *, {', '.join(map(_over, functions))} FROM {inputs[0]}"
        case TopN(child=child, partitions=partitions, orders=orders, limit=limit, offset=offset):
            ties = ", ".join(f"c{i}" for i in range(len(child.types)))
            by = ", ".join([*map(_order, orders), ties])
            number = f"row_number() OVER ({f'PARTITION BY {_list(partitions)} ' if partitions else ''}ORDER BY {by})"
            most = f" AND {number} <= {offset + limit}" if limit is not None else ""
            return f"SELECT * FROM {inputs[0]} QUALIFY {number} > {offset}{most}"
        case Join():
            return _join(node, inputs)


def _join(node: Join, inputs: Sequence[str]) -> str:
    count = len(node.left.types)

    def column(index: int) -> str:
        return f"l.c{index}" if index < count else f"r.c{index - count}"

    on = []
    for key in node.keys:
        word = "IS NOT DISTINCT FROM" if key.is_null_safe else "="
        right = render(key.right, lambda index: f"r.c{index}")
        on.append(f"({render(key.left, lambda index: f'l.c{index}')} {word} {right})")
    on += [render(node.residual, column)] if node.residual is not None else []
    condition = " AND ".join(on) or "true"
    left, right = inputs
    match node.kind:
        case "semi" | "anti":
            word = "" if node.kind == "semi" else "NOT "
            return f"SELECT * FROM {left} l WHERE {word}EXISTS (SELECT 1 FROM {right} r WHERE {condition})"
        case "mark":
            known = f"bool_or({condition})"
            mark = f"CASE WHEN {known} THEN true WHEN bool_or(({condition}) IS NULL) THEN NULL ELSE false END"
            return f"SELECT l.*, (SELECT {mark} FROM {right} r) FROM {left} l"
        case _:
            kind = "left" if node.kind == "single" else node.kind
            return f"SELECT l.*, r.* FROM {left} l {kind} JOIN {right} r ON {condition}"


def _text(expression: Expr) -> str:
    return render(expression, lambda index: f"c{index}")


def _list(expressions: Sequence[Expr]) -> str:
    return ", ".join(map(_text, expressions))


def _order(order: Order) -> str:
    words = f"{'DESC' if order.is_descending else 'ASC'} NULLS {'FIRST' if order.is_nulls_first else 'LAST'}"
    return f"{_text(order.expression)} {words}"


def _arguments(function: Aggregation | WindowFunction, orders: Sequence[Order]) -> str:
    by = f" ORDER BY {', '.join(map(_order, orders))}" if orders else ""
    return f"{'DISTINCT ' if function.is_distinct else ''}{_list(function.arguments)}{by}"


def _aggregation(function: Aggregation) -> str:
    condition = f" FILTER (WHERE {_text(function.filter)})" if function.filter else ""
    return f'"{function.function}"({_arguments(function, function.orders)}){condition}'


def _over(function: WindowFunction) -> str:
    by = f"PARTITION BY {_list(function.partitions)} " if function.partitions else ""
    by += f"ORDER BY {', '.join(map(_order, function.orders))} " if function.orders else ""
    nulls = " IGNORE NULLS" if function.is_ignoring_nulls else ""
    condition = f" FILTER (WHERE {_text(function.filter)})" if function.filter else ""
    call = f'"{function.function}"({_arguments(function, function.argument_orders)}{nulls}){condition}'
    return f"{call} OVER ({by}{_frame(function.frame)})"


def _frame(frame: Frame) -> str:
    def bound(word: str, offset: Expr | None) -> str:
        return f"{_text(offset)} {word}" if offset is not None else word

    start, end = bound(frame.start, frame.start_offset), bound(frame.end, frame.end_offset)
    return f"{frame.unit} BETWEEN {start} AND {end} EXCLUDE {frame.exclude}"
