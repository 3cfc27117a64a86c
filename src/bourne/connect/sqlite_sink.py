"""Rows into a table of a SQLite database: `sqlite:path.db?table=t`.

Law: rows and position are one transaction, and the position is in the same file (table `bourne_positions`), so that the
table always holds what the view said at its position. When `write` returns, both are synced to the disk (WAL with
`synchronous=FULL`).

A shape with a key is kept by upserts; NULL is a key as any other. Of one with weights each change is added with its
`__weight`: a row is there as often as its weights sum up to. A table that is not there is made.

SQLite has integers of 64 bits, doubles, text and bytes. What is none of these is text: UBIGINT, HUGEINT, decimals, dates
and times as DuckDB writes them (`2024-02-29 12:00:00`), lists, structs and maps as JSON. So every type is held exactly,
with two remarks: NaN, which SQLite would take for NULL, is the text 'NaN', and -0.0 is 0.0. Booleans are 0 and 1.

It does not see that a change would be fine as a whole if rows were written in another order: two rows that swap the values
of a UNIQUE column of the user's are refused.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.positions import POSITIONS_TABLE, check_held, position_text, read_position
from bourne.connect.row_texts import text_columns
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_file_url
from bourne.connect.source import Delivery, Position
from bourne.connect.sqlite_table import check_table, create_table, numbers_rows, storage_of
from bourne.errors import BourneError, Rejected, SinkFailed, Unreachable
from bourne.limits import SINK_LOCK_WAIT_S
from bourne.log.relation import COUNT_COLUMN
from bourne.schema import Column, quote

URL: Final = "sqlite:PATH?table=TABLE"

# Rows that are Python values at a time.
_PAGE_ROWS: Final = 1 << 14

# Values of one INSERT: rows by the dozen are twice as fast as one by one; every SQLite takes 999.
_VALUES_MAX: Final = 900

_GONE: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
     sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT}
)  # fmt: skip
_REFUSED: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})


class SqliteSink:
    """A table of a SQLite database."""

    delivery: Delivery = "exactly once"

    def __init__(
        self, path: Path, table: str, shape: Shape, *, lock_wait_s: float = SINK_LOCK_WAIT_S
    ) -> None:
        """Note what to open. Another process may hold the database's lock for so many seconds."""
        check_shape(shape)
        self._path, self._table, self._shape, self._lock_wait_s = path, table, shape, lock_wait_s
        self._where = f"table {table!r} of {path}"
        self._columns = (*shape.schema.columns, *([COUNT_COLUMN] if shape.has_weights else []))
        self._database: sqlite3.Connection | None = None

    @staticmethod
    def from_url(url: str, shape: Shape) -> SqliteSink:
        """Return the sink that a URL names; without `table` it is called as the shape.

        Raises:
            DefinitionError: it names none.
        """
        parts = split_file_url(url, kinds=["sqlite"], options=["table"], form=URL)
        return SqliteSink(Path(parts.path), parts.options.get("table") or shape.name, shape)

    def open(self) -> Position | None:
        """Open the database, make the table if it is missing, and return the position that is held.

        Raises:
            Unreachable: another process holds the lock, or the disk refuses.
            SinkFailed: the table does not fit, or the file is no database.
        """
        self.close()
        if not self._path.parent.is_dir():
            raise SinkFailed("the folder of the database is not there", where=self._where, hint="make it")
        with self._mapped():
            self._database = sqlite3.connect(
                self._path, timeout=self._lock_wait_s, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            with self._transaction(keep=True) as cursor:
                cursor.execute(
                    f"CREATE TABLE IF NOT EXISTS {POSITIONS_TABLE} (sink TEXT PRIMARY KEY, position TEXT NOT NULL)"
                )
                if not check_table(cursor, self._table, self._columns, self._shape.key, where=self._where):
                    create_table(cursor, self._table, self._columns, self._shape.key)
                return self._held(cursor)

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and position in one transaction; synced on return."""
        with self._mapped(), self._transaction(keep=True) as cursor:
            check_held(self._held(cursor), before, where=self._where)
            self._apply(cursor, change)
            cursor.execute(
                f"INSERT INTO {POSITIONS_TABLE} VALUES (?, ?) ON CONFLICT (sink) DO UPDATE SET position = excluded.position",
                (self._shape.name, position_text(position)),
            )

    def accepts(self, change: Change) -> bool:
        """Write it, and take it back."""
        try:
            with self._mapped(), self._transaction(keep=False) as cursor:
                self._apply(cursor, change)
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None

    # --- rows --------------------------------------------------------------------------------------------

    def _apply(self, cursor: sqlite3.Cursor, change: Change) -> None:
        rows = change.rows
        if change.weights is not None:
            rows = rows.append_column(COUNT_COLUMN.name, change.weights)
        key = self._shape.key
        if change.gone is not None and change.gone.num_rows:
            self._delete(cursor, change.gone)
        if key and rows.num_rows:
            has_null = _any_null(rows.select(list(key)))
            if pc.any(has_null).as_py():  # no UNIQUE tells these apart
                lonely = rows.filter(has_null)
                if numbers_rows(cursor, self._table, key):
                    raise Rejected(
                        "SQLite refuses a row",
                        where=self._where,
                        found=f"NULL in {key[0]!r}, its INTEGER PRIMARY KEY",
                    )
                self._delete(cursor, lonely.select(list(key)))
                self._insert(cursor, lonely, "")
                rows = rows.filter(pc.invert(has_null))
        self._insert(cursor, rows, _on_conflict(self._columns, key) if key else "")

    def _insert(self, cursor: sqlite3.Cursor, rows: pa.Table, on_conflict: str) -> None:
        names = ", ".join(quote(column.name) for column in self._columns)
        one = f"({', '.join('?' * len(self._columns))})"
        count = max(1, _VALUES_MAX // len(self._columns))
        insert = f"INSERT INTO {quote(self._table)} ({names}) VALUES "
        for page in _pages(rows, self._columns):
            values = itertools.chain.from_iterable(zip(*page, strict=True))
            whole, rest = divmod(len(page[0]), count)
            parts = (tuple(itertools.islice(values, count * len(page))) for _ in range(whole))
            cursor.executemany(insert + ", ".join([one] * count) + on_conflict, parts)
            if rest:
                cursor.execute(insert + ", ".join([one] * rest) + on_conflict, tuple(values))

    def _delete(self, cursor: sqlite3.Cursor, keys: pa.Table) -> None:
        columns = tuple(column for name in keys.column_names if (column := self._shape.schema.column(name)))
        found = " AND ".join(f"{quote(column.name)} IS ?" for column in columns)
        for page in _pages(keys, columns):
            cursor.executemany(f"DELETE FROM {quote(self._table)} WHERE {found}", zip(*page, strict=True))

    def _held(self, cursor: sqlite3.Cursor) -> Position | None:
        select = f"SELECT position FROM {POSITIONS_TABLE} WHERE sink = ?"
        row = cursor.execute(select, (self._shape.name,)).fetchone()
        return read_position(row[0] if row else None, where=self._where)

    # --- transactions and errors -------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, keep: bool) -> Iterator[sqlite3.Cursor]:
        """Run the block in a transaction that locks the database, and keep what it did, unless it fails."""
        if self._database is None:
            raise Unreachable("the database is not open", where=self._where, hint="open it")
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT" if keep else "ROLLBACK")
            finally:
                if self._database is not None and self._database.in_transaction:
                    cursor.execute("ROLLBACK")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise _error(error, self._where) from error


def _error(error: sqlite3.Error, where: str) -> BourneError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kind: Literal["gone", "refused", "failed"] = "failed"
    if code in _GONE:
        kind = "gone"
    elif code in _REFUSED or isinstance(error, sqlite3.DataError):
        kind = "refused"
    if kind == "refused":
        return Rejected("SQLite refuses a row", where=where, found=str(error))
    if kind == "gone":
        return Unreachable("SQLite cannot write now", where=where, found=str(error))
    return SinkFailed(
        "SQLite cannot do that", where=where, found=str(error), hint="is that the right file and table?"
    )


def _on_conflict(columns: tuple[Column, ...], key: tuple[str, ...]) -> str:
    others = [quote(column.name) for column in columns if column.name not in key]
    update = (
        "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
    )
    return f" ON CONFLICT ({', '.join(map(quote, key))}) DO {update}"


def _any_null(keys: pa.Table) -> pa.ChunkedArray:
    is_null = pc.is_null(keys.column(0))
    for column in keys.columns[1:]:
        is_null = pc.or_(is_null, pc.is_null(column))
    return is_null


def _pages(rows: pa.Table, columns: tuple[Column, ...]) -> Iterator[list[list[Any]]]:
    """Yield the rows, some at a time, as lists of SQLite's values, one for each column."""
    for start in range(0, rows.num_rows, _PAGE_ROWS):
        page = rows.slice(start, _PAGE_ROWS)
        values: list[list[Any]] = [[] for _ in columns]
        as_text = [number for number, column in enumerate(columns) if storage_of(column.type) == "TEXT"]
        texts = text_columns(page.select([columns[number].name for number in as_text]))
        for number, text in zip(as_text, texts, strict=True):
            values[number] = text.to_pylist()
        for number, column in enumerate(columns):
            if number not in as_text:
                values[number] = _plain_values(page.column(column.name))
        yield values


def _plain_values(values: pa.ChunkedArray) -> list[Any]:
    found: list[Any] = values.to_pylist()
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        return ["NaN" if value is not None and value != value else value for value in found]  # noqa: PLR0124  (NaN)
    return found
