"""Rows by key, each key once: of those that have the same key, the last one counts, as if they had been written one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows


def last_rows(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return the last row of each key, in their order. O(rows log rows)."""
    if rows.num_rows < 2 or not key:
        return rows
    distinct, from_end = np.unique(
        _numbers([as_array(rows.column(name)) for name in key])[::-1], return_index=True
    )
    if len(distinct) == rows.num_rows:
        return rows
    return rows.take(pa.array(np.sort(rows.num_rows - 1 - from_end)))


def _numbers(keys: Sequence[pa.Array]) -> NDArray[Any]:
    """Return a number for each row, the same for equal keys; NULL is a key as any other."""
    numbers: NDArray[Any] = np.zeros(len(keys[0]), np.int64)
    try:
        for values in keys:
            plain = pc.add(values, 0.0) if pa.types.is_floating(values.type) else values  # -0.0 is 0.0
            encoded = plain.dictionary_encode(null_encoding="encode")
            # Made small again after each column, so that no product is too large.
            together = numbers * len(encoded.dictionary) + encoded.indices.to_numpy(zero_copy_only=False)
            numbers = np.unique(together, return_inverse=True)[1]
    except pa.ArrowNotImplementedError:  # lists, structs: by their hashes, which take a second to load
        return HashIndex().assign(hash_rows(keys, len(numbers)))
    return numbers
