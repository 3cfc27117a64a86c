"""DISTINCT inside an aggregate function: each value of a group counts once, however often it is there.

Law: a value is added to the function when its first row comes, and taken back when its last one goes; so the function
sees the set of the group's values. Cost of a step: O(rows in the delta). Memory: each pair of group and value once for
all functions of the same argument, and a counter per pair and function (their filters may differ).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.sums import count_rows, count_weights, first_touches
from bourne.engine.operators.accumulators import Accumulator, Count, Weights, array_table, table_array
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Numbers = NDArray[np.int64]
_ALL = np.zeros(0, np.bool_)


class Pairs:
    """Numbers the pairs of group and value of one argument. NULLs are no values."""

    def __init__(self, target: pa.DataType) -> None:
        self._target = target
        self.table = KeyTable([pa.int64(), target])
        self.kept: Numbers = np.zeros(0, np.int64)  # by the last `keep`

    def assign(self, groups: Numbers, values: pa.Array) -> tuple[Numbers, NDArray[np.bool_] | None]:
        """Return the pair of each row that has a value, and which rows these are; None for all."""
        if not values.null_count:
            return self.table.assign([pa.array(groups), values], len(groups)), None
        is_there = pc.is_valid(values)
        kept = np.asarray(is_there.to_numpy(zero_copy_only=False), np.bool_)
        return self.table.assign([pa.array(groups[kept]), values.filter(is_there)], int(kept.sum())), kept

    def keep(self, groups: Numbers) -> None:
        """Forget the pairs of all groups but these, which are numbered anew in this order."""
        owners, values = self.table.columns(np.arange(len(self.table)))
        places = np.full(
            int(max(groups.max(initial=-1), owners.to_numpy().max(initial=-1))) + 1, -1, np.int64
        )
        places[groups] = np.arange(len(groups))
        renumbered = places[owners.to_numpy()]
        self.kept = np.flatnonzero(renumbered >= 0)
        kept, self.table = pa.array(self.kept), KeyTable([pa.int64(), self._target])
        self.table.assign([pa.array(renumbered[self.kept]), values.take(kept)], len(kept))


class Distinct:
    """An accumulator of the distinct values of each group. What it is updated with are pairs, not groups."""

    def __init__(self, inner: Accumulator, pairs: Pairs) -> None:
        self._inner = inner
        self._pairs = pairs
        self._counts: Numbers = np.zeros(1024, np.int64)
        self._marks: Numbers = np.zeros(1024, np.int64)
        self._stamp = 0

    def grow(self, groups: int) -> None:
        """Make room for groups up to this number (exclusive)."""
        self._inner.grow(groups)

    def keep(self, groups: Numbers) -> None:
        """Forget all groups but these, after the pairs did."""
        self._counts = self._counts[self._pairs.kept]
        self._marks = np.zeros(len(self._counts), np.int64)
        self._inner.keep(groups)

    def merge(self, groups: Numbers, other: object, others: Numbers) -> None:
        """Never: the values of two groups may be the same."""
        raise EngineFault("the values of two groups may be the same")

    def update(self, groups: Numbers, values: pa.Array | None, weights: Weights | None) -> None:
        """Add one row per element, `groups` being numbers of pairs; `values` are not looked at."""
        known = len(self._pairs.table)
        self._counts, self._marks = grown(self._counts, known), grown(self._marks, known)
        self._stamp += 1
        touched = first_touches(groups, self._marks, self._stamp)
        was_there = self._counts[touched] > 0
        if weights is None:
            count_rows(groups, self._counts)
        else:
            count_weights(groups, _ALL, weights, self._counts)
        is_there = self._counts[touched] > 0
        self._pass(touched[is_there & ~was_there], None if weights is None else 1)
        self._pass(touched[was_there & ~is_there], -1)

    def _pass(self, pairs: Numbers, weight: int | None) -> None:
        """Add values to the function, or take them back."""
        if not len(pairs):
            return
        groups, values = self._pairs.table.columns(pairs)
        weights = None if weight is None else np.full(len(pairs), weight, np.int64)
        self._inner.update(groups.to_numpy(), None if type(self._inner) is Count else values, weights)

    def result(self, groups: Numbers) -> pa.Array:
        """Return the function's value for some groups."""
        return self._inner.result(groups)

    def nbytes(self) -> int:
        """Return the memory in use, but for that of the pairs."""
        return self._inner.nbytes() + self._counts.nbytes + self._marks.nbytes

    def save(self, groups: int) -> dict[str, pa.Table]:
        """Return the state of the first groups as tables."""
        counts = self._counts[: len(self._pairs.table)]
        return with_prefix(self._inner.save(groups), "function") | {"counts": array_table(counts)}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._counts = np.array(table_array(parts["counts"]), np.int64)
        self._inner.load(part_of(parts, "function"))
