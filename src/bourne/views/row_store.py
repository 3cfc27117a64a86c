"""The newest row of each key, to be put, looked up by key, and read as a whole, in time of what is asked for.

Law: of each key that was put, the row of the last `put` is there, unless that said that it is gone. Keys are dense numbers.
Rows lie in chunks, of which small ones are merged with their neighbours (O(log rows) of them, each row copied as often);
rows that were replaced are dropped when they are more than those that count.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown

Longs = NDArray[np.int64]

_NONE: Final = -1

# So many replaced rows are kept in any case.
_DEAD_MAX: Final = 1 << 14


class RowStore:
    """Rows by dense keys."""

    def __init__(self, schema: pa.Schema) -> None:
        self._chunks: list[pa.Table] = [schema.empty_table()]
        self._starts: list[int] = [0]
        self._row_of: Longs = np.full(1024, _NONE, np.int64)
        self._rows = 0
        self._live = 0

    def put(self, keys: Longs, is_there: NDArray[np.bool_], rows: pa.Table) -> None:
        """Take in rows, one per key given, each key once: where `is_there`, it is the key's; else the key has none."""
        if not len(keys):
            return
        self._row_of = grown(self._row_of, int(keys.max()) + 1, _NONE)
        before = int(np.count_nonzero(self._row_of[keys] != _NONE))
        self._row_of[keys] = np.where(is_there, self._rows + np.arange(len(keys)), _NONE)
        self._live += int(np.count_nonzero(is_there)) - before
        self._append(rows)
        if self._rows - self._live > max(self._live, _DEAD_MAX):
            self._clean()

    def _append(self, rows: pa.Table) -> None:
        self._chunks.append(rows.combine_chunks())
        self._starts.append(self._rows)
        self._rows += rows.num_rows
        while len(self._chunks) > 1 and self._chunks[-2].num_rows < 2 * self._chunks[-1].num_rows:
            last = self._chunks.pop()
            self._starts.pop()
            self._chunks[-1] = pa.concat_tables([self._chunks[-1], last]).combine_chunks()

    def _clean(self) -> None:
        """Drop the rows that were replaced."""
        keys = np.flatnonzero(self._row_of != _NONE)
        table = self.take(keys)
        self._row_of[keys] = np.arange(len(keys))
        self._chunks, self._starts, self._rows = [table.combine_chunks()], [0], len(keys)

    def has(self, keys: Longs) -> NDArray[np.bool_]:
        """Say of each key whether it has a row."""
        known = keys < len(self._row_of)
        found = np.zeros(len(keys), np.bool_)
        found[known] = self._row_of[keys[known]] != _NONE
        return found

    def take(self, keys: Longs) -> pa.Table:
        """Return the rows of keys that all have one, in that order."""
        rows = self._row_of[keys]
        chunk_of = np.searchsorted(np.array(self._starts), rows, side="right") - 1
        order = np.argsort(chunk_of, kind="stable")
        parts = []
        for number in np.unique(chunk_of).tolist():
            of_chunk = rows[order][chunk_of[order] == number] - self._starts[number]
            parts.append(self._chunks[number].take(pa.array(of_chunk)))
        table = pa.concat_tables([self._chunks[0].slice(0, 0), *parts])
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return table if (np.diff(chunk_of) >= 0).all() else table.combine_chunks().take(pa.array(back))

    def table(self) -> pa.Table:
        """Return all rows, by key. O(rows)."""
        return self.take(np.flatnonzero(self._row_of != _NONE))
