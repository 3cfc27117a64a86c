"""Proofs: a record is in a log under a head hash, checked without the log. The page is docs/log_format.md, "Proofs".

Law: under one head hash, a checked proof says of an offset what the log itself says of it: nobody can make one that
says something else, unless he finds two inputs with the same SHA-256. What is said and not proved, as no hash covers it:
the log's name, and that no later schema frame comes between the one that is shown and the record.

The bytes may be anybody's: everything is checked before it is used. `bourne.log.prove` makes proofs.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from bourne.errors import FormatTooNew, InputError, InvalidProof, MalformedInput
from bourne.limits import NAME_CHARS_MAX, PROOF_BYTES_MAX
from bourne.log.format import ALIGNMENT, HEADER_BYTES, KIND_RECORDS, KIND_SCHEMA, Header, decode_header
from bourne.log.merkle import LEAF_BYTES, leaf_hash, root_of
from bourne.log.protocol import LogHead
from bourne.log.row import Read, read_row
from bourne.log.segment import Damaged, read_schema
from bourne.values import check_instants

VERSION: Final = 1

_HASH_BYTES = 32
_Kind = TypeVar("_Kind", str, int, list[Any], dict[str, Any])


@dataclass(frozen=True, slots=True)
class Proved:
    """A record that a proof showed, and under which head: the end of its partition then, and the hash of its last frame.

    `log` is what the proof calls the log; what is proved is `log_id`, the id in its `log.json`. `record` has one row, in
    the columns under which it was appended. `append_time_us` is in microseconds since 1970-01-01 UTC.
    """

    log: str
    log_id: str
    partition: int
    offset: int
    append_time_us: int
    head: LogHead
    record: pa.RecordBatch


class _Frame(NamedTuple):
    """A frame that a proof shows: its header, and the bytes of its payload that are there."""

    header: Header
    read: Read


def check_proof(proof: Mapping[str, Any] | str | bytes, head: str | LogHead | None = None) -> Proved:
    """Check a proof that `bourne prove` or `EmbeddedLog.prove` made, and return the record that it shows. No log is needed.

    Args:
        proof: the proof, or its JSON text.
        head: the head (or its hash) that you have from elsewhere. Without it, the proof is only as good as the head hash
            that is returned: compare that one.

    Raises:
        InvalidProof: it does not prove what it says, or not under that head.
        MalformedInput: it is no proof at all.
        FormatTooNew: it was made by a newer Bourne.
        InputError: `head` is no hash.
    """
    wanted = head_hash(head)
    content = _content(proof)
    try:
        proved = _check(content)
    except Damaged as error:
        raise InvalidProof(f"the proof does not hold: {error}") from error
    if wanted is not None and proved.head.hash != wanted:
        raise InvalidProof(
            "the proof is under another head", expected=wanted, found=proved.head.hash,
            hint="ask for a proof under this head: bourne prove LOG OFFSET --head HASH",
        )  # fmt: skip
    return proved


def head_hash(head: str | LogHead | None) -> str | None:
    """Return a head's hash as the 64 hexadecimal digits that Bourne prints.

    Raises:
        InputError: it is none.
    """
    if head is None:
        return None
    text = head.hash if isinstance(head, LogHead) else head
    digits = text.strip().lower()
    if len(digits) != 2 * _HASH_BYTES or not set(digits) <= set("0123456789abcdef"):
        raise InputError("that is no head hash", expected="64 hexadecimal digits", found=repr(text)[:80])
    return digits


def payload_start(header: Header) -> int:
    """Return where in a frame's body its payload begins."""
    return (header.meta_bytes + ALIGNMENT - 1) & -ALIGNMENT


