"""The rows of one table put in place of those of another, in PostgreSQL, SQLite and DuckDB.

Law: a switch is one transaction. Who reads sees the old rows or the new ones, and the table that was filled is gone with it.

The table that is read stays what it is, with its indexes, rights, triggers and the views over it: its rows are deleted and
the others inserted. A rename would be quicker, but all of that would stay with the old table; and PostgreSQL's TRUNCATE
shows an empty table to who began to read before it.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import duckdb

from bourne.connect.positions import POSITIONS_TABLE, read_position
from bourne.connect.postgres_wire import connect, postgres_errors, read_url
from bourne.connect.source import Position
from bourne.duck import written
from bourne.errors import SinkFailed, SourceFailed, Unreachable
from bourne.limits import SINK_LOCK_WAIT_S
from bourne.schema import quote


class Tables(Protocol):
    """The tables of one database."""

    def position(self, sink: str) -> Position | None:
        """Return the position that is kept for a sink."""
        ...

    def has(self, table: str) -> bool:
        """Say whether there is such a table."""
        ...

    def drop(self, table: str) -> None:
        """Take a table away, if it is there."""
        ...

    def make_like(self, table: str, other: str) -> None:
        """Make an empty table like another, as far as that is better than what a sink makes."""
        ...

    def switch(self, table: str, other: str, columns: Sequence[str]) -> None:
        """Put another table's rows in place of those of a table, and take the other away."""
        ...


def _check_referring(tables: Sequence[tuple[str]], where: str) -> None:
    """Refuse to replace the rows of a table to which others have foreign keys."""
    if tables:
        raise SinkFailed(
            "other tables refer to its rows: they would be in the way of replacing all of them", where=where,
            expected="no foreign keys to it", found=", ".join(row[0] for row in tables),
            hint="write with a key instead: key=…, changed=True",
        )  # fmt: skip


def _unfit(error: Exception, where: str) -> SinkFailed:
    """Return the error of rows that a table beside could take, and the table itself does not."""
    return SinkFailed(
        "the rows do not fit the table: it stays as it was", where=where, expected="rows that keep its constraints",
        found=str(error).splitlines()[0], hint="mend the input, then begin anew: bourne jobs start … --again",
    )  # fmt: skip


class PostgresTables:
    """Of PostgreSQL. A table's name may have a schema."""

    def __init__(self, address: str, *, where: str) -> None:
        self._address = read_url(address, own={"table"})
        self._where = where

    def position(self, sink: str) -> Position | None:
        """Return the position; it is in the schema of the table, as `PostgresSink` has it."""
        schema = self._address.options.get("table", "").rpartition(".")[0]
        positions = f"{quote(schema)}.{POSITIONS_TABLE}" if schema else POSITIONS_TABLE
        with self._connection() as connection:
            if connection.execute("SELECT to_regclass(%s)", [positions]).fetchall()[0][0] is None:
                return None
            row = connection.execute(
                f"SELECT position FROM {positions} WHERE sink = %s".encode(), [sink]
            ).fetchone()
        return read_position(row[0] if row else None, where=self._where)

    def has(self, table: str) -> bool:
        """Say whether there is such a table."""
        with self._connection() as connection:
            found = connection.execute("SELECT to_regclass(%s)", [_pg_name(table)]).fetchall()
        return found[0][0] is not None

    def drop(self, table: str) -> None:
        """Take a table away."""
        with self._connection() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {_pg_name(table)}".encode())

    def make_like(self, table: str, other: str) -> None:
        """Make it with the other's constraints and unique indexes: so rows are refused when they come, and can be skipped."""
        with self._connection() as connection:
            referring = connection.execute(
                "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass(%s)",
                [_pg_name(other)],
            ).fetchall()
            _check_referring(referring, self._where)
            connection.execute(
                f"CREATE TABLE {_pg_name(table)} (LIKE {_pg_name(other)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
                "INCLUDING INDEXES INCLUDING GENERATED INCLUDING IDENTITY)".encode()
            )

    def switch(self, table: str, other: str, columns: Sequence[str]) -> None:
        """Put another table's rows in its place."""
        names = ", ".join(map(quote, columns))
        with self._connection() as connection, connection.transaction():
            # Who reads is not kept waiting; who writes is, so that none of two switches is lost in the other.
            for statement in (
                f"LOCK TABLE {_pg_name(table)} IN SHARE ROW EXCLUSIVE MODE",
                f"DELETE FROM {_pg_name(table)}",
                f"INSERT INTO {_pg_name(table)} ({names}) SELECT {names} FROM {_pg_name(other)}",
                f"DROP TABLE {_pg_name(other)}",
            ):
                connection.execute(statement.encode())

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            with postgres_errors(self._where), connect(self._address) as connection:
                yield connection
        except SourceFailed as error:
            raise SinkFailed(error.what, where=error.where, found=error.found) from error


