"""Columns that grow at the end and give back any rows, by type: what a `RowStore` is made of.

Law: `take` gives values and types back exactly as they were appended. A nested column stores where its parts
begin, and its children as columns of their own, so that every cost is O(values appended or taken).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    fields_of,
    grown,
    is_list,
    is_text,
    plain_values,
    text_buffers,
    validity,
)
from bourne.engine.kernels.compiled import compiled

Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Grown = NDArray[Any]

_OFFSET_MAX = 2**31 - 1
# Texts are copied in words of so many bytes: there have to be that many more than are in use.
_WORD = 8
_EIGHT = np.uint64(8)


class StoredColumn(Protocol):
    """One growing column."""

    def append(self, values: pa.Array) -> None:
        """Add values at the end."""

    def take(self, rows: Longs) -> pa.Array:
        """Return the values of some rows, in that order."""

    def nbytes(self) -> int:
        """Return the memory in use."""


def stored_column(target: pa.DataType) -> StoredColumn:
    """Return an empty column for values of this type, which has to be one that `is_hashable`."""
    if isinstance(target, pa.BaseExtensionType):
        return _Extensions(target)
    if pa.types.is_dictionary(target):
        return _Encoded(target)
    if pa.types.is_struct(target):
        return _Structs(target)
    if pa.types.is_fixed_size_list(target):
        return _FixedLists(target)
    if is_list(target):
        return _Lists(target)
    if is_text(target):
        return _Texts(target)
    if pa.types.is_null(target):
        return _Nulls()
    if pa.types.is_primitive(target) or pa.types.is_decimal128(target):
        return _Fixed(target)
    raise TypeError(f"a column of type {target} cannot be kept; ask is_hashable first")


def _with_room(array: Grown, size: int) -> Grown:
    """Return `array`, at least `size` long: the same one, made longer in place.

    Large ones are moved by the system without being copied, so a quarter more at a time is enough. Only for arrays of
    which nobody else holds a part.
    """
    if len(array) < size:
        array.resize((max(size, len(array) + len(array) // 4), *array.shape[1:]), refcheck=False)
    return array


class _Validity:
    """Which rows are not NULL; takes no memory before the first NULL."""

    def __init__(self) -> None:
        self._valid: NDArray[np.bool_] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, values: pa.Array) -> None:
        end = self._count + len(values)
        valid = validity(values)
        if len(valid) and self._valid is None:
            self._valid = np.ones(end, np.bool_)
        if self._valid is not None:
            self._valid = grown(self._valid, end)
            self._valid[self._count : end] = valid if len(valid) else True
        self._count = end

    def take(self, rows: Longs) -> pa.Buffer | None:
        """Return Arrow's bit mask of some rows, None if all are valid."""
        if self._valid is None:
            return None
        valid = _gather(self._valid, rows)
        return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))

    def nbytes(self) -> int:
        return 0 if self._valid is None else self._valid.nbytes


