"""One record of an Arrow message, read from as few of its bytes as that takes.

Law: what is read is the row that Arrow itself reads from the whole message, and which bytes that takes depends on
nothing but bytes that were read. Every length and offset is checked before it is followed, so the bytes may be
anybody's; Arrow gets to see only small arrays that were made anew here, and checks those in full.

The layout is the one of Arrow's IPC format, version 5. What no log holds is refused: dictionaries, compression, and types
other than those on the page docs/log_format.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.log.segment import Damaged

Read = Callable[[int, int], bytes]
"""Returns the message's bytes from `start` to `end`, which lie in it, or raises `Damaged`."""

_CONTINUATION = 0xFFFFFFFF
_RECORD_BATCH = 3
_VERSION_5 = 4


class _Message(NamedTuple):
    """What an Arrow message says of its record batch. `start` is where its buffers begin, `size` how long they are."""

    start: int
    size: int
    rows: int
    lengths: list[int]
    nulls: list[int]
    buffers: list[tuple[int, int]]


def read_row(read: Read, size: int, schema: pa.Schema, rows: int, row: int) -> pa.RecordBatch:
    """Return one row of a message of `size` bytes with `rows` rows, as a record batch of its own.

    O(bytes of the row), and of what the message says of its columns.

    Raises:
        Damaged: it is no message that a log holds, or not of this schema; or `read` does not have the bytes.
    """
    try:
        message = _read_message(read, size)
        if message.rows != rows or not 0 <= row < rows:
            raise Damaged(f"its Arrow message has {message.rows} records, its header says {rows}")
        columns = _Columns(read, message)
        arrays = [columns.take(kind, row, row + 1) for kind in schema.types]
        columns.finish()
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        batch.validate(full=True)
    except (struct.error, pa.ArrowException, ValueError) as error:
        raise Damaged(f"its Arrow message cannot be read: {error}") from error
    return batch


