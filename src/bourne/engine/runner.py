"""One view following its inputs in epochs, exactly once.

An epoch reads a delta of each input from where the last one ended, steps the circuit, and appends one frame to the
view's output log: the output's change *and* the input positions, in one durable write. That write is the commit; there
is no other. Law: output and positions move together or not at all, so a crash at any moment costs time, never truth.

While there is a backlog the next epoch is read and computed while the last one is written: so what a circuit returned
must not change when it steps again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.engine.circuit import Circuit
from bourne.engine.delta import Delta, KeyedDelta
from bourne.engine.epoch import Computed, Epochs
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.skipping import FAILURES, SideLogs
from bourne.engine.snapshot import Snapshot, drop_older, newest_snapshot, save_snapshot
from bourne.engine.timeline import AtEnd
from bourne.errors import BourneError, ViewFailed
from bourne.limits import EPOCH_INPUT_BYTES_MAX, EPOCH_ROWS_MAX, EPOCH_ROWS_MIN, SNAPSHOT_ROWS
from bourne.log.catalog import LogInfo
from bourne.log.causes import wait_for_causes
from bourne.log.cursor import LogCursor, Piece
from bourne.log.disk import disk_errors
from bourne.log.reader import Frame, LogReader
from bourne.log.writer import LogWriter
from bourne.ports import Clock, Files
from bourne.udf import reason

# Running a recorded epoch again takes as long as this many rows, however few it has.
_EPOCH_ROWS_WORTH = 1 << 12

# Closing saves the state only if computing it again would take noticeably long.
_CLOSING_SNAPSHOT_ROWS = 1 << 18


# Of each input, the offset of each partition.
Positions = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ViewInput:
    """A log, or another view's output, that a view follows."""

    info: LogInfo
    folder: Path


