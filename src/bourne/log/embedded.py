"""The log that lives in a folder: partitions, each appended to by `LogWriter` and read by `LogReader`.

Law: as `bourne.log.protocol.Log`. Nothing is opened before it is needed: reading takes no lock.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bourne.errors import Closed, InputError
from bourne.log.catalog import Durability, LogInfo, Retention, partition_folder
from bourne.log.cursor import LogCursor, Piece
from bourne.log.format import Head
from bourne.log.partition import split
from bourne.log.protocol import Appended, Batch, LogHead, Place
from bourne.log.prove import prove
from bourne.log.reader import Frame, LogReader
from bourne.log.relation import check_records, column_of
from bourne.log.requests import Written
from bourne.log.retention import Maintained, Pin, maintain, readers
from bourne.log.wake import Wake
from bourne.log.writer import LogWriter
from bourne.ports import Clock, Files
from bourne.schema import conform

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# How much is read at a time, and how long a follower waits at most before it looks whether it is to stop.
_READ_BYTES = 64 << 20
_LOOK_S = 0.2


class EmbeddedLog:
    """A log in a folder. Safe to use from several threads and processes at once."""

    def __init__(self, folder: Path, info: LogInfo, *, files: Files, clock: Clock) -> None:
        """The folder holds a log already (`write_log_info`)."""
        self.folder = folder
        self._info = info
        self._files = files
        self._clock = clock
        self._writers: dict[int, LogWriter] = {}
        self._mutex = threading.Lock()
        self._is_closed = False

    @property
    def info(self) -> LogInfo:
        """Its name, columns and promises."""
        return self._info

    # --- writing -----------------------------------------------------------------------------------------

    def append(
        self, rows: Any, *, durability: Durability | None = None, request_id: str | None = None,
        request_hash: str | None = None,
    ) -> Appended:  # fmt: skip
        """Append records; they are as durable as asked for when this returns.

        Args:
            rows: an Arrow, Polars or pandas table, anything else with the Arrow PyCapsule interface, or a list of
                dicts. They go to their partitions by key, in the order given.
            durability: `"fsync"`, `"interval"` or `"none"`; by default as the log was declared.
            request_id: an id of this call: a repeat with the same rows writes nothing and returns the first offsets.
            request_hash: a hash of what the rows were made of, kept with the id: a call with the same id and another hash
                is refused. Without, only another number of rows is.

        All rows or none of each partition are taken. If one of several partitions fails, those before it have their
        rows: repeat the call with the same request id to complete it.

        Raises:
            UnknownColumn, ValueMismatch, InputError: the data does not fit the log's schema; nothing was stored.
            LogLocked: another process holds the log's lock and does not give it back.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        if durability not in (None, "fsync", "interval", "none"):
            raise InputError(
                "no such durability", expected="'fsync', 'interval' or 'none'", found=repr(durability)
            )
        self._check_open()
        if self._info.table is not None:
            raise InputError(
                f"{self._info.name!r} is a table: its rows are those of its file", where=self._info.table,
                hint="change the file; the next catch_up or run takes over what is different",
            )  # fmt: skip
        table = conform(rows, self._info.schema, log=self._info.name)
        check_records(self._info, table)
        if self._info.partitions == 1:
            written = self.writer(0).write(
                table, durability=durability, request_id=request_id, request_hash=request_hash
            )
            offsets = written.row_offsets
            if offsets is None:
                offsets = np.arange(written.offsets.start, written.offsets.stop)
            partitions = np.zeros(table.num_rows, np.int32)
            return Appended({0: written.offsets}, written.is_repeat, partitions, offsets, self._info.name)
        assert self._info.key is not None  # declared with several partitions
        keys = column_of(self._info, table, self._info.key)
        parts = split(table, self._info.key, self._info.partitions, keys=keys)
        return _appended(
            self._info.name,
            table.num_rows,
            [
                (
                    number,
                    self.writer(number).write(
                        part, durability=durability, request_id=request_id, request_hash=request_hash
                    ),
                    rows_of,
                )
                for number, part, rows_of in parts
            ],
        )

    def writer(self, partition: int) -> LogWriter:
        """Return what appends to a partition; it is closed with this log."""
        return self._writers.get(partition) or self._open_writer(partition)

    def _open_writer(self, partition: int) -> LogWriter:
        with self._mutex:
            self._check_open()
            if partition not in self._writers:
                self._writers[partition] = LogWriter(
                    self.folder, self._info, files=self._files, clock=self._clock, partition=partition,
                    is_exclusive=False,
                )  # fmt: skip
            return self._writers[partition]

    def sync(self) -> None:
        """Make durable all that this object has appended."""
        for writer in list(self._writers.values()):
            writer.sync()

    def maintain(self, pins: Sequence[Pin] = ()) -> list[Maintained]:
        """Delete, compact or make cold what the log's retention says, except where `pins` or readers hold it.

        Returns: what became of each partition.

        Raises:
            CorruptFrame: a segment is damaged; it stays as it is.
            StorageError, DiskFull: the disk refuses; what was done before holds.
        """
        self._check_open()
        if self._info.retention == Retention():
            return []
        return [
            maintain(
                self.folder, self._info, number,
                writer=functools.partial(self.writer, number),
                pins=[pin for pin in pins if pin.partition == number],
                now_us=self._clock.now_us(),
                files=self._files,
            )
            for number in range(self._info.partitions)
        ]  # fmt: skip

    def readers(self) -> list[Pin]:
        """Return the closed segments that somebody reads just now: what they hold, retention leaves alone."""
        folders = [partition_folder(self.folder, number) for number in range(self._info.partitions)]
        return [pin for number, folder in enumerate(folders) for pin in readers(folder, number)]

    # --- reading -----------------------------------------------------------------------------------------

    def first_offsets(self) -> tuple[int, ...]:
        """Return the offset of the oldest record that is kept, of each partition."""
        cursor = self.cursor()
        try:
            return cursor.first_offsets()
        finally:
            cursor.close()

    def end_offsets(self) -> tuple[int, ...]:
        """Return the offset after the last acknowledged record, of each partition, as of now."""
        cursor = self.cursor()
        try:
            return cursor.end_offsets()
        finally:
            cursor.close()

    def head(self, partition: int = 0) -> LogHead:
        """Return the end of a partition and the hash of its last frame, to publish elsewhere.

        Raises:
            InputError: there is no such partition.
        """
        head = self._published(partition)
        return LogHead(partition, head.next_offset if head else 0, head.hash.hex() if head else "")

    def _published(self, partition: int) -> Head | None:
        self.check_partition(partition)
        reader = LogReader(self.folder, self._info, partition=partition, files=self._files)
        try:
            return reader.head()
        finally:
            reader.close()

    def prove(self, offset: int, partition: int = 0, *, head: str | LogHead | None = None) -> dict[str, Any]:
        """Return a proof, plain JSON, that a record is in the log; `bourne.check_proof` checks it without the log.

        Args:
            head: under which head (or hash of one) it is proved: one that was published at the record or after it. By
                default the newest.

        A proof is a few KiB, more for long values and many columns.

        Raises:
            InputError: there is no such record (any more), it was compacted away, or there is no such head after it.
            CorruptFrame, StorageError: as reading.
        """
        published = self._published(partition)
        return prove(self.folder, self._info, published, offset, partition=partition, head=head)

    def cursor(self, *, partition: int | None = None, is_durable: bool = False) -> LogCursor:
        """Return a cursor at the first records, for reading in frames. Close it.

        Raises:
            InputError: there is no such partition.
        """
        self._check_open()
        if partition is not None:
            self.check_partition(partition)
        return LogCursor(
            self.folder, self._info, partitions=None if partition is None else (partition,), files=self._files,
            is_durable=is_durable,
        )  # fmt: skip

    def batches(
        self,
        *,
        start: Place | None = None,
        until: Place | None = None,
        partition: int | None = None,
        follow: bool = False,
        stop: threading.Event | None = None,
    ) -> EmbeddedBatches:
        """Return the records from `start` to before `until` as Arrow record batches, with `for` or `async for`.

        Args:
            start, until: an offset (where there is one partition, or `partition` is given), an instant of append (a
                `datetime`; one without a time zone is in UTC), or an offset per partition. By default all there is.
            partition: only this one.
            follow: wait for more, until `stop` is set, it is closed, or `until` is reached.
            stop: ends it when it is set: a `WakingEvent` at once, any other within a fifth of a second.

        Raises:
            InputError: there is no such offset (any more), or no such partition.
        """
        return EmbeddedBatches(self, start, until, partition, follow, stop)

    def rows(
        self,
        *,
        start: Place | None = None,
        until: Place | None = None,
        partition: int | None = None,
        follow: bool = False,
        stop: threading.Event | None = None,
    ) -> EmbeddedRows:
        """Return the same records one by one, as dicts, with `for` or `async for`. Convenient, not quick."""
        return EmbeddedRows(
            self.batches(start=start, until=until, partition=partition, follow=follow, stop=stop)
        )

    def check_partition(self, partition: int) -> None:
        """Raise InputError if there is no such partition."""
        if not 0 <= partition < self._info.partitions:
            raise InputError(
                f"log {self._info.name!r} has no partition {partition}",
                expected=f"0 to {self._info.partitions - 1}",
                found=partition,
            )

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"log {self._info.name!r} is closed", hint="open it again")

    def close(self) -> None:
        """Make durable what is not yet, and let go of the files. Safe to call twice."""
        with self._mutex:
            self._is_closed = True
            writers = list(self._writers.values())
        for writer in writers:
            writer.close()

    def __enter__(self) -> EmbeddedLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<log {self._info.name} in {self.folder}{', closed' if self._is_closed else ''}>"


