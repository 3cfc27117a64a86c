"""The views of an app at work: each runner on its own thread, step by step, until they are told to stop.

Invariant: a view that fails stands still; it neither stops the others nor hides its failure.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from bourne.engine.circuit import compile_circuit
from bourne.engine.runner import ViewRunner
from bourne.errors import BourneError
from bourne.limits import POLL_INTERVAL_S
from bourne.log.catalog import partition_folder
from bourne.log.wake import Wake
from bourne.ports import Clock, Files
from bourne.sql.plan import BoundQuery
from bourne.views.catalog import Catalog, ViewInfo

# How often the views look into their logs though nobody told of an append: not every file system tells.
_LOOK_S: Final = 1.0

# How long a `stop` that cannot wake anybody may go unnoticed.
_STOP_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one view is while it runs. `rows` counts the records taken in since the run began.

    A view with a `failure` stands still; the others go on.
    """

    view: str
    rows: int
    rows_per_s: float
    lag_records: int
    failure: BourneError | None = None


class Runners:
    """The runners of some views, each started (its lock taken, its state restored) when first needed."""

    def __init__(
        self,
        views: Mapping[str, ViewInfo],
        bound: Mapping[str, BoundQuery],
        catalog: Catalog,
        database: duckdb.DuckDBPyConnection,
        files: Files,
        clock: Clock,
    ) -> None:
        self._views = views
        self._bound = bound
        self._catalog = catalog
        self._database = database
        self._files = files
        self._clock = clock
        self._started: dict[str, ViewRunner] = {}
        self._mutex = threading.Lock()

    def start(self) -> list[ViewRunner]:
        """Return all runners, starting those that are not yet.

        Raises:
            LogLocked: another process runs a view.
            ViewFailed, CorruptFrame, StorageError: a view cannot be restored.
        """
        with self._mutex:
            for name, view in self._views.items():
                if name not in self._started:
                    self._started[name] = self._start(view)
            return list(self._started.values())

    def _start(self, view: ViewInfo) -> ViewRunner:
        query = self._bound[view.name]
        return ViewRunner(
            lambda: compile_circuit(query, self._database, sql=view.sql, view=view.name),
            folder=view.folder,
            output=view.output,
            input_folder=self._catalog.log_folder(view.input.name),
            input_info=view.input,
            files=self._files,
            clock=self._clock,
        )

    def catch_up(self) -> int:
        """Take in all that was there at the call, every view; raise the first failure when all are done."""
        runners = self.start()
        with _pool(runners) as pool:
            futures = [pool.submit(_catch_up, runner) for runner in runners]
        return sum(future.result() for future in futures)

    def run(
        self,
        feed: Callable[[], int],
        has_more: Callable[[], bool],
        *,
        until_caught_up: bool,
        on_progress: Callable[[list[Progress]], None] | None,
        stop: threading.Event,
    ) -> None:
        """Feed and step, round after round, until `stop` is set, or nothing is left to do and to come.

        `feed` moves what has come into the logs and says how many records; `has_more` says whether more can come. In
        between it sleeps until a log is appended to, by whichever process; while sources are open, they are asked in
        intervals. A `stop` that is a `WakingEvent` ends the sleep at once, any other after a fifth of a second at most.
        """
        runners = self.start()
        failures: dict[str, BourneError] = {}
        rows = dict.fromkeys((runner.name for runner in runners), 0)
        began = time.monotonic()
        is_due = True  # something may have come
        look_at = began  # when to look even if nobody told
        with _pool(runners) as pool, Wake(self._input_folders(), stop=stop) as wake:
            while not stop.is_set() and (len(failures) < len(runners) or not runners):
                fed = feed()
                has_looked = is_due or fed > 0
                taken: dict[str, int | BourneError] = {}
                if has_looked:
                    look_at = time.monotonic() + _LOOK_S
                    taken = _step_all(pool, [runner for runner in runners if runner.name not in failures])
                for name, outcome in taken.items():
                    if isinstance(outcome, BourneError):
                        failures[name] = outcome
                    else:
                        rows[name] += outcome
                is_due = fed > 0 or any(taken.values())
                if is_due:
                    if on_progress is not None:
                        on_progress(_progress(runners, rows, failures, began))
                elif until_caught_up and not has_more():
                    if has_looked:
                        break
                    is_due = True
                else:
                    told = wake.wait(POLL_INTERVAL_S if has_more() else _STOP_LOOK_S)
                    is_due = told or time.monotonic() >= look_at
        for failure in failures.values():
            raise failure

    def _input_folders(self) -> list[Path]:
        """Return the folders of all partitions of the logs that the views follow."""
        inputs = {view.input.name: view.input.partitions for view in self._views.values()}
        return [
            partition_folder(self._catalog.log_folder(name), number)
            for name, partitions in inputs.items()
            for number in range(partitions)
        ]

    def release(self, log: str) -> None:
        """Let the views of a log, of those that are started, save their state, so that its older records may go."""
        for name, runner in list(self._started.items()):
            if self._views[name].input.name == log:
                runner.release()

    def closers(self) -> Iterable[Callable[[], None]]:
        """Return what closes each runner."""
        return [runner.close for runner in self._started.values()]


def _pool(runners: Sequence[ViewRunner]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, min(len(runners), os.cpu_count() or 1)))


def _progress(
    runners: Sequence[ViewRunner], rows: Mapping[str, int], failures: Mapping[str, BourneError], began: float
) -> list[Progress]:
    seconds = max(time.monotonic() - began, 1e-9)
    return [
        Progress(each.name, rows[each.name], rows[each.name] / seconds, each.lag(), failures.get(each.name))
        for each in runners
    ]


def _step_all(pool: ThreadPoolExecutor, runners: list[ViewRunner]) -> dict[str, int | BourneError]:
    """Run one epoch of each view, side by side; return how many records each took in, or its failure."""

    def step(runner: ViewRunner) -> int | BourneError:
        try:
            return runner.step()
        except BourneError as error:
            return error

    return dict(zip((r.name for r in runners), pool.map(step, runners), strict=True))


def _catch_up(runner: ViewRunner) -> int:
    """Step until everything that was there at the call is committed."""
    ends = runner.ends()
    rows = 0
    while any(at < end for at, end in zip(runner.positions, ends, strict=True)):
        rows += runner.step(until=ends)
    return rows
