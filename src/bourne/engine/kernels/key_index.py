"""Keys to dense numbers: an open-addressing hash index over rows of 64-bit words.

Law: equal keys get equal numbers, different keys different ones (words are compared, not only hashes); numbers
are given in the order of first appearance, so they do not depend on how the input was cut.
Cost: O(rows) per call, two or three cache misses a row; memory 16-32 bytes a key plus its words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.hashing import SEED, mix
from bourne.limits import GROUPS_MAX

Words = NDArray[np.int64]

_BLOCK = 64
_LOW = np.int64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


class KeyIndex:
    """Numbers keys of `width` words. A key's number never changes. Words come as (width, rows)."""

    def __init__(self, width: int) -> None:
        self._keys: Words = np.zeros((1024, width), np.int64)  # a key's words lie together
        self._slots: Words = np.zeros(4096, np.int64)
        self._count = 0

    @property
    def width(self) -> int:
        """How many words a key has."""
        return int(self._keys.shape[1])

    def __len__(self) -> int:
        return self._count

    def assign(self, words: Words) -> NDArray[np.int64]:
        """Return the number of each row's key, giving new ones to new keys."""
        numbers = np.empty(words.shape[1], np.int64)
        row = 0
        while True:
            row, self._count = _assign(words, row, self._slots, self._keys, self._count, numbers)
            if row == len(numbers):
                return numbers
            self._grow()

    def keys(self, numbers: NDArray[np.int64]) -> Words:
        """Return the words of some keys."""
        return _take(self._keys, numbers)

    def widen(self) -> None:
        """Give every key one more word, zero."""
        self._keys = np.column_stack([self._keys, np.zeros(len(self._keys), np.int64)])
        self._rebuild()

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes + self._slots.nbytes

    def save(self) -> Words:
        """Return all keys' words, in the order of their numbers."""
        return self._keys[: self._count].T

    def load(self, words: Words) -> None:
        """Become the index that `save` described."""
        width, self._count = words.shape
        self._keys = np.zeros((max(1024, self._count + _BLOCK), width), np.int64)
        self._keys[: self._count] = words.T
        self._rebuild()

    def _grow(self) -> None:
        if self._count + _BLOCK > GROUPS_MAX:
            raise MemoryError(f"more than {GROUPS_MAX:,} distinct keys in one view")
        if self._count + _BLOCK > len(self._keys):
            larger = np.zeros((2 * len(self._keys), self._keys.shape[1]), np.int64)
            larger[: self._count] = self._keys[: self._count]
            self._keys = larger
        if 2 * (self._count + _BLOCK) > len(self._slots):
            self._rebuild()

    def _rebuild(self) -> None:
        size = 4096
        while size < 4 * (self._count + _BLOCK):
            size *= 2
        self._slots = np.zeros(size, np.int64)
        _insert_all(self._slots, self._keys, self._count)


@compiled
def _assign(
    words: Words, row: int, slots: Words, keys: Words, count: int, numbers: NDArray[np.int64]
) -> tuple[int, int]:
    """Number rows from `row` on; return early, at a block's start, when the index has to grow.

    A slot holds the upper half of a hash and the key's number plus one; zero is free. Each block first touches
    all the memory that it will need, so that the cache misses overlap instead of waiting for one another.
    """
    width, rows = words.shape
    mask = np.uint64(len(slots) - 1)
    hashes = np.empty(_BLOCK, np.uint64)
    touched = np.int64(0)
    while row < rows:
        if count + _BLOCK > len(keys) or 2 * (count + _BLOCK) > len(slots):
            return row, count
        end = min(rows, row + _BLOCK)
        hashes[:] = SEED
        for column in range(width):
            for i in range(row, end):
                hashes[i - row] = mix(hashes[i - row], words[column, i])
        for i in range(row, end):
            numbers[i] = (slots[hashes[i - row] & mask] & _LOW) - 1
        if width:
            for i in range(row, end):
                if numbers[i] >= 0:
                    touched += keys[numbers[i], 0]
        for i in range(row, end):
            tag = np.int64(hashes[i - row] >> _SHIFT)
            at = hashes[i - row] & mask
            while True:
                slot = slots[at]
                if slot == 0:
                    for column in range(width):
                        keys[count, column] = words[column, i]
                    slots[at] = (tag << 32) | (count + 1)
                    numbers[i] = count
                    count += 1
                    break
                if ((slot >> 32) & _LOW) == tag:
                    number = (slot & _LOW) - 1
                    same = True
                    for column in range(width):
                        if keys[number, column] != words[column, i]:
                            same = False
                            break
                    if same:
                        numbers[i] = number
                        break
                at = (at + np.uint64(1)) & mask
        row = end
    if touched == 1 and count < 0:  # never: keeps the touching loop from being optimised away
        return -1, count
    return row, count


@compiled
def _insert_all(slots: Words, keys: Words, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        state = SEED
        for column in range(keys.shape[1]):
            state = mix(state, keys[number, column])
        at = state & mask
        while slots[at] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = (np.int64(state >> _SHIFT) << 32) | (number + 1)


@compiled
def _take(keys: Words, numbers: NDArray[np.int64]) -> Words:
    result = np.empty((keys.shape[1], len(numbers)), np.int64)
    for column in range(keys.shape[1]):
        for i in range(len(numbers)):
            result[column, i] = keys[numbers[i], column]
    return result
