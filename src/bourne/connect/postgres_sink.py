"""Rows into a table of PostgreSQL: `postgres://user@host:port/database?table=schema.t`.

Law: rows and position are one transaction, and the position is in the same database (table `bourne_positions`), so that
the table always holds what the view said at its position. When `write` returns, both are as durable as the server's
`synchronous_commit` says.

Rows go by COPY: for a shape with a key into a temporary table, and from there by one upsert; NULL is a key as any other.
Of a shape with weights each change is added with its `__weight`. A table that is not there is made; one that is has to
have columns that hold the view's values exactly, and may have more, if they can be left out.

What PostgreSQL does not have: unsigned and 128-bit integers are numeric there, lists, structs and maps are json. Refused,
as its microseconds would cut them: TIMESTAMP_NS and TIME_NS. A text with a NUL is refused, row by row.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from bourne.connect.ahead import read_ahead
from bourne.connect.positions import POSITIONS_TABLE, moved, position_text, read_position
from bourne.connect.postgres_targets import check_table, column_type
from bourne.connect.row_texts import text_columns
from bourne.connect.silence import OPTION as SILENCE
from bourne.connect.silence import read_silence
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_options
from bourne.connect.source import Delivery, Position
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.limits import SILENCE_S
from bourne.log.relation import COUNT_COLUMN
from bourne.schema import Column, quote

URL: Final = "postgres://USER:PASSWORD@HOST:PORT/DATABASE?table=TABLE"

# Rows that are text at a time.
_PAGE_ROWS: Final = 1 << 16

# Classes of SQLSTATE that are about the rows: data, integrity, functions and triggers, limits such as that of an index's row.
_REFUSED: Final = frozenset({"22", "23", "38", "39", "54", "P0"})

_ROWS, _KEYS = "bourne_rows", "bourne_keys"


class PostgresSink:
    """A table of a PostgreSQL database."""

    delivery: Delivery = "exactly once"

    def __init__(
        self, address: str, table: str, shape: Shape, *, where: str, silence_s: float = SILENCE_S
    ) -> None:
        """Note what to connect to.

        Raises:
            DefinitionError: psycopg is not installed, or PostgreSQL cannot hold such columns.
        """
        check_shape(shape)
        self._psycopg = _package()
        self._address = address
        self._shape = shape
        self._where = where
        self._silence_s = silence_s
        self._process: tuple[int, Any] | None = None  # of the server, for the last connection
        self._schema, _, self._name = table.rpartition(".")
        self._columns = (*shape.schema.columns, *([COUNT_COLUMN] if shape.has_weights else []))
        for column in self._columns:
            column_type(column.type, where=f"{where}, column {column.name!r}")
        self._connection: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._is_empty = False

    @staticmethod
    def from_url(url: str, shape: Shape) -> PostgresSink:
        """Return the sink that a URL names; without `table` it is called as the shape.

        Raises:
            DefinitionError: it names none.
        """
        parts = urlsplit(url)
        options = split_options(parts.query, options=["table", SILENCE], form=URL)
        try:
            place = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        except ValueError as error:
            raise DefinitionError("the port is no number", expected=URL) from error
        table = options.get("table") or shape.name
        address = urlunsplit(("postgresql", parts.netloc, parts.path, "", ""))
        where = f"table {table!r} of PostgreSQL {place}"
        return PostgresSink(address, table, shape, where=where, silence_s=read_silence(options, where=where))

    # --- the contract ------------------------------------------------------------------------------------

    def open(self) -> Position | None:
        """Connect, make what is missing, and return the position that is held."""
        self.close()
        with self._mapped():
            self._connect()
            with self._transaction(keep=True) as cursor:
                cursor.execute(
                    "SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; SET timezone = 'UTC'"
                )
                self._make_positions(cursor)
                if not check_table(
                    cursor, self._schema, self._name, self._columns, self._shape.key, where=self._where
                ):
                    self._make_table(cursor)
                self._make_temporary(cursor)
                self._is_empty = cursor.execute(f"SELECT 1 FROM {self._table} LIMIT 1").fetchone() is None
                return self._held(cursor)

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and position in one transaction."""
        was_empty, self._is_empty = self._is_empty, self._is_empty and not change.rows.num_rows
        try:
            self._write(change, position, before, is_empty=was_empty)
        except Rejected:
            if not was_empty:
                raise
            self._write(
                change, position, before, is_empty=False
            )  # somebody else may have put rows there meanwhile

    def _write(self, change: Change, position: Position, before: Position | None, *, is_empty: bool) -> None:
        with self._mapped(), self._transaction(keep=True) as cursor:
            self._move(cursor, position, before)
            self._apply(cursor, change, is_empty=is_empty)

    def accepts(self, change: Change) -> bool:
        """Write it, and take it back."""
        try:
            with self._mapped(), self._transaction(keep=False) as cursor:
                self._apply(cursor, change)
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # those too that are looked at by COMMIT only
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- the connection ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Connect, and end what an earlier connection left behind: the server may take it for alive, and hold its locks."""
        from bourne.connect.postgres_patience import Patience, PatientConnection

        patience = Patience(self._silence_s)
        conninfo = self._psycopg.conninfo.make_conninfo(
            self._address, application_name=f"bourne {self._shape.name}"[:60], **patience.parameters()
        )
        self._connection = PatientConnection.open(conninfo, replace(patience, conninfo=conninfo))
        with self._transaction(keep=True) as cursor:
            for name, value in patience.settings().items():
                cursor.execute(f"SET {name} = {value}")
            if self._process is not None:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE (pid, backend_start) = (%s, %s) "
                    "AND application_name = current_setting('application_name')",  # a pool may have lent it to others
                    self._process,
                )
            self._process = cursor.execute(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()

    # --- what is there -----------------------------------------------------------------------------------

    @property
    def _table(self) -> str:
        return f"{quote(self._schema)}.{quote(self._name)}" if self._schema else quote(self._name)

    @property
    def _positions(self) -> str:
        return f"{quote(self._schema)}.{POSITIONS_TABLE}" if self._schema else POSITIONS_TABLE

    def _make_positions(self, cursor: Any) -> None:
        # Two sinks may come to this at once: IF NOT EXISTS alone does not keep them apart.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('bourne_positions'))")
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {self._positions} (sink text PRIMARY KEY, position text NOT NULL)"
        )

    def _make_table(self, cursor: Any) -> None:
        columns = [
            f"{quote(column.name)} {column_type(column.type, where=self._where)}{'' if column.nullable else ' NOT NULL'}"
            for column in self._columns
        ]
        if self._shape.key:
            columns.append(f"UNIQUE NULLS NOT DISTINCT ({', '.join(map(quote, self._shape.key))})")
        cursor.execute(f"CREATE TABLE {self._table} ({', '.join(columns)})")

    def _make_temporary(self, cursor: Any) -> None:
        """Make what rows by key come through; it is this connection's alone."""
        if self._shape.key:
            for name, columns in ((_ROWS, [each.name for each in self._columns]), (_KEYS, self._shape.key)):
                names = ", ".join(map(quote, columns))
                cursor.execute(
                    f"CREATE TEMPORARY TABLE {name} ON COMMIT DELETE ROWS AS SELECT {names} FROM {self._table} WITH NO DATA"
                )

    def _held(self, cursor: Any) -> Position | None:
        row = cursor.execute(
            f"SELECT position FROM {self._positions} WHERE sink = %s", (self._shape.name,)
        ).fetchone()
        return read_position(row[0] if row else None, where=self._where)

    # --- rows --------------------------------------------------------------------------------------------

    def _move(self, cursor: Any, position: Position, before: Position | None) -> None:
        """Set the position, if it is what the writer thinks; whoever wrote it meanwhile has come to an end first."""
        name, text = self._shape.name, position_text(position)
        if before is None:
            cursor.execute(
                f"INSERT INTO {self._positions} VALUES (%s, %s) ON CONFLICT (sink) DO NOTHING", (name, text)
            )
        else:
            cursor.execute(
                f"UPDATE {self._positions} SET position = %s WHERE sink = %s AND position = %s",
                (text, name, position_text(before)),
            )
        if cursor.rowcount != 1:
            raise moved(position_text(self._held(cursor)), before, where=self._where)

    def _apply(self, cursor: Any, change: Change, *, is_empty: bool = False) -> None:
        key = self._shape.key
        if change.gone is not None and change.gone.num_rows:
            columns = [column for name in key if (column := self._shape.schema.column(name)) is not None]
            self._copy(cursor, _KEYS, columns, change.gone)
            same = " AND ".join(f"t.{quote(name)} IS NOT DISTINCT FROM k.{quote(name)}" for name in key)
            equal = " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in key)
            has_null = any(change.gone.column(name).null_count for name in key)
            # An index finds equal keys only.
            cursor.execute(f"DELETE FROM {self._table} t USING {_KEYS} k WHERE {same if has_null else equal}")
        rows = change.rows
        if not rows.num_rows:
            return
        if change.weights is not None:
            rows = rows.append_column(COUNT_COLUMN.name, change.weights)
        if not key or is_empty:
            self._copy(cursor, self._table, self._columns, rows)
            return
        self._copy(cursor, _ROWS, self._columns, rows)
        names = ", ".join(quote(column.name) for column in self._columns)
        others = [quote(column.name) for column in self._columns if column.name not in key]
        update = (
            "UPDATE SET " + ", ".join(f"{each} = excluded.{each}" for each in others) if others else "NOTHING"
        )
        cursor.execute(
            f"INSERT INTO {self._table} ({names}) SELECT {names} FROM {_ROWS} "
            f"ON CONFLICT ({', '.join(map(quote, key))}) DO {update}"
        )

    def _copy(self, cursor: Any, table: str, columns: Sequence[Column], rows: pa.Table) -> None:
        names = ", ".join(quote(column.name) for column in columns)
        with cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)") as copy:
            starts = range(0, rows.num_rows, _PAGE_ROWS)
            pages = (_csv(rows.slice(start, _PAGE_ROWS), columns) for start in starts)
            if len(starts) == 1:
                copy.write(next(pages))
                return
            with closing(
                read_ahead(pages, self._writing())
            ) as written:  # while the server takes one in, the next
                for page in written:
                    copy.write(page)

    def _writing(self) -> ThreadPoolExecutor:
        """Return the thread that writes pages; it stays, as it keeps a database for that."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="bourne-pages")
        return self._pool

    # --- transactions and errors -------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, keep: bool) -> Iterator[Any]:
        """Run the block in a transaction, and keep what it did, unless it fails."""
        if self._connection is None:
            raise Unreachable("the connection is closed", where=self._where, hint="open it")
        try:
            with self._connection.cursor() as cursor:
                yield cursor
            if keep:
                self._connection.commit()
            else:
                self._connection.rollback()
        except BaseException:
            if self._connection is not None and not self._connection.broken:
                self._connection.rollback()
            raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn PostgreSQL's errors into ours."""
        psycopg = self._psycopg
        try:
            yield
        except psycopg.DataError as error:
            raise Rejected("PostgreSQL refuses a row", where=self._where, found=_said(error)) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._check_refused(error)
            if isinstance(error, psycopg.errors.InvalidPassword | psycopg.errors.InvalidCatalogName):
                raise SinkFailed(
                    "PostgreSQL does not let us in", where=self._where, found=_said(error)
                ) from error
            raise Unreachable("PostgreSQL is not there", where=self._where, found=_said(error)) from error
        except psycopg.Error as error:
            self._check_refused(error)
            raise SinkFailed(
                "PostgreSQL does not do that", where=self._where, found=_said(error), hint="check the table and the rights"
            ) from error  # fmt: skip

    def _check_refused(self, error: Any) -> None:
        if (error.sqlstate or "")[:2] in _REFUSED:
            raise Rejected("PostgreSQL refuses a row", where=self._where, found=_said(error)) from error


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _package() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise DefinitionError(
            "PostgreSQL needs a library that is not installed", hint="pip install 'bourne[postgres]'"
        ) from error
    return psycopg


def _csv(rows: pa.Table, columns: Sequence[Column]) -> memoryview:
    """Return rows as PostgreSQL's CSV: NULL is nothing, all else is quoted."""
    texts = text_columns(rows.select([column.name for column in columns]))
    spelled = [
        _spelled(text, column.type, rows.column(column.name))
        for text, column in zip(texts, columns, strict=True)
    ]
    table = pa.Table.from_arrays(spelled, names=[f"c{number}" for number in range(len(spelled))])
    sink = io.BytesIO()
    arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return sink.getbuffer()


def _spelled(text: pa.ChunkedArray, kind: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return DuckDB's texts as PostgreSQL writes them, where that is another way."""
    if kind == "BLOB":
        encoded = [None if value is None else "\\x" + value.hex() for value in values.to_pylist()]
        return pa.chunked_array([pa.array(encoded, pa.string())])
    if kind.startswith(("DATE", "TIMESTAMP")):
        return pc.replace_substring(text, " (BC)", " BC")
    return text
