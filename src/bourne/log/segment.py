"""One segment file: its name, the frames in it, and its bytes as memory.

Law: `frames` yields exactly the frames whose header and body are whole, up to the first that is not.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from bourne.log.format import HEADER_BYTES, Header, decode_header, is_body_intact

_SUFFIX = ".seg"

# A range shorter than this is copied: a memory map of its own would cost more.
_MAP_BYTES_MIN = 1 << 20


def segment_path(folder: Path, base_offset: int) -> Path:
    """Return the path of the segment whose first record has this offset."""
    return folder / f"{base_offset:020d}{_SUFFIX}"


def segment_bases(folder: Path) -> list[int]:
    """Return the base offsets of the partition's segments, ascending."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name.removesuffix(_SUFFIX)) for name in names if name.endswith(_SUFFIX))


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
    while start < end:
        header = decode_header(os.pread(descriptor, HEADER_BYTES, start), file=file)
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


def has_frame_after(descriptor: int, start: int, *, file: str) -> bool:
    """Say whether any whole frame starts after byte `start`: then `start` is damage, not a torn tail."""
    size = os.fstat(descriptor).st_size
    data = read_bytes(descriptor, start, size)
    for at in range(64, len(data), 64):
        if data[at : at + 8] == b"BOURNEFR":
            header = decode_header(data[at : at + HEADER_BYTES], file=file)
            if header and is_body_intact(header, data[at + HEADER_BYTES : at + header.frame_bytes]):
                return True
    return False


def read_schema(payload: pa.Buffer) -> pa.Schema:
    """Return the Arrow schema of a schema frame's payload."""
    return pa.ipc.read_schema(payload)
