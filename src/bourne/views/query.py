"""Answers SELECTs over views and logs: DuckDB reads the folds where they lie.

Invariant: a query reads; it can neither write nor reach files, the network or extensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from bourne.errors import QueryError
from bourne.position import LogPosition
from bourne.result import Result
from bourne.schema import Schema, cast_back, quote
from bourne.sql.binding import function_hint, quoting_hint
from bourne.sql.text import words_of
from bourne.sql.windows import rewrite_windows
from bourne.udf import explained

# Rows of an answer that are fetched at once where it is bounded.
_BATCH_ROWS: Final = 1 << 16

_EXPLAIN: Final = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)

Rows: TypeAlias = Callable[[Collection[str]], tuple[Mapping[str, pa.Table], LogPosition | None]]


class Queries:
    """Answers queries over named relations. Safe to call from any thread."""

    def __init__(self, database: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """`database` computes."""
        self._database = database

    def run(
        self, sql: str, parameters: Any, schemas: Mapping[str, Schema], rows: Rows, *, bytes_max: int | None = None,
        started: Callable[[duckdb.DuckDBPyConnection], None] = lambda cursor: None,
    ) -> Result:  # fmt: skip
        """Answer one SELECT. Only the relations that it names are read: `rows` returns them, and at which position.

        Args:
            schemas: which relations there are.
            bytes_max: the largest answer there may be.
            started: is given the cursor, whose `interrupt` ends the query, from any thread.

        Raises:
            SqlError: TUMBLE is used wrongly.
            QueryError: the SQL is wrong or is no SELECT, or a value cannot be computed.
        """
        # To sqlglot, what follows EXPLAIN is one word.
        explain = _EXPLAIN.match(sql)
        prefix = explain[0] if explain is not None else ""
        body = rewrite_windows(sql[len(prefix) :], schemas).sql
        text = prefix + body
        with self._database().cursor() as cursor:
            started(cursor)
            try:
                self._check(text)
                words = words_of(body)
                tables, position = rows([name for name in schemas if name.casefold() in words])
                for name, table in tables.items():
                    self._offer(cursor, name, schemas[name], table)
                relation = cursor.sql(text, params=parameters)
                if relation is None:
                    return Result(pa.table({}), position=position)
                types = [str(kind) for kind in relation.types]
                for name, spelled in zip(relation.columns, types, strict=True):
                    if re.search(r"\bUHUGEINT\b", spelled):  # Arrow has no room for it
                        raise QueryError(
                            "a UHUGEINT cannot be answered", where=f"column {name}", found=spelled,
                            hint="CAST it to HUGEINT, or to VARCHAR",
                        )  # fmt: skip
                return Result(_fetched(relation, bytes_max), types, position)
            except duckdb.Error as error:
                known = ", ".join(sorted(schemas)) or "none"
                is_unknown = isinstance(error, duckdb.CatalogException | duckdb.BinderException)
                raise QueryError(
                    f"the query cannot be answered: {explained(error)}",
                    hint=quoting_hint(str(error), schemas)
                    or function_hint(str(error))
                    or (f"logs and views here: {known}" if is_unknown else None),
                ) from error

    @staticmethod
    def _check(sql: str) -> None:
        statements = duckdb.extract_statements(sql)
        found = [_kind(statement) for statement in statements]
        if found == ["EXPLAIN"] and (explain := _EXPLAIN.match(sql)):  # EXPLAIN ANALYZE does what it explains
            found = [_kind(statement) for statement in duckdb.extract_statements(sql[explain.end() :])]
        if len(found) != 1 or found[0] != "SELECT":
            kinds = ", ".join(found) or "nothing"
            raise QueryError("a query is one SELECT", expected="SELECT …", found=kinds)

    @staticmethod
    def _offer(cursor: duckdb.DuckDBPyConnection, name: str, schema: Schema, table: pa.Table) -> None:
        """Make a relation known to DuckDB under its name, with its own types."""
        columns = ", ".join(cast_back(column) for column in schema.columns)
        cursor.register(f"__{name}", table)
        cursor.execute(f"CREATE TEMP VIEW {quote(name)} AS SELECT {columns} FROM {quote(f'__{name}')}")


def _kind(statement: duckdb.Statement) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # DuckDB has kinds that its own Python does not know, such as UPDATE EXTENSIONS
        return "another statement"


def _fetched(relation: duckdb.DuckDBPyRelation, bytes_max: int | None) -> pa.Table:
    """Return all rows, or none if they are too large."""
    if bytes_max is None:
        return relation.to_arrow_table()
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches, size = [], 0
    for batch in _batches(reader):
        batches.append(batch)
        size += batch.nbytes
        if size > bytes_max:
            raise QueryError(
                "the answer is too large", expected=f"at most {bytes_max >> 20:,} MiB", found="more",
                hint="ask for fewer columns, a sum, or with LIMIT; a whole view comes in pages or as a subscription",
            )  # fmt: skip
    return pa.Table.from_batches(batches, reader.schema)


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield what a reader yields; what DuckDB says in the middle comes through Arrow as an error of the system."""
    try:
        yield from reader
    except OSError as error:
        raise QueryError(f"the query cannot be answered: {error}") from error
