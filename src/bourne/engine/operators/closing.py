"""Which groups of an operator are closed, so that it may forget them.

Law: a group is closed when the bound of one of its times has passed it: then no row of it comes, or changes, any more
(`engine.bounds`). It comes out of `due` once. What the operator remembers of closed groups is dropped when they are more
than the others: so a group costs constant time, and the memory is about that of the groups that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.calendar import Calendar
from bourne.engine.moment import ALWAYS, Bound, Moment
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Longs = NDArray[np.int64]


def instants(values: pa.Array) -> Longs:
    """Return dates and times as microseconds; NULL is after all others, but comes before the end."""
    spelled = pa.timestamp("us", getattr(values.type, "tz", None))
    found = values.cast(spelled, safe=False).cast(pa.int64())
    return np.asarray(found.fill_null(ALWAYS - 1).to_numpy(zero_copy_only=False))


class Closing:
    """The groups that are open. `columns` says of each time: which key column it is, and which bound it has."""

    def __init__(self, columns: Sequence[tuple[int, int]]) -> None:
        self._columns = tuple(columns)
        self._calendars = [Calendar() for _ in columns]
        self._is_closed = np.zeros(1024, np.bool_)
        self._count = 0
        self.closed = 0  # how many groups are closed, but still numbered

    def add(self, keys: Sequence[pa.Array], first: int) -> None:
        """Take in new groups, numbered from `first` on, by their key columns."""
        count = len(keys[0])
        self._count = first + count
        self._is_closed = grown(self._is_closed, self._count)
        for (column, _), calendar in zip(self._columns, self._calendars, strict=True):
            calendar.add(instants(as_array(keys[column])), np.arange(first, first + count))

    def check(self, groups: Longs) -> None:
        """Make sure that what comes is of open groups."""
        known = groups[groups < self._count]
        if self.closed and self._is_closed[known].any():
            raise EngineFault("a row came for a closed group")

    def due(self, moment: Moment, until: Callable[[Bound], int] = lambda bound: bound.closed) -> Longs:
        """Return the groups that are closed now and were not before, ascending."""
        found = [
            calendar.due(until(moment.bounds[bound]))
            for (_, bound), calendar in zip(self._columns, self._calendars, strict=True)
        ]
        numbers = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
        numbers = np.sort(numbers[~self._is_closed[numbers]])
        self._is_closed[numbers] = True
        self.closed += len(numbers)
        return numbers

    def to_keep(self, rows: int = 0, closed_rows: int = 0) -> Longs | None:
        """Return the open groups, if it is time to drop the others and number these anew, in this order; else None.

        It is when most groups are closed, or most of the `rows` that are kept are of closed ones.
        """
        if not pays(self.closed, self._count - self.closed) and not pays(closed_rows, rows - closed_rows):
            return None
        kept = np.flatnonzero(~self._is_closed[: self._count])
        renumbered = np.full(self._count, -1, np.int64)
        renumbered[kept] = np.arange(len(kept))
        for calendar in self._calendars:
            calendar.renumber(renumbered)
        self._count, self.closed = len(kept), 0
        self._is_closed = np.zeros(max(1024, self._count), np.bool_)
        return kept

    def closed_groups(self) -> Longs:
        """Return the groups that are closed, but still numbered."""
        return np.flatnonzero(self._is_closed[: self._count])

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._is_closed.nbytes + sum(calendar.nbytes() for calendar in self._calendars)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = {"closed": pa.table({"closed": self._is_closed[: self._count]})}
        for i, calendar in enumerate(self._calendars):
            parts |= with_prefix(calendar.save(), f"time{i}")
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        closed = parts["closed"].column(0).to_numpy(zero_copy_only=False)
        self._count, self.closed = len(closed), int(closed.sum())
        self._is_closed = grown(np.array(closed, np.bool_), max(1024, self._count))
        for i, calendar in enumerate(self._calendars):
            calendar.load(part_of(parts, f"time{i}"))
