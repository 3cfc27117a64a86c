"""`min` and `max` per group, of numbers, times and texts.

Law: the result is SQL's: NULLs do not count, NaN is greater than every other float, texts compare by their bytes. For
inputs that only grow the extreme so far is all that is needed. Where rows are taken back, each group's values are kept:
a group whose extreme went is looked through again, any other is not.
Cost of a step: O(rows in the delta, and the values of the groups that lost their extreme).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    ALL_VALID,
    doubles,
    from_doubles,
    from_longs,
    from_wides,
    grown,
    longs,
    text_buffers,
    validity,
    wides,
)
from bourne.engine.kernels.extremes import extreme_doubles, extreme_longs, extreme_text_rows, extreme_wides
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.kernels.text_index import TextIndex
from bourne.engine.operators.accumulators import Arrays, Groups, Weights, array_table, table_array
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix


class Extreme(Arrays):
    """`min` and `max` of numbers, dates and times."""

    def __init__(self, target: pa.DataType, *, is_max: bool) -> None:
        if pa.types.is_floating(target):
            best: NDArray[Any] = np.zeros(1024, np.float64)
        else:
            best = np.zeros((1024, 2) if pa.types.is_decimal128(target) else 1024, np.int64)
        super().__init__(best=best, seen=np.zeros(1024, np.bool_))
        self._target = target
        self._is_max = is_max

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Compare the values that are not NULL."""
        assert values is not None and weights is None
        best, seen, valid = self.arrays["best"], self.arrays["seen"], validity(values)
        if pa.types.is_floating(self._target):
            extreme_doubles(groups, doubles(values), valid, self._is_max, best, seen)
        elif pa.types.is_decimal128(self._target):
            extreme_wides(groups, wides(values), valid, self._is_max, best, seen)
        else:
            extreme_longs(groups, _ordered(values), valid, self._is_max, best, seen)

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Compare with the extremes of groups of another one."""
        self.update(groups, other.result(others), None)

    def forget(self, groups: Groups) -> None:
        """Begin anew with some groups."""
        self.arrays["seen"][groups] = False

    def result(self, groups: Groups) -> pa.Array:
        """Return the extremes; NULL for a group without values."""
        best, seen = self.arrays["best"][groups], self.arrays["seen"][groups]
        valid = ALL_VALID if seen.all() else seen
        if pa.types.is_floating(self._target):
            return from_doubles(best, valid, self._target)
        if pa.types.is_decimal128(self._target):
            return from_wides(best, valid, self._target)
        if pa.types.is_uint64(self._target):
            best = best ^ np.int64(-(2**63))
        return from_longs(best, valid, self._target)


class TextExtreme(Arrays):
    """`min` and `max` of texts and blobs, by their bytes. Remembers only texts that once were the extreme."""

    def __init__(self, target: pa.DataType, *, is_max: bool) -> None:
        super().__init__(best=np.zeros(1024, np.int64), seen=np.zeros(1024, np.bool_))
        self._rows = np.full(1024, -1, np.int64)
        self._texts = TextIndex()
        self._target = target
        self._is_max = is_max

    def grow(self, groups: int) -> None:
        """Make room for groups up to this number (exclusive)."""
        super().grow(groups)
        self._rows = grown(self._rows, groups, -1)

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Find each group's extreme in the batch, then compare it with the one before."""
        assert values is not None and weights is None
        starts, data = text_buffers(values)
        touched = extreme_text_rows(groups, starts, data, validity(values), self._is_max, self._rows)
        candidates = values.take(pa.array(self._rows[touched]))
        self._rows[touched] = -1
        best, seen = self.arrays["best"], self.arrays["seen"]
        known = seen[touched]
        old = self._texts.take(best[touched[known]], None, self._target)
        compare = pc.greater if self._is_max else pc.less
        better = ~known
        better[known] = compare(candidates.filter(pa.array(known)), old).to_numpy(zero_copy_only=False)
        winners = touched[better]
        best[winners] = self._texts.assign(candidates.filter(pa.array(better)))
        seen[winners] = True

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Compare with the extremes of groups of another one."""
        self.update(groups, other.result(others), None)

    def forget(self, groups: Groups) -> None:
        """Begin anew with some groups."""
        self.arrays["seen"][groups] = False

    def result(self, groups: Groups) -> pa.Array:
        """Return the extremes; NULL for a group without values."""
        seen = self.arrays["seen"][groups]
        if seen.all():
            return self._texts.take(self.arrays["best"][groups], None, self._target)
        if not len(self._texts):
            return pa.nulls(len(groups), self._target)
        return self._texts.take(self.arrays["best"][groups], seen, self._target)

    def keep(self, groups: Groups) -> None:
        """Forget all groups but these, which are numbered anew in this order; and the texts of the others."""
        super().keep(groups)
        seen, texts = self.arrays["seen"], TextIndex()
        values = self._texts.take(self.arrays["best"][seen], None, self._target)
        self.arrays["best"][seen] = texts.assign(values)
        self._texts, self._rows = texts, np.full(len(groups), -1, np.int64)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return super().nbytes() + self._rows.nbytes + self._texts.nbytes()

    def save(self, groups: int) -> dict[str, pa.Table]:
        """Return the state of the first groups as tables."""
        ends, data = self._texts.save()
        return super().save(groups) | {"ends": array_table(ends), "bytes": array_table(data)}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        super().load(parts)
        self._texts.load(table_array(parts["ends"]), table_array(parts["bytes"]))
        self._rows = np.full(len(self.arrays["best"]), -1, np.int64)


class Retractable:
    """`min` and `max` where rows are taken back: `inner` knows each group's extreme, and all values are kept."""

    def __init__(self, inner: Extreme | TextExtreme, target: pa.DataType) -> None:
        self._inner = inner
        self._values = RowChains([target], is_append_only=False)
        self.grow, self.result = inner.grow, inner.result

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Add the values that are not NULL, as often as their weights say."""
        assert values is not None
        weights = np.ones(len(groups), np.int64) if weights is None else weights
        if values.null_count:
            is_there = pc.is_valid(values)
            kept = np.asarray(is_there.to_numpy(zero_copy_only=False), np.bool_)
            groups, values, weights = groups[kept], values.filter(is_there), weights[kept]
        rows = self._values.update(groups, [values], weights)
        is_there_now = self._values.weights(rows) > 0
        come = (weights > 0) & is_there_now
        self._inner.update(groups[come], values.filter(pa.array(come)), None)
        gone = ~is_there_now
        if gone.any():
            self._look_again(groups[gone], values.filter(pa.array(gone)))

    def _look_again(self, groups: Groups, gone: pa.Array) -> None:
        """Find the extreme anew of those of the groups that lost it."""
        is_lost = pc.or_kleene(pc.equal(self._inner.result(groups), gone), _is_nan(gone))
        lost = np.unique(
            groups[np.asarray(pc.fill_null(is_lost, False).to_numpy(zero_copy_only=False), np.bool_)]
        )
        if len(lost):
            self._inner.forget(lost)
            rows, row_groups = self._values.rows_of(lost)
            self._inner.update(row_groups, self._values.take(rows)[0], None)

    def keep(self, groups: Groups) -> None:
        """Forget all groups but these, which are numbered anew in this order."""
        self._inner.keep(groups)
        self._values.keep_groups(groups)

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Never: what takes rows back is not merged."""
        raise EngineFault("what takes rows back is not merged")

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._inner.nbytes() + self._values.nbytes()

    def save(self, groups: int) -> dict[str, pa.Table]:
        """Return the state of the first groups as tables."""
        return with_prefix(self._inner.save(groups), "best") | with_prefix(self._values.save(), "values")

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._inner.load(part_of(parts, "best"))
        self._values.load(part_of(parts, "values"))


