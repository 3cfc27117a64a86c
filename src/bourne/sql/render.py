"""Bound expressions, functions and whole plans to SQL text for DuckDB.

That an expression binds to the same again is not believed but checked: `bourne.sql.round_trip` binds what this file
renders and compares. A plan's text means the same as the plan, by SQL alone: the engine has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bourne.schema import quote
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    AsOf,
    Call,
    Case,
    Cast,
    ClockTest,
    Expr,
    Filter,
    Frame,
    Get,
    Join,
    JoinKey,
    Lambda,
    Literal,
    Logic,
    Order,
    Parameter,
    Plan,
    Project,
    Ref,
    Session,
    Temporal,
    Test,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    WindowFunction,
    children,
    nodes,
)


def render(expression: Expr, column: Callable[[int], str]) -> str:
    """Return the expression as SQL; `column` names the child's columns."""

    def text(part: Expr) -> str:
        return render(part, column)

    match expression:
        case Ref(index=index):
            return column(index)
        case Literal(text=literal):
            return literal
        case Cast(argument=argument, type=target, is_try=is_try):
            return f"{'TRY_CAST' if is_try else 'CAST'}({text(argument)} AS {target})"
        case Logic(word=word, arguments=arguments):
            return "(" + f" {word} ".join(text(a) for a in arguments) + ")"
        case Case(branches=branches, otherwise=otherwise):
            whens = " ".join(f"WHEN {text(when)} THEN {text(then)}" for when, then in branches)
            return f"CASE {whens} ELSE {text(otherwise)} END"
        case Test(kind=kind, arguments=arguments):
            return _test(kind, [text(a) for a in arguments])
        case Parameter(name=name):
            return name
        case Lambda(parameters=parameters, body=body):
            return f"lambda {', '.join(parameter.name for parameter in parameters)}: {text(body)}"
        case Call():
            return _call(expression, [text(a) for a in expression.arguments])


def render_order(order: Order, column: Callable[[int], str]) -> str:
    """Return one key of an ORDER BY as SQL."""
    direction = "DESC" if order.is_descending else "ASC"
    return (
        f"{render(order.expression, column)} {direction} NULLS {'FIRST' if order.is_nulls_first else 'LAST'}"
    )


def render_orders(orders: Sequence[Order], column: Callable[[int], str]) -> str:
    """Return `ORDER BY …` as SQL, nothing if there are no keys."""
    return f"ORDER BY {', '.join(render_order(order, column) for order in orders)}" if orders else ""


def render_aggregation(aggregation: Aggregation, column: Callable[[int], str]) -> str:
    """Return the call of an aggregate function as SQL."""
    if aggregation.function == "count_star":
        call = "count(*)"
    else:
        arguments = ", ".join(render(argument, column) for argument in aggregation.arguments)
        inside = [
            "DISTINCT" if aggregation.is_distinct else "",
            arguments,
            render_orders(aggregation.orders, column),
        ]
        call = f"{quote(aggregation.function)}({' '.join(part for part in inside if part)})"
    return call + (f" FILTER (WHERE {render(aggregation.filter, column)})" if aggregation.filter else "")


def render_window(
    function: WindowFunction, column: Callable[[int], str], *, partition: str | None = None
) -> str:
    """Return a function with its OVER as SQL; `partition` replaces what it partitions by."""
    if function.function == "count_star":
        call = "count(*)"
    else:
        inside = [
            "DISTINCT" if function.is_distinct else "",
            ", ".join(render(argument, column) for argument in function.arguments),
            render_orders(function.argument_orders, column),
            "IGNORE NULLS" if function.is_ignoring_nulls else "",
        ]
        call = f"{quote(function.function)}({' '.join(part for part in inside if part)})"
    if function.filter:
        call += f" FILTER (WHERE {render(function.filter, column)})"
    partitions = partition or ", ".join(render(part, column) for part in function.partitions)
    window = [
        f"PARTITION BY {partitions}" if partitions else "",
        render_orders(function.orders, column),
        _frame(function.frame, column),
    ]
    return f"{call} OVER ({' '.join(part for part in window if part)})"


def _frame(frame: Frame, column: Callable[[int], str]) -> str:
    def bound(words: str, offset: Expr | None) -> str:
        return f"{render(offset, column)} {words}" if offset else words

    start, end = bound(frame.start, frame.start_offset), bound(frame.end, frame.end_offset)
    exclude = "" if frame.exclude == "NO OTHERS" else f" EXCLUDE {frame.exclude}"
    return f"{frame.unit} BETWEEN {start} AND {end}{exclude}"


