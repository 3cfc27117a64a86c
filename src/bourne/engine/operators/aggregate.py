"""GROUP BY: one row per group, kept in a keyed table that is updated in place.

Law: after any cut of the input into deltas, each group's row is DuckDB's row for that group. For aggregates whose
state is a sum over rows this follows from adding every row exactly once, with its weight; for those that are a fold
over rows (min, max, sums of floats) from adding every row once, in order, where the input only grows.
Cost of a step: O(rows in the delta), whatever the number of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.delta import Delta, KeyedDelta, Weights, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.sums import first_touches
from bourne.engine.moment import Moment
from bourne.engine.operators.accumulators import Accumulator, Count
from bourne.engine.operators.closing import Closing
from bourne.engine.operators.distinct import Pairs
from bourne.engine.operators.linear import with_gone
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Groups = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Function:
    """An aggregate function: what accumulates it, and which columns it reads.

    `argument` is None for `count(*)`. Rows for which the BOOLEAN column `filter` is not true are left out. With `pairs`
    only the distinct values count; functions of the same argument share them.
    """

    accumulator: Accumulator
    argument: int | None = None
    filter: int | None = None
    pairs: Pairs | None = None


class Aggregate:
    """Takes deltas whose first columns are the group key and the others what the functions read.

    The output is the groups' rows, what they were before taken back; with `is_keyed` the newest row of each group,
    which saves half of it.
    """

    is_stateful = True

    def __init__(
        self,
        key_types: Sequence[pa.DataType],
        functions: Sequence[Function],
        *,
        is_growing: bool = True,
        is_keyed: bool = False,
        closing: Closing | None = None,
        is_final: bool = False,
    ) -> None:
        """With `closing` it forgets groups that are closed; with `is_final` they come out then, and only then."""
        self._keys = KeyTable(key_types)
        self._closing = closing
        self._is_final = is_final
        self._key_count = len(key_types)
        self._functions = tuple(functions)
        self._pairs = {each.argument: each.pairs for each in functions if each.pairs is not None}
        self._is_growing = is_growing
        self._is_keyed = is_keyed
        self._is_started = bool(key_types)
        self._presence = Count()
        self._marks = np.zeros(1024, np.int64)
        self._stamp = 0

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta | KeyedDelta:
        """Add the delta's rows; return what becomes of every group that they touched."""
        columns = [as_array(column) for column in delta.table.columns]
        known = len(self._keys)
        groups = self._keys.assign(columns[: self._key_count], delta.rows)
        if not self._is_started:
            return self._start(groups, columns, delta)
        self._grow()
        if self._closing is None or moment is None:
            return self._change(groups, columns, delta, known)
        self._closing.check(groups)
        if len(self._keys) > known:
            self._closing.add(self._keys.columns(np.arange(known, len(self._keys))), known)
        if not self._is_final:
            change = self._change(groups, columns, delta, known)
            self._closing.due(moment)
            self._forget()
            return change
        self._add(groups, columns, delta)
        due = self._closing.due(moment)
        due = due if self._is_growing else due[self._presence.counts(due) > 0]
        final = Delta(table_of(self._results(due)))
        self._forget()
        return final

    def _forget(self) -> None:
        """Drop closed groups, once they are many."""
        assert self._closing is not None
        kept = self._closing.to_keep()
        if kept is None:
            return
        for pairs in self._pairs.values():
            pairs.keep(kept)
        for accumulator in self._all():
            accumulator.keep(kept)
        self._keys.keep(kept)
        self._marks = np.zeros(1024, np.int64)
        self._grow()

    def _change(
        self, groups: Groups, columns: list[pa.Array], delta: Delta, known: int
    ) -> Delta | KeyedDelta:
        """Add rows; return what the groups that they touch become, and what they were."""
        self._stamp += 1
        touched = first_touches(groups, self._marks, self._stamp)
        was_there = self._are_there(touched, known)
        before = [] if self._is_keyed or not self._functions else self._results(touched[was_there])
        self._add(groups, columns, delta)
        is_there = self._are_there(touched, len(self._keys))
        if self._is_keyed:
            return self._newest(touched, was_there, is_there)
        if not self._functions:
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
        pairs = {
            argument: found.assign(groups, columns[argument])
            for argument, found in self._pairs.items()
            if argument is not None
        }
        for each in self._functions:
            numbers, kept = groups, None
            values = None if each.argument is None else columns[each.argument]
            if each.pairs is not None and each.argument is not None:
                numbers, kept = pairs[each.argument]
                values = None
            weights = delta.weights if kept is None or delta.weights is None else delta.weights[kept]
            if each.filter is not None:
                passes = is_true(columns[each.filter])
                passes = passes if kept is None else passes[kept]
                numbers = numbers[passes]
                values = None if values is None else values.filter(pa.array(passes))
                weights = None if weights is None else weights[passes]
            each.accumulator.update(numbers, values, weights)
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
        return [*self._keys.columns(groups), *(each.accumulator.result(groups) for each in self._functions)]

    def _grow(self) -> None:
        for accumulator in self._all():
            accumulator.grow(len(self._keys))
        self._marks = grown(self._marks, len(self._keys))

    # --- state ---

    @property
    def rows(self) -> int:
        """How many groups there are, but for those that are closed."""
        return len(self._keys) - (0 if self._closing is None else self._closing.closed)

    def _all(self) -> list[Accumulator]:
        return [self._presence, *(each.accumulator for each in self._functions)]

    def nbytes(self) -> int:
        """Return the memory in use."""
        pairs = sum(found.table.nbytes() for found in self._pairs.values())
        closing = 0 if self._closing is None else self._closing.nbytes()
        return self._keys.nbytes() + pairs + closing + sum(each.nbytes() for each in self._all())

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys")
        for argument, pairs in self._pairs.items():
            parts |= with_prefix(pairs.table.save(), f"pairs{argument}")
        for i, accumulator in enumerate(self._all()):
            parts |= with_prefix(accumulator.save(len(self._keys)), f"function{i}")
        if self._closing is not None:
            parts |= with_prefix(self._closing.save(), "closing")
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._is_started = True
        self._keys.load(part_of(parts, "keys"))
        for argument, pairs in self._pairs.items():
            pairs.table.load(part_of(parts, f"pairs{argument}"))
        for i, accumulator in enumerate(self._all()):
            accumulator.load(part_of(parts, f"function{i}"))
        if self._closing is not None:
            self._closing.load(part_of(parts, "closing"))
        self._grow()


def is_true(flags: pa.Array) -> NDArray[np.bool_]:
    """Return where a BOOLEAN column is true."""
    return np.asarray(pc.fill_null(flags, False).to_numpy(zero_copy_only=False), np.bool_)


def _signs(gone: int, come: int) -> Weights:
    return np.concatenate([np.full(gone, -1, np.int64), np.ones(come, np.int64)])


def _are_different(old: pa.Array, new: pa.Array) -> NDArray[np.bool_]:
    """Say where two columns differ; NULL is like NULL, 0.0 is not -0.0, and where it is not known they do."""
    if pa.types.is_nested(old.type):
        return np.ones(len(old), np.bool_)
    if pa.types.is_floating(old.type):
        bits = pa.int64() if pa.types.is_float64(old.type) else pa.int32()
        old, new = old.view(bits), new.view(bits)
    is_same = pc.or_(pc.fill_null(pc.equal(old, new), False), pc.and_(pc.is_null(old), pc.is_null(new)))
    return ~np.asarray(is_same.to_numpy(zero_copy_only=False), np.bool_)
