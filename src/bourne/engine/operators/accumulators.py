"""What counts and sums remember per group, and how that becomes their result.

Each accumulator: `grow` makes room for groups, `update` adds rows, `result` gives the value for some groups as
DuckDB would, `save` and `load` carry the state. Only sums of whole numbers, and counts, can take rows back.
"""

from __future__ import annotations

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
    validity,
    wides,
)
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
from bourne.engine.operators.operator import ComputeError

Groups = NDArray[np.int64]
Weights = NDArray[np.int64]

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

    def keep(self, groups: Groups) -> None:
        """Forget all groups but these, which are numbered anew in this order."""
        ...

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add to each of some groups what another accumulator of the same kind has of another group."""
        ...

    def nbytes(self) -> int:
        """Return the memory in use."""
        ...

    def save(self, groups: int) -> dict[str, pa.Table]:
        """Return the state of the first groups as tables."""
        ...

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        ...


class Arrays:
    """State that is arrays indexed by group. Subclasses name them."""

    def __init__(self, **arrays: NDArray[Any]) -> None:
        self.arrays = arrays

    def grow(self, groups: int) -> None:
        """Make room for groups up to this number (exclusive)."""
        self.arrays = {name: grown(array, groups) for name, array in self.arrays.items()}

    def keep(self, groups: Groups) -> None:
        """Forget all groups but these, which are numbered anew in this order."""
        self.arrays = {name: array[groups] for name, array in self.arrays.items()}

    def nbytes(self) -> int:
        """Return the memory in use."""
        return sum(array.nbytes for array in self.arrays.values())

    def save(self, groups: int) -> dict[str, pa.Table]:
        """Return the state of the first groups as tables."""
        return {name: array_table(array[:groups]) for name, array in self.arrays.items()}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self.arrays = {
            name: np.array(table_array(parts[name]), dtype=array.dtype) for name, array in self.arrays.items()
        }


class Count(Arrays):
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

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add the counts of groups of another one."""
        count_weights(groups, ALL_VALID, other.arrays["counts"][others], self.arrays["counts"])

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

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add the sums of groups of another one."""
        super().merge(groups, other, others)
        if sum_wides(groups, other.arrays["sums"][others], ALL_VALID, self.arrays["sums"]):
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

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add the sums of groups of another one."""
        super().merge(groups, other, others)
        sum_doubles(groups, other.as_doubles(others), ALL_VALID, self.arrays["sums"])

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
        self.grow, self.update, self.keep = total.grow, total.update, total.keep
        self.save, self.load, self.nbytes = total.save, total.load, total.nbytes

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add the sums of groups of another one."""
        self._total.merge(groups, other._total, others)

    def result(self, groups: Groups) -> pa.Array:
        """Return the averages; NULL for a group without values."""
        counts = self._total.counts(groups)
        with np.errstate(invalid="ignore", divide="ignore"):
            averages = self._total.as_doubles(groups) / (counts * self._scale)
        return from_doubles(averages, _seen(counts), pa.float64())


class Booleans(Count):
    """`bool_and` and `bool_or`: how many are true, of how many. NULL for a group without values."""

    def __init__(self, *, is_and: bool) -> None:
        super().__init__(trues=np.zeros(1024, np.int64))
        self._is_and = is_and

    def update(self, groups: Groups, values: pa.Array | None, weights: Weights | None) -> None:
        """Count the values that are true, and all."""
        assert values is not None
        super().update(groups, values, weights)
        is_true = np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), np.bool_)
        if weights is None:
            count_valid(groups, is_true, self.arrays["trues"])
        else:
            count_weights(groups, is_true, weights, self.arrays["trues"])

    def merge(self, groups: Groups, other: Any, others: Groups) -> None:
        """Add the counts of groups of another one."""
        super().merge(groups, other, others)
        count_weights(groups, ALL_VALID, other.arrays["trues"][others], self.arrays["trues"])

    def result(self, groups: Groups) -> pa.Array:
        """Return whether all, or any, are true."""
        counts, trues = self.counts(groups), self.arrays["trues"][groups]
        answer = trues == counts if self._is_and else trues > 0
        return from_longs(answer.astype(np.int64), _seen(counts), pa.bool_())


def array_table(array: NDArray[Any]) -> pa.Table:
    """Return an array of one or two dimensions as a table."""
    return pa.table({f"v{i}": column for i, column in enumerate(array.T if array.ndim == 2 else [array])})


def table_array(table: pa.Table) -> NDArray[Any]:
    """Return the array that `array_table` was given."""
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _seen(counts: NDArray[np.int64]) -> Valid:
    seen: Valid = counts > 0
    return ALL_VALID if seen.all() else seen


def _too_large() -> SumOverflow:
    return SumOverflow(
        "a sum has more than 38 digits",
        expected="less than 10^38",
        hint="CAST the argument to DOUBLE in the view",
    )