def _test(kind: str, arguments: list[str]) -> str:
    first, rest = arguments[0], ", ".join(arguments[1:])
    return {
        "NOT": f"(NOT {first})",
        "IS NULL": f"({first} IS NULL)",
        "IS NOT NULL": f"({first} IS NOT NULL)",
        "IN": f"({first} IN ({rest}))",
        "NOT IN": f"({first} NOT IN ({rest}))",
        "COALESCE": f"COALESCE({', '.join(arguments)})",
        "TRY": f"TRY({first})",
    }[kind]


def _call(call: Call, arguments: list[str]) -> str:
    is_symbol = not call.function.isidentifier()
    if is_symbol and len(arguments) == 2:
        return f"({arguments[0]} {call.function} {arguments[1]})"
    if is_symbol and len(arguments) == 1:
        return f"({call.function} {arguments[0]})"
    named = [f"{quote(name)} := {a}" if name else a for name, a in zip(call.names, arguments, strict=True)]
    return f"{quote(call.function)}({', '.join(named)})"


def render_plan(plan: Plan) -> str:
    """Return one SELECT over the relations that means the plan; its columns are c0, c1, …

    Each node is a common table expression, so a node that is read twice is written once.
    """
    graph = nodes(plan)
    names = {id(node): f"n{number}" for number, node in enumerate(graph)}
    parts = [
        f"{names[id(node)]} AS ({_select(node, [names[id(c)] for c in children(node)])})" for node in graph
    ]
    return f"WITH {', '.join(parts)} SELECT * FROM {names[id(plan)]}"


def _name(index: int) -> str:
    return f"c{index}"


def _items(texts: Sequence[str]) -> str:
    """Return select items c0, c1, …; a SELECT needs one even where the plan has no column."""
    return ", ".join(f"{text} AS c{i}" for i, text in enumerate(texts)) or "NULL AS no_column"


def _select(plan: Plan, inputs: Sequence[str]) -> str:
    source = inputs[0] if inputs else ""
    match plan:
        case Get(relation=relation, columns=columns):
            return f"SELECT {_items([quote(column) for column in columns])} FROM {quote(relation)}"
        case Values(rows=rows, types=types):
            selects = [f"SELECT {_items([render(value, _name) for value in row])}" for row in rows]
            return (
                " UNION ALL ".join(selects) or f"SELECT {_items([f'NULL::{t}' for t in types])} WHERE false"
            )
        case Project(expressions=expressions):
            return f"SELECT {_items([render(e, _name) for e in expressions])} FROM {source}"
        case Filter(predicates=predicates):
            return f"SELECT * FROM {source} WHERE {' AND '.join(render(p, _name) for p in predicates)}"
        case Unnest(child=child, lists=lists):
            texts = [*_columns(child), *(f"unnest({render(part, _name)})" for part in lists)]
            return f"SELECT {_items(texts)} FROM {source}"
        case Aggregate(groups=groups, aggregations=aggregations):
            return _select_aggregate(groups, aggregations, source)
        case Join():
            return _select_join(plan, inputs[0], inputs[1])
        case AsOf():
            condition = render_condition(plan.keys, None, len(plan.left.types))
            times = (
                render(plan.left_time, lambda i: f"l.c{i}"),
                render(plan.right_time, lambda i: f"r.c{i}"),
            )
            shown = _items([*_columns(plan.left, "l."), *_columns(plan.right, "r.")])
            kind = "LEFT " if plan.is_left else ""
            return (
                f"SELECT {shown} FROM {inputs[0]} AS l ASOF {kind}JOIN {inputs[1]} AS r "
                f"ON {condition} AND {times[0]} {plan.comparison} {times[1]}"
            )
        case Union():
            return " UNION ALL ".join(f"SELECT * FROM {name}" for name in inputs)
        case Window(child=child, functions=functions):
            return f"SELECT {_items([*_columns(child), *(render_window(f, _name) for f in functions)])} FROM {source}"
        case TopN():
            return _select_top(plan, source)
        case Session(child=child, keys=keys, time=time):
            by = [render(key, _name) for key in keys]
            return session_sql(source, _columns(child), render(time, _name), plan.gap_us, by)
        case Temporal(tests=tests):
            texts = [
                f"{render(test.expression, _name)} {test.comparison} {clock_text(test)}" for test in tests
            ]
            return f"SELECT * FROM {source} WHERE {' AND '.join(texts)}"


