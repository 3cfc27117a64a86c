"""Hashes of keys to dense numbers, by open addressing.

Law: equal hashes get equal numbers, different ones different numbers, in the order of first appearance. Of the 128
bits that `row_hash` gives the first 96 are looked at, which among 10^9 different keys are equal by chance in one of
10^11 processes.
Cost: O(rows) per call, one cache miss a row; memory 43-85 bytes a key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled
from bourne.limits import GROUPS_MAX

Longs = NDArray[np.int64]
# Each slot: the first word of a hash; the upper half of its second word, and in the lower half the key's number
# plus one. Zero there is a free slot.
Slots = NDArray[np.int64]

_BLOCK = 64
_LOW = np.int64(0xFFFFFFFF)
_SLOTS_MIN = 1024


class HashIndex:
    """Numbers keys by their hashes, given as (2, rows). A key's number never changes, but by `keep`.

    The length is the number that the next new key gets, whatever was forgotten. There is room for `expected` keys.
    """

    def __init__(self, expected: int = 0) -> None:
        self._slots = _slots_for(expected)
        self._count = 0
        self._forgotten = 0

    def __len__(self) -> int:
        return self._count

    def assign(self, hashes: Longs) -> Longs:
        """Return the number of each row's key, giving new ones to new keys."""
        numbers = np.empty(hashes.shape[1], np.int64)
        row = 0
        while True:
            row, self._count = _assign(hashes, row, self._slots, self._count, self._forgotten, numbers)
            if row == len(numbers):
                return numbers
            if self._count + _BLOCK > GROUPS_MAX:
                raise MemoryError(f"more than {GROUPS_MAX:,} distinct keys in the state of one operator")
            larger = np.zeros((2 * len(self._slots), 2), np.int64)
            _move(self._slots, larger)
            self._slots = larger

    def find(self, hashes: Longs) -> Longs:
        """Return the number of each row's key, -1 for unknown ones."""
        numbers = np.empty(hashes.shape[1], np.int64)
        _find(hashes, self._slots, numbers)
        return numbers

    def forget(self, hashes: Longs) -> None:
        """Forget known keys, each given once. Their numbers are not given again before `keep`."""
        _remove(hashes, self._slots)
        self._forgotten += hashes.shape[1]

    def keep(self, numbers: Longs) -> None:
        """Forget all keys but these, which are numbered anew in this order."""
        renumbered = np.full(self._count, -1, np.int64)
        renumbered[numbers] = np.arange(len(numbers))
        kept = _slots_for(len(numbers))
        _move_some(self._slots, renumbered, kept)
        self._slots, self._count, self._forgotten = kept, len(numbers), 0

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._slots.nbytes


def _slots_for(count: int) -> Slots:
    size = _SLOTS_MIN
    while _is_full(count, size):
        size *= 2
    return np.zeros((size, 2), np.int64)


@compiled
def _is_full(count: int, size: int) -> bool:
    """Say whether another block of keys would make searches long: at most three eighths of the slots are taken."""
    return 8 * (count + _BLOCK) > 3 * size


def new_rows(numbers: Longs, known: int, fresh: int) -> Longs:
    """Return the row in which each of the `fresh` numbers from `known` on comes first."""
    rows = np.empty(fresh, np.int64)
    _find_new(numbers, known, rows)
    return rows


@compiled
def _assign(
    hashes: Longs, row: int, slots: Slots, count: int, forgotten: int, numbers: Longs
) -> tuple[int, int]:
    """Number rows from `row` on; return early, at a block's start, when there have to be more slots.

    Each block first touches all the memory that it will need, so that the cache misses overlap instead of waiting
    for one another.
    """
    mask = np.uint64(len(slots) - 1)
    touched = np.int64(0)
    while row < len(numbers):
        if _is_full(count - forgotten, len(slots)):
            return row, count
        end = min(len(numbers), row + _BLOCK)
        for i in range(row, end):
            touched += slots[np.uint64(hashes[0, i]) & mask, 1]
        for i in range(row, end):
            first, second = hashes[0, i], hashes[1, i] & ~_LOW
            at = np.uint64(first) & mask
            while True:
                found = slots[at, 1]
                if found == 0:
                    numbers[i] = count
                    count += 1
                    slots[at, 0], slots[at, 1] = first, second | count
                    break
                if slots[at, 0] == first and found & ~_LOW == second:
                    numbers[i] = (found & _LOW) - 1
                    break
                at = (at + np.uint64(1)) & mask
        row = end
    if touched == 1 and count < 0:  # never: keeps the touching loop from being optimised away
        return -1, count
    return row, count


@compiled
def _find_new(numbers: Longs, known: int, rows: Longs) -> None:
    found = row = 0
    while found < len(rows):
        if numbers[row] == known + found:
            rows[found] = row
            found += 1
        row += 1


@compiled
def _find(hashes: Longs, slots: Slots, numbers: Longs) -> np.int64:
    """Set each row's number, -1 where there is none; touches memory ahead as `_assign` does."""
    mask = np.uint64(len(slots) - 1)
    touched = np.int64(0)
    for row in range(0, len(numbers), _BLOCK):
        end = min(len(numbers), row + _BLOCK)
        for i in range(row, end):
            touched += slots[np.uint64(hashes[0, i]) & mask, 1]
        for i in range(row, end):
            first, second = hashes[0, i], hashes[1, i] & ~_LOW
            at = np.uint64(first) & mask
            while slots[at, 1] != 0 and (slots[at, 0] != first or slots[at, 1] & ~_LOW != second):
                at = (at + np.uint64(1)) & mask
            numbers[i] = (slots[at, 1] & _LOW) - 1
    return touched  # nobody wants it: keeps the touching loop from being optimised away


@compiled
def _remove(hashes: Longs, slots: Slots) -> None:
    """Free slots, moving up what comes after them, so that searches still end at the first free one."""
    mask = np.uint64(len(slots) - 1)
    one = np.uint64(1)
    for i in range(hashes.shape[1]):
        at = np.uint64(hashes[0, i]) & mask
        while slots[at, 0] != hashes[0, i] or slots[at, 1] & ~_LOW != hashes[1, i] & ~_LOW:
            at = (at + one) & mask
        after = (at + one) & mask
        while slots[after, 1]:
            home = np.uint64(slots[after, 0]) & mask
            if (after - home) & mask >= (after - at) & mask:
                slots[at, 0], slots[at, 1] = slots[after, 0], slots[after, 1]
                at = after
            after = (after + one) & mask
        slots[at, 0] = slots[at, 1] = 0


@compiled
def _move(slots: Slots, larger: Slots) -> None:
    """Put all keys into empty slots. If these are twice as many, neighbours stay near each other."""
    for at in range(len(slots)):
        if slots[at, 1]:
            _put(slots[at, 0], slots[at, 1], larger)


@compiled
def _move_some(slots: Slots, renumbered: Longs, kept: Slots) -> None:
    """Put those keys into empty slots that have a new number."""
    for at in range(len(slots)):
        second = slots[at, 1]
        if second:
            number = renumbered[(second & _LOW) - 1]
            if number >= 0:
                _put(slots[at, 0], (second & ~_LOW) | (number + 1), kept)


@compiled
def _put(first: int, second: int, slots: Slots) -> None:
    mask = np.uint64(len(slots) - 1)
    at = np.uint64(first) & mask
    while slots[at, 1]:
        at = (at + np.uint64(1)) & mask
    slots[at, 0], slots[at, 1] = first, second
