"""Runs that are begun by schedules and requests, each in a thread of its own: the `Launcher` of the scheduler.

Law: a run's key is in the history in the same transaction as the run, before it does anything. Each fire is a run from the
beginning, also where its parameters are those of an earlier one; what goes on after a crash is `restart`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bourne.connect.stores import Store
from bourne.errors import JobCompleted, JobFailed, JobRunning
from bourne.jobs.events import store_of
from bourne.jobs.history import Run
from bourne.jobs.host import Host
from bourne.jobs.launcher import RunEnd, RunState
from bourne.position import parse_position
from bourne.schema import quote

if TYPE_CHECKING:
    from bourne.jobs.jobs import Jobs
    from bourne.jobs.runner import JobRun


class Launching:
    """Begins runs and does not wait for them. `close` asks them to stop, and waits."""

    def __init__(self, jobs: Jobs, on_end: Callable[[], Any]) -> None:
        """`on_end` is called when a run has ended."""
        self._jobs = jobs
        self._on_end = on_end
        self._mutex = threading.Lock()
        self._at_work: dict[int, tuple[JobRun, threading.Thread]] = {}
        self._stopping = threading.Event()

    # --- the launcher ------------------------------------------------------------------------------------

    def start(self, job: str, params: Mapping[str, Any], *, key: str) -> int:
        """Begin a run, or return the one of this key."""
        known = self.begun(key)
        if known is not None:
            return known
        return self._launch(lambda: self._jobs.prepare(job, params, trigger=f"schedule {key}", key=key))

    def begun(self, key: str) -> int | None:
        """Return the run of a key."""
        return self._jobs.history.run_of_key(key)

    def state(self, run: int) -> RunState:
        """Return how a run is, or the last one that went on with it."""
        last = self._last(run)
        if last.status == "STARTED":
            return "running"
        if last.status == "FAILED":
            return "lost" if last.died else "failed"
        return "completed" if last.status == "COMPLETED" else "stopped"

    def stop(self, run: int) -> None:
        """Ask a run to pause after its chunks at hand."""
        last = self._last(run)
        self._jobs.history.ask_to_stop(last.id)
        with self._mutex:
            found = self._at_work.get(last.id)
        if found is not None:
            found[0].stop()

    def restart(self, run: int) -> int:
        """Go on with a run, unless it runs; the number stays that of the first one."""
        with suppress(JobRunning, JobCompleted):
            self._launch(lambda: self._jobs.prepare_again(self._last(run).id))
        return run

    def finished(self, job: str, after: int) -> Iterable[RunEnd]:
        """Return the ends of a job's runs."""
        self._jobs.see_the_dead()
        return [RunEnd(*end) for end in self._jobs.history.ends(job, after)]

    # --- asked for by somebody ---------------------------------------------------------------------------

    def begin(self, job: str, params: Mapping[str, Any], *, trigger: str, again: bool = False) -> int:
        """Begin a run, and return its number. Raises: as `Jobs.start`, but what goes wrong later is in the history."""
        return self._launch(lambda: self._jobs.prepare(job, params, trigger=trigger, again=again))

    def go_on(self, run: int) -> int:
        """Go on with a run as a new one, and return the number of that. Raises: as `Jobs.restart`."""
        return self._launch(lambda: self._jobs.prepare_again(run))

    def stop_here(self, run: int) -> None:
        """Let a run of this process know at once that it is to stop; nothing if there is none of that number."""
        with self._mutex:
            found = self._at_work.get(run)
        if found is not None:
            found[0].stop()

    @property
    def at_work(self) -> int:
        """How many runs are at work."""
        with self._mutex:
            return len(self._at_work)

    # --- threads -----------------------------------------------------------------------------------------

    def _launch(self, prepare: Callable[[], JobRun]) -> int:
        work = prepare()
        number = work.lease.run.id

        def do() -> None:
            try:
                with suppress(JobFailed):  # it is in the history
                    work.work()
            finally:
                with self._mutex:
                    self._at_work.pop(number, None)
                self._on_end()

        thread = threading.Thread(target=do, name=f"bourne-run-{number}", daemon=True)
        with self._mutex:
            self._at_work[number] = (work, thread)
        thread.start()
        if self._stopping.is_set():
            work.stop()
        return number

    def _last(self, run: int) -> Run:
        self._jobs.see_the_dead()
        return self._jobs.history.last_of(run)

    def close(self) -> None:
        """Ask what is at work to stop after its chunks, and wait for that."""
        self._stopping.set()
        with self._mutex:
            at_work = list(self._at_work.values())
        for work, _ in at_work:
            work.stop()
        for _, thread in at_work:
            thread.join()


class AppWorld:
    """Where the events of schedules come from: files, and the app's views."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def files(self, pattern: str) -> Store | None:
        """Return the files that a pattern names."""
        return store_of(pattern)

    def records(self, view: str) -> int:
        """Return how many records of its logs a view reflects."""
        text = self._host.query(f"SELECT 1 FROM {quote(view)} LIMIT 0", together=True).position
        return sum(sum(offsets) for offsets in parse_position(text).values()) if text else 0
