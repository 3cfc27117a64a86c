"""The views of an app at work: round after round, each runner a step, side by side, until they are told to stop.

Invariants: a view that fails stands still; it neither stops the others nor hides its failure. A view over views steps
only when all that it reads reflect the same records of the logs below: so each of its commits is one state of the world.
New versions run beside those that are served, until they take their place.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bourne.app import error_log_name, late_log_name
from bourne.building import Builds
from bourne.engine.compile import compile_circuit
from bourne.engine.kernels.stage import Databases
from bourne.engine.runner import Positions, ViewInput, ViewRunner
from bourne.engine.skipping import SideLogs
from bourne.errors import BourneError, Closed, LogLocked
from bourne.limits import POLL_INTERVAL_S
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.wake import Wake
from bourne.ports import Clock, Files
from bourne.rounds import Rounds
from bourne.sql.plan import BoundQuery
from bourne.views.catalog import ViewInfo
from bourne.views.families import levels
from bourne.views.serving import Build, Outcome
from bourne.views.versions import Lineup, Versions

# How often the views look into their logs though nobody told of an append: not every file system tells.
_LOOK_S: Final = 1.0

# How long a `stop` that cannot wake anybody may go unnoticed.
_STOP_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one view is while it runs. `rows` counts the records taken in since the run began.

    A view with a `failure` stands still; the others go on. If it could not even be restored, its lag is not known: 0.
    `is_new`: it is of a version that is being built, and not served yet.
    """

    view: str
    rows: int
    rows_per_s: float
    lag_records: int
    failure: BourneError | None = None
    is_new: bool = False


