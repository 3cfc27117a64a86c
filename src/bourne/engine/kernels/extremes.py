"""Running minimum and maximum per group, for inputs that only grow.

Law: the result is SQL's: NULLs do not count, NaN is greater than every other float, texts compare by their bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled

Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]
Valid = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@compiled
def extreme_longs(groups: Longs, values: Longs, valid: Valid, is_max: bool, best: Longs, seen: Valid) -> None:
    """Keep each group's least (or greatest) 64-bit number."""
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group, value = groups[i], values[i]
        if not seen[group] or (value > best[group] if is_max else value < best[group]):
            best[group] = value
            seen[group] = True


@compiled
def extreme_doubles(
    groups: Longs, values: Doubles, valid: Valid, is_max: bool, best: Doubles, seen: Valid
) -> None:
    """Keep each group's least (or greatest) float; NaN is the greatest."""
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group, value = groups[i], values[i]
        old = best[group]
        if np.isnan(value):
            better = is_max and not np.isnan(old)
        elif np.isnan(old):
            better = not is_max
        else:
            better = value > old if is_max else value < old
        if better or not seen[group]:
            best[group] = value
            seen[group] = True


@compiled
def extreme_wides(groups: Longs, values: Longs, valid: Valid, is_max: bool, best: Longs, seen: Valid) -> None:
    """Keep each group's least (or greatest) 128-bit number, (groups, 2)."""
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group = groups[i]
        high, old_high = values[i, 1], best[group, 1]
        low, old_low = np.uint64(values[i, 0]), np.uint64(best[group, 0])
        greater = high > old_high or (high == old_high and low > old_low)
        less = high < old_high or (high == old_high and low < old_low)
        if not seen[group] or (greater if is_max else less):
            best[group, 0], best[group, 1] = values[i, 0], high
            seen[group] = True


@compiled
def extreme_text_rows(
    groups: Longs, starts: Longs, data: Bytes, valid: Valid, is_max: bool, rows: Longs
) -> Longs:
    """Set rows[group] to the row of the group's least (or greatest) text in this batch.

    Call with `rows` all -1. Returns the groups that have one, in the order of their first row.
    """
    found = np.empty(len(groups), np.int64)
    count = 0
    for i in range(len(groups)):
        if len(valid) and not valid[i]:
            continue
        group = groups[i]
        row = rows[group]
        if row < 0:
            rows[group] = i
            found[count] = group
            count += 1
            continue
        length, old_length = starts[i + 1] - starts[i], starts[row + 1] - starts[row]
        order = (length > old_length) - (length < old_length)
        for j in range(min(length, old_length)):
            a, b = data[starts[i] + j], data[starts[row] + j]
            if a != b:
                order = 1 if a > b else -1
                break
        if order > 0 if is_max else order < 0:
            rows[group] = i
    return found[:count]
