"""A batch of weighted rows, with equal rows made one.

Law: the same Z-set, every row (told apart exactly: -0.0 is not 0.0) at most once and none with weight zero, in the order
of first appearance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import ALL_VALID
from bourne.engine.kernels.hash_index import HashIndex, new_rows
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.sums import count_weights

Longs = NDArray[np.int64]


def consolidate(columns: Sequence[pa.Array], weights: Longs) -> tuple[Longs, Longs]:
    """Return (the rows to keep, their weights). Cost: O(rows)."""
    index = HashIndex(expected=len(weights))
    numbers = index.assign(hash_rows(columns, len(weights), is_exact=True))
    if len(index) == len(weights):
        rows, sums = numbers, weights
    else:
        rows, sums = new_rows(numbers, 0, len(index)), np.zeros(len(index), np.int64)
        count_weights(numbers, ALL_VALID, weights, sums)
    if sums.all():
        return rows, sums
    kept = np.flatnonzero(sums)
    return rows[kept], sums[kept]
