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
from bourne.log.catalog import LogInfo
from bourne.log.reader import LogReader

_GONE = -1


class Fold:
    """Follows one log or output log; `table` is its content as of the last `refresh`."""

    def __init__(self, folder: Path, info: LogInfo) -> None:
        self._info = info
        self._reader = LogReader(folder, info)
        self._schema = info.schema.to_arrow()
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        # For changes by key: where the newest row of each key is, counted over all batches.
        self._newest: NDArray[np.int64] = np.full(1024, _GONE, np.int64)
        self._table: pa.Table | None = None

    def refresh(self) -> None:
        """Take in what was committed since the last time. O(new records)."""
        for frame in self._reader.read():
            if frame.batch.num_rows:
                self._table = None
                if self._info.changes == "upsert":
                    self._point(frame.batch)
                self._batches.append(frame.batch)
                self._rows += frame.batch.num_rows

    def _point(self, batch: pa.RecordBatch) -> None:
        """Point each key of the batch to its row in it, or to none."""
        keys = batch.column(0).to_numpy()
        weights = batch.column(1).to_numpy()
        self._newest = grown(self._newest, int(keys.max()) + 1, _GONE)
        self._newest[keys] = np.where(weights > 0, np.arange(self._rows, self._rows + len(keys)), _GONE)

    def table(self) -> pa.Table:
        """Return the rows, under the columns' own names. O(rows of the view) after a change, else O(1)."""
        if self._table is None:
            everything = pa.Table.from_batches(self._batches, self._schema)
            self._table = self._fold(everything) if self._info.changes == "upsert" else everything
        return self._table

    def _fold(self, everything: pa.Table) -> pa.Table:
        """Take the newest row of each key, and forget the others."""
        keys = np.flatnonzero(self._newest != _GONE)
        newest = self._newest[keys]
        kept = everything
        if len(newest) != everything.num_rows or (len(newest) and newest[-1] != len(newest) - 1):
            kept = everything.combine_chunks().take(pa.array(newest))
            self._batches = kept.to_batches()
            self._rows = len(newest)
            self._newest[keys] = np.arange(len(newest))
        return kept.select(self._schema.names[2:])

    def close(self) -> None:
        """Let go of the files; the table stays valid. Safe to call twice."""
        self._reader.close()
