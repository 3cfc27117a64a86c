"""GROUP BY: one row per group, kept in a keyed table that is updated in place.

Law: after any cut of the input into deltas, the newest row of each key is DuckDB's row for that group. For
aggregates whose state is a fold over rows this follows from adding every row exactly once, in order.
Cost of a step: O(rows in the delta), whatever the number of groups. Takes insertions only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bourne.engine.delta import Delta, column_names
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.keys import GroupKeys
from bourne.engine.kernels.sums import first_touches
from bourne.engine.operators.accumulators import Accumulator


class Aggregate:
    """Takes deltas whose first columns are the group key and the others the functions' arguments.

    `arguments[i]` is the column that function i reads, or None for `count(*)`.
    """

    def __init__(
        self,
        key_types: Sequence[pa.DataType],
        accumulators: Sequence[Accumulator],
        arguments: Sequence[int | None],
    ) -> None:
        self._keys = GroupKeys(key_types)
        self._key_count = len(key_types)
        self._accumulators = tuple(accumulators)
        self._arguments = tuple(arguments)
        self._marks = np.zeros(1024, np.int64)
        self._stamp = 0

    @property
    def rows(self) -> int:
        """How many groups there are."""
        return len(self._keys)

    def nbytes(self) -> int:
        """Return the memory in use, but for that of the functions' texts."""
        arrays = [a for function in self._accumulators for a in function.save(self.rows).values()]
        return self._keys.nbytes() + sum(array.nbytes for array in arrays)

    def initial(self) -> Delta | None:
        """Return what there is before any input: without GROUP BY, one row; else nothing."""
        if self._key_count:
            return None
        groups = self._keys.assign([], 1)
        self._grow()
        return self._changed(groups)

    def step(self, delta: Delta) -> Delta:
        """Add the delta's rows; return the new row of every group that they touched."""
        assert delta.keys is None
        columns = [as_array(column) for column in delta.table.columns]
        groups = self._keys.assign(columns[: self._key_count], delta.rows)
        self._grow()
        for accumulator, argument in zip(self._accumulators, self._arguments, strict=True):
            accumulator.update(groups, None if argument is None else columns[argument])
        self._stamp += 1
        return self._changed(first_touches(groups, self._marks, self._stamp))

    def _grow(self) -> None:
        for accumulator in self._accumulators:
            accumulator.grow(self.rows)
        self._marks = grown(self._marks, self.rows)

    def _changed(self, groups: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Delta:
        columns = self._keys.columns(groups) + [function.result(groups) for function in self._accumulators]
        return Delta(pa.Table.from_arrays(columns, column_names(len(columns))), keys=groups)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = self._keys.save()
        for i, function in enumerate(self._accumulators):
            for name, array in function.save(self.rows).items():
                columns = array.T if array.ndim == 2 else [array]
                parts[f"function{i}.{name}"] = pa.table({f"v{j}": c for j, c in enumerate(columns)})
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(parts)
        for i, function in enumerate(self._accumulators):
            prefix = f"function{i}."
            arrays = {}
            for name, table in parts.items():
                if name.startswith(prefix):
                    columns = [column.to_numpy() for column in table.columns]
                    arrays[name.removeprefix(prefix)] = (
                        columns[0] if len(columns) == 1 else np.column_stack(columns)
                    )
            function.load(arrays)
        self._grow()