def session_sql(source: str, columns: Sequence[str], time: str, gap_us: int, by: Sequence[str]) -> str:
    """Return the SELECT for sessions over a relation: its columns, then start and end as further ones c…"""
    part = f"PARTITION BY {', '.join(by)} " if by else ""
    gap = f"to_microseconds({gap_us})"
    is_new = f"CASE WHEN {time} < lag({time}) OVER ({part}ORDER BY {time}) + {gap} THEN 0 ELSE 1 END"
    marked = f"SELECT *, {is_new} AS __new FROM {source}"
    numbered = f"SELECT *, sum(__new) OVER ({part}ORDER BY {time}) AS __session FROM ({marked})"
    over = f"OVER (PARTITION BY {', '.join([*by, '__session'])})"
    ends = [f"min({time}) {over}", f"max({time}) {over} + {gap}"]
    return f"SELECT {_items([*columns, *ends])} FROM ({numbered})"


def clock_text(test: ClockTest) -> str:
    """Return what a test compares with, as SQL."""
    clock = "CAST(current_date AS TIMESTAMP)" if test.is_date else "CAST(now() AS TIMESTAMP)"
    return f"{clock} + to_microseconds({test.offset_us})" if test.offset_us else clock


def _columns(plan: Plan, side: str = "") -> list[str]:
    return [f"{side}c{index}" for index in range(len(plan.types))]


def _select_aggregate(groups: Sequence[Expr], aggregations: Sequence[Aggregation], source: str) -> str:
    keys = [f"g{i}" for i in range(len(groups))]
    below = ", ".join(
        [f"{render(group, _name)} AS {key}" for group, key in zip(groups, keys, strict=True)] + ["*"]
    )
    texts = [*keys, *(render_aggregation(aggregation, _name) for aggregation in aggregations)]
    if not texts:
        return f"SELECT NULL AS no_column FROM (SELECT count(*) FROM {source})"
    return f"SELECT {_items(texts)} FROM (SELECT {below} FROM {source})" + (
        f" GROUP BY {', '.join(keys)}" if keys else ""
    )


def _select_join(join: Join, left: str, right: str) -> str:
    condition = render_condition(join.keys, join.residual, len(join.left.types))
    lefts, rights = _columns(join.left, "l."), _columns(join.right, "r.")
    match join.kind:
        case "semi" | "anti" as kind:
            return f"SELECT {_items(lefts)} FROM {left} AS l {kind} JOIN {right} AS r ON {condition}"
        case "mark":
            found = (
                "SELECT CASE WHEN count(*) FILTER (WHERE m) > 0 THEN true "
                "WHEN count(*) FILTER (WHERE m IS NULL) > 0 THEN NULL ELSE false END "
                f"FROM (SELECT {condition} AS m FROM {right} AS r)"
            )
            return f"SELECT {_items([*lefts, f'({found})'])} FROM {left} AS l"
        case "single":  # more than one row: an error
            packed = ", ".join(f"c{i} := {text}" for i, text in enumerate(rights))
            found = f"SELECT struct_pack({packed}) FROM {right} AS r WHERE {condition}"
            texts = [*lefts, *(f"l.one.c{i}" for i in range(len(rights)))]
            return f"SELECT {_items(texts)} FROM (SELECT *, ({found}) AS one FROM {left} AS l) AS l"
        case kind:
            return f"SELECT {_items(lefts + rights)} FROM {left} AS l {kind} JOIN {right} AS r ON {condition}"


def render_condition(keys: Sequence[JoinKey], residual: Expr | None, width: int) -> str:
    """Return a join's whole condition as SQL over `l` (of `width` columns) and `r`."""

    def column(index: int) -> str:
        return f"l.c{index}" if index < width else f"r.c{index - width}"

    parts = [
        f"({render(key.left, lambda i: f'l.c{i}')} {'IS NOT DISTINCT FROM' if key.is_null_safe else '='} "
        f"{render(key.right, lambda i: f'r.c{i}')})"
        for key in keys
    ]
    parts += [render(residual, column)] if residual else []
    return " AND ".join(parts) or "true"


def _select_top(plan: TopN, source: str) -> str:
    partitions = ", ".join(render(part, _name) for part in plan.partitions)
    keys = [render_order(order, _name) for order in plan.orders] + _columns(plan)
    place = (
        f"row_number() OVER ({f'PARTITION BY {partitions} ' if partitions else ''}ORDER BY {', '.join(keys)})"
    )
    last = "" if plan.limit is None else f" AND place <= {plan.offset + plan.limit}"
    return (
        f"SELECT {_items(_columns(plan))} FROM (SELECT *, {place} AS place FROM {source}) "
        f"WHERE place > {plan.offset}{last}"
    )
