"""One view following its log in epochs, exactly once.

An epoch reads a delta from where the last one ended, steps the circuit, and appends one frame to the view's output
log: the output's change *and* the input position, in one durable write. That write is the commit; there is no
other. Law: output and position move together or not at all, so a crash at any moment costs time, never truth.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.engine.circuit import Circuit
from bourne.engine.delta import Delta
from bourne.engine.operators.accumulators import SumOverflow
from bourne.engine.snapshot import Snapshot, drop_older, newest_snapshot, save_snapshot
from bourne.errors import BourneError, ViewFailed
from bourne.limits import EPOCH_INPUT_BYTES_MAX, EPOCH_ROWS_MAX, EPOCH_ROWS_MIN, SNAPSHOT_ROWS
from bourne.log.catalog import LogInfo
from bourne.log.cursor import LogCursor, Piece
from bourne.log.reader import Frame, LogReader
from bourne.log.writer import LogWriter
from bourne.ports import Clock, Files

# Running a recorded epoch again takes as long as this many rows, however few it has.
_EPOCH_ROWS_WORTH = 1 << 12

# Closing saves the state only if computing it again would take noticeably long.
_CLOSING_SNAPSHOT_ROWS = 1 << 18


class ViewRunner:
    """Keeps one view up to date. Holds the lock of its output log. For one thread at a time."""

    def __init__(
        self,
        make_circuit: Callable[[], Circuit],
        *,
        folder: Path,
        output: LogInfo,
        input_folder: Path,
        input_info: LogInfo,
        files: Files,
        clock: Clock,
        snapshot_rows: int = SNAPSHOT_ROWS,
    ) -> None:
        """Restore the state: the newest snapshot, then the recorded epochs after it again.

        Raises:
            LogLocked: another process runs this view.
            CorruptFrame, StorageError: the output or the input cannot be read.
            ViewFailed: the recorded epochs do not come out the same.
        """
        self.name = output.name
        self._make_circuit = make_circuit
        self._snapshots = folder / "snapshots"
        self._output = output
        self._input = input_info
        self._files = files
        self._clock = clock
        self._snapshot_rows = snapshot_rows
        self._working = threading.Lock()
        self._failure: BourneError | None = None
        self._epoch_rows = EPOCH_ROWS_MIN
        self._rows_since_snapshot = 0
        self._epoch = -1
        self._positions: tuple[int, ...] = ()
        self._watermark: int | None = None
        self.circuit = make_circuit()
        self._writer = LogWriter(
            folder, output, files=files, clock=clock, what=f"view {output.name!r} is run by another process"
        )
        try:
            self._reader = LogCursor(input_folder, input_info, files=files, is_durable=True)
            self._positions = self._reader.positions  # the first records that are kept
            recorded = LogReader(folder, output)
            try:
                self._restore(recorded)
            finally:
                recorded.close()
        except BaseException:
            self._writer.close()
            raise

    # --- where it stands ---

    @property
    def positions(self) -> tuple[int, ...]:
        """The input offset of each partition up to which (exclusive) the output is committed."""
        return self._positions

    def ends(self) -> tuple[int, ...]:
        """Return the end of each partition of the input, as of now."""
        return self._reader.end_offsets()

    def lag(self) -> int:
        """Return how many records of the input are not reflected yet."""
        return sum(self.ends()) - sum(self._positions)

    # --- going on ---

    def step(self, *, until: Sequence[int] | None = None) -> int:
        """Run one epoch over what is there (up to the offsets `until`); its output is durable when this returns.

        Returns: how many input records it took in; 0 when there were none.

        Raises:
            ViewFailed: a record cannot be computed. Nothing of the epoch is kept; the view stands still.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        with self._working:
            return self._step(until)

    def release(self) -> None:
        """Let go of the input records that only a recovery would need: save the state. O(state).

        Safe beside `step`.
        """
        with self._working:
            if self._failure is None and self.circuit.has_state:
                if self._rows_since_snapshot:
                    self.snapshot()
                else:
                    drop_older(self._snapshots)

    def _step(self, until: Sequence[int] | None) -> int:
        if self._failure is not None:
            raise self._failure
        pieces = self._reader.read(until=until, rows_max=self._epoch_rows, bytes_max=EPOCH_INPUT_BYTES_MAX)
        rows = sum(self._reader.positions) - sum(self._positions)
        if rows == 0:
            self._epoch_rows = EPOCH_ROWS_MIN
            return 0
        table = _table(pieces)
        try:
            delta = self._compute(table, pieces)
            self._advance(table)
            self._commit(delta, self._reader.positions)
        except BourneError as error:
            # The circuit may have taken in what was not committed: it has to be restored before it goes on.
            self._failure = error
            raise
        if 2 * rows > self._epoch_rows:
            self._epoch_rows = min(2 * self._epoch_rows, EPOCH_ROWS_MAX)
        self._rows_since_snapshot += max(rows, _EPOCH_ROWS_WORTH)
        if self._rows_since_snapshot >= max(self._snapshot_rows, 2 * self.circuit.state_rows()):
            self.snapshot()
        return rows

    def _compute(self, table: pa.Table, pieces: Sequence[Piece]) -> Delta:
        try:
            return self.circuit.step(table)
        except (duckdb.Error, SumOverflow) as error:
            raise ViewFailed(
                f"view {self.name!r} cannot compute a record: {str(error).splitlines()[0]}",
                where=f"log {self._input.name!r}, {self._locate(table, pieces)}",
                hint="make the view's SQL accept that record (TRY_CAST, CASE, WHERE), then run it again: "
                "the log and what the view had committed are intact",
            ) from error

    def _locate(self, table: pa.Table, pieces: Sequence[Piece]) -> str:
        """Say where the first record is that cannot be computed even alone, else the whole range. O(rows)."""
        places = [(piece.partition, offset) for piece in pieces for offset in piece.frame.offsets().tolist()]
        start, end = 0, table.num_rows
        while end - start > 1:
            middle = (start + end) // 2
            if self._fails_alone(table.slice(start, middle - start)):
                end = middle
            elif self._fails_alone(table.slice(middle, end - middle)):
                start = middle
            else:
                start, end = 0, table.num_rows
                break
        first, last = places[start], places[end - 1]
        partition = f"partition {first[0]}, " if self._input.partitions > 1 else ""
        until = f"partition {last[0]}, offset {last[1]}" if self._input.partitions > 1 else f"{last[1]}"
        return f"{partition}offset {first[1]}" + ("" if first == last else f" to {until}")

    def _fails_alone(self, table: pa.Table) -> bool:
        try:
            self._make_circuit().step(table)
        except (duckdb.Error, SumOverflow):
            return True
        return False

    def _advance(self, table: pa.Table) -> None:
        """Move the watermark: the latest event time seen, less the lateness that was declared."""
        if self._input.time is not None:
            instant = pc.max(table.column(self._input.time)).cast(pa.timestamp("us"), safe=False)
            latest = instant.cast(pa.int64()).as_py()
            if latest is not None:
                reached = latest - self._input.watermark_us
                self._watermark = reached if self._watermark is None else max(self._watermark, reached)

    def _commit(self, delta: Delta, positions: tuple[int, ...]) -> None:
        meta = {
            "epoch": self._epoch + 1,
            "positions": {self._input.name: list(positions)},
            "watermark": self._watermark,
            "clock": self._clock.now_us(),
            "has_state": self.circuit.has_state,
            "state_rows": self.circuit.state_rows(),
            "state_bytes": self.circuit.state_bytes(),
        }
        self._writer.append(_output_table(delta, self._output), meta)
        self._epoch += 1
        self._positions = positions

    # --- saving and restoring ---

    def snapshot(self) -> None:
        """Save the state, so that a restart need not compute it again. O(state)."""
        if not self.circuit.has_state:
            return
        state = Snapshot(
            self._epoch,
            self._writer.next_offset,
            {self._input.name: list(self._positions)},
            self.circuit.save(),
        )
        save_snapshot(self._snapshots, state, self._files)
        self._rows_since_snapshot = 0

    def _restore(self, output: LogReader) -> None:
        """Bring the circuit to the state that the last committed epoch left."""
        last = output.last_frame()
        if last is None:
            delta = self.circuit.initial()
            if delta is not None:
                self._commit(delta, self._positions)
            return
        positions, ends = last.meta["positions"][self._input.name], self._reader.end_offsets()
        if any(at > end for at, end in zip(positions, ends, strict=True)):
            raise ViewFailed(
                f"view {self.name!r} reflects records that its log does not have",
                where=f"log {self._input.name!r}",
                expected=f"at least {_shown(positions)} records",
                found=f"{_shown(ends)} records",
                hint="restore the log; or, if it was started anew, delete the view's folder",
            )
        if self.circuit.has_state:
            self._replay(output, last)
        self._take_over(last)
        if self._reader.positions != self._positions:
            self._reader.seek(self._positions)

    def _replay(self, output: LogReader, last: Frame) -> None:
        """Load the newest snapshot and run the epochs after it again, as they were recorded."""
        snapshot = newest_snapshot(self._snapshots, epoch_max=last.meta["epoch"])
        if snapshot is None:
            self.circuit.initial()
            output.seek(output.first_offset)
        else:
            self.circuit.load(snapshot.parts)
            self._epoch = snapshot.epoch
            self._positions = tuple(snapshot.positions[self._input.name])
            output.seek(snapshot.output_offset)
            firsts = self._reader.first_offsets()
            if any(at < first for at, first in zip(self._positions, firsts, strict=True)):
                raise ViewFailed(
                    f"view {self.name!r} cannot be restored: its newest snapshots are damaged, and its log does not "
                    "keep the records after an older one",
                    where=str(self._snapshots),
                    expected=f"records from {_shown(self._positions)}",
                    found=f"records from {_shown(firsts)}",
                    hint="restore the snapshots from a copy, or delete the view's folder: the view is then computed "
                    "from what the log still keeps",
                )
            self._reader.seek(self._positions)
        while recorded := output.read(bytes_max=64 << 20):
            for frame in recorded:
                if frame.meta["epoch"] > self._epoch:
                    self._repeat(frame)
                    self._take_over(frame)
        if self._epoch != last.meta["epoch"]:
            raise self._not_repeated(
                last.meta["epoch"], f"epoch {last.meta['epoch']}", f"epoch {self._epoch}"
            )

    def _repeat(self, frame: Frame) -> None:
        """Run one recorded epoch again; its output must be what was committed."""
        positions = tuple(frame.meta["positions"][self._input.name])
        rows = sum(positions) - sum(self._positions)
        if rows == 0:
            return
        pieces: list[Piece] = []
        while self._reader.positions != positions and (more := self._reader.read(until=positions)):
            pieces += more
        again = self._compute(_table(pieces), pieces)
        if self._reader.positions != positions or again.rows != frame.batch.num_rows:
            raise self._not_repeated(
                frame.meta["epoch"],
                f"{frame.batch.num_rows} changes up to offset {_shown(positions)}",
                f"{again.rows} changes up to offset {_shown(self._reader.positions)}",
            )
        self._rows_since_snapshot += max(rows, _EPOCH_ROWS_WORTH)

    def _not_repeated(self, epoch: int, expected: str, found: str) -> ViewFailed:
        return ViewFailed(
            f"view {self.name!r} does not repeat its recorded epoch {epoch}",
            expected=expected,
            found=found,
            hint="delete the view's folder to compute it anew from its log, and report this",
        )

    def _take_over(self, frame: Frame) -> None:
        self._epoch = frame.meta["epoch"]
        self._positions = tuple(frame.meta["positions"][self._input.name])
        self._watermark = frame.meta["watermark"]

    def close(self) -> None:
        """Save the state if that pays, and give the lock back. Safe to call twice."""
        with self._working:
            if self._failure is None and self._rows_since_snapshot >= _CLOSING_SNAPSHOT_ROWS:
                self.snapshot()
        self._rows_since_snapshot = 0
        self._reader.close()
        self._writer.close()


def _table(pieces: Sequence[Piece]) -> pa.Table:
    return pa.Table.from_batches([piece.frame.batch for piece in pieces])


def _shown(positions: Sequence[int]) -> str:
    return ", ".join(str(position) for position in positions)


def _output_table(delta: Delta, output: LogInfo) -> pa.Table:
    """Return the delta in the form of the output log."""
    schema = output.schema.to_arrow()
    columns: list[Any] = list(delta.table.columns)
    if output.changes == "upsert":
        weights = np.ones(delta.rows, np.int8) if delta.weights is None else delta.weights
        columns = [pa.array(delta.keys), pa.array(weights), *columns]
    return pa.Table.from_arrays(columns, schema=schema)
