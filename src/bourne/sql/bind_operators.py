"""The operators of DuckDB's bound plan, read into ours, from the leaves up.

Law: an operator is read with all its fields or refused. A common table expression that is read twice becomes one
node with two parents; DuckDB's decorrelated subqueries are such expressions, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bourne.schema import Schema
from bourne.sql.bind_aggregates import bind_aggregate
from bourne.sql.bind_clock import asks_clock, read_clock_tests
from bourne.sql.bind_joins import bind_as_of, bind_join
from bourne.sql.bind_lateral import bind_table_function, numbered_below, with_identity, with_positions
from bourne.sql.bind_limits import bind_count_of_limited, bind_limit, is_count_of_limited
from bourne.sql.bind_sets import bind_difference, bind_distinct, bind_union
from bourne.sql.bind_windows import bind_window
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json, type_of, type_text
from bourne.sql.plan import (
    Call,
    Cast,
    Expr,
    Get,
    Literal,
    Plan,
    Project,
    Ref,
    Session,
    Temporal,
    Unnest,
    Values,
    walk,
)
from bourne.sql.round_trip import read_checked
from bourne.sql.rules.tree import filtered, replace_parts
from bourne.sql.text import words_of
from bourne.sql.unstable import ARRIVAL, hidden
from bourne.sql.windows import SESSION

_DIGITS = re.compile(r"\d+")

# The column index by which DuckDB asks for the row number.
_ROW_NUMBER = 2**64 - 1

_REFUSED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "LOGICAL_DELIM_JOIN": ("a correlated subquery", ("EXISTS", "SELECT")),
    "LOGICAL_DEPENDENT_JOIN": ("a correlated subquery", ("EXISTS", "SELECT")),
    "LOGICAL_POSITIONAL_JOIN": ("a positional join", ("POSITIONAL",)),
    "LOGICAL_SAMPLE": ("a sample", ("SAMPLE", "TABLESAMPLE")),
    "LOGICAL_RECURSIVE_CTE": ("a recursive CTE", ("RECURSIVE",)),
    "LOGICAL_PIVOT": ("PIVOT", ("PIVOT",)),
}


class OperatorReader:
    """Reads the operators of one query's plan. Lives as long as `bind` runs."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._common: dict[int, Plan] = {}
        self._asked: dict[int, list[int]] = {}  # by which columns the rows of a numbering are told apart

    def read(self, node: Json) -> Plan:
        """Return the plan node, or nodes, that mean the same as this operator."""
        kind = node["type"]
        if kind in _REFUSED:
            construct, words = _REFUSED[kind]
            raise self._binding.refuse(construct, *words)
        match kind:
            case "LOGICAL_GET":
                return self._get(node)
            case "LOGICAL_DUMMY_SCAN":
                self._binding.expect(node, "table_index")
                return Values(((),), ())
            case "LOGICAL_EMPTY_RESULT":
                self._binding.expect(node, "return_types", "bindings")
                return Values((), tuple(type_text(kind) for kind in node["return_types"]))
            case "LOGICAL_MATERIALIZED_CTE":
                return self._common_table(node)
            case "LOGICAL_CTE_REF":
                return self._reference(node)
            case "LOGICAL_WINDOW" if id(node) in self._asked:
                return with_identity(self.read(node["children"][0]), self._asked[id(node)])
            case "LOGICAL_LIMIT" if node["children"][0]["type"] == "LOGICAL_ORDER_BY":
                order = node["children"][0]
                return bind_limit(self._binding, node, order, self.read(order["children"][0]))
            case "LOGICAL_LIMIT":
                return bind_limit(self._binding, node, None, self.read(node["children"][0]))
            case "LOGICAL_AGGREGATE_AND_GROUP_BY" if is_count_of_limited(node):
                return bind_count_of_limited(
                    self._binding, node, self.read(node["children"][0]["children"][0])
                )
        return self._over(node, [self.read(child) for child in node["children"]])

    def _over(self, node: Json, inputs: list[Plan]) -> Plan:
        """Read an operator whose children are read already."""
        binding = self._binding
        match node["type"]:
            case "LOGICAL_PROJECTION":
                binding.expect(node, "table_index", "expressions")
                expressions = read_checked(binding, node["expressions"], inputs[0].types)
                return _project(*_with_arrival(binding, inputs[0], expressions))
            case "LOGICAL_FILTER":
                return _filter(binding, node, inputs[0])
            case "LOGICAL_AGGREGATE_AND_GROUP_BY":
                return bind_aggregate(binding, node, inputs[0])
            case "LOGICAL_COMPARISON_JOIN" | "LOGICAL_ANY_JOIN" | "LOGICAL_CROSS_PRODUCT":
                return bind_join(binding, node, inputs[0], inputs[1])
            case "LOGICAL_ASOF_JOIN":
                return bind_as_of(binding, node, inputs[0], inputs[1])
            case "LOGICAL_DISTINCT":
                return bind_distinct(binding, node, inputs[0])
            case "LOGICAL_UNION":
                return bind_union(binding, node, inputs)
            case "LOGICAL_EXCEPT" | "LOGICAL_INTERSECT":
                return bind_difference(binding, node, inputs[0], inputs[1])
            case "LOGICAL_WINDOW":
                return bind_window(binding, node, inputs[0])
            case "LOGICAL_UNNEST":
                return _unnest(binding, node, inputs[0])
            case "LOGICAL_EXPRESSION_GET":
                return _values(binding, node, inputs[0])
            case "LOGICAL_ORDER_BY":  # a view has no order
                binding.expect(node, "orders")
                return inputs[0]
        raise binding.refuse(node["type"].removeprefix("LOGICAL_"), "SELECT")

    def _common_table(self, node: Json) -> Plan:
        self._binding.expect(node, "table_index", "column_count", "ctename", "materialize")
        definition, body = node["children"]
        table = node.get("table_index", 0)
        is_outer = node["ctename"].startswith("__duckdb_delim_")  # rows of which a subquery reads columns
        numbered = numbered_below(definition, body, table) if is_outer else None
        if numbered is not None:
            numbering, asked = numbered
            self._asked[id(numbering)] = asked
        self._common[table] = self.read(definition)
        return self.read(body)

    def _reference(self, node: Json) -> Plan:
        self._binding.expect(
            node, "table_index", "cte_index", "chunk_types", "bound_columns", "materialized_cte"
        )
        plan = self._common.get(node.get("cte_index", 0))
        written = tuple(type_text(kind) for kind in node["chunk_types"])
        if plan is None or not _are_alike(plan.types, written):
            raise self._binding.refuse("this common table expression", "WITH", "SELECT")
        return plan

    def _get(self, node: Json) -> Plan:
        binding = self._binding
        binding.expect(
            node, "table_index", "returned_types", "names", "projection_ids", "table_filters", "arguments", "qname",
            "has_serialize", "function_data", "parameters", "named_parameters", "input_table_types",
            "input_table_names", "projected_input", "column_indexes", "table_filters_by_projection",
            "ordinality_idx", "source_ordinality",
        )  # fmt: skip
        if node.get("projection_ids") or node.get("table_filters"):
            raise binding.refuse("this scan", "FROM")
        table = node.get("function_data", {}).get("table")
        if node["qname"]["path"] != ["seq_scan"] or table is None:
            return bind_table_function(binding, node, self._arguments(node))
        schema = binding.relations[table]
        indexes = [entry.get("index", 0) for entry in node["column_indexes"]]
        if any(index >= len(schema.columns) for index in indexes) and self._names_row_number(schema, indexes):
            raise binding.refuse("rowid", "rowid", hint="record a number of your own in the log")
        # DuckDB asks for the row number where a query needs rows but no column: any column will do.
        columns = [schema.columns[index if index < len(schema.columns) else 0] for index in indexes]
        return Get(table, tuple(c.name for c in columns), tuple(c.type for c in columns))

    def _arguments(self, node: Json) -> Plan | None:
        """Return what a table function gets from other rows, if it does: there DuckDB names columns by table."""
        if not node.get("children"):
            return None
        (given,) = node["children"]
        if given["type"] != "LOGICAL_PROJECTION":
            raise self._binding.refuse("a table function of these columns", "FROM")
        return self.read(with_positions(self._binding, given, given["children"][0]))

    def _names_row_number(self, schema: Schema, indexes: Sequence[int]) -> bool:
        """Say whether a virtual column is asked for by name."""
        is_other = any(len(schema.columns) <= index != _ROW_NUMBER for index in indexes)
        named = words_of(self._binding.text.original)
        return is_other or (schema.column("rowid") is None and "rowid" in named)


