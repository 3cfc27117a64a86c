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
    HEADER_BYTES,
    KIND_RECORDS,
    KIND_SCHEMA,
    Head,
    Header,
    decode_head,
    decode_header,
    decode_meta,
    encode_head,
    is_body_intact,
    make_body,
    payload_of,
    seal,
    sums_of,
)
from bourne.log.merkle import LEAF_BYTES, Forest, leaf_hash, node_hash, path_to, root, root_of, subtrees

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


def _frame(
    payload: bytes = b"payload", meta: dict[str, Any] | None = None, **fields: Any
) -> tuple[bytes, Header]:
    usual: dict[str, Any] = {
        "kind": KIND_RECORDS,
        "flags": 0,
        "row_count": 3,
        "base_offset": 7,
        "previous_hash": bytes(range(32)),
        "history": bytes(range(32, 64)),
        "number": 5,
        "schema_number": 4,
        "log_id": b"0123456789abcdef",
        "append_time_us": -5,
        "partition": 0,
        "fence": 2,
    }
    body = make_body(pa.py_buffer(payload), meta)
    raw, header = seal(body, sums_of(body.parts), **{**usual, **fields})
    return raw + b"".join(body.parts), header


@given(
    payload=st.binary(min_size=1, max_size=300),
    meta=st.none() | st.dictionaries(st.text("ab글🌊"), JSON, max_size=3),
    kind=st.sampled_from([KIND_SCHEMA, KIND_RECORDS]),
    row_count=U32,
    base_offset=st.integers(0, 2**63),
    previous_hash=st.binary(min_size=32, max_size=32),
    append_time_us=st.integers(-(2**63), 2**63 - 1),
    partition=U32,
    fence=U64,
    flags=st.integers(0, 3),
    number=U64,
    schema_number=U64,
    history=st.binary(min_size=32, max_size=32),
    log_id=st.binary(min_size=16, max_size=16),
)
def test_frames_round_trip(payload: bytes, meta: dict[str, Any] | None, **fields: Any) -> None:
    data, sealed = _frame(payload, meta, **fields)
    header = decode_header(data)
    assert header == sealed
    assert all(getattr(header, name) == value for name, value in fields.items())
    assert header.next_offset == fields["base_offset"] + fields["row_count"]
    assert header.frame_bytes == len(data)
    assert len(data) % ALIGNMENT == 0
    assert header.hash == hashlib.sha256(data[:HEADER_BYTES]).digest()
    body = memoryview(data)[HEADER_BYTES:]
    assert header.body_hash == hashlib.sha256(b"\0" + body).digest()
    assert is_body_intact(header, body)
    assert decode_meta(header, body) == (meta or {})
    assert payload_of(header, body).to_pybytes() == payload


def test_the_page_and_the_bytes_agree() -> None:
    """A reader written from docs/log_format.md, field by field."""
    data = _frame(b"xyz", {"a": 1})[0]
    assert data[0:8] == b"BOURNEFR"
    assert struct.unpack_from("<HBBI", data, 8) == (2, 2, 0, 0)
    assert struct.unpack_from("<IIQqQ", data, 16) == (0, 3, 7, -5, 2)
    assert struct.unpack_from("<III", data, 48) == (7, 3, zlib.crc32(data[192:]))
    assert struct.unpack_from("<I", data, 60)[0] == zlib.crc32(data[:60] + data[64:192])
    assert data[64:96] == bytes(range(32))
    assert data[96:128] == hashlib.sha256(b"\0" + data[192:]).digest()
    assert data[128:160] == bytes(range(32, 64))
    assert data[160:176] == b"0123456789abcdef"
    assert struct.unpack_from("<QQ", data, 176) == (5, 4)
    assert data[192 : 192 + 7] == b'{"a":1}'
    assert data[256:259] == b"xyz"
    assert len(data) == 320


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    data = _frame(b"some payload" * 9, {"epoch": 1})[0]
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            header = decode_header(bad)
            assert header is None or not is_body_intact(header, memoryview(bad)[HEADER_BYTES:])


def test_a_header_cut_short_is_no_header() -> None:
    data = _frame()[0]
    assert all(decode_header(data[:size]) is None for size in range(HEADER_BYTES))
    assert decode_header(memoryview(data)) is not None


@pytest.mark.parametrize(("form", "at", "value"), [("<H", 8, 3), ("<B", 10, 9), ("<B", 11, 1), ("<I", 12, 4)])
def test_newer_versions_kinds_and_flags_are_named(form: str, at: int, value: int) -> None:
    data = bytearray(_frame()[0][:HEADER_BYTES])
    struct.pack_into(form, data, at, value)
    assert decode_header(data) is None  # damage first
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60] + data[64:]))
    with pytest.raises(FormatTooNew, match="upgrade"):
        decode_header(data, file="x.seg")


@given(
    numbers=st.tuples(U64, U64, U64, U64, U64, U64),
    last_hash=st.binary(min_size=32, max_size=32),
    time=st.integers(-(2**63), 2**63 - 1),
    leaves=st.integers(0, 40),
)
def test_heads_round_trip(numbers: tuple[int, ...], last_hash: bytes, time: int, leaves: int) -> None:
    forest = Forest()
    for number in range(leaves):
        forest = forest.add(leaf_hash(bytes([number])))
    head = Head(*numbers, last_hash, time, bytes(range(16)), forest)
    raw = encode_head(head)
    assert len(raw) == 128 + 32 * leaves.bit_count()
    assert decode_head(raw) == head
    assert decode_head(raw + b"what a longer one left") == head


def test_every_flipped_bit_of_a_head_is_noticed() -> None:
    forest = Forest().add(bytes(32)).add(bytes(32)).add(bytes(32))
    raw = encode_head(Head(0, 4096, 4096, 2048, 17, 3, bytes(range(32)), 9, bytes(16), forest))
    for at in range(len(raw)):
        for bit in range(8):
            bad = bytearray(raw)
            bad[at] ^= 1 << bit
            assert decode_head(bytes(bad)) is None
    assert all(decode_head(raw[:size]) is None for size in range(len(raw)))


def test_a_body_is_hashed_in_leaves() -> None:
    payload = bytes(range(256)) * (LEAF_BYTES // 64)  # four leaves
    body = make_body(pa.py_buffer(payload), {"a": 1})
    whole = b"".join(body.parts)
    pieces = [whole[start : start + LEAF_BYTES] for start in range(0, len(whole), LEAF_BYTES)]
    assert len(pieces) == 5
    assert sums_of(body.parts) == (zlib.crc32(whole), root([leaf_hash(piece) for piece in pieces]))
    a, b, c = (leaf_hash(piece) for piece in (b"a", b"b", b"c"))
    assert root([a, b, c]) == node_hash(node_hash(a, b), c)


def test_every_leaf_has_a_path_to_the_root_also_when_the_first_ones_are_gone() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(37)]
    forests = [Forest()]
    for leaf in leaves:
        forests.append(forests[-1].add(leaf))
    for count in range(1, len(leaves) + 1):
        assert forests[count].root() == root(leaves[:count])
        for first in range(count):
            subtree = subtrees(first, forests[first].peaks, leaves[first:count])
            for index in range(first, count):
                path = path_to(index, count, subtree)
                assert root_of(leaves[index], index, count, path) == root(leaves[:count])
                assert root_of(leaves[index - 1], index, count, path) != root(leaves[:count])
    assert root_of(leaves[0], 0, 4, [leaves[1]]) is None
    assert root_of(leaves[0], 4, 4, []) is None
