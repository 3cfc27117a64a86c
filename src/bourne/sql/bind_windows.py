"""Functions with OVER of DuckDB's plan.

Law: the answer depends on the rows alone. Where SQL leaves it open which of two rows comes first, all columns of the
child settle it, so that only rows that are alike in everything are interchangeable:

* where positions count (row_number, lag, a ROWS frame, …) they are added to the window's ORDER BY;
* where rows of the same rank belong to a frame together (RANGE, GROUPS), that order has to stay as it is, so they
  go into an ORDER BY inside the function's parentheses, after the window's own order.

A window without ORDER BY has no first row: what asks for one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal as OneOf
from typing import cast

from bourne.sql.bind_aggregates import ALIASES, ORDERED, read_arguments, settle, with_ties
from bourne.sql.bind_expressions import read_expression, read_order
from bourne.sql.binding import GENERATED, Binding
from bourne.sql.bound_values import Json, type_text
from bourne.sql.plan import Aggregation, Cast, Expr, Frame, Order, Plan, Ref, Window, WindowFunction
from bourne.sql.render import render_window
from bourne.sql.round_trip import check_text, column_name, declare_child

_NAMES = {
    "WINDOW_ROW_NUMBER": "row_number",
    "WINDOW_RANK": "rank",
    "WINDOW_RANK_DENSE": "dense_rank",
    "WINDOW_PERCENT_RANK": "percent_rank",
    "WINDOW_CUME_DIST": "cume_dist",
    "WINDOW_NTILE": "ntile",
    "WINDOW_LAG": "lag",
    "WINDOW_LEAD": "lead",
    "WINDOW_FIRST_VALUE": "first_value",
    "WINDOW_LAST_VALUE": "last_value",
    "WINDOW_NTH_VALUE": "nth_value",
}

_PLACED = frozenset({"row_number", "ntile", "lag", "lead"})  # by the place in the partition
_RANKED = frozenset({"rank", "dense_rank", "percent_rank", "cume_dist"})  # rows of the same rank are alike
_PICKED = frozenset({"first_value", "last_value", "nth_value"})  # one row of the frame

_KNOWN = frozenset({
    "expression_class", "type", "alias", "query_location", "query_location_length", "return_type", "children",
    "arguments", "original_arguments", "qname", "has_serialize", "function_data", "partitions", "orders", "filters",
    "ignore_nulls", "start", "end", "start_expr", "end_expr", "exclude_clause", "distinct", "arg_orders",
    "sql_range_start", "sql_range_end", "sql_range_order_type", "sql_range_start_boundary",
    "sql_range_end_boundary", "sql_range_order_casts",
})  # fmt: skip


def bind_window(binding: Binding, node: Json, child: Plan) -> Window:
    """Read an operator that adds window functions."""
    binding.expect(node, "window_index", "expressions")
    declare_child(binding, child.types)
    return Window(child, tuple(_function(binding, e, child.types) for e in node["expressions"]))


def _function(binding: Binding, node: Json, types: Sequence[str]) -> WindowFunction:
    kind = node["type"]
    name = node["qname"]["path"][-1] if kind == "WINDOW_AGGREGATE" else _NAMES.get(kind)
    if name is None or set(node) - _KNOWN:
        raise binding.refuse(f"the window function {kind.removeprefix('WINDOW_').lower()}()", "OVER")
    if name == "count" and not node["children"]:
        name = "count_star"

    def read(nodes: Sequence[Json]) -> tuple[Expr, ...]:
        return tuple(read_expression(binding, part, types) for part in nodes)

    found = WindowFunction(
        name,
        read_arguments(binding, node, types),
        type_text(node["return_type"]),
        partitions=read(node["partitions"]),
        orders=_orders(binding, node, types),
        frame=_frame(binding, node, types),
        is_distinct=node["distinct"],
        is_ignoring_nulls=node["ignore_nulls"],
        argument_orders=tuple(read_order(binding, order, types) for order in node["arg_orders"]),
        filter=read_expression(binding, node["filters"], types) if "filters" in node else None,
        span=binding.place("count" if name == "count_star" else name, "OVER"),
    )
    binding.check_keys(found.partitions, "PARTITION", "OVER")
    text = render_window(found, column_name)
    check_text(binding, text, node, "LOGICAL_WINDOW", called="this window function", word="OVER")
    if node.get("alias") == GENERATED and not found.orders:
        raise binding.refuse("LIMIT without ORDER BY", "LIMIT",
                             hint="the rows of a view have no order: say by ORDER BY which ones are wanted")  # fmt: skip
    return _settled(binding, found, [Ref(index, kind) for index, kind in enumerate(types)])


def _orders(binding: Binding, node: Json, types: Sequence[str]) -> tuple[Order, ...]:
    orders = [read_order(binding, order, types) for order in node["orders"]]
    if node.get("sql_range_order_casts"):  # DuckDB casts what a RANGE is ordered by to the type of its bounds
        value = orders[0].expression
        if len(orders) != 1 or not isinstance(value, Cast):
            raise binding.refuse("this window frame", "OVER")
        orders = [replace(orders[0], expression=value.argument)]
    return tuple(orders)


def _frame(binding: Binding, node: Json, types: Sequence[str]) -> Frame:
    start, end = node["start"], node["end"]
    units = {bound.rpartition("_")[2] for bound in (start, end)} & {"ROWS", "RANGE", "GROUPS"}
    if len(units) > 1:
        raise binding.refuse("this window frame", "OVER")
    unit = units.pop() if units else "RANGE"
    exclude = node["exclude_clause"].replace("_", " ").replace("NO OTHER", "NO OTHERS")
    return Frame(
        cast(OneOf["ROWS", "RANGE", "GROUPS"], unit),
        _bound(binding, start),
        _bound(binding, end),
        _offset(binding, node.get("start_expr"), unit, types),
        _offset(binding, node.get("end_expr"), unit, types),
        cast(OneOf["NO OTHERS", "CURRENT ROW", "GROUP", "TIES"], exclude),
    )


def _bound(binding: Binding, written: str) -> str:
    words = written.split("_")
    match words:
        case ["UNBOUNDED", _]:
            return " ".join(words)
        case ["CURRENT", "ROW", _]:
            return "CURRENT ROW"
        case ["EXPR", "PRECEDING" | "FOLLOWING" as direction, _]:
            return direction
    raise binding.refuse(f"the window frame's bound {written}", "OVER")


def _offset(binding: Binding, node: Json | None, unit: str, types: Sequence[str]) -> Expr | None:
    """Return how far a frame reaches; of a RANGE the plan has the sum of it and the ordering value."""
    if node is None:
        return None
    if unit == "RANGE":
        while node["type"] == "OPERATOR_CAST":
            node = node["children"][0]
        if len(node.get("children", [])) != 2:
            raise binding.refuse("this window frame", "OVER")
        node = node["children"][1]
    return read_expression(binding, node, types)


def _settled(binding: Binding, found: WindowFunction, columns: Sequence[Expr]) -> WindowFunction:
    """Return the function in a form whose answer does not depend on the order of its rows."""
    name = ALIASES.get(found.function, found.function)
    if name in _PLACED or name in _PICKED or name in ORDERED:
        _expect_order(binding, found)
    settled = replace(found, function=name)
    if name in _PLACED or name in _RANKED:
        if found.argument_orders and name in _PLACED:
            settled = replace(settled, argument_orders=with_ties(found.argument_orders, columns))
        elif name in _PLACED:
            settled = replace(settled, orders=with_ties(found.orders, columns))
    elif name in _PICKED:
        inside = found.argument_orders or found.orders
        if found.argument_orders or not _is_by_position(found):
            settled = replace(settled, argument_orders=with_ties(inside, columns))
    else:
        settled = _settled_aggregate(binding, settled)
    is_framed = name not in _PLACED | _RANKED or found.argument_orders
    return _with_settled_frame(binding, settled, columns) if is_framed and _is_by_position(found) else settled


def _settled_aggregate(binding: Binding, found: WindowFunction) -> WindowFunction:
    orders = found.argument_orders or (found.orders if found.function in ORDERED else ())
    settled = settle(
        binding,
        Aggregation(
            found.function, found.arguments, found.type, is_distinct=found.is_distinct, orders=orders
        ),
    )
    return replace(
        found,
        function=settled.function,
        is_distinct=settled.is_distinct,
        argument_orders=settled.orders,
    )


def _is_by_position(found: WindowFunction) -> bool:
    """Say whether the frame counts rows."""
    is_whole = (found.frame.start, found.frame.end) == ("UNBOUNDED PRECEDING", "UNBOUNDED FOLLOWING")
    return found.frame.unit == "ROWS" and not is_whole


def _with_settled_frame(binding: Binding, found: WindowFunction, columns: Sequence[Expr]) -> WindowFunction:
    _expect_order(binding, found)
    orders = with_ties(found.orders, columns)
    if found.frame.exclude in ("GROUP", "TIES") and orders != found.orders:
        raise binding.refuse(
            f"ROWS with EXCLUDE {found.frame.exclude}", "EXCLUDE", "OVER", hint="use RANGE or GROUPS, or EXCLUDE CURRENT ROW"
        )  # fmt: skip
    return replace(found, orders=orders)


def _expect_order(binding: Binding, found: WindowFunction) -> None:
    if not found.orders and not found.argument_orders:
        raise binding.refuse(
            f"{found.function}() without an ORDER BY in its window", found.function, "OVER", span=found.span,
            hint="the rows of a view have no order: write OVER (… ORDER BY …)",
        )  # fmt: skip
