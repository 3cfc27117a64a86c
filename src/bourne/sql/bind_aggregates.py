"""Aggregates of DuckDB's plan: groups, grouping sets, and functions whose answer depends on their rows alone.

Law: an aggregate function sees a multiset of rows, so its answer must not depend on their order. Where DuckDB's does
so only among ties (arg_max, mode, …), an ORDER BY of all arguments is added inside: one of DuckDB's possible answers,
and always the same one. Where it does so altogether (list, first, …), the user has to say the order.

Sums of DOUBLEs depend on the order in their last digits; that is for who runs the plan to settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bourne.sql.bind_expressions import read_expression, read_order
from bourne.sql.bind_lateral import determined
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json, type_text
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    Cast,
    Expr,
    Literal,
    Order,
    Plan,
    Project,
    Ref,
    Union,
    walk,
)
from bourne.sql.render import render_aggregation
from bourne.sql.round_trip import check_text, column_name, declare_child, read_checked

# One name for each function: DuckDB's own aliases.
ALIASES = {
    "arbitrary": "first", "argmax": "arg_max", "argmin": "arg_min", "array_agg": "list", "countif": "count_if",
    "fsum": "kahan_sum", "group_concat": "string_agg", "listagg": "string_agg", "max_by": "arg_max",
    "mean": "avg", "min_by": "arg_min", "quantile": "quantile_disc", "stddev": "stddev_samp",
    "sumkahan": "kahan_sum", "variance": "var_samp",
}  # fmt: skip

# The order of the rows does not matter: an ORDER BY inside is dropped.
_COMMUTATIVE = frozenset({
    "count_star", "count", "count_if", "sum", "sum_no_overflow", "kahan_sum", "avg", "favg", "min", "max", "product",
    "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor", "bitstring_agg", "entropy", "histogram",
    "histogram_exact", "median", "quantile_disc", "quantile_cont", "mad", "approx_count_distinct", "stddev_samp",
    "stddev_pop", "var_samp", "var_pop", "sem", "skewness", "kurtosis", "kurtosis_pop", "corr", "covar_pop",
    "covar_samp", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
    "regr_sxy", "regr_syy",
})  # fmt: skip

# The order matters among rows that are alike to the function: its arguments settle it.
_TIED = frozenset({
    "any_value", "arg_max", "arg_max_null", "arg_max_nulls_last", "arg_min", "arg_min_null", "arg_min_nulls_last",
    "mode", "approx_top_k", "approx_quantile", "lttb",
})  # fmt: skip

# The order is the answer.
ORDERED = frozenset({"list", "string_agg", "first", "last"})

# How DuckDB marks an aggregate that no one wrote: part of a subquery.
_GENERATED = 2**64 - 1


def bind_aggregate(binding: Binding, node: Json, child: Plan) -> Plan:
    """Read an aggregate; several grouping sets become a union of aggregates over one child."""
    binding.expect(
        node, "expressions", "groups", "grouping_sets", "grouping_functions", "group_index", "aggregate_index",
        "groupings_index",
    )  # fmt: skip
    groups = read_checked(binding, node.get("groups", []), child.types)
    binding.check_keys(groups, "GROUP", "DISTINCT", "SELECT")
    is_generated = node["groupings_index"] == _GENERATED
    known = determined(child, groups)
    aggregations = tuple(
        _kept(binding, e, child, known, is_generated=is_generated)
        or bind_aggregation(binding, e, child.types)
        for e in node.get("expressions", [])
    )
    words = ("ROLLUP", "CUBE", "GROUPING SETS", "GROUP") if groups else ("HAVING", "SELECT")
    everything = Aggregate(child, groups, aggregations, binding.place(*words))
    sets: list[list[int]] = node.get("grouping_sets", [list(range(len(groups)))])
    functions: list[list[int]] = node.get("grouping_functions", [])
    if sets == [list(range(len(groups)))] and not functions:
        return everything
    parts = [_grouping_set(everything, chosen, functions) for chosen in sets]
    return parts[0] if len(parts) == 1 else Union(tuple(parts))


def _grouping_set(everything: Aggregate, chosen: Sequence[int], functions: Sequence[Sequence[int]]) -> Plan:
    """Return the rows of one grouping set: NULL for the groups that it leaves out, then what GROUPING() says."""
    position = {group: i for i, group in enumerate(chosen)}
    plan = replace(everything, groups=tuple(everything.groups[group] for group in chosen))
    items: list[Expr] = [
        Ref(position[i], group.type) if i in position else Literal(f"NULL::{group.type}", group.type)
        for i, group in enumerate(everything.groups)
    ]
    items += [Ref(i, a.type) for i, a in enumerate(everything.aggregations, len(chosen))]
    for arguments in functions:  # the first argument is the highest bit, set where the group is left out
        bits = "".join(str(int(group not in position)) for group in arguments)
        items.append(Literal(f"({int(bits, 2)})::BIGINT", "BIGINT"))
    return Project(plan, tuple(items))


def _kept(
    binding: Binding, node: Json, child: Plan, known: frozenset[int], *, is_generated: bool
) -> Aggregation | None:
    """Read first() of what is the same in all rows: so DuckDB keeps a scalar subquery's value, and outer columns."""
    is_plain = not {"filter", "order_bys"} & set(node) and node.get("aggregate_type") == "NON_DISTINCT"
    if node["qname"]["path"][-1] != "first" or not is_plain:
        return None
    value = read_expression(binding, node["children"][0], child.types)
    if not isinstance(value, Ref) or not (is_generated or value.index in known):
        return None
    return Aggregation("first", (value,), value.type, orders=with_ties((), (value,)))


