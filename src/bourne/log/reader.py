"""Reading one partition: without locks, from any process, zero-copy, every frame checked as it is read.

Law: what is served is a prefix of the acknowledged records, in order. A reader never sees a frame that a
power cut could take back, because it reads no further than `head`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import CorruptFrame, InputError, LogLocked
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.format import (
    HEADER_BYTES,
    KIND_SCHEMA,
    Head,
    Header,
    decode_header,
    decode_meta,
    is_body_intact,
    payload_of,
)
from bourne.log.lock import WriterLock
from bourne.log.recovery import needs_recovery, publish_head, read_head, recover
from bourne.log.segment import headers, read_bytes, read_schema, segment_bases, segment_path
from bourne.ports import OsFiles

# How much of a segment is mapped at a time; a frame that is longer is mapped whole.
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """Records as they were appended together (or the part of them that was asked for)."""

    base_offset: int
    batch: pa.RecordBatch
    meta: dict[str, Any]
    append_time_us: int

    @property
    def next_offset(self) -> int:
        """The offset after the last record."""
        return self.base_offset + self.batch.num_rows


class LogReader:
    """A cursor over one partition. Not for use by two threads at once: open one each."""

    def __init__(self, log_folder: Path, info: LogInfo, *, partition: int = 0) -> None:
        """Open for reading, at the first record. A torn tail that a crash left is mended if nobody writes."""
        self.info = info
        self._partition = partition
        self._folder = partition_folder(log_folder, partition)
        self._head: Head | None = None
        self._descriptor: int | None = None
        self._segment = -1
        self._schema: pa.Schema | None = None
        self._byte = 0  # where the frame that the cursor is in starts
        self._offset = 0  # the next record to serve
        self._mend()
        self.seek(self.first_offset)

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
        return sum(segment_path(self._folder, base).stat().st_size for base in segment_bases(self._folder))

    def seek(self, offset: int) -> None:
        """Move the cursor. O(frames in the segment).

        Raises:
            InputError: there is no such offset (yet, or any more).
        """
        end = self.end_offset()
        first = self.first_offset
        if not first <= offset <= end:
            raise InputError(
                f"log {self.info.name!r} has no offset {offset}", expected=f"{first} to {end}", found=offset
            )
        bases = [base for base in segment_bases(self._folder) if base <= offset]
        self._offset = offset
        if not bases:
            self._segment = -1
            return
        self._enter(bases[-1])
        assert self._descriptor is not None
        for byte, header in headers(self._descriptor, self._byte, self._limit(), file=self._file):
            self._byte = byte
            if header.kind != KIND_SCHEMA and header.next_offset > offset:
                return
            self._byte = byte + header.frame_bytes

    def read(
        self, *, until: int | None = None, rows_max: int = 1 << 62, bytes_max: int = 1 << 62
    ) -> list[Frame]:
        """Return the next frames, at most `rows_max` rows of them and about `bytes_max` bytes.

        Stops before offset `until`. Returns an empty list when there is nothing more for now. Batches are
        views of a memory map: they stay valid as long as they are referenced.

        Raises:
            CorruptFrame: a frame is not what was written. Nothing of it is served.
        """
        self._refresh()
        result: list[Frame] = []
        rows = size = 0
        for frame in self._frames(until, rows_max):
            result.append(frame)
            rows += frame.batch.num_rows
            size += frame.batch.nbytes
            if rows >= rows_max or size >= bytes_max:
                break
        return result

    def _frames(self, until: int | None, rows_max: int) -> Iterator[Frame]:
        """Serve frames and move the cursor past each as it is served."""
        if self._segment < 0 and not self._enter_next():
            return
        rows_left = rows_max
        while rows_left > 0:
            if self._byte >= self._limit():
                if not self._enter_next():
                    return
                continue
            window_start = self._byte
            window = self._window(window_start)
            while rows_left > 0 and self._byte < self._limit():
                at = self._byte - window_start
                header = decode_header(window[at : at + HEADER_BYTES], file=self._file)
                if header is None or at + header.frame_bytes > len(window):
                    if at == 0:
                        self._damaged("its header is not whole" if header is None else "it is cut short")
                    break
                if header.kind == KIND_SCHEMA:
                    self._byte += header.frame_bytes
                    continue
                if until is not None and self._offset >= until:
                    return
                frame = self._decode(
                    header, window[at + HEADER_BYTES : at + header.frame_bytes], until, rows_left
                )
                rows_left -= frame.batch.num_rows
                self._offset = frame.next_offset
                if self._offset == header.next_offset:
                    self._byte += header.frame_bytes
                yield frame

    def _window(self, start: int) -> memoryview:
        """Map a piece of the segment that holds at least the frame at `start`."""
        assert self._descriptor is not None
        header = decode_header(os.pread(self._descriptor, HEADER_BYTES, start), file=self._file)
        size = max(_WINDOW_BYTES, header.frame_bytes if header else 0)
        return read_bytes(self._descriptor, start, min(self._limit(), start + size))

    def _decode(self, header: Header, body: memoryview, until: int | None, rows_max: int) -> Frame:
        if not is_body_intact(header, body):
            self._damaged("its checksum does not match its bytes", header)
        if not header.base_offset <= self._offset <= header.next_offset:
            self._damaged(f"it starts at offset {header.base_offset}", header)
        assert self._schema is not None
        batch = pa.ipc.read_record_batch(payload_of(header, body), self._schema)
        skip = self._offset - header.base_offset
        stop = header.row_count if until is None else min(header.row_count, until - header.base_offset)
        rows = min(stop - skip, rows_max)
        if skip or rows < header.row_count:
            batch = batch.slice(skip, rows)
        return Frame(self._offset, batch, decode_meta(header, body), header.append_time_us)

    def _damaged(self, reason: str, header: Header | None = None) -> None:
        raise CorruptFrame(
            f"a frame is not what was written: {reason}", log=self.info.name, partition=self._partition,
            file=self._file, byte=self._byte, offset=header.base_offset if header else self._offset,
        )  # fmt: skip

    @property
    def _file(self) -> str:
        return segment_path(self._folder, self._segment).name

    def _limit(self) -> int:
        """Return the byte up to which the current segment may be read."""
        if self._head is None or self._descriptor is None:
            return 0
        if self._segment == self._head.segment:
            return self._head.end
        return os.fstat(self._descriptor).st_size if self._segment < self._head.segment else 0

    def _enter_next(self) -> bool:
        """Go on to the next segment, if it is durable."""
        if self._head is None or self._segment == self._head.segment:
            return False
        following = [base for base in segment_bases(self._folder) if base > self._segment]
        if not following or following[0] > self._head.segment:
            return False
        self._enter(following[0])
        return True

    def _enter(self, base: int) -> None:
        """Open a segment and read its schema."""
        descriptor = os.open(segment_path(self._folder, base), os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._descriptor, self._segment, self._byte = descriptor, base, 0
        if self._limit() == 0:
            return
        header = decode_header(os.pread(descriptor, HEADER_BYTES, 0), file=self._file)
        if header is None or header.kind != KIND_SCHEMA:
            self._damaged("the segment does not start with a schema")
        assert header is not None
        body = read_bytes(descriptor, HEADER_BYTES, header.frame_bytes)
        if not is_body_intact(header, body):
            self._damaged("its checksum does not match its bytes", header)
        self._schema = read_schema(payload_of(header, body))
        self._byte = header.frame_bytes

    def _refresh(self) -> Head | None:
        """Look how far the log is durable now. A torn read of `head` counts as no news."""
        head = read_head(self._folder)
        if head is not None and (self._head is None or head.next_offset >= self._head.next_offset):
            self._head = head
        return self._head

    def _mend(self) -> None:
        """If a crash left bytes past `head` and nobody writes, do what the next writer would do."""
        if not needs_recovery(self._folder, read_head(self._folder)):
            return
        files = OsFiles()
        try:
            lock = WriterLock.acquire(self._folder / "lock", what="", wait=False)
        except LogLocked:
            return  # its writer is alive: it publishes `head` itself
        except OSError:
            return  # a read-only disk: serve what `head` vouches for
        try:
            recovered = recover(self._folder, log=self.info.name, partition=self._partition, files=files)
            if recovered is not None:
                descriptor = files.open(self._folder / "head")
                publish_head(descriptor, recovered.head)
                files.close(descriptor)
        finally:
            lock.release()

    def close(self) -> None:
        """Close the file. Batches already read stay valid. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._segment = -1
