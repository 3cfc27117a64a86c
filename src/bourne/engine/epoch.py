"""What an epoch computes: from what was read of the inputs, the change of the output.

Law: what comes out depends on what was read and the moment alone; so a recorded epoch, run again, is the same. Durable is
nothing here but what goes into the side logs: records that the view goes on without are named there before the epoch is
committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.engine.circuit import Circuit, Results
from bourne.engine.delta import Delta, KeyedDelta, consolidated
from bourne.engine.moment import Moment
from bourne.engine.operators.late import RECORD, WATERMARK
from bourne.engine.skipping import (
    FAILURES,
    Places,
    Ranges,
    SideLogs,
    failing_rows,
    places,
    ranges_of,
    rows_in,
    without,
)
from bourne.engine.timeline import AtEnd, Timeline
from bourne.engine.watermark import NoPunctuation
from bourne.errors import ViewFailed
from bourne.log.catalog import LogInfo
from bourne.log.cursor import Piece
from bourne.log.relation import SignedRows, column_of, signed_rows
from bourne.sql.unstable import ARRIVAL
from bourne.udf import first_alone, reason

# What was read of each input.
Read = Mapping[str, Sequence[Piece]]

# Of each input, the rows of what was read that a view goes on without; and why.
Skipped = Mapping[str, Collection[int]]
Failures = Mapping[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Computed:
    """An epoch that is to be committed: the output's change, the number of records read, and which it goes without."""

    delta: Delta | KeyedDelta
    records: int
    skipped: Mapping[str, Ranges]


