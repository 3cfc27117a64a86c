"""The bytes: what is encoded is decoded, what is flipped is noticed."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bourne.errors import FormatTooNew
from bourne.log.format import (
    ALIGNMENT,
    HEAD_BYTES,
    HEADER_BYTES,
    KIND_RECORDS,
    KIND_SCHEMA,
    Encoded,
    Head,
    decode_head,
    decode_header,
    decode_meta,
    encode,
    encode_head,
    is_body_intact,
    payload_of,
)

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab글🌊"), inner, max_size=3),
    max_leaves=5,
)


def _frame(payload: bytes = b"payload", meta: dict[str, Any] | None = None, **fields: Any) -> Encoded:
    usual: dict[str, Any] = {
        "kind": KIND_RECORDS,
        "row_count": 3,
        "base_offset": 7,
        "previous_hash": bytes(range(32)),
        "append_time_us": -5,
        "partition": 0,
        "fence": 2,
    }
    return encode(pa.py_buffer(payload), meta=meta, **{**usual, **fields})


@given(
    payload=st.binary(max_size=300),
    meta=st.none() | st.dictionaries(st.text("ab글🌊"), JSON, max_size=3),
    kind=st.sampled_from([KIND_SCHEMA, KIND_RECORDS]),
    row_count=U32,
    base_offset=st.integers(0, 2**63),
    previous_hash=st.binary(min_size=32, max_size=32),
    append_time_us=st.integers(-(2**63), 2**63 - 1),
    partition=U32,
    fence=U64,
)
def test_frames_round_trip(payload: bytes, meta: dict[str, Any] | None, **fields: Any) -> None:
    frame = _frame(payload, meta, **fields)
    data = b"".join(frame.parts)
    header = decode_header(data)
    assert header == frame.header
    assert all(getattr(header, name) == value for name, value in fields.items())
    assert header.next_offset == fields["base_offset"] + fields["row_count"]
    assert header.frame_bytes == len(data)
    assert len(data) % ALIGNMENT == 0
    assert header.hash == hashlib.sha256(data[:HEADER_BYTES]).digest()
    body = memoryview(data)[HEADER_BYTES:]
    assert header.body_hash == hashlib.sha256(body).digest()
    assert is_body_intact(header, body)
    assert decode_meta(header, body) == (meta or {})
    assert payload_of(header, body).to_pybytes() == payload


def test_the_page_and_the_bytes_agree() -> None:
    """A reader written from docs/log_format.md, field by field."""
    data = b"".join(_frame(b"xyz", {"a": 1}).parts)
    assert data[0:8] == b"BOURNEFR"
    assert struct.unpack_from("<HBBI", data, 8) == (1, 2, 0, 0)
    assert struct.unpack_from("<IIQqQ", data, 16) == (0, 3, 7, -5, 2)
    assert struct.unpack_from("<III", data, 48) == (7, 3, zlib.crc32(data[128:]))
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60] + data[64:128])
    assert data[64:96] == bytes(range(32))
    assert data[96:128] == hashlib.sha256(data[128:]).digest()
    assert data[128 : 128 + 7] == b'{"a":1}'
    assert data[192:195] == b"xyz"
    assert len(data) == 256


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    data = b"".join(_frame(b"some payload" * 9, {"epoch": 1}).parts)
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            header = decode_header(bad)
            assert header is None or not is_body_intact(header, memoryview(bad)[HEADER_BYTES:])


def test_a_header_cut_short_is_no_header() -> None:
    data = b"".join(_frame().parts)
    assert all(decode_header(data[:size]) is None for size in range(HEADER_BYTES))
    assert decode_header(memoryview(data)) is not None


@pytest.mark.parametrize(("form", "at", "value"), [("<H", 8, 2), ("<B", 10, 9), ("<B", 11, 1), ("<I", 12, 4)])
def test_newer_versions_kinds_and_flags_are_named(form: str, at: int, value: int) -> None:
    data = bytearray(b"".join(_frame().parts)[:HEADER_BYTES])
    struct.pack_into(form, data, at, value)
    assert decode_header(data) is None  # damage first
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60] + data[64:]))
    with pytest.raises(FormatTooNew, match="upgrade"):
        decode_header(data, file="x.seg")


@given(numbers=st.tuples(U64, U64, U64, U64, U64), last_hash=st.binary(min_size=32, max_size=32))
def test_heads_round_trip(numbers: tuple[int, int, int, int, int], last_hash: bytes) -> None:
    head = Head(*numbers, last_hash)
    raw = encode_head(head)
    assert len(raw) == HEAD_BYTES
    assert decode_head(raw) == head


def test_every_flipped_bit_of_a_head_is_noticed() -> None:
    raw = encode_head(Head(0, 4096, 2048, 17, 3, bytes(range(32))))
    for at in range(len(raw)):
        for bit in range(8):
            bad = bytearray(raw)
            bad[at] ^= 1 << bit
            assert decode_head(bytes(bad)) is None
    assert all(decode_head(raw[:size]) is None for size in range(len(raw)))
    assert decode_head(raw + b"\0") is None
