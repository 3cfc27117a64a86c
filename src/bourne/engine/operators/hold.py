"""Changes that are held back until their rows are complete.

Law: the output is the sum of the input's changes for rows whose time is complete, each row's all at once, and of those that
come after that; with `early_us`, also of all others, that often by the epochs' clock.
Cost of a step: O(rows in the delta), and O(rows that come out).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.calendar import Calendar
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import Moment
from bourne.engine.operators.closing import instants
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import EngineFault, part_of, with_prefix

Numbers = NDArray[np.int64]

_NONE: Numbers = np.zeros(0, np.int64)


class Hold:
    """Keeps the changes of rows that are not complete: none of whose times is before its bound."""

    is_stateful = True

    def __init__(
        self,
        types: Sequence[pa.DataType],
        *,
        times: Sequence[tuple[int, int]],
        early_us: int | None,
        is_growing: bool,
    ) -> None:
        """`times` are (column, number of its bound).

        `is_growing` says that nothing changes after it is complete, and nothing comes out before.
        """
        self._bounds = tuple(times)
        self._early_us = early_us
        self._is_growing = is_growing
        self._times = KeyTable([pa.int64()] * len(times))
        self._held = RowChains(list(types), is_append_only=False)
        self._calendars = [Calendar() for _ in times]
        self._is_waiting = np.zeros(1024, np.bool_)
        self._slot = -1  # the early interval that the last step was in

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Take in changes; return those that come out."""
        assert moment is not None
        early = self._early(moment.clock_us)
        if delta.rows:
            self._take_in(delta)
        due = self._due(moment)
        self._is_waiting[due] = False
        return self._let_out(np.union1d(due, early))

    def _early(self, clock_us: int) -> Numbers:
        """Return the times of what has waited for the interval that begins now."""
        if self._early_us is None:
            return _NONE
        before, self._slot = self._slot, clock_us // self._early_us
        return np.arange(len(self._times)) if before not in (-1, self._slot) else _NONE

    def _due(self, moment: Moment) -> Numbers:
        """Return the times that are complete and that changes wait for."""
        found = [
            calendar.due(moment.bounds[bound].complete)
            for (_, bound), calendar in zip(self._bounds, self._calendars, strict=True)
        ]
        numbers = np.unique(np.concatenate(found))
        return numbers[self._is_waiting[numbers]]

    def _take_in(self, delta: Delta) -> None:
        columns = [as_array(column) for column in delta.table.columns]
        times = [instants(columns[column]) for column, _ in self._bounds]
        numbers = self._times.assign([pa.array(each) for each in times], delta.rows)
        self._held.update(numbers, columns, delta.signed())
        self._is_waiting = grown(self._is_waiting, len(self._times))
        touched, first = np.unique(numbers, return_index=True)
        is_new = ~self._is_waiting[touched]
        for each, calendar in zip(times, self._calendars, strict=True):
            calendar.add(each[first[is_new]], touched[is_new])
        self._is_waiting[touched] = True

    def _let_out(self, due: Numbers) -> Delta:
        rows, groups = self._held.rows_of(due)
        columns, weights = self._held.take(rows), self._held.weights(rows)
        self._held.update(groups, columns, -weights)
        self._forget()
        if not self._is_growing:
            return Delta(table_of(columns), weights)
        if (weights < 0).any():
            raise EngineFault("a row is taken back that was complete")
        index = pa.array(np.repeat(np.arange(len(weights)), weights))
        return Delta(table_of([column.take(index) for column in columns]))

    def _forget(self) -> None:
        """Forget times that nothing waits for, once they are many."""
        count = len(self._times)
        waiting = np.flatnonzero(self._is_waiting[:count])
        if not pays(count - len(waiting), len(waiting)):
            return
        renumbered = np.full(count, -1, np.int64)
        renumbered[waiting] = np.arange(len(waiting))
        for calendar in self._calendars:
            calendar.renumber(renumbered)
        self._times.keep(waiting)
        self._held.keep_groups(waiting)
        self._is_waiting = np.zeros(max(1024, len(waiting)), np.bool_)
        self._is_waiting[: len(waiting)] = True

    def due_us(self) -> int | None:
        """Return the clock at which something comes out though nothing comes in."""
        if self._early_us is None or self._slot < 0 or not len(self._held):
            return None
        return (self._slot + 1) * self._early_us

    # --- state ---

    @property
    def rows(self) -> int:
        """How many rows it holds back."""
        return len(self._held)

    def nbytes(self) -> int:
        """Return the memory in use."""
        calendars = sum(calendar.nbytes() for calendar in self._calendars)
        return self._times.nbytes() + self._held.nbytes() + calendars

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._times.save(), "times") | with_prefix(self._held.save(), "held")
        waiting = self._is_waiting[: len(self._times)]
        return parts | {"waiting": pa.table({"waiting": waiting}), "slot": pa.table({"slot": [self._slot]})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._times.load(part_of(parts, "times"))
        self._held.load(part_of(parts, "held"))
        waiting = np.array(parts["waiting"].column(0).to_numpy(zero_copy_only=False), np.bool_)
        self._is_waiting = grown(waiting, max(1024, len(waiting)))
        numbers = np.flatnonzero(waiting)
        for each, calendar in zip(self._times.columns(numbers), self._calendars, strict=True):
            calendar.add(each.to_numpy(), numbers)
        self._slot = parts["slot"].column(0)[0].as_py()
