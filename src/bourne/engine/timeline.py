"""The time of a view: its inputs' watermarks, the bounds that follow from them, and the epochs' clock.

Invariant: nothing here goes back, whatever clocks do. All of it is in the frame of each epoch, so that recovery goes on
from exactly there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.engine.bounds import CLOCK, TIME
from bourne.engine.circuit import Circuit
from bourne.engine.kernels.arrays import as_array
from bourne.engine.moment import ALWAYS, NEVER, Bound, Moment
from bourne.engine.operators.late import RECORD, WATERMARK
from bourne.engine.watermark import Behind, InputWatermark, is_timed, least
from bourne.log.catalog import LogInfo
from bourne.log.cursor import Piece
from bourne.sql.unstable import ARRIVAL

# How often it is looked whether the clock has closed a window.
_LOOK_US = 100_000

# Of each input, whether all of each partition was read.
AtEnd = Mapping[str, Sequence[bool]]


class Timeline:
    """Where a view stands in time. `moment` is that of the last epoch."""

    def __init__(self, inputs: Mapping[str, LogInfo], circuit: Circuit) -> None:
        self._inputs = {name: InputWatermark(info) for name, info in inputs.items() if is_timed(info)}
        self._lateness_us = circuit.emit.lateness_us or 0
        self._late_relations = circuit.late_relations
        self._arrival_relations = circuit.arrival_relations
        self._texts = circuit.bounds
        self._has_clock = any(CLOCK in text for text in circuit.bounds)
        self._is_by_clock = circuit.is_by_clock
        self._database = circuit.database
        names = ", ".join(f"epoch_us(CAST({text} AS TIMESTAMP))" for text in circuit.bounds)
        times = f"make_timestamp(unnest([$1, $2]::BIGINT[])) AS {TIME}, make_timestamp($3::BIGINT) AS {CLOCK}"
        self._sql = f"SELECT {names} FROM (SELECT {times})" if names else ""
        self.moment = Moment(bounds=(Bound(),) * len(circuit.bounds))

    @property
    def has_idle(self) -> bool:
        """Whether time may go on because nothing comes."""
        return any(each.info.idle_us is not None for each in self._inputs.values())

    @property
    def views(self) -> list[str]:
        """The inputs that are views, whose frames say how far they are."""
        return [name for name, each in self._inputs.items() if each.info.time is None]

    def clock(self, now_us: int) -> int:
        """Return the clock of an epoch that is run now."""
        return max(now_us, self.moment.clock_us)

    def take_in(
        self, tables: Mapping[str, pa.Table], pieces: Mapping[str, Sequence[Piece]], clock_us: int
    ) -> dict[str, Behind]:
        """Take in records that were read; return what is to be known of those that may come too late."""
        found = {}
        for name, each in self._inputs.items():
            if name not in tables:
                continue
            if name not in self._late_relations:
                each.pass_over(tables[name], pieces[name], clock_us)
            elif (behind := each.take_in(tables[name], pieces[name], clock_us)) is not None:
                found[name] = behind
        return found

    def advance_view(self, name: str, watermark_us: int | None) -> None:
        """Take over how far a view is that is an input."""
        self._inputs[name].advance_to(watermark_us)

    def with_hidden(self, name: str, table: pa.Table, behind: Behind | None, clock_us: int) -> pa.Table:
        """Return a log's records with the columns that say when they arrive, and which are behind their watermark."""
        if name in self._arrival_relations:
            at = pa.array(np.full(table.num_rows, clock_us)).cast(pa.timestamp("us"))
            table = table.append_column(ARRIVAL, at)
        if behind is None:
            return table
        reached = behind.watermarks
        if self.moment.watermark_us is not None:
            reached = np.maximum(reached, self.moment.watermark_us)
        is_known = (reached != NEVER) & ~behind.is_absurd
        is_behind = is_known & (behind.times < reached - np.where(is_known, self._lateness_us, 0))
        marks = pa.array(reached, mask=~is_behind).cast(pa.timestamp("us"))
        records = pa.array(np.arange(table.num_rows))
        return table.append_column(WATERMARK, marks).append_column(RECORD, records)

    def begin(self, clock_us: int) -> None:
        """Let idle times begin, of what nothing was read of yet."""
        for each in self._inputs.values():
            each.begin(clock_us)

    def is_due(self, clock_us: int, at_end: AtEnd) -> bool:
        """Say whether time has gone on though nothing came."""
        watermark = self._watermark(clock_us, at_end)
        if watermark != self.moment.watermark_us:
            return True
        return self._has_clock and any(
            new.closed != old.closed
            for new, old in zip(
                self._bounds(watermark, clock_us, is_end=False), self.moment.bounds, strict=True
            )
        )

    def due_us(self) -> int | None:
        """Return the clock when an input may become idle."""
        found = [each.idle_at(self.moment.clock_us) for each in self._inputs.values()]
        if self._has_clock:
            found.append(self.moment.clock_us + _LOOK_US)
        return min((at for at in found if at is not None), default=None)

    def advance(self, clock_us: int, at_end: AtEnd, *, is_end: bool) -> Moment:
        """Go on to an epoch at this clock, what it read being taken in; return its moment."""
        watermark = self._watermark(clock_us, at_end)
        is_end = is_end or self.moment.is_end
        bounds = self._bounds(watermark, clock_us, is_end=is_end)
        return self._go_to(Moment(clock_us, watermark, bounds, is_end))

    def repeat(self, meta: Mapping[str, Any]) -> Moment:
        """Go on to a recorded epoch; return its moment."""
        known = [Bound(complete, closed) for complete, closed in meta["bounds"]]
        before = self.moment.bounds
        bounds = tuple(
            Bound(new.complete, new.closed, old.closed) for new, old in zip(known, before, strict=True)
        )
        return self._go_to(Moment(meta["clock"], meta["watermark"], bounds, meta.get("end", False)))

    def _go_to(self, moment: Moment) -> Moment:
        self.moment = moment
        return moment

    def _watermark(self, clock_us: int, at_end: AtEnd) -> int | None:
        values = {
            name: each.value(clock_us, at_end.get(name, (False,) * each.info.partitions))
            for name, each in self._inputs.items()
        }
        found, known = least(values), self.moment.watermark_us
        return found if known is None or (found is not None and found > known) else known

    def _bounds(self, watermark_us: int | None, clock_us: int, *, is_end: bool) -> tuple[Bound, ...]:
        old = self.moment.bounds
        if is_end:
            return tuple(Bound(ALWAYS, ALWAYS, each.closed) for each in old)
        is_same = watermark_us is None or watermark_us == self.moment.watermark_us
        if not old or (is_same and not self._has_clock):
            return tuple(Bound(each.complete, each.closed, each.closed) for each in old)
        assert self._database is not None
        cursor = self._database.cursor()
        late_us = None if watermark_us is None else watermark_us - self._lateness_us
        given = [watermark_us, late_us, clock_us]
        table = cursor.sql(self._sql, params=given).to_arrow_table()
        cursor.close()
        found = [as_array(column).to_pylist() for column in table.columns]
        return tuple(
            Bound(each.complete, each.closed, each.closed)
            if complete is None or closed is None or (watermark_us is None and TIME in text)
            else Bound(max(each.complete, complete), max(each.closed, closed), each.closed)
            for each, text, (complete, closed) in zip(old, self._texts, found, strict=True)
        )

    # --- kept with each epoch ---

    def to_meta(self) -> dict[str, Any]:
        """Return what a frame keeps of it."""
        return {
            "watermark": self.moment.watermark_us,
            "watermarks": {name: each.to_meta() for name, each in self._inputs.items()},
            "clock": self.moment.clock_us,
            **({"reached": self.moment.clock_us} if self._is_by_clock else {}),
            "bounds": [[bound.complete, bound.closed] for bound in self.moment.bounds],
            **({"end": True} if self.moment.is_end else {}),
        }

    def load(self, meta: Mapping[str, Any]) -> None:
        """Become what `to_meta` returned."""
        for name, each in self._inputs.items():
            if name in meta["watermarks"]:
                each.load(meta["watermarks"][name])
        bounds = tuple(Bound(complete, closed, closed) for complete, closed in meta["bounds"])
        self.moment = Moment(meta["clock"], meta["watermark"], bounds, meta.get("end", False))