class Epochs:
    """A view's circuit and its time, which go on by an epoch at a time."""

    def __init__(
        self,
        make_circuit: Callable[[], Circuit],
        *,
        output: LogInfo,
        inputs: Mapping[str, LogInfo],
        side_logs: SideLogs,
    ) -> None:
        """Begin before the first one."""
        self.circuit = make_circuit()
        self.timeline = Timeline(inputs, self.circuit)
        self._make_circuit = make_circuit
        self._output = output
        self._inputs = inputs
        self._side_logs = side_logs

    def initial(self) -> Delta | KeyedDelta:
        """Return what the output is before any record.

        Raises:
            FAILURES: it cannot be computed.
        """
        return self._without_repeats(self.circuit.initial())

    def run(self, pieces: Read, clock_us: int, at_end: AtEnd, *, is_end: bool) -> Computed:
        """Compute the next epoch. What it goes without is in the side logs, durably, when this returns.

        Raises:
            ViewFailed: a record cannot be computed.
        """
        tables, absurd = self._take_in(
            {name: _table(found) for name, found in pieces.items()}, pieces, clock_us
        )
        moment = self.timeline.advance(clock_us, at_end, is_end=is_end)
        skipped, known = self._before_state(tables, pieces, absurd, moment)
        delta = self._compute(tables, pieces, skipped, moment, known)
        self._report_late(tables, pieces)
        return Computed(
            delta, _records(tables), {name: ranges_of(pieces[name], rows) for name, rows in skipped.items()}
        )

    def repeat(self, pieces: Read, meta: Mapping[str, Any]) -> Computed:
        """Compute a recorded epoch again, from what it had read and what its frame says of time and of skipped records.

        Raises:
            ViewFailed: a record cannot be computed.
        """
        ranges = meta.get("skipped", {})
        skipped = {name: rows_in(found, ranges[name]) for name, found in pieces.items() if name in ranges}
        tables, _ = self._take_in(
            {name: _table(found) for name, found in pieces.items()}, pieces, meta["clock"]
        )
        delta = self._compute(tables, pieces, skipped, self.timeline.repeat(meta))
        return Computed(delta, _records(tables), ranges)

    def _take_in(
        self, tables: Mapping[str, pa.Table], pieces: Read, clock_us: int
    ) -> tuple[dict[str, pa.Table], Failures]:
        """Return what was read with what is to be known of its time, and the rows whose time is none."""
        try:
            behind = self.timeline.take_in(tables, pieces, clock_us)
        except NoPunctuation as error:
            name, row = error.info.name, error.row
            first, end = (0, len(tables[name])) if row is None else (row, row + 1)
            raise ViewFailed(
                f"view {self._output.name!r} cannot go on: {error}", where=self._place(name, places(pieces[name]), first, end),
                found=error.info.punctuation,
                hint="make it accept every record (TRY_CAST, CASE), and open the app again: nothing is lost",
            ) from error  # fmt: skip
        self.timeline.begin(clock_us)
        given = {
            name: self.timeline.with_hidden(name, table, behind.get(name), clock_us)
            for name, table in tables.items()
        }
        absurd = {
            name: {
                row: _absurd(self._inputs[name]) for row in np.flatnonzero(behind[name].is_absurd).tolist()
            }
            for name in behind
        }
        return given, {name: rows for name, rows in absurd.items() if rows}

    def _before_state(
        self, tables: Mapping[str, pa.Table], pieces: Read, absurd: Failures, moment: Moment
    ) -> tuple[Skipped, Results | None]:
        """Return which rows the view goes on without, now reported; if none, what was computed to find that out."""
        found, known = dict(absurd), None
        if self._side_logs.takes_failures:
            rest = {name: without(table, absurd.get(name, ())) for name, table in tables.items()}
            try:
                known = self.circuit.before_state(self._changes(rest), moment)
            except FAILURES:
                for name, rows in self._changes(tables).items():
                    failed = failing_rows(self.circuit, name, rows)
                    found[name] = failed | found.get(name, {})
        skipped = {name: failed for name, failed in found.items() if failed}
        for name, failed in skipped.items():
            assert self._side_logs.errors is not None
            self._side_logs.errors.report(self._inputs[name], tables[name], pieces[name], failed)
        return skipped, known

    def _report_late(self, tables: Mapping[str, pa.Table], pieces: Read) -> None:
        """Put the records that came too late, in the step just made, into their log."""
        for name, records in self.circuit.late().items():
            assert self._side_logs.late is not None
            info = self._inputs[name]
            reasons = {row: _late(info, tables[name], row, count) for row, count in records.items()}
            self._side_logs.late.report(info, tables[name], pieces[name], reasons)

    def _compute(
        self, tables: Mapping[str, pa.Table], pieces: Read, skipped: Skipped, moment: Moment,
        known: Results | None = None,
    ) -> Delta | KeyedDelta:  # fmt: skip
        rest = {name: without(table, skipped.get(name, ())) for name, table in tables.items()}
        try:
            delta = self.circuit.step(self._changes(rest), moment, known)
        except FAILURES as error:
            raise ViewFailed(
                f"view {self._output.name!r} cannot compute a record: {reason(error)}",
                where=self._locate(
                    rest, {name: places(pieces[name], skipped.get(name, ())) for name in rest}
                ),
                hint="make the view's SQL accept that record (TRY_CAST, CASE, WHERE), then run it again: "
                "the log and what the view had committed are intact",
            ) from error
        return self._without_repeats(delta)

    def _without_repeats(self, delta: Delta | KeyedDelta) -> Delta | KeyedDelta:
        """Return the change as it is to be committed."""
        if isinstance(delta, KeyedDelta) or self._output.changes == "append":
            return delta
        return consolidated(delta)

    def _changes(self, tables: Mapping[str, pa.Table]) -> dict[str, SignedRows]:
        return {name: self._signed(name, table) for name, table in tables.items()}

    def _signed(self, name: str, table: pa.Table) -> SignedRows:
        rows = signed_rows(self._inputs[name], table)
        given = rows.table
        for hidden in (ARRIVAL, WATERMARK, RECORD):
            if hidden in table.column_names:
                given = given.append_column(hidden, table.column(hidden))
        return SignedRows(given, rows.weights, rows.keys)

    # --- which record it is that cannot be computed ---

    def _locate(self, tables: Mapping[str, pa.Table], at: Mapping[str, Places]) -> str:
        """Say where the first record is that cannot be computed even alone, else the whole ranges. O(rows)."""
        for name, table in tables.items():
            if self._fails_alone(name, table):
                row = first_alone(partial(self._fails_slice, name, table), len(table))
                return self._place(name, at[name], *((0, len(table)) if row is None else (row, row + 1)))
        return "; ".join(
            self._place(name, at[name], 0, len(table)) for name, table in tables.items() if len(table)
        )

    def _place(self, name: str, at: Places, start: int, end: int) -> str:
        """Name the offsets of rows `start` to `end` of what was read of an input."""
        first, last = ((int(at.partitions[row]), int(at.offsets[row])) for row in (start, end - 1))
        has_partitions = self._inputs[name].partitions > 1
        partition = f"partition {first[0]}, " if has_partitions else ""
        until = f"partition {last[0]}, offset {last[1]}" if has_partitions else f"{last[1]}"
        return f"log {name!r}, {partition}offset {first[1]}" + ("" if first == last else f" to {until}")

    def _fails_alone(self, name: str, table: pa.Table) -> bool:
        try:
            circuit = self._make_circuit()
            circuit.initial()
            circuit.step(self._changes({name: table}))
        except FAILURES:
            return True
        return False

    def _fails_slice(self, name: str, table: pa.Table, start: int, count: int) -> bool:
        return self._fails_alone(name, table.slice(start, count))


def _absurd(info: LogInfo) -> str:
    return f"its time, {info.time}, is none: NULL, or not from the year 1000 to 2899"


def _late(info: LogInfo, table: pa.Table, row: int, count: int) -> str:
    """Say how late a record is."""
    assert info.time is not None
    time, watermark = (column_of(info, table, name)[row].cast(pa.string()) for name in (info.time, WATERMARK))
    if not watermark.is_valid:
        return f"late: its time is {time}, and the view's inputs have ended or gone on without it"
    several = "" if count == 1 else f" for {count} of its windows" if count else " for some of its windows"
    return f"late{several}: its time is {time}, the watermark was at {watermark}"


def _table(pieces: Sequence[Piece]) -> pa.Table:
    return pa.Table.from_batches([piece.frame.batch for piece in pieces])


def _records(tables: Mapping[str, pa.Table]) -> int:
    return sum(table.num_rows for table in tables.values())
