"""A transactional outbox in PostgreSQL as a source: rows of a table are taken in the order of a column, and then deleted.

`postgres://user@host:port/database?outbox=events&order=id[&done=delete|processed_at]`. With the name of a timestamp column
as `done`, rows are marked there instead.

Law: a row is taken once. What is not deleted (or marked) was not taken, but for the rows whose ids are in the position:
they are in the log, and are deleted before anything else is read. So ids that become visible late (they are given out
before their transactions commit) are taken when they do, after larger ones. An id is never used again for another row.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from bourne.connect.postgres_snapshot import copied_columns
from bourne.connect.postgres_tables import PgColumn, PgTable, required_table
from bourne.connect.postgres_texts import read_values
from bourne.connect.postgres_wire import (
    LOOK_S,
    connect,
    driver,
    patiently,
    postgres_errors,
    read_url,
    without_yielding,
)
from bourne.connect.source import Delivery, Lag, Position, Taken
from bourne.errors import DefinitionError, SourceFailed, Unreachable
from bourne.limits import OUTBOX_ID_CHARS_MAX, OUTBOX_ROWS_MAX, POSTGRES_BYTES_MAX, POSTGRES_HEALTH_S
from bourne.log.catalog import LogInfo

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

T = TypeVar("T")

_DELETE = "delete"


class PostgresOutbox:
    """Takes the rows of an outbox. The log's columns are among the table's; it is only appended to."""

    delivery: Delivery = "exactly once"

    def __init__(self, url: str, log: LogInfo, *, name: str) -> None:
        """Take the address; nothing is connected yet.

        Raises:
            DefinitionError: it is no such address, the log is of another kind, or psycopg is not installed.
        """
        driver()
        self.name = name
        self._address = read_url(url, own={"outbox", "order", "done"})
        options = self._address.options
        self._outbox, self._order = options.get("outbox", ""), options.get("order", "")
        self._done = options.get("done", _DELETE)
        if not self._outbox or not self._order:
            raise DefinitionError(
                "which table, and in which order? The address does not say", where=self._address.shown,
                expected="?outbox=events&order=id",
            )  # fmt: skip
        if log.changes != "append":
            raise DefinitionError(
                "the rows of an outbox are only ever added", where=f"log {log.name!r}", expected="changes='append'",
                found=log.changes,
            )  # fmt: skip
        self._log = log
        self._where = f"outbox {self._outbox!r} of {self._address.shown}"
        self._stopped = threading.Event()
        self._give_up: Callable[[], None] = self._stopped.set
        self._control: Connection | None = None
        self._table: PgTable | None = None
        self._taken: list[str] = []  # ids that were handed over, and may still be there
        self._rows_max = OUTBOX_ROWS_MAX
        self._left: int | None = None

    def read(self, position: Position | None, partitions: dict[int, Position]) -> Iterator[Taken | None]:
        """Go on from a position; see `Source.read`."""
        self._taken = _ids(position)
        over = threading.Event()  # this reading is: whatever it waits for is given up
        self._give_up = over.set
        with self._until_stopped(), contextlib.ExitStack() as open_things, postgres_errors(self._where):
            control = without_yielding(
                self._patiently(
                    lambda: connect(self._address, lambda: over.is_set() or self._stopped.is_set())
                )
            )
            if control is None:
                return
            open_things.callback(self._forget_connection)
            open_things.callback(control.close)
            self._table = required_table(control, self._outbox, where=self._address.shown)
            self._check(control, self._table)
            self._control = control
            looked = time.monotonic() - POSTGRES_HEALTH_S
            while not self._stopped.is_set():
                yield from self._part(control, self._table)
                if time.monotonic() - looked >= POSTGRES_HEALTH_S:
                    looked = time.monotonic()
                    self._left = self._count(control, self._table)

    @contextlib.contextmanager
    def _until_stopped(self) -> Iterator[None]:
        """What is given up because it was stopped is no error."""
        try:
            yield
        except Unreachable:
            if not self._stopped.is_set():
                raise

    def _patiently(self, work: Callable[[], T]) -> Generator[None, None, T | None]:
        return (yield from patiently(work, is_stopped=self._stopped.is_set, give_up=self._give_up))

    def _part(self, control: Connection, table: PgTable) -> Generator[Taken | None, None, None]:
        """Delete what is durable, and yield the next rows, or None."""
        found = yield from self._patiently(lambda: self._next(control, table))
        if found is None:
            return
        rows, ids = found
        if not ids:
            self._left = 0
            yield None
            self._stopped.wait(LOOK_S)
            return
        self._taken = ids
        yield Taken(rows, {"taken": ids})

    def _next(self, control: Connection, table: PgTable) -> tuple[pa.Table, list[str]]:
        from psycopg import sql

        self._settle(control, table)
        columns = [_column(table, column.name, self._where) for column in self._log.schema.columns]
        order = _column(table, self._order, self._where)
        names = [*(column.name for column in columns), order.name]
        query = sql.SQL("SELECT {} FROM ONLY {} {} ORDER BY {} LIMIT {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table.space, table.name), self._not_done(table),
            sql.Identifier(order.name), sql.Literal(self._rows_max),
        )  # fmt: skip
        texts, size = copied_columns(control, query, len(names))
        count = len(texts[0])
        if count:  # long rows are taken in smaller parts
            self._rows_max = max(1, min(OUTBOX_ROWS_MAX, POSTGRES_BYTES_MAX * count // max(size, 1)))
        ids = texts[-1].to_pylist()
        if any(each is None or len(each) > OUTBOX_ID_CHARS_MAX for each in ids):
            raise SourceFailed(
                f"an id in {order.name!r} is too long",
                where=self._where,
                expected=f"at most {OUTBOX_ID_CHARS_MAX} characters",
            )
        values = {
            column.name: read_values(text, source.type, column, where=self._where)
            for column, source, text in zip(self._log.schema.columns, columns, texts, strict=False)
        }
        return pa.table(values), ids

    def _not_done(self, table: PgTable) -> Any:
        from psycopg import sql

        if self._done == _DELETE:
            return sql.SQL("")
        return sql.SQL("WHERE {} IS NULL").format(
            sql.Identifier(_column(table, self._done, self._where).name)
        )

    def _settle(self, control: Connection, table: PgTable) -> None:
        """Delete or mark the rows that are in the log. Again and again, it is the same."""
        from psycopg import sql

        if not self._taken:
            return
        order = _column(table, self._order, self._where)
        name = sql.Identifier(table.space, table.name)
        own = sql.SQL("{} = ANY ({}::text[]::{}[])").format(
            sql.Identifier(order.name), sql.Literal(self._taken), sql.SQL(order.declared)
        )  # fmt: skip
        if self._done == _DELETE:
            control.execute(sql.SQL("DELETE FROM ONLY {} WHERE {}").format(name, own))
        else:
            done = sql.Identifier(_column(table, self._done, self._where).name)
            control.execute(
                sql.SQL("UPDATE ONLY {} SET {} = now() WHERE {} AND {} IS NULL").format(name, done, own, done)
            )
        self._taken = []

    def _count(self, control: Connection, table: PgTable) -> int:
        from psycopg import sql

        query = sql.SQL("SELECT count(*) FROM ONLY {} {}").format(
            sql.Identifier(table.space, table.name), self._not_done(table)
        )
        row = control.execute(query).fetchone()
        return 0 if row is None else max(0, int(row[0]) - len(self._taken))

    def _check(self, control: Connection, table: PgTable) -> None:
        order = _column(table, self._order, self._where)
        for column in self._log.schema.columns:
            _column(table, column.name, self._where)
        row = control.execute(
            """SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = %s AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND a.attname = %s AND a.attnotnull""",
            [table.number, order.name],
        ).fetchone()
        if row is None or not row[0] or table.kind != "r":
            raise DefinitionError(
                f"{order.name!r} does not tell the rows of the outbox apart", where=self._where,
                expected="a column of a plain table that is NOT NULL and has a unique index of its own",
                hint=f"ALTER TABLE {table.full_name} ADD PRIMARY KEY ({order.name})",
            )  # fmt: skip
        if self._done != _DELETE and not _column(table, self._done, self._where).type.name.startswith(
            "timestamp"
        ):
            raise DefinitionError(
                f"{self._done!r} cannot say when a row was taken", where=self._where, expected="timestamptz"
            )

    def _forget_connection(self) -> None:
        self._control = None

    def confirm(self, position: Position) -> None:
        """The rows of this position are durable: they are deleted or marked, now or when the server is there again."""
        if self._control is None or self._table is None or _ids(position) != self._taken:
            return
        with contextlib.suppress(Unreachable), postgres_errors(self._where):
            self._settle(self._control, self._table)

    def lag(self) -> Lag:
        """Return how many rows there were that were not taken, when it looked last."""
        return Lag(records=self._left)

    def stop(self) -> None:
        """Let `read` end soon. Safe to call twice."""
        self._stopped.set()


def _column(table: PgTable, name: str, where: str) -> PgColumn:
    column = table.column(name)
    if column is None:
        raise DefinitionError(
            f"the outbox has no column {name!r}",
            where=where,
            expected=", ".join(each.name for each in table.columns),
        )
    return column


def _ids(position: Position | None) -> list[str]:
    """Return the ids in a position.

    Raises:
        SourceFailed: it is another kind of position.
    """
    if position is None:
        return []
    ids = position.get("taken") if isinstance(position, dict) else None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise SourceFailed(
            "this is not a position of an outbox", found=repr(position)[:200],
            hint="has the source's name been another source's before? Give it a new one",
        )  # fmt: skip
    return ids
