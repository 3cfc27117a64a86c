"""A query of SQLite, read in the order of a key. The database is opened to be read only.

Law: texts of a key are compared byte by byte, whatever their column's collation is, so that different ones are different.
SQLite keeps any value in any column: what does not fit a column's type here is refused. A column whose declared type does
not say how its values are stored (a number that may be whole or not, an expression) gets the type of its first values.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote as quote_url

import pyarrow as pa

from bourne.batch.increments import Overlap
from bourne.connect.sink_url import split_file_url
from bourne.connect.texts import read_texts
from bourne.errors import DefinitionError, InputError, SourceFailed, Unreachable
from bourne.jobs.query_reader import Key, Page, Span, no_overlap, typed_columns
from bourne.limits import SINK_LOCK_WAIT_S
from bourne.schema import Column, Schema, arrow_type, conform, quote

URL: Final = "sqlite:PATH"

# Times are compared as texts: with its zone, datetime() would say another time of day.
_ZONE: Final = re.compile(r"\s*([zZ]|[+-]\d\d:\d\d)$")
_VIEW: Final = "temp.bourne_query"
# Of which so many first rows the types of columns are taken that SQLite does not say.
_LOOK_ROWS: Final = 10_000
_STORED: Final = {"integer": "BIGINT", "real": "DOUBLE", "text": "VARCHAR", "blob": "BLOB"}
_GONE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class SqliteQuery:
    """A query of SQLite."""

    def __init__(
        self, url: str, query: str, order: tuple[str, ...], columns: Schema | None, *, where: str
    ) -> None:
        """Open the database, and look at the columns.

        Raises:
            DefinitionError: the query is wrong, or has other columns.
            Unreachable: the database is not there.
        """
        self._path = Path(split_file_url(url, kinds=["sqlite"], options=[], form=URL).path)
        self._query = query.strip().removesuffix(";")
        self._where = where
        self._opened: sqlite3.Connection | None = None
        try:
            found = self._columns()
        except SourceFailed as error:
            raise DefinitionError("SQLite does not take the query", where=where, found=error.found) from error
        self.schema, self.order = typed_columns(found, columns, order, where=where)
        names = [name for name, _ in found]
        self._places = [names.index(name) for name in self.order]
        self.is_number = len(order) == 1 and found[self._places[0]][1] in ("BIGINT", "DOUBLE")
        self._keys = [
            quote(name) if found[place][1] in ("BIGINT", "DOUBLE") else f"{quote(name)} COLLATE BINARY"
            for name, place in zip(self.order, self._places, strict=True)
        ]

    # --- what there is -----------------------------------------------------------------------------------

    def _columns(self) -> list[tuple[str, str]]:
        with self._mapped():
            connection = self._connection()
            found = connection.execute("PRAGMA temp.table_info(bourne_query)").fetchall()
            columns = [(row[1], _declared(row[2])) for row in found]
            unknown = [name for name, kind in columns if kind is None]
            kinds: dict[str, str] = {}
            if unknown:
                types = ", ".join(f"typeof({quote(name)})" for name in unknown)
                rows = connection.execute(
                    f"SELECT DISTINCT {types} FROM (SELECT * FROM {_VIEW} LIMIT {_LOOK_ROWS})"
                ).fetchall()
                for number, name in enumerate(unknown):
                    kinds[name] = _common({row[number] for row in rows}, name, self._where)
        return [(name, kind or kinds[name]) for name, kind in columns]

    def greatest(self) -> Key | None:
        """Return the greatest key."""
        return self._end("DESC")

    def least(self) -> Key | None:
        """Return the least key."""
        return self._end("ASC")

    def _end(self, direction: str) -> Key | None:
        order = ", ".join(f"{key} {direction}" for key in self._keys)
        names = ", ".join(map(quote, self.order))
        with self._mapped():
            found = (
                self._connection().execute(f"SELECT {names} FROM {_VIEW} ORDER BY {order} LIMIT 1").fetchone()
            )
        return None if found is None else tuple(map(_to_json, found))

    def null(self, column: str, *, first: Any) -> bool:
        """Say whether a column is NULL somewhere."""
        condition, values = f"{quote(column)} IS NULL", []
        if first is not None:
            condition, values = f"{condition} AND {self._keys[0]} >= ?", [_from_json(first)]
        with self._mapped():
            found = (
                self._connection()
                .execute(f"SELECT 1 FROM {_VIEW} WHERE {condition} LIMIT 1", values)
                .fetchone()
            )
        return found is not None

    # --- pages -------------------------------------------------------------------------------------------

    def page(self, span: Span, rows: int) -> Page:
        """Return the first rows of a span."""
        keys, marks = ", ".join(self._keys), ", ".join("?" * len(self._keys))
        conditions, values = [f"({keys}) <= ({marks})"], list(map(_from_json, span.last))
        if span.after is not None:
            conditions.append(f"({keys}) > ({marks})")
            values += map(_from_json, span.after)
        if span.first is not None:
            conditions.append(f"{self._keys[0]} >= ?")
            values.append(_from_json(span.first))
        query = f"SELECT * FROM {_VIEW} WHERE {' AND '.join(conditions)} ORDER BY {keys} LIMIT {rows}"
        with self._mapped():
            found = self._connection().execute(query, values).fetchall()
        columns: list[Sequence[Any]] = (
            list(zip(*found, strict=True)) if found else [()] * len(self.schema.columns)
        )
        arrays = [
            self._read(values, column)
            for values, column in zip(columns, self.schema.columns, strict=True)
        ]  # fmt: skip
        table = pa.Table.from_arrays(arrays, schema=self.schema.to_arrow())
        places = tuple([_to_json(value) for value in columns[place]] for place in self._places)
        equals = tuple(_comparable(columns[place]) for place in self._places)
        return Page(table, places, equals, table.nbytes)

    def _read(self, values: Sequence[Any], column: Column) -> pa.ChunkedArray:
        """Return SQLite's values as those of a column, exactly."""
        target = arrow_type(column.type)
        if pa.types.is_floating(target):
            values = [float("nan") if value == "NaN" else value for value in values]
        elif column.type == "BOOLEAN" and set(values) <= {0, 1, None}:
            values = [None if value is None else bool(value) for value in values]
        try:
            found = pa.chunked_array([pa.array(values)])
            if pa.types.is_string(found.type):
                found = read_texts(found, column)
            return conform(pa.table([found], [column.name]), Schema((column,)), log="query").column(0)
        except (pa.ArrowException, InputError, OverflowError) as error:
            found_kinds = sorted({type(value).__name__ for value in values if value is not None})
            raise SourceFailed(
                f"a value of column {column.name!r} does not fit {column.type}", where=self._where, expected=column.type,
                found=error.found if isinstance(error, InputError) else ", ".join(found_kinds),
                hint="name a type that says all of its values: columns={…}; or cast it in the query",
            ) from error  # fmt: skip

    def back(self, value: Any, overlap: Overlap) -> Any:
        """Return what lies before a value of the first column: of a time's text, by whole seconds."""
        found = None
        if isinstance(value, int | float) and isinstance(overlap, int):
            found = value - overlap
        if isinstance(value, str) and isinstance(overlap, timedelta):
            seconds = -(-overlap // timedelta(seconds=1)) + 1
            local = _ZONE.sub("", value)
            with self._mapped():
                query = "SELECT datetime(?, ?)"
                found = self._connection().execute(query, [local, f"-{seconds} seconds"]).fetchone()[0]
        if found is None:
            raise no_overlap(self.order[0], repr(value), overlap, where=self._where)
        return found

    # --- the connection ----------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            connection = sqlite3.connect(
                f"file:{quote_url(str(self._path.absolute()))}?mode=ro", uri=True, timeout=SINK_LOCK_WAIT_S,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            try:
                connection.execute(f"CREATE TEMP VIEW bourne_query AS {self._query}")
            except BaseException:
                connection.close()
                raise
            self._opened = connection
        return self._opened

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _GONE:
                raise Unreachable("SQLite cannot be read now", where=self._where, found=str(error)) from error
            raise SourceFailed("SQLite refuses", where=self._where, found=str(error)) from error

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _declared(declared: str) -> str | None:
    """Return the type for a declared one, if SQLite's rules (https://sqlite.org/datatype3.html, 3.1) say how it is stored."""
    upper = declared.upper()
    if "INT" in upper:
        return "BIGINT"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "VARCHAR"
    if "BLOB" in upper:
        return "BLOB"
    return "DOUBLE" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else None


def _common(stored: set[str], name: str, where: str) -> str:
    """Return the type that values stored in these ways have in common."""
    kinds = {_STORED[kind] for kind in stored - {"null"}}
    if kinds == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    if len(kinds) > 1:
        raise DefinitionError(
            f"column {name!r} has values of several kinds", where=where, expected="one type", found=", ".join(sorted(stored)),
            hint=f"cast it in the query: CAST({name} AS TEXT) AS {name}",
        )  # fmt: skip
    return kinds.pop() if kinds else "VARCHAR"


def _to_json(value: Any) -> Any:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def _comparable(values: Sequence[Any]) -> pa.Array:
    """Return values, of whatever kinds, such that those are equal that are equal to SQLite."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([None if value is None else _told_apart(value) for value in values])


def _told_apart(value: Any) -> str:
    """Return a value's kind and text; 1 and 1.0 are the same number."""
    if isinstance(value, bytes):
        return f"blob {value.hex()}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"text {value}" if isinstance(value, str) else f"number {value}"
