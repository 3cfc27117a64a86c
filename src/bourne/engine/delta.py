"""A change: what flows between operators.

Law: the sum of all deltas of a stream, folded, is the relation that the stream stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.consolidate import consolidate

Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows with weights: how many times more each is there, or, negative, how many times fewer. Columns are c0, c1, …

    Without `weights` every row is there once more: so it is always in a stream that only grows.
    """

    table: pa.Table
    weights: Weights | None = None

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.table.num_rows)

    def signed(self) -> Weights:
        """Return the weights, also where they are all one."""
        return np.ones(self.rows, np.int64) if self.weights is None else self.weights


@dataclass(frozen=True, slots=True)
class KeyedDelta:
    """The newest row of each key, a key at most once in a delta: what becomes of the groups of an aggregate.

    A row of weight 1 replaces the row of that key, and one of weight -1 says that the key's row is gone (its other
    columns are NULL). Without `weights` they are all 1.
    """

    table: pa.Table
    keys: NDArray[np.int64]
    weights: NDArray[np.int8] | None = None

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.table.num_rows)


def column_names(count: int) -> list[str]:
    """Return the names that an operator's columns have."""
    return [f"c{i}" for i in range(count)]


def table_of(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Return columns under the names that an operator's columns have."""
    return pa.Table.from_arrays(list(columns), column_names(len(columns)))


def empty_delta(types: Sequence[pa.DataType]) -> Delta:
    """Return no rows of these types."""
    return Delta(table_of([pa.array([], target) for target in types]))


def consolidated(delta: Delta) -> Delta:
    """Return the same change with each row once, and without rows that come and go in it. O(rows)."""
    columns = [as_array(column) for column in delta.table.columns]
    rows, weights = consolidate(columns, delta.signed())
    if len(rows) == delta.rows:
        return Delta(delta.table, weights)
    index = pa.array(rows)
    return Delta(table_of([column.take(index) for column in columns]), weights)


def concat(deltas: Sequence[Delta]) -> Delta:
    """Return the sum of several changes of one stream, their rows one after another."""
    filled = [delta for delta in deltas if delta.rows] or list(deltas[:1])
    if len(filled) == 1:
        return filled[0]
    is_growing = all(delta.weights is None for delta in filled)
    weights = None if is_growing else np.concatenate([delta.signed() for delta in filled])
    return Delta(pa.concat_tables([delta.table for delta in filled]), weights)
