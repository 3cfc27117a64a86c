"""Appending to one partition: a frame is acknowledged when it is durable, and not before.

Invariants: at most one `LogWriter` per partition exists (file lock); after a failed append the file ends
where it ended before, or the writer refuses everything until it is opened anew.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import BourneError, Closed, DiskFull, InputError, StorageError
from bourne.limits import EPOCH_BYTES_MAX, FRAME_BYTES_MAX, FRAME_ROWS_MAX, META_BYTES_MAX, SEGMENT_BYTES_MAX
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.format import KIND_RECORDS, KIND_SCHEMA, NO_HASH, Encoded, Head, encode
from bourne.log.lock import WriterLock
from bourne.log.recovery import publish_head, recover
from bourne.log.segment import segment_path
from bourne.ports import Clock, Files

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
        self.cut_bytes = 0
        try:
            self._lock = WriterLock.acquire(
                self._folder / "lock", what=f"log {info.name!r} has another writer"
            )
        except OSError as error:
            raise _storage_error(error, self._folder, "cannot open the log for appending") from error
        try:
            self._open()
        except OSError as error:
            self.close()
            raise _storage_error(error, self._folder, "cannot open the log for appending") from error
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
            self._descriptor = self._files.open(segment_path(self._folder, self._head.segment))
            if self._head.end == 0:
                self._start_segment()
        publish_head(self._head_descriptor, self._head)

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

        A large table becomes several frames with one sync; with `meta` it is one frame, empty or not. If
        anything fails, nothing of this call is kept.

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
            return whole or [pa.RecordBatch.from_pylist([], self._schema)]
        rows_max = FRAME_ROWS_MAX
        if table.nbytes > FRAME_BYTES_MAX // 2:
            rows_max = max(1, min(rows_max, FRAME_BYTES_MAX // 2 * table.num_rows // table.nbytes))
        pieces = [table.slice(start, rows_max) for start in range(0, table.num_rows, rows_max)]
        return [batch for piece in pieces for batch in piece.combine_chunks().to_batches()]

    def _append_frames(self, batches: Sequence[pa.RecordBatch], meta: Mapping[str, Any] | None) -> None:
        bytes_max = EPOCH_BYTES_MAX if meta is not None else FRAME_BYTES_MAX
        try:
            if self._head.end >= self._segment_bytes:
                self._start_segment()
            assert self._descriptor is not None and self._head_descriptor is not None
            head = self._head
            for batch in batches:
                frame = self._encode(KIND_RECORDS, batch.serialize(), batch.num_rows, head, meta)
                if frame.header.body_bytes > bytes_max or frame.header.meta_bytes > META_BYTES_MAX:
                    self._files.truncate(self._descriptor, self._head.end)
                    raise InputError(
                        f"a frame of log {self.info.name!r} is too large",
                        expected=f"at most {bytes_max:,} bytes in a record, {META_BYTES_MAX:,} in its meta part",
                        found=f"{frame.header.body_bytes:,} bytes in {batch.num_rows} records",
                        hint="store large objects elsewhere and append their address",
                    )
                self._files.write(self._descriptor, frame.parts, head.end)
                head = _after(head, frame)
            self._sync()
            self._head = head
            publish_head(self._head_descriptor, head)
        except OSError as error:
            self._take_back(error)
            raise _storage_error(error, self._folder, f"cannot append to log {self.info.name!r}") from error

    def _sync(self) -> None:
        assert self._descriptor is not None
        try:
            self._files.sync(self._descriptor)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: nothing can be known of them.
            self._broken = f"sync failed: {error}"
            raise

    def _take_back(self, error: OSError) -> None:
        """Cut the file to where it was acknowledged; if even that fails, take no more appends."""
        assert self._descriptor is not None
        try:
            self._files.truncate(self._descriptor, self._head.end)
        except OSError as second:
            self._broken = f"{error}; then {second}"

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
            self._files.write(descriptor, frame.parts, 0)
            self._files.sync(descriptor)
            self._files.sync_folder(self._folder)
        except BaseException:
            # Not published: the next writer removes it. A retry writes the same place again.
            self._files.close(descriptor)
            raise
        if self._descriptor is not None:
            self._files.close(self._descriptor)
        self._descriptor = descriptor
        self._head = _after(head, frame)

    def close(self) -> None:
        """Give the lock back. Safe to call twice; everything appended is durable already."""
        with self._mutex:
            for descriptor in (self._descriptor, self._head_descriptor):
                if descriptor is not None:
                    self._files.close(descriptor)
            self._descriptor = self._head_descriptor = None
            if hasattr(self, "_lock"):
                self._lock.release()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _after(head: Head, frame: Encoded) -> Head:
    header = frame.header
    return Head(
        head.segment, head.end + header.frame_bytes, head.end, header.next_offset, header.fence, header.hash
    )


def _storage_error(error: OSError, folder: Path, what: str) -> BourneError:
    """Map the system's error to ours."""
    if error.errno in _FULL:
        return DiskFull(
            f"{what}: no space left",
            where=str(folder),
            found=os.strerror(error.errno or 0),
            hint="free space (or raise the limit) and try again: nothing of this call was stored, "
            "what was acknowledged before is safe",
        )
    return StorageError(what, where=str(error.filename or folder), found=str(error),
                        hint="check that the folder exists and may be written")  # fmt: skip
