"""Running counts and sums per group: exact for whole numbers and decimals, compensated for floats.

Law: rows are added one by one in their order, so the result does not depend on how the input was cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled

Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]
Valid = NDArray[np.bool_]


@compiled
def count_rows(groups: Longs, counts: Longs) -> None:
    """Add one to each row's group."""
    for i in range(len(groups)):
        counts[groups[i]] += 1


@compiled
def count_valid(groups: Longs, valid: Valid, counts: Longs) -> None:
    """Add one to the group of each row that is not NULL."""
    for i in range(len(groups)):
        counts[groups[i]] += valid[i]


@compiled
def count_weights(groups: Longs, valid: Valid, weights: Longs, counts: Longs) -> None:
    """Add each row's weight to its group, but for NULLs."""
    for i in range(len(groups)):
        if not len(valid) or valid[i]:
            counts[groups[i]] += weights[i]


@compiled
def sum_longs(groups: Longs, values: Longs, valid: Valid, sums: Longs) -> None:
    """Add 64-bit numbers to 128-bit sums, (groups, 2): low word, high word."""
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group, value = groups[i], values[i]
        low = np.uint64(sums[group, 0])
        total = low + np.uint64(value)
        sums[group, 0] = np.int64(total)
        sums[group, 1] += (value >> 63) + (total < low)


@compiled
def sum_weighted(groups: Longs, words: Longs, valid: Valid, weights: Longs, sums: Longs) -> bool:
    """Add 128-bit numbers, each as often as its weight says; return whether a sum overflowed.

    Doubles the number for each binary digit of its weight: one addition where the weight is 1 or -1.
    """
    overflow = False
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group, low, high, left = groups[i], np.uint64(words[i, 0]), words[i, 1], weights[i]
        if left < 0:
            low, high, left = ~low + np.uint64(1), ~high + np.int64(low == 0), -left
        while left:
            if left & 1:
                total = np.uint64(sums[group, 0]) + low
                old = sums[group, 1]
                new = old + high + np.int64(total < low)
                overflow |= (old < 0) == (high < 0) and (new < 0) != (old < 0)
                sums[group, 0], sums[group, 1] = np.int64(total), new
            left >>= 1
            if left:
                doubled = (high << 1) | np.int64(low >> np.uint64(63))
                overflow |= (doubled < 0) != (high < 0)
                low, high = low << np.uint64(1), doubled
    return overflow


@compiled
def sum_wides(groups: Longs, values: Longs, valid: Valid, sums: Longs) -> bool:
    """Add 128-bit numbers to 128-bit sums; return whether one overflowed."""
    overflow = False
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group = groups[i]
        low, high = np.uint64(sums[group, 0]), sums[group, 1]
        total = low + np.uint64(values[i, 0])
        carry = np.int64(total < low)
        new_high = high + values[i, 1] + carry
        overflow |= (high < 0) == (values[i, 1] < 0) and (new_high < 0) != (high < 0)
        sums[group, 0] = np.int64(total)
        sums[group, 1] = new_high
    return overflow


@compiled
def as_floats(sums: Longs, groups: Longs) -> Doubles:
    """Return the 128-bit sums of some groups as floats, by their magnitude: -1 has a large low word."""
    result = np.empty(len(groups), np.float64)
    for i in range(len(groups)):
        low, high = np.uint64(sums[groups[i], 0]), sums[groups[i], 1]
        is_negative = high < 0
        if is_negative:
            low, high = ~low + np.uint64(1), ~high + np.int64(low == 0)
        magnitude = np.float64(np.uint64(high)) * 2.0**64 + np.float64(low)
        result[i] = -magnitude if is_negative else magnitude
    return result


@compiled
def sum_doubles(groups: Longs, values: Doubles, valid: Valid, sums: Doubles) -> None:
    """Add floats, (groups, 2): the plain sum, and the part that rounding lost (Neumaier 1974)."""
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group, value = groups[i], values[i]
        old = sums[group, 0]
        new = old + value
        if abs(old) >= abs(value):
            sums[group, 1] += (old - new) + value
        else:
            sums[group, 1] += (value - new) + old
        sums[group, 0] = new


@compiled
def take_sums(sums: Doubles, groups: Longs) -> Doubles:
    """Return the compensated sums of some groups. An infinite or NaN sum stays what it is."""
    result = np.empty(len(groups), np.float64)
    for i in range(len(groups)):
        plain, lost = sums[groups[i], 0], sums[groups[i], 1]
        result[i] = plain + lost if np.isfinite(plain) and np.isfinite(lost) else plain
    return result


@compiled
def first_touches(groups: Longs, marks: Longs, stamp: int) -> Longs:
    """Return the distinct groups in the order of their first row. `marks` holds the stamp of the last call."""
    result = np.empty(len(groups), np.int64)
    count = 0
    for i in range(len(groups)):
        group = groups[i]
        if marks[group] != stamp:
            marks[group] = stamp
            result[count] = group
            count += 1
    return result[:count]


@compiled
def first_rows(groups: Longs, marks: Longs, stamp: int) -> Longs:
    """Return the first row of each distinct group, in order. `marks` as for `first_touches`."""
    result = np.empty(len(groups), np.int64)
    count = 0
    for i in range(len(groups)):
        if marks[groups[i]] != stamp:
            marks[groups[i]] = stamp
            result[count] = i
            count += 1
    return result[:count]
