"""DuckDB's bound plan, read into ours. With `bound_values` the only file that knows the plan's JSON (DuckDB 2.0).

Law: a query is accepted only if what we read from the plan, rendered to SQL and bound again, is the same
expression. Whatever is unknown (an operator, a field, a kind of expression) is refused, never ignored.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from bourne.duck import connect
from bourne.errors import NotMaintainable, Span, SqlError
from bourne.limits import SQL_DEPTH_MAX
from bourne.schema import Column, Schema, quote
from bourne.sql.bound_values import WHOLE_NUMBERS, Json, UnknownType, literal_text, type_of, type_text
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    BoundQuery,
    Call,
    Case,
    Cast,
    Expr,
    Filter,
    Get,
    Literal,
    Logic,
    Plan,
    Project,
    Ref,
    Test,
    walk,
)
from bourne.sql.render import render
from bourne.sql.windows import Rewritten, find_word, rewrite_windows, words_of

# The only kind of function that a view may call: its answer depends on its arguments alone.
_STABLE = "CONSISTENT"

# DuckDB calls these consistent, but they depend on the clock, on DuckDB's version, or on how a column is called.
# (`age` of one argument counts from today.)
_UNSTABLE = frozenset({("current_localtime", 0), ("current_localtimestamp", 0), ("age", 1), ("version", 0),
                       ("alias", 1)})  # fmt: skip

# A mapping of columns in which each is itself.
_ALIKE = range(1 << 16)

# The column index by which DuckDB asks for the row number.
_ROW_NUMBER = 2**64 - 1

_REFUSED_OPERATORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "LOGICAL_COMPARISON_JOIN": ("a join or an IN / EXISTS subquery", ("JOIN", "EXISTS", "IN", "SELECT")),
    "LOGICAL_ANY_JOIN": ("a join", ("JOIN",)),
    "LOGICAL_CROSS_PRODUCT": ("a cross join", ("CROSS", "JOIN", ",")),
    "LOGICAL_ASOF_JOIN": ("an ASOF join", ("ASOF",)),
    "LOGICAL_DELIM_JOIN": ("a correlated subquery", ("EXISTS", "SELECT")),
    "LOGICAL_DEPENDENT_JOIN": ("a correlated subquery", ("EXISTS", "SELECT")),
    "LOGICAL_WINDOW": ("a window function (OVER)", ("OVER",)),
    "LOGICAL_DISTINCT": ("DISTINCT", ("DISTINCT",)),
    "LOGICAL_UNION": ("UNION", ("UNION",)),
    "LOGICAL_EXCEPT": ("EXCEPT", ("EXCEPT",)),
    "LOGICAL_INTERSECT": ("INTERSECT", ("INTERSECT",)),
    "LOGICAL_UNNEST": ("UNNEST", ("UNNEST",)),
    "LOGICAL_LIMIT": ("LIMIT", ("LIMIT", "FETCH", "OFFSET")),
    "LOGICAL_SAMPLE": ("a sample", ("SAMPLE", "TABLESAMPLE")),
    "LOGICAL_RECURSIVE_CTE": ("a recursive CTE", ("RECURSIVE",)),
    "LOGICAL_EXPRESSION_GET": ("VALUES", ("VALUES",)),
    "LOGICAL_DUMMY_SCAN": ("a SELECT without FROM", ("SELECT",)),
}


def bind(sql: str, relations: Mapping[str, Schema], *, view: str | None = None) -> BoundQuery:
    """Bind a view's SQL against the relations it may read.

    Raises:
        SqlError: the SQL is wrong, with the place.
        NotMaintainable: it is right, but cannot be kept up to date incrementally yet.
    """
    try:
        rewritten = rewrite_windows(sql, relations)
        with _connect(relations) as connection:
            return _Binder(connection, rewritten, relations).bind()
    except UnknownType as error:
        raise NotMaintainable(f"type {error}", sql=sql, view=view, hint="CAST it to another type") from error
    except SqlError as error:
        raise error.in_view(view) from error.__cause__
    except RecursionError as error:
        raise NotMaintainable("SQL nested this deep", sql=sql, view=view,
                              hint="split it into several views") from error  # fmt: skip


def _connect(relations: Mapping[str, Schema]) -> duckdb.DuckDBPyConnection:
    """Return a private DuckDB with an empty table for each relation, and nothing else."""
    connection = connect()
    for name, schema in relations.items():
        columns = ", ".join(f"{quote(column.name)} {column.type}" for column in schema.columns)
        connection.execute(f"CREATE TABLE {quote(name)} ({columns})")
    return connection


class _Binder:
    """Reads one query's plan. Lives as long as `bind` runs."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, text: Rewritten, relations: Mapping[str, Schema]
    ) -> None:
        self._connection = connection
        self._text = text
        self._relations = relations
        self._common: dict[int, Plan] = {}

    def bind(self) -> BoundQuery:
        for statement in _statements(self._text.sql):
            if statement.type != duckdb.StatementType.SELECT:
                raise SqlError("a view is a SELECT statement", sql=self._text.original,
                               hint=f"this one is {statement.type.name}")  # fmt: skip
        root = self._plan_json(self._text.sql)
        plan = self._plan(root)
        return BoundQuery(plan, self._schema(), self._text.sql)

    # --- asking DuckDB ---

    def _plan_json(self, sql: str) -> Json:
        """Return the root operator of the bound, unoptimised plan."""
        options = "skip_null := true, skip_empty := true, skip_default := true"
        row = self._connection.execute(f"SELECT json_serialize_plan(?, {options})", [sql]).fetchall()[0]
        try:
            answer = json.loads(row[0])
        except json.JSONDecodeError as error:  # DuckDB writes some NaNs as no JSON has them
            raise self._refuse("a constant that is not a number", "nan", "SELECT", hint="ask isnan(x)") \
                from error  # fmt: skip
        if answer["error"]:
            raise self._error(answer)
        plans = answer["plans"]
        if len(plans) != 1:
            raise SqlError(f"a view is one SELECT; here are {len(plans)} statements", sql=self._text.original)
        root: Json = plans[0]
        return root

    def _error(self, answer: Json) -> SqlError:
        """Map DuckDB's error to ours, with the place in the user's text."""
        message = str(answer.get("error_message", "DuckDB cannot bind this")).strip()
        if any(statement.named_parameters for statement in _statements(self._text.sql)):
            return SqlError("a view has no parameters", sql=self._text.original,
                            span=find_word(self._text.original, "?", "$"), hint="write the value")  # fmt: skip
        span = None
        if "position" in answer:
            location = str(answer.get("location", "[0,1]")).strip("[]").split(",")
            span = self._text.origin(int(answer["position"]), int(location[1]) if len(location) > 1 else 1)
        known = ", ".join(self._relations) or "none"
        hint = f"known logs: {known}" if answer.get("error_type") == "catalog" else None
        return SqlError(message, sql=self._text.original, span=span, hint=hint)

    def _schema(self) -> Schema:
        """Return the output columns' names and types, as DuckDB names them."""
        relation = self._connection.sql(self._text.sql)
        names = relation.columns
        if len({name.casefold() for name in names}) != len(names):
            repeated = next(
                n for i, n in enumerate(names) if n.casefold() in {m.casefold() for m in names[:i]}
            )
            raise SqlError(f"two output columns are called {repeated!r}", sql=self._text.original,
                           hint="give one another name with AS")  # fmt: skip
        columns = [Column(name, str(kind)) for name, kind in zip(names, relation.types, strict=True)]
        for column in columns:
            if column.name.startswith("__"):
                raise SqlError(f"output column {column.name!r} starts with two underscores",
                               sql=self._text.original, hint="those names are Bourne's: use AS")  # fmt: skip
        return Schema(tuple(columns))

    # --- operators ---

    def _plan(self, node: Json) -> Plan:
        kind = node["type"]
        children = node.get("children", [])
        match kind:
            case "LOGICAL_GET":
                return self._get(node)
            case "LOGICAL_PROJECTION":
                self._expect(node, {"table_index", "expressions"})
                child = self._plan(children[0])
                return Project(child, self._expressions(node, child))
            case "LOGICAL_FILTER":
                self._expect(node, {"expressions"})
                child = self._plan(children[0])
                return Filter(child, self._expressions(node, child))
            case "LOGICAL_AGGREGATE_AND_GROUP_BY":
                return self._aggregate(node)
            case "LOGICAL_MATERIALIZED_CTE":
                self._common[node.get("table_index", 0)] = self._plan(children[0])
                return self._plan(children[1])
            case "LOGICAL_CTE_REF":
                return self._common[node.get("cte_index", 0)]
            case "LOGICAL_ORDER_BY":
                raise self._refuse(
                    "ORDER BY", "ORDER", hint="a view has no order: put ORDER BY into the query"
                )
        if kind == "LOGICAL_DISTINCT" and find_word(self._text.original, "DISTINCT") is None:
            kind = children[0]["type"]  # UNION, EXCEPT and INTERSECT are made distinct this way
        construct, words = _REFUSED_OPERATORS.get(kind, (kind.removeprefix("LOGICAL_"), ("SELECT",)))
        if kind == "LOGICAL_WINDOW" and find_word(self._text.original, "OVER") is None:
            construct, words = "a correlated subquery or lateral join", ("LATERAL", "UNNEST", "SELECT")
        raise self._refuse(construct, *words)

    def _get(self, node: Json) -> Get:
        table = node.get("function_data", {}).get("table")
        if node["qname"]["path"] != ["seq_scan"] or table is None:
            raise self._refuse(f"the table function {node['qname']['path'][-1]}", node["qname"]["path"][-1])
        self._expect(
            node,
            {
                "table_index", "returned_types", "names", "projection_ids", "table_filters", "arguments",
                "qname", "has_serialize", "function_data", "parameters", "named_parameters",
                "input_table_types", "input_table_names", "projected_input", "column_indexes",
                "table_filters_by_projection",
            },
        )  # fmt: skip
        if node.get("projection_ids") or node.get("table_filters"):
            raise self._refuse("this scan", "FROM")
        schema = self._relations[table]
        indexes = [entry.get("index", 0) for entry in node["column_indexes"]]
        if any(index >= len(schema.columns) for index in indexes) and self._names_row_number(schema, indexes):
            raise self._refuse("rowid", "rowid", hint="record a number of your own in the log")
        # DuckDB asks for the row number where a query needs rows but no column: any column will do.
        columns = [schema.columns[index if index < len(schema.columns) else 0] for index in indexes]
        return Get(table, tuple(c.name for c in columns), tuple(c.type for c in columns))

    def _names_row_number(self, schema: Schema, indexes: Sequence[int]) -> bool:
        """Say whether a virtual column is asked for by name."""
        is_other = any(len(schema.columns) <= index != _ROW_NUMBER for index in indexes)
        return is_other or (schema.column("rowid") is None and "rowid" in words_of(self._text.original))

    def _aggregate(self, node: Json) -> Aggregate:
        self._expect(
            node,
            {"expressions", "groups", "grouping_sets", "group_index", "aggregate_index", "groupings_index"},
        )
        child = self._plan(node["children"][0])
        groups = tuple(self._top_expression(group, child.types) for group in node.get("groups", []))
        sets = node.get("grouping_sets", [])
        if len(sets) > 1 or (sets and sets[0] != list(range(len(groups)))):
            raise self._refuse("GROUPING SETS, ROLLUP or CUBE", "ROLLUP", "CUBE", "GROUPING")
        self._check_round_trip(groups, node.get("groups", []), child.types)
        aggregations = tuple(self._aggregation(e, child.types) for e in node.get("expressions", []))
        return Aggregate(child, groups, aggregations)

    def _aggregation(self, node: Json, types: Sequence[str]) -> Aggregation:
        function = node["qname"]["path"][-1]
        if node.get("aggregate_type", "NON_DISTINCT") != "NON_DISTINCT":
            raise self._refuse(f"{function}(DISTINCT …)", "DISTINCT")
        if "filter" in node:
            raise self._refuse("FILTER on an aggregate", "FILTER")
        if "order_bys" in node:
            raise self._refuse("ORDER BY inside an aggregate", "ORDER")
        known = {
            "expression_class", "type", "alias", "query_location", "query_location_length", "return_type",
            "children", "arguments", "original_arguments", "qname", "has_serialize", "aggregate_type",
            "function_data",
        }  # fmt: skip
        if set(node) - known:
            raise self._refuse(f"{function} with {', '.join(sorted(set(node) - known))}", function)
        children = node.get("children", [])
        arguments = tuple(self._top_expression(child, types) for child in children)
        self._check_round_trip(arguments, children, types)
        return Aggregation(
            _AGGREGATE_NAMES.get(function, function), arguments, type_text(node["return_type"])
        )

    def _expressions(self, node: Json, child: Plan) -> tuple[Expr, ...]:
        nodes = node.get("expressions", [])
        expressions = tuple(self._top_expression(expression, child.types) for expression in nodes)
        self._check_round_trip(expressions, nodes, child.types)
        return expressions

    # --- expressions ---

    def _top_expression(self, node: Json, types: Sequence[str]) -> Expr:
        try:
            expression = self._expression(node, types)
            self._check_calls(expression)
            return expression
        except UnknownType as error:
            raise self._refuse(
                f"type {error}", span=self._span(node), hint="CAST it to another type"
            ) from error

    def _expression(self, node: Json, types: Sequence[str], depth: int = 0) -> Expr:
        if depth > SQL_DEPTH_MAX:
            raise self._refuse("an expression nested this deep", "SELECT", hint="split it into several views")

        def below(nodes: Sequence[Json]) -> tuple[Expr, ...]:
            return tuple(self._expression(child, types, depth + 1) for child in nodes)

        children = node.get("children", [])
        match node["expression_class"]:
            case "BOUND_REF":
                index = node.get("index", 0)
                return Ref(index, types[index])
            case "BOUND_CONSTANT":
                return self._literal(node)
            case "BOUND_CONJUNCTION":
                return Logic("AND" if node["type"] == "CONJUNCTION_AND" else "OR", below(children))
            case "BOUND_CASE":
                branches = tuple(
                    below([check["when_expr"], check["then_expr"]]) for check in node["case_checks"]
                )
                (otherwise,) = below([node["else_expr"]])
                pairs = tuple((when, then) for when, then in branches)
                return Case(pairs, otherwise, type_text(node["return_type"]))
            case "BOUND_OPERATOR" if node["type"] in _TESTS:
                return Test(_TESTS[node["type"]], below(children), type_of(node))
            case "BOUND_FUNCTION" if node["type"] == "OPERATOR_CAST":
                (argument,) = below(children)
                is_try = node["function_data"]["try_cast"]
                return Cast(argument, type_text(node["return_type"]), is_try, self._span(node))
            case "BOUND_FUNCTION" if "lambda_expr" not in node.get("function_data", {}):
                count, names = len(children), node.get("named_arguments", [])
                arguments = _without_widening(node["qname"]["path"][-1], below(children), type_of(node))
                padded = ("",) * (count - len(names)) + tuple(names)
                return Call(node["qname"]["path"][-1], arguments, padded, type_of(node), self._span(node))
        raise self._refuse("a lambda" if "lambda" in json.dumps(node) else "this expression", "lambda", "SELECT",
                           span=self._span(node))  # fmt: skip

    def _literal(self, node: Json) -> Literal:
        value = node["value"]
        kind = type_text(value["type"])
        if value["is_null"]:
            return Literal("NULL" if kind == '"NULL"' else f"NULL::{kind}", kind)
        text = literal_text(kind, value["type"], value.get("value"))
        if text is None:
            raise self._refuse(f"a constant of type {kind}", "SELECT", span=self._span(node))
        return Literal(text, kind)

    # --- checks ---

    def _check_round_trip(
        self, expressions: Sequence[Expr], nodes: Sequence[Json], types: Sequence[str]
    ) -> None:
        """Refuse expressions that, rendered and bound again, are not the same."""
        if all(isinstance(expression, Ref) for expression in expressions):
            return
        columns = ", ".join(f"NULL::{kind} AS c{i}" for i, kind in enumerate(types))
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE __child AS SELECT {columns}")
        for expression, node in zip(expressions, nodes, strict=True):
            text = render(expression, lambda index: f"c{index}")
            try:
                root = self._plan_json(f"SELECT {text} FROM __child")
            except SqlError:
                root = {}
            again = root.get("expressions", [{}])[0] if root.get("type") == "LOGICAL_PROJECTION" else {}
            scan = root.get("children", [{}])[0] if root else {}
            mapping = [entry.get("index", 0) for entry in scan.get("column_indexes", [])]
            if not again or not self._is_same(node, again, mapping):
                raise self._refuse("this expression", "SELECT", span=self._span(node))

    def _is_same(self, first: Any, second: Any, mapping: Sequence[int]) -> bool:
        """Compare two bound expressions; column i of the second is column mapping[i] of the first.

        Parts without columns are compared by type and value, as DuckDB folds some constants when it binds.
        """
        if isinstance(first, dict) and isinstance(second, dict):
            if first.get("expression_class") == "BOUND_REF":
                return (
                    second.get("expression_class") == "BOUND_REF"
                    and first.get("index", 0) == mapping[second.get("index", 0)]
                    and first.get("return_type") == second.get("return_type")
                )
            if "expression_class" in first and not _has_ref(first) and not _has_ref(second):
                return self._is_same_value(first, second)
            keys = (set(first) | set(second)) - _NOISE
            # In a function's own data, references are to list elements and the like, not to columns.
            return all(
                self._is_same(first.get(key), second.get(key), _ALIKE if key == "function_data" else mapping)
                for key in keys
            )
        if isinstance(first, list) and isinstance(second, list):
            pairs = zip(first, second, strict=False)
            return len(first) == len(second) and all(self._is_same(a, b, mapping) for a, b in pairs)
        return bool(first == second)

    def _is_same_value(self, first: Json, second: Json) -> bool:
        """Compare two expressions without columns by evaluating them."""
        texts = [render(self._expression(part, ()), lambda index: f"c{index}") for part in (first, second)]
        if texts[0] == texts[1]:
            return True
        try:
            sql = "SELECT typeof({0}) = typeof({1}) AND ({0}) IS NOT DISTINCT FROM ({1})".format(*texts)
            return bool(self._connection.execute(sql).fetchall()[0][0])
        except duckdb.Error:
            return False

    def _check_calls(self, expression: Expr) -> None:
        """Refuse functions whose answer depends on more than their arguments."""
        for call in walk(expression):
            if not isinstance(call, Call):
                continue
            is_unstable = (call.function, len(call.arguments)) in _UNSTABLE
            if is_unstable or not _stabilities().get(call.function, frozenset()) <= {_STABLE, None}:
                raise self._refuse(
                    f"{call.function}(), whose answer changes from call to call,", call.function, span=call.span,
                    hint="record the value in the log when the event happens, and read it from there",
                )  # fmt: skip

    def _expect(self, node: Json, known: set[str]) -> None:
        """Refuse an operator with fields that we do not know: they would change its meaning."""
        unknown = set(node) - known - {"type", "children"}
        if unknown:
            what = f"{node['type'].removeprefix('LOGICAL_')} with {', '.join(sorted(unknown))}"
            raise self._refuse(what, "GROUPING", "SELECT")

    def _span(self, node: Json) -> Span | None:
        if "query_location" not in node:
            return next((s for child in node.get("children", []) if (s := self._span(child))), None)
        return self._text.origin(node["query_location"], node.get("query_location_length", 1))

    def _refuse(
        self, construct: str, *words: str, span: Span | None = None, hint: str | None = None
    ) -> NotMaintainable:
        place = span or find_word(self._text.original, *words)
        return NotMaintainable(construct, sql=self._text.original, span=place, hint=hint)


