"""One segment file: its name, the frames in it, and its bytes as memory.

Law: `frames` yields exactly the frames whose header and body are whole, up to the first that is not. Whatever form a
segment has on the disk, `Segment` shows the frames at the bytes at which they were written.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.errors import FormatTooNew
from bourne.log.format import (
    ALIGNMENT,
    HEADER_BYTES,
    KIND_SCHEMA,
    MAGIC,
    Header,
    decode_header,
    decode_meta,
    is_body_intact,
    payload_of,
)

_HOT = re.compile(r"[0-9]{20}\.seg")
_COLD = re.compile(r"[0-9]{20}\.cold")
_DATA = re.compile(r"[0-9]{20}(-[0-9a-f]+)?\.(seg|cold|parquet)")

# A range shorter than this is copied: a memory map of its own would cost more.
_MAP_BYTES_MIN = 1 << 20

# How much of a segment is mapped at a time; a frame that is longer is mapped whole.
_WINDOW_BYTES = 64 << 20

# How much is searched for frames at a time; a multiple of the alignment, so that no magic is cut in two.
_SCAN_BYTES = 1 << 20


class Damaged(Exception):
    """A frame is not what was written, and why."""


class Records(NamedTuple):
    """What a frame of records holds; `offsets` only where some were compacted away."""

    batch: pa.RecordBatch
    meta: dict[str, Any]
    offsets: NDArray[np.int64] | None = None


class Segment(Protocol):
    """The frames of one segment, open for reading. As long as it is open, retention keeps it, and those behind it.

    Bytes count as in the file that was written, also where it has another form now.
    """

    @property
    def name(self) -> str:
        """The name of its file."""
        ...

    def size(self) -> int:
        """Return where its frames end, or the file, if something torn follows them."""
        ...

    def headers(self, start: int, end: int) -> Iterator[tuple[int, Header]]:
        """Yield (byte, header) of the frames between two bytes, by their headers alone."""
        ...

    def header(self, byte: int, end: int) -> Header | None:
        """Return the header of the frame at `byte`; None if it is not whole, or does not end before `end`."""
        ...

    def body(self, byte: int, header: Header) -> memoryview:
        """Return the body as it was written.

        Raises:
            Damaged: it is not that any more.
        """
        ...

    def is_compacted(self, byte: int) -> bool:
        """Say whether records of that frame were compacted away: it has no `body` any more."""
        ...

    def records(self, byte: int, header: Header, schema: pa.Schema) -> Records:
        """Return the records of a frame, checked.

        Raises:
            Damaged: they are not what was written.
        """
        ...

    def rest(self) -> None:
        """Let retention do what it wants until `resume`."""
        ...

    def resume(self) -> bool:
        """Hold it again; False if it was deleted, or replaced by another form, meanwhile."""
        ...

    def close(self) -> None:
        """Let go of it; what was read stays valid. Safe to call twice."""
        ...


class HotSegment:
    """A segment as it was written: frames, one after another, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            FileNotFoundError: it is not there (any more).
        """
        self.name = path.name
        self._descriptor = open_shared(path)
        self._window_start = 0
        self._window = memoryview(b"")

    def size(self) -> int:
        """Return the file's size."""
        return os.fstat(self._descriptor).st_size

    def headers(self, start: int, end: int) -> Iterator[tuple[int, Header]]:
        """Yield the headers between two bytes. Reads no bodies."""
        return headers(self._descriptor, start, end, file=self.name)

    def header(self, byte: int, end: int) -> Header | None:
        """Return the header of the frame at `byte`, and have its body at hand."""
        header = decode_header(self._bytes(byte, byte + HEADER_BYTES, end), file=self.name)
        if header is None or byte + header.frame_bytes > end:
            return None
        self._bytes(byte, byte + header.frame_bytes, end)
        return header

    def body(self, byte: int, header: Header) -> memoryview:
        """Return the body, checked by its CRC-32."""
        end = byte + header.frame_bytes
        body = self._bytes(byte, end, end)[HEADER_BYTES:]
        if not is_body_intact(header, body):
            raise Damaged("its checksum does not match its bytes")
        return body

    def is_compacted(self, byte: int) -> bool:
        """Return False: what is compacted is cold."""
        return False

    def records(self, byte: int, header: Header, schema: pa.Schema) -> Records:
        """Return the records, without copying: they are views of the memory map."""
        body = self.body(byte, header)
        return Records(pa.ipc.read_record_batch(payload_of(header, body), schema), decode_meta(header, body))

    def _bytes(self, start: int, stop: int, end: int) -> memoryview:
        """Return bytes; what lies behind `end` is never mapped, as it may change."""
        at = start - self._window_start
        if at < 0 or stop - self._window_start > len(self._window):
            at, self._window_start = 0, start
            self._window = read_bytes(self._descriptor, start, min(end, max(stop, start + _WINDOW_BYTES)))
        return self._window[at : at + stop - start]

    def rest(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def resume(self) -> bool:
        """Take the lock again."""
        return hold(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            self.rest()  # closing is not enough: what was read is a memory map, and holds the open file
            os.close(self._descriptor)
            self._descriptor = -1
            self._window = memoryview(b"")


def open_shared(path: Path) -> int:
    """Open a file for reading and hold a shared lock on it: as long as it is open, retention leaves it alone.

    Raises:
        FileNotFoundError: it is not there, or was deleted meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if not hold(descriptor):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def hold(descriptor: int) -> bool:
    """Take a shared lock on an open file; say whether the file still has its name."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return os.fstat(descriptor).st_nlink > 0


def segment_path(folder: Path, base_offset: int) -> Path:
    """Return the path of the segment whose first record has this offset."""
    return folder / segment_name(base_offset)


def segment_name(base_offset: int) -> str:
    """Return the name of the file of the segment whose first record has this offset."""
    return f"{base_offset:020d}.seg"


def cold_path(folder: Path, base_offset: int) -> Path:
    """Return the path of the index of the segment, when it is cold."""
    return folder / f"{base_offset:020d}.cold"


def segment_bases(folder: Path) -> list[int]:
    """Return the base offsets of the partition's segments, hot and cold, ascending."""
    names = _names(folder)
    return sorted({int(name[:20]) for name in names if _HOT.fullmatch(name) or _COLD.fullmatch(name)})


def hot_bases(folder: Path) -> list[int]:
    """Return the base offsets of the segments that are frames on the disk, ascending. The last one always is."""
    return sorted(int(name[:20]) for name in _names(folder) if _HOT.fullmatch(name))


def parquet_names(folder: Path) -> dict[int, list[str]]:
    """Return the names of the Parquet files, by the base offset of their segment."""
    result: dict[int, list[str]] = {}
    for name in data_names(folder):
        if name.endswith(".parquet"):
            result.setdefault(int(name[:20]), []).append(name)
    return result


def data_names(folder: Path) -> list[str]:
    """Return the names of all files that hold the partition's records."""
    return [name for name in _names(folder) if _DATA.fullmatch(name)]


def size_bytes(folder: Path) -> int:
    """Return the size of all files that hold the partition's records."""
    size = 0
    for name in data_names(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            size += (folder / name).stat().st_size
    return size


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  (names, not paths: there may be thousands)
    except FileNotFoundError:
        return []


def read_bytes(descriptor: int, start: int, end: int) -> memoryview:
    """Return the file's bytes from `start` to `end` (exclusive), mapped where that pays, else copied.

    A shorter result means that the file ends early. A mapped file must not be cut below `end` while the
    result lives; Bourne cuts only what lies past `head`, which no reader maps.
    """
    end = min(end, os.fstat(descriptor).st_size)
    if end - start < _MAP_BYTES_MIN:
        return memoryview(os.pread(descriptor, max(0, end - start), start))
    map_start = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(descriptor, end - map_start, offset=map_start, access=mmap.ACCESS_READ)
    return memoryview(mapped)[start - map_start :]


def headers(descriptor: int, start: int, end: int, *, file: str) -> Iterator[tuple[int, Header]]:
    """Yield (byte, header) of the frames between two bytes, by their headers alone."""
    window_start, window = start, memoryview(b"")
    while start < end:
        at = start - window_start
        if at + HEADER_BYTES > len(window):
            at, window_start = 0, start
            window = memoryview(os.pread(descriptor, _SCAN_BYTES, start))
        header = decode_header(window[at : at + HEADER_BYTES], file=file)
        if header is None or start + header.frame_bytes > end:
            return
        yield start, header
        start += header.frame_bytes


def frames(descriptor: int, start: int, *, file: str) -> Iterator[tuple[int, Header]]:
    """Yield (byte, header) of the whole, undamaged frames from byte `start` on, bodies checked."""
    for byte, header in headers(descriptor, start, os.fstat(descriptor).st_size, file=file):
        body = read_bytes(descriptor, byte + HEADER_BYTES, byte + header.frame_bytes)
        if not is_body_intact(header, body):
            return
        yield byte, header


def frames_after_damage(
    descriptor: int, start: int, end: int | None = None, *, file: str
) -> Iterator[tuple[int, Header]]:
    """Yield (byte, header) of whole frames between two bytes, wherever they start, none inside another. O(bytes).

    What it finds may be data that looks like a frame: whoever asks has to check that it belongs here.
    """
    size = os.fstat(descriptor).st_size
    end = size if end is None else min(end, size)
    if start >= end:
        return
    data = mmap.mmap(descriptor, end, access=mmap.ACCESS_READ)
    at = data.find(MAGIC, start)
    while at >= 0:
        following = at + 1
        if at % ALIGNMENT == 0:
            header = _decoded(data[at : at + HEADER_BYTES], file)
            if header is not None and at + header.frame_bytes <= end:
                body = memoryview(data)[at + HEADER_BYTES : at + header.frame_bytes]
                if is_body_intact(header, body):
                    yield at, header
                    following = at + header.frame_bytes
        at = data.find(MAGIC, following)


def _decoded(raw: bytes, file: str) -> Header | None:
    try:
        return decode_header(raw, file=file)
    except FormatTooNew:
        return None  # data that looks like it, or a newer Bourne's: nothing that is known to belong here


def governing_schema(descriptor: int, number: int) -> pa.Schema | None:
    """Return the Arrow schema in the segment's schema frame of that number; None if it is not whole."""
    size = os.fstat(descriptor).st_size
    for byte, header in headers(descriptor, 0, size, file=""):
        if header.number == number and header.kind == KIND_SCHEMA:
            body = read_bytes(descriptor, byte + HEADER_BYTES, byte + header.frame_bytes)
            return read_schema(payload_of(header, body)) if is_body_intact(header, body) else None
        if header.number >= number:
            return None
    return None


def segment_schema(descriptor: int) -> pa.Schema | None:
    """Return the Arrow schema that a segment starts with; None if that frame is not whole."""
    header = decode_header(os.pread(descriptor, HEADER_BYTES, 0))
    if header is None or header.kind != KIND_SCHEMA:
        return None
    body = read_bytes(descriptor, HEADER_BYTES, header.frame_bytes)
    return read_schema(payload_of(header, body)) if is_body_intact(header, body) else None


def read_schema(payload: pa.Buffer) -> pa.Schema:
    """Return the Arrow schema of a schema frame's payload."""
    return pa.ipc.read_schema(payload)