def _are_alike(types: Sequence[str], written: Sequence[str]) -> bool:
    """Compare types; where DuckDB has a row's number, here is an identity or any column: no one reads it as a number."""
    pairs = zip(types, written, strict=False)
    return len(types) == len(written) and all(b in (a, "BIGINT") for a, b in pairs)


def _project(child: Plan, expressions: tuple[Expr, ...]) -> Plan:
    """Return a projection, or the session that it is a mark of (`windows.SESSION`).

    The mark is a struct, in the place of which a projection above it picks its first two fields.
    """
    place = _mark_in(child.expressions) if isinstance(child, Project) else None
    if place is None or not isinstance(child, Project):
        return Project(child, expressions)
    mark = child.expressions[place]
    assert isinstance(mark, Call)
    time, _, gap, *keys = mark.arguments
    (length,) = (part for part in walk(gap) if isinstance(part, Literal))
    session = Session(child.child, tuple(keys), time, int(_DIGITS.findall(length.text)[0]))
    ends = iter((Ref(len(child.child.types), time.type), Ref(len(child.child.types) + 1, time.type)))
    return Project(
        session, tuple(child.expressions[e.index] if isinstance(e, Ref) else next(ends) for e in expressions)
    )


def _mark_in(expressions: Sequence[Expr]) -> int | None:
    """Return the place of a session's mark."""
    for place, part in enumerate(expressions):
        if isinstance(part, Call) and part.function == "struct_pack" and part.names[:1] == (SESSION,):
            return place
    return None


