"""The whole log against a list: appends of all durabilities, retention of all kinds, readers, faults, kills, power cuts.

Whatever happens in whatever order: no acknowledged record is lost (but to a power cut, and only what was appended with
less than `fsync` since the last sync), none is invented or doubled, the order stays, and what retention takes away is
what it may.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bourne.errors import AppendInDoubt, Closed, InputError, StorageError
from bourne.limits import TOMBSTONE_KEEP_US
from bourne.log import embedded, retention
from bourne.log.catalog import LogInfo, Retention, write_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.log.reader import LogReader
from bourne.log.retention import Pin
from bourne.log.verify import verify_log
from bourne.log.writer import LogWriter
from bourne.schema import declare_schema
from bourne.testing import FaultyFiles, SimulatedClock

IS_LONG = bool(os.environ.get("BOURNE_LONG"))
HOUR_US = 3600 * 1_000_000


class Row(NamedTuple):
    """A record of the model."""

    key: int
    text: str
    gone: bool
    appended_us: int


class KeptLogMachine(RuleBasedStateMachine):
    """A log with retention, against a list."""

    @initialize(
        segment_bytes=st.sampled_from([1, 1500, 4000]),
        keep_us=st.none() | st.just(50 * HOUR_US),
        keep_bytes=st.none() | st.just(30_000),
        cold_after_us=st.none() | st.just(5 * HOUR_US),
        is_compacted=st.booleans(),
        has_tombstones=st.booleans(),
    )
    def begin(
        self, segment_bytes: int, keep_us: int | None, keep_bytes: int | None, cold_after_us: int | None,
        is_compacted: bool, has_tombstones: bool,
    ) -> None:  # fmt: skip
        self.folder = Path(tempfile.mkdtemp())
        self.files, self.clock = FaultyFiles(), SimulatedClock(1_700_000_000_000_000)
        tombstone = "gone" if is_compacted and has_tombstones else None
        schema = declare_schema({"key": "bigint not null", "text": "varchar", "gone": "boolean"}, where="l")
        kept = Retention(keep_us, keep_bytes, cold_after_us, is_compacted)
        info = LogInfo("l", schema, key="key", retention=kept, tombstone=tombstone, id=b"l" * 16)
        self.info = write_log_info(self.folder / "l", info, self.files)
        self.saved = embedded.LogWriter, retention.COMPACT_BYTES_MIN
        embedded.LogWriter = functools.partial(LogWriter, segment_bytes=segment_bytes)  # type: ignore[misc]
        retention.COMPACT_BYTES_MIN = 1500
        self.log: EmbeddedLog | None = None
        self.reader: LogReader | None = None
        self.reader_at = 0
        self.rows: list[Row] = []  # all that were ever acknowledged, by offset
        self.durable = 0  # so many of them no power cut may take
        self.maybe: list[Row] = []
        self.first = 0

    # --- what is done ---

    def opened(self) -> EmbeddedLog:
        if self.log is None:
            self.log = EmbeddedLog(self.folder / "l", self.info, files=self.files, clock=self.clock)
        return self.log

    @rule(
        keys=st.lists(st.integers(0, 3), min_size=1, max_size=4),
        width=st.sampled_from([0, 300]),
        gone=st.booleans(),
        durability=st.sampled_from(["fsync", "fsync", "none", "interval"]),
    )
    def append(self, keys: list[int], width: int, gone: bool, durability: Any) -> None:
        if self.maybe:
            self.look()  # what became of the one before is only known now
            if self.maybe:
                return
        rows = [Row(key, f"{len(self.rows)} 글" + "x" * width, gone, self.clock.now_us()) for key in keys]
        table = pa.table(
            {
                "key": [row.key for row in rows],
                "text": [row.text for row in rows],
                "gone": [row.gone for row in rows],
            }
        )
        try:
            done = self.opened().append(table, durability=durability)
        except (AppendInDoubt, Closed):
            self.maybe = rows
        except StorageError:
            return
        else:
            assert done.ranges == {0: range(len(self.rows), len(self.rows) + len(rows))}
            self.rows += rows
            if durability == "fsync":
                self.durable = len(self.rows)

    @rule()
    def sync(self) -> None:
        try:
            self.opened().sync()
        except (StorageError, Closed):
            return
        if not self.maybe and self.log is not None and self.log._writers:
            self.durable = len(self.rows)

    @rule(hours=st.sampled_from([1, 10, 30]))
    def later(self, hours: int) -> None:
        self.clock.advance(hours * HOUR_US)

    @rule(pin=st.none() | st.integers(0, 40))
    def maintain(self, pin: int | None) -> None:
        try:
            self.opened().maintain([Pin(0, pin, "view v")] if pin is not None else [])
        except (StorageError, Closed):
            return
        if not self.files._faults:
            self.look()
            assert pin is None or self.first <= max(pin, self.first_before)

    @rule(calls=st.integers(1, 40), seed=st.none() | st.integers(0, 1000))
    def cut_power_in_maintenance(self, calls: int, seed: int | None) -> None:
        self.files.heal()
        self.files.die_at(calls)
        self.maintain(None)
        self.cut_power(seed)

    @rule(calls=st.integers(1, 12), seed=st.none() | st.integers(0, 1000))
    def cut_power_in_an_append(self, calls: int, seed: int | None) -> None:
        self.files.heal()
        self.files.die_at(calls)
        self.append([0, 1, 2], 300, False, "fsync")
        self.cut_power(seed)

    @rule(
        call=st.sampled_from(["open", "write", "truncate", "sync", "sync_folder", "replace", "remove"]),
        nth=st.integers(1, 4),
        error=st.sampled_from([errno.ENOSPC, errno.EIO]),
        bytes_written=st.integers(0, 1500),
        always=st.booleans(),
    )
    def fail(self, **fault: Any) -> None:
        self.files.fail(**fault)

    @rule()
    def heal(self) -> None:
        self.files.heal()

    @rule()
    def kill(self) -> None:
        self.files.kill()
        self.drop()
        self.look()

    @rule(seed=st.none() | st.integers(0, 1000))
    def cut_power(self, seed: int | None) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None
        self.files.crash(seed)
        self.drop()
        found = self.served()
        end = self.opened().end_offsets()[0]
        assert self.durable <= end <= len(self.rows) + len(self.maybe), (self.durable, end)
        if end > len(self.rows):
            assert end == len(self.rows) + len(self.maybe)
            self.rows += self.maybe
        self.maybe = []
        del self.rows[end:]
        self.durable = len(self.rows)  # recovery has made durable what it kept
        self.check(found)

    def drop(self) -> None:
        """Forget the process: its files are of no more use, its locks are free."""
        if self.log is not None:
            for writer in self.log._writers.values():
                with contextlib.suppress(StorageError):
                    writer.close()
            self.log = None

    @precondition(lambda self: not self.files._faults)
    @rule()
    def reopen(self) -> None:
        if self.log is not None:
            self.log.close()
            self.log = None
        self.look()

    # --- what is seen ---

    def served(self) -> dict[int, tuple[int, str, bool]]:
        """Return all that a new reader is served, by offset; ascending, or it fails."""
        self.files.heal()
        result: dict[int, tuple[int, str, bool]] = {}
        last = -1
        with self.opened().batches() as batches:
            for batch in batches:
                columns = batch.records.to_pydict()
                rows = zip(columns["key"], columns["text"], columns["gone"], strict=True)
                for offset, row in zip(batch.offsets.tolist(), rows, strict=True):
                    assert offset > last
                    last = offset
                    result[offset] = row
        return result

    @rule()
    def look(self) -> None:
        found = self.served()
        end = self.opened().end_offsets()[0]
        if self.maybe and end > len(self.rows):
            assert end == len(self.rows) + len(self.maybe)
            self.rows += self.maybe
        if self.maybe and self.log is not None and 0 not in self.log._writers:
            self.maybe = []  # a new process has looked: it is there, or it never will be
        if end == len(self.rows):
            self.maybe = [] if self.maybe and self.rows[-len(self.maybe) :] == self.maybe else self.maybe
        assert end == len(self.rows)
        self.check(found)

    def check(self, found: dict[int, tuple[int, str, bool]]) -> None:
        """Compare what is served with the model."""
        self.first_before, self.first = self.first, self.opened().first_offsets()[0]
        newest = {row.key: offset for offset, row in enumerate(self.rows)}
        now = self.clock.now_us()
        kept = self.info.retention
        for offset, row in enumerate(self.rows):
            if offset in found:
                assert found[offset] == row[:3], offset
                assert offset >= self.first
            elif offset < self.first:
                is_old = kept.keep_us is not None and row.appended_us <= now - kept.keep_us
                assert is_old or kept.keep_bytes is not None, (offset, row)
            else:
                is_superseded = newest[row.key] > offset
                is_gone = row.gone and self.info.tombstone and row.appended_us <= now - TOMBSTONE_KEEP_US
                assert kept.is_compacted and (is_superseded or is_gone), (offset, row)
        assert all(offset < len(self.rows) for offset in found)
        (head,) = verify_log(self.folder / "l", self.info)
        assert head.offset == len(self.rows)

    @rule(back=st.integers(0, 20))
    def follow(self, back: int) -> None:
        """A reader that stays where it is, while retention is at work, and goes on later."""
        self.files.heal()
        if self.reader is None:
            self.reader = LogReader(self.folder / "l", self.info, files=self.files)
            self.reader_at = max(self.reader.first_offset, self.reader.end_offset() - back)
            self.reader.seek(self.reader_at)
        for frame in self.reader.read(rows_max=3):
            columns = frame.batch.to_pydict()
            rows = list(zip(columns["key"], columns["text"], columns["gone"], strict=True))
            seen = [*self.rows, *self.maybe]
            assert rows == [seen[offset][:3] for offset in frame.offsets().tolist()]
            skipped = set(range(self.reader_at, frame.next_offset)) - set(frame.offsets().tolist())
            assert not skipped or self.info.retention.is_compacted
            self.reader_at = frame.next_offset

    @rule()
    def ask_for_what_is_not_there(self) -> None:
        if self.first > 0:
            try:
                list(self.opened().batches(start=self.first - 1))
            except InputError:
                return
            raise AssertionError("it served what was deleted")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.files.heal()
            if self.reader is not None:
                self.reader.close()
            if self.log is not None:
                self.log.close()
            embedded.LogWriter, retention.COMPACT_BYTES_MIN = self.saved  # type: ignore[misc]
            shutil.rmtree(self.folder)


TestKeptLog = KeptLogMachine.TestCase
TestKeptLog.settings = settings(
    max_examples=4000 if IS_LONG else 120,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
