"""Records that change what is there, as signed rows: believed as they are, summed up, or the newest of each key.

Law: the sum of the output is the relation that the records stand for, whatever the cut into steps.
Cost of a step: O(rows in the delta).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, Weights, consolidated, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_store import RowStore
from bourne.engine.kernels.sums import first_rows, first_touches
from bourne.engine.operators.operator import Stateless, part_of, with_prefix

Numbers = NDArray[np.int64]

# A store is cleared of old rows when they are this many more than those that count.
_GARBAGE_ROWS = 1 << 12


class Taken(Stateless):
    """Takes changes as they are: rows that are only added."""

    def step(self, delta: Delta, keys: pa.Array | None = None) -> Delta:
        """Return the delta, its columns under an operator's names."""
        return Delta(table_of(delta.table.columns), delta.weights)


class Netted(Stateless):
    """Takes weights that are known to be right, without the rows that come and go in one delta.

    So what is computed of a row that is there no longer, if only to fail, does not depend on the cut into steps more than
    it has to; and a view that takes in the history of another computes what is left of it.
    """

    def step(self, delta: Delta, keys: pa.Array | None = None) -> Delta:
        """Return each row of the delta once, with the sum of its weights."""
        return consolidated(Delta(table_of(delta.table.columns), delta.weights))


class Clamped:
    """Takes rows with weights that users gave: a row is there as often as they sum up to, if that is above zero.

    `shown` are the columns that come out; all of them tell one row from another.
    """

    is_stateful = True

    def __init__(self, types: Sequence[pa.DataType], shown: Sequence[int]) -> None:
        self._keys = KeyTable(types, is_exact=True)
        self._shown = list(shown)
        self._sums: Weights = np.zeros(1024, np.int64)
        self._marks: Numbers = np.zeros(1024, np.int64)
        self._stamp = 0

    def step(self, delta: Delta, keys: pa.Array | None = None) -> Delta:
        """Return how many times more each row of the delta is there now."""
        numbers = self._keys.assign([as_array(column) for column in delta.table.columns], delta.rows)
        self._sums, self._marks = grown(self._sums, len(self._keys)), grown(self._marks, len(self._keys))
        self._stamp += 1
        touched = first_touches(numbers, self._marks, self._stamp)
        before = np.maximum(self._sums[touched], 0)
        np.add.at(self._sums, numbers, delta.signed())
        change = np.maximum(self._sums[touched], 0) - before
        rows = self._keys.columns(touched[change != 0])
        return Delta(table_of([rows[i] for i in self._shown]), change[change != 0])

    @property
    def rows(self) -> int:
        """How many rows it has seen."""
        return len(self._keys)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + self._sums.nbytes

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        return with_prefix(self._keys.save(), "keys") | {
            "sums": pa.table({"sum": self._sums[: len(self._keys)]})
        }

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._sums = np.array(parts["sums"].column(0).to_numpy(), np.int64)


class Upserted:
    """Takes rows with keys: the newest of a key counts, and one whose weight is not above zero says that it is gone."""

    is_stateful = True

    def __init__(self, types: Sequence[pa.DataType], key_type: pa.DataType) -> None:
        self._keys = KeyTable([key_type])
        self._store = RowStore(types)
        self._row: Numbers = np.full(
            1024, -1, np.int64
        )  # of each key: where its row is stored; -1: it has none
        self._marks: Numbers = np.zeros(1024, np.int64)
        self._stamp = 0
        self._live = 0

    def step(self, delta: Delta, keys: pa.Array | None = None) -> Delta:
        """Return the rows that go and those that come."""
        assert keys is not None
        numbers = self._keys.assign([keys], delta.rows)
        self._row, self._marks = grown(self._row, len(self._keys), -1), grown(self._marks, len(self._keys))
        newest = self._newest(numbers)
        touched = numbers[newest]
        old = self._row[touched]
        gone = self._store.take(old[old >= 0])
        self._row[touched] = -1
        if delta.weights is not None:
            is_there = delta.weights[newest] > 0
            newest, touched = newest[is_there], touched[is_there]
        index = pa.array(newest)
        come = [as_array(column).take(index) for column in delta.table.columns]
        first = self._store.append(come)
        self._row[touched] = np.arange(first, first + len(touched))
        gone_count = int((old >= 0).sum())
        self._live += len(touched) - gone_count
        self._clear()
        both = [pa.concat_arrays([a, b]) for a, b in zip(gone, come, strict=True)]
        weights = np.concatenate([np.full(gone_count, -1, np.int64), np.ones(len(touched), np.int64)])
        return Delta(table_of(both), weights)

    def _newest(self, numbers: Numbers) -> Numbers:
        """Return the last row of each key, in order."""
        self._stamp += 1
        before_end = np.arange(len(numbers) - 1, -1, -1)
        is_last = first_rows(numbers[before_end], self._marks, self._stamp)
        return before_end[is_last][::-1]

    def _clear(self) -> None:
        """Drop rows that do not count any more, once they are more than the others."""
        if len(self._store) > 2 * self._live + _GARBAGE_ROWS:
            live = np.flatnonzero(self._row >= 0)
            order = np.argsort(self._row[live])
            self._store.keep(self._row[live][order])
            self._row[live[order]] = np.arange(len(live))

    @property
    def rows(self) -> int:
        """How many keys have a row."""
        return self._live

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + self._store.nbytes() + self._row.nbytes

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys") | with_prefix(self._store.save(), "rows")
        return parts | {"row": pa.table({"row": self._row[: len(self._keys)]})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._store.load(part_of(parts, "rows"))
        self._row = np.array(parts["row"].column(0).to_numpy(), np.int64)
        self._live = int((self._row >= 0).sum())
