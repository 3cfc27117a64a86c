"""The log's bytes: frames and the `head` record, to and from memory. The page is docs/log_format.md.

Law: `decode(encode(x)) == x`, and no single flipped bit of a frame goes unnoticed (both parts have a CRC-32).
Nothing here does I/O, and nothing elsewhere knows these layouts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from bourne.errors import FormatTooNew
from bourne.log.merkle import LEAF_BYTES, Forest, leaf_hash, root

VERSION: Final = 2
ALIGNMENT: Final = 64
HEADER_BYTES: Final = 192
HEAD_BYTES_MAX: Final = 128 + 64 * 32

KIND_SCHEMA: Final = 1
KIND_RECORDS: Final = 2
KIND_COLD: Final = 3
"""Kind of the one frame in a `.cold` file: the index of a segment whose records are in a Parquet file."""

AHEAD: Final = 1
"""Flag: the frame was written before the one before it was durable."""
CONTINUED: Final = 2
"""Flag: the next frame belongs to the same append; without it, this one does not count."""

NO_HASH: Final = bytes(32)
MAGIC: Final = b"BOURNEFR"

_HEADER = struct.Struct("<8sHBBIIIQqQIIII32s32s32s16sQQ")
_CRC_AT = 60
_META_BYTES_AT = 48
_ROW_COUNT_AT = 20
_HEAD_MAGIC = b"BOURNEH2"
_HEAD = struct.Struct("<8sQQQQQII32sQQq16s")
_HEAD_CRC_AT = 48


class Header(NamedTuple):
    """A frame's header, and the size of the whole frame.

    `hash` is the SHA-256 of the header's bytes: the next frame's `previous_hash`. A tuple, as seeking reads many.
    """

    kind: int
    flags: int
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
    history: bytes
    log_id: bytes
    number: int
    schema_number: int  # of the schema frame that counts for this one; a schema frame's own
    raw: bytes
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


class Body(NamedTuple):
    """A frame's body before it has a header: its parts in order, padding included."""

    parts: tuple[memoryview, ...]
    meta_bytes: int
    payload_bytes: int

    @property
    def size(self) -> int:
        """The size of the body."""
        return _aligned(self.meta_bytes) + _aligned(self.payload_bytes)


class Sums(NamedTuple):
    """What a header says of its body's bytes."""

    crc: int
    hash: bytes


class Head(NamedTuple):
    """How far a partition is written and durable, what its last frame is, and the Merkle forest of all frames.

    `end` is the byte in the last segment up to which everything is acknowledged; up to `durable_end`, it is durable.
    What lies between is sure to be there only as long as the machine has not been started anew: `boot_id` tells.
    """

    segment: int
    end: int
    durable_end: int
    last: int
    next_offset: int
    fence: int
    hash: bytes
    append_time_us: int
    boot_id: bytes
    forest: Forest

    @property
    def number(self) -> int:
        """The number of the next frame."""
        return self.forest.size


def make_body(payload: pa.Buffer, meta: Mapping[str, Any] | None = None) -> Body:
    """Return the body around an Arrow IPC message.

    Raises:
        TypeError, ValueError: `meta` is not plain JSON.
    """
    meta_bytes = encode_meta(meta)
    parts = (meta_bytes, _padding(len(meta_bytes)), payload, _padding(payload.size))
    return Body(
        tuple(memoryview(part).cast("B") for part in parts if len(part)), len(meta_bytes), payload.size
    )


def sums_of(parts: Sequence[memoryview]) -> Sums:
    """Return the checksum and the Merkle root of a body. O(bytes): most of what an append computes."""
    return Sums(crc_of(parts), root_of_body(parts))


def crc_of(parts: Sequence[memoryview]) -> int:
    """Return the CRC-32 of a body."""
    crc = 0
    for part in parts:
        crc = crc32(part, crc)
    return crc


def root_of_body(parts: Sequence[memoryview]) -> bytes:
    """Return the Merkle root of a body."""
    return root([leaf_hash(leaf) for leaf in leaves_of(parts)])


def leaves_of(parts: Sequence[memoryview]) -> Iterator[bytes | memoryview]:
    """Yield a body in leaves of `LEAF_BYTES`."""
    pending = b""
    for part in parts:
        start = 0
        if pending:
            start = min(len(part), LEAF_BYTES - len(pending))
            pending += part[:start]
            if len(pending) == LEAF_BYTES:
                yield pending
                pending = b""
        while len(part) - start >= LEAF_BYTES:
            yield part[start : start + LEAF_BYTES]
            start += LEAF_BYTES
        pending += part[start:]
    if pending:
        yield pending


def seal(
    body: Body,
    sums: Sums,
    *,
    kind: int,
    flags: int,
    row_count: int,
    base_offset: int,
    previous_hash: bytes,
    history: bytes,
    number: int,
    schema_number: int,
    append_time_us: int,
    log_id: bytes,
    partition: int,
    fence: int,
) -> tuple[bytes, Header]:
    """Return the header's bytes, and the header, of a frame with this body."""
    raw = bytearray(
        _HEADER.pack(
            MAGIC, VERSION, kind, 0, flags, partition, row_count, base_offset, append_time_us, fence,
            body.meta_bytes, body.payload_bytes, sums.crc, 0, previous_hash, sums.hash, history, log_id, number,
            schema_number,
        )
    )  # fmt: skip
    struct.pack_into("<I", raw, _CRC_AT, _header_crc(raw))
    decoded = decode_header(raw)
    assert decoded is not None
    return bytes(raw), decoded


