"""The newest row of each key, as one table that is cheap to give out again after a few changes.

Law: `table` holds, of each key that was put, the row of the last `put`, unless that said that the row is gone. Keys
are dense numbers. What was given out stays as it was.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown

Longs = NDArray[np.int64]

# In `_recent_row`: the key's row is gone, or has not changed since `_base` was made.
_GONE: Final = -1
_UNCHANGED: Final = -2

# So few changed keys are cut out of the base without copying it; so many recent rows at most are kept aside.
_SMALL_KEYS = 256
_RECENT_ROWS_MAX = 1 << 16


class KeyedRows:
    """Rows by dense keys: those folded already, and the recent ones, which are put in their place when asked for."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._recent: list[pa.Table] = []
        self._recent_rows = 0
        self._base = schema.empty_table()
        self._base_keys: Longs = np.zeros(0, np.int64)
        # Where each key's row is in the base, and where in the recent ones.
        self._base_row: Longs = np.full(1024, _GONE, np.int64)
        self._recent_row: Longs = np.full(1024, _UNCHANGED, np.int64)

    def put(self, keys: Longs, is_there: NDArray[np.bool_], rows: pa.Table) -> None:
        """Take in rows, one per key given: where `is_there`, it is the key's from now on; else the key has none."""
        if not len(keys):
            return
        key_count = int(keys.max()) + 1
        self._base_row = grown(self._base_row, key_count, _GONE)
        self._recent_row = grown(self._recent_row, key_count, _UNCHANGED)
        numbers = np.arange(self._recent_rows, self._recent_rows + len(keys))
        self._recent_row[keys] = np.where(
            is_there, numbers, _GONE
        )  # of a key that comes twice, the last counts
        self._recent.append(rows)
        self._recent_rows += len(keys)

    def table(self) -> pa.Table:
        """Return the rows. About O(changes) after few of them, O(rows) after many."""
        keys = np.flatnonzero(self._recent_row != _UNCHANGED)
        if not len(keys):
            return self._base
        if len(keys) > _SMALL_KEYS or self._recent_rows > _RECENT_ROWS_MAX:
            self._fold(keys)
            return self._base
        replaced = np.sort(self._base_row[keys])
        replaced = replaced[replaced != _GONE]
        starts = [0, *(replaced + 1)]
        ends = [*replaced, self._base.num_rows]
        pieces = [self._base.slice(a, b - a) for a, b in zip(starts, ends, strict=True) if b > a]
        return pa.concat_tables([*pieces, self._newest(keys)])

    def _newest(self, keys: Longs) -> pa.Table:
        """Return the recent rows of those of the keys that have one."""
        rows = self._recent_row[keys]
        return self._take_recent(rows[rows >= 0])

    def _take_recent(self, rows: Longs) -> pa.Table:
        recent = pa.concat_tables([self._schema.empty_table(), *self._recent])
        return recent.combine_chunks().take(pa.array(rows))

    def _fold(self, keys: Longs) -> None:
        """Put the recent rows in the place of those that they replace."""
        kept = np.ones(self._base.num_rows, np.bool_)
        replaced = self._base_row[keys]
        kept[replaced[replaced != _GONE]] = False
        newest = self._newest(keys)
        self._base = pa.concat_tables([self._base.filter(pa.array(kept)), newest]).combine_chunks()
        self._base_keys = np.concatenate([self._base_keys[kept], keys[self._recent_row[keys] >= 0]])
        self._base_row[:] = _GONE
        self._base_row[self._base_keys] = np.arange(self._base.num_rows)
        self._recent_row[:] = _UNCHANGED
        self._recent, self._recent_rows = [], 0

    def entries(self) -> tuple[Longs, pa.Table]:
        """Return the rows and the key of each. O(1) after a `table` of many changes, else O(rows)."""
        keys = np.flatnonzero(self._recent_row != _UNCHANGED)
        if len(keys):
            self._fold(keys)
        return self._base_keys, self._base

    def count(self) -> int:
        """Return how many keys have a row. O(recent keys)."""
        keys = np.flatnonzero(self._recent_row != _UNCHANGED)
        gone = np.count_nonzero(self._base_row[keys] != _GONE)
        return int(self._base.num_rows - gone + np.count_nonzero(self._recent_row[keys] >= 0))

    def take(self, keys: Longs, copies: Longs) -> pa.Table:
        """Return the rows of some keys that all have one, each as often as said. O(recent rows + copies)."""
        is_recent = self._recent_row[keys] >= 0
        base_rows = np.repeat(self._base_row[keys[~is_recent]], copies[~is_recent])
        recent_rows = np.repeat(self._recent_row[keys[is_recent]], copies[is_recent])
        return pa.concat_tables([self._base.take(pa.array(base_rows)), self._take_recent(recent_rows)])

    def keys(self) -> Longs:
        """Return the keys that have a row, in ascending order. O(keys)."""
        is_recent = self._recent_row != _UNCHANGED
        return np.flatnonzero(
            np.where(is_recent, self._recent_row >= 0, self._base_row[: len(is_recent)] >= 0)
        )

    def renumber(self, kept: Longs) -> None:
        """Give the keys `kept`, among them all that have a row, new numbers: their places in it. O(rows)."""
        self._fold(np.flatnonzero(self._recent_row != _UNCHANGED))
        numbers = np.full(len(self._base_row), _GONE, np.int64)
        numbers[kept] = np.arange(len(kept))
        self._base_keys = numbers[self._base_keys]
        self._base_row = np.full(max(1024, len(kept)), _GONE, np.int64)
        self._base_row[self._base_keys] = np.arange(self._base.num_rows)
        self._recent_row = np.full(len(self._base_row), _UNCHANGED, np.int64)