class _Fixed:
    """Values of a fixed width, in NumPy arrays of that width. Booleans are bytes here."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._is_boolean = pa.types.is_boolean(target)
        width = 1 if self._is_boolean else target.bit_width // 8
        self._kind = np.dtype(f"u{min(width, 8)}")
        self._shape = (2,) if width == 16 else ()
        self._plain: Grown = np.zeros((0, *self._shape), self._kind)
        self._valid = _Validity()

    def append(self, values: pa.Array) -> None:
        start, end = len(self._valid), len(self._valid) + len(values)
        if self._is_boolean:
            values = values.cast(pa.uint8())
        self._plain = _with_room(self._plain, end)
        if len(values):
            words = self._shape[0] if self._shape else 1
            plain = plain_values(values, self._kind, words=words)
            self._plain[start:end] = plain.reshape(-1, *self._shape)
        self._valid.append(values)

    def take(self, rows: Longs) -> pa.Array:
        plain = _gather_pairs(self._plain, rows) if self._shape else _gather(self._plain, rows)
        if self._is_boolean:
            plain = np.packbits(plain, bitorder="little")
        return pa.Array.from_buffers(self._type, len(rows), [self._valid.take(rows), pa.py_buffer(plain)])

    def nbytes(self) -> int:
        return self._plain.nbytes + self._valid.nbytes()


class _Texts:
    """Texts and blobs: one piece of memory, and where each begins."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._is_large = pa.types.is_large_string(target) or pa.types.is_large_binary(target)
        self._starts = np.zeros(1, np.int64)
        self._bytes = np.zeros(0, np.uint8)
        self._valid = _Validity()

    def append(self, values: pa.Array) -> None:
        count, end = len(self._valid), len(self._valid) + len(values)
        starts, data = text_buffers(values)
        used = self._starts[count]
        self._starts = _with_room(self._starts, end + 1)
        self._starts[count + 1 : end + 1] = starts[1:] + (used - starts[0])
        self._bytes = _with_room(self._bytes, int(self._starts[end]) + _WORD)
        self._bytes[used : self._starts[end]] = data[starts[0] : starts[-1]]
        self._valid.append(values)

    def take(self, rows: Longs) -> pa.Array:
        firsts, starts = _spans(rows, self._starts, self._type, self._is_large)
        data = np.empty(int(starts[-1]) + _WORD, np.uint8)
        _copy_texts(firsts, starts, self._bytes, data)
        buffers = [self._valid.take(rows), pa.py_buffer(starts), pa.py_buffer(data[: starts[-1]])]
        return pa.Array.from_buffers(self._type, len(rows), buffers)

    def nbytes(self) -> int:
        return self._starts.nbytes + self._bytes.nbytes + self._valid.nbytes()


class _Lists:
    """Lists and maps: where each begins in a column of all items."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._is_large = pa.types.is_large_list(target)
        self._starts = np.zeros(1, np.int64)
        self._items = stored_column(target.field(0).type)
        self._valid = _Validity()

    def append(self, values: pa.Array) -> None:
        count, end = len(self._valid), len(self._valid) + len(values)
        if len(values):
            starts = values.offsets.to_numpy().astype(np.int64)
            self._items.append(values.values.slice(starts[0], starts[-1] - starts[0]))
            used = self._starts[count]
            self._starts = _with_room(self._starts, end + 1)
            self._starts[count + 1 : end + 1] = starts[1:] + (used - starts[0])
        self._valid.append(values)

    def take(self, rows: Longs) -> pa.Array:
        firsts, starts = _spans(rows, self._starts, self._type, self._is_large)
        items = np.empty(int(starts[-1]), np.int64)
        _number_items(firsts, starts, items)
        buffers = [self._valid.take(rows), pa.py_buffer(starts)]
        return pa.Array.from_buffers(self._type, len(rows), buffers, children=[self._items.take(items)])

    def nbytes(self) -> int:
        return self._starts.nbytes + self._items.nbytes() + self._valid.nbytes()


class _FixedLists:
    """Lists that all have the same length, also where they are NULL."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._items = stored_column(target.field(0).type)
        self._valid = _Validity()

    def append(self, values: pa.Array) -> None:
        size = self._type.list_size
        self._items.append(values.values.slice(values.offset * size, len(values) * size))
        self._valid.append(values)

    def take(self, rows: Longs) -> pa.Array:
        size = self._type.list_size
        items = (rows[:, None] * size + np.arange(size)).reshape(-1)
        buffers = [self._valid.take(rows)]
        return pa.Array.from_buffers(self._type, len(rows), buffers, children=[self._items.take(items)])

    def nbytes(self) -> int:
        return self._items.nbytes() + self._valid.nbytes()