def _pg_name(table: str) -> str:
    schema, _, name = table.rpartition(".")
    return f"{quote(schema)}.{quote(name)}" if schema else quote(name)


class _FileTables(ABC):
    """Of a database that is a file: what is asked in the same words whichever it is."""

    def __init__(self, path: Path, *, where: str) -> None:
        self._path, self._where = path, where

    def position(self, sink: str) -> Position | None:
        """Return the position that is kept for a sink."""
        if not self.has(POSITIONS_TABLE):
            return None
        with self._database() as database:
            row = database.execute(
                f"SELECT position FROM {POSITIONS_TABLE} WHERE sink = ?", [sink]
            ).fetchone()
        return read_position(row[0] if row else None, where=self._where)

    def drop(self, table: str) -> None:
        """Take a table away."""
        with self._database() as database:
            database.execute(f"DROP TABLE IF EXISTS {quote(table)}")

    @abstractmethod
    def has(self, table: str) -> bool: ...

    @abstractmethod
    def _database(self) -> AbstractContextManager[Any]: ...


class SqliteTables(_FileTables):
    """Of SQLite."""

    def has(self, table: str) -> bool:
        """Say whether there is such a table."""
        if not self._path.exists():
            return False
        with self._database() as database:
            return bool(database.execute(f"PRAGMA table_info({quote(table)})").fetchall())

    def make_like(self, table: str, other: str) -> None:
        """Leave it to the sink, if no other table refers to its rows."""
        with self._database() as database:
            referring = database.execute(
                "SELECT m.name FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' "
                "AND lower(f.\"table\") = lower(?) AND lower(m.name) <> lower(?)", [other, other],
            ).fetchall()  # fmt: skip
        _check_referring(referring, self._where)

    def switch(self, table: str, other: str, columns: Sequence[str]) -> None:
        """Put another table's rows in its place."""
        with self._database() as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            for statement in _switch(table, other, columns):
                database.execute(statement)
            database.execute("COMMIT")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=SINK_LOCK_WAIT_S, isolation_level=None)
            ) as database:
                yield database
        except sqlite3.IntegrityError as error:
            raise _unfit(error, self._where) from error
        except sqlite3.OperationalError as error:
            raise Unreachable("SQLite cannot write now", where=self._where, found=str(error)) from error
        except sqlite3.Error as error:
            raise SinkFailed("SQLite does not do that", where=self._where, found=str(error)) from error


class DuckdbTables(_FileTables):
    """Of DuckDB."""

    def has(self, table: str) -> bool:
        """Say whether there is such a table."""
        if not self._path.exists():
            return False
        query = "SELECT 1 FROM duckdb_tables() WHERE lower(table_name) = lower(?) AND database_name = current_database()"
        with self._database() as database:
            return database.execute(query, [table]).fetchone() is not None

    def make_like(self, table: str, other: str) -> None:
        """Leave it to the sink, if no other table refers to its rows."""
        with self._database() as database:
            referring = database.execute(
                "SELECT table_name FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY' "
                "AND database_name = current_database() AND lower(referenced_table) = lower(?) AND lower(table_name) <> lower(?)",
                [other, other],
            ).fetchall()
        _check_referring(referring, self._where)

    def switch(self, table: str, other: str, columns: Sequence[str]) -> None:
        """Put another table's rows in its place."""
        with self._database() as database:
            database.begin()
            for statement in _switch(table, other, columns):
                database.execute(statement)
            database.commit()

    @contextmanager
    def _database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with written(self._path) as database:
                yield database
        except duckdb.ConstraintException as error:
            raise _unfit(error, self._where) from error
        except (duckdb.IOException, duckdb.ConnectionException, duckdb.TransactionException) as error:
            found = str(error).splitlines()[0]
            raise Unreachable("DuckDB cannot write now", where=self._where, found=found) from error
        except duckdb.Error as error:
            found = str(error).splitlines()[0]
            raise SinkFailed("DuckDB does not do that", where=self._where, found=found) from error


def _switch(table: str, other: str, columns: Sequence[str]) -> list[str]:
    names = ", ".join(map(quote, columns))
    return [
        f"DELETE FROM {quote(table)}",
        f"INSERT INTO {quote(table)} ({names}) SELECT {names} FROM {quote(other)}",
        f"DROP TABLE {quote(other)}",
    ]
