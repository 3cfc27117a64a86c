"""The rows of a log or a view: its frames, folded.

Law: the fold of an output log is the view. A log, and a view that only grows, is the concatenation of its records
(no copy: they stay in the memory map). Of changes by key, the newest per key counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown
from bourne.errors import InputError
from bourne.log.catalog import LogInfo, Retention, partition_folder
from bourne.log.cursor import LogCursor
from bourne.log.segment import data_names

# In `_recent_row`: the key's row is gone, or has not changed since `_base` was made.
_GONE = -1
_UNCHANGED = -2

# So few changed keys are cut out of the base without copying it; so many recent rows at most are kept aside.
_SMALL_KEYS = 256
_RECENT_ROWS_MAX = 1 << 16


class Fold:
    """Follows one log or output log; `table` is its content as of the last `refresh`."""

    def __init__(self, folder: Path, info: LogInfo) -> None:
        self._folder = folder
        self._info = info
        self._begin()

    def _begin(self) -> None:
        folder, info = self._folder, self._info
        self._files = self._file_names()
        self._reader = LogCursor(folder, info)
        self._schema = info.schema.to_arrow()
        self._is_keyed = info.changes == "upsert"
        self._recent: list[pa.RecordBatch] = []
        self._recent_rows = 0
        self._table: pa.Table | None = None
        # For changes by key: folded rows, where each key's row is in them, and where in the recent batches.
        self._base = self._schema.empty_table()
        self._base_row: NDArray[np.int64] = np.full(1024, _GONE, np.int64)
        self._recent_row: NDArray[np.int64] = np.full(1024, _UNCHANGED, np.int64)

    def _file_names(self) -> set[str]:
        """Return the files of a log whose records may go away some day."""
        if self._info.retention == Retention():
            return set()
        folders = [partition_folder(self._folder, number) for number in range(self._info.partitions)]
        return {f"{folder.name}/{name}" for folder in folders for name in data_names(folder)}

    def refresh(self) -> None:
        """Take in what was committed since the last time. O(new records); all anew after retention was at work."""
        is_anew = not self._files <= self._file_names()
        try:
            pieces = [] if is_anew else self._reader.read()
        except InputError:  # retention was at work just now
            is_anew = True
        if is_anew:
            self._reader.close()
            self._begin()
            pieces = self._reader.read()
        self._reader.rest()
        for _, frame in pieces:
            if frame.batch.num_rows:
                self._table = None
                if self._is_keyed:
                    self._point(frame.batch)
                self._recent.append(frame.batch)
                self._recent_rows += frame.batch.num_rows

    def _point(self, batch: pa.RecordBatch) -> None:
        """Point each key of the batch to its row in it, or to none."""
        keys = batch.column(0).to_numpy()
        weights = batch.column(1).to_numpy()
        key_count = int(keys.max()) + 1
        self._base_row = grown(self._base_row, key_count, _GONE)
        self._recent_row = grown(self._recent_row, key_count, _UNCHANGED)
        rows = np.arange(self._recent_rows, self._recent_rows + len(keys))
        self._recent_row[keys] = np.where(weights > 0, rows, _GONE)

    def table(self) -> pa.Table:
        """Return the rows, under the columns' own names.

        O(1) for a log and where nothing changed, about O(changes) after few, O(rows of the view) after many.
        """
        if self._table is None:
            recent = pa.Table.from_batches(self._recent, self._schema)
            self._table = self._fold(recent).select(self._schema.names[2:]) if self._is_keyed else recent
        return self._table

    def _fold(self, recent: pa.Table) -> pa.Table:
        """Put the recent rows in the place of those that they replace."""
        keys = np.flatnonzero(self._recent_row != _UNCHANGED)
        rows = self._recent_row[keys]
        newest = recent.combine_chunks().take(pa.array(rows[rows >= 0]))
        replaced = self._base_row[keys]
        replaced = np.sort(replaced[replaced != _GONE])
        if len(keys) <= _SMALL_KEYS and self._recent_rows <= _RECENT_ROWS_MAX:
            starts = [0, *(replaced + 1)]
            ends = [*replaced, self._base.num_rows]
            pieces = [self._base.slice(a, b - a) for a, b in zip(starts, ends, strict=True) if b > a]
            return pa.concat_tables([*pieces, newest])
        kept = np.ones(self._base.num_rows, np.bool_)
        kept[replaced] = False
        self._base = pa.concat_tables([self._base.filter(pa.array(kept)), newest]).combine_chunks()
        self._base_row[:] = _GONE
        self._base_row[self._base.column(0).to_numpy()] = np.arange(self._base.num_rows)
        self._recent_row[:] = _UNCHANGED
        self._recent, self._recent_rows = [], 0
        return self._base

    def close(self) -> None:
        """Let go of the files; the table stays valid. Safe to call twice."""
        self._reader.close()