class _Structs:
    """One column per field."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._fields = [stored_column(target.field(i).type) for i in range(target.num_fields)]
        self._valid = _Validity()

    def append(self, values: pa.Array) -> None:
        for field, part in zip(self._fields, fields_of(values), strict=True):
            field.append(part)
        self._valid.append(values)

    def take(self, rows: Longs) -> pa.Array:
        children = [field.take(rows) for field in self._fields]
        return pa.Array.from_buffers(self._type, len(rows), [self._valid.take(rows)], children=children)

    def nbytes(self) -> int:
        return sum(field.nbytes() for field in self._fields) + self._valid.nbytes()


class _Encoded:
    """Dictionary arrays, kept decoded: every array may bring its own dictionary."""

    def __init__(self, target: pa.DataType) -> None:
        self._type = target
        self._values = stored_column(target.value_type)

    def append(self, values: pa.Array) -> None:
        self._values.append(values.dictionary_decode())

    def take(self, rows: Longs) -> pa.Array:
        return self._values.take(rows).dictionary_encode().cast(self._type)

    def nbytes(self) -> int:
        return self._values.nbytes()


class _Extensions:
    """Extension types, kept as what they are stored as."""

    def __init__(self, target: pa.BaseExtensionType) -> None:
        self._type = target
        self._values = stored_column(target.storage_type)

    def append(self, values: pa.Array) -> None:
        self._values.append(values.storage)

    def take(self, rows: Longs) -> pa.Array:
        return pa.ExtensionArray.from_storage(self._type, self._values.take(rows))

    def nbytes(self) -> int:
        return self._values.nbytes()


class _Nulls:
    """A column that has no values."""

    def append(self, values: pa.Array) -> None:
        del values

    def take(self, rows: Longs) -> pa.Array:
        return pa.nulls(len(rows))

    def nbytes(self) -> int:
        return 0


def _spans(rows: Longs, starts: Longs, target: pa.DataType, is_large: bool) -> tuple[Longs, NDArray[Any]]:
    """Return where the parts of some rows begin now, and where each row will begin with only these rows."""
    firsts = np.empty(len(rows), np.int64)
    new_starts: NDArray[Any] = np.zeros(len(rows) + 1, np.int64 if is_large else np.int32)
    total = _find_spans(rows, starts, firsts, new_starts)
    if total > _OFFSET_MAX and not is_large:
        raise OverflowError(
            f"{len(rows):,} values of type {target} have {total:,} parts; one Arrow array holds at most "
            f"{_OFFSET_MAX:,}: take fewer at once"
        )
    return firsts, new_starts


@compiled
def _gather(plain: NDArray[Any], rows: Longs) -> NDArray[Any]:
    result = np.empty(len(rows), plain.dtype)
    for i in range(len(rows)):
        result[i] = plain[rows[i]]
    return result


@compiled
def _gather_pairs(plain: NDArray[Any], rows: Longs) -> NDArray[Any]:
    result = np.empty((len(rows), 2), plain.dtype)
    for i in range(len(rows)):
        result[i, 0] = plain[rows[i], 0]
        result[i, 1] = plain[rows[i], 1]
    return result


@compiled
def _find_spans(rows: Longs, starts: Longs, firsts: Longs, new_starts: NDArray[Any]) -> int:
    total = 0
    for i in range(len(rows)):
        firsts[i] = starts[rows[i]]
        total += starts[rows[i] + 1] - firsts[i]
        new_starts[i + 1] = total
    return total


@compiled
def _copy_texts(firsts: Longs, new_starts: NDArray[Any], data: Bytes, new_data: Bytes) -> None:
    """Copy texts eight bytes at a time: up to seven more than each has, which the next one overwrites."""
    for i in range(len(firsts)):
        source, target, end = np.uint64(firsts[i]), np.uint64(new_starts[i]), np.uint64(new_starts[i + 1])
        while target < end:
            word = np.uint64(0)
            for j in range(8):  # LLVM makes one load of it, and one store below
                word |= np.uint64(data[source + np.uint64(j)]) << np.uint64(8 * j)
            for j in range(8):
                new_data[target + np.uint64(j)] = np.uint8(word >> np.uint64(8 * j))
            source += _EIGHT
            target += _EIGHT


@compiled
def _number_items(firsts: Longs, new_starts: NDArray[Any], items: Longs) -> None:
    for i in range(len(firsts)):
        first = firsts[i] - new_starts[i]
        for j in range(new_starts[i], new_starts[i + 1]):
            items[j] = first + j