class _Columns:
    """Takes ranges of rows out of the columns, in the order in which the message has them."""

    def __init__(self, read: Read, message: _Message) -> None:
        self._read = read
        self._start = message.start
        self._nodes = iter(zip(message.lengths, message.nulls, strict=True))
        self._buffers: Iterator[tuple[int, int]] = _in_order(message.buffers, message.size)

    def finish(self) -> None:
        """Check that nothing is left over: the schema is the one of this message."""
        if next(self._nodes, None) is not None or next(self._buffers, None) is not None:
            raise Damaged("its Arrow message has more columns than its schema")

    def take(self, kind: pa.DataType, start: int, end: int) -> pa.Array:
        """Return rows `start` to `end` of the next column, its children with it."""
        length, nulls = _next(self._nodes)
        if not 0 <= start <= end <= length or not 0 <= nulls <= length:
            raise Damaged("its Arrow message has a column that is too short")
        bits = _next(self._buffers)
        valid = self._bits(bits, start, end) if nulls else None
        if valid is not None and not valid.any():
            # What is where there is NULL does not matter, but the columns after it are to be found.
            self._values(kind, 0, 0, None)
            return pa.nulls(end - start, kind)
        return self._values(kind, start, end, valid)

    def _values(self, kind: pa.DataType, start: int, end: int, valid: NDArray[np.uint8] | None) -> pa.Array:
        count = end - start
        validity = _packed(valid) if valid is not None else None
        children: list[pa.Array] | None = None
        buffers = [validity]
        if pa.types.is_boolean(kind):
            buffers.append(_packed(self._bits(_next(self._buffers), start, end)))
        elif _is_fixed(kind):
            width = kind.bit_width // 8
            data = self._bytes(_next(self._buffers), start * width, end * width)
            if pa.types.is_decimal128(kind):
                _check_decimals(data, valid)
            buffers.append(pa.py_buffer(data))
        elif pa.types.is_string(kind) or pa.types.is_binary(kind):
            offsets, first, last = self._offsets(start, end)
            buffers += [offsets, pa.py_buffer(self._bytes(_next(self._buffers), first, last))]
        elif pa.types.is_list(kind) or pa.types.is_map(kind):
            offsets, first, last = self._offsets(start, end)
            buffers.append(offsets)
            children = [self.take(kind.field(0).type, first, last)]
        elif pa.types.is_fixed_size_list(kind) and kind.list_size > 0:
            children = [self.take(kind.value_type, start * kind.list_size, end * kind.list_size)]
        elif pa.types.is_struct(kind) and kind.num_fields:
            children = [self.take(kind.field(each).type, start, end) for each in range(kind.num_fields)]
        else:
            raise Damaged(f"its schema has a column of type {kind}, which no log has")
        return pa.Array.from_buffers(kind, count, buffers, children=children)

    def _offsets(self, start: int, end: int) -> tuple[pa.Buffer, int, int]:
        """Return the offsets of rows, counted from 0, and the range of elements or bytes that they span."""
        buffer = _next(self._buffers)
        if start == end:
            return pa.py_buffer(bytes(4)), 0, 0
        offsets = np.frombuffer(self._bytes(buffer, start * 4, (end + 1) * 4), "<i4")
        if offsets[0] < 0 or (np.diff(offsets.astype(np.int64)) < 0).any():
            raise Damaged("its Arrow message has offsets that go back")
        return pa.py_buffer((offsets - offsets[0]).tobytes()), int(offsets[0]), int(offsets[-1])

    def _bits(self, buffer: tuple[int, int], start: int, end: int) -> NDArray[np.uint8]:
        first = start // 8
        data = self._bytes(buffer, first, (end + 7) // 8) if end > start else b""
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[start - first * 8 : end - first * 8]

    def _bytes(self, buffer: tuple[int, int], start: int, end: int) -> bytes:
        """Return bytes of a buffer."""
        at, length = buffer
        if start == end:
            return b""
        if not 0 <= start <= end <= length:
            raise Damaged("its Arrow message has a buffer that is too short")
        return self._read(self._start + at + start, self._start + at + end)


def _next(items: Iterator[tuple[int, int]]) -> tuple[int, int]:
    item = next(items, None)
    if item is None:
        raise Damaged("its Arrow message has fewer columns than its schema")
    return item


def _in_order(buffers: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Yield the buffers, which follow one another: so what is read is never more than the message's bytes."""
    before = 0
    for start, length in buffers:
        if not before <= start <= start + length <= size:
            raise Damaged("its Arrow message has a buffer that does not lie in it")
        before = start + length
        yield start, length


def _packed(bits: NDArray[np.uint8]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(bits, bitorder="little").tobytes())


def _check_decimals(data: bytes, valid: NDArray[np.uint8] | None) -> None:
    """Refuse the one number that Arrow's own check lets pass, as it has no absolute value: -2 ** 127."""
    halves = np.frombuffer(data, "<i8").reshape(-1, 2)
    is_least = (halves[:, 0] == 0) & (halves[:, 1] == -(1 << 63))
    if (is_least if valid is None else is_least & (valid != 0)).any():
        raise Damaged("its Arrow message has a decimal with more digits than its type")


def _is_fixed(kind: pa.DataType) -> bool:
    types = pa.types
    is_number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
    is_decimal = types.is_decimal128(kind) and 0 < kind.precision <= 38 and 0 <= kind.scale <= kind.precision
    is_instant = types.is_timestamp(kind) and kind.tz in (None, "UTC")
    is_time = types.is_date32(kind) or types.is_time64(kind) or types.is_interval(kind)
    return bool(is_number or is_decimal or is_instant or is_time)


# --- the message's own header --------------------------------------------------------------------------


def _read_message(read: Read, size: int) -> _Message:
    """Return what the message says of its record batch; its header is a FlatBuffer (Arrow's Message.fbs)."""
    if size < 8:
        raise Damaged("its Arrow message is cut")
    marker, length = struct.unpack("<Ii", read(0, 8))
    if marker != _CONTINUATION or not 0 < length <= size - 8:
        raise Damaged("its Arrow message does not start like one")
    data = read(8, 8 + length)
    message = _Table(data, _number(data, 0, "<I"))
    start, body_bytes = 8 + length, message.number(3, "<q")
    if message.number(0, "<h") != _VERSION_5 or message.number(1, "<B") != _RECORD_BATCH:
        raise Damaged("its Arrow message is not a record batch")
    if not 0 <= body_bytes <= size - start:
        raise Damaged("its Arrow message is cut")
    batch = message.table(2)
    if batch.has(3) or batch.has(4):
        raise Damaged("its Arrow message is compressed, or has types that no log has")
    nodes, buffers = batch.pairs(1), batch.pairs(2)
    lengths, nulls = [pair[0] for pair in nodes], [pair[1] for pair in nodes]
    return _Message(start, body_bytes, batch.number(0, "<q"), lengths, nulls, buffers)


class _Table:
    """A table in a FlatBuffer: its fields by their number. Every place is checked before it is read."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - _number(data, at, "<i")
        self._fields_bytes = _number(data, self._fields, "<H")

    def _place(self, field: int) -> int | None:
        """Return where a field is; None if it is left out."""
        at = 4 + 2 * field
        offset = _number(self._data, self._fields + at, "<H") if at + 2 <= self._fields_bytes else 0
        return self._at + offset if offset else None

    def has(self, field: int) -> bool:
        """Say whether a field is there."""
        return self._place(field) is not None

    def number(self, field: int, form: str) -> int:
        """Return a number; 0 if it is left out."""
        place = self._place(field)
        return 0 if place is None else _number(self._data, place, form)

    def _follow(self, field: int) -> int:
        place = self._place(field)
        if place is None:
            raise Damaged("its Arrow message lacks a part")
        return place + _number(self._data, place, "<I")

    def table(self, field: int) -> _Table:
        """Return a table in this one."""
        return _Table(self._data, self._follow(field))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two 64-bit numbers."""
        at = self._follow(field)
        count = _number(self._data, at, "<I")
        part = self._data[at + 4 : at + 4 + 16 * count]
        if len(part) != 16 * count:
            raise Damaged("its Arrow message is cut")
        return list(struct.iter_unpack("<qq", part))


def _number(data: bytes, at: int, form: str) -> int:
    if not 0 <= at <= len(data):
        raise Damaged("its Arrow message points out of itself")
    return int(struct.unpack_from(form, data, at)[0])
