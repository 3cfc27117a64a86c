"""Appending to one partition: an append is acknowledged when it is as durable as was asked for, and not before.

Invariants: one writer at a time writes (file lock, fencing number); after a failed append the file ends where it ended
before, or the next append mends that first. Appends that come while another is being written wait and are then written
together, by one of them for all (group commit): small ones become one frame, and all of them share one sync.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from bourne.errors import AppendInDoubt, BourneError, Closed, DefinitionError, InputError, LogLocked
from bourne.evolution import adapt, check_evolution
from bourne.limits import (
    EPOCH_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_ROWS_MAX,
    GROUP_FRAME_BYTES,
    LOCK_HOLD_S,
    LOCK_WAIT_EXCLUSIVE_S,
    LOCK_WAIT_S,
    META_BYTES_MAX,
    REQUEST_ID_CHARS_MAX,
    SEGMENT_BYTES_MAX,
    SMALL_APPEND_BYTES,
    SYNC_INTERVAL_S,
)
from bourne.log.catalog import Durability, LogInfo, partition_folder
from bourne.log.disk import disk_error, disk_errors
from bourne.log.format import (
    AHEAD,
    CONTINUED,
    HEADER_BYTES,
    KIND_RECORDS,
    KIND_SCHEMA,
    Body,
    Head,
    encode_meta,
    make_body,
    seal,
    sums_of,
)
from bourne.log.lock import WriterLock
from bourne.log.recovery import (
    after_frame,
    empty_head,
    needs_recovery,
    peaks_of,
    publish_head,
    read_head,
    recover,
)
from bourne.log.requests import RequestIds, Written
from bourne.log.segment import segment_path, segment_schema
from bourne.ports import Clock, Files
from bourne.schema import Schema

# A frame this large is written by a thread of its own while its hash is computed.
_OVERLAP_BYTES = 1 << 18

# So many large frames may wait to be written.
_PENDING_FRAMES_MAX = 4


class _Request:
    """One call, waiting to be written: an append, or with `table` None a wish to sync, to roll, or to close."""

    __slots__ = (
        "durability", "error", "id", "is_close", "is_done", "is_roll", "is_small", "meta", "size", "table", "wake",
        "written",
    )  # fmt: skip

    def __init__(
        self,
        table: pa.Table | None,
        durability: Durability,
        meta: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        is_close: bool = False,
        is_roll: bool = False,
    ) -> None:
        self.table = table
        self.size = _size_of(table) if table is not None else 0
        # Whether it may share a frame with its neighbours.
        self.is_small = table is not None and meta is None and self.size <= SMALL_APPEND_BYTES
        self.durability = durability
        self.meta = meta
        self.id = request_id
        self.is_close = is_close
        self.is_roll = is_roll
        self.is_done = False
        self.written = Written(range(0))
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.is_done = True


class _Frame(NamedTuple):
    """Records to be written as one frame."""

    batch: pa.RecordBatch
    meta: Mapping[str, Any] | None
    is_continued: bool


class LogWriter:
    """Appends to one partition. Safe to use from several threads and, unless exclusive, from several processes."""

    def __init__(
        self,
        log_folder: Path,
        info: LogInfo,
        *,
        files: Files,
        clock: Clock,
        partition: int = 0,
        segment_bytes: int = SEGMENT_BYTES_MAX,
        is_exclusive: bool = True,
        what: str | None = None,
    ) -> None:
        """Make the partition ready: a torn tail is cut (`cut_bytes` says how much).

        An exclusive writer keeps the lock until it is closed; others take it for each group of appends. `what` names
        what is written in the errors about the lock.

        Raises:
            LogLocked: another process is its writer.
            CorruptFrame: durable bytes are damaged.
            DefinitionError: the log on the disk has other columns.
            StorageError: the disk is full or refuses.
        """
        self.info = info
        self._files = files
        self._clock = clock
        self._partition = partition
        self._folder = partition_folder(log_folder, partition)
        self._log_folder = log_folder
        self._segment_bytes = segment_bytes
        self._is_exclusive = is_exclusive
        self._arrow = info.schema.to_arrow()
        self._schema = info.schema  # of the last segment
        self._descriptor: int | None = None
        self._head_descriptor: int | None = None
        self._head = empty_head(0)
        self._is_published = True
        self._is_stale = True  # what this object knows of the file is to be looked at again
        self._has_written = False
        self._is_closed = False
        self._ids: RequestIds | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._timer: threading.Timer | None = None
        self._queue: list[_Request] = []
        self._queue_mutex = threading.Lock()
        self._is_led = False
        self._taken_s = 0.0  # when the lock was taken
        self.cut_bytes = 0
        self._lock = WriterLock(self._folder / "lock", what=what or f"log {info.name!r} has another writer")
        try:
            with disk_errors(self._folder, f"cannot open log {info.name!r} for appending"):
                self._enter()
                self._leave()
        except BaseException:
            self._shut()
            raise

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets, as far as this writer knows."""
        return self._head.next_offset

    @property
    def head(self) -> Head:
        """The end of the log as this writer left it, with the hash of the last frame."""
        return self._head

    # --- calls -------------------------------------------------------------------------------------------

    def append(self, table: pa.Table | pa.RecordBatch, meta: Mapping[str, Any] | None = None) -> range:
        """Append all rows, in order; they are durable when this returns. O(bytes). Returns their offsets.

        With `meta` they are one frame, empty or not; otherwise as `write`.
        """
        return self.write(table, meta).offsets

    def write(
        self,
        table: pa.Table | pa.RecordBatch,
        meta: Mapping[str, Any] | None = None,
        *,
        durability: Durability | None = None,
        request_id: str | None = None,
    ) -> Written:
        """Append all rows, in order; they are as durable as asked for (by default as the log says) on return. O(bytes).

        A large table becomes several frames, seen by readers all at once, and kept all or none after a crash. If
        anything fails, nothing of this call is kept; if the disk does not even let it be taken back, the error says so.
        A call with the id of an earlier one writes nothing and returns the offsets of that one.

        Raises:
            InputError: another schema, a frame beyond the limit, a request id that was used for other data.
            DiskFull, StorageError: the disk refuses; what was there before is as it was.
            AppendInDoubt: the disk refuses even to take it back.
            LogLocked: another process holds the lock and does not give it back.
            Closed: the writer is closed.
        """
        found = table.schema
        if not found.equals(self._arrow) and (found.names, found.types) != (
            self._arrow.names,
            self._arrow.types,
        ):
            raise InputError(
                f"log {self.info.name!r} has another schema",
                expected=str(self._arrow).replace("\n", ", "),
                found=str(table.schema).replace("\n", ", "),
            )
        if request_id is not None and not 0 < len(request_id) <= REQUEST_ID_CHARS_MAX:
            raise InputError(
                "a request id has a length", expected=f"1 to {REQUEST_ID_CHARS_MAX} characters",
                found=f"{len(request_id)} characters",
            )  # fmt: skip
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if not table.num_rows and meta is None:
            self._check_open()
            return Written(range(self._head.next_offset, self._head.next_offset))
        return self._submit(_Request(table, durability or self.info.durability, meta, request_id))

    def sync(self) -> None:
        """Make durable what was acknowledged before, whatever its level.

        Raises: as `write`.
        """
        self._submit(_Request(None, "fsync"))

    def roll(self) -> None:
        """Begin a new segment, unless the last one has no records yet: retention works on those before it.

        Raises: as `write`.
        """
        self._submit(_Request(None, "fsync", is_roll=True))

    def close(self) -> None:
        """Make durable what is not yet, and give the lock back. Safe to call twice."""
        with contextlib.suppress(Closed):
            self._submit(_Request(None, "fsync", is_close=True))

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"the writer of log {self.info.name!r} is closed", hint="open it again")

    # --- group commit ------------------------------------------------------------------------------------

    def _submit(self, request: _Request) -> Written:
        """Queue a call. Who comes first writes for all that wait; when done, the next that waits does."""
        with self._queue_mutex:
            self._queue.append(request)
            is_leader = not self._is_led
            self._is_led = True
        if not is_leader:
            try:
                request.wake.acquire()
            except BaseException:
                self._withdraw(request)
                raise
        if not request.is_done:
            self._lead()
        if request.error is not None:
            raise request.error
        return request.written

    def _withdraw(self, request: _Request) -> None:
        """Take back a call whose thread was interrupted; if it had been told to lead meanwhile, pass that on."""
        with self._queue_mutex:
            is_waiting = request in self._queue
            if is_waiting:
                self._queue.remove(request)
            if is_waiting and not request.wake.locked():
                self._appoint()

    def _appoint(self) -> None:
        """Let the first that waits lead, if there is one. Under the queue's mutex.

        The lock is kept for that one, for a moment: other processes want to write, too.
        """
        if not self._queue or time.monotonic() >= self._taken_s + LOCK_HOLD_S:
            self._leave()
        if self._queue:
            self._queue[0].wake.release()
        else:
            self._is_led = False

    def _lead(self) -> None:
        with self._queue_mutex:
            group, self._queue = self._queue, []
        try:
            self._commit(group)
        except BaseException as error:
            self._is_stale = True
            for request in group:
                if not request.is_done:
                    request.finish(error if isinstance(error, BourneError) else self._in_doubt(error))
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, BourneError | OSError):
                raise
        finally:
            for request in group:
                if request.wake.locked():
                    request.wake.release()
            with self._queue_mutex:
                self._appoint()

    def _commit(self, group: list[_Request]) -> None:
        """Write a group under the lock, and say to each call what became of it."""
        if self._is_closed:
            closed = Closed(f"the writer of log {self.info.name!r} is closed", hint="open it again")
            for request in group:
                request.finish(None if request.is_close else closed)
            return
        closing = [request for request in group if request.is_close]
        try:
            try:
                self._enter()
            except (BourneError, OSError) as error:
                for request in group:
                    request.finish(None if request.is_close else self._mapped(error))
                return
            try:
                self._write_group([request for request in group if not request.is_close])
                if closing:
                    self._settle()
            except BaseException:
                self._leave()
                raise
        finally:
            if closing:
                self._shut()
                for request in closing:
                    request.finish(request.error)

    def _write_group(self, group: list[_Request]) -> None:
        """Write the calls of a group; where they fail together, each for itself."""
        if not group:
            return
        try:
            self._write(group)
        except LogLocked as error:
            self._is_stale = True  # not ours any more: not even to be taken back
            for request in group:
                request.finish(error)
        except (BourneError, OSError) as error:
            second = self._take_back()
            if second is None and len(group) > 1:
                for request in group:
                    self._write_group([request])
                return
            for request in group:
                request.finish(self._mapped(error) if second is None else self._in_doubt(error, second))
        else:
            for request in group:
                request.finish()

    def _settle(self) -> None:
        """Make everything durable, `head` too: the damage of a frame it names cannot be taken for a torn tail."""
        if not self._has_written:
            return
        with contextlib.suppress(OSError):
            self._make_durable()
            self._publish()
            assert self._head_descriptor is not None
            self._files.sync(self._head_descriptor)

    # --- the lock ----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Take the lock if it is not held, and take over what others have written meanwhile."""
        if not self._lock.is_held:
            has_changed = self._lock.take(LOCK_WAIT_EXCLUSIVE_S if self._is_exclusive else LOCK_WAIT_S)
            self._taken_s = time.monotonic()
        else:
            has_changed = False
            if self._is_exclusive:
                self._lock.check()  # kept from the group before, it was looked at when that was acknowledged
        try:
            if has_changed or self._head_descriptor is None:
                self._take_over()
            elif self._is_stale:
                self._mend()
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if not self._is_exclusive:
            self._lock.release()

    def _take_over(self) -> None:
        """Look where the log ends now, after others wrote, or a crash."""
        self._is_stale = True
        head = found = read_head(self._folder)
        is_first = self._head_descriptor is None
        if is_first or needs_recovery(self._folder, head, self._files.boot_id()):
            recovered = recover(
                self._folder,
                log=self.info.name,
                log_id=self.info.id,
                partition=self._partition,
                files=self._files,
            )
            head = recovered.head if recovered else None
            self.cut_bytes += recovered.cut_bytes if recovered else 0
        if self._head_descriptor is None:
            self._head_descriptor = self._files.open(self._folder / "head")
        was_empty = self._head.next_offset == self._head.segment
        before, self._head = self._head.segment, head or empty_head(self._lock.fence)
        self._lock.outrun(self._head.fence)
        if self._head.end == 0:
            self._drop_descriptor()
            self._schema = self.info.schema
            self._start_segment()
        elif self._descriptor is None or before != self._head.segment or was_empty:
            self._drop_descriptor()
            self._descriptor = self._files.open(segment_path(self._folder, self._head.segment))
            self._schema = self._schema_on_disk(self._descriptor)
        if self._head != found:
            self._publish()
        self._is_stale = False

    def _mend(self) -> None:
        """After a failure of our own: cut what was never published, as its caller was told that it failed."""
        published = read_head(self._folder)
        if published is None or published.segment != self._head.segment:
            self._take_over()
            return
        if published.next_offset >= self._head.next_offset and published.number >= self._head.number:
            self._head = published
        assert self._descriptor is not None
        self._files.truncate(self._descriptor, self._head.end)
        self._files.sync(self._descriptor)
        self._head = self._head._replace(durable_end=self._head.end)
        self._is_stale = False

    def _schema_on_disk(self, descriptor: int) -> Schema:
        """Return the schema of the last segment, if records of ours can be stored in or after it.

        Raises:
            DefinitionError: they cannot.
        """
        on_disk = segment_schema(descriptor)
        assert on_disk is not None  # recovery looked
        found = Schema.from_arrow(on_disk)
        if found != self.info.schema:
            where = str(self._folder)
            try:
                check_evolution(found, self.info.schema, where=where)
            except DefinitionError as error:
                try:
                    check_evolution(
                        self.info.schema, found, where=where
                    )  # the log is newer than our declaration
                except DefinitionError:
                    raise error from None
        return found

    def _is_evolving(self) -> bool:
        """Say whether the declared schema is newer than the last segment's."""
        if self._schema == self.info.schema:
            return False
        try:
            check_evolution(self._schema, self.info.schema, where="")
        except DefinitionError:
            return False
        return True

    # --- writing -----------------------------------------------------------------------------------------

    def _write(self, group: Sequence[_Request]) -> None:
        """Write the calls of a group in order, and publish them. Changes nothing in memory before that."""
        if not self._is_published:
            self._publish()
        appends = [request for request in group if request.table is not None]
        if appends and self._is_evolving():
            self._evolve()
        is_full = bool(appends) and self._head.end >= self._segment_bytes
        # A segment is named by its first offset, so one without records cannot be followed by another.
        if (
            is_full or any(request.is_roll for request in group)
        ) and self._head.next_offset > self._head.segment:
            self._start_segment()
        planned = self._plan(appends)
        is_synced = any(request.durability == "fsync" for request in group)
        head = self._write_frames(list(_grouped(planned, self._frames_of)), is_synced)
        if is_synced and head.durable_end < head.end:
            self._sync(self._descriptor)
            head = head._replace(durable_end=head.end)
        self._lock.check()
        self._head = head._replace(boot_id=self._files.boot_id())
        self._has_written = True
        for request, _, written in planned:
            request.written = written
        try:
            self._publish()
        except OSError:
            pass  # Written all the same: the next append publishes it first, and so does a recovery.
        if any(request.durability == "interval" for request in appends):
            self._sync_later()

    def _plan(self, appends: Sequence[_Request]) -> list[tuple[_Request, pa.Table, Written]]:
        """Say which rows of each call are to be written, and where; repeats are none."""
        planned = []
        offset = self._head.next_offset
        ids = self._request_ids(appends)
        for request in appends:
            assert request.table is not None
            table, written = request.table, None
            if ids is not None:
                table, written = ids.check(table, request.id, offset)
            if written is None:
                written = Written(range(offset, offset + table.num_rows))
            offset += table.num_rows
            planned.append((request, table, written))
        return planned

    def _request_ids(self, appends: Sequence[_Request]) -> RequestIds | None:
        """Return the ids that were used before, up to date; None if no call has one."""
        if self.info.request_id is None and all(request.id is None for request in appends):
            return None
        if self._ids is None:
            self._ids = RequestIds(self._log_folder, self.info, self._partition)
        self._ids.refresh()
        return self._ids

    def _frames_of(
        self, table: pa.Table, meta: Mapping[str, Any] | None, is_single: bool
    ) -> Iterator[_Frame]:
        """Cut a table into one record batch per frame; the first has the meta part."""
        table = self._adapted(table)
        if is_single:
            batches = table.combine_chunks().to_batches()
            if len(batches) > 1:
                raise InputError(
                    f"a frame of log {self.info.name!r} is too large", expected="at most 2 GiB in a column"
                )
            batches = batches or [pa.RecordBatch.from_pylist([], table.schema)]
        else:
            pieces = [
                table.slice(start, FRAME_ROWS_MAX) for start in range(0, table.num_rows, FRAME_ROWS_MAX)
            ]
            batches = [batch for piece in pieces for batch in _halved(piece)]
        for number, batch in enumerate(batches):
            yield _Frame(batch, meta if number == 0 else None, number + 1 < len(batches))

    def _adapted(self, table: pa.Table) -> pa.Table:
        """Return the table in the schema of the last segment, which may be newer than our declaration."""
        if self._schema == self.info.schema:
            return table
        table = pa.Table.from_arrays(table.columns, schema=self._arrow)  # with the types of its columns
        batches = [adapt(batch, self._schema) for batch in table.to_batches()]
        return pa.Table.from_batches(batches, self._schema.to_arrow())

    def _write_frames(self, frames: Sequence[_Frame], is_synced: bool) -> Head:
        """Write frames one after another; return the end of the log with them.

        The body of a large frame is written, and synced if the call asks for it, while its hash is computed: its
        header follows. All of it in the order of the frames.
        """
        assert self._descriptor is not None
        descriptor, head = self._descriptor, self._head
        pending: list[Future[None]] = []
        try:
            for frame in frames:
                body = self._body(frame)
                byte = head.end
                is_large = body.size >= _OVERLAP_BYTES
                if is_large:
                    pending.append(self._later(self._write_body, descriptor, body, byte, is_synced))
                raw, head = self._seal(KIND_RECORDS, body, frame, head)
                if is_large:
                    pending.append(self._later(self._files.write, descriptor, [memoryview(raw)], byte))
                    while len(pending) > 2 * _PENDING_FRAMES_MAX:
                        pending.pop(0).result()
                else:
                    while pending:
                        pending.pop(0).result()
                    self._files.write(descriptor, [memoryview(raw), *body.parts], byte)
        finally:
            errors = [future.exception() for future in pending]
        for error in errors:
            if error is not None:
                raise error
        return head

    def _later(self, call: Callable[..., None], *arguments: Any) -> Future[None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bourne-write")
        return self._pool.submit(call, *arguments)

    def _write_body(self, descriptor: int, body: Body, byte: int, is_synced: bool) -> None:
        self._files.write(descriptor, body.parts, byte + HEADER_BYTES)
        if is_synced:
            self._files.sync(descriptor)

    def _body(self, frame: _Frame) -> Body:
        """Return the body of a frame, or refuse one beyond the limits before anything of it is written."""
        bytes_max = FRAME_BYTES_MAX if frame.meta is None or "requests" in frame.meta else EPOCH_BYTES_MAX
        try:
            meta_size = len(encode_meta(frame.meta))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the meta part of a frame of log {self.info.name!r} is not JSON", found=str(error)
            ) from error
        payload = frame.batch.serialize()
        if payload.size + meta_size > bytes_max or meta_size > META_BYTES_MAX:
            raise InputError(
                f"a frame of log {self.info.name!r} is too large",
                expected=f"at most {bytes_max:,} bytes in a record, {META_BYTES_MAX:,} in its meta part",
                found=f"{payload.size:,} bytes in {frame.batch.num_rows} records, {meta_size:,} in the meta part",
                hint="store large objects elsewhere and append their address",
            )
        return make_body(payload, frame.meta)

    def _seal(self, kind: int, body: Body, frame: _Frame | None, head: Head) -> tuple[bytes, Head]:
        """Return a header, and where the log ends behind its frame."""
        flags = AHEAD if head.durable_end < head.end else 0
        if frame is not None and frame.is_continued:
            flags |= CONTINUED
        raw, header = seal(
            body,
            sums_of(body.parts),
            kind=kind,
            flags=flags,
            row_count=frame.batch.num_rows if frame is not None else 0,
            base_offset=head.next_offset,
            previous_hash=head.hash,
            history=head.forest.root(),
            number=head.number,
            append_time_us=max(self._clock.now_us(), head.append_time_us),
            log_id=self.info.id,
            partition=self._partition,
            fence=self._lock.fence,
        )
        return raw, after_frame(head, head.end, header)

    def _evolve(self) -> None:
        """Go on under the declared schema: in a new segment, or in this one while it has no records."""
        if self._head.next_offset > self._head.segment:
            self._start_segment()
            return
        assert self._descriptor is not None
        self._make_durable()
        raw, head = self._seal(
            KIND_SCHEMA, make_body(self._arrow.serialize(), peaks_of(self._head)), None, self._head
        )
        body = make_body(self._arrow.serialize(), peaks_of(self._head))
        self._files.write(self._descriptor, [memoryview(raw), *body.parts], self._head.end)
        self._sync(self._descriptor)
        self._head = head._replace(durable_end=head.end)
        self._schema = self.info.schema

    def _start_segment(self) -> None:
        """Begin a new file with the schema; durable, with its name in the folder, before it is used."""
        if self._descriptor is not None:
            self._make_durable()
        schema = self.info.schema if self._is_evolving() else self._schema
        base = self._head.next_offset
        before = self._head._replace(segment=base, end=0, durable_end=0, last=0)
        descriptor = self._files.open(segment_path(self._folder, base))
        try:
            body = make_body(schema.to_arrow().serialize(), peaks_of(before))
            raw, head = self._seal(KIND_SCHEMA, body, None, before)
            self._files.truncate(descriptor, 0)
            self._files.write(descriptor, [memoryview(raw), *body.parts], 0)
            self._sync(descriptor)
            self._files.sync_folder(self._folder)
        except BaseException:
            # Not published: a retry begins it anew, and the next writer takes it over or removes it.
            self._files.close(descriptor)
            raise
        self._drop_descriptor()
        self._descriptor = descriptor
        self._schema = schema
        self._head = head._replace(durable_end=head.end, boot_id=self._files.boot_id())

    def _make_durable(self) -> None:
        if self._head.durable_end < self._head.end:
            self._sync(self._descriptor)
            self._head = self._head._replace(durable_end=self._head.end)

    def _publish(self) -> None:
        assert self._head_descriptor is not None
        self._is_published = False
        publish_head(self._files, self._head_descriptor, self._head)
        self._is_published = True

    def _sync(self, descriptor: int | None) -> None:
        assert descriptor is not None
        self._files.sync(descriptor)

    def _sync_later(self) -> None:
        """Sync after the interval; appends until then share it."""
        if self._timer is None:
            self._timer = threading.Timer(SYNC_INTERVAL_S, self._sync_now)
            self._timer.daemon = True
            self._timer.start()

    def _sync_now(self) -> None:
        self._timer = None
        # A failure is not lost: what could not be synced is not called durable, and the next sync says why.
        with contextlib.suppress(BourneError):
            self.sync()

    # --- failing and ending ------------------------------------------------------------------------------

    def _take_back(self) -> OSError | None:
        """Cut the file, durably, to where it was acknowledged; return the error if that fails, too.

        What cannot be taken back now is when the lock is next held: by us, who cut it, or by another process, whose
        recovery keeps what is whole.
        """
        self._is_stale = True
        try:
            assert self._descriptor is not None
            self._files.truncate(self._descriptor, self._head.end)
            self._files.sync(self._descriptor)
        except OSError as second:
            return second
        self._head = self._head._replace(durable_end=self._head.end)
        self._is_stale = False
        return None

    def _mapped(self, error: BourneError | OSError) -> BourneError:
        what = f"cannot append to log {self.info.name!r}"
        return disk_error(error, self._folder, what) if isinstance(error, OSError) else error

    def _in_doubt(self, error: BaseException, second: OSError | None = None) -> AppendInDoubt:
        return AppendInDoubt(
            f"cannot append to log {self.info.name!r}, nor take back what was written of it",
            where=str(self._folder),
            found=f"{error or type(error).__name__}" + (f"; then {second}" if second else ""),
            hint="mend the disk, then append again with the same request_id: it is stored once",
        )

    def _drop_descriptor(self) -> None:
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None

    def _shut(self) -> None:
        """Let go of everything."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pool is not None:
            self._pool.shutdown()
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.close)
            if self._ids is not None:
                stack.callback(self._ids.close)
            for descriptor in (self._descriptor, self._head_descriptor):
                if descriptor is not None:
                    stack.callback(self._files.close, descriptor)
            self._descriptor = self._head_descriptor = None

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size_of(table: pa.Table) -> int:
    """Return how many bytes a table has; quickly, where they are so few that it does not matter."""
    held = int(table.get_total_buffer_size())  # more, if it is a slice of a larger one
    return held if held <= SMALL_APPEND_BYTES else int(table.nbytes)


def _grouped(
    planned: Sequence[tuple[_Request, pa.Table, Written]],
    cut: Callable[[pa.Table, Mapping[str, Any] | None, bool], Iterator[_Frame]],
) -> Iterator[_Frame]:
    """Yield the frames of the calls: small neighbours share one."""
    together: list[tuple[_Request, pa.Table, Written]] = []
    size = 0
    for each in planned:
        request, table, _ = each
        if request.is_small and size < GROUP_FRAME_BYTES:
            together.append(each)
            size += request.size
            continue
        yield from _together(together, cut)
        together, size = ([each], request.size) if request.is_small else ([], 0)
        if not request.is_small and (table.num_rows or request.meta is not None):
            meta = request.meta if request.meta is not None else _ids_of([each])
            yield from cut(table, meta, request.meta is not None)
    yield from _together(together, cut)


def _together(
    calls: Sequence[tuple[_Request, pa.Table, Written]],
    cut: Callable[[pa.Table, Mapping[str, Any] | None, bool], Iterator[_Frame]],
) -> Iterator[_Frame]:
    tables = [table for _, table, _ in calls if table.num_rows]
    if tables:
        schema = tables[0].schema
        alike = [
            table if table.schema.equals(schema) else pa.Table.from_arrays(table.columns, schema=schema)
            for table in tables
        ]
        yield from cut(alike[0] if len(alike) == 1 else pa.concat_tables(alike), _ids_of(calls), False)


def _ids_of(calls: Sequence[tuple[_Request, pa.Table, Written]]) -> Mapping[str, Any] | None:
    """Return the meta part that remembers the request ids of these calls; None if there are none."""
    ids = [
        [request.id, written.offsets.start, len(written.offsets)]
        for request, _, written in calls
        if request.id is not None and not written.is_repeat
    ]
    return {"requests": ids} if ids else None


def _halved(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table in record batches that fit a frame; a record that does not fit alone comes alone."""
    if table.num_rows > 1 and table.nbytes > FRAME_BYTES_MAX // 2:
        middle = table.num_rows // 2
        yield from _halved(table.slice(0, middle))
        yield from _halved(table.slice(middle))
    else:
        yield from table.combine_chunks().to_batches()
