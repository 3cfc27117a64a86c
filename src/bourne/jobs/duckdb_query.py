"""A query of a DuckDB database, read in the order of a key.

Law: a key's texts, cast to the column's type, are that key again; texts are compared byte by byte. The file is open, for
reading only, while a page is read, and closed after it: who wants to write gets it in between. A chunk step cannot read
and write the same file: its reader and its target would be in each other's way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from bourne.batch.increments import Overlap
from bourne.connect.sink_url import split_file_url
from bourne.connect.urls import parse_url
from bourne.errors import DefinitionError, InputError, SourceFailed, Unreachable
from bourne.jobs.query_reader import Key, Page, Span, no_overlap, plain_numbers, typed_columns
from bourne.limits import SINK_LOCK_WAIT_S
from bourne.schema import Schema, conform, quote

URL: Final = "duckdb:PATH"

_WHOLE: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
                 "UHUGEINT")  # fmt: skip
_FLOATS: Final = ("FLOAT", "DOUBLE")
_MOMENTS: Final = (
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP_NS",
    "TIMESTAMP WITH TIME ZONE",
)
_KEYS: Final = (*_WHOLE, *_FLOATS, "DECIMAL", "VARCHAR", *_MOMENTS, "TIME", "BOOLEAN", "UUID", "BLOB")

_GONE: Final = (duckdb.IOException, duckdb.ConnectionException, duckdb.TransactionException)
_LOOK_S: Final = 0.02


class DuckdbQuery:
    """A query of DuckDB."""

    def __init__(
        self, url: str, query: str, order: tuple[str, ...], columns: Schema | None, *, where: str
    ) -> None:
        """Look at the columns.

        Raises:
            DefinitionError: the query is wrong, or cannot be ordered so.
            Unreachable: the database is not there, or somebody writes to it.
        """
        self._path = Path(split_file_url(url, kinds=["duckdb"], options=[], form=URL).path)
        self._from = f"({query.strip().removesuffix(';')}\n) AS q"
        self._where = where
        with self._database() as database:
            try:
                relation = database.sql(f"SELECT * FROM {self._from}")
                # Within a query DuckDB gives the second of two columns of one name another name.
                names = database.sql(query).columns
                found = [(n, str(t)) for n, t in zip(names, relation.types, strict=True)]
            except duckdb.Error as error:
                raise DefinitionError(
                    "DuckDB does not take the query", where=where, found=str(error).splitlines()[0]
                ) from error
        own = dict(found)
        known = [
            (n, "VARCHAR" if t.startswith("ENUM") else "INTEGER" if t == '"NULL"' else t) for n, t in found
        ]
        self.schema, self.order = typed_columns(known, columns, order, where=where)
        self._types = [own[name] for name in self.order]
        for name, kind in zip(self.order, self._types, strict=True):
            if kind.partition("(")[0] not in _KEYS:
                raise DefinitionError(f"rows cannot be read in the order of {name!r}", where=where, expected=", ".join(_KEYS),
                                      found=kind, hint="order them by another column, or by a text: SELECT …::VARCHAR")  # fmt: skip
        self.is_number = len(self.order) == 1 and self._types[0].partition("(")[0] in (
            *_WHOLE,
            *_FLOATS,
            "DECIMAL",
        )
        self._keys = [
            f"q.{quote(name)} COLLATE C" if kind == "VARCHAR" else f"q.{quote(name)}"
            for name, kind in zip(self.order, self._types, strict=True)
        ]

    # --- what there is -----------------------------------------------------------------------------------

    def greatest(self) -> Key | None:
        """Return the greatest key."""
        return self._end("DESC")

    def least(self) -> Key | None:
        """Return the least key."""
        return self._end("ASC")

    def _end(self, direction: str) -> Key | None:
        order = ", ".join(f"{key} {direction}" for key in self._keys)
        texts = ", ".join(f"CAST(q.{quote(name)} AS VARCHAR)" for name in self.order)
        with self._database() as database:
            found = database.execute(f"SELECT {texts} FROM {self._from} ORDER BY {order} LIMIT 1").fetchone()
        return None if found is None else tuple(found)

    def null(self, column: str, *, first: Any) -> bool:
        """Say whether a column is NULL somewhere."""
        condition = f"q.{quote(column)} IS NULL"
        if first is not None:
            condition += f" AND {self._keys[0]} >= {self._typed(0, first)}"
        with self._database() as database:
            found = database.execute(f"SELECT 1 FROM {self._from} WHERE {condition} LIMIT 1").fetchone()
        return found is not None

    # --- pages -------------------------------------------------------------------------------------------

    def page(self, span: Span, rows: int) -> Page:
        """Return the first rows of a span."""
        conditions = [f"NOT ({self._is_behind(span.last)})"]
        if span.after is not None:
            conditions.append(f"({self._is_behind(span.after)})")
        if span.first is not None:
            conditions.append(f"{self._keys[0]} >= {self._typed(0, span.first)}")
        elif span.after is not None:
            conditions.append(f"{self._keys[0]} >= {self._typed(0, span.after[0])}")  # what zone maps can use
        texts = ", ".join(f"CAST(q.{quote(name)} AS VARCHAR)" for name in self.order)
        query = (
            f"SELECT q.*, {texts} FROM {self._from} WHERE {' AND '.join(conditions)} "
            f"ORDER BY {', '.join(self._keys)} LIMIT {rows}"
        )
        with self._database() as database:
            table = database.sql(query).to_arrow_table()
        width = len(self.schema.columns)
        places = tuple(column.combine_chunks() for column in table.columns[width:])
        equals = tuple(
            plain_numbers(values) if kind in _FLOATS else values
            for values, kind in zip(places, self._types, strict=True)
        )
        own = pa.Table.from_arrays(table.columns[:width], names=list(self.schema.names))
        try:
            fitted = conform(own, self.schema, log="query")
        except InputError as error:
            raise SourceFailed(
                f"a row cannot be read: {error.what}", where=self._where, expected=error.expected, found=error.found,
                hint="name a type that says all of its values: columns={…}; or cast it in the query",
            ) from error  # fmt: skip
        return Page(fitted, places, equals, fitted.nbytes)

    def _is_behind(self, key: Key) -> str:
        """Return the condition of rows behind a key. DuckDB compares no rows of several columns within bounds."""
        found = []
        for number, own in enumerate(self._keys):
            same = [f"{self._keys[n]} = {self._typed(n, key[n])}" for n in range(number)]
            found.append(" AND ".join([*same, f"{own} > {self._typed(number, key[number])}"]))
        return " OR ".join(f"({each})" for each in found)

    def _typed(self, number: int, value: Any) -> str:
        return f"CAST({_literal(value)} AS {self._types[number]})"

    def back(self, value: Any, overlap: Overlap) -> Any:
        """Return what lies before a value of the first column."""
        kind = self._types[0]
        fitting = _MOMENTS if isinstance(overlap, timedelta) else (*_WHOLE, *_FLOATS, "DECIMAL")
        if kind.partition("(")[0] not in fitting:
            raise no_overlap(self.order[0], kind, overlap, where=self._where)
        if kind in _WHOLE and isinstance(overlap, int):
            return str(max(_least(kind), int(value) - overlap))
        unit = str(overlap)
        if isinstance(overlap, timedelta):
            unit = f"INTERVAL '{overlap // timedelta(microseconds=1)} microseconds'"
        with self._database() as database:
            found = database.execute(
                f"SELECT CAST(CAST({self._typed(0, value)} - {unit} AS {kind}) AS VARCHAR)"
            ).fetchall()
        return found[0][0]

    # --- the file ----------------------------------------------------------------------------------------

    @contextmanager
    def _database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file for the block; wait a little for who writes to it."""
        deadline = time.monotonic() + SINK_LOCK_WAIT_S
        while True:
            try:
                database = duckdb.connect(self._path, read_only=True)
                break
            except _GONE as error:
                if time.monotonic() >= deadline or not self._path.exists():
                    raise Unreachable(
                        "DuckDB cannot be read now", where=self._where, found=str(error).splitlines()[0]
                    ) from error
                time.sleep(_LOOK_S)
            except duckdb.Error as error:
                raise SourceFailed(
                    "DuckDB refuses", where=self._where, found=str(error).splitlines()[0]
                ) from error
        try:
            database.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
            yield database
        except _GONE as error:
            raise Unreachable(
                "DuckDB cannot be read now", where=self._where, found=str(error).splitlines()[0]
            ) from error
        except duckdb.Error as error:
            raise SourceFailed(
                "DuckDB refuses", where=self._where, found=str(error).splitlines()[0]
            ) from error
        finally:
            database.close()

    def close(self) -> None:
        """Nothing is held between pages."""


def check_apart(read: str, write: str, *, where: str) -> None:
    """Refuse to read a query of a DuckDB file, and write to the same file.

    Raises:
        DefinitionError: it is the same.
    """
    source, target = parse_url(read), parse_url(write)
    is_duckdb = target.scheme == "duckdb" or Path(target.path).suffix.lower() == ".duckdb"
    if source.scheme == "duckdb" and is_duckdb and Path(source.path).resolve() == Path(target.path).resolve():
        raise DefinitionError(
            "a DuckDB file cannot be read and written by the same step", where=where, expected="two files", found=source.path,
            hint="write a Parquet folder or another file first; or let a task do it in SQL",
        )  # fmt: skip


def _literal(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _least(kind: str) -> int:
    """Return the least value of a type of whole numbers."""
    name = kind.removeprefix("U")
    bits = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}[name]
    # Of HUGEINT one more: DuckDB breaks when it is to write the very least as a text.
    return 0 if kind != name else -(2 ** (bits - 1)) + (bits == 128)