def _filter(binding: Binding, node: Json, child: Plan) -> Plan:
    binding.expect(node, "expressions", "projection_map")
    plain = [each for each in node["expressions"] if not asks_clock(each)]
    plan = filtered(child, read_checked(binding, plain, child.types))
    asking = [each for each in node["expressions"] if asks_clock(each)]
    tests = [test for each in asking for test in read_clock_tests(binding, each, child.types)]
    plan = Temporal(plan, tuple(tests)) if tests else plan
    picked = node.get("projection_map") or range(len(child.types))
    if list(picked) == list(range(len(child.types))):
        return plan
    return Project(plan, tuple(Ref(index, child.types[index]) for index in picked))


def _with_arrival(
    binding: Binding, child: Plan, expressions: tuple[Expr, ...]
) -> tuple[Plan, tuple[Expr, ...]]:
    """Return expressions that ask when records arrive over a log with that as one more column."""
    if not any(
        hidden(part) == ARRIVAL for each in expressions for part in walk(each) if isinstance(part, Cast)
    ):
        return child, expressions
    if not isinstance(child, Get):
        raise binding.refuse(
            "a window by the time of arrival, of what is no log,",
            "now",
            hint="name a log: TUMBLE(log, now(), …)",
        )
    log = Get(child.relation, (*child.columns, ARRIVAL), (*child.types, "TIMESTAMP"))
    at = Ref(len(child.types), "TIMESTAMP")
    return log, replace_parts(
        expressions, lambda part: at if isinstance(part, Cast) and hidden(part) == ARRIVAL else None
    )


def _unnest(binding: Binding, node: Json, child: Plan) -> Plan:
    binding.expect(node, "unnest_index", "expressions")
    for expression in node["expressions"]:
        known = {
            "expression_class",
            "type",
            "alias",
            "query_location",
            "query_location_length",
            "return_type",
            "child",
        }
        if expression["expression_class"] != "BOUND_UNNEST" or set(expression) - known:
            raise binding.refuse("this UNNEST", "UNNEST", span=binding.span(expression))
    if not child.types:  # DuckDB counts the column of what is read without FROM
        child = Values(((Literal("true", "BOOLEAN"),),), ("BOOLEAN",))
    lists = read_checked(binding, [expression["child"] for expression in node["expressions"]], child.types)
    below, lists = _with_arrival(binding, child, lists)
    plan = Unnest(below, lists, tuple(type_of(expression) for expression in node["expressions"]))
    width, more = len(child.types), len(below.types)
    kept = [*range(width), *range(more, more + len(lists))]
    return plan if width == more else Project(plan, tuple(Ref(i, plan.types[i]) for i in kept))


def _values(binding: Binding, node: Json, child: Plan) -> Values:
    binding.expect(node, "table_index", "expr_types", "expressions")
    if child != Values(((),), ()):
        raise binding.refuse("VALUES that depend on other rows", "VALUES")
    rows = tuple(read_checked(binding, row, ()) for row in node["expressions"])
    return Values(rows, tuple(type_text(kind) for kind in node["expr_types"]))
