"""Reading one partition: without locks, from any process, zero-copy, every frame checked as it is read.

Law: what is served is a prefix of the acknowledged records, in order. A reader never sees a frame that a
power cut could take back, because it reads no further than `head`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.errors import BourneError, Closed, CorruptFrame, InputError, LogLocked, StorageError
from bourne.evolution import adapt
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cold import open_segment
from bourne.log.disk import disk_errors
from bourne.log.format import KIND_SCHEMA, Head, Header, payload_of
from bourne.log.lock import WriterLock
from bourne.log.recovery import needs_recovery, publish_head, read_head, recover, write_again
from bourne.log.segment import (
    Damaged,
    Segment,
    read_schema,
    segment_bases,
    segment_name,
    segment_path,
    size_bytes,
)
from bourne.ports import Files, OsFiles

_OS_FILES = OsFiles()


@dataclass(frozen=True, slots=True)
class Frame:
    """Records as they were appended together (or the part of them that was asked for).

    `row_offsets` are the records' offsets where some were compacted away; None if they follow `base_offset` densely.
    """

    base_offset: int
    next_offset: int
    batch: pa.RecordBatch
    meta: dict[str, Any]
    append_time_us: int
    frame_bytes: int  # of the whole frame, also where only a part of it is served
    row_offsets: NDArray[np.int64] | None = None

    def offsets(self) -> NDArray[np.int64]:
        """Return the offset of each record."""
        if self.row_offsets is not None:
            return self.row_offsets
        return np.arange(self.base_offset, self.base_offset + self.batch.num_rows)


class LogReader:
    """A cursor over one partition. Not for use by two threads at once: open one each."""

    def __init__(
        self,
        log_folder: Path,
        info: LogInfo,
        *,
        partition: int = 0,
        files: Files = _OS_FILES,
        is_durable: bool = False,
    ) -> None:
        """Open for reading, at the first frame. A torn tail that a crash left is mended if nobody writes.

        Records come in the columns of `info`, also those that were written under an older schema. With `is_durable`,
        what was acknowledged without a sync is synced before it is served, so that it cannot be lost any more.

        Raises:
            CorruptFrame: acknowledged bytes are missing or damaged.
            StorageError: the disk refuses.
        """
        self.info = info
        self._partition = partition
        self._folder = partition_folder(log_folder, partition)
        self._files = files
        self._is_durable = is_durable
        self._durable: tuple[int, int] = (0, 0)  # segment and byte up to which this reader has synced
        self._arrow = info.schema.to_arrow()
        self._head: Head | None = None
        self._segment_file: Segment | None = None
        self._is_closed = False
        self._is_resting = False
        self._has_sync_failed = False
        self._bases: list[int] = []  # the segments, when they were last looked at
        self._segment = -1
        self._schema: pa.Schema | None = None
        self._schema_number = -1  # of the frame that says so
        self._hash: bytes | None = None  # of the frame before the one that the cursor is in
        self._started_us = 0  # when the segment was begun
        self._byte = 0  # where the frame that the cursor is in starts
        self._offset = 0  # the next record to serve
        with self._disk_errors():
            self._mend()
        self.seek_first()

    @property
    def first_offset(self) -> int:
        """The offset of the oldest record that is kept."""
        bases = segment_bases(self._folder)
        return bases[0] if bases else 0

    @property
    def offset(self) -> int:
        """The offset of the next record that `read` will serve."""
        return self._offset

    def end_offset(self) -> int:
        """Return the offset after the last durable record, as of now."""
        head = self._refresh()
        return head.next_offset if head else 0

    def head(self) -> Head | None:
        """Return the durable end as of now; None for a log without a segment."""
        return self._refresh()

    def size_bytes(self) -> int:
        """Return the size of all segments."""
        return size_bytes(self._folder)

    def seek(self, offset: int) -> None:
        """Move the cursor to the first frame that holds `offset`, or starts at it. O(frames in the segment).

        So frames without records that stand right before that record are served, too.

        Raises:
            InputError: there is no such offset (yet, or any more).
            CorruptFrame, StorageError, Closed.
        """
        self._check_open()
        end = self.end_offset()
        first = self.first_offset
        if not first <= offset <= end:
            raise InputError(
                f"log {self.info.name!r} has no offset {offset}", expected=f"{first} to {end}", found=offset
            )
        self._offset = offset
        self._leave()
        if self._head is None:
            return
        with self._disk_errors():
            bases = self._published_bases()
            self._enter(max((base for base in bases if base < offset), default=first))
            for _, header in self._headers():
                holds = header.next_offset > offset or header.base_offset == offset
                if header.kind != KIND_SCHEMA and holds:
                    return
                self._step_over(header)

    def is_at_frame(self) -> bool:
        """Say whether the cursor stands at the start of a frame, or at the end."""
        if self._segment_file is None or self._byte >= self._limit():
            return True
        header = self._segment_file.header(self._byte, self._limit())
        return header is not None and header.base_offset == self._offset

    def seek_first(self) -> None:
        """Move the cursor to the oldest record that is kept, also if retention is just deleting some.

        Raises:
            CorruptFrame, StorageError, Closed.
        """
        while True:
            first = self.first_offset
            try:
                self.seek(first)
                return
            except InputError:
                if self.first_offset == first:
                    raise

    def seek_time(self, instant_us: int) -> None:
        """Move the cursor to the first record that was appended at that instant or later, else to the end.

        Append times come from the writers' clock, and never go back within a partition. O(frames in a segment).

        Raises: as `seek`.
        """
        self._check_open()
        self.seek_first()
        if self._head is None:
            return
        with self._disk_errors():
            bases = self._published_bases()
            low, high = 0, len(bases)  # the last segment that begins before the instant
            while high - low > 1:
                middle = (low + high) // 2
                self._leave()
                self._enter(bases[middle])
                if self._started_us < instant_us:
                    low = middle
                else:
                    high = middle
            self._leave()
            self._offset = bases[low]
            self._enter(bases[low])
            while True:
                for _, header in self._headers():
                    if header.kind != KIND_SCHEMA and header.append_time_us >= instant_us:
                        return
                    self._step_over(header)
                    self._offset = header.next_offset
                if not self._enter_next():
                    return

    def segment_with_metas(self, frames: int) -> int:
        """Return the offset of the segment from which on there are `frames` frames with a meta part, or the first."""
        self._check_open()
        if self._refresh() is None:
            return self.first_offset
        base = self.first_offset
        for base in reversed(self._published_bases()):
            self._leave()
            self._enter(base)
            for _, header in self._headers():
                frames -= header.meta_bytes > 0 and header.row_count > 0
            if frames <= 0:
                break
        return base

    def read(
        self,
        *,
        until: int | None = None,
        until_time_us: int | None = None,
        rows_max: int = 1 << 62,
        bytes_max: int = 1 << 62,
    ) -> list[Frame]:
        """Return the next frames, at most `rows_max` rows of them and about `bytes_max` bytes.

        Stops before offset `until`, and before what was appended at `until_time_us` or later. Returns an empty list when
        there is nothing more for now. Batches are views of a memory map: they stay valid as long as they are referenced.

        Raises:
            CorruptFrame: the next frame is not what was written. Nothing of it is served, all before it was.
            InputError: it had been resting, and the next records are not kept any more.
            StorageError, Closed.
        """
        self._check_open()
        if self._is_resting:
            self._is_resting = False
            with self._disk_errors():
                is_there = self._segment_file is None or self._segment_file.resume()
            if not is_there:
                self.seek(self._offset)
        self._refresh()
        result: list[Frame] = []
        rows = size = 0
        try:
            with self._disk_errors():
                for frame in self._frames(until, until_time_us, rows_max):
                    result.append(frame)
                    rows += frame.batch.num_rows
                    size += frame.frame_bytes
                    if rows >= rows_max or size >= bytes_max:
                        break
        except BourneError:
            if not result:
                raise  # else the next call comes to it again
        return result

    def rest(self) -> None:
        """Hold nothing until the next `read`: retention may delete what comes, and `read` then raises InputError."""
        if self._segment_file is not None:
            self._segment_file.rest()
            self._is_resting = True

    def last_frame(self) -> Frame | None:
        """Return the newest frame, with records or without; None if there is none. Moves the cursor to the end.

        O(1), or O(frames in the segment before) if a segment has just begun.

        Raises:
            CorruptFrame: it is not what was written.
            StorageError, Closed.
        """
        self._check_open()
        head = self._refresh()
        if head is None:
            return None
        with self._disk_errors():
            before = [base for base in self._published_bases() if base < head.segment]
            self._leave()
            if head.last == 0 and not before:
                return None
            self._enter(head.segment if head.last else before[-1])
            self._byte, self._hash = head.last or self._last_byte(), None
            assert self._segment_file is not None
            header = self._segment_file.header(self._byte, self._limit())
            if header is None or (head.last and header.hash != head.hash):
                self._damaged("its header is not whole or another one")
            self._offset = header.base_offset
        return self.read()[-1]

    def _last_byte(self) -> int:
        """Return where the last frame of the current segment starts."""
        end = limit = self._limit()
        last = self._byte
        for last, header in self._headers():
            end = last + header.frame_bytes
        if end != limit:
            self._damaged("a frame is not whole")
        return last

    def _frames(self, until: int | None, until_time_us: int | None, rows_max: int) -> Iterator[Frame]:
        """Serve frames and move the cursor past each as it is served."""
        if self._segment < 0 and not self._enter_next():
            return
        rows_left = rows_max
        while rows_left > 0:
            if self._byte >= self._limit():
                if not self._enter_next():
                    return
                continue
            assert self._segment_file is not None
            header = self._segment_file.header(self._byte, self._limit())
            if header is None:
                self._damaged("it is not whole")
            if until is not None and self._offset >= until:
                return
            if until_time_us is not None and header.append_time_us >= until_time_us:
                return
            self._check_place(header)
            if header.kind == KIND_SCHEMA:
                self._read_schema(self._byte, header)
                self._step_over(header)
                continue
            frame = self._decode(header, until, rows_left)
            rows_left -= frame.batch.num_rows
            self._offset = frame.next_offset
            if self._offset == header.next_offset:
                self._step_over(header)
            yield frame

    def _headers(self) -> Iterator[tuple[int, Header]]:
        """Yield (byte, header) of the frames from the cursor to the end of the segment."""
        assert self._segment_file is not None
        return self._segment_file.headers(self._byte, self._limit())

    def _read_schema(self, byte: int, header: Header) -> None:
        """Take over the schema in the schema frame at `byte`."""
        assert self._segment_file is not None
        try:
            self._schema = read_schema(payload_of(header, self._segment_file.body(byte, header)))
        except Damaged as error:
            self._damaged(str(error), header)
        self._schema_number = header.number

    def _find_schema(self, header: Header) -> None:
        """Take over the schema that counts for a frame: a segment without records can get another one."""
        assert self._segment_file is not None
        for byte, each in self._segment_file.headers(0, self._limit()):
            if each.number == header.schema_number and each.kind == KIND_SCHEMA:
                self._read_schema(byte, each)
                return
            if each.number >= header.schema_number:
                break
        self._damaged("its schema is not there", header)

    def _decode(self, header: Header, until: int | None, rows_max: int) -> Frame:
        """Return the records at the cursor of a frame, checked."""
        if header.schema_number != self._schema_number:
            self._find_schema(header)
        assert self._schema is not None
        assert self._segment_file is not None
        try:
            batch, meta, offsets = self._segment_file.records(self._byte, header, self._schema)
        except Damaged as error:
            self._damaged(str(error), header)
        if not self._schema.equals(self._arrow, check_metadata=True):
            batch = adapt(batch, self.info.schema)
        end = header.next_offset if until is None else min(header.next_offset, until)
        if offsets is None:
            end = min(end, self._offset + rows_max)
            first, last = self._offset - header.base_offset, end - header.base_offset
        else:
            first, last = (int(at) for at in np.searchsorted(offsets, (self._offset, end)))
            if last - first > rows_max:
                last = first + rows_max
                end = int(offsets[last])
            offsets = offsets[first:last]
        if (first, last) != (0, batch.num_rows):
            batch = batch.slice(first, last - first)
        return Frame(
            self._offset, end, batch, meta, header.append_time_us, header.frame_bytes, offsets,
        )  # fmt: skip

    def _check_place(self, header: Header) -> None:
        """Check that this is the frame that was written here.

        Raises:
            CorruptFrame: it is not.
        """
        if self._hash is not None and header.previous_hash != self._hash:
            self._damaged("it does not continue the frame before it", header)
        holds = header.base_offset <= self._offset < header.next_offset
        if (
            header.kind != KIND_SCHEMA
            and not holds
            and (header.row_count or self._offset != header.base_offset)
        ):
            self._damaged(f"it starts at offset {header.base_offset}", header)

    def _step_over(self, header: Header) -> None:
        """Move the cursor behind the frame that it is in."""
        self._byte += header.frame_bytes
        self._hash = header.hash

    def _damaged(self, reason: str, header: Header | None = None) -> NoReturn:
        raise CorruptFrame(
            f"a frame is not what was written: {reason}", log=self.info.name, partition=self._partition,
            file=self._file, byte=self._byte, offset=header.base_offset if header else self._offset,
        )  # fmt: skip

    @property
    def _file(self) -> str:
        return segment_name(self._segment) if self._segment_file is None else self._segment_file.name

    def _limit(self) -> int:
        """Return the byte up to which the current segment may be read."""
        if self._head is None or self._segment_file is None:
            return 0
        if self._segment == self._head.segment:
            return self._head.end
        return self._segment_file.size() if self._segment < self._head.segment else 0

    def _enter_next(self) -> bool:
        """Go on to the next segment, if it is durable."""
        if self._head is None or self._segment == self._head.segment:
            return False
        following = bisect_right(self._bases, self._segment)
        if following == len(self._bases):  # new ones come at the end only, and none behind the cursor goes
            following = bisect_right(self._published_bases(), self._segment)
        if following == len(self._bases):
            self._damaged("its segment is missing")
        if self._segment < 0 and self._bases[following] > self._offset:
            raise self._gone(self._offset)  # it stood before a log that was empty then
        if self._bases[following] != self._offset:
            self._damaged(f"the next segment starts at offset {self._bases[following]}")
        self._enter(self._bases[following])
        return True

    def _enter(self, base: int) -> None:
        """Open a published segment, read its schema, and stand behind it."""
        before = self._hash
        try:
            opened = open_segment(self._folder, base)
        except Damaged as error:
            self._leave()
            self._segment = base
            self._damaged(str(error))
        if opened is None:
            raise self._gone(base)
        self._leave()
        self._segment_file, self._segment, self._hash = opened, base, before
        header = opened.header(0, self._limit())
        if header is None or header.kind != KIND_SCHEMA or header.base_offset != base:
            self._damaged("the segment does not start with its schema")
        self._check_place(header)
        self._read_schema(0, header)
        self._started_us = header.append_time_us
        self._step_over(header)

    def _gone(self, offset: int) -> InputError:
        return InputError(
            f"log {self.info.name!r} does not keep its records from offset {offset} any more",
            expected=f"offset {self.first_offset} or later",
            found=offset,
            hint="start from the first offset that is kept",
        )

    def _leave(self) -> None:
        """Close the segment that the cursor is in."""
        if self._segment_file is not None:
            self._segment_file.close()
        self._segment_file, self._segment, self._byte, self._hash = None, -1, 0, None

    def _published_bases(self) -> list[int]:
        """Return the segments that `head` vouches for: a writer may be creating one more."""
        assert self._head is not None
        bases = [base for base in segment_bases(self._folder) if base <= self._head.segment]
        if not bases:
            self._damaged("its segment is missing")
        self._bases = bases
        return bases

    def _refresh(self) -> Head | None:
        """Look how far the log is durable now. A torn read of `head` counts as no news."""
        with self._disk_errors():
            head = read_head(self._folder)
        if head is not None and (self._head is None or head.next_offset >= self._head.next_offset):
            if self._is_durable and head.durable_end < head.end:
                self._sync(head)
            self._head = head
        return self._head

    def _sync(self, head: Head) -> None:
        """Make durable what was acknowledged without it, before anything is derived from it."""
        if self._durable >= (head.segment, head.end):
            return
        with self._disk_errors():
            descriptor = self._files.open(segment_path(self._folder, head.segment))
            try:
                if self._has_sync_failed:
                    write_again(self._files, descriptor, head.durable_end, head.end)
                self._has_sync_failed = True
                self._files.sync(descriptor)
                self._has_sync_failed = False
            finally:
                self._files.close(descriptor)
        self._durable = (head.segment, head.end)

    def _mend(self) -> None:
        """If a crash left bytes past `head` and nobody writes, do what the next writer would do."""
        head = read_head(self._folder)
        if not needs_recovery(self._folder, head, self._files.boot_id()):
            return
        lock = WriterLock(self._folder / "lock", what=f"log {self.info.name!r} is being written")
        try:
            lock.take(0)
        except LogLocked:
            lock.close()
            return  # its writer is alive: it publishes `head` itself
        except OSError as error:
            lock.close()
            if head is not None:
                return  # a read-only disk: serve what `head` vouches for
            raise StorageError(
                f"log {self.info.name!r} must be mended before it can be read: its file 'head' is missing or damaged",
                where=str(self._folder),
                found=str(error),
                hint="open it once where it may be written",
            ) from error
        try:
            recovered = recover(
                self._folder,
                log=self.info.name,
                log_id=self.info.id,
                partition=self._partition,
                files=self._files,
            )
            if recovered is not None and recovered.head.end:
                descriptor = self._files.open(self._folder / "head")
                try:
                    publish_head(self._files, descriptor, recovered.head)
                finally:
                    self._files.close(descriptor)
        finally:
            lock.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"the reader of log {self.info.name!r} is closed", hint="open another one")

    def _disk_errors(self) -> AbstractContextManager[None]:
        return disk_errors(self._folder, f"cannot read log {self.info.name!r}")

    def close(self) -> None:
        """Close the file. Batches already read stay valid. Safe to call twice."""
        self._leave()
        self._is_closed = True
