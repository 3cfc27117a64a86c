"""A view's SQL to a logical plan: DuckDB binds the text, and what it bound is read into ours.

With the other `bind…` files, `round_trip` and `bound_values` this is what knows the JSON of DuckDB 2.0's plan.

Law: a query is accepted only if what we read from the plan, rendered to SQL and bound again, is the same
expression. Whatever is unknown (an operator, a field, a kind of expression) is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import duckdb

from bourne.duck import connect
from bourne.errors import NotMaintainable, SqlError
from bourne.schema import Column, Schema, quote
from bourne.sql.bind_operators import OperatorReader
from bourne.sql.binding import Binding, statements
from bourne.sql.bound_values import UnknownType
from bourne.sql.emit import split_emit
from bourne.sql.plan import BoundQuery, nodes
from bourne.sql.unstable import ARRIVAL, hide, is_left
from bourne.sql.windows import rewrite_windows
from bourne.sql.zones import register_zones
from bourne.udf import Udf, register


def bind(
    sql: str, relations: Mapping[str, Schema], *, functions: Iterable[Udf] = (), view: str | None = None
) -> BoundQuery:
    """Bind a view's SQL against the relations that it may read and the functions that it may call besides DuckDB's.

    Raises:
        SqlError: the SQL is wrong, with the place.
        NotMaintainable: it is right, but cannot be kept up to date incrementally yet.
    """
    try:
        select, emit = split_emit(sql)
        rewritten = replace(rewrite_windows(select, relations, is_view=True), original=sql)
        with _connected(relations, list(functions)) as connection:
            return replace(_bind(Binding(connection, rewritten, relations)), emit=emit)
    except UnknownType as error:
        raise NotMaintainable(f"type {error}", sql=sql, view=view, hint="CAST it to another type") from error
    except SqlError as error:
        raise error.in_view(view) from error.__cause__
    except (IndexError, KeyError) as error:  # a plan of a shape that we have not seen
        raise NotMaintainable("this SQL", sql=sql, view=view, hint="write it in another way") from error
    except RecursionError as error:
        raise NotMaintainable("SQL nested this deep", sql=sql, view=view,
                              hint="split it into several views") from error  # fmt: skip


# DuckDBs in which views are bound, while none is: making one takes longer than binding most views.
_IDLE: list[duckdb.DuckDBPyConnection] = []


@contextmanager
def _connected(relations: Mapping[str, Schema], functions: list[Udf]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lend a DuckDB with an empty table for each relation and with these functions, and nothing else of a user's."""
    if functions:  # which cannot be taken back
        with _prepared() as connection:
            register(connection, functions)
            _declare(relations, connection)
            yield connection
        return
    try:
        connection = _IDLE.pop()
    except IndexError:
        connection = _prepared()
    connection.begin()
    try:
        _declare(relations, connection)
        yield connection
    finally:
        connection.rollback()
        _IDLE.append(connection)


def _prepared() -> duckdb.DuckDBPyConnection:
    connection = connect()
    hide(connection)
    register_zones(connection)
    return connection


def _declare(relations: Mapping[str, Schema], connection: duckdb.DuckDBPyConnection) -> None:
    for name, schema in relations.items():
        columns = ", ".join(f"{quote(column.name)} {column.type}" for column in schema.columns)
        connection.execute(f"CREATE TABLE {quote(name)} ({columns})")


def _bind(binding: Binding) -> BoundQuery:
    text = binding.text
    for statement in statements(text.sql):
        if statement.type != duckdb.StatementType.SELECT:
            raise SqlError("a view is a SELECT statement", sql=text.original,
                           hint=f"this one is {statement.type.name}")  # fmt: skip
    binding.check_hiding()
    plan = OperatorReader(binding).read(binding.plan_json(text.sql))
    if any(is_left(node, ARRIVAL) for node in nodes(plan)):
        raise binding.refuse(
            "the time of arrival, here,", "now", hint="only windows may ask for it: TUMBLE(log, now(), …)"
        )
    return BoundQuery(plan, _schema(binding), text.sql)


def _schema(binding: Binding) -> Schema:
    """Return the output columns' names and types, as DuckDB names them."""
    text = binding.text
    relation = binding.connection.sql(text.sql)
    names = relation.columns
    if len({name.casefold() for name in names}) != len(names):
        repeated = next(n for i, n in enumerate(names) if n.casefold() in {m.casefold() for m in names[:i]})
        raise SqlError(f"two output columns are called {repeated!r}", sql=text.original,
                       hint="give one another name with AS")  # fmt: skip
    columns = [Column(name, str(kind)) for name, kind in zip(names, relation.types, strict=True)]
    for column in columns:
        if column.name.startswith("__"):
            raise SqlError(f"output column {column.name!r} starts with two underscores",
                           sql=text.original, hint="those names are Bourne's: use AS")  # fmt: skip
    return Schema(tuple(columns))
