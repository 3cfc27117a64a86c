"""LIMIT and OFFSET of DuckDB's plan.

Law: which rows a LIMIT keeps is said by an ORDER BY right below it. Without one only the number of rows is certain,
and whoever asks for more than that number is refused.
"""

from __future__ import annotations

from bourne.sql.bind_expressions import read_order
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.plan import Aggregate, Aggregation, Call, Literal, Plan, Project, Ref, TopN, Values

# What DuckDB writes for LIMIT ALL.
_ALL = 2**63 - 1


def bind_limit(binding: Binding, node: Json, order: Json | None, child: Plan) -> Plan:
    """Read a LIMIT; `order` is the ORDER BY below it, if there is one, and `child` what is below both."""
    limit, offset = _bounds(binding, node)
    if limit is None and not offset:
        return child
    if limit == 0:
        return Values((), child.types)
    if order is None:
        raise binding.refuse("LIMIT without ORDER BY", "LIMIT", "FETCH", "OFFSET",
                             hint="the rows of a view have no order: say by ORDER BY which ones are wanted")  # fmt: skip
    binding.expect(order, "orders")
    orders = tuple(read_order(binding, key, child.types) for key in order["orders"])
    return TopN(child, (), orders, limit, offset, binding.place("LIMIT", "FETCH", "OFFSET"))


def is_count_of_limited(node: Json) -> bool:
    """Say whether an aggregate only counts the rows of a LIMIT without order: `EXISTS (SELECT …)` is bound so."""
    functions = node.get("expressions", [])
    below = node["children"][0]
    return (
        "groups" not in node
        and len(functions) == 1
        and functions[0]["qname"]["path"][-1] == "count_star"
        and "filter" not in functions[0]
        and below["type"] == "LOGICAL_LIMIT"
        and below["offset_val"]["type"] == "UNSET"
        and below["limit_val"]["type"] == "CONSTANT_VALUE"
        and below["children"][0]["type"] != "LOGICAL_ORDER_BY"
    )


def bind_count_of_limited(binding: Binding, node: Json, child: Plan) -> Plan:
    """Read what `is_count_of_limited` is true of; `child` is below the LIMIT."""
    limit, _ = _bounds(binding, node["children"][0])
    count = Aggregate(child, (), (Aggregation("count_star", (), "BIGINT"),), binding.place("EXISTS", "count"))
    most = Literal(f"({_ALL if limit is None else limit})::BIGINT", "BIGINT")
    return Project(count, (Call("least", (Ref(0, "BIGINT"), most), ("", ""), "BIGINT", None),))


def _bounds(binding: Binding, node: Json) -> tuple[int | None, int]:
    """Return limit (None: no limit) and offset."""
    binding.expect(node, "limit_val", "offset_val")
    limit, offset = (_bound(binding, node[key]) for key in ("limit_val", "offset_val"))
    return (None if limit == _ALL else limit), offset or 0


def _bound(binding: Binding, value: Json) -> int | None:
    match value["type"]:
        case "UNSET":
            return None
        case "CONSTANT_VALUE":
            return int(value.get("constant_integer", 0))
        case "CONSTANT_PERCENTAGE" | "EXPRESSION_PERCENTAGE":
            raise binding.refuse("LIMIT by a percentage", "LIMIT", hint="write a number of rows")
    raise binding.refuse("LIMIT by an expression", "LIMIT", "OFFSET", hint="write a number of rows")
