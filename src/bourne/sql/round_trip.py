"""The check behind `bind`: what we read, rendered to SQL and bound again, is what DuckDB had bound.

Law: nothing is accepted on trust. Compared are DuckDB's own bound expressions, less what says only where they
stand or how they were written; parts without columns are compared by type and value, as DuckDB folds some constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from bourne.errors import SqlError
from bourne.sql.bind_expressions import read_any, read_expression
from bourne.sql.binding import Binding
from bourne.sql.bound_values import Json
from bourne.sql.plan import Expr, Ref
from bourne.sql.render import render

# A mapping of columns in which each is itself.
_ALIKE = range(1 << 16)

# Fields in which references are to list elements and the like, not to columns.
_OWN = frozenset({"function_data", "lambda_expr"})

# How DuckDB calls what tells a subquery's outer rows apart: a number there, an identity of any type here.
_NUMBER = "delim_index"

# Fields that say where an expression stands or how it was written, not what it is.
_NOISE = frozenset(
    {
        "query_location", "query_location_length", "alias", "has_serialize", "original_arguments", "arguments",
        "is_operator", "is_default_cast", "sql_range_start", "sql_range_end",
        "parameter_names",
    }
)  # fmt: skip


def read_checked(binding: Binding, nodes: Sequence[Json], types: Sequence[str]) -> tuple[Expr, ...]:
    """Read bound expressions over columns of these types, and check each of them."""
    expressions = tuple(read_expression(binding, node, types) for node in nodes)
    check_expressions(binding, expressions, nodes, types)
    return expressions


def check_expressions(
    binding: Binding, expressions: Sequence[Expr], nodes: Sequence[Json], types: Sequence[str]
) -> None:
    """Refuse expressions that, rendered and bound again, are not the same."""
    pairs = [(e, node) for e, node in zip(expressions, nodes, strict=True) if not isinstance(e, Ref)]
    if pairs:
        declare_child(binding, types)
    for expression, node in pairs:
        check_text(binding, render(expression, column_name), node, "LOGICAL_PROJECTION")


def declare_child(binding: Binding, types: Sequence[str]) -> None:
    """Make columns c0, c1, … of these types known to DuckDB, for `check_text`."""
    columns = ", ".join(f"NULL::{kind} AS c{i}" for i, kind in enumerate(types)) or "NULL AS none"
    binding.connection.execute(f"CREATE OR REPLACE TEMP TABLE __child AS SELECT {columns}")


def column_name(index: int) -> str:
    """Return what `declare_child` calls a column."""
    return f"c{index}"


def check_text(
    binding: Binding,
    text: str,
    node: Json,
    operator: str,
    *,
    called: str = "this expression",
    word: str = "SELECT",
) -> None:
    """Refuse a select item whose part under this operator is not the same bound expression as `node`."""
    try:
        root = binding.plan_json(f"SELECT {text} FROM __child")
    except SqlError:
        root = {}
    while root and root["type"] != operator:
        root = root.get("children", [{}])[0]
    again = root.get("expressions", [{}])[0]
    scan = root.get("children", [{}])[0]
    mapping = [entry.get("index", 0) for entry in scan.get("column_indexes", [])]
    if not again or scan.get("type") != "LOGICAL_GET" or not _is_same(binding, node, again, mapping):
        raise binding.refuse(
            called, word, span=binding.span(node),
            hint="DuckDB reads it in another way when it is written out again: write it differently, or compute a part of "
            "it in a subquery",
        )  # fmt: skip


def _is_same(binding: Binding, first: Any, second: Any, mapping: Sequence[int]) -> bool:
    """Compare two bound expressions; column i of the second is column mapping[i] of the first."""
    if isinstance(first, dict) and isinstance(second, dict):
        if first.get("expression_class") == "BOUND_REF":
            return (
                second.get("expression_class") == "BOUND_REF"
                and first.get("index", 0) == mapping[second.get("index", 0)]
                and (first.get("return_type") == second.get("return_type") or first.get("alias") == _NUMBER)
            )
        if _is_constant(first) and _is_constant(second):
            return _is_same_value(binding, first, second)
        first, second = _flat(first), _flat(second)
        keys = (set(first) | set(second)) - _NOISE
        return all(
            _is_same(binding, first.get(key), second.get(key), _ALIKE if key in _OWN else mapping)
            for key in keys
        )
    if isinstance(first, list) and isinstance(second, list):
        pairs = zip(first, second, strict=False)
        return len(first) == len(second) and all(_is_same(binding, a, b, mapping) for a, b in pairs)
    return bool(first == second)


def _flat(node: Json) -> Json:
    """Return an AND of ANDs as one AND, an OR of ORs as one OR: text does not tell them apart."""
    if node.get("expression_class") != "BOUND_CONJUNCTION":
        return node
    found: list[Json] = []
    for child in map(_flat, node["children"]):
        found += child["children"] if child.get("type") == node["type"] else [child]
    return node | {"children": found}


def _is_same_value(binding: Binding, first: Json, second: Json) -> bool:
    """Compare two expressions without columns by evaluating them."""
    texts = [render(read_any(binding, part, ()), column_name) for part in (first, second)]
    if texts[0] == texts[1]:
        return True
    try:
        sql = "SELECT typeof({0}) = typeof({1}) AND ({0}) IS NOT DISTINCT FROM ({1})".format(*texts)
        return bool(binding.connection.execute(sql).fetchall()[0][0])
    except duckdb.Error:
        return False


_NO_SCALARS = frozenset({"BOUND_AGGREGATE", "BOUND_WINDOW", "BOUND_LAMBDA"})


def _is_constant(node: Json) -> bool:
    """Say whether this is an expression that has a value by itself."""
    kind = node.get("expression_class")
    return kind is not None and kind not in _NO_SCALARS and not _has_ref(node)


def _has_ref(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get("expression_class") == "BOUND_REF" or any(_has_ref(value) for value in node.values())
    return isinstance(node, list) and any(_has_ref(item) for item in node)