class Runners:
    """The runners of the views that are to run, each started (its lock taken, its state restored) when first needed."""

    def __init__(
        self, versions: Versions, database: Databases, files: Files, clock: Clock,
        side_logs: Callable[[ViewInfo, BoundQuery], SideLogs] = lambda view, query: SideLogs(),
    ) -> None:  # fmt: skip
        """`versions` says what is to run, `side_logs` where records go that a view goes on without."""
        self._versions = versions
        self._side_logs = side_logs
        self._database = database
        self._files = files
        self._clock = clock
        self._lineup = Lineup()
        self._started: dict[str, ViewRunner] = {}
        self._is_closed = False
        self._mutex = threading.Lock()

    def start(self) -> tuple[dict[str, ViewRunner], dict[str, BourneError]]:
        """Return the runners of all views, starting those that are not yet, and why views have none; by their keys.

        A view that failed is restored, to try again: what is wrong may have been put right. One that cannot be restored
        stands still, without a runner. What is not to run any more ends.

        Raises:
            LogLocked: another process runs a view.
            Closed: they were closed.
        """
        with self._mutex:
            lineup = self._versions.lineup()
            is_other = lineup.views.keys() != self._lineup.views.keys()
            self._lineup = lineup
            for key in [key for key in self._started if key not in lineup.views]:
                self._started.pop(key).close()
            refused: dict[str, BourneError] = {}
            for level in levels(lineup.views):
                for key in level:
                    if self._is_closed:
                        raise Closed("the views are closed", hint="open the data folder again")
                    try:
                        if key in self._started and self._started[key].failure is not None:
                            self._started.pop(key).close()
                        if key not in self._started:
                            self._started[key] = self._start(lineup.views[key])
                    except LogLocked as error:
                        if not lineup.is_new(key):
                            raise
                        refused[key] = error
                    except BourneError as error:
                        refused[key] = error
            for build, why in lineup.refused:
                self._refuse(build, why)
            if is_other:
                self._versions.tidy()
            started = {key: self._started[key] for key in lineup.views if key in self._started}
            return started, refused

    def _refuse(self, build: Build, error: BourneError) -> None:
        """End a build whose versions cannot be run here, if nobody else runs these views, who may be able to."""
        lock = self._versions.lock_of(build)
        if lock is not None:
            raise LogLocked("another process runs the views of a build", where=str(lock.parent), pid=None)
        why = f"{error.what} ({error.where}: {error.found})"
        self._versions.end(Outcome(build.number, build.views, build.why, is_served=False, error=why))

    def _start(self, view: ViewInfo) -> ViewRunner:
        query = self._versions.query_of(view)
        inputs = {each.name: each for each in view.inputs}
        return ViewRunner(
            lambda: compile_circuit(query, self._database, sql=view.sql, inputs=inputs, view=view.name),
            folder=view.folder,
            output=view.output,
            inputs=[ViewInput(each, self._folder(each)) for each in view.inputs],
            files=self._files,
            clock=self._clock,
            side_logs=self._side_logs(view, query),
        )

    def _folder(self, info: LogInfo) -> Path:
        for view in self._lineup.views.values():
            if view.id == info.id:
                return view.folder
        return self._versions.catalog.log_folder(info.name)

    def catch_up(self, *, is_end: bool = False) -> int:
        """Take in all that was there at the call, and what it made of error logs, and serve new versions that have it; then
        raise the first failure."""
        work = self._work()
        until = {
            name: ends for runner in work.runners.values() for name, ends in self._log_ends(runner).items()
        }
        rounds = work.rounds
        rows = 0
        with _pool(work.runners) as pool, contextlib.closing(work.builds) as builds:
            is_due = True
            while is_due:
                while taken := sum(rounds.step(pool, until).values()):
                    rows += taken
                if is_end:
                    rows += sum(rounds.step(pool, until, is_end=True).values())
                rounds.settle()
                made = self._side_ends(work.runners.values(), until)
                is_due = any(until[log] != end for log, end in made.items())
                until |= made
            has_ended = builds.look(pool)
            while builds.are_comparing:
                builds.wait()
                has_ended |= builds.look(pool)
            has_ended |= builds.look(pool)
        rounds.raise_first(self._lineup.matters)
        if has_ended:
            self.start()
        return rows

    def _work(self) -> _Work:
        runners, refused = self.start()
        rounds = Rounds(self._lineup.views, runners, refused)
        return _Work(runners, refused, rounds, Builds(self._lineup, runners, rounds, self._versions.end))

    def _side_ends(self, runners: Iterable[ViewRunner], until: Positions) -> Positions:
        """Return where those of the logs end that views put records into."""
        views = self._lineup.views.values()
        names = {name(view.name) for view in views for name in (error_log_name, late_log_name)}
        ends = {log: end for runner in runners for log, end in runner.ends().items()}
        return {log: end for log, end in ends.items() if log in names & until.keys()}

    def _log_ends(self, runner: ViewRunner) -> Positions:
        names = {view.name for view in self._lineup.views.values()}
        return {name: ends for name, ends in runner.ends().items() if name not in names}

    def run(
        self,
        feed: Callable[[], int],
        has_more: Callable[[], bool],
        has_less: Callable[[], bool] = lambda: False,
        *,
        is_futile: Callable[[], bool] = lambda: False,
        until_caught_up: bool,
        on_progress: Callable[[list[Progress]], None] | None,
        stop: threading.Event,
    ) -> None:
        """Step, round after round, until `stop` is set, or nothing is left to do and to come.

        `feed` says how many records have come into the logs since it was last asked, `has_more` whether more can come,
        `has_less` whether something is still to be delivered, and `is_futile` whether nobody is left who could bring or take anything. In
        between it sleeps until a log is appended to, by whichever process. A `stop` that is a `WakingEvent` ends the sleep
        at once, any other after a fifth of a second at most. Versions that others begin to build are taken up meanwhile.
        """
        rows: dict[str, int] = {}
        began = time.monotonic()
        is_over = is_again = False
        while not is_over:
            work = self._work()
            rows |= {key: 0 for key in work.runners if key not in rows}
            is_over = self._run(work, rows, began, is_again, feed, has_more, has_less, is_futile=is_futile,
                                until_caught_up=until_caught_up, on_progress=on_progress, stop=stop)  # fmt: skip
            is_again = True
        work.rounds.raise_first(self._lineup.matters)

    def _run(
        self, work: _Work, rows: dict[str, int], began: float, is_again: bool, feed: Callable[[], int], has_more: Callable[[], bool],
        has_less: Callable[[], bool], *, is_futile: Callable[[], bool], until_caught_up: bool,
        on_progress: Callable[[list[Progress]], None] | None, stop: threading.Event,
    ) -> bool:  # fmt: skip
        """Step, until it is over, or other versions are to run (False). `is_again`: these are others, which is told."""
        rounds, runners = work.rounds, work.runners
        views, failures = self._lineup.views, rounds.failures
        failed = 0  # how many views are known to have failed
        is_due = True  # something may have come
        look_at = began  # when to look even if nobody told
        with (
            _pool(runners) as pool,
            contextlib.closing(work.builds) as builds,
            Wake(self._input_folders(), stop=stop) as wake,
        ):
            while not stop.is_set() and (len(failures) < len(views) or not (views or is_futile())):
                fed = feed()
                has_looked = is_due or fed > 0
                taken: dict[str, int] = {}
                if has_looked:
                    look_at = time.monotonic() + _LOOK_S
                    taken = rounds.step(pool, None)
                for key, count in taken.items():
                    rows[key] += count
                is_due = fed > 0 or any(taken.values()) or len(failures) > failed
                failed = len(failures)
                if (is_due or is_again) and on_progress is not None:
                    is_again = False
                    on_progress([
                        *self._progress(runners, rows, failures, began),
                        *(self._unstarted(key, why) for key, why in work.refused.items()),
                    ])  # fmt: skip
                if builds.look(pool) or self._versions.lineup() is not self._lineup:
                    rounds.settle()
                    return False
                if is_due:
                    continue
                if until_caught_up and not (
                    builds.are_comparing or has_more() or (has_looked and has_less())
                ):
                    if has_looked:
                        break
                    is_due = True
                else:
                    told = wake.wait(
                        min(POLL_INTERVAL_S if until_caught_up else _STOP_LOOK_S, self._until_due(runners))
                    )
                    is_due = told or time.monotonic() >= look_at or not self._until_due(runners)
        rounds.settle()
        return True

    def _progress(
        self, runners: Mapping[str, ViewRunner], rows: Mapping[str, int], failures: Mapping[str, BourneError], began: float
    ) -> list[Progress]:  # fmt: skip
        seconds = max(time.monotonic() - began, 1e-9)
        return [
            Progress(each.name, rows[key], rows[key] / seconds, each.lag(), failures.get(key), self._lineup.is_new(key))
            for key, each in runners.items()
        ]  # fmt: skip

    def _unstarted(self, key: str, why: BourneError) -> Progress:
        return Progress(self._lineup.views[key].name, 0, 0.0, 0, why, self._lineup.is_new(key))

    def _until_due(self, runners: Mapping[str, ViewRunner]) -> float:
        """Return for how many seconds nothing happens just because time goes on."""
        found = [due for runner in runners.values() if (due := runner.due_us()) is not None]
        return max(0.0, (min(found) - self._clock.now_us()) / 1e6) if found else _LOOK_S

    def _input_folders(self) -> list[Path]:
        """Return the folders of all partitions of the logs that the views follow."""
        views = self._lineup.views.values()
        names = {view.name for view in views}
        logs = {each.name: each.partitions for view in views for each in view.inputs}
        return [
            partition_folder(self._versions.catalog.log_folder(name), number)
            for name, partitions in logs.items()
            if name not in names
            for number in range(partitions)
        ]

    def release(self, log: str) -> None:
        """Let the views of a log, of those that are started, save their state, so that its older records may go."""
        views = self._lineup.views
        for key, runner in list(self._started.items()):
            if key in views and any(each.name == log for each in views[key].inputs):
                runner.release()

    def end(self) -> None:
        """Let all views go, which others may run then; `start` begins again."""
        with self._mutex:
            started, self._started = self._started, {}
            self._lineup = Lineup()
        for runner in started.values():
            runner.close()

    def closers(self) -> Iterable[Callable[[], None]]:
        """Return what closes each runner; none is started any more."""
        self._is_closed = True
        with self._mutex:
            return [runner.close for runner in self._started.values()]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is at work of a line-up."""

    runners: Mapping[str, ViewRunner]
    refused: Mapping[str, BourneError]
    rounds: Rounds
    builds: Builds


def _pool(runners: Collection[object]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, min(len(runners), os.cpu_count() or 1)))
