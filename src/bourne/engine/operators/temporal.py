"""Rows that are there for a time only, by the epochs' clock: `at > now() - INTERVAL '1 hour'`.

Law: at clock c the output is the input's rows whose first instant is not after c, and whose end is after it; both are known
from the row. So time alone adds rows and takes them back, and what has ended is forgotten.
Cost of a step: O(rows in the delta), and O(rows whose time has come).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.calendar import Calendar
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import ALWAYS, NEVER, Moment
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import part_of, with_prefix

Numbers = NDArray[np.int64]

_DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """A condition: the time in a column, `comparison`, the clock (cut to days, if `is_date`) and so many microseconds."""

    column: int
    comparison: str
    offset_us: int
    is_date: bool

    def span(self, times: Numbers) -> tuple[Numbers, Numbers]:
        """Return from when on, and until when, it is true."""
        at = times - self.offset_us
        never, always = np.full(len(at), NEVER), np.full(len(at), ALWAYS)
        floor, ceiling = at // _DAY_US * _DAY_US, -(-at // _DAY_US) * _DAY_US
        match self.comparison:
            case ">":
                return never, ceiling if self.is_date else at
            case ">=":
                return never, floor + _DAY_US if self.is_date else at + 1
            case "<":
                return floor + _DAY_US if self.is_date else at + 1, always
            case _:
                return ceiling if self.is_date else at, always


class Temporal:
    """Keeps the rows whose time has not ended. The columns of the turns are the input's last ones, and not handed on."""

    is_stateful = True

    def __init__(self, types: Sequence[pa.DataType], turns: Sequence[Turn], width: int) -> None:
        """`types` are the input's; its first `width` columns come out."""
        self._turns = tuple(turns)
        self._width = width
        self._spans = KeyTable([pa.int64(), pa.int64()])
        self._rows = RowChains(list(types[:width]), is_append_only=False)
        self._starts, self._ends = Calendar(), Calendar()
        self._is_shown = np.zeros(1024, np.bool_)
        self._is_over = np.zeros(1024, np.bool_)
        self._over = 0

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Take in changes; return what becomes of the rows that are there now."""
        assert moment is not None
        clock = moment.clock_us
        taken = self._take_in(delta, clock) if delta.rows else None
        come, gone = self._starts.due(clock + 1), self._ends.due(clock + 1)
        come = come[~self._is_shown[come]]
        gone_shown = gone[self._is_shown[gone]]
        self._is_shown[come], self._is_shown[gone] = True, False
        parts = [self._all(gone_shown, -1), self._all(np.setdiff1d(come, gone), 1)]
        parts += [taken] if taken is not None else []
        self._end(gone)
        columns = [pa.concat_arrays(list(each)) for each in zip(*(part[0] for part in parts), strict=True)]
        return Delta(table_of(columns), np.concatenate([part[1] for part in parts]))

    def _take_in(self, delta: Delta, clock: int) -> tuple[list[pa.Array], Numbers]:
        """Remember rows that have not ended; return the changes of those that are there already."""
        columns = [as_array(column) for column in delta.table.columns]
        first, end = np.full(delta.rows, NEVER), np.full(delta.rows, ALWAYS)
        is_known = np.ones(delta.rows, np.bool_)
        for turn in self._turns:
            values = columns[turn.column].cast(pa.timestamp("us")).cast(pa.int64())
            is_known &= np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
            start, until = turn.span(values.fill_null(0).to_numpy(zero_copy_only=False))
            first, end = np.maximum(first, start), np.minimum(end, until)
        kept = np.flatnonzero(is_known & (end > np.maximum(first, clock)))
        index = pa.array(kept)
        own = [column.take(index) for column in columns[: self._width]]
        spans = self._numbers(first[kept], end[kept])
        weights = delta.signed()[kept]
        self._rows.update(spans, own, weights)
        is_shown = self._is_shown[spans]
        shown = pa.array(is_shown)
        return [column.filter(shown) for column in own], weights[is_shown]

    def _numbers(self, first: Numbers, end: Numbers) -> Numbers:
        """Return the number of each span, new ones noted in the calendars."""
        known = len(self._spans)
        numbers = self._spans.assign([pa.array(first), pa.array(end)], len(first))
        count = len(self._spans)
        self._is_shown, self._is_over = grown(self._is_shown, count), grown(self._is_over, count)
        fresh = np.arange(known, count)
        if len(fresh):
            starts, ends = (values.to_numpy() for values in self._spans.columns(fresh))
            self._starts.add(starts, fresh)
            self._ends.add(ends[ends < ALWAYS], fresh[ends < ALWAYS])
        return numbers

    def _all(self, spans: Numbers, sign: int) -> tuple[list[pa.Array], Numbers]:
        rows, _ = self._rows.rows_of(spans)
        return self._rows.take(rows), sign * self._rows.weights(rows)

    def _end(self, spans: Numbers) -> None:
        """Forget the rows of spans that are over; and the spans, once they are many."""
        rows, owners = self._rows.rows_of(spans)
        self._rows.update(owners, self._rows.take(rows), -self._rows.weights(rows))
        self._is_over[spans] = True
        self._over += len(spans)
        count = len(self._spans)
        if not pays(self._over, count - self._over):
            return
        kept = np.flatnonzero(~self._is_over[:count])
        renumbered = np.full(count, -1, np.int64)
        renumbered[kept] = np.arange(len(kept))
        for calendar in (self._starts, self._ends):
            calendar.renumber(renumbered)
        self._spans.keep(kept)
        self._rows.keep_groups(kept)
        self._is_shown = grown(self._is_shown[kept], 1024)
        self._is_over, self._over = np.zeros(max(1024, len(kept)), np.bool_), 0

    def due_us(self) -> int | None:
        """Return the clock at which the next row comes or goes."""
        found = [at for at in (self._starts.first(), self._ends.first()) if at is not None]
        return min(found, default=None)

    # --- state ---

    @property
    def rows(self) -> int:
        """How many rows it remembers."""
        return len(self._rows)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._spans.nbytes() + self._rows.nbytes() + self._starts.nbytes() + self._ends.nbytes()

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._spans.save(), "spans") | with_prefix(self._rows.save(), "rows")
        parts |= with_prefix(self._starts.save(), "starts") | with_prefix(self._ends.save(), "ends")
        count = len(self._spans)
        return parts | {"flags": pa.table({"shown": self._is_shown[:count], "over": self._is_over[:count]})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._spans.load(part_of(parts, "spans"))
        self._rows.load(part_of(parts, "rows"))
        self._starts.load(part_of(parts, "starts"))
        self._ends.load(part_of(parts, "ends"))
        shown, over = (np.array(each.to_numpy(), np.bool_) for each in parts["flags"].columns)
        self._is_shown, self._is_over = grown(shown, max(1024, len(shown))), grown(over, max(1024, len(over)))
        self._over = int(over.sum())
