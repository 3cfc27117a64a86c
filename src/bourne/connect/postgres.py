"""A table of PostgreSQL as a source: a copy of it, and then all of its changes, each once, in the order of their commits.

`postgres://user@host:port/database?table=schema.orders[&slot=...][&publication=...]`. The changes come from a replication
slot, which keeps them until the log has them durably. `bourne.connect.postgres_place` says what a position is,
`postgres_snapshot` and `postgres_stream` how copy and changes meet without a gap or an overlap, `postgres_rows` what
becomes of a change. What a table's definition does to all of its rows at once (a default of a new column, a changed type)
PostgreSQL does not send: rows have it from their next change on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from bourne.connect import pgoutput
from bourne.connect.pgoutput import COMMIT
from bourne.connect.postgres_place import Place, Range, lsn_number, lsn_text, place_from_json
from bourne.connect.postgres_rows import Current, Records
from bourne.connect.postgres_slot import (
    Health,
    check_server,
    check_slot,
    derived_name,
    ensure_publication,
    look_after,
    make_slot,
    open_replication,
)
from bourne.connect.postgres_snapshot import Chunk, Copy
from bourne.connect.postgres_stream import LiveKeys, Stream
from bourne.connect.postgres_tables import PgTable, find_table_or_none, read_table, required_table
from bourne.connect.postgres_texts import read_values
from bourne.connect.postgres_wire import (
    Replication,
    connect,
    driver,
    patiently,
    postgres_errors,
    read_url,
    without_yielding,
)
from bourne.connect.source import Delivery, Lag, Position, Taken
from bourne.errors import DefinitionError, SourceFailed, Unreachable
from bourne.limits import (
    POSTGRES_BYTES_MAX,
    POSTGRES_HEALTH_S,
    POSTGRES_HEARTBEAT_S,
    POSTGRES_ROWS_MAX,
    POSTGRES_STATUS_S,
)
from bourne.log.catalog import LogInfo

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

_DATA, _KEEPALIVE = ord("w"), ord("k")


class PostgresChanges:
    """Follows a table. The log's key is the table's, and its columns are among the table's."""

    delivery: Delivery = "exactly once"

    def __init__(
        self,
        url: str,
        log: LogInfo,
        *,
        name: str,
        current: Current | None = None,
        live_keys: LiveKeys | None = None,
    ) -> None:
        """Take the address; nothing is connected yet.

        Args:
            current: returns the log's newest rows of some keys, for large values that an update leaves alone.
            live_keys: returns the keys of all rows in the log, for TRUNCATE.

        Raises:
            DefinitionError: it is no such address, or the log cannot hold changes, or psycopg is not installed.
        """
        driver()
        self.name = name
        self._address = read_url(url, own={"table", "slot", "publication"})
        self._asked = self._address.options.get("table", "")
        if not self._asked:
            raise DefinitionError(
                "which table? The address does not say",
                where=self._address.shown,
                expected="?table=schema.table",
            )
        derived = derived_name(self._address.database, self._asked, name)
        self.slot = self._address.options.get("slot") or derived
        self.publication = self._address.options.get("publication") or derived
        if (
            not self.slot.replace("_", "a").isalnum()
            or self.slot != self.slot.lower()
            or not self.slot.isascii()
        ):
            raise DefinitionError(f"{self.slot!r} cannot be a slot's name", expected="a-z, 0-9 and _")
        self._where = f"table {self._asked!r} of {self._address.shown}"
        self._records = Records(log, current)
        self._live_keys = live_keys
        self._stopped = threading.Event()
        self._is_over: Callable[[], bool] = self._stopped.is_set
        self._give_up: Callable[[], None] = self._stopped.set
        self._durable = 0  # up to here the log has everything, and the server may forget it
        self._received = 0  # up to here everything has come
        self._health: Health | None = None
        self._stream: Stream | None = None

    def read(self, position: Position | None, partitions: dict[int, Position]) -> Iterator[Taken | None]:
        """Go on from a position; see `Source.read`."""
        over = threading.Event()  # this reading is: whatever it waits for is given up
        self._is_over = lambda: over.is_set() or self._stopped.is_set()
        self._give_up = over.set
        with self._until_stopped(), contextlib.ExitStack() as open_things, postgres_errors(self._where):
            control = without_yielding(self._patiently(lambda: connect(self._address, self._is_over)))
            if control is None:
                return
            open_things.callback(control.close)
            place = None if position is None else place_from_json(position)
            system = check_server(control, where=self._where)
            table = self._table(control, system, place)
            if place is None:
                self._records.check(table)
                ensure_publication(control, self.publication, table, where=self._where)
            else:
                self._durable = place.lsn
                check_slot(control, self.slot, place, where=self._where)
            if place is None or not place.is_copied:
                place = yield from self._copy(control, table, place, system)
            if place is not None:
                yield from self._follow(control, table, place)

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

    def _table(self, control: psycopg.Connection[Any], system: str, place: Place | None) -> PgTable:
        if place is None:
            return required_table(control, self._asked, where=self._address.shown)
        if system != place.system:
            raise SourceFailed(
                "this is another server than before", where=self._where, expected=f"system {place.system}",
                found=f"system {system}", hint="its positions mean nothing here: read it into a new log",
            )  # fmt: skip
        number = find_table_or_none(control, self._asked)
        table = read_table(control, place.table)  # by its number: it may have been renamed
        if table is None or number not in (None, place.table):
            raise SourceFailed(
                "the table is not the one that was read before: it was dropped, or another one has its name now",
                where=self._where, hint="read it into a new log",
            )  # fmt: skip
        return table

    # --- the copy ----------------------------------------------------------------------------------------

    def _copy(
        self, control: psycopg.Connection[Any], table: PgTable, place: Place | None, system: str
    ) -> Generator[Taken | None, None, Place | None]:
        """Copy the table from where it was left off; return the place of the stream, or None if it was stopped."""
        columns = [
            column for each in self._records.columns if (column := table.column(each.name)) is not None
        ]
        names = [column.name for column in columns]
        copy = Copy(self._address, table, names, self._is_over, where=self._where)
        with contextlib.closing(copy):
            if place is None:
                replication = open_replication(control, self._address, self._is_over)
                with contextlib.closing(replication):  # its snapshot is there as long as it is
                    slot = yield from self._patiently(
                        lambda: make_slot(control, replication, self.slot, where=self._where)
                    )
                    if slot is None:
                        return None
                    exported = slot.snapshot
                    yield from self._patiently(lambda: copy.begin(None, exported=exported, earlier=None))
                place = Place(system=system, table=table.number, lsn=lsn_number(slot.lsn))
                self._durable = place.lsn
            else:
                after, earlier = place.ranges[-1].last, place.ranges[0].snapshot
                yield from self._patiently(lambda: copy.begin(after, exported=None, earlier=earlier))
            while not place.is_copied:
                if self._stopped.is_set():
                    return None
                chunk = yield from self._patiently(copy.read)
                if chunk is None:
                    return None
                if chunk.is_end:
                    copy.close()  # who wants to change the table need not wait any longer
                place = _behind(place, Range(chunk.last, copy.snapshot, copy.wal), is_end=chunk.is_end)
                yield Taken(self._copied(table, chunk), place.to_json())
        return place

    def _copied(self, table: PgTable, chunk: Chunk) -> Any:
        if not len(chunk.columns[0]):
            return None
        values = {}
        texts = iter(chunk.columns)
        for each in self._records.columns:
            column = table.column(each.name)
            if column is None:
                raise SourceFailed(f"the table has no column {each.name!r} any more", where=self._where)
            values[each.name] = read_values(next(texts), column.type, each, where=self._where)
        return self._records.rows(values)

    # --- the stream --------------------------------------------------------------------------------------

    def _follow(
        self, control: psycopg.Connection[Any], table: PgTable, place: Place
    ) -> Generator[Taken | None, None, None]:
        self._stream = stream = Stream(
            control, table, self._records, place, self._live_keys, where=self._where
        )
        with contextlib.closing(open_replication(control, self._address, self._is_over)) as replication:
            publication = self.publication.replace('"', '""').replace("'", "''")
            replication.execute(
                f'START_REPLICATION SLOT "{self.slot}" LOGICAL {lsn_text(place.lsn)} '
                f"(proto_version '1', publication_names '\"{publication}\"')"
            )
            times = _Times(time.monotonic())
            while not self._stopped.is_set():
                messages: list[Any] = []
                yield from self._gather(control, replication, stream, times, messages)
                scanned = pgoutput.scan(messages)
                for rows, after in stream.feed(scanned):
                    yield Taken(rows, after.to_json())
                    times.handed = time.monotonic()
                end = _idle_end(messages)
                if end and not stream.is_inside:
                    self._received = max(self._received, end)
                if self._is_asked(messages):
                    replication.acknowledge(self._durable)

    def _gather(
        self,
        control: psycopg.Connection[Any],
        replication: Replication,
        stream: Stream,
        times: _Times,
        messages: list[Any],
    ) -> Generator[Taken | None, None, None]:
        """Wait for messages, and take whole transactions, as long as they are not too large."""
        size = 0
        while not self._stopped.is_set():
            added, is_drained = replication.receive(
                messages, bytes_max=POSTGRES_BYTES_MAX - size, rows_max=POSTGRES_ROWS_MAX
            )
            size += added
            yield from self._look(control, replication, stream, times, is_idle=is_drained and not messages)
            if messages and (not is_drained or _is_whole(messages) or self._is_asked(messages)):
                return
            if is_drained:
                yield None

    def _look(
        self,
        control: psycopg.Connection[Any],
        replication: Replication,
        stream: Stream,
        times: _Times,
        *,
        is_idle: bool,
    ) -> Generator[Taken, None, None]:
        """Do what is due: tell the server what is durable, look after the slot, and go on though nothing has come."""
        now = time.monotonic()
        if now - times.told >= POSTGRES_STATUS_S or self._durable != times.told_lsn:
            times.told, times.told_lsn = now, self._durable
            replication.acknowledge(self._durable)
        if now - times.looked >= POSTGRES_HEALTH_S:
            times.looked = now
            self._health = look_after(control, self.slot)
        is_idle = is_idle and not stream.is_inside
        if is_idle and now - times.handed >= POSTGRES_HEARTBEAT_S and self._received > stream.place.lsn:
            times.handed = now
            stream.place = replace(stream.place, lsn=self._received)
            yield Taken(None, stream.place.to_json())

    @staticmethod
    def _is_asked(messages: list[Any]) -> bool:
        """Say whether the server wants to hear from us at once."""
        return any(message[0] == _KEEPALIVE and message[17] for message in messages[-4:])

    # --- what others ask ---------------------------------------------------------------------------------

    def confirm(self, position: Position) -> None:
        """All up to this position is durable: the server is told so with the next message to it."""
        self._durable = max(self._durable, place_from_json(position).lsn)

    def lag(self) -> Lag:
        """Return how much WAL lies between what is confirmed (or has come and was not about the table) and the server's end."""
        health, stream = self._health, self._stream
        notes = [health.note if health else None, stream.drift if stream else None]
        behind = None if health is None else max(0, health.end - max(self._durable, self._received))
        return Lag(bytes=behind, note="; ".join(filter(None, notes)) or None)

    def stop(self) -> None:
        """Let `read` end soon. Safe to call twice."""
        self._stopped.set()


class _Times:
    """When what was done last."""

    def __init__(self, now: float) -> None:
        self.told = self.handed = now
        self.told_lsn = -1
        self.looked = now - POSTGRES_HEALTH_S


def _behind(place: Place, done: Range, *, is_end: bool) -> Place:
    """Return the place after a part of the copy: its range grows, or a new one begins."""
    if is_end:
        done = replace(done, last=None)
    is_same = (
        bool(place.ranges) and place.ranges[-1].snapshot == done.snapshot and place.ranges[-1].wal == done.wal
    )
    ranges = (*place.ranges[: -1 if is_same else None], done)
    return replace(place, ranges=ranges, is_copied=is_end)


def _is_whole(messages: list[Any]) -> bool:
    """Say whether no transaction is left open at the end."""
    for message in reversed(messages):
        if message[0] == _DATA:
            return bool(message[25] == COMMIT)
    return True


def _idle_end(messages: list[Any]) -> int:
    """Return up to where the server had read its WAL when it sent the last message, if that was a keepalive; else 0."""
    last = bytes(messages[-1]) if messages else b""
    return int.from_bytes(last[1:9], "big") if last[:1] == b"k" else 0
