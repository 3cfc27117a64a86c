"""GROUP BY: one row per group, kept in a keyed table that is updated in place.

Law: after any cut of the input into deltas, each group's row is DuckDB's row for that group. For aggregates whose
state is a sum over rows this follows from adding every row exactly once, with its weight; for those that are a fold
over rows (min, max, sums of floats) from adding every row once, in order, where the input only grows.
Cost of a step: O(rows in the delta), whatever the number of groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.delta import Delta, KeyedDelta, Weights, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.sums import first_touches
from bourne.engine.operators.accumulators import Accumulator, Count
from bourne.engine.operators.linear import with_gone
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Groups = NDArray[np.int64]


class Aggregate:
    """Takes deltas whose first columns are the group key and the others the functions' arguments.

    `arguments[i]` is the column that function i reads, or None for `count(*)`. The output is the groups' rows, what
    they were before taken back; with `is_keyed` the newest row of each group, which saves half of it.
    """

    is_stateful = True

    def __init__(
        self,
        key_types: Sequence[pa.DataType],
        accumulators: Sequence[Accumulator],
        arguments: Sequence[int | None],
        *,
        is_growing: bool = True,
        is_keyed: bool = False,
    ) -> None:
        self._keys = KeyTable(key_types)
        self._key_count = len(key_types)
        self._accumulators = tuple(accumulators)
        self._arguments = tuple(arguments)
        self._is_growing = is_growing
        self._is_keyed = is_keyed
        self._is_started = bool(key_types)
        self._presence = Count()
        self._marks = np.zeros(1024, np.int64)
        self._stamp = 0

    def step(self, delta: Delta) -> Delta | KeyedDelta:
        """Add the delta's rows; return what becomes of every group that they touched."""
        columns = [as_array(column) for column in delta.table.columns]
        known = len(self._keys)
        groups = self._keys.assign(columns[: self._key_count], delta.rows)
        if not self._is_started:
            return self._start(groups, columns, delta)
        self._grow()
        self._stamp += 1
        touched = first_touches(groups, self._marks, self._stamp)
        was_there = self._are_there(touched, known)
        before = [] if self._is_keyed or not self._accumulators else self._results(touched[was_there])
        self._add(groups, columns, delta)
        is_there = self._are_there(touched, len(self._keys))
        if self._is_keyed:
            return self._newest(touched, was_there, is_there)
        if not self._accumulators:
            return self._distinct(touched[was_there & ~is_there], touched[is_there & ~was_there])
        return self._difference(touched, was_there, is_there, before)

    def _start(self, groups: Groups, columns: list[pa.Array], delta: Delta) -> Delta | KeyedDelta:
        """Take the first step without GROUP BY: there is one row, whether or not there are any to aggregate."""
        self._is_started = True
        (all_rows,) = only = self._keys.assign([], 1)
        assert all_rows == 0
        self._grow()
        self._add(groups, columns, delta)
        table = table_of(self._results(only))
        return KeyedDelta(table, only) if self._is_keyed else Delta(table, np.ones(1, np.int64))

    def _add(self, groups: Groups, columns: list[pa.Array], delta: Delta) -> None:
        for accumulator, argument in zip(self._accumulators, self._arguments, strict=True):
            accumulator.update(groups, None if argument is None else columns[argument], delta.weights)
        if not self._is_growing:
            self._presence.update(groups, None, delta.weights)

    def _are_there(self, groups: Groups, known: int) -> NDArray[np.bool_]:
        """Say which groups have rows; only the first `known` can."""
        if not self._key_count:
            return np.ones(len(groups), np.bool_)
        if self._is_growing:
            return groups < known
        counts = self._presence.counts(groups)
        if len(counts) and counts.min() < 0:
            raise EngineFault("a group has fewer than no rows", found=f"{counts.min()} rows")
        return counts > 0

    def _newest(
        self, touched: Groups, was_there: NDArray[np.bool_], is_there: NDArray[np.bool_]
    ) -> KeyedDelta:
        kept = touched[is_there]
        return with_gone(table_of(self._results(kept)), kept, touched[was_there & ~is_there])

    def _distinct(self, gone: Groups, come: Groups) -> Delta:
        """Return the groups themselves: those that went and those that came."""
        table = table_of(self._keys.columns(np.concatenate([gone, come])))
        return Delta(table, None if self._is_growing else _signs(len(gone), len(come)))

    def _difference(
        self,
        touched: Groups,
        was_there: NDArray[np.bool_],
        is_there: NDArray[np.bool_],
        before: list[pa.Array],
    ) -> Delta:
        """Return the touched groups' rows as they are, and taken back as they were, where that is not the same."""
        after = self._results(touched[is_there])
        is_in_both = was_there & is_there
        gone, come = np.ones(int(was_there.sum()), np.bool_), np.ones(int(is_there.sum()), np.bool_)
        if is_in_both.any():
            both_before, both_after = is_in_both[was_there], is_in_both[is_there]
            first, second = pa.array(both_before), pa.array(both_after)
            changed = np.zeros(int(is_in_both.sum()), np.bool_)
            for old, new in zip(before[self._key_count :], after[self._key_count :], strict=True):
                changed |= _are_different(old.filter(first), new.filter(second))
            gone[both_before], come[both_after] = changed, changed
        olds = before if gone.all() else [column.filter(pa.array(gone)) for column in before]
        news = after if come.all() else [column.filter(pa.array(come)) for column in after]
        columns = [pa.concat_arrays([old, new]) for old, new in zip(olds, news, strict=True)]
        return Delta(table_of(columns), _signs(int(gone.sum()), int(come.sum())))

    def _results(self, groups: Groups) -> list[pa.Array]:
        return [*self._keys.columns(groups), *(function.result(groups) for function in self._accumulators)]

    def _grow(self) -> None:
        for accumulator in (*self._accumulators, self._presence):
            accumulator.grow(len(self._keys))
        self._marks = grown(self._marks, len(self._keys))

    # --- state ---

    @property
    def rows(self) -> int:
        """How many groups there are."""
        return len(self._keys)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + sum(function.nbytes() for function in self._accumulators)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys")
        for i, function in enumerate((self._presence, *self._accumulators)):
            for name, array in function.save(len(self._keys)).items():
                columns = array.T if array.ndim == 2 else [array]
                parts[f"function{i}.{name}"] = pa.table({f"v{j}": c for j, c in enumerate(columns)})
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._is_started = True
        self._keys.load(part_of(parts, "keys"))
        for i, function in enumerate((self._presence, *self._accumulators)):
            arrays = {}
            for name, table in part_of(parts, f"function{i}").items():
                columns = [column.to_numpy() for column in table.columns]
                arrays[name] = columns[0] if len(columns) == 1 else np.column_stack(columns)
            function.load(arrays)
        self._grow()


def _signs(gone: int, come: int) -> Weights:
    return np.concatenate([np.full(gone, -1, np.int64), np.ones(come, np.int64)])


def _are_different(old: pa.Array, new: pa.Array) -> NDArray[np.bool_]:
    """Say where two columns differ; NULL is like NULL, and where it is not known they do."""
    if pa.types.is_nested(old.type):
        return np.ones(len(old), np.bool_)
    is_same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(pc.is_null(old), pc.is_null(new)))
    return ~np.asarray(is_same.to_numpy(zero_copy_only=False), np.bool_)
