"""One segment file: its name, the frames in it, and its bytes as memory.

Law: `frames` yields exactly the frames whose header and body are whole, up to the first that is not.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from bourne.log.format import (
    ALIGNMENT,
    HEADER_BYTES,
    KIND_SCHEMA,
    MAGIC,
    Header,
    decode_header,
    is_body_intact,
    payload_of,
)

_HOT = re.compile(r"[0-9]{20}\.seg")
_COLD = re.compile(r"[0-9]{20}\.cold")

# A range shorter than this is copied: a memory map of its own would cost more.
_MAP_BYTES_MIN = 1 << 20

# How much is searched for frames at a time; a multiple of the alignment, so that no magic is cut in two.
_SCAN_BYTES = 1 << 20


def segment_path(folder: Path, base_offset: int) -> Path:
    """Return the path of the segment whose first record has this offset."""
    return folder / segment_name(base_offset)


def segment_name(base_offset: int) -> str:
    """Return the name of the file of the segment whose first record has this offset."""
    return f"{base_offset:020d}.seg"


def segment_bases(folder: Path) -> list[int]:
    """Return the base offsets of the partition's segments, hot and cold, ascending."""
    names = _names(folder)
    return sorted({int(name[:20]) for name in names if _HOT.fullmatch(name) or _COLD.fullmatch(name)})


def hot_bases(folder: Path) -> list[int]:
    """Return the base offsets of the segments that are frames on the disk, ascending. The last one always is."""
    return sorted(int(name[:20]) for name in _names(folder) if _HOT.fullmatch(name))


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


def frames_after_damage(descriptor: int, start: int, *, file: str) -> Iterator[tuple[int, Header]]:
    """Yield (byte, header) of whole frames wherever they start from byte `start` on.

    What it finds may be data that looks like a frame: whoever asks has to check that it belongs here.
    """
    size = os.fstat(descriptor).st_size
    while start < size:
        piece = os.pread(descriptor, _SCAN_BYTES, start)
        following = start + _SCAN_BYTES
        at = piece.find(MAGIC)
        while at >= 0:
            if (start + at) % ALIGNMENT == 0:
                found = next(frames(descriptor, start + at, file=file), None)
                if found is not None:
                    yield found
                    following = found[0] + found[1].frame_bytes
                    break
            at = piece.find(MAGIC, at + 1)
        start = following


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