@functools.cache
def _stabilities() -> Mapping[str, frozenset[str | None]]:
    """Return what DuckDB says of each function's overloads."""
    sql = "SELECT function_name, list(DISTINCT stability) FROM duckdb_functions() GROUP BY ALL"
    return {name: frozenset(found) for name, found in connect().execute(sql).fetchall()}


def _statements(sql: str) -> list[duckdb.Statement]:
    try:
        return list(duckdb.extract_statements(sql))
    except duckdb.Error:
        return []


_AGGREGATE_NAMES = {"mean": "avg"}

_TESTS = {
    "OPERATOR_NOT": "NOT",
    "OPERATOR_IS_NULL": "IS NULL",
    "OPERATOR_IS_NOT_NULL": "IS NOT NULL",
    "COMPARE_IN": "IN",
    "COMPARE_NOT_IN": "NOT IN",
    "OPERATOR_COALESCE": "COALESCE",
    "OPERATOR_TRY": "TRY",
}


_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def _without_widening(function: str, arguments: tuple[Expr, ...], result: str) -> tuple[Expr, ...]:
    """Drop the casts that DuckDB adds to decimals before it adds or multiplies: binding again adds them again."""
    if len(arguments) != 2 or function not in ("+", "-", "*") or not (wide := _DECIMAL.fullmatch(result)):
        return arguments

    def plain(argument: Expr) -> Expr:
        if not isinstance(argument, Cast) or argument.is_try or not (to := _DECIMAL.fullmatch(argument.type)):
            return argument
        source = _DECIMAL.fullmatch(argument.argument.type)
        if source is None and argument.argument.type not in WHOLE_NUMBERS:
            return argument
        scale, scale_before = int(to[2]), int(source[2]) if source else 0
        is_added = scale == scale_before and to[1] == wide[1] if function == "*" else argument.type == result
        return argument.argument if is_added and scale >= scale_before else argument

    first, second = arguments
    return plain(first), plain(second)


# Fields that say where an expression stands or how it was written, not what it is.
_NOISE = frozenset(
    {
        "query_location", "query_location_length", "alias", "has_serialize", "original_arguments", "arguments",
        "is_operator",
    }
)  # fmt: skip


def _has_ref(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get("expression_class") == "BOUND_REF" or any(_has_ref(value) for value in node.values())
    return isinstance(node, list) and any(_has_ref(item) for item in node)
