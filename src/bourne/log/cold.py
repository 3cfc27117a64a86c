"""A cold segment: its records in a Parquet file, and beside it an index that still knows every frame.

Law: a frame that was not compacted is given back byte for byte as it was written, so that the hash chain and every
proof go on to hold; and every byte of both files is under a checksum. The page is docs/log_format.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from bourne.limits import COLD_GROUP_BYTES, FRAME_ROWS_MAX
from bourne.log.format import (
    HEADER_BYTES,
    KIND_COLD,
    KIND_SCHEMA,
    Header,
    buffers_of,
    buffers_start,
    decode_header,
    decode_meta,
    encode_meta,
    frame_starts,
    header_rows,
    is_body_intact,
    make_body,
    payload_of,
    seal,
    sums_of,
)
from bourne.log.segment import (
    Damaged,
    HotSegment,
    Records,
    Segment,
    cold_path,
    hold,
    open_shared,
    read_bytes,
    read_schema,
    segment_path,
)

OFFSET_COLUMN = "__offset"

# One row per frame: its header; the row group with its records (-1: none), and how many of them it keeps; the first
# bytes of its body, up to the Arrow buffers; and what differs between those and the ones made from the Parquet file.
_INDEX = pa.schema(
    [
        pa.field("header", pa.binary(HEADER_BYTES), False),
        pa.field("group", pa.int32(), False),
        pa.field("kept", pa.int64(), False),
        pa.field("prefix", pa.binary(), False),
        pa.field("patch", pa.binary()),
    ]
)

# A segment that changes its form while it is opened is looked for again this often.
_TRIES = 8


def open_segment(folder: Path, base: int) -> Segment | None:
    """Open a segment, whatever its form; None if there is none.

    Raises:
        Damaged: it is there, but not what was written.
    """
    for _ in range(_TRIES):
        try:
            return HotSegment(segment_path(folder, base))
        except FileNotFoundError:
            pass  # cold, or becoming so just now
        try:
            return ColdSegment(folder, base)
        except FileNotFoundError:
            pass
    return None


class Cold(NamedTuple):
    """The two files of a cold segment, before they are on the disk. Without any record, there is no Parquet file."""

    content: bytes
    parquet: memoryview | None
    parquet_name: str
    hash: bytes  # of the index's header: it stands for both files


class ColdSegment:
    """An open cold segment."""

    def __init__(self, folder: Path, base: int) -> None:
        """Open both files.

        Raises:
            FileNotFoundError: there is none, or it was replaced meanwhile.
            Damaged: its index is not what was written, or the Parquet file is missing.
        """
        path = cold_path(folder, base)
        self.name = path.name
        self._descriptor = open_shared(path)
        try:
            content = read_bytes(self._descriptor, 0, os.fstat(self._descriptor).st_size)
            index = decode_header(content, file=self.name)
            if index is None or index.kind != KIND_COLD or index.base_offset != base:
                raise Damaged("the header of the segment's index is not whole")
            body = content[HEADER_BYTES:]
            if not is_body_intact(index, body):
                raise Damaged("the checksum of the segment's index does not match its bytes")
            self.hash = index.hash
            self._about = decode_meta(index, body)
            self._frames = pa.ipc.open_stream(payload_of(index, body)).read_next_batch()
            self._raw = _raw_headers(self._frames)
            self._starts = frame_starts(self._raw)
            self._groups = self._frames.column(1).to_numpy()
            self._kept = self._frames.column(2).to_numpy()
            self._first_rows = _first_rows(self._groups, self._kept)
            self._rows = self._open_rows(folder)
        except BaseException:
            self.close()
            raise
        self._schema: pa.Schema | None = None

    def _open_rows(self, folder: Path) -> _Rows | None:
        if self._about["parquet"] is None:
            return None
        path = folder / self._about["parquet"]
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if os.fstat(self._descriptor).st_nlink:
                raise Damaged(f"its Parquet file {path.name} is missing") from None
            raise
        try:
            content = read_bytes(descriptor, 0, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)  # the map stays
        return _Rows(content, self._about["ranges"], path.name)

    def size(self) -> int:
        """Return the size that the frames had."""
        return int(self._starts[-1])

    def headers(self, start: int, end: int) -> Iterator[tuple[int, Header]]:
        """Yield the headers between two bytes."""
        for number in range(int(np.searchsorted(self._starts, start)), len(self._raw)):
            header = self._header(number)
            byte = int(self._starts[number])
            if byte + header.frame_bytes > end:
                return
            yield byte, header

    def header(self, byte: int, end: int) -> Header | None:
        """Return the header of the frame at `byte`."""
        number = int(np.searchsorted(self._starts, byte))
        if number >= len(self._raw) or self._starts[number] != byte or self._starts[number + 1] > end:
            return None
        return self._header(number)

    def _header(self, number: int) -> Header:
        header = decode_header(self._raw[number].tobytes(), file=self.name)
        if header is None:
            raise Damaged("a header in the segment's index is not whole")
        return header

    @property
    def parquet(self) -> str | None:
        """The name of its Parquet file; None if it has no records."""
        name: str | None = self._about["parquet"]
        return name

    @property
    def has_compacted(self) -> bool:
        """Say whether records of any frame were compacted away."""
        counts = header_rows(self._raw)
        return bool((counts != self._kept).any())

    def is_compacted(self, byte: int) -> bool:
        """Say whether records of that frame were compacted away."""
        number = int(np.searchsorted(self._starts, byte))
        return int(self._kept[number]) < self._header(number).row_count

    def body(self, byte: int, header: Header) -> memoryview:
        """Return the body as it was written, made anew from the records, and checked."""
        number = int(np.searchsorted(self._starts, byte))
        prefix = self._frames.column(3)[number].as_buffer()
        if self._groups[number] < 0:
            body = memoryview(prefix)
        else:
            assert not self.is_compacted(byte)
            batch, _ = self._batch(number)
            body = _join(prefix, batch, self._frames.column(4)[number].as_buffer(), header.body_bytes)
        if not is_body_intact(header, body):
            raise Damaged("its checksum does not match its bytes")
        return body

    def records(self, byte: int, header: Header, schema: pa.Schema) -> Records:
        """Return the records of a frame, from the Parquet file."""
        number = int(np.searchsorted(self._starts, byte))
        if self._groups[number] < 0 and header.row_count == self._kept[number]:
            body = self.body(byte, header)
            return Records(
                pa.ipc.read_record_batch(payload_of(header, body), schema), decode_meta(header, body)
            )
        prefix = memoryview(self._frames.column(3)[number].as_buffer())
        if self._kept[number] == header.row_count:
            return Records(self._batch(number)[0], decode_meta(header, prefix))
        meta = json.loads(bytes(prefix)) if prefix else {}
        if self._groups[number] < 0:
            return Records(pa.RecordBatch.from_pylist([], schema), meta, np.zeros(0, np.int64))
        batch, offsets = self._batch(number)
        return Records(batch, meta, offsets)

    def _batch(self, number: int) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Return the records of a frame that are kept, and their offsets."""
        if self._rows is None:
            raise Damaged("its Parquet file is not named")
        if self._schema is None:
            self._schema = self._last_schema()
        batch, offsets = self._rows.group(int(self._groups[number]), self._schema)
        first, count = int(self._first_rows[number]), int(self._kept[number])
        return batch.slice(first, count), offsets[first : first + count]

    def _last_schema(self) -> pa.Schema:
        """Return the schema of the segment's records: the last one counts, as it was changed before there were any."""
        found = [
            (byte, header) for byte, header in self.headers(0, self.size()) if header.kind == KIND_SCHEMA
        ]
        if not found:
            raise Damaged("the segment does not start with its schema")
        byte, header = found[-1]
        return read_schema(payload_of(header, self.body(byte, header)))

    def check(self) -> None:
        """Check every byte of both files, also those that no frame needs.

        Raises:
            Damaged: one is not what was written.
        """
        if self._rows is not None:
            self._rows.check(self._about["sha256"])

    def rest(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def resume(self) -> bool:
        """Take the lock again."""
        return hold(self._descriptor)

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        if self._descriptor >= 0:
            self.rest()  # closing is not enough: a large index is a memory map, and holds the open file
            os.close(self._descriptor)
            self._descriptor = -1


class _Rows:
    """The Parquet file, a row group at a time, each range of bytes checked before it is decoded."""

    def __init__(self, content: memoryview, ranges: list[list[int]], name: str) -> None:
        """`ranges` are (end, CRC-32) of each row group, and of what follows them."""
        self._content = content
        self._ranges = ranges
        self._name = name
        self._file: pq.ParquetFile | None = None
        self._loaded: tuple[int, pa.RecordBatch, NDArray[np.int64]] | None = None

    def group(self, number: int, schema: pa.Schema) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Return the records of one row group and their offsets; the last one is kept at hand."""
        if self._loaded is None or self._loaded[0] != number:
            if self._file is None:
                self._check(len(self._ranges) - 1)
                self._file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(self._content)))
            self._check(number)
            table = self._file.read_row_group(number).combine_chunks()
            offsets = table.column(0).to_numpy()
            self._loaded = number, _conform(table.select(range(1, table.num_columns)), schema), offsets
        return self._loaded[1:]

    def _check(self, number: int) -> None:
        start = self._ranges[number - 1][0] if number else 0
        end, crc = self._ranges[number]
        if crc32(self._content[start:end]) != crc or end > len(self._content):
            raise Damaged(f"bytes {start} to {end} of {self._name} are not what was written")

    def check(self, sha256: str) -> None:
        """Check all of it."""
        if hashlib.sha256(self._content).hexdigest() != sha256:
            for number in range(len(self._ranges)):
                self._check(number)
            raise Damaged(f"{self._name} is not what was written")


def _conform(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns in the types in which they were appended: Parquet has fewer."""
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        columns.append(
            array if array.type.equals(field.type, check_metadata=True) else array.cast(field.type)
        )
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _raw_headers(frames: pa.RecordBatch) -> NDArray[np.uint8]:
    buffer = frames.column(0).buffers()[1]
    rows = np.frombuffer(buffer, np.uint8, frames.num_rows * HEADER_BYTES)
    return rows.reshape(frames.num_rows, HEADER_BYTES)


def _first_rows(groups: NDArray[np.int32], kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at which row of its row group each frame begins."""
    before = np.cumsum(kept) - kept
    starts = np.zeros(int(groups.max(initial=-1)) + 1, np.int64)
    numbers, first = np.unique(groups[groups >= 0], return_index=True)
    starts[numbers] = before[groups >= 0][first]
    return np.where(groups >= 0, before - starts[groups] if len(starts) else 0, 0)


# --- making -----------------------------------------------------------------------------------------------


class _Planned(NamedTuple):
    """What becomes of one frame."""

    byte: int
    header: Header
    group: int
    kept: int
    prefix: bytes


def make_cold(
    segment: Segment,
    *,
    base: int,
    log_id: bytes,
    partition: int,
    now_us: int,
    keep: NDArray[np.int64] | None = None,
) -> Cold | None:
    """Return the cold form of a closed segment; None where Parquet cannot give it back exactly (INTERVAL columns).

    `keep` are the offsets, ascending, of the records to keep; by default all.

    Raises:
        Damaged: the segment is not what was written.
    """
    planned, batches, schema = [], _Groups(), None
    for byte, header in segment.headers(0, segment.size()):
        if header.kind == KIND_SCHEMA or not header.row_count:
            body = segment.body(byte, header)
            if header.kind == KIND_SCHEMA:
                schema = read_schema(payload_of(header, body))
            planned.append(_Planned(byte, header, -1, 0, bytes(body)))
            continue
        assert schema is not None
        records = segment.records(byte, header, schema)
        batch, offsets = _kept(records, header, keep)
        if batch.num_rows == header.row_count:
            body = segment.body(byte, header)
            prefix = bytes(body[: buffers_start(header, body)])
        else:
            prefix = encode_meta(records.meta)
        try:
            group = batches.add(batch, offsets)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return None
        planned.append(_Planned(byte, header, group, batch.num_rows, prefix))
    if not planned or planned[-1].byte + planned[-1].header.frame_bytes != segment.size():
        raise Damaged("a frame is not whole")
    assert schema is not None
    try:
        parquet = batches.finish()
        patches = (
            _patches(segment, planned, _Rows(parquet, _ranges(parquet), ""), schema) if parquet else None
        )
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, _Differs):
        return None
    return _index(planned, patches, parquet, base=base, log_id=log_id, partition=partition, now_us=now_us)


def _kept(
    records: Records, header: Header, keep: NDArray[np.int64] | None
) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """Return the records of a frame that are to be kept, and their offsets."""
    offsets = records.offsets
    if offsets is None:
        offsets = np.arange(header.base_offset, header.next_offset)
    if keep is None or not len(offsets):
        return records.batch, offsets
    places = np.searchsorted(keep, offsets)
    is_kept = np.zeros(len(offsets), np.bool_)
    inside = places < len(keep)
    is_kept[inside] = keep[places[inside]] == offsets[inside]
    if is_kept.all():
        return records.batch, offsets
    return records.batch.filter(pa.array(is_kept)), offsets[is_kept]


class _Groups:
    """Writes batches into row groups of whole frames."""

    def __init__(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []
        self._rows = self._bytes = self._number = 0

    def add(self, batch: pa.RecordBatch, offsets: NDArray[np.int64]) -> int:
        """Take in a frame's records; return the number of their row group, -1 without any."""
        if not batch.num_rows:
            return -1
        rows, size = self._rows + batch.num_rows, self._bytes + batch.nbytes
        if self._pending and (rows > FRAME_ROWS_MAX or size > COLD_GROUP_BYTES):
            self._write()
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        fields = [pa.field(OFFSET_COLUMN, pa.int64(), False), *batch.schema]
        self._pending.append(
            pa.Table.from_arrays([pa.array(offsets), *batch.columns], schema=pa.schema(fields))
        )
        return self._number

    def _write(self) -> None:
        table = pa.concat_tables(self._pending)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._sink, table.schema, compression="zstd", write_page_checksum=True,
                use_dictionary=[name for name in table.schema.names if name != OFFSET_COLUMN],
                column_encoding={OFFSET_COLUMN: "DELTA_BINARY_PACKED"},
            )  # fmt: skip
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._pending, self._rows, self._bytes = [], 0, 0
        self._number += 1

    def finish(self) -> memoryview | None:
        """Return the file; None without any record."""
        if self._pending:
            self._write()
        if self._writer is None:
            return None
        self._writer.close()
        return memoryview(self._sink.getvalue())


def _ranges(parquet: memoryview) -> list[list[int]]:
    """Return where each row group ends, with the CRC-32 of its bytes; then the same of the rest of the file."""
    about = pq.read_metadata(pa.BufferReader(pa.py_buffer(parquet)))
    ends = []
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        columns = [group.column(column) for column in range(group.num_columns)]
        ends.append(
            max(
                (column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
                + column.total_compressed_size
                for column in columns
            )
        )
    ends.append(len(parquet))
    return [[end, crc32(parquet[start:end])] for start, end in zip([0, *ends], ends, strict=False)]


class _Differs(Exception):
    """Parquet does not give the same values back."""


def _patches(segment: Segment, planned: list[_Planned], rows: _Rows, schema: pa.Schema) -> list[bytes | None]:
    """Read everything back, and return what must be put right in each frame's bytes.

    Raises:
        _Differs: the values are others.
    """
    first = _first_rows(
        np.array([each.group for each in planned], np.int32),
        np.array([each.kept for each in planned], np.int64),
    )
    patches: list[bytes | None] = []
    for each, start in zip(planned, first.tolist(), strict=True):
        patch = None
        if each.group >= 0:
            group, offsets = rows.group(each.group, schema)
            batch = group.slice(start, each.kept)
            written = segment.records(each.byte, each.header, schema)
            if each.kept == each.header.row_count:
                body = segment.body(each.byte, each.header)
                patch = _patch(each.prefix, batch, body)
            else:
                written = written._replace(
                    batch=_kept(written, each.header, offsets[start : start + each.kept])[0]
                )
            if (patch is not None or each.kept < each.header.row_count) and not all(
                map(_is_same, batch.columns, written.batch.columns)
            ):
                raise _Differs
        patches.append(patch)
    return patches


def _is_same(one: pa.Array, other: pa.Array) -> bool:
    """Say whether two arrays hold the same values, bit for bit, whatever is in their memory where there is NULL."""
    if one.equals(other):
        return True
    if len(one) != len(other) or not one.is_valid().equals(other.is_valid()):
        return False
    one, other = one.drop_null(), other.drop_null()
    if pa.types.is_floating(one.type):
        return bool((one.to_numpy().view(np.uint8) == other.to_numpy().view(np.uint8)).all())
    if pa.types.is_struct(one.type):
        return all(map(_is_same, one.flatten(), other.flatten()))
    if pa.types.is_list(one.type) or pa.types.is_fixed_size_list(one.type):
        is_long_as = one.value_lengths().equals(other.value_lengths())
        return is_long_as and _is_same(one.flatten(), other.flatten())
    return bool(one.equals(other))


def _join(prefix: Any, batch: pa.RecordBatch, patch: Any, size: int) -> memoryview:
    """Return a body: its first bytes, then the buffers of its records, put right by the patch, and padding."""
    body = bytearray(size)
    body[: len(prefix)] = memoryview(prefix)
    rest = size - len(prefix)
    buffers = buffers_of(memoryview(batch.serialize()))
    if len(buffers) <= rest:
        body[len(prefix) : len(prefix) + len(buffers)] = buffers
    if patch is not None:
        tail = np.frombuffer(body, np.uint8)[len(prefix) :]
        tail ^= np.frombuffer(pa.decompress(patch, rest, codec="zstd"), np.uint8)
    return memoryview(body)


def _patch(prefix: bytes, batch: pa.RecordBatch, body: memoryview) -> bytes | None:
    """Return what `_join` needs to give `body` back; None if it needs nothing."""
    made = _join(prefix, batch, None, len(body))
    if made == body:
        return None
    rest = np.frombuffer(made, np.uint8)[len(prefix) :] ^ np.frombuffer(body, np.uint8)[len(prefix) :]
    return bytes(pa.compress(rest.tobytes(), codec="zstd", asbytes=True))


def _index(
    planned: list[_Planned],
    patches: list[bytes | None] | None,
    parquet: memoryview | None,
    *,
    base: int,
    log_id: bytes,
    partition: int,
    now_us: int,
) -> Cold:
    """Return both files."""
    digest = hashlib.sha256(parquet).hexdigest() if parquet is not None else ""
    name = f"{base:020d}-{digest[:16]}.parquet"
    frames = pa.RecordBatch.from_arrays(
        [
            pa.array([each.header.raw for each in planned], _INDEX.field(0).type),
            pa.array([each.group for each in planned], pa.int32()),
            pa.array([each.kept for each in planned], pa.int64()),
            pa.array([each.prefix for each in planned], pa.binary()),
            pa.array(patches or [None] * len(planned), pa.binary()),
        ],
        schema=_INDEX,
    )
    about = {
        "parquet": name if parquet is not None else None,
        "sha256": digest,
        "ranges": _ranges(parquet) if parquet is not None else [],
    }
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _INDEX, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_batch(frames)
    body = make_body(sink.getvalue(), about)
    first = planned[0].header
    raw, header = seal(
        body, sums_of(body.parts), kind=KIND_COLD, flags=0, row_count=0, base_offset=base,
        previous_hash=first.previous_hash, history=first.history, number=first.number,
        schema_number=first.schema_number, append_time_us=now_us,
        log_id=log_id, partition=partition, fence=0,
    )  # fmt: skip
    return Cold(b"".join((raw, *body.parts)), parquet, name, header.hash)