def _is_nan(values: pa.Array) -> pa.Array | pa.BooleanScalar:
    """Say which values are NaN, which no comparison finds."""
    return pc.is_nan(values) if pa.types.is_floating(values.type) else pa.scalar(False)


def _is_time(target: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(target) or pa.types.is_time64(target))


def _ordered(values: pa.Array) -> NDArray[np.int64]:
    """Return numbers that compare as the values do, unsigned ones included."""
    numbers = longs(values)
    return numbers ^ np.int64(-(2**63)) if pa.types.is_uint64(values.type) else numbers


def make_extreme(
    target: pa.DataType, *, is_max: bool, is_growing: bool
) -> Extreme | TextExtreme | Retractable | None:
    """Return a new accumulator for `min` or `max` of values of this type, or None if there is none."""
    inner: Extreme | TextExtreme
    if pa.types.is_string(target) or pa.types.is_binary(target):
        inner = TextExtreme(target, is_max=is_max)
    elif (
        pa.types.is_integer(target) or pa.types.is_boolean(target) or pa.types.is_decimal128(target)
        or pa.types.is_floating(target) or pa.types.is_date32(target) or _is_time(target)
    ):  # fmt: skip
        inner = Extreme(target, is_max=is_max)
    else:
        return None
    return inner if is_growing else Retractable(inner, target)
