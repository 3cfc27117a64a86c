"""The first copy of a table, consistent with the stream of its changes, in parts, in the order of its key.

Law: a run reads one snapshot, from behind the last key that is durable. What a snapshot did not see comes in the stream.
The first run's snapshot is the slot's own. A later one must see all that the first one saw: for a moment a commit may be
written (and so be before the slot's beginning) and not be visible yet.

A table that is rewritten or emptied looks empty to an older snapshot: so the table is locked against that, and then
looked at whether it has happened before. The server itself says which keys lie in which range: its order alone counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from bourne.connect.postgres_place import Range, Snapshot
from bourne.connect.postgres_tables import PgTable
from bourne.connect.postgres_wire import Address, connect, postgres_errors
from bourne.errors import SourceFailed, Unreachable
from bourne.limits import (
    POSTGRES_BYTES_MAX,
    POSTGRES_KEYS_MAX,
    POSTGRES_ROWS_MAX,
    POSTGRES_WHOLE_BYTES_MAX,
)

if TYPE_CHECKING:
    import psycopg

_CSV = "FORMAT csv, FORCE_QUOTE *, ENCODING 'UTF8'"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows, as a column of texts for each column that was asked for, their last key, and whether they are the last ones."""

    columns: tuple[pa.Array, ...]
    last: tuple[str, ...] | None
    is_end: bool


class Copy:
    """One run: one snapshot of the rows behind a key."""

    def __init__(
        self, address: Address, table: PgTable, columns: Sequence[str], is_over: Callable[[], bool], *, where: str
    ) -> None:  # fmt: skip
        """Connect. `columns` are those that are wanted, by the table's names."""
        self._connection: psycopg.Connection[Any] = connect(address, is_over)
        self._table = table
        self._columns = list(dict.fromkeys([*columns, *table.key]))
        self._width = len(columns)
        self._where = where
        self._rows: Iterator[Any] = iter(())
        self.snapshot = Snapshot("3:3:")
        self.wal = 0

    def begin(self, after: tuple[str, ...] | None, *, exported: str | None, earlier: Snapshot | None) -> None:
        """Take the snapshot: the one that the slot has exported, or a new one that sees all that an earlier one saw.

        Raises:
            Unreachable: it cannot be had just now.
        """
        from psycopg import sql

        name = sql.Identifier(self._table.space, self._table.name)
        execute = self._connection.execute
        execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if exported is not None:
            execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(exported)))
        execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(name))
        row = execute(
            "SELECT pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8, "
            "relfilenode = pg_relation_filenode(oid) FROM pg_class WHERE oid = %s",
            [self._table.number],
        ).fetchone()
        if row is None or not row[2]:
            raise Unreachable("the table was rewritten just now", where=self._where, hint="it is read again")
        self.snapshot, self.wal = Snapshot(row[0]), int(row[1])
        if earlier is not None and self.snapshot.misses_of(earlier):
            raise Unreachable("a commit is not visible yet", where=self._where, hint="it is read again")
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns))
        query = sql.SQL("SELECT {} FROM ONLY {}").format(columns, name)
        if self._table.key:
            key = sql.SQL(", ").join(map(sql.Identifier, self._table.key))
            if after is not None:
                query += sql.SQL(" WHERE ({}) > ({})").format(key, self._literals(after))
            query += sql.SQL(" ORDER BY {}").format(key)
        self._rows = self._copied(sql.SQL("COPY ({}) TO STDOUT ({})").format(query, sql.SQL(_CSV)))

    def _copied(self, statement: Any) -> Iterator[Any]:
        with self._connection.cursor().copy(statement) as rows:
            yield from rows

    def _literals(self, key: tuple[str, ...]) -> Any:
        return literals(self._table, key)

    def read(self) -> Chunk:
        """Return the next rows: a bounded part of them; all, of a table without a key.

        Raises:
            SourceFailed: a table without a key is too large.
            Unreachable: the connection is lost.
        """
        with postgres_errors(self._where):
            pieces, size, is_end = [], 0, True
            whole = not self._table.key
            for piece in self._rows:
                pieces.append(piece)
                size += len(piece)
                if whole and size > POSTGRES_WHOLE_BYTES_MAX:
                    raise SourceFailed(
                        "the table is too large to be copied without a primary key: that cannot go on after a crash",
                        where=self._where, expected=f"at most {POSTGRES_WHOLE_BYTES_MAX >> 20} MiB",
                        hint=f"ALTER TABLE {self._table.full_name} ADD PRIMARY KEY (...)",
                    )  # fmt: skip
                if not whole and (size >= POSTGRES_BYTES_MAX or len(pieces) >= POSTGRES_ROWS_MAX):
                    is_end = False
                    break
        columns = _parsed(b"".join(pieces), len(self._columns))
        count = len(columns[0])
        last = None
        if count and self._table.key:
            places = [self._columns.index(name) for name in self._table.key]
            last = tuple(columns[place][count - 1].as_py() for place in places)
        return Chunk(columns[: self._width], last, is_end)

    def close(self) -> None:
        """Let go of the snapshot. Safe to call twice."""
        self._connection.close()


