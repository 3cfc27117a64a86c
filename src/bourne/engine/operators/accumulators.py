"""What an aggregate function remembers per group, and how that becomes its result.

Each accumulator: `grow` makes room for groups, `update` adds rows, `result` gives the value for some groups as
DuckDB would, `save` and `load` carry the state. Only sums of whole numbers, and counts, can take rows back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    ALL_VALID,
    Valid,
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
from bourne.engine.kernels.sums import (
    as_floats,
    count_rows,
    count_valid,
    count_weights,
    sum_doubles,
    sum_longs,
    sum_weighted,
    sum_wides,
    take_sums,
)
from bourne.engine.kernels.text_index import TextIndex
from bourne.engine.operators.operator import ComputeError

Groups = NDArray[np.int64]
Weights = NDArray[np.int64]
Parts = dict[str, NDArray[Any]]

# A 128-bit Arrow decimal holds 38 digits; DuckDB's HUGEINT reaches 1.7e38 and is stored as one.
_DIGITS_MAX = 10**38


class SumOverflow(ComputeError):
    """A sum left the range that can be stored."""


class Accumulator(Protocol):
    """The state of one aggregate function over all groups."""

    def grow(self, groups: int) -> None:
        """Make room for groups up to this number (exclusive)."""
        ...

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Add one row per element: to its group, its argument's value, as often as its weight says (None: once)."""
        ...

    def result(self, groups: Groups) -> pa.Array:
        """Return the function's value for some groups."""
        ...

    def nbytes(self) -> int:
        """Return the memory in use."""
        ...

    def save(self, groups: int) -> Parts:
        """Return the state of the first groups."""
        ...

    def load(self, parts: Parts) -> None:
        """Become what `save` returned."""
        ...


class _Arrays:
    """State that is arrays indexed by group. Subclasses name them."""

    def __init__(self, **arrays: NDArray[Any]) -> None:
        self.arrays = arrays

    def grow(self, groups: int) -> None:
        """Make room for groups up to this number (exclusive)."""
        self.arrays = {name: grown(array, groups) for name, array in self.arrays.items()}

    def nbytes(self) -> int:
        """Return the memory in use."""
        return sum(array.nbytes for array in self.arrays.values())

    def save(self, groups: int) -> Parts:
        """Return the state of the first groups."""
        return {name: array[:groups] for name, array in self.arrays.items()}

    def load(self, parts: Parts) -> None:
        """Become what `save` returned."""
        self.arrays = {name: np.array(parts[name], dtype=array.dtype) for name, array in self.arrays.items()}


