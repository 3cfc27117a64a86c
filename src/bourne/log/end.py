"""The end of a partition, where records are written: under the lock, in frames, published when they are as durable as
was asked for.

Invariants: nothing is acknowledged by a holder that has lost the lock; after a failed write the file ends where it ended
before, or the next one mends that first. For one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import CorruptFrame, DefinitionError, InputError
from bourne.evolution import adapt, check_evolution
from bourne.limits import (
    EPOCH_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_ROWS_MAX,
    LOCK_WAIT_EXCLUSIVE_S,
    LOCK_WAIT_S,
    META_BYTES_MAX,
)
from bourne.log.calls import Call, NewFrame, Planned, grouped, halved
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.format import (
    AHEAD,
    CONTINUED,
    HEADER_BYTES,
    KIND_RECORDS,
    KIND_SCHEMA,
    Body,
    Head,
    Sums,
    crc_of,
    decode_header,
    encode_meta,
    make_body,
    root_of_body,
    seal,
    sums_of,
)
from bourne.log.lock import WriterLock
from bourne.log.marks import read_marks, to_meta
from bourne.log.recovery import (
    after_frame,
    empty_head,
    needs_recovery,
    peaks_of,
    publish_head,
    read_head,
    recover,
    write_again,
)
from bourne.log.requests import RequestIds, Written
from bourne.log.segment import governing_schema, segment_path
from bourne.ports import Clock, Files
from bourne.schema import Schema

# A frame this large is written by a thread of its own while its hash is computed.
_OVERLAP_BYTES = 1 << 18

# So many large frames may wait to be written.
_PENDING_FRAMES_MAX = 4


class PartitionEnd:
    """Writes at the end of one partition. `head` is where that is."""

    def __init__(
        self, log_folder: Path, info: LogInfo, partition: int, *, files: Files, clock: Clock, segment_bytes: int,
        is_exclusive: bool, what: str | None,
    ) -> None:  # fmt: skip
        """Nothing is opened before `enter`. An exclusive holder keeps the lock until `close`."""
        self.info = info
        self.folder = partition_folder(log_folder, partition)
        self.head = empty_head(0)
        self.cut_bytes = 0
        self.taken_s = 0.0  # when the lock was taken
        self._files = files
        self._clock = clock
        self._partition = partition
        self._log_folder = log_folder
        self._segment_bytes = segment_bytes
        self._is_exclusive = is_exclusive
        self._arrow = info.schema.to_arrow()
        self._schema = info.schema  # of the last segment
        self._schema_number = 0  # of the frame that says so
        self._descriptor: int | None = None
        self._head_descriptor: int | None = None
        self._unfinished: Path | None = None  # a segment that could not be begun
        self._published: Head | None = self.head  # None: the last try failed
        self._is_stale = True  # what this object knows of the file is to be looked at again
        self._has_written = False
        self._ids: RequestIds | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._summing: ThreadPoolExecutor | None = None
        self._lock = WriterLock(self.folder / "lock", what=what or f"log {info.name!r} has another writer")

    @property
    def is_behind(self) -> bool:
        """Say whether something was acknowledged here that is not durable yet."""
        return self._has_written and self.head.durable_end < self.head.end

    # --- the lock ----------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Take the lock if it is not held, and take over what others have written meanwhile."""
        if not self._lock.is_held:
            has_changed = self._lock.take(LOCK_WAIT_EXCLUSIVE_S if self._is_exclusive else LOCK_WAIT_S)
            self.taken_s = time.monotonic()
        else:
            has_changed = False
        try:
            if not has_changed and (self._is_exclusive or self._is_stale):
                # Else it is kept since the group before, and was looked at when that was acknowledged.
                self._lock.check()
            if has_changed or self._head_descriptor is None:
                self._take_over()
            elif self._is_stale:
                self._mend()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Give the lock back, unless it is kept until `close`. Safe to call twice."""
        if not self._is_exclusive:
            self._lock.release()

    def doubt(self) -> None:
        """Something went wrong on the way: look at the file again before the next write."""
        self._is_stale = True

    def _take_over(self) -> None:
        """Look where the log ends now, after others wrote, or a crash."""
        self._is_stale = True
        self._unfinished = None  # recovery takes it over, or removes it
        head = found = read_head(self.folder)
        is_first = self._head_descriptor is None
        if is_first or needs_recovery(self.folder, head, self._files.boot_id()):
            recovered = recover(
                self.folder,
                log=self.info.name,
                log_id=self.info.id,
                partition=self._partition,
                files=self._files,
            )
            head = recovered.head if recovered else None
            self.cut_bytes += recovered.cut_bytes if recovered else 0
        if self._head_descriptor is None:
            self._head_descriptor = self._files.open(self.folder / "head")
        was_empty = self.head.next_offset == self.head.segment
        before, self.head = self.head.segment, head or empty_head(self._lock.fence)
        self._lock.outrun(self.head.fence)
        if self.head.end == 0:
            self._drop_descriptor()
            self._schema = self.info.schema
            self._start_segment()
        elif self._descriptor is None or before != self.head.segment or was_empty:
            self._drop_descriptor()
            self._descriptor = self._files.open(segment_path(self.folder, self.head.segment))
            self._schema = self._schema_on_disk(self._descriptor)
        self._published = found or self._published
        if self.head != found:
            self._publish()
        self._is_stale = False

    def _mend(self) -> None:
        """After a failure of our own: cut what was never published, as its caller was told that it failed."""
        published = read_head(self.folder)
        if published is None or published.segment != self.head.segment:
            self._take_over()
            return
        if published.next_offset >= self.head.next_offset and published.number >= self.head.number:
            self.head = published
        self._cut()

    def _schema_on_disk(self, descriptor: int) -> Schema:
        """Return the schema of the last segment, if records of ours can be stored in or after it.

        Raises:
            DefinitionError: they cannot.
        """
        last = decode_header(os.pread(descriptor, HEADER_BYTES, self.head.last))
        assert last is not None  # recovery looked
        self._schema_number = last.schema_number
        on_disk = governing_schema(descriptor, last.schema_number)
        if on_disk is None:
            raise CorruptFrame(
                "the schema of its last frame is not there", log=self.info.name, partition=self._partition,
                file=segment_path(self.folder, self.head.segment).name, byte=0, offset=self.head.segment,
            )  # fmt: skip
        found = Schema.from_arrow(on_disk)
        if found != self.info.schema:
            where = str(self.folder)
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
        if _folded(self._schema) == _folded(self.info.schema):
            return (
                False  # in another spelling at most: two processes that differ in it would change it for ever
            )
        try:
            check_evolution(self._schema, self.info.schema, where="")
        except DefinitionError:
            return False
        return True

    # --- writing -----------------------------------------------------------------------------------------

    def write(self, group: Sequence[Call]) -> None:
        """Write the calls of a group in order, and publish them. Changes nothing in memory before that."""
        if self._published is None:
            self._publish()
        appends = [request for request in group if request.table is not None]
        if appends and self._is_evolving():
            self._evolve()
        is_full = bool(appends) and self.head.end >= self._segment_bytes
        # A segment is named by its first offset, so one without records cannot be followed by another.
        if (
            is_full or any(request.is_roll for request in group)
        ) and self.head.next_offset > self.head.segment:
            self._start_segment()
        planned = self._plan(appends)
        is_synced = any(request.durability == "fsync" for request in group)
        head = self._write_frames(list(grouped(planned, self._frames_of)), is_synced)
        if is_synced and head.durable_end < head.end:
            self._sync(self._descriptor)
            head = head._replace(durable_end=head.end)
        self._lock.check()
        self.head = head._replace(boot_id=self._files.boot_id())
        self._has_written = True
        for request, _, written in planned:
            request.written = written
        try:
            if self.head != self._published:
                self._publish()
        except OSError:
            pass  # Written all the same: the next append publishes it first, and so does a recovery.

    def _plan(self, appends: Sequence[Call]) -> list[Planned]:
        """Say which rows of each call are to be written, and where; repeats are none."""
        planned = []
        offset = self.head.next_offset
        ids = self._request_ids(appends)
        for request in appends:
            assert request.table is not None
            table, written = request.table, None
            if ids is not None:
                table, written = ids.check(table, request.id, offset, request.hash)
            if written is None:
                written = Written(range(offset, offset + table.num_rows))
            offset += table.num_rows
            planned.append(Planned(request, table, written))
        return planned

    def _request_ids(self, appends: Sequence[Call]) -> RequestIds | None:
        """Return the ids that were used before, up to date; None if no call has one."""
        if self.info.request_id is None and all(request.id is None for request in appends):
            return None
        if self._ids is None:
            self._ids = RequestIds(self._log_folder, self.info, self._partition)
        self._ids.refresh()
        return self._ids

    def _frames_of(
        self, table: pa.Table, meta: Mapping[str, Any] | None, is_single: bool
    ) -> Iterator[NewFrame]:
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
            batches = [batch for piece in pieces for batch in halved(piece)]
        for number, batch in enumerate(batches):
            yield NewFrame(batch, meta if number == 0 else None, number + 1 < len(batches))

    def _adapted(self, table: pa.Table) -> pa.Table:
        """Return the table in the schema of the last segment, which may be newer than our declaration."""
        if self._schema == self.info.schema:
            return table
        table = pa.Table.from_arrays(table.columns, schema=self._arrow)  # with the types of its columns
        batches = [adapt(batch, self._schema) for batch in table.to_batches()]
        return pa.Table.from_batches(batches, self._schema.to_arrow())

    def _write_frames(self, frames: Sequence[NewFrame], is_synced: bool) -> Head:
        """Write frames one after another; return the end of the log with them.

        The body of a large frame is written, and synced if the call asks for it, while its hash is computed: its
        header follows. All of it in the order of the frames.
        """
        assert self._descriptor is not None
        descriptor, head = self._descriptor, self.head
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

    def _body(self, frame: NewFrame) -> Body:
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

    def _seal(self, kind: int, body: Body, frame: NewFrame | None, head: Head) -> tuple[bytes, Head]:
        """Return a header, and where the log ends behind its frame."""
        flags = AHEAD if head.durable_end < head.end else 0
        if frame is not None and frame.is_continued:
            flags |= CONTINUED
        raw, header = seal(
            body,
            self._sums(body),
            kind=kind,
            flags=flags,
            row_count=frame.batch.num_rows if frame is not None else 0,
            base_offset=head.next_offset,
            previous_hash=head.hash,
            history=head.forest.root(),
            number=head.number,
            schema_number=head.number if kind == KIND_SCHEMA else self._schema_number,
            append_time_us=max(self._clock.now_us(), head.append_time_us),
            log_id=self.info.id,
            partition=self._partition,
            fence=self._lock.fence,
        )
        return raw, after_frame(head, head.end, header)

    def _sums(self, body: Body) -> Sums:
        """Return the sums of a body; of a large one, both at once."""
        if body.size < _OVERLAP_BYTES:
            return sums_of(body.parts)
        if self._summing is None:
            self._summing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bourne-sum")
        crc = self._summing.submit(crc_of, body.parts)
        root = root_of_body(body.parts)
        return Sums(crc.result(), root)

    def _evolve(self) -> None:
        """Go on under the declared schema: in a new segment, or in this one while it has no records."""
        if self.head.next_offset > self.head.segment:
            self._start_segment()
            return
        assert self._descriptor is not None
        self._make_durable()
        body = make_body(self._arrow.serialize(), {**peaks_of(self.head), **self._marks()})
        raw, head = self._seal(KIND_SCHEMA, body, None, self.head)
        self._files.write(self._descriptor, [memoryview(raw), *body.parts], self.head.end)
        self._sync(self._descriptor)
        self._schema, self._schema_number = self.info.schema, self.head.number
        self.head = head._replace(durable_end=head.end)

    def _start_segment(self) -> None:
        """Begin a new file with the schema; durable, with its name in the folder, before it is used."""
        if self._descriptor is not None:
            self._make_durable()
        schema = self.info.schema if self._is_evolving() else self._schema
        base = self.head.next_offset
        before = self.head._replace(segment=base, end=0, durable_end=0, last=0)
        descriptor = self._files.open(segment_path(self.folder, base))
        try:
            body = make_body(schema.to_arrow().serialize(), {**peaks_of(before), **self._marks()})
            raw, head = self._seal(KIND_SCHEMA, body, None, before)
            self._files.truncate(descriptor, 0)
            self._files.write(descriptor, [memoryview(raw), *body.parts], 0)
            self._sync(descriptor)
            self._files.sync_folder(self.folder)
        except BaseException:
            self._unfinished = segment_path(self.folder, base)
            self._files.close(descriptor)
            raise
        self._unfinished = None
        self._drop_descriptor()
        self._descriptor = descriptor
        self._schema, self._schema_number = schema, before.number
        self.head = head._replace(durable_end=head.end, boot_id=self._files.boot_id())

    def _marks(self) -> dict[str, Any]:
        """Return how far sources have come, for the start of a segment."""
        if self.head.end == 0:
            return {}
        return to_meta(read_marks(self.folder, log=self.info.name, partition=self._partition, head=self.head))

    def _make_durable(self) -> None:
        if self.head.durable_end < self.head.end:
            self._sync(self._descriptor)
            self.head = self.head._replace(durable_end=self.head.end)

    def _publish(self) -> None:
        assert self._head_descriptor is not None
        self._published = None
        publish_head(self._files, self._head_descriptor, self.head)
        self._published = self.head

    def _sync(self, descriptor: int | None) -> None:
        assert descriptor is not None
        self._files.sync(descriptor)

    # --- failing and ending ------------------------------------------------------------------------------

    def take_back(self) -> OSError | None:
        """Cut the file, durably, to where it was acknowledged; return the error if that fails, too.

        What cannot be taken back now is when the lock is next held: by us, who cut it, or by another process, whose
        recovery keeps what is whole.
        """
        self._is_stale = True
        try:
            self._cut()
        except OSError as second:
            return second
        return None

    def _cut(self) -> None:
        """Cut the file to where it was acknowledged, and make that durable: a sync may have failed before."""
        assert self._descriptor is not None
        if self._unfinished is not None:  # if the last segment goes on instead, its name would be in the way
            self._files.remove(self._unfinished)
            self._files.sync_folder(self.folder)
            self._unfinished = None
        self._files.truncate(self._descriptor, self.head.end)
        write_again(self._files, self._descriptor, self.head.durable_end, self.head.end)
        self._files.sync(self._descriptor)
        self.head = self.head._replace(durable_end=self.head.end)
        self._is_stale = False

    def settle(self) -> None:
        """Make everything durable, `head` too: the damage of a frame it names cannot be taken for a torn tail.

        Raises:
            OSError: what was acknowledged with less than `fsync` could not be made durable.
        """
        if not self._has_written:
            return
        self._make_durable()
        with contextlib.suppress(OSError):  # readers and recoveries can do without
            self._publish()
            assert self._head_descriptor is not None
            self._files.sync(self._head_descriptor)

    def _drop_descriptor(self) -> None:
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None

    def close(self) -> None:
        """Let go of everything."""
        for pool in (self._pool, self._summing):
            if pool is not None:
                pool.shutdown()
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.close)
            if self._ids is not None:
                stack.callback(self._ids.close)
            for descriptor in (self._descriptor, self._head_descriptor):
                if descriptor is not None:
                    stack.callback(self._files.close, descriptor)
            self._descriptor = self._head_descriptor = None


def _folded(schema: Schema) -> list[tuple[str, str, bool]]:
    return [(column.name.casefold(), column.type, column.nullable) for column in schema.columns]
