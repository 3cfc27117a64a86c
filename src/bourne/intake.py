"""The sources of an app at work, each on a thread of its own: what they hand over goes into their logs.

Law: a part and the source's position after it are one write, durable before the source is asked for more or told so. So
a crash costs time, never a record. A source keeps at most one part at a time, and reads one ahead at most: when the disk
is slow, it waits, and with it the other side.

A source whose other side is away waits and tries again, ever less often, and holds up nobody else. One that fails stands
still where it is; its failure is shown at once and raised when the run ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from bourne.connect.dead_letters import DeadLetters
from bourne.connect.source import Source, Stored, Taken
from bourne.connect.states import SourceState, StateFile
from bourne.errors import BourneError, SourceFailed, StorageError, Unreachable
from bourne.log.at_work import take
from bourne.log.disk import disk_errors
from bourne.log.embedded import EmbeddedLog
from bourne.log.source_appends import SourceAppends
from bourne.ports import Files
from bourne.worker import Worker


@dataclass(frozen=True, slots=True)
class Feed:
    """A source, the log that it feeds, and where its dead letters go."""

    url: str
    source: Source
    log: EmbeddedLog
    dead_letters: DeadLetters


class Intake(Worker[SourceState]):
    """One source at work."""

    retried = (Unreachable, StorageError)  # a full disk may have room again

    def __init__(
        self, feed: Feed, state: StateFile[SourceState], *, files: Files, is_patient: bool,
        on_state: Callable[[SourceState], None] | None,
    ) -> None:  # fmt: skip
        """`is_patient`: the other side is waited for without end. `on_state` is told when it changes."""
        now = SourceState(feed.source.name, feed.url, feed.log.info.name, feed.source.delivery)
        super().__init__(f"source {feed.source.name!r}", now, state, is_patient=is_patient, on_state=on_state)
        self.source = feed.source
        self._feed = feed
        self._files = files
        self._is_caught_up = False
        self._records = 0
        self._told = 0

    @property
    def has_more(self) -> bool:
        """Say whether something is still to come that is there already, as far as is known."""
        return self.is_alive and not self._is_caught_up

    def new_records(self) -> int:
        """Return how many records were appended since the last call."""
        records = self._records
        new, self._told = records - self._told, records
        return new

    def stop(self) -> None:
        """Let it end with what it has taken in already. Does not wait."""
        super().stop()
        self.source.stop()

    # --- its thread --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let `bourne status` see that it is at work, also while it waits. Two of a kind the log keeps apart."""
        path = self._state_file.path.with_suffix(".lock")
        with disk_errors(path, f"cannot run {self._what}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = take(path)
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _work(self) -> None:
        """Take in what comes, until the source ends or is stopped."""
        feed = self._feed
        with contextlib.closing(SourceAppends(feed.log, self.source.name, files=self._files)) as appends:
            positions = {partition: mark.position for partition, mark in appends.marks.items()}
            with contextlib.closing(_closable(self.source.read(appends.position, positions))) as parts:
                for taken in parts:
                    if taken is None:
                        self._notice_end()
                    else:
                        self._is_caught_up = False
                        self._take(taken, appends)
                    self._runs()
                    if self._stopping.is_set():
                        self.source.stop()

    def _notice_end(self) -> None:
        lag = self.source.lag()
        if not self._is_caught_up and 0 in (lag.records, lag.bytes):
            self._is_caught_up = True

    def _take(self, taken: Taken | Stored, appends: SourceAppends) -> None:
        """Append a part and its dead letters; then let the other side forget it. Count what is in the log already.

        Raises:
            SourceFailed: there are more dead letters than were declared. Nothing of the part is kept.
        """
        if isinstance(taken, Stored):
            self._records += taken.records
            return
        letters, rows = self._feed.dead_letters, 0 if taken.rows is None else taken.rows.num_rows
        if not letters.rate.is_within(rows, len(taken.dead)):
            first = taken.dead[0]
            raise SourceFailed(
                f"source {self.source.name!r} has too many records that cannot be taken in", where=first.origin,
                expected=str(letters.rate), found=f"{len(taken.dead):,} of {rows + len(taken.dead):,}; the first: {first.reason}",
                hint="mend the source or the log's columns, or allow more: dead_letters=…",
            )  # fmt: skip
        letters.put(taken.dead)
        self._records += appends.append(taken.rows, taken.position, partition=taken.partition)
        letters.rate.count(rows, len(taken.dead))  # only now: a part that is tried again counts once
        self.source.confirm(taken.position)

    def _progress(self) -> object:
        return self._records

    def _now(self, state: str, error: BourneError | None) -> SourceState:
        lag = self.source.lag() if state == "running" else None
        dead = self._feed.dead_letters.count
        return self._state.now(state, records=self._records, dead_letters=dead, lag=lag, error=error)

    def _failed(self, found: str) -> BourneError:
        return SourceFailed(f"{self._what} failed", found=found, hint="please report this")


def _closable(parts: Iterator[Taken | Stored | None]) -> Generator[Taken | Stored | None, None, None]:
    """Return a generator over the parts, so that closing it ends theirs."""
    yield from parts