def bind_aggregation(binding: Binding, node: Json, types: Sequence[str]) -> Aggregation:
    """Read one aggregate function over columns of these types, check it, and make it independent of the order."""
    _expect_aggregation(binding, node)
    written = node["qname"]["path"][-1]
    place = binding.place(written, "count") if written != "count_star" else binding.place("count")
    found = Aggregation(
        written,
        read_arguments(binding, node, types),
        type_text(node["return_type"]),
        is_distinct=node.get("aggregate_type") == "DISTINCT",
        orders=tuple(
            read_order(binding, order, types) for order in node.get("order_bys", {}).get("orders", [])
        ),
        filter=read_expression(binding, node["filter"], types) if "filter" in node else None,
        span=place,
    )
    if found.is_distinct:
        binding.check_keys(found.arguments, "DISTINCT")
    declare_child(binding, types)
    check_text(binding, render_aggregation(found, column_name), node, "LOGICAL_AGGREGATE_AND_GROUP_BY")
    return settle(binding, found)


def read_arguments(binding: Binding, node: Json, types: Sequence[str]) -> tuple[Expr, ...]:
    """Read a function's arguments as they were written.

    DuckDB casts a quantile's fraction to DOUBLE, but remembers it as it was.
    """
    arguments = tuple(read_expression(binding, child, types) for child in node["children"])
    match node.get("function_data", {}).get("quantiles"), arguments:
        case [{"type": kind}, *_], [value, Cast(argument=fraction, type="DOUBLE" | "DOUBLE[]")] if (
            type_text(kind) != "DOUBLE"
        ):
            return (value, fraction)
    return arguments


def _expect_aggregation(binding: Binding, node: Json) -> None:
    known = {
        "expression_class", "type", "alias", "query_location", "query_location_length", "return_type", "children",
        "arguments", "original_arguments", "qname", "has_serialize", "aggregate_type", "function_data", "filter",
        "order_bys",
    }  # fmt: skip
    function = node["qname"]["path"][-1]
    unknown = set(node) - known
    if unknown or node.get("aggregate_type", "NON_DISTINCT") not in ("NON_DISTINCT", "DISTINCT"):
        raise binding.refuse(f"{function} with {', '.join(sorted(unknown)) or 'this'}", function)
    if set(node.get("order_bys", {})) - {"orders"}:
        raise binding.refuse(f"this ORDER BY inside {function}", "ORDER")


def settle(binding: Binding, found: Aggregation) -> Aggregation:
    """Return the function in a form whose answer does not depend on the order of its rows."""
    named = replace(found, function=ALIASES.get(found.function, found.function))
    if named.function in _COMMUTATIVE:
        return replace(named, orders=())
    if named.function == "any_value" and not named.orders:  # the least is one of them, and quickly kept
        return replace(named, function="min", is_distinct=False)
    is_constant = not any(isinstance(part, Ref) for value in named.arguments for part in walk(value))
    is_free = named.function in _TIED or found.function == "arbitrary" or is_constant
    if (is_free and named.function in _TIED | ORDERED) or (named.function in ORDERED and named.orders):
        return replace(named, orders=with_ties(named.orders, named.arguments))
    if named.function in ORDERED:
        raise binding.refuse(
            f"{found.function}() without an ORDER BY inside", found.function,
            hint=f"the rows of a view have no order: write {found.function}(… ORDER BY …)",
        )  # fmt: skip
    raise binding.refuse(f"the aggregate {found.function}()", found.function)


def with_ties(orders: Sequence[Order], expressions: Sequence[Expr]) -> tuple[Order, ...]:
    """Return the orders followed by those expressions that they do not name; constants order nothing."""
    named = {order.expression for order in orders}
    ties = (
        expression
        for expression in dict.fromkeys(expressions)
        if expression not in named and any(isinstance(part, Ref) for part in walk(expression))
    )
    return (*orders, *(Order(e, is_descending=False, is_nulls_first=False) for e in ties))
