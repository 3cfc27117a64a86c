"""The generic rule: compute the groups that a delta touches anew, and emit what is different from before.

Law: an operator that treats each group of rows alone (a window function its partitions, an aggregate its groups, a
top-n) is right if each touched group's output is what DuckDB computes from that group's rows as they are now. What was
emitted is remembered, so exactly that is taken back.
Cost of a step: O(rows of the touched groups).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, Weights, table_of
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.consolidate import consolidate
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import Moment
from bourne.engine.operators.closing import Closing
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Numbers = NDArray[np.int64]

# The column that tells a stage which group a row is of.
GROUP = "__group"

_NONE: Numbers = np.zeros(0, np.int64)

# Takes rows of some groups (columns c0, c1, … and __group), gives the output's rows with the group of each, last.
Compute = Callable[[pa.Table], pa.Table]


class Recompute:
    """Keeps the rows of each group, and the output that was computed from them."""

    is_stateful = True

    def __init__(
        self,
        compute: Compute,
        *,
        types: Sequence[pa.DataType],
        key: Sequence[int],
        output_types: Sequence[pa.DataType],
        is_growing: bool,
        when_empty: pa.Table | None = None,
        closing: Closing | None = None,
        is_final: bool = False,
    ) -> None:
        """`when_empty` is the output of a group without rows, where that is one: an aggregate over everything.

        With `closing` it forgets groups that are closed; with `is_final` they are computed then, once.
        """
        self._closing = closing
        self._is_final = is_final
        self._closed_rows = 0
        self._compute = compute
        self._key = tuple(key)
        self._keys = KeyTable([types[i] for i in key])
        self._input = RowChains(list(types), is_append_only=is_growing)
        self._output = RowChains(list(output_types), is_append_only=False)
        self._is_growing = is_growing
        self._when_empty = when_empty
        self._is_started = when_empty is None

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Return how the output of the touched groups changes."""
        if self._closing is None or moment is None:
            return self._change(*self._take_in(delta), delta)
        known = len(self._keys)
        columns, groups = self._take_in(delta)
        if len(self._keys) > known:
            self._closing.add(self._keys.columns(np.arange(known, len(self._keys))), known)
        result = Delta(table_of(self._output.take(_NONE)), None if self._is_final else _NONE)
        if self._is_final:
            self._input.update(groups, columns, None if self._is_growing else delta.signed())
            due = self._closing.due(moment)
            rows, row_groups = self._rows(due)
            if len(row_groups):
                result = Delta(table_of(self._results(rows, row_groups, due)[0]))
        else:
            if delta.rows or not self._is_started:
                result = self._change(columns, groups, delta)
            due = self._closing.due(moment)
        self._closed_rows += int(self._input.count(due).sum())
        kept = self._closing.to_keep(len(self._input), self._closed_rows)
        if kept is not None:
            self._closed_rows = 0
            self._keys.keep(kept)
            self._input.keep_groups(kept)
            self._output.keep_groups(kept)
        return result

    def _take_in(self, delta: Delta) -> tuple[list[pa.Array], Numbers]:
        """Return a delta's columns, and the group of each row."""
        columns = [as_array(column) for column in delta.table.columns]
        groups = self._keys.assign([columns[i] for i in self._key], delta.rows)
        if self._closing is not None:
            self._closing.check(groups)
        return columns, groups

    def _change(self, columns: list[pa.Array], groups: Numbers, delta: Delta) -> Delta:
        """Take in rows; return how the output of the touched groups changes."""
        touched = _distinct(groups)
        if not self._is_started:
            touched = np.zeros(1, np.int64)
            self._is_started = True
        self._input.update(groups, columns, None if self._is_growing else delta.signed())
        rows, row_groups = self._rows(touched)
        new, new_groups = self._results(rows, row_groups, touched)
        return self._difference(new, new_groups, touched)

    def _rows(self, touched: Numbers) -> tuple[list[pa.Array], Numbers]:
        """Return all rows of the touched groups, and the group of each."""
        rows, row_groups = self._input.rows_of(touched)
        weights = self._input.weights(rows)
        return _repeated(self._input.take(rows), weights), np.repeat(row_groups, weights)

    def _results(
        self, rows: list[pa.Array], row_groups: Numbers, touched: Numbers
    ) -> tuple[list[pa.Array], Numbers]:
        """Return the output of the touched groups, and the group of each row."""
        if len(row_groups) or self._when_empty is None:
            result = self._compute(table_of(rows).append_column(GROUP, pa.array(row_groups)))
            *outputs, numbers = result.columns
            return [as_array(column) for column in outputs], as_array(numbers).to_numpy()
        return [as_array(column) for column in self._when_empty.columns], np.zeros(1, np.int64)

    def _difference(self, new: list[pa.Array], new_groups: Numbers, touched: Numbers) -> Delta:
        """Put the new output in the place of the old; return the difference."""
        old, old_groups = self._output.rows_of(touched)
        groups = np.concatenate([old_groups, new_groups])
        weights = np.concatenate([-self._output.weights(old), np.ones(len(new_groups), np.int64)])
        columns = [pa.concat_arrays([a, b]) for a, b in zip(self._output.take(old), new, strict=True)]
        kept, weights = consolidate([pa.array(groups), *columns], weights)
        index = pa.array(kept)
        columns = [column.take(index) for column in columns]
        self._output.update(groups[kept], columns, weights)
        return Delta(table_of(columns), weights)

    # --- state ---

    @property
    def rows(self) -> int:
        """How many rows it remembers, of input and output."""
        return len(self._output) + len(self._input) - self._closed_rows

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + self._output.nbytes() + self._input.nbytes()

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys") | with_prefix(self._output.save(), "output")
        if self._closing is not None:
            parts |= with_prefix(self._closing.save(), "closing")
        return parts | with_prefix(self._input.save(), "input")

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._output.load(part_of(parts, "output"))
        self._input.load(part_of(parts, "input"))
        if self._closing is not None:
            self._closing.load(part_of(parts, "closing"))
            self._closed_rows = int(self._input.count(self._closing.closed_groups()).sum())
        self._is_started = True


def _distinct(groups: Numbers) -> Numbers:
    """Return the distinct groups in the order of their first row."""
    found, first = np.unique(groups, return_index=True)
    return found[np.argsort(first)]


def _repeated(columns: Sequence[pa.Array], weights: Weights) -> list[pa.Array]:
    """Return rows as often as their weights say."""
    if (weights == 1).all():
        return list(columns)
    if (weights < 0).any():
        raise EngineFault("a row is there fewer than no times", found=f"{weights.min()} times")
    index = pa.array(np.repeat(np.arange(len(weights)), weights))
    return [column.take(index) for column in columns]
