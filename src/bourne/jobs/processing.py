"""What becomes of a chunk's rows between reading and writing: SQL over `input`, and Python functions, one after the other.

Law: each row is treated by itself, so the size of the chunks does not show. SQL that looks at more is refused when the step
begins (`bourne.sql.row_by_row`); a function is trusted. `now()` is the time at which the chunk was processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from bourne.batch.steps import Process
from bourne.duck import connect
from bourne.errors import DefinitionError, InputError, SqlError
from bourne.ports import Clock
from bourne.schema import Column, Schema, conform, duckdb_type, quote
from bourne.sql.row_by_row import check_row_by_row
from bourne.sql.zones import register_zones
from bourne.udf import Udf, reason, register

INPUT: Final = "input"

# The time of the chunk, in place of DuckDB's clocks.
_NOW: Final = "CAST(getvariable('bourne_now') AS TIMESTAMP WITH TIME ZONE)"
_CLOCKS: Final[Mapping[str, str]] = {
    "now": _NOW, "get_current_timestamp": _NOW, "transaction_timestamp": _NOW,
    "current_localtimestamp": f"CAST({_NOW} AS TIMESTAMP)", "current_date": f"CAST({_NOW} AS DATE)",
    "today": f"CAST({_NOW} AS DATE)",
}  # fmt: skip


class Processing:
    """The processors of one step, ready. For one thread. `schema` is what comes out."""

    def __init__(
        self, processes: Sequence[Process], schema: Schema, *, functions: Iterable[Udf], lookups: Mapping[str, pa.Table],
        result: Schema | None, clock: Clock, where: str,
    ) -> None:  # fmt: skip
        """Prepare for rows of `schema`.

        Raises:
            SqlError: a query is wrong, or looks at several rows.
            DefinitionError: a function does not return a table for no rows.
        """
        self._clock = clock
        self._where = where
        self._connection = connect()
        register_zones(self._connection)
        register(self._connection, functions)
        for name, rows in lookups.items():
            if name.casefold() == INPUT:
                raise DefinitionError(
                    "a lookup cannot be called as what is read",
                    where=where,
                    expected="another name",
                    found=name,
                )
            self._connection.register(f"bourne_{name}", rows)
            self._connection.execute(f"CREATE TABLE {quote(name)} AS SELECT * FROM {quote(f'bourne_{name}')}")
            self._connection.unregister(f"bourne_{name}")
        for name, body in _CLOCKS.items():
            self._connection.execute(f"CREATE MACRO {quote(name)}() AS {body}")
        self._lookups = {name: _schema_of(self._connection, name) for name in lookups}
        self._steps: list[Callable[[pa.Table], pa.Table]] = []
        functions_left = sum(not isinstance(each, str) for each in processes)
        for each in processes:
            if isinstance(each, str):
                schema = self._add_query(each, schema)
            else:
                functions_left -= 1
                schema = self._add_function(each, schema, result if not functions_left else None)
        self.schema = schema

    def apply(self, rows: pa.Table) -> pa.Table:
        """Return what becomes of rows.

        Raises: whatever a processor raises; of SQL `InputError`.
        """
        if not self._steps:
            return rows
        now = self._clock.now_us()
        self._connection.execute(f"SET VARIABLE bourne_now = make_timestamptz({now})")
        for step in self._steps:
            rows = step(rows)
        return rows

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    # --- SQL ---------------------------------------------------------------------------------------------

    def _add_query(self, sql: str, schema: Schema) -> Schema:
        sql = sql.strip().removesuffix(";")
        columns = ", ".join(f"{quote(each.name)} {each.type}" for each in schema.columns)
        binding = self._connection.cursor()
        try:
            binding.execute(f"CREATE OR REPLACE TEMP TABLE {INPUT} ({columns})")
            check_row_by_row(sql, binding, {INPUT: schema, **self._lookups}, relation=INPUT)
            following = _columns_of(binding.sql(sql), sql)
        except duckdb.Error as error:
            raise SqlError(
                reason(error), sql=sql, hint=f"look at the SQL of {self._where}: {sql[:200]}"
            ) from error
        except SqlError as error:
            hint = error.hint or (None if error.span else f"look at the SQL of {self._where}: {sql[:200]}")
            raise type(error)(error.what, sql=sql, span=error.span, view=None, hint=hint) from error
        finally:
            binding.execute(f"DROP TABLE IF EXISTS temp.{INPUT}")
        try:
            self._query(sql, schema.to_arrow().empty_table(), following)
        except InputError as error:  # a table has columns that its rows do not have, such as rowid
            raise SqlError(str(error.found), sql=sql) from error
        self._steps.append(lambda rows: self._query(sql, rows, following))
        return following

    def _query(self, sql: str, rows: pa.Table, schema: Schema) -> pa.Table:
        self._connection.register(INPUT, rows)
        try:
            found = self._connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise InputError("a row cannot be processed", where=self._where, found=reason(error)) from error
        finally:
            self._connection.unregister(INPUT)
        return conform(found, schema, log=self._where)

    # --- Python ------------------------------------------------------------------------------------------

    def _add_function(self, function: Callable[..., Any], schema: Schema, result: Schema | None) -> Schema:
        called = getattr(function, "__name__", repr(function))
        if result is not None:
            self._steps.append(lambda rows: self._made(function(rows), result, called))
            return result
        try:
            found = pa.table(function(schema.to_arrow().empty_table()))
            kinds = self._connection.from_arrow(found).types
            following = Schema(
                tuple(Column(n, str(t)) for n, t in zip(found.column_names, kinds, strict=True))
            )
            for column in following.columns:
                duckdb_type(column.type, where=f"column {column.name!r}, without rows")
        except Exception as error:
            raise DefinitionError(
                f"which columns function {called!r} returns cannot be told from what it does without rows", where=self._where,
                expected="an Arrow table, with typed columns also for no rows", found=f"{type(error).__name__}: {error}",
                hint="or say which: result={'total': 'decimal(10,2)', …}",
            ) from error  # fmt: skip
        self._steps.append(lambda rows: self._made(function(rows), following, called))
        return following

    def _made(self, found: Any, schema: Schema, called: str) -> pa.Table:
        """Return what a function made in the columns that it is to have: one that is missing is no NULL."""
        names = getattr(found, "column_names", None)
        if names is not None and {name.casefold() for name in names} != {
            name.casefold() for name in schema.names
        }:
            raise DefinitionError(
                f"function {called!r} returns other columns than it should", where=self._where, expected=", ".join(schema.names),
                found=", ".join(names),
            )  # fmt: skip
        return conform(found, schema, log=self._where)


def _columns_of(relation: duckdb.DuckDBPyRelation, sql: str) -> Schema:
    names = [name.casefold() for name in relation.columns]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise SqlError(
                f"two columns are called {relation.columns[number]!r}",
                sql=sql,
                hint="give one another name with AS",
            )
    kinds = ["INTEGER" if str(kind) == '"NULL"' else str(kind) for kind in relation.types]
    return Schema(tuple(Column(n, t) for n, t in zip(relation.columns, kinds, strict=True)))


def _schema_of(connection: duckdb.DuckDBPyConnection, name: str) -> Schema:
    found = connection.table(name)
    return Schema(tuple(Column(n, str(t)) for n, t in zip(found.columns, found.types, strict=True)))
