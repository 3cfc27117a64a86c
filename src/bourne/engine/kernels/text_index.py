"""Texts and blobs to dense numbers, and back: a hash index over one growing piece of memory.

Law: equal byte strings get equal numbers, different ones different numbers (bytes are compared). Texts are never
forgotten: memory is that of the distinct texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array, text_buffers
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.hashing import SEED, mix

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]

_LOW = np.int64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


class TextIndex:
    """Numbers texts. A text's number never changes."""

    def __init__(self) -> None:
        self._bytes: Bytes = np.zeros(4096, np.uint8)
        self._ends: Longs = np.zeros(1024, np.int64)
        self._slots: Longs = np.zeros(4096, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def assign(self, values: pa.Array) -> Longs:
        """Return the number of each text, new ones for new texts; what stands for NULL is undefined.

        The batch's distinct texts are found by Arrow first, so that frequent texts cost next to nothing.
        """
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        distinct = as_array(encoded.dictionary)
        numbers = self._assign_distinct(distinct)
        if not len(numbers):
            return np.zeros(len(values), np.int64)
        result: Longs = numbers[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        return result

    def _assign_distinct(self, values: pa.Array) -> Longs:
        starts, data = text_buffers(values)
        numbers = np.empty(len(values), np.int64)
        row = 0
        while True:
            row, self._count = _assign(
                starts, data, row, self._slots, self._ends, self._bytes, self._count, numbers
            )
            if row == len(values):
                return numbers
            self._grow(int(starts[row + 1] - starts[row]))

    def take(self, numbers: Longs, valid: NDArray[np.bool_] | None, target: pa.DataType) -> pa.Array:
        """Return the texts of some numbers as an Arrow array."""
        starts, data = _take(numbers, self._ends, self._bytes)
        mask = None if valid is None else pa.array(valid).buffers()[1]
        large = pa.large_string() if pa.types.is_string(target) else pa.large_binary()
        buffers = [mask, pa.py_buffer(starts), pa.py_buffer(data)]
        return pa.Array.from_buffers(large, len(numbers), buffers).cast(target)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._bytes.nbytes + self._ends.nbytes + self._slots.nbytes

    def save(self) -> tuple[Longs, Bytes]:
        """Return the exclusive end of each text, and all texts' bytes."""
        used = int(self._ends[self._count - 1]) if self._count else 0
        return self._ends[: self._count], self._bytes[:used]

    def load(self, ends: Longs, data: Bytes) -> None:
        """Become the index that `save` described."""
        self._count = len(ends)
        self._ends = np.zeros(max(1024, 2 * len(ends)), np.int64)
        self._ends[: len(ends)] = ends
        self._bytes = np.zeros(max(4096, 2 * len(data)), np.uint8)
        self._bytes[: len(data)] = data
        self._rebuild()

    def _grow(self, text_bytes: int) -> None:
        """Make room for one more text of this size, and for as many again as there are."""
        used = int(self._ends[self._count - 1]) if self._count else 0
        if used + text_bytes > len(self._bytes):
            larger = np.zeros(2 * (used + text_bytes), np.uint8)
            larger[:used] = self._bytes[:used]
            self._bytes = larger
        if self._count + 1 > len(self._ends):
            ends = np.zeros(2 * len(self._ends), np.int64)
            ends[: self._count] = self._ends[: self._count]
            self._ends = ends
        if 2 * (self._count + 1) > len(self._slots):
            self._rebuild()

    def _rebuild(self) -> None:
        size = 4096
        while size < 4 * (self._count + 1):
            size *= 2
        self._slots = np.zeros(size, np.int64)
        _insert_all(self._slots, self._ends, self._bytes, self._count)


@compiled
def _hash(data: Bytes, start: int, end: int) -> Any:
    state = mix(SEED, end - start)
    word = np.uint64(0)
    filled = 0
    for i in range(start, end):
        word = (word << np.uint64(8)) | np.uint64(data[i])
        filled += 1
        if filled == 8:
            state = mix(state, word)
            word, filled = np.uint64(0), 0
    return mix(state, word)


@compiled
def _assign(
    starts: Longs, data: Bytes, row: int, slots: Longs, ends: Longs, texts: Bytes, count: int, numbers: Longs
) -> tuple[int, int]:
    """Number texts from `row` on; return early when the index has to grow for that row."""
    mask = np.uint64(len(slots) - 1)
    while row < len(starts) - 1:
        start, end = starts[row], starts[row + 1]
        used = ends[count - 1] if count else 0
        if count + 1 > len(ends) or 2 * (count + 1) > len(slots) or used + end - start > len(texts):
            return row, count
        state = _hash(data, start, end)
        tag = np.int64(state >> _SHIFT)
        at = state & mask
        while True:
            slot = slots[at]
            if slot == 0:
                for i in range(end - start):
                    texts[used + i] = data[start + i]
                ends[count] = used + end - start
                slots[at] = (tag << 32) | (count + 1)
                numbers[row] = count
                count += 1
                break
            if ((slot >> 32) & _LOW) == tag:
                number = (slot & _LOW) - 1
                first = ends[number - 1] if number else 0
                same = ends[number] - first == end - start
                for i in range(end - start):
                    if not same:
                        break
                    same = texts[first + i] == data[start + i]
                if same:
                    numbers[row] = number
                    break
            at = (at + np.uint64(1)) & mask
        row += 1
    return row, count


@compiled
def _insert_all(slots: Longs, ends: Longs, texts: Bytes, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        state = _hash(texts, ends[number - 1] if number else 0, ends[number])
        at = state & mask
        while slots[at] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = (np.int64(state >> _SHIFT) << 32) | (number + 1)


@compiled
def _take(numbers: Longs, ends: Longs, texts: Bytes) -> tuple[Longs, Bytes]:
    starts = np.zeros(len(numbers) + 1, np.int64)
    for i in range(len(numbers)):
        number = numbers[i]
        starts[i + 1] = starts[i] + ends[number] - (ends[number - 1] if number else 0)
    data = np.empty(starts[-1], np.uint8)
    for i in range(len(numbers)):
        number = numbers[i]
        first = ends[number - 1] if number else 0
        for j in range(ends[number] - first):
            data[starts[i] + j] = texts[first + j]
    return starts, data
