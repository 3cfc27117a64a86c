"""Aggregates of DuckDB's plan."""

from __future__ import annotations

from collections.abc import Sequence

from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json, type_text
from bourne.sql.plan import Aggregate, Aggregation, Plan
from bourne.sql.round_trip import read_checked

_NAMES = {"mean": "avg"}


def bind_aggregate(binding: Binding, node: Json, child: Plan) -> Plan:
    """Read an aggregate over a child."""
    binding.expect(
        node, "expressions", "groups", "grouping_sets", "group_index", "aggregate_index", "groupings_index"
    )
    groups = read_checked(binding, node.get("groups", []), child.types)
    sets = node.get("grouping_sets", [])
    if len(sets) > 1 or (sets and sets[0] != list(range(len(groups)))):
        raise binding.refuse("GROUPING SETS, ROLLUP or CUBE", "ROLLUP", "CUBE", "GROUPING")
    aggregations = tuple(_aggregation(binding, e, child.types) for e in node.get("expressions", []))
    return Aggregate(child, groups, aggregations)


def _aggregation(binding: Binding, node: Json, types: Sequence[str]) -> Aggregation:
    function = node["qname"]["path"][-1]
    if node.get("aggregate_type", "NON_DISTINCT") != "NON_DISTINCT":
        raise binding.refuse(f"{function}(DISTINCT …)", "DISTINCT")
    if "filter" in node:
        raise binding.refuse("FILTER on an aggregate", "FILTER")
    if "order_bys" in node:
        raise binding.refuse("ORDER BY inside an aggregate", "ORDER")
    arguments = read_checked(binding, node.get("children", []), types)
    return Aggregation(_NAMES.get(function, function), arguments, type_text(node["return_type"]))