class EmbeddedBatches:
    """Iterates over the records of a log. For one thread or task at a time; `close` may come from any."""

    def __init__(
        self,
        log: EmbeddedLog,
        start: Place | None,
        until: Place | None,
        partition: int | None,
        follow: bool,
        stop: threading.Event | None,
    ) -> None:
        self._cursor = log.cursor(partition=partition)
        self._wake: Wake | None = None
        self._stop = stop
        self._is_closed = False
        self._is_waiting = False
        self._has_arrived = False  # at `until`
        self._from_us = instant_us(start) if isinstance(start, datetime) else None
        self._pending: list[Batch] = []
        self._reading = threading.Lock()
        try:
            self._seek(start)
            self._until, self._until_us = self._bounds(until)
            if follow:
                # Watched before it is read: an append in between is not missed.
                folders = [partition_folder(log.folder, each) for each in self._cursor.partitions]
                self._wake = Wake(folders, stop=stop)
        except BaseException:
            self._cursor.close()
            raise

    def _seek(self, start: Place | None) -> None:
        if isinstance(start, datetime):
            self._cursor.seek_time(instant_us(start))
        elif start is not None:
            self._cursor.seek(self._offsets(start))

    def _bounds(self, until: Place | None) -> tuple[Sequence[int] | None, int | None]:
        if isinstance(until, datetime):
            return None, instant_us(until)
        return (None if until is None else self._offsets(until)), None

    def _offsets(self, place: int | Sequence[int]) -> Sequence[int]:
        offsets = (place,) if isinstance(place, int) else tuple(place)
        count = len(self._cursor.partitions)
        if len(offsets) != count:
            raise InputError(
                f"log {self._cursor.info.name!r} has {count} partitions",
                expected=f"{count} offsets, one per partition, or a time, or one partition's number beside the offset",
                found=f"{len(offsets)} offset" + ("" if len(offsets) == 1 else "s"),
            )
        return offsets

    @property
    def positions(self) -> tuple[int, ...]:
        """Where it stands: the offset of the next record of each partition, to go on from another time."""
        places = dict(zip(self._cursor.partitions, self._cursor.positions, strict=True))
        for batch in reversed(self._pending):
            places[batch.partition] = batch.first_offset
        return tuple(places.values())

    def __iter__(self) -> Iterator[Batch]:
        while not self._has_ended():
            if self._fill():
                yield from self._drain()
            elif self._wake is None:
                return
            else:
                with self._waiting() as is_open:
                    if is_open:
                        self._wake.wait(_LOOK_S)

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while not self._has_ended():
            if await asyncio.to_thread(self._fill):
                for batch in self._drain():
                    yield batch
            elif self._wake is None:
                return
            else:
                with self._waiting() as is_open:
                    if is_open:
                        await _wait(self._wake)

    @contextmanager
    def _waiting(self) -> Iterator[bool]:
        """Keep the wake open for the block, if it is not closed yet; who is the last to use it closes it."""
        assert self._wake is not None
        with self._reading:
            self._is_waiting = not self._is_closed
        try:
            yield self._is_waiting
        finally:
            with self._reading:
                self._is_waiting = False
                if self._is_closed:
                    self._wake.close()

    def _has_ended(self) -> bool:
        return self._is_closed or self._has_arrived or (self._stop is not None and self._stop.is_set())

    def _fill(self) -> bool:
        """Read on; say whether something came. Ends the iteration when all bounds are reached."""
        with self._reading:
            if self._pending or self._is_closed:
                return bool(self._pending)
            pieces: list[Piece] = []
            # As of before it is read: what stands there then, and is not served, is at or after the bound.
            ends = () if self._until_us is None else self._cursor.end_offsets()
            while not self._pending and (
                pieces := self._cursor.read(
                    until=self._until, until_time_us=self._until_us, bytes_max=_READ_BYTES
                )
            ):
                self._pending = [_batch(piece) for piece in pieces if self._is_wanted(piece.frame)]
            self._has_arrived = not pieces and self._is_at_until(ends)
            return bool(self._pending)

    def _is_wanted(self, frame: Frame) -> bool:
        """Say whether it has records, none of them from before the instant to start at, which may have been to come."""
        return frame.batch.num_rows > 0 and (self._from_us is None or frame.append_time_us >= self._from_us)

    def _is_at_until(self, ends: Sequence[int]) -> bool:
        if self._until is not None:
            return all(at >= until for at, until in zip(self._cursor.positions, self._until, strict=True))
        # What is appended at or after the bound may have come: then nothing before it comes any more.
        return self._until_us is not None and all(
            at < end for at, end in zip(self._cursor.positions, ends, strict=True)
        )

    def _drain(self) -> Iterator[Batch]:
        while self._pending and not self._has_ended():
            yield self._pending.pop(0)

    def close(self) -> None:
        """Let go of the files; iterating ends. Safe to call twice, and from another thread."""
        self._is_closed = True
        if self._wake is not None:
            self._wake.notify()
        with self._reading:
            self._cursor.close()
            if self._wake is not None and not self._is_waiting:
                self._wake.close()

    def __enter__(self) -> EmbeddedBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class EmbeddedRows:
    """Iterates over the records of a log one by one, as dicts."""

    def __init__(self, batches: EmbeddedBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._batches:
            yield from batch.records.to_pylist()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        async for batch in self._batches:
            for row in batch.records.to_pylist():
                yield row

    def close(self) -> None:
        """Let go of the files; iterating ends. Safe to call twice, and from another thread."""
        self._batches.close()

    def __enter__(self) -> EmbeddedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._batches.__exit__()


def _batch(piece: Piece) -> Batch:
    partition, frame = piece
    return Batch(
        partition, frame.base_offset, frame.next_offset, frame.append_time_us, frame.batch, frame.offsets()
    )


def instant_us(instant: datetime) -> int:
    """Return microseconds since 1970-01-01 UTC; a time without a zone is in UTC."""
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


async def _wait(wake: Wake) -> None:
    """Wait until something was appended, without a thread."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    loop.add_reader(wake.fileno(), woken.set)
    try:
        await asyncio.wait_for(woken.wait(), _LOOK_S)
        wake.drain()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(wake.fileno())


def _appended(log: str, rows: int, parts: Sequence[tuple[int, Written, Any]]) -> Appended:
    """Put together what became of each partition's rows."""
    partitions, offsets = np.zeros(rows, np.int32), np.zeros(rows, np.int64)
    for number, written, rows_of in parts:
        places = slice(None) if rows_of is None else rows_of
        partitions[places] = number
        offsets[places] = np.arange(written.offsets.start, written.offsets.stop) if written.row_offsets is None else (
            written.row_offsets
        )  # fmt: skip
    return Appended(
        {number: written.offsets for number, written, _ in parts},
        bool(parts) and all(written.is_repeat for _, written, _ in parts),
        partitions,
        offsets,
        log,
    )
