"""Numbers that wait for their time: what is due comes out, once.

Law: after any additions, `due(t)` returns exactly the numbers that were added with a time before t and have not come out
yet, in the order of their times' buckets and of their arrival.

Times are kept in buckets, found by a dictionary; the buckets' width doubles when they become too many, so few distinct
times (windows) are kept apart and many (instants) together. Cost: O(numbers added) and O(numbers that come out), and for
one bucket of those that do not.
"""

from __future__ import annotations

import heapq

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array

Longs = NDArray[np.int64]

_BUCKETS_MAX = 1 << 12
_NONE = np.zeros(0, np.int64)


class Calendar:
    """Numbers, each with a time in microseconds."""

    def __init__(self) -> None:
        self._shift = 0
        self._buckets: dict[int, list[tuple[Longs, Longs]]] = {}
        self._order: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, times: Longs, numbers: Longs) -> None:
        """Add numbers, each with its time."""
        if not len(times):
            return
        self._count += len(times)
        distinct, shift = np.unique(times), self._shift
        while len(np.unique(distinct >> shift)) > _BUCKETS_MAX:
            shift += 1
        self._widen(shift)
        self._put(times, numbers)
        while len(self._buckets) > _BUCKETS_MAX:
            self._widen(self._shift + 1)

    def _widen(self, shift: int) -> None:
        if shift == self._shift:
            return
        kept = [part for parts in self._buckets.values() for part in parts]
        self._shift, self._buckets, self._order = shift, {}, []
        if kept:
            times, numbers = zip(*kept, strict=True)
            self._put(np.concatenate(times), np.concatenate(numbers))

    def _put(self, times: Longs, numbers: Longs) -> None:
        keys = times >> self._shift
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
            key, rows = int(ordered[start]), order[start:end]
            if key not in self._buckets:
                self._buckets[key] = []
                heapq.heappush(self._order, key)
            self._buckets[key].append((times[rows], numbers[rows]))

    def due(self, before: int) -> Longs:
        """Return the numbers whose time is before this one; they are in the calendar no longer."""
        found: list[Longs] = []
        while self._order and self._order[0] << self._shift < before:
            key = self._order[0]
            parts = self._buckets[key]
            if (key + 1) << self._shift <= before:
                found += [numbers for _, numbers in parts]
                heapq.heappop(self._order)
                del self._buckets[key]
                continue
            times = np.concatenate([times for times, _ in parts])
            numbers = np.concatenate([numbers for _, numbers in parts])
            is_due = times < before
            found.append(numbers[is_due])
            if is_due.all():
                heapq.heappop(self._order)
                del self._buckets[key]
            else:
                self._buckets[key] = [(times[~is_due], numbers[~is_due])]
            break
        result = np.concatenate(found) if found else _NONE
        self._count -= len(result)
        return result

    def first(self) -> int | None:
        """Return the earliest time; None if there is none."""
        if not self._order:
            return None
        return min(int(times.min()) for times, _ in self._buckets[self._order[0]])

    def renumber(self, numbers: Longs) -> None:
        """Call number i `numbers[i]` from now on; -1 says that it is gone."""
        for key, parts in list(self._buckets.items()):
            kept = []
            for times, old in parts:
                new = numbers[old]
                is_kept = new >= 0
                if is_kept.any():
                    kept.append((times[is_kept], new[is_kept]))
            self._buckets[key] = kept
        empty = {key for key, parts in self._buckets.items() if not parts}
        for key in empty:
            del self._buckets[key]
        self._order = sorted(self._buckets)
        self._count = sum(len(old) for parts in self._buckets.values() for _, old in parts)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return 16 * self._count + 200 * len(self._buckets)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = [part for key in sorted(self._buckets) for part in self._buckets[key]]
        times = np.concatenate([times for times, _ in parts]) if parts else _NONE
        numbers = np.concatenate([numbers for _, numbers in parts]) if parts else _NONE
        return {"calendar": pa.table({"time": times, "number": numbers})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for an empty calendar."""
        table = parts["calendar"]
        self.add(*(as_array(column).to_numpy() for column in table.columns))
