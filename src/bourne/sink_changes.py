"""Changes of rows as changes by key: which keys have a new row, and which have none any more.

Law: a key has at most one row; two of them are refused, whenever that comes up, as one would hide the other. Each key is
remembered by its hash: O(keys) in memory.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.sink import Change, Shape
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.errors import SinkFailed
from bourne.views.changes import RowChange

Longs = NDArray[np.int64]


class KeyCounts:
    """Turns changes into what a sink of a shape gets."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._index = HashIndex()
        self._counts: Longs = np.zeros(1024, np.int64)

    def take(self, change: RowChange) -> Change:
        """Return what a change is to the sink. O(changes).

        Raises:
            SinkFailed: a key has two rows; or a row is taken back, and the sink can only add.
        """
        if self._shape.key:
            return self._by_key(change)
        if self._shape.has_weights:
            weights = np.ones(change.rows, np.int64) if change.weights is None else change.weights
            return Change(change.table, weights=pa.array(weights))
        if change.weights is not None:
            if (change.weights < 0).any():
                raise SinkFailed(
                    "a row is taken back, and the sink can only add rows", where=f"sink {self._shape.name!r}",
                    hint="give it a key: key=…; or, after a view's definition changed, a new name and target",
                )  # fmt: skip
            return Change(change.table.take(pa.array(np.repeat(np.arange(change.rows), change.weights))))
        return Change(change.table)

    def _by_key(self, change: RowChange) -> Change:
        weights = np.ones(change.rows, np.int64) if change.weights is None else change.weights
        keys = [as_array(change.table.column(name)) for name in self._shape.key]
        numbers = self._index.assign(hash_rows(keys, change.rows))
        self._counts = grown(self._counts, len(self._index))
        np.add.at(self._counts, numbers, weights)
        doubled = np.flatnonzero(self._counts[numbers] > 1)
        if len(doubled):
            row = {
                name: values[int(doubled[0])].as_py()
                for name, values in zip(self._shape.key, keys, strict=True)
            }
            raise SinkFailed(
                f"{', '.join(self._shape.key)} is no key: two rows have the same", where=f"sink {self._shape.name!r}",
                expected="one row per key", found=str(row),
                hint="name more columns in key=…, or keep one row per key in the view "
                "(QUALIFY row_number() OVER (PARTITION BY …) = 1)",
            )  # fmt: skip
        is_come = weights > 0
        is_gone = (weights < 0) & (self._counts[numbers] == 0)
        rows = change.table.filter(pa.array(is_come))
        gone = pa.Table.from_arrays(keys, names=list(self._shape.key)).filter(pa.array(is_gone))
        return Change(rows, gone)