def copied_columns(
    connection: psycopg.Connection[Any], query: Any, width: int
) -> tuple[tuple[pa.Array, ...], int]:
    """Return what a query says as columns of texts, and how many bytes that is."""
    from psycopg import sql

    statement = sql.SQL("COPY ({}) TO STDOUT ({})").format(query, sql.SQL(_CSV))
    with connection.cursor().copy(statement) as rows:
        data = b"".join(rows)
    return _parsed(data, width), len(data)


def _parsed(data: bytes, width: int) -> tuple[pa.Array, ...]:
    """Return the columns of a CSV in which every value is quoted, and what is not is NULL."""
    names = [str(number) for number in range(width)]
    if not data:
        return tuple(pa.array([], pa.string()) for _ in names)
    table = pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(column_names=names, block_size=len(data) + 1, use_threads=False),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )  # fmt: skip
    return tuple(table.column(name).combine_chunks() for name in names)


def literals(table: PgTable, key: tuple[str, ...]) -> Any:
    """Return a key's texts as SQL values of its columns' types and collations."""
    from psycopg import sql

    return sql.SQL(", ").join(
        _typed(sql.Literal(text), table, name) for text, name in zip(key, table.key, strict=True)
    )


def _typed(value: Any, table: PgTable, name: str) -> Any:
    from psycopg import sql

    column = next(column for column in table.columns if column.name == name)
    typed = sql.SQL("CAST({} AS {})").format(value, sql.SQL(column.declared))
    return (
        typed
        if column.collation is None
        else sql.SQL("{} COLLATE {}").format(typed, sql.SQL(column.collation))
    )


def locate(
    connection: psycopg.Connection[Any], table: PgTable, ranges: Sequence[Range], keys: Sequence[pa.Array]
) -> NDArray[np.int64]:
    """Return the number of the range in which each key lies, as the server orders them. `keys` has a text array per column."""
    from psycopg import sql

    ends = [each.last for each in itertools.takewhile(lambda each: each.last is not None, ranges)]
    count = len(keys[0])
    if not ends:
        return np.zeros(count, np.int64)
    names = [sql.Identifier(f"k{number}") for number in range(len(keys))]
    own = sql.SQL(", ").join(
        _typed(name, table, column) for name, column in zip(names, table.key, strict=True)
    )
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN ({}) <= ({}) THEN {}").format(own, literals(table, end or ()), sql.Literal(number))
        for number, end in enumerate(ends)
    )
    form = sql.SQL(
        "SELECT CASE {} ELSE {} END FROM unnest({}) WITH ORDINALITY AS u({}, place) ORDER BY place"
    )
    found: list[int] = []
    for start in range(0, count, POSTGRES_KEYS_MAX):
        texts = sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Literal(values.slice(start, POSTGRES_KEYS_MAX).to_pylist()))
            for values in keys
        )
        query = form.format(cases, sql.Literal(len(ends)), texts, sql.SQL(", ").join(names))
        found += [row[0] for row in connection.execute(query)]
    return np.array(found, np.int64)