def encode_meta(meta: Mapping[str, Any] | None) -> bytes:
    """Return the meta part.

    Raises:
        TypeError, ValueError: it is not plain JSON.
    """
    if not meta:
        return b""
    return json.dumps(meta, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode_header(data: bytes | bytearray | memoryview, *, file: str = "") -> Header | None:
    """Return the header in the first 192 bytes of `data`, or None if there is no whole, undamaged one.

    Raises:
        FormatTooNew: an undamaged header of a version or with flags that this Bourne does not know.
    """
    if len(data) < HEADER_BYTES:
        return None
    raw = bytes(data[:HEADER_BYTES])
    (magic, version, kind, zero, flags, partition, row_count, base_offset, append_time_us, fence,
     meta_bytes, payload_bytes, body_crc, header_crc, previous_hash, body_hash, history, log_id, number,
     schema_number) = _HEADER.unpack(raw)  # fmt: skip
    if magic != MAGIC or header_crc != _header_crc(raw):
        return None
    is_known = flags & ~(AHEAD | CONTINUED) == 0 and zero == 0
    if version != VERSION or not is_known or kind not in (KIND_SCHEMA, KIND_RECORDS, KIND_COLD):
        raise FormatTooNew(
            "this log was written by a newer Bourne",
            where=file or None,
            expected=f"frame version {VERSION} with flags that are known",
            found=f"version {version}, kind {kind}, flags {flags:#x}",
            hint="upgrade Bourne",
        )
    frame_bytes = HEADER_BYTES + _aligned(meta_bytes) + _aligned(payload_bytes)
    return Header(kind, flags, partition, row_count, base_offset, append_time_us, fence, meta_bytes, payload_bytes,
                  body_crc, previous_hash, body_hash, history, log_id, number, schema_number, raw,
                  hashlib.sha256(raw).digest(), frame_bytes)  # fmt: skip


def is_body_intact(header: Header, body: memoryview) -> bool:
    """Say whether the body is the one that was written, by its CRC-32."""
    return len(body) == header.body_bytes and crc32(body) == header.body_crc


def decode_meta(header: Header, body: memoryview) -> dict[str, Any]:
    """Return the meta part of a checked body."""
    meta: dict[str, Any] = json.loads(bytes(body[: header.meta_bytes])) if header.meta_bytes else {}
    return meta


def payload_of(header: Header, body: memoryview) -> pa.Buffer:
    """Return the Arrow IPC message of a checked body, without copying."""
    start = _aligned(header.meta_bytes)
    return pa.py_buffer(body[start : start + header.payload_bytes])


def buffers_start(header: Header, body: memoryview) -> int:
    """Return where, in the body of a frame of records, the Arrow message's own header ends and its buffers begin."""
    start = _aligned(header.meta_bytes)
    marker, size = struct.unpack_from("<Ii", body, start)
    assert marker == 0xFFFFFFFF
    return start + 8 + int(size)


def buffers_of(message: memoryview) -> memoryview:
    """Return the buffers of an encapsulated Arrow message."""
    return message[8 + int(struct.unpack_from("<Ii", message)[1]) :]


def header_rows(raw_headers: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many records each frame has; `raw_headers` has one header a row."""
    return _uint32s(raw_headers, _ROW_COUNT_AT)


def frame_starts(raw_headers: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the byte at which each frame starts if they follow one another, and where the last one ends.

    `raw_headers` has one header a row.
    """
    sizes = np.zeros(len(raw_headers) + 1, np.int64)
    for at in (_META_BYTES_AT, _META_BYTES_AT + 4):
        sizes[1:] += (_uint32s(raw_headers, at) + ALIGNMENT - 1) & -ALIGNMENT
    sizes[1:] += HEADER_BYTES
    return np.cumsum(sizes)


def _uint32s(raw_headers: NDArray[np.uint8], at: int) -> NDArray[np.int64]:
    return np.ascontiguousarray(raw_headers[:, at : at + 4]).view("<u4")[:, 0].astype(np.int64)


def encode_head(head: Head) -> bytes:
    """Return the content of the file `head`."""
    peaks = b"".join(head.forest.peaks)
    raw = bytearray(
        _HEAD.pack(
            _HEAD_MAGIC, head.segment, head.end, head.last, head.next_offset, head.fence, 0, 0, head.hash,
            head.durable_end, head.forest.size, head.append_time_us, head.boot_id,
        ) + peaks
    )  # fmt: skip
    struct.pack_into("<I", raw, _HEAD_CRC_AT, _head_crc(raw))
    return bytes(raw)


def decode_head(raw: bytes) -> Head | None:
    """Return what the file `head` says, or None if it is not whole and undamaged. Bytes behind it do not count."""
    if len(raw) < _HEAD.size:
        return None
    (magic, segment, end, last, next_offset, fence, crc, zero, last_hash,
     durable_end, number, append_time_us, boot_id) = _HEAD.unpack_from(raw)  # fmt: skip
    size = _HEAD.size + 32 * number.bit_count()
    if magic != _HEAD_MAGIC or len(raw) < size or crc != _head_crc(raw[:size]) or zero != 0:
        return None
    peaks = tuple(raw[at : at + 32] for at in range(_HEAD.size, size, 32))
    return Head(segment, end, durable_end, last, next_offset, fence, last_hash, append_time_us, boot_id,
                Forest(number, peaks))  # fmt: skip


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) & -ALIGNMENT


def _padding(size: int) -> bytes:
    return bytes(_aligned(size) - size)


def _header_crc(raw: bytes | bytearray) -> int:
    return crc32(raw[_CRC_AT + 4 : HEADER_BYTES], crc32(raw[:_CRC_AT]))


def _head_crc(raw: bytes | bytearray) -> int:
    return crc32(raw[_HEAD_CRC_AT + 8 :], crc32(raw[:_HEAD_CRC_AT]))
