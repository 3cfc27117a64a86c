"""Appending to one partition: a frame is acknowledged when it is durable, and not before.

Invariants: at most one `LogWriter` per partition exists (file lock); a frame is durable before the next one is
written; after a failed append the file ends, durably, where it ended before, or the writer refuses everything
until it is opened anew.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import BourneError, Closed, DefinitionError, InputError, StorageError
from bourne.limits import EPOCH_BYTES_MAX, FRAME_BYTES_MAX, FRAME_ROWS_MAX, META_BYTES_MAX, SEGMENT_BYTES_MAX
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.disk import disk_error, disk_errors
from bourne.log.format import KIND_RECORDS, KIND_SCHEMA, NO_HASH, Encoded, Head, encode, encode_meta
from bourne.log.lock import WriterLock
from bourne.log.recovery import publish_head, recover
from bourne.log.segment import segment_path, segment_schema
from bourne.ports import Clock, Files
from bourne.schema import Schema


class LogWriter:
    """The one writer of one partition. Safe to use from several threads: calls wait for each other."""

    def __init__(
        self,
        log_folder: Path,
        info: LogInfo,
        *,
        files: Files,
        clock: Clock,
        partition: int = 0,
        segment_bytes: int = SEGMENT_BYTES_MAX,
    ) -> None:
        """Take the lock and make the partition ready: a torn tail is cut (`cut_bytes` says how much).

        Raises:
            LogLocked: another process is its writer.
            CorruptFrame: acknowledged bytes are damaged.
            DefinitionError: the log on the disk has other columns.
            StorageError: the disk is full or refuses.
        """
        self.info = info
        self._files = files
        self._clock = clock
        self._partition = partition
        self._folder = partition_folder(log_folder, partition)
        self._segment_bytes = segment_bytes
        self._schema = info.schema.to_arrow()
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._head_descriptor: int | None = None
        self._broken: str | None = None
        self._is_published = True
        self.cut_bytes = 0
        with disk_errors(self._folder, f"cannot open log {info.name!r} for appending"):
            self._lock = WriterLock.acquire(
                self._folder / "lock", what=f"log {info.name!r} has another writer"
            )
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        recovered = recover(self._folder, log=self.info.name, partition=self._partition, files=self._files)
        self._head_descriptor = self._files.open(self._folder / "head")
        if recovered is None:
            self._head = Head(0, 0, 0, 0, self._lock.fence, NO_HASH)
            self._start_segment()
        else:
            self._head = recovered.head
            self.cut_bytes = recovered.cut_bytes
            self._lock.outrun(self._head.fence)
            if self._head.end == 0:
                self._start_segment()
            else:
                self._descriptor = self._files.open(segment_path(self._folder, self._head.segment))
                self._check_schema(self._descriptor)
        self._publish()

    def _check_schema(self, descriptor: int) -> None:
        """Refuse to append records that the segment's schema frame would make a reader misread."""
        on_disk = segment_schema(descriptor)
        assert on_disk is not None  # recovery looked
        found = Schema.from_arrow(on_disk)
        if found != self.info.schema:
            raise DefinitionError(
                f"log {self.info.name!r} has other columns on the disk",
                where=str(self._folder),
                expected=", ".join(f"{column.name} {column.type}" for column in self.info.schema.columns),
                found=", ".join(f"{column.name} {column.type}" for column in found.columns),
                hint="declare it as it is, or append to a new log",
            )

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        return self._head.next_offset

    @property
    def head(self) -> Head:
        """The durable end, with the hash of the last frame."""
        return self._head

    def append(self, table: pa.Table | pa.RecordBatch, meta: Mapping[str, Any] | None = None) -> range:
        """Append all rows, in order; they are durable when this returns. O(bytes).

        A large table becomes several frames, seen by readers all at once; with `meta` it is one frame, empty
        or not. If anything fails, nothing of this call is kept; if the disk does not even let it be taken
        back, the error says so. After a crash in the middle the first frames may be there.

        Returns: the records' offsets.

        Raises:
            InputError: another schema, or a frame beyond the limit.
            DiskFull, StorageError: the disk refuses; what was there before is as it was.
            Closed: the writer is closed, or an earlier failure left the file in doubt.
        """
        with self._mutex:
            if self._descriptor is None:
                raise Closed(f"the writer of log {self.info.name!r} is closed", hint="open it again")
            if self._broken:
                raise Closed(
                    f"log {self.info.name!r} takes no more appends after a failed write",
                    found=self._broken,
                    hint="mend the disk, then open the log again: what was acknowledged is there",
                )
            if not table.schema.equals(self._schema):
                raise InputError(
                    f"log {self.info.name!r} has another schema",
                    expected=str(self._schema).replace("\n", ", "),
                    found=str(table.schema).replace("\n", ", "),
                )
            first = self._head.next_offset
            if table.num_rows or meta is not None:
                self._append_frames(self._batches(table, meta is not None), meta)
            return range(first, self._head.next_offset)

    def _batches(self, table: pa.Table | pa.RecordBatch, single: bool) -> list[pa.RecordBatch]:
        """Cut a table into one record batch per frame."""
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if single:
            whole = table.combine_chunks().to_batches()
            if len(whole) > 1:
                raise InputError(
                    f"a frame of log {self.info.name!r} is too large", expected="at most 2 GiB in a column"
                )
            return whole or [pa.RecordBatch.from_pylist([], self._schema)]
        pieces = [table.slice(start, FRAME_ROWS_MAX) for start in range(0, table.num_rows, FRAME_ROWS_MAX)]
        return [batch for piece in pieces for batch in _halved(piece)]

    def _append_frames(self, batches: Sequence[pa.RecordBatch], meta: Mapping[str, Any] | None) -> None:
        try:
            if not self._is_published:
                self._publish()
            # A segment is named by its first offset, so one without records cannot be followed by another.
            if self._head.end >= self._segment_bytes and self._head.next_offset > self._head.segment:
                self._start_segment()
            assert self._descriptor is not None
            head = self._head
            for batch in batches:
                frame = self._encode_records(batch, head, meta)
                self._files.write(self._descriptor, frame.parts, head.end)
                self._sync(self._descriptor)
                head = _after(head, frame)
            self._head = head
        except Exception as error:
            is_gone = self._take_back(error)
            if not isinstance(error, OSError):
                raise
            raise self._append_error(error, is_gone) from error
        except BaseException:
            self._broken = "interrupted"
            raise
        try:
            self._publish()
        except OSError:
            pass  # Durable all the same: the next append publishes it first, and so does a recovery.

    def _publish(self) -> None:
        assert self._head_descriptor is not None
        self._is_published = False
        publish_head(self._files, self._head_descriptor, self._head)
        self._is_published = True

    def _sync(self, descriptor: int) -> None:
        try:
            self._files.sync(descriptor)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: nothing can be known of them.
            self._broken = f"sync failed: {error}"
            raise

    def _take_back(self, error: Exception) -> bool:
        """Cut the file, durably, to where it was acknowledged; if even that fails, take no more appends."""
        assert self._descriptor is not None
        try:
            self._files.truncate(self._descriptor, self._head.end)
            self._files.sync(self._descriptor)
        except OSError as second:
            self._broken = f"{error}; then {second}"
            return False
        return True

    def _append_error(self, error: OSError, is_gone: bool) -> BourneError:
        what = f"cannot append to log {self.info.name!r}"
        if is_gone:
            return disk_error(error, self._folder, what)
        return StorageError(
            f"{what}, nor take back what was written of it",
            where=str(self._folder),
            found=self._broken,
            hint="mend the disk, then open the log again: whether this call was stored shows then",
        )

    def _encode_records(self, batch: pa.RecordBatch, head: Head, meta: Mapping[str, Any] | None) -> Encoded:
        """Return the frame of a batch, or refuse one beyond the limits before anything is written."""
        bytes_max = FRAME_BYTES_MAX if meta is None else EPOCH_BYTES_MAX
        try:
            meta_size = len(encode_meta(meta))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the meta part of a frame of log {self.info.name!r} is not JSON", found=str(error)
            ) from error
        payload = batch.serialize()
        if payload.size + meta_size > bytes_max or meta_size > META_BYTES_MAX:
            raise InputError(
                f"a frame of log {self.info.name!r} is too large",
                expected=f"at most {bytes_max:,} bytes in a record, {META_BYTES_MAX:,} in its meta part",
                found=f"{payload.size:,} bytes in {batch.num_rows} records, {meta_size:,} in the meta part",
                hint="store large objects elsewhere and append their address",
            )
        return self._encode(KIND_RECORDS, payload, batch.num_rows, head, meta)

    def _encode(
        self, kind: int, payload: pa.Buffer, row_count: int, head: Head, meta: Mapping[str, Any] | None = None
    ) -> Encoded:
        return encode(
            payload,
            kind=kind,
            row_count=row_count,
            base_offset=head.next_offset,
            previous_hash=head.hash,
            append_time_us=self._clock.now_us(),
            partition=self._partition,
            fence=self._lock.fence,
            meta=meta,
        )

    def _start_segment(self) -> None:
        """Begin a new file with the schema; durable, with its name in the folder, before it is used."""
        base = self._head.next_offset
        head = Head(base, 0, 0, base, self._lock.fence, self._head.hash)
        descriptor = self._files.open(segment_path(self._folder, base))
        try:
            frame = self._encode(KIND_SCHEMA, self._schema.serialize(), 0, head)
            self._files.truncate(descriptor, 0)
            self._files.write(descriptor, frame.parts, 0)
            self._sync(descriptor)
            self._files.sync_folder(self._folder)
        except BaseException:
            # Not published: a retry begins it anew, and the next writer takes it over or removes it.
            self._files.close(descriptor)
            raise
        if self._descriptor is not None:
            self._files.close(self._descriptor)
        self._descriptor = descriptor
        self._head = _after(head, frame)

    def close(self) -> None:
        """Give the lock back. Safe to call twice; everything appended is durable already."""
        with self._mutex, contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            for descriptor in (self._descriptor, self._head_descriptor):
                if descriptor is not None:
                    stack.callback(self._files.close, descriptor)
            if not self._is_published and self._descriptor is not None:
                with contextlib.suppress(OSError):
                    self._publish()
            self._descriptor = self._head_descriptor = None

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _after(head: Head, frame: Encoded) -> Head:
    header = frame.header
    return Head(
        head.segment, head.end + header.frame_bytes, head.end, header.next_offset, header.fence, header.hash
    )


def _halved(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table in record batches that fit a frame; a record that does not fit alone comes alone."""
    if table.num_rows > 1 and table.nbytes > FRAME_BYTES_MAX // 2:
        middle = table.num_rows // 2
        yield from _halved(table.slice(0, middle))
        yield from _halved(table.slice(middle))
    else:
        yield from table.combine_chunks().to_batches()
