"""Linear work over a log's records, of which those that come too late are set aside.

Law: which rows are late depends on the log alone, not on how it was cut: each record knows its watermark, how far the time
of its partition had come before it (`engine.watermark`). A row is late if one of its times is before that time's bound at
that watermark, less the allowed lateness: then whoever remembers rows by that time may have forgotten it. A record of
which no row is late is in time.
Cost of a step: O(rows in the delta); nothing but a glance where no record is behind its watermark.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.stage import Stage
from bourne.engine.moment import NEVER, Moment
from bourne.engine.operators.closing import instants
from bourne.engine.operators.operator import Stateless

# Columns of an input: a record's watermark, NULL where it is not behind it; and which record of the epoch it is.
WATERMARK = "__watermark"
RECORD = "__record"
IS_LATE, IS_PARTLY = "__is_late", "__is_partly_late"


class Late(Stateless):
    """Runs a stage over the records of a log. `rejected` are the late ones of the last step, a row each.

    `partly` are those that are late for some of what they would count in, and stay.
    """

    def __init__(
        self, relation: str, stage: Stage, *, picked: Sequence[int], times: Sequence[tuple[int, int]]
    ) -> None:
        """`picked` are the input's columns that the stage reads; `times` says of the output's which bound each has."""
        self.relation = relation
        self.rejected: NDArray[np.int64] = np.zeros(0, np.int64)
        self.partly: NDArray[np.int64] = np.zeros(0, np.int64)
        self._stage = stage
        self._picked = list(picked)
        self._times = tuple(times)

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Return what becomes of the records that are in time."""
        assert moment is not None
        *_, watermarks, records = delta.table.columns
        columns = [delta.table.column(i) for i in self._picked]
        names = [f"c{i}" for i in range(len(columns))]
        given = pa.Table.from_arrays([*columns, watermarks, records], [*names, WATERMARK, RECORD])
        result = self._stage.run(given)
        is_late = np.zeros(result.num_rows, np.bool_)
        self.partly = np.zeros(0, np.int64)
        if watermarks.null_count < len(watermarks):
            is_late |= as_array(result.column(IS_LATE)).to_numpy(zero_copy_only=False)
            is_partly = as_array(result.column(IS_PARTLY)).to_numpy(zero_copy_only=False) & ~is_late
            self.partly = as_array(result.column(RECORD)).to_numpy()[is_partly]
        for column, bound in self._times:
            if moment.bounds[bound].before != NEVER:
                is_late |= instants(as_array(result.column(column))) < moment.bounds[bound].before
        rows = result.drop_columns([RECORD, IS_LATE, IS_PARTLY])
        if not is_late.any():
            self.rejected = np.zeros(0, np.int64)
            return Delta(rows)
        self.rejected = as_array(result.column(RECORD)).to_numpy()[is_late]
        return Delta(rows.filter(pa.array(~is_late)))
