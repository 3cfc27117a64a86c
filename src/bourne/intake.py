"""The sources of an app at work, each on a thread of its own: what they hand over goes into their logs.

Law: a part and the source's position after it are one write, durable before the source is asked for more or told so. So
a crash costs time, never a record. A source keeps at most one part at a time: when the disk is slow, it waits, and with
it the other side.

A source whose other side is away waits and tries again, ever less often, and holds up nobody else. One that fails stands
still where it is; its failure is shown at once and raised when the run ends.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from bourne.connect.dead_letters import DeadLetters
from bourne.connect.source import Source, Taken
from bourne.connect.states import SourceState, StateFile
from bourne.errors import BourneError, SourceFailed, StorageError, Unreachable
from bourne.limits import CLOSE_WAIT_S, RETRY_S_MAX, RETRY_S_MIN, RETRY_UNTIL_CAUGHT_UP_S
from bourne.log.embedded import EmbeddedLog
from bourne.log.source_appends import SourceAppends
from bourne.ports import Files


@dataclass(frozen=True, slots=True)
class Feed:
    """A source, the log that it feeds, and where its dead letters go."""

    url: str
    source: Source
    log: EmbeddedLog
    dead_letters: DeadLetters


class Intake:
    """One source at work, from `start` to `stop`. `failure` says why it stands still, or waits."""

    def __init__(
        self,
        feed: Feed,
        state: StateFile[SourceState],
        *,
        files: Files,
        is_patient: bool,
        on_state: Callable[[SourceState], None] | None,
    ) -> None:
        """`is_patient`: the other side is waited for without end. `on_state` is told when it changes."""
        self.source = feed.source
        self.failure: BourneError | None = None
        self._feed = feed
        self._files = files
        self._is_patient = is_patient
        self._on_state = on_state
        self._state_file = state
        self._state = SourceState(feed.source.name, feed.url, feed.log.info.name, feed.source.delivery)
        self._stopping = threading.Event()
        self._is_caught_up = False
        self._records = 0
        self._told = 0
        self._thread = threading.Thread(target=self._work, name=f"source {feed.source.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def has_more(self) -> bool:
        """Say whether something is still to come that is there already, as far as is known."""
        return self._thread.is_alive() and not self._is_caught_up

    @property
    def has_failed(self) -> bool:
        """Say whether it stands still."""
        return self._state.state == "failed"

    def new_records(self) -> int:
        """Return how many records were appended since the last call."""
        records = self._records
        new, self._told = records - self._told, records
        return new

    # --- its thread --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._go_on_until_stopped()
        except BourneError as error:
            self.failure = error
            self._show("failed", error)
        except Exception as error:  # noqa: BLE001  (a thread's failure is raised by the run)
            self.failure = SourceFailed(
                f"source {self.source.name!r} failed",
                found=f"{type(error).__name__}: {error}",
                hint="please report this",
            )
            self.failure.__cause__ = error
            self._show("failed", self.failure)

    def _go_on_until_stopped(self) -> None:
        delay, waits_since = RETRY_S_MIN, None
        while True:
            before = self._records
            try:
                self._read()
                self._show("stopped" if self._stopping.is_set() else "ended")
                return
            except (Unreachable, StorageError) as error:
                now = time.monotonic()
                if self._records > before:
                    delay, waits_since = RETRY_S_MIN, None
                waits_since = waits_since or now
                if self._stopping.is_set() or not (
                    self._is_patient or now - waits_since < RETRY_UNTIL_CAUGHT_UP_S
                ):
                    raise
                self.failure = error
                self._show("waiting", error)
            # Spread a little, so that not everybody who was cut off comes back at the same moment.
            if self._stopping.wait(delay * random.uniform(0.8, 1.2)):
                self._show("stopped")
                return
            delay = min(2 * delay, RETRY_S_MAX)

    def _read(self) -> None:
        """Take in what comes, until the source ends or is stopped."""
        feed = self._feed
        with contextlib.closing(SourceAppends(feed.log, self.source.name, files=self._files)) as appends:
            positions = {partition: mark.position for partition, mark in appends.marks.items()}
            with contextlib.closing(_closable(self.source.read(appends.position, positions))) as parts:
                for taken in parts:
                    if self.failure is not None:
                        self.failure = None
                        self._show("running")
                    if taken is not None:
                        self._is_caught_up = False
                        self._take(taken, appends)
                    else:
                        self._notice_end()
                    self._show("running", is_due=False)
                    if self._stopping.is_set():
                        self.source.stop()

    def _notice_end(self) -> None:
        lag = self.source.lag()
        if not self._is_caught_up and 0 in (lag.records, lag.bytes):
            self._is_caught_up = True

    def _take(self, taken: Taken, appends: SourceAppends) -> None:
        """Append a part and its dead letters; then let the other side forget it.

        Raises:
            SourceFailed: there are more dead letters than were declared. Nothing of the part is kept.
        """
        letters, rows = self._feed.dead_letters, 0 if taken.rows is None else taken.rows.num_rows
        if not letters.rate.allows(rows, len(taken.dead)):
            first = taken.dead[0]
            raise SourceFailed(
                f"source {self.source.name!r} has too many records that cannot be taken in", where=first.origin,
                expected=str(letters.rate), found=f"{len(taken.dead):,} of {rows + len(taken.dead):,}; the first: {first.reason}",
                hint="mend the source or the log's columns, or allow more: dead_letters=…",
            )  # fmt: skip
        letters.put(taken.dead)
        self._records += appends.append(taken.rows, taken.position, partition=taken.partition)
        self.source.confirm(taken.position)

    def _show(self, state: str, error: BourneError | None = None, *, is_due: bool = True) -> None:
        """Say how it is, for `bourne status`: at once, or when it is time again."""
        if not is_due and not self._state_file.is_due():
            return
        lag = self.source.lag() if state == "running" else None
        before = self._state.state
        self._state = self._state.now(
            state, records=self._records, dead_letters=self._feed.dead_letters.count, lag=lag, error=error
        )
        self._state_file.write(self._state)
        if self._on_state is not None and state != before:
            self._on_state(self._state)

    # --- ending ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let it end with what it has taken in already. Does not wait."""
        self._stopping.set()
        self.source.stop()

    def join(self) -> None:
        """Wait until it has ended; not for ever, if the other side holds it up."""
        self._thread.join(CLOSE_WAIT_S)


def _closable(parts: Iterator[Taken | None]) -> Generator[Taken | None, None, None]:
    """Return a generator over the parts, so that closing it ends theirs."""
    yield from parts