def leaf_count(header: Header) -> int:
    """Return how many leaves a frame's body has."""
    return -(-header.body_bytes // LEAF_BYTES)


def _content(proof: Mapping[str, Any] | str | bytes) -> dict[str, Any]:
    """Return the proof as the JSON object that it is."""
    content: Any = proof
    if isinstance(proof, str | bytes):
        try:
            content = json.loads(proof)
        except (ValueError, RecursionError) as error:
            raise MalformedInput("that is no proof", expected="a JSON object", found=str(error)) from error
    version = content.get("bourne_proof") if isinstance(content, Mapping) else None
    if type(version) is not int or version < VERSION:
        raise MalformedInput(
            "that is no proof", expected='a JSON object with "bourne_proof": 1, as bourne prove writes it'
        )
    if version > VERSION:
        raise FormatTooNew(
            "this proof was made by a newer Bourne", expected=f"version {VERSION}", found=f"version {version}",
            hint="upgrade Bourne",
        )  # fmt: skip
    return dict(content)


def _check(content: dict[str, Any]) -> Proved:
    """Return what the proof shows.

    Raises:
        Damaged: it shows nothing.
    """
    name, offset = _get(content, "log", str), _get(content, "offset", int)
    if not name.isidentifier() or len(name) > NAME_CHARS_MAX:
        raise Damaged("its log has a name that no log has")
    head = _header(content, "head")
    record = _frame(content, "record", head, KIND_RECORDS)
    schema = _frame(content, "schema", head, KIND_SCHEMA)
    _check_places(schema.header, record.header, head, offset)
    row = read_row(
        record.read, record.header.payload_bytes, _schema(schema), record.header.row_count,
        offset - record.header.base_offset,
    )  # fmt: skip
    try:
        for column in row.columns:
            check_instants(pa.chunked_array([column]))
    except ValueError as error:
        raise Damaged(str(error)) from error
    return Proved(
        name, head.log_id.hex(), head.partition, offset, record.header.append_time_us,
        LogHead(head.partition, head.next_offset, head.hash.hex()), row,
    )  # fmt: skip


def _check_places(schema: Header, record: Header, head: Header, offset: int) -> None:
    """Check that the three frames belong together, and that the record is in its frame."""
    if len({(header.log_id, header.partition) for header in (schema, record, head)}) > 1:
        raise Damaged("its frames are of several logs or partitions")
    is_in_order = (
        schema.number < record.number <= head.number
        and schema.base_offset <= record.base_offset
        and record.next_offset <= head.next_offset
    )
    if not is_in_order:
        raise Damaged("its frames are not in the order of a log")
    if record.schema_number != schema.number:
        raise Damaged("the record's frame was written under another schema")
    if not record.base_offset <= offset < record.next_offset:
        raise Damaged(
            f"offset {offset} is not in its frame, which has {record.base_offset} to {record.next_offset - 1}"
        )


def _schema(frame: _Frame) -> pa.Schema:
    """Return the columns that a schema frame declares."""
    try:
        schema = read_schema(pa.py_buffer(frame.read(0, frame.header.payload_bytes)))
        names = [name.casefold() for name in schema.names]
    except (pa.ArrowException, ValueError, OSError) as error:
        raise Damaged(f"its schema cannot be read: {error}") from error
    if not names or len(set(names)) < len(names):
        raise Damaged("its schema has no columns, or several of one name")
    return schema


def _frame(content: dict[str, Any], name: str, head: Header, kind: int) -> _Frame:
    """Return a frame, once it is sure that it is in the log under the head, and that the bytes shown are its own."""
    part = _get(content, name, dict)
    header = _header(part, "header")
    if header.kind != kind:
        raise Damaged(f"its {name} is a frame of another kind")
    if header.hash != head.hash:
        found = root_of(leaf_hash(header.hash), header.number, head.number, _hashes(part, "path"))
        if found is None or found != head.history:
            raise Damaged(f"its {name} is not in the history of its head")
    elif _hashes(part, "path"):
        raise Damaged(f"its {name} is its head, and has a path to it")
    leaves = _get(part, "leaves", list)
    if len(leaves) * LEAF_BYTES > PROOF_BYTES_MAX:
        raise Damaged(f"it is larger than {PROOF_BYTES_MAX:,} bytes")
    return _Frame(header, _reader(header, dict(_leaf(leaf, header) for leaf in leaves)))


def _leaf(leaf: Any, header: Header) -> tuple[int, bytes]:
    """Return the number and the bytes of a leaf of a frame's body, once it is sure that it is one."""
    index, count = _get(leaf, "index", int), leaf_count(header)
    if not 0 <= index < count:
        raise Damaged("it shows bytes that its frame does not have")
    size = min(LEAF_BYTES, header.body_bytes - index * LEAF_BYTES)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(_bytes(leaf, "data"), size + 1)
    except zlib.error as error:
        raise Damaged("a part of it cannot be decompressed") from error
    if len(data) != size or not inflate.eof or inflate.unused_data:
        raise Damaged("a part of it is not as long as it must be")
    if root_of(leaf_hash(data), index, count, _hashes(leaf, "path")) != header.body_hash:
        raise Damaged("it shows bytes that are not those of its frame")
    return index, data


def _reader(header: Header, leaves: dict[int, bytes]) -> Read:
    """Return how to read a frame's payload, as far as its leaves are there."""
    start_of_payload = payload_start(header)

    def read(start: int, end: int) -> bytes:
        if not 0 <= start <= end <= header.payload_bytes:
            raise Damaged("it points out of its frame")
        start, end = start + start_of_payload, end + start_of_payload
        first, last = start // LEAF_BYTES, -(-end // LEAF_BYTES)
        if last - first > len(leaves) or any(index not in leaves for index in range(first, last)):
            raise Damaged("it lacks bytes that the record needs")
        data = b"".join(leaves[index] for index in range(first, last))
        return data[start - first * LEAF_BYTES : end - first * LEAF_BYTES]

    return read


# --- JSON ----------------------------------------------------------------------------------------------


def _get(content: Any, name: str, kind: type[_Kind]) -> _Kind:
    value = content.get(name) if isinstance(content, dict) else None
    if type(value) is not kind:
        raise Damaged(f'it has no "{name}", or not one of the right kind')
    return value


def _bytes(content: Any, name: str) -> bytes:
    try:
        return base64.b64decode(_get(content, name, str), validate=True)
    except ValueError as error:
        raise Damaged(f'its "{name}" is not in base64') from error


def _hashes(content: Any, name: str) -> list[bytes]:
    data = _bytes(content, name)
    if len(data) % _HASH_BYTES:
        raise Damaged(f'its "{name}" is cut')
    return [data[at : at + _HASH_BYTES] for at in range(0, len(data), _HASH_BYTES)]


def _header(content: Any, name: str) -> Header:
    data = _bytes(content, name)
    header = decode_header(data, file="proof") if len(data) == HEADER_BYTES else None
    if header is None or header.kind not in (KIND_SCHEMA, KIND_RECORDS):
        raise Damaged(f'its "{name}" is not the header of a frame')
    return header
