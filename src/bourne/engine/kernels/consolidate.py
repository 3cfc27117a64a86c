"""A batch of weighted rows, with equal rows made one.

Law: the same Z-set, every row at most once and none with weight zero, in the order of first appearance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.row_hash import hash_rows

Longs = NDArray[np.int64]

_LOW = np.int64(0xFFFFFFFF)


def consolidate(columns: Sequence[pa.Array], weights: Longs) -> tuple[Longs, Longs]:
    """Return (the rows to keep, their weights). Cost: O(rows)."""
    size = 16
    while size < 2 * len(weights):
        size *= 2
    rows, sums = np.empty(len(weights), np.int64), np.empty(len(weights), np.int64)
    words = hash_rows(columns, len(weights))
    count = _sum_equal(words, weights, np.zeros(size, np.int64), rows, sums)
    rows, sums = rows[:count], sums[:count]
    if sums.all():
        return rows, sums
    kept = np.flatnonzero(sums)
    return rows[kept], sums[kept]


@compiled
def _sum_equal(words: Longs, weights: Longs, slots: Longs, rows: Longs, sums: Longs) -> int:
    """Set each distinct row's first appearance and its weight; return how many there are.

    A slot holds the upper half of a hash's first word and the distinct row's number plus one; zero is free.
    """
    mask = np.uint64(len(slots) - 1)
    count = 0
    for i in range(len(weights)):
        tag = (words[0, i] >> 32) & _LOW
        at = np.uint64(words[0, i]) & mask
        while True:
            slot = slots[at]
            if slot == 0:
                slots[at] = (tag << 32) | (count + 1)
                rows[count], sums[count] = i, weights[i]
                count += 1
                break
            if ((slot >> 32) & _LOW) == tag:
                number = (slot & _LOW) - 1
                row = rows[number]
                if words[0, row] == words[0, i] and words[1, row] == words[1, i]:
                    sums[number] += weights[i]
                    break
            at = (at + np.uint64(1)) & mask
    return count
