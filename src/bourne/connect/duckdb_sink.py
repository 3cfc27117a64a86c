"""Rows into a table of a DuckDB database: `duckdb:path.duckdb?table=t`.

Law: rows and position are one transaction, and the position is in the same file (table `bourne_positions`), so that the
table always holds what the view said at its position. When `write` returns, both are in DuckDB's write-ahead log, synced.

A shape with a key is kept by upserts; NULL is a key as any other. Of one with weights each change is added with its
`__weight`: a row is there as often as its weights sum up to. A table that is not there is made. Every type is held as it
is. Rows come from Arrow, in columns.

DuckDB lets one process at a time write to a file, and nobody read it meanwhile. So the file is held during a write only,
and let go of after it. That costs some hundredths of a second a write, a tenth with a key of a million rows, whose index is
read then; and who reads the file in between may make a write wait (`Unreachable`). Two rows of a change that swap the values
of a UNIQUE column of the user's are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.positions import POSITIONS_TABLE, check_held, position_text, read_position
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_file_url
from bourne.connect.source import Delivery, Position
from bourne.duck import written
from bourne.errors import BourneError, Rejected, SinkFailed, Unreachable
from bourne.log.relation import COUNT_COLUMN
from bourne.schema import Column, cast_back, quote

URL: Final = "duckdb:PATH?table=TABLE"

_REFUSED: Final = (
    duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException,
)  # fmt: skip
_GONE: Final = (
    duckdb.IOException, duckdb.ConnectionException, duckdb.TransactionException, duckdb.FatalException,
    duckdb.OutOfMemoryException, duckdb.InterruptException,
)  # fmt: skip
_NOT_OURS: Final = ("not a valid DuckDB", "version number")


class DuckdbSink:
    """A table of a DuckDB database."""

    delivery: Delivery = "exactly once"

    def __init__(self, path: Path, table: str, shape: Shape) -> None:
        """Note what to open."""
        check_shape(shape)
        self._path, self._table, self._shape = path, table, shape
        self._where = f"table {table!r} of {path}"
        self._columns = (*shape.schema.columns, *([COUNT_COLUMN] if shape.has_weights else []))

    @staticmethod
    def from_url(url: str, shape: Shape) -> DuckdbSink:
        """Return the sink that a URL names; without `table` it is called as the shape.

        Raises:
            DefinitionError: it names none.
        """
        parts = split_file_url(url, kinds=["duckdb"], options=["table"], form=URL)
        return DuckdbSink(Path(parts.path), parts.options.get("table") or shape.name, shape)

    def open(self) -> Position | None:
        """Make what is missing, and return the position that is held.

        Raises:
            Unreachable: another process has the file open, or the disk refuses.
            SinkFailed: the table does not fit, or the file is no database.
        """
        if not self._path.parent.is_dir():
            raise SinkFailed("the folder of the database is not there", where=self._where, hint="make it")
        with self._transaction() as database, self._mapped():
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {POSITIONS_TABLE} (sink VARCHAR PRIMARY KEY, position VARCHAR NOT NULL)"
            )
            if not self._check_table(database):
                database.execute(_create(self._table, self._columns, self._shape.key))
            held = self._held(database)
            database.commit()
        return held

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and position in one transaction; in the write-ahead log, synced, on return."""
        with self._transaction() as database:
            with self._mapped():
                check_held(self._held(database), before, where=self._where)
                self._move(database, position, is_first=before is None)
            with self._mapped(is_about_rows=True):
                self._apply(database, change)
            with self._mapped():
                database.commit()

    def accepts(self, change: Change) -> bool:
        """Write it, and take it back."""
        try:
            with self._transaction() as database, self._mapped(is_about_rows=True):
                self._apply(database, change)
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Do nothing: between writes the file is not held."""

    # --- rows --------------------------------------------------------------------------------------------

    def _apply(self, database: duckdb.DuckDBPyConnection, change: Change) -> None:
        rows, key = change.rows, self._shape.key
        if change.weights is not None:
            rows = rows.append_column(COUNT_COLUMN.name, change.weights)
        if change.gone is not None and change.gone.num_rows:
            self._delete(database, change.gone)
        if key and rows.num_rows:
            keys = rows.select(list(key))
            if any(column.null_count for column in keys.columns):  # no UNIQUE tells these apart
                has_null = pc.is_null(keys.column(0))
                for column in keys.columns[1:]:
                    has_null = pc.or_(has_null, pc.is_null(column))
                self._delete(database, keys.filter(has_null))
        self._insert(database, rows)

    def _insert(self, database: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        names = [quote(column.name) for column in self._columns]
        values = ", ".join(map(cast_back, self._columns))
        insert = f"INSERT INTO {quote(self._table)} ({', '.join(names)}) SELECT {values} FROM bourne_rows"
        key = self._shape.key
        if key:
            others = [quote(column.name) for column in self._columns if column.name not in key]
            update = ", ".join(f"{name} = excluded.{name}" for name in others)
            insert += f" ON CONFLICT ({', '.join(map(quote, key))}) DO " + (
                f"UPDATE SET {update}" if others else "NOTHING"
            )
        database.register("bourne_rows", rows)
        database.execute(insert)
        database.unregister("bourne_rows")

    def _delete(self, database: duckdb.DuckDBPyConnection, keys: pa.Table) -> None:
        columns = [column for name in keys.column_names if (column := self._shape.schema.column(name))]
        select = ", ".join(map(cast_back, columns))
        same = " AND ".join(f"t.{quote(c.name)} IS NOT DISTINCT FROM g.{quote(c.name)}" for c in columns)
        database.register("bourne_gone", keys)
        database.execute(
            f"DELETE FROM {quote(self._table)} t USING (SELECT {select} FROM bourne_gone) g WHERE {same}"
        )
        database.unregister("bourne_gone")

    def _held(self, database: duckdb.DuckDBPyConnection) -> Position | None:
        select = f"SELECT position FROM {POSITIONS_TABLE} WHERE sink = ?"
        row = database.execute(select, [self._shape.name]).fetchone()
        return read_position(row[0] if row else None, where=self._where)

    def _move(self, database: duckdb.DuckDBPyConnection, position: Position, *, is_first: bool) -> None:
        values = [position_text(position), self._shape.name]
        if is_first:
            database.execute(f"INSERT INTO {POSITIONS_TABLE} (position, sink) VALUES (?, ?)", values)
        else:
            database.execute(f"UPDATE {POSITIONS_TABLE} SET position = ? WHERE sink = ?", values)

    # --- the table ---------------------------------------------------------------------------------------

    def _check_table(self, database: duckdb.DuckDBPyConnection) -> bool:
        """Say whether the table is there; raise SinkFailed if it does not fit."""
        rows = database.execute(_COLUMNS, [self._table]).fetchall()
        if not rows:
            return False
        found = {name.casefold(): (name, kind, is_needed) for name, kind, is_needed in rows}
        names = ", ".join(name for name, _, _ in found.values())
        for column in self._columns:
            there = found.pop(column.name.casefold(), None)
            if there is None:
                raise SinkFailed(
                    f"there is no column {column.name!r}",
                    where=self._where,
                    expected=column.name,
                    found=names,
                )
            if duckdb.sqltype(there[1]) != duckdb.sqltype(column.type):
                raise SinkFailed(
                    f"column {column.name!r} is of another type", where=self._where,
                    expected=column.type, found=there[1], hint="make the table anew, or let it be made",
                )  # fmt: skip
        for name, _, is_needed in found.values():
            if is_needed:
                raise SinkFailed(
                    f"column {name!r} has no default and may not be NULL, but the view has no such column",
                    where=self._where, expected=", ".join(c.name for c in self._columns), found=name,
                )  # fmt: skip
        keys = [
            {name.casefold() for name in row[0]} for row in database.execute(_KEYS, [self._table]).fetchall()
        ]
        if self._shape.key and {name.casefold() for name in self._shape.key} not in keys:
            raise SinkFailed(
                "the table has no such key", where=self._where,
                expected=f"PRIMARY KEY or UNIQUE ({', '.join(self._shape.key)})",
                hint="make the table anew with it, or let it be made",
            )  # fmt: skip
        return True

    # --- transactions and errors -------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file for the block, which is a transaction; what it does not commit is taken back."""
        with ExitStack() as held:
            with self._mapped():
                database = held.enter_context(written(self._path))
                # Else each close would write the table's index anew: the log is enough, and is worked in when it is long.
                database.execute("PRAGMA disable_checkpoint_on_shutdown")
                database.begin()
            yield database

    @contextmanager
    def _mapped(self, *, is_about_rows: bool = False) -> Iterator[None]:
        """Turn DuckDB's errors into ours."""
        try:
            yield
        except duckdb.Error as error:
            raise _error(error, self._where, is_about_rows=is_about_rows) from error


