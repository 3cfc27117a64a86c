"""The log's bytes: frames and the `head` record, to and from memory. The page is docs/log_format.md.

Law: `decode(encode(x)) == x`, and no single flipped bit of a frame goes unnoticed (both parts have a CRC-32).
Nothing here does I/O, and nothing elsewhere knows these layouts.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from bourne.errors import FormatTooNew

VERSION: Final = 1
ALIGNMENT: Final = 64
HEADER_BYTES: Final = 128
HEAD_BYTES: Final = 96

KIND_SCHEMA: Final = 1
KIND_RECORDS: Final = 2

NO_HASH: Final = bytes(32)
MAGIC: Final = b"BOURNEFR"

_HEADER = struct.Struct("<8sHBBIIIQqQIIII32s32s")
_CRC_AT = 60
_HEAD_MAGIC = b"BOURNEHD"
_HEAD = struct.Struct("<8sQQQQQII32sQ")
_HEAD_CRC_AT = 48


class Header(NamedTuple):
    """A frame's header, and the size of the whole frame.

    `hash` is the SHA-256 of the header's bytes: the next frame's `previous_hash`. A tuple, as seeking reads many.
    """

    kind: int
    partition: int
    row_count: int
    base_offset: int
    append_time_us: int
    fence: int
    meta_bytes: int
    payload_bytes: int
    body_crc: int
    previous_hash: bytes
    body_hash: bytes
    hash: bytes
    frame_bytes: int

    @property
    def next_offset(self) -> int:
        """The offset after this frame's last record."""
        return self.base_offset + self.row_count

    @property
    def body_bytes(self) -> int:
        """The size of the body, padding included."""
        return self.frame_bytes - HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame ready to be written: its parts in order, and its header."""

    parts: tuple[memoryview, ...]
    header: Header


@dataclass(frozen=True, slots=True)
class Head:
    """How far a partition is durable, and what its last frame is."""

    segment: int
    end: int
    last: int
    next_offset: int
    fence: int
    hash: bytes


def encode(
    payload: pa.Buffer,
    *,
    kind: int,
    row_count: int,
    base_offset: int,
    previous_hash: bytes,
    append_time_us: int,
    partition: int,
    fence: int,
    meta: Mapping[str, Any] | None = None,
) -> Encoded:
    """Return the frame around an Arrow IPC message."""
    meta_bytes = encode_meta(meta)
    body = tuple(
        memoryview(part).cast("B")
        for part in (meta_bytes, _padding(len(meta_bytes)), payload, _padding(payload.size))
        if len(part)
    )
    digest, crc = hashlib.sha256(), 0
    for part in body:
        digest.update(part)
        crc = zlib.crc32(part, crc)
    header = bytearray(
        _HEADER.pack(
            MAGIC, VERSION, kind, 0, 0, partition, row_count, base_offset, append_time_us, fence,
            len(meta_bytes), payload.size, crc, 0, previous_hash, digest.digest(),
        )
    )  # fmt: skip
    struct.pack_into("<I", header, _CRC_AT, _header_crc(header))
    decoded = decode_header(header)
    assert decoded is not None
    return Encoded((memoryview(header), *body), decoded)


def encode_meta(meta: Mapping[str, Any] | None) -> bytes:
    """Return the meta part.

    Raises:
        TypeError, ValueError: it is not plain JSON.
    """
    if not meta:
        return b""
    return json.dumps(meta, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode_header(data: bytes | bytearray | memoryview, *, file: str = "") -> Header | None:
    """Return the header in the first 128 bytes of `data`, or None if there is no whole, undamaged one.

    Raises:
        FormatTooNew: an undamaged header of a version or with flags that this Bourne does not know.
    """
    if len(data) < HEADER_BYTES:
        return None
    raw = bytes(data[:HEADER_BYTES])
    (magic, version, kind, zero, flags, partition, row_count, base_offset, append_time_us, fence,
     meta_bytes, payload_bytes, body_crc, header_crc, previous_hash, body_hash) = _HEADER.unpack(raw)  # fmt: skip
    if magic != MAGIC or header_crc != _header_crc(raw):
        return None
    if version != VERSION or flags != 0 or zero != 0 or kind not in (KIND_SCHEMA, KIND_RECORDS):
        raise FormatTooNew(
            "this log was written by a newer Bourne",
            where=file or None,
            expected=f"frame version {VERSION} without flags",
            found=f"version {version}, kind {kind}, flags {flags:#x}",
            hint="upgrade Bourne",
        )
    frame_bytes = HEADER_BYTES + _aligned(meta_bytes) + _aligned(payload_bytes)
    return Header(kind, partition, row_count, base_offset, append_time_us, fence, meta_bytes, payload_bytes,
                  body_crc, previous_hash, body_hash, hashlib.sha256(raw).digest(), frame_bytes)  # fmt: skip


def is_body_intact(header: Header, body: memoryview) -> bool:
    """Say whether the body is the one that was written, by its CRC-32."""
    return len(body) == header.body_bytes and zlib.crc32(body) == header.body_crc


def decode_meta(header: Header, body: memoryview) -> dict[str, Any]:
    """Return the meta part of a checked body."""
    meta: dict[str, Any] = json.loads(bytes(body[: header.meta_bytes])) if header.meta_bytes else {}
    return meta


def payload_of(header: Header, body: memoryview) -> pa.Buffer:
    """Return the Arrow IPC message of a checked body, without copying."""
    start = _aligned(header.meta_bytes)
    return pa.py_buffer(body[start : start + header.payload_bytes])


def encode_head(head: Head) -> bytes:
    """Return the 96 bytes of the file `head`."""
    raw = bytearray(
        _HEAD.pack(
            _HEAD_MAGIC, head.segment, head.end, head.last, head.next_offset, head.fence, 0, 0, head.hash, 0
        )
    )
    struct.pack_into("<I", raw, _HEAD_CRC_AT, _head_crc(raw))
    return bytes(raw)


def decode_head(raw: bytes) -> Head | None:
    """Return what the file `head` says, or None if it is not whole and undamaged."""
    if len(raw) != HEAD_BYTES:
        return None
    magic, segment, end, last, next_offset, fence, crc, zero, last_hash, _ = _HEAD.unpack(raw)
    if magic != _HEAD_MAGIC or crc != _head_crc(raw) or zero != 0:
        return None
    return Head(segment, end, last, next_offset, fence, last_hash)


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) & -ALIGNMENT


def _padding(size: int) -> bytes:
    return bytes(_aligned(size) - size)


def _header_crc(raw: bytes | bytearray) -> int:
    return zlib.crc32(raw[_CRC_AT + 4 : HEADER_BYTES], zlib.crc32(raw[:_CRC_AT]))


def _head_crc(raw: bytes | bytearray) -> int:
    return zlib.crc32(raw[_HEAD_CRC_AT + 8 : HEAD_BYTES], zlib.crc32(raw[:_HEAD_CRC_AT]))