class Count(_Arrays):
    """`count(*)` and `count(x)`; also how many values the other functions have seen."""

    def __init__(self, **arrays: NDArray[Any]) -> None:
        super().__init__(counts=np.zeros(1024, np.int64), **arrays)

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Count rows, or values that are not NULL."""
        valid = ALL_VALID if values is None else validity(values)
        if weights is not None:
            count_weights(groups, valid, weights, self.arrays["counts"])
        elif len(valid):
            count_valid(groups, valid, self.arrays["counts"])
        else:
            count_rows(groups, self.arrays["counts"])

    def counts(self, groups: Groups) -> NDArray[np.int64]:
        """Return the counts as numbers."""
        return self.arrays["counts"][groups]

    def result(self, groups: Groups) -> pa.Array:
        """Return the counts; never NULL."""
        return from_longs(self.counts(groups), ALL_VALID, pa.int64())


class WholeSum(Count):
    """`sum` of whole numbers and decimals: exact, 128 bits wide. NULL for a group without values."""

    def __init__(self, argument: pa.DataType, target: pa.DataType) -> None:
        super().__init__(sums=np.zeros((1024, 2), np.int64))
        self._is_wide = pa.types.is_decimal128(argument)
        self._is_unsigned_64 = pa.types.is_uint64(argument)
        self._target = target

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Add the values that are not NULL."""
        assert values is not None
        super().update(groups, values, weights)
        sums, valid = self.arrays["sums"], validity(values)
        if weights is None and not self._is_wide and not self._is_unsigned_64:
            sum_longs(groups, longs(values), valid, sums)
            return
        words = wides(values) if self._is_wide else self._widened(longs(values))
        if weights is None:
            has_overflow = sum_wides(groups, words, valid, sums)
        else:
            has_overflow = sum_weighted(groups, words, valid, weights, sums)
        if has_overflow:
            raise _too_large()

    def _widened(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        high = np.zeros_like(numbers) if self._is_unsigned_64 else numbers >> 63
        return np.stack([numbers, high], axis=1)

    def result(self, groups: Groups) -> pa.Array:
        """Return the sums."""
        sums = self.arrays["sums"][groups]
        high_max = _DIGITS_MAX >> 64
        for low, high in sums[(sums[:, 1] >= high_max) | (sums[:, 1] < -high_max)]:
            if abs((int(high) << 64) + (int(low) & (2**64 - 1))) >= _DIGITS_MAX:
                raise _too_large()
        return from_wides(sums, _seen(self.counts(groups)), self._target)

    def as_doubles(self, groups: Groups) -> NDArray[np.float64]:
        """Return the sums rounded to floats."""
        return as_floats(self.arrays["sums"], groups)


class FloatSum(Count):
    """`sum` of floats, compensated. NULL for a group without values."""

    def __init__(self) -> None:
        super().__init__(sums=np.zeros((1024, 2), np.float64))

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Add the values that are not NULL."""
        assert values is not None and weights is None
        super().update(groups, values, weights)
        sum_doubles(groups, doubles(values), validity(values), self.arrays["sums"])

    def as_doubles(self, groups: Groups) -> NDArray[np.float64]:
        """Return the sums."""
        return take_sums(self.arrays["sums"], groups)

    def result(self, groups: Groups) -> pa.Array:
        """Return the sums."""
        return from_doubles(self.as_doubles(groups), _seen(self.counts(groups)), pa.float64())


class Average:
    """`avg` of numbers, as a float: the sum divided once, as DuckDB does it."""

    def __init__(self, argument: pa.DataType, total: WholeSum | FloatSum) -> None:
        self._total = total
        self._scale = 10.0**argument.scale if pa.types.is_decimal128(argument) else 1.0
        self.grow, self.update = total.grow, total.update
        self.save, self.load, self.nbytes = total.save, total.load, total.nbytes

    def result(self, groups: Groups) -> pa.Array:
        """Return the averages; NULL for a group without values."""
        counts = self._total.counts(groups)
        with np.errstate(invalid="ignore", divide="ignore"):
            averages = self._total.as_doubles(groups) / (counts * self._scale)
        return from_doubles(averages, _seen(counts), pa.float64())


class Extreme(_Arrays):
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


class TextExtreme(_Arrays):
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

    def result(self, groups: Groups) -> pa.Array:
        """Return the extremes; NULL for a group without values."""
        seen = self.arrays["seen"][groups]
        if seen.all():
            return self._texts.take(self.arrays["best"][groups], None, self._target)
        if not len(self._texts):
            return pa.nulls(len(groups), self._target)
        return self._texts.take(self.arrays["best"][groups], seen, self._target)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return super().nbytes() + self._rows.nbytes + self._texts.nbytes()

    def save(self, groups: int) -> Parts:
        """Return the state of the first groups."""
        ends, data = self._texts.save()
        return super().save(groups) | {"ends": ends, "bytes": data}

    def load(self, parts: Parts) -> None:
        """Become what `save` returned."""
        super().load(parts)
        self._texts.load(parts["ends"], parts["bytes"])
        self._rows = np.full(len(self.arrays["best"]), -1, np.int64)


def make_accumulator(
    function: str, arguments: Sequence[pa.DataType], target: pa.DataType, *, is_growing: bool
) -> Accumulator | None:
    """Return a new accumulator for a bound aggregate function, or None if there is none.

    `is_growing` says that no row will be taken back: then also those will do that only add.
    """
    argument = arguments[0] if len(arguments) == 1 else None
    if function in ("count_star", "count") and len(arguments) <= 1:
        return Count()
    if argument is None:
        return None
    is_whole = (
        pa.types.is_integer(argument) or pa.types.is_boolean(argument) or pa.types.is_decimal128(argument)
    )
    if function == "sum" and is_whole and pa.types.is_decimal128(target):
        return WholeSum(argument, target)
    if function == "avg" and is_whole and pa.types.is_float64(target):
        return Average(argument, WholeSum(argument, target))
    if not is_growing:
        return None
    if function in ("sum", "avg") and pa.types.is_float64(argument) and pa.types.is_float64(target):
        return FloatSum() if function == "sum" else Average(argument, FloatSum())
    function = {"bool_and": "min", "bool_or": "max"}.get(function, function)
    if function in ("min", "max") and target == argument:
        if pa.types.is_string(target) or pa.types.is_binary(target):
            return TextExtreme(target, is_max=function == "max")
        if is_whole or pa.types.is_floating(target) or pa.types.is_date32(target) or _is_time(target):
            return Extreme(target, is_max=function == "max")
    return None


def _is_time(target: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(target) or pa.types.is_time64(target))


def _ordered(values: pa.Array) -> NDArray[np.int64]:
    """Return numbers that compare as the values do, unsigned ones included."""
    numbers = longs(values)
    return numbers ^ np.int64(-(2**63)) if pa.types.is_uint64(values.type) else numbers


def _seen(counts: NDArray[np.int64]) -> Valid:
    seen: Valid = counts > 0
    return ALL_VALID if seen.all() else seen


def _too_large() -> SumOverflow:
    return SumOverflow(
        "a sum has more than 38 digits",
        expected="less than 10^38",
        hint="CAST the argument to DOUBLE in the view",
    )
