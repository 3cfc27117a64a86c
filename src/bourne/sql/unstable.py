"""Functions whose answer changes from call to call: found in a query, and refused.

DuckDB computes calls with constant arguments while it binds: of `epoch(now())` its plan has only a number. So where a
view is bound these functions are macros that cannot be computed. What they leave in the plan is a failure that names
them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import duckdb

from bourne.duck import cursor
from bourne.sql.bound_values import Json
from bourne.sql.plan import Call, Cast, Expr, Literal, Plan

# The only kind of function that a view may call: its answer depends on its arguments alone.
_STABLE = "CONSISTENT"

# DuckDB calls these stable, but they depend on the clock or on DuckDB's version. (`age` of one argument counts from
# today; that of two is what it says.)
_CLOCKS = {
    "__arrival": "() AS CAST({} AS TIMESTAMP)",
    "current_localtime": "() AS CAST({} AS TIME)",
    "current_localtimestamp": "() AS CAST({} AS TIMESTAMP)",
    "version": "() AS CAST({} AS VARCHAR)",
    "age": "(a) AS CAST({} AS INTERVAL), (a, b) AS system.main.age(a, b)",
}

# How a column is called is no part of its rows.
_NAMES = frozenset({("alias", 1)})

# What a window function's `now()` becomes: the clock of the epoch that takes the record in, a hidden column of its log.
ARRIVAL = "__arrival"

# Those that ask for the time of day, which conditions may (`bind_clock`); and whether that is cut to days.
CLOCKS = {
    "now": False, "get_current_timestamp": False, "transaction_timestamp": False, "current_localtimestamp": False,
    "current_date": True, "today": True,
}  # fmt: skip

_MARK = "this changes from call to call: "


def hide(connection: duckdb.DuckDBPyConnection) -> None:
    """Replace the functions that DuckDB would compute while it binds. No function of a user's is called like them."""
    for macro in _macros().values():
        connection.execute(macro)


def is_unstable(call: Call) -> bool:
    """Say whether a function's answer depends on more than its arguments."""
    kinds = _stabilities().get(call.function, frozenset())
    return (call.function, len(call.arguments)) in _NAMES or not kinds <= {_STABLE, None}


def hidden(expression: Expr) -> str | None:
    """Return the name of the function of which this is left."""
    match expression:
        case Cast(argument=Call(function="error", arguments=(Literal(text=text),))):
            return named_in(text)
    return None


def is_mark(call: Call, name: str) -> bool:
    """Say whether a call is what is left of a function."""
    match call:
        case Call(function="error", arguments=(Literal(text=text),)):
            return named_in(text) == name
    return False


def is_left(node: Plan, name: str) -> bool:
    """Say whether what is left of a function is in a plan's node, its children aside."""
    own = [
        getattr(node, f.name) for f in fields(node) if f.name not in {"child", "children", "left", "right"}
    ]
    return f"{_MARK}{name}" in repr(own)


def named_in(message: str) -> str | None:
    """Return the name of the function that DuckDB tried to compute, from what it said."""
    found = re.search(rf"{_MARK}(\w+)", message)
    return found[1] if found else None


def past_hiding(tree: Any) -> Iterator[tuple[str, Json]]:
    """Return what a parsed query calls so that it is not hidden, by DuckDB's own schema: names, and where."""
    if isinstance(tree, dict):
        path = [part.casefold() for part in tree.get("qualified_name", {}).get("path", [])]
        if tree.get("class") == "FUNCTION" and path[0] in ("system", "pg_catalog") and path[-1] in _macros():
            yield path[-1], tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from past_hiding(part)


@functools.cache
def _macros() -> Mapping[str, str]:
    """Return the statement that hides each function. A failure fits in wherever a value does."""
    sql = """
        SELECT function_name, any_value(return_type), any_value(len(parameters)) FROM duckdb_functions()
        WHERE function_type = 'scalar' AND stability = 'CONSISTENT_WITHIN_QUERY' GROUP BY ALL"""
    bodies = dict(_CLOCKS)
    for name, kind, count in cursor().execute(sql).fetchall():
        parameters = ", ".join("abcdef"[:count])
        bodies[name] = f"({parameters}) AS CAST({{}} AS {'VARCHAR' if kind == 'ANY' else kind})"
    failures = {name: f"error('{_MARK}{name}')" for name in bodies}
    return {name: f'CREATE MACRO "{name}"{body.format(failures[name])}' for name, body in bodies.items()}


@functools.cache
def _stabilities() -> Mapping[str, frozenset[str | None]]:
    """Return what DuckDB says of each function's overloads."""
    sql = "SELECT function_name, list(DISTINCT stability) FROM duckdb_functions() GROUP BY ALL"
    return {name: frozenset(found) for name, found in cursor().execute(sql).fetchall()}
