"""A Python function from rows to rows.

Law: linear, as the function treats each row by itself: what comes of a row has the row's weight. As nobody knows which row
of its answer comes of which, it is called once for each different weight.
Cost of a step: O(rows in the delta), in Python's hands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bourne.engine.delta import Delta, table_of
from bourne.engine.operators.operator import ComputeError, Stateless
from bourne.table_function import TableFunction
from bourne.udf import FunctionFailed


class Apply(Stateless):
    """Calls a function with the new rows, under the columns' own `names`. The first few are checked to be independent."""

    def __init__(self, function: TableFunction, names: Sequence[str]) -> None:
        self._function = function
        self._names = list(names)
        self._is_checked = False

    def step(self, delta: Delta) -> Delta:
        """Return what becomes of the rows.

        Raises:
            ComputeError: the function raised, or returned what does not fit.
        """
        rows = delta.table.rename_columns(self._names)
        try:
            if delta.weights is None:
                result = Delta(self._apply(rows))
            else:
                weights = delta.weights
                parts = [
                    (int(weight), self._apply(rows.filter(pa.array(weights == weight))))
                    for weight in np.unique(weights)
                ]
                repeated = [np.full(part.num_rows, weight, np.int64) for weight, part in parts]
                result = Delta(pa.concat_tables([part for _, part in parts]), np.concatenate(repeated))
            if not self._is_checked and rows.num_rows > 1:
                self._function.check_by_row(rows)
                self._is_checked = True
        except FunctionFailed as error:
            raise ComputeError(str(error)) from error
        return result

    def _apply(self, rows: pa.Table) -> pa.Table:
        """Return the function's answer, copied: it may write over it in its next call, and ours may not be written yet."""
        answer = table_of(self._function.apply(rows).combine_chunks().columns)
        copied = [pa.ipc.read_record_batch(batch.serialize(), answer.schema) for batch in answer.to_batches()]
        return pa.Table.from_batches(copied, answer.schema)