class ViewRunner:
    """Keeps one view up to date. Holds the lock of its output log. For one thread at a time."""

    def __init__(
        self,
        make_circuit: Callable[[], Circuit],
        *,
        folder: Path,
        output: LogInfo,
        inputs: Sequence[ViewInput],
        files: Files,
        clock: Clock,
        side_logs: SideLogs | None = None,
        snapshot_rows: int = SNAPSHOT_ROWS,
    ) -> None:
        """Restore the state: the newest snapshot, then the recorded epochs after it again.

        `side_logs` says where records go that the view goes on without.

        Raises:
            LogLocked: another process runs this view.
            CorruptFrame, StorageError: the output or an input cannot be read.
            ViewFailed: the recorded epochs do not come out the same.
        """
        self.name = output.name
        self._snapshots = folder / "snapshots"
        self._output = output
        self._inputs = {each.info.name: each.info for each in inputs}
        self._files = files
        self._clock = clock
        self._snapshot_rows = snapshot_rows
        self._working = threading.Lock()
        self._commits: ThreadPoolExecutor | None = None
        self._committing: Future[range] | None = None
        self._failure: BourneError | None = None
        self._epoch_rows = EPOCH_ROWS_MIN
        self._rows_since_snapshot = 0
        self._epoch = -1
        self._epochs = Epochs(
            make_circuit, output=output, inputs=self._inputs, side_logs=side_logs or SideLogs()
        )
        self.circuit, self._timeline = self._epochs.circuit, self._epochs.timeline
        with ExitStack() as opened:
            self._writer = LogWriter(
                folder,
                output,
                files=files,
                clock=clock,
                what=f"view {output.name!r} is run by another process",
            )
            opened.callback(self._writer.close)
            self._readers: dict[str, LogCursor] = {}
            for each in inputs:
                reader = LogCursor(each.folder, each.info, files=files, is_durable=True)
                opened.callback(reader.close)
                self._readers[each.info.name] = reader
            self._view_ends: dict[str, LogReader] = {}
            for each in inputs:
                if each.info.name in self._timeline.views:
                    self._view_ends[each.info.name] = LogReader(each.folder, each.info, is_durable=True)
                    opened.callback(self._view_ends[each.info.name].close)
            self._positions = self._read_positions()  # the first records that are kept
            recorded = LogReader(folder, output)
            try:
                self._restore(recorded)
            finally:
                recorded.close()
            opened.pop_all()

    def _read_positions(self) -> Positions:
        return {name: reader.positions for name, reader in self._readers.items()}

    # --- where it stands ---

    @property
    def positions(self) -> Positions:
        """Of each input, the offset of each partition up to which (exclusive) it is taken in: committed, or about to be."""
        return dict(self._positions)

    def ends(self) -> Positions:
        """Return the end of each partition of each input, as of now."""
        return {name: reader.end_offsets() for name, reader in self._readers.items()}

    def within_causes(self, until: Positions) -> Positions:
        """Return how far of that this view can go: no record before what its author had seen."""
        cursors = {name: reader for name, reader in self._readers.items() if name in until}
        if not any(cursor.info.seen for cursor in cursors.values()):
            return until
        with self._working:
            began = {name: cursor.positions for name, cursor in cursors.items()}
            read = {name: cursor.read(until=until[name]) for name, cursor in cursors.items()}
            wait_for_causes(read, cursors, began)
            reached = {name: cursor.positions for name, cursor in cursors.items()}
            self._seek(began)
        return {**until, **reached}

    def lag(self) -> int:
        """Return how many records of the inputs are not reflected yet."""
        return _count(self.ends()) - _count(self._positions)

    @property
    def failure(self) -> BourneError | None:
        """Why the view stands still. To go on it has to be closed, and restored by a new runner."""
        return self._failure

    # --- going on ---

    def step(
        self,
        *,
        until: Mapping[str, Sequence[int]] | None = None,
        is_whole: bool = False,
        is_end: bool = False,
        may_run_ahead: bool = False,
    ) -> int:
        """Run one epoch over what is there (up to the offsets `until`); its output is durable when this returns.

        If nothing is there, but time has gone on so that something changes, that is an epoch, too.

        Args:
            until: of each input, the offset of each partition to stop before.
            is_whole: take in all of it, however much it is.
            is_end: nothing follows what this reads: everything is complete. For ever.
            may_run_ahead: return, if there is more to take in, while the output is still being written. It is durable
                when a step returns that found no more, or `settle`.

        Returns: how many input records it took in; 0 when there were none.

        Raises:
            ViewFailed: a record cannot be computed. Nothing of the epoch is kept; the view stands still.
            DiskFull, StorageError, CorruptFrame: the disk refuses.
        """
        with self._working:
            return self._step(until, is_whole=is_whole, is_end=is_end, may_run_ahead=may_run_ahead)

    def due_us(self) -> int | None:
        """Return the clock when a step has something to do though nothing comes; None if there is no such time."""
        found = (self._timeline.due_us(), self.circuit.due_us())
        return min((at for at in found if at is not None), default=None)

    def settle(self) -> None:
        """Wait until what was taken in is durable.

        Raises:
            DiskFull, StorageError: the disk refuses. The view stands still.
        """
        with self._working:
            self._settle()

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

    def _step(
        self, until: Mapping[str, Sequence[int]] | None, *, is_whole: bool, is_end: bool, may_run_ahead: bool
    ) -> int:
        if self._failure is not None:
            raise self._failure
        try:
            pieces = self._read(until, is_whole=is_whole, is_end=is_end)
            positions = self._read_positions()
            rows = _count(positions) - _count(self._positions)
            clock_us, at_end = self._timeline.clock(self._clock.now_us()), self._at_end(positions)
            self._look_at_views()
            if rows == 0 and not self._is_due(clock_us, at_end, is_end=is_end):
                self._settle()
                self._epoch_rows = EPOCH_ROWS_MIN
                return 0
            computed = self._epochs.run(pieces, clock_us, at_end, is_end=is_end)
            self._commit(computed, positions, is_ahead=may_run_ahead and self._has_more(positions, until))
        except BaseException as error:
            self._settle()  # what went wrong before counts first
            # Inputs may have been read, and the circuit have taken in, what was not committed: both have to be restored.
            self._fail(error)
            raise
        if computed.skipped:
            self._epoch_rows = EPOCH_ROWS_MIN  # to look for the next ones in few
        elif 2 * rows > self._epoch_rows:
            self._epoch_rows = min(2 * self._epoch_rows, EPOCH_ROWS_MAX)
        self._rows_since_snapshot += max(rows, _EPOCH_ROWS_WORTH)
        if self._rows_since_snapshot >= max(self._snapshot_rows, 2 * self._state_rows()):
            self.snapshot()
        return rows

    def _has_more(self, positions: Positions, until: Mapping[str, Sequence[int]] | None) -> bool:
        ends = self.ends() if until is None else until
        return any(
            at < end for name in positions for at, end in zip(positions[name], ends[name], strict=True)
        )

    def _fail(self, error: BaseException) -> None:
        """Stand still from now on."""
        if not isinstance(error, BourneError):
            error = ViewFailed(
                f"view {self.name!r} was interrupted within an epoch", found=f"{type(error).__name__}: {error}",
                hint="run it again: the log and what the view had committed are intact",
            )  # fmt: skip
        self._failure = error

    def _read(
        self, until: Mapping[str, Sequence[int]] | None, *, is_whole: bool, is_end: bool
    ) -> dict[str, list[Piece]]:
        """Return what comes next of each input that has something, each its share of an epoch, or all.

        A version of a static table is never split: there is no state of the world with half of it. At the end nothing
        waits any more for what its author had seen.
        """
        count = max(1, len(self._readers))
        share, size = max(1, self._epoch_rows // count), max(1, EPOCH_INPUT_BYTES_MAX // count)
        found = {}
        for name, reader in self._readers.items():
            is_all = is_whole or self._inputs[name].table is not None
            bounds = {} if is_all else {"rows_max": share, "bytes_max": size}
            found[name] = reader.read(until=None if until is None else until[name], **bounds)
        if not is_end:
            wait_for_causes(found, self._readers, self._positions)
        return {name: pieces for name, pieces in found.items() if pieces}

    def _at_end(self, positions: Positions) -> AtEnd:
        """Say of each partition of each input whether all of it was read, where that matters."""
        if not self._timeline.has_idle:
            return {}
        return {
            name: [at >= end for at, end in zip(positions[name], ends, strict=True)]
            for name, ends in self.ends().items()
        }

    def _look_at_views(self) -> None:
        for name, reader in self._view_ends.items():
            last = reader.last_frame()
            if last is not None:
                self._timeline.advance_view(name, last.meta.get("reached", last.meta["watermark"]))

    def _is_due(self, clock_us: int, at_end: AtEnd, *, is_end: bool) -> bool:
        """Say whether there is something to do though nothing came."""
        if is_end and not self._timeline.moment.is_end and self.circuit.is_timed:
            return True
        due_us = self.circuit.due_us()
        return (due_us is not None and due_us <= clock_us) or self._timeline.is_due(clock_us, at_end)

    def _commit(self, computed: Computed, positions: Positions, *, is_ahead: bool = False) -> None:
        """Commit an epoch, after the one before; `is_ahead`: let a thread do it."""
        states = self.circuit.states()
        meta = {
            "epoch": self._epoch + 1,
            "positions": {name: list(offsets) for name, offsets in positions.items()},
            **self._timeline.to_meta(),
            "records": computed.records,  # fewer than the positions say, where a log is compacted
            "has_state": self.circuit.has_state,
            **({"skipped": computed.skipped} if computed.skipped else {}),
            **({"from": self._positions} if self._epoch < 0 else {}),
            "state": [[state.node, state.label, state.rows, state.bytes] for state in states],
        }
        output = _output_table(computed.delta, self._output)
        self._settle()
        if not is_ahead:
            self._writer.append(output, meta)
        else:
            if self._commits is None:
                self._commits = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bourne-commit")
            self._committing = self._commits.submit(self._writer.append, output, meta)
        self._epoch += 1
        self._positions = positions

    def _settle(self) -> None:
        """Wait for the commit that is under way, if there is one."""
        if self._committing is None:
            return
        try:
            self._committing.result()
        except BaseException as error:
            if self._committing.done():  # else it is the waiting that was interrupted
                self._committing = None
                self._fail(error)
            raise
        self._committing = None

    def _state_rows(self) -> int:
        return sum(state.rows for state in self.circuit.states())

    # --- saving and restoring ---

    def snapshot(self) -> None:
        """Save the state, so that a restart need not compute it again. O(state)."""
        if not self.circuit.has_state:
            return
        self._settle()
        state = Snapshot(
            self._epoch,
            self._writer.next_offset,
            {name: list(offsets) for name, offsets in self._positions.items()},
            self.circuit.save(),
            self._timeline.to_meta(),
        )
        with disk_errors(self._snapshots, f"cannot save the state of view {self.name!r}"):
            save_snapshot(self._snapshots, state, self._files)
        self._rows_since_snapshot = 0

    def _restore(self, output: LogReader) -> None:
        """Bring the circuit to the state that the last committed epoch left."""
        last = output.last_frame()
        if last is None:
            try:
                delta = self._epochs.initial()
            except FAILURES as error:
                self._failure = ViewFailed(
                    f"view {self.name!r} cannot be computed: {reason(error)}",
                    where="its rows before the first record",
                    hint="make the view's SQL compute over no records (TRY_CAST, CASE, WHERE)",
                )
                return
            if delta.rows:
                self._timeline.advance(self._timeline.clock(self._clock.now_us()), {}, is_end=False)
                self._commit(Computed(delta, 0, {}), self._positions)
            return
        self._check_inputs(_positions(last.meta))
        if self.circuit.has_state:
            self._replay(output, last)
        else:
            self.circuit.load({})
        self._take_over(last)
        self._check_kept()
        self._seek(self._positions)

    def _seek(self, positions: Positions) -> None:
        for name, at in positions.items():
            if self._readers[name].positions != at:
                self._readers[name].seek(at)

    def _check_inputs(self, positions: Positions) -> None:
        """Refuse to go on where the view reflects records that an input does not have."""
        ends = self.ends()
        for name, reached in positions.items():
            if any(at > end for at, end in zip(reached, ends[name], strict=True)):
                raise ViewFailed(
                    f"view {self.name!r} reflects records that its log does not have",
                    where=f"log {name!r}",
                    expected=f"at least {_shown(reached)} records",
                    found=f"{_shown(ends[name])} records",
                    hint="restore the log; or, if it was started anew, delete the view's folder",
                )

    def _replay(self, output: LogReader, last: Frame) -> None:
        """Load the newest snapshot and run the epochs after it again, as they were recorded."""
        snapshot = newest_snapshot(self._snapshots, epoch_max=last.meta["epoch"])
        if snapshot is None:
            self.circuit.initial()
            output.seek(output.first_offset)
            began = output.read(rows_max=1)[0].meta.get("from", self._positions)
            output.seek(output.first_offset)
        else:
            self.circuit.load(snapshot.parts)
            self._epoch = snapshot.epoch
            self._timeline.load(snapshot.times)
            began = snapshot.positions
            output.seek(snapshot.output_offset)
        self._positions = {name: tuple(offsets) for name, offsets in began.items()}
        self._check_kept()
        self._seek(self._positions)
        while recorded := output.read(bytes_max=64 << 20):
            for frame in recorded:
                if frame.meta["epoch"] > self._epoch:
                    self._repeat(frame)
                    self._take_over(frame)
        if self._epoch != last.meta["epoch"]:
            raise self._not_repeated(
                last.meta["epoch"], f"epoch {last.meta['epoch']}", f"epoch {self._epoch}"
            )

    def _check_kept(self) -> None:
        """Refuse to go on where an input does not keep the records that have to be read again."""
        for name, reader in self._readers.items():
            firsts, needed = reader.first_offsets(), self._positions[name]
            if any(at < first for at, first in zip(needed, firsts, strict=True)):
                raise self._not_restored(
                    "its log does not keep the records after its saved state",
                    f"records of {name!r} from {_shown(needed)}",
                    f"records from {_shown(firsts)}",
                )

    def _repeat(self, frame: Frame) -> None:
        """Run one recorded epoch again; its output must be what was committed."""
        positions = _positions(frame.meta)
        rows = _count(positions) - _count(self._positions)
        if rows == 0 and self._epoch < 0:  # what there was before any record
            return
        pieces: dict[str, list[Piece]] = {}
        for name, reader in self._readers.items():
            while reader.positions != positions[name] and (more := reader.read(until=positions[name])):
                pieces.setdefault(name, []).extend(more)
        recorded = frame.meta.get("records")
        records = sum(piece.frame.batch.num_rows for found in pieces.values() for piece in found)
        if recorded not in (None, records):
            raise self._not_restored(
                "its log was compacted further than its saved state",
                f"{recorded} records up to {_shown_all(positions)}",
                f"{records} records",
            )
        again = self._epochs.repeat(pieces, frame.meta).delta
        reached = self._read_positions()
        if reached != positions or again.rows != frame.batch.num_rows:
            raise self._not_repeated(
                frame.meta["epoch"],
                f"{frame.batch.num_rows} changes up to {_shown_all(positions)}",
                f"{again.rows} changes up to {_shown_all(reached)}",
            )
        if not _has_same_rows(_output_table(again, self._output), frame.batch):
            raise self._not_repeated(frame.meta["epoch"], "the rows that were committed", "other rows")
        self._rows_since_snapshot += max(rows, _EPOCH_ROWS_WORTH)

    def _not_restored(self, why: str, expected: str, found: str) -> ViewFailed:
        return ViewFailed(
            f"view {self.name!r} cannot be restored: {why} (the newest is damaged, or the app was without this view "
            "meanwhile)",
            where=str(self._snapshots),
            expected=expected,
            found=found,
            hint="restore the snapshots from a copy, or delete the view's folder: the view is then computed from what the "
            "log still keeps",
        )

    def _not_repeated(self, epoch: int, expected: str, found: str) -> ViewFailed:
        return ViewFailed(
            f"view {self.name!r} does not repeat its recorded epoch {epoch}",
            expected=expected,
            found=found,
            hint="delete the view's folder to compute it anew from its log; if its SQL calls a Python function, see that "
            "this gives the same answer each time, else report this",
        )

    def _take_over(self, frame: Frame) -> None:
        self._epoch = frame.meta["epoch"]
        self._positions = _positions(frame.meta)
        self._timeline.load(frame.meta)

    def close(self) -> None:
        """Save the state if that pays, and give the lock back. Safe to call twice."""
        with self._working, ExitStack() as closing:
            for reader in self._readers.values():
                closing.callback(reader.close)
            for end in self._view_ends.values():
                closing.callback(end.close)
            closing.callback(self._writer.close)
            if self._commits is not None:
                closing.callback(self._commits.shutdown)
            self._settle()
            is_worth_it = self._failure is None and self._rows_since_snapshot >= _CLOSING_SNAPSHOT_ROWS
            self._rows_since_snapshot = 0
            if is_worth_it:
                self.snapshot()


def _positions(meta: Mapping[str, Any]) -> Positions:
    return {name: tuple(offsets) for name, offsets in meta["positions"].items()}


def _count(positions: Positions) -> int:
    return sum(sum(offsets) for offsets in positions.values())


def _shown(positions: Sequence[int]) -> str:
    return ", ".join(str(position) for position in positions)


def _shown_all(positions: Positions) -> str:
    if len(positions) == 1:
        return f"offset {_shown(next(iter(positions.values())))}"
    return "; ".join(f"{name}: {_shown(offsets)}" for name, offsets in positions.items())


def _has_same_rows(first: pa.Table, second: pa.RecordBatch) -> bool:
    """Say whether two tables have the same rows, in whatever order: the sums of their rows' hashes are equal."""
    sums = [
        hash_rows([as_array(column) for column in table.columns], table.num_rows, is_exact=True).sum(axis=1)
        for table in (first, second)
    ]
    return bool((sums[0] == sums[1]).all())


def _output_table(delta: Delta | KeyedDelta, output: LogInfo) -> pa.Table:
    """Return the delta in the form of the output log."""
    schema = output.schema.to_arrow()
    if not delta.rows:
        return schema.empty_table()
    columns: list[Any] = list(delta.table.columns)
    if isinstance(delta, KeyedDelta):
        weights = np.ones(delta.rows, np.int8) if delta.weights is None else delta.weights
        columns = [pa.array(delta.keys), pa.array(weights), *columns]
    elif output.changes == "weights":
        columns = [pa.array(delta.signed()), *columns]
    return pa.Table.from_arrays(columns, schema=schema)
