"""Appending to one partition: an append is acknowledged when it is as durable as was asked for, and not before.

Appends that come while another is being written wait and are then written together, by one of them for all (group
commit): small ones become one frame, and all of them share one sync.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import AppendInDoubt, BourneError, Closed, InputError, LogLocked
from bourne.limits import GATHER_S, LOCK_HOLD_S, REQUEST_ID_CHARS_MAX, SEGMENT_BYTES_MAX, SYNC_INTERVAL_S
from bourne.log.calls import Call
from bourne.log.catalog import Durability, LogInfo
from bourne.log.disk import disk_error, disk_errors
from bourne.log.end import PartitionEnd
from bourne.log.format import Head
from bourne.log.requests import Written
from bourne.ports import Clock, Files

_GATHER_STEP_S = 0.00005


class LogWriter:
    """Appends to one partition. Safe to use from several threads and, unless exclusive, from several processes."""

    def __init__(
        self,
        log_folder: Path,
        info: LogInfo,
        *,
        files: Files,
        clock: Clock,
        partition: int = 0,
        segment_bytes: int = SEGMENT_BYTES_MAX,
        is_exclusive: bool = True,
        what: str | None = None,
    ) -> None:
        """Make the partition ready: a torn tail is cut (`cut_bytes` says how much).

        An exclusive writer keeps the lock until it is closed; others take it for each group of appends. `what` names
        what is written in the errors about the lock.

        Raises:
            LogLocked: another process is its writer.
            CorruptFrame: durable bytes are damaged.
            DefinitionError: the log on the disk has other columns.
            StorageError: the disk is full or refuses.
        """
        self.info = info
        self._arrow = info.schema.to_arrow()
        self._is_closed = False
        self._timer: threading.Timer | None = None
        self._queue: list[Call] = []
        self._queue_mutex = threading.Lock()
        self._is_led = False
        self._end = PartitionEnd(
            log_folder, info, partition, files=files, clock=clock, segment_bytes=segment_bytes,
            is_exclusive=is_exclusive, what=what,
        )  # fmt: skip
        self._folder = self._end.folder
        try:
            with disk_errors(self._folder, f"cannot open log {info.name!r} for appending"):
                self._end.enter()
                self._end.leave()
        except BaseException:
            self._shut()
            raise

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets, as far as this writer knows."""
        return self._end.head.next_offset

    @property
    def head(self) -> Head:
        """The end of the log as this writer left it, with the hash of the last frame."""
        return self._end.head

    @property
    def cut_bytes(self) -> int:
        """How many bytes of torn tails this writer has cut."""
        return self._end.cut_bytes

    # --- calls -------------------------------------------------------------------------------------------

    def append(self, table: pa.Table | pa.RecordBatch, meta: Mapping[str, Any] | None = None) -> range:
        """Append all rows, in order; they are durable when this returns. O(bytes). Returns their offsets.

        With `meta` they are one frame, empty or not; otherwise as `write`.
        """
        return self.write(table, meta).offsets

    def write(
        self,
        table: pa.Table | pa.RecordBatch,
        meta: Mapping[str, Any] | None = None,
        *,
        durability: Durability | None = None,
        request_id: str | None = None,
        request_hash: str | None = None,
    ) -> Written:
        """Append all rows, in order; they are as durable as asked for (by default as the log says) on return. O(bytes).

        A large table becomes several frames, seen by readers all at once, and kept all or none after a crash. If
        anything fails, nothing of this call is kept; if the disk does not even let it be taken back, the error says so.
        A call with the id of an earlier one writes nothing and returns the offsets of that one; `request_hash`, kept with
        the id, tells a call with other data.

        Raises:
            InputError: another schema, a frame beyond the limit, a request id that was used for other data.
            DiskFull, StorageError: the disk refuses; what was there before is as it was.
            AppendInDoubt: the disk refuses even to take it back.
            LogLocked: another process holds the lock and does not give it back.
            Closed: the writer is closed.
        """
        found = table.schema
        if not found.equals(self._arrow) and (found.names, found.types) != (
            self._arrow.names,
            self._arrow.types,
        ):
            raise InputError(
                f"log {self.info.name!r} has another schema",
                expected=str(self._arrow).replace("\n", ", "),
                found=str(table.schema).replace("\n", ", "),
            )
        if request_id is not None and not 0 < len(request_id) <= REQUEST_ID_CHARS_MAX:
            raise InputError(
                "a request id has a length", expected=f"1 to {REQUEST_ID_CHARS_MAX} characters",
                found=f"{len(request_id)} characters",
            )  # fmt: skip
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        if not table.num_rows and meta is None:
            self._check_open()
            return Written(range(self._end.head.next_offset, self._end.head.next_offset))
        return self._submit(
            Call(table, durability or self.info.durability, meta, request_id, request_hash=request_hash)
        )

    def sync(self) -> None:
        """Make durable what was acknowledged before, whatever its level.

        Raises: as `write`.
        """
        self._submit(Call(None, "fsync"))

    def roll(self) -> None:
        """Begin a new segment, unless the last one has no records yet: retention works on those before it.

        Raises: as `write`.
        """
        self._submit(Call(None, "fsync", is_roll=True))

    def close(self) -> None:
        """Make durable what is not yet, and give the lock back. Safe to call twice.

        Raises:
            StorageError, DiskFull: what was acknowledged with less than `fsync` could not be made durable.
        """
        with contextlib.suppress(Closed):
            self._submit(Call(None, "fsync", is_close=True))

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"the writer of log {self.info.name!r} is closed", hint="open it again")

    # --- group commit ------------------------------------------------------------------------------------

    def _submit(self, request: Call) -> Written:
        """Queue a call. Who comes first writes for all that wait; when done, the next that waits does."""
        with self._queue_mutex:
            self._queue.append(request)
            is_leader = not self._is_led
            self._is_led = True
        if not is_leader:
            try:
                request.wake.acquire()
            except BaseException:
                self._withdraw(request)
                raise
        if not request.is_done:
            self._lead()
        if request.error is not None:
            raise request.error
        return request.written

    def _withdraw(self, request: Call) -> None:
        """Take back a call whose thread was interrupted; if it had been told to lead meanwhile, pass that on."""
        with self._queue_mutex:
            is_waiting = request in self._queue
            if is_waiting:
                self._queue.remove(request)
            if is_waiting and not request.wake.locked():
                self._appoint()

    def _appoint(self) -> None:
        """Let the first that waits lead, if there is one. Under the queue's mutex.

        The lock is kept for that one, for a moment: other processes want to write, too.
        """
        if not self._queue or time.monotonic() >= self._end.taken_s + LOCK_HOLD_S:
            self._end.leave()
        if self._queue:
            self._queue[0].wake.release()
        else:
            self._is_led = False

    def _lead(self) -> None:
        with self._queue_mutex:
            group, self._queue = self._queue, []
        try:
            self._commit(group)
        except BaseException as error:
            self._end.doubt()
            for request in group:
                if not request.is_done:
                    request.finish(error if isinstance(error, BourneError) else self._in_doubt(error))
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, BourneError | OSError):
                raise
        finally:
            for request in group:
                if request.wake.locked():
                    request.wake.release()
            try:
                self._gather(len(group))
            finally:
                with self._queue_mutex:
                    self._appoint()

    def _gather(self, count: int) -> None:
        """Give those who were just served a moment to come back, so that the next group is as large as this one.

        (PostgreSQL's `commit_delay`.) A caller that is alone never waits here.
        """
        until = time.monotonic() + GATHER_S
        while len(self._queue) < count - 1 and time.monotonic() < until:
            time.sleep(_GATHER_STEP_S)

    def _commit(self, group: list[Call]) -> None:
        """Write a group under the lock, and say to each call what became of it."""
        if self._is_closed:
            closed = Closed(f"the writer of log {self.info.name!r} is closed", hint="open it again")
            for request in group:
                request.finish(None if request.is_close else closed)
            return
        closing = [request for request in group if request.is_close]
        try:
            try:
                self._end.enter()
            except (BourneError, OSError) as error:
                for request in group:
                    if request.is_close:
                        request.finish(self._not_durable(error) if self._end.is_behind else None)
                    else:
                        request.finish(self._mapped(error))
                return
            try:
                self._write_group([request for request in group if not request.is_close])
                if closing:
                    error_of_close = self._settle()
                    for request in closing:
                        request.finish(error_of_close)
            except BaseException:
                self._end.leave()
                raise
        finally:
            if closing:
                self._shut()

    def _settle(self) -> BourneError | None:
        """Make everything durable, with a second try; return the error if acknowledged records are not."""
        try:
            self._end.settle()
        except OSError as error:
            if self._end.take_back() is not None:
                return self._not_durable(error)
        return None

    def _write_group(self, group: list[Call]) -> None:
        """Write the calls of a group; where they fail together, each for itself."""
        if not group:
            return
        try:
            self._end.write(group)
        except LogLocked as error:
            self._end.doubt()  # not ours any more: not even to be taken back
            self._end.leave()
            for request in group:
                request.finish(error)
        except (BourneError, OSError) as error:
            second = self._end.take_back()
            if second is None and len(group) > 1:
                for request in group:
                    self._write_group([request])
                return
            for request in group:
                request.finish(self._mapped(error) if second is None else self._in_doubt(error, second))
        else:
            for request in group:
                request.finish()
            if any(request.durability == "interval" and request.table is not None for request in group):
                self._sync_later()

    def _sync_later(self) -> None:
        """Sync after the interval; appends until then share it."""
        if self._timer is None:
            self._timer = threading.Timer(SYNC_INTERVAL_S, self._sync_now)
            self._timer.daemon = True
            self._timer.start()

    def _sync_now(self) -> None:
        self._timer = None
        # A failure is not lost: what could not be synced is not called durable, and the next sync says why.
        with contextlib.suppress(BourneError):
            self.sync()

    # --- failing and ending ------------------------------------------------------------------------------

    def _mapped(self, error: BourneError | OSError) -> BourneError:
        what = f"cannot append to log {self.info.name!r}"
        return disk_error(error, self._folder, what) if isinstance(error, OSError) else error

    def _not_durable(self, error: BourneError | OSError) -> BourneError:
        what = f"cannot make durable what was appended to log {self.info.name!r}"
        return disk_error(error, self._folder, what) if isinstance(error, OSError) else error

    def _in_doubt(self, error: BaseException, second: OSError | None = None) -> AppendInDoubt:
        return AppendInDoubt(
            f"cannot append to log {self.info.name!r}, nor take back what was written of it",
            where=str(self._folder),
            found=f"{error or type(error).__name__}" + (f"; then {second}" if second else ""),
            hint="mend the disk, then append again with the same request_id: it is stored once",
        )

    def _shut(self) -> None:
        """Let go of everything."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._end.close()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