_COLUMNS: Final = """
    SELECT column_name, data_type, NOT is_nullable AND column_default IS NULL FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = current_schema() AND lower(table_name) = lower(?)
"""

_KEYS: Final = """
    SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE')
    AND database_name = current_database() AND schema_name = current_schema() AND lower(table_name) = lower(?)
"""


def _create(table: str, columns: tuple[Column, ...], key: tuple[str, ...]) -> str:
    parts = [f"{quote(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in columns]
    if key:
        parts.append(f"UNIQUE ({', '.join(map(quote, key))})")
    return f"CREATE TABLE {quote(table)} ({', '.join(parts)})"


def _error(error: duckdb.Error, where: str, *, is_about_rows: bool) -> BourneError:
    said = str(error).splitlines()[0]
    if is_about_rows and isinstance(error, _REFUSED):
        return Rejected("DuckDB refuses a row", where=where, found=said)
    is_conflict = isinstance(error, duckdb.ConstraintException)  # of the position: somebody else was first
    if is_conflict or (isinstance(error, _GONE) and not any(text in said for text in _NOT_OURS)):
        return Unreachable("DuckDB cannot write now", where=where, found=said)
    return SinkFailed(
        "DuckDB cannot do that", where=where, found=said, hint="is that the right file and table?"
    )
