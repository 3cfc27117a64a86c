"""The views of an app at work: round after round, each runner a step, side by side, until they are told to stop.

Invariants: a view that fails stands still; it neither stops the others nor hides its failure. A view over views steps
only when all that it reads reflect the same records of the logs below: so each of its commits is one state of the world.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bourne.app import error_log_name, late_log_name
from bourne.engine.compile import compile_circuit
from bourne.engine.kernels.stage import Databases
from bourne.engine.runner import Positions, ViewInput, ViewRunner
from bourne.engine.skipping import SideLogs
from bourne.errors import BourneError, Closed, LogLocked
from bourne.limits import EPOCH_ROWS_MAX, EPOCH_ROWS_MIN, POLL_INTERVAL_S
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.wake import Wake
from bourne.ports import Clock, Files
from bourne.sql.plan import BoundQuery
from bourne.views.catalog import Catalog, ViewInfo
from bourne.views.families import families, levels

# How often the views look into their logs though nobody told of an append: not every file system tells.
_LOOK_S: Final = 1.0

# How long a `stop` that cannot wake anybody may go unnoticed.
_STOP_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one view is while it runs. `rows` counts the records taken in since the run began.

    A view with a `failure` stands still; the others go on. If it could not even be restored, its lag is not known: 0.
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
        database: Databases,
        files: Files,
        clock: Clock,
        side_logs: Mapping[str, SideLogs] | None = None,
    ) -> None:
        """`side_logs` says which views may go on without some records, and where those go."""
        self._side_logs = side_logs or {}
        self._views = views
        self._bound = bound
        self._catalog = catalog
        self._database = database
        self._files = files
        self._clock = clock
        self._started: dict[str, ViewRunner] = {}
        self._is_closed = False
        self._mutex = threading.Lock()

    def start(self) -> tuple[dict[str, ViewRunner], dict[str, BourneError]]:
        """Return the runners of all views, starting those that are not yet, and why views have none.

        A view that failed is restored, to try again: what is wrong may have been put right. One that cannot be restored
        stands still, without a runner.

        Raises:
            LogLocked: another process runs a view.
            Closed: they were closed.
        """
        with self._mutex:
            refused: dict[str, BourneError] = {}
            for level in levels(self._views):
                for name in level:
                    if self._is_closed:
                        raise Closed("the views are closed", hint="open the data folder again")
                    try:
                        if name in self._started and self._started[name].failure is not None:
                            self._started.pop(name).close()
                        if name not in self._started:
                            self._started[name] = self._start(self._views[name])
                    except LogLocked:
                        raise
                    except BourneError as error:
                        refused[name] = error
            started = {name: self._started[name] for name in self._views if name in self._started}
            return started, refused

    def _start(self, view: ViewInfo) -> ViewRunner:
        query = self._bound[view.name]
        inputs = {each.name: each for each in view.inputs}
        return ViewRunner(
            lambda: compile_circuit(query, self._database, sql=view.sql, inputs=inputs, view=view.name),
            folder=view.folder,
            output=view.output,
            inputs=[ViewInput(each, self._folder(each)) for each in view.inputs],
            files=self._files,
            clock=self._clock,
            side_logs=self._side_logs.get(view.name),
        )

    def _folder(self, info: LogInfo) -> Path:
        view = self._views.get(info.name)
        return self._catalog.log_folder(info.name) if view is None else view.folder

    def catch_up(self, *, is_end: bool = False) -> int:
        """Take in all that was there at the call, and what it made of error logs; then raise the first failure.

        With `is_end`, nothing follows: all that waits for time to go on is complete.
        """
        runners, refused = self.start()
        until = {name: ends for runner in runners.values() for name, ends in self._log_ends(runner).items()}
        rounds = _Rounds(self._views, runners, refused)
        rows = 0
        with _pool(runners) as pool:
            is_due = True
            while is_due:
                while taken := sum(rounds.step(pool, until).values()):
                    rows += taken
                if is_end:
                    rows += sum(rounds.step(pool, until, is_end=True).values())
                rounds.settle()
                made = self._side_ends(runners.values(), until)
                is_due = any(until[log] != end for log, end in made.items())
                until |= made
        rounds.raise_first()
        return rows

    def _side_ends(self, runners: Iterable[ViewRunner], until: Positions) -> Positions:
        """Return where those of the logs end that views put records into."""
        names = {name(view) for view in self._side_logs for name in (error_log_name, late_log_name)}
        ends = {log: end for runner in runners for log, end in runner.ends().items()}
        return {log: end for log, end in ends.items() if log in names & until.keys()}

    def _log_ends(self, runner: ViewRunner) -> Positions:
        return {name: ends for name, ends in runner.ends().items() if name not in self._views}

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
        at once, any other after a fifth of a second at most.
        """
        runners, refused = self.start()
        rounds = _Rounds(self._views, runners, refused)
        failures = rounds.failures
        rows = dict.fromkeys(runners, 0)
        began = time.monotonic()
        failed = 0  # how many views are known to have failed
        is_due = True  # something may have come
        look_at = began  # when to look even if nobody told
        with _pool(runners) as pool, Wake(self._input_folders(), stop=stop) as wake:
            while not stop.is_set() and (
                len(failures) < len(self._views) or not (self._views or is_futile())
            ):
                fed = feed()
                has_looked = is_due or fed > 0
                taken: dict[str, int] = {}
                if has_looked:
                    look_at = time.monotonic() + _LOOK_S
                    taken = rounds.step(pool, None)
                for name, count in taken.items():
                    rows[name] += count
                is_due = fed > 0 or any(taken.values()) or len(failures) > failed
                failed = len(failures)
                if is_due:
                    if on_progress is not None:
                        on_progress(
                            [
                                *_progress(runners.values(), rows, failures, began),
                                *(Progress(name, 0, 0.0, 0, why) for name, why in refused.items()),
                            ]
                        )
                elif until_caught_up and not has_more() and not (has_looked and has_less()):
                    if has_looked:
                        break
                    is_due = True
                else:
                    told = wake.wait(
                        min(POLL_INTERVAL_S if until_caught_up else _STOP_LOOK_S, self._until_due(runners))
                    )
                    is_due = told or time.monotonic() >= look_at or not self._until_due(runners)
        rounds.settle()
        rounds.raise_first()

    def _until_due(self, runners: Mapping[str, ViewRunner]) -> float:
        """Return for how many seconds nothing happens just because time goes on."""
        found = [due for runner in runners.values() if (due := runner.due_us()) is not None]
        return max(0.0, (min(found) - self._clock.now_us()) / 1e6) if found else _LOOK_S

    def _input_folders(self) -> list[Path]:
        """Return the folders of all partitions of the logs that the views follow."""
        logs = {each.name: each.partitions for view in self._views.values() for each in view.inputs}
        return [
            partition_folder(self._catalog.log_folder(name), number)
            for name, partitions in logs.items()
            if name not in self._views
            for number in range(partitions)
        ]

    def release(self, log: str) -> None:
        """Let the views of a log, of those that are started, save their state, so that its older records may go."""
        for name, runner in list(self._started.items()):
            if any(each.name == log for each in self._views[name].inputs):
                runner.release()

    def closers(self) -> Iterable[Callable[[], None]]:
        """Return what closes each runner; none is started any more."""
        self._is_closed = True
        with self._mutex:
            return [runner.close for runner in self._started.values()]


def _pool(runners: Collection[object]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, min(len(runners), os.cpu_count() or 1)))


def _progress(
    runners: Iterable[ViewRunner], rows: Mapping[str, int], failures: Mapping[str, BourneError], began: float
) -> list[Progress]:
    seconds = max(time.monotonic() - began, 1e-9)
    return [
        Progress(each.name, rows[each.name], rows[each.name] / seconds, each.lag(), failures.get(each.name))
        for each in runners
    ]


class _Rounds:
    """Steps all views once, those that others read before those. `failures` are what made views stand still."""

    def __init__(
        self,
        views: Mapping[str, ViewInfo],
        runners: Mapping[str, ViewRunner],
        refused: Mapping[str, BourneError],
    ) -> None:
        self._views = views
        self._runners = runners
        self._levels = levels(views)
        self._families = families(views)
        self._epoch_rows = dict.fromkeys(range(len(self._families)), EPOCH_ROWS_MIN)
        self.failures = dict(refused)

    def step(
        self, pool: ThreadPoolExecutor, until: Positions | None, *, is_end: bool = False
    ) -> dict[str, int]:
        """Return how many records each view took in, of those of the logs up to `until`; `is_end`: nothing follows.

        Without `until`, it is where each log ends now: so views of one log come to one position, unless they lag behind.
        """
        until = self._ends() if until is None else until
        targets: dict[str, Positions] = {}
        for number, family in enumerate(self._families):
            names = [name for name in family if name not in self.failures]
            if len(family) > 1 and names:
                target = self._target(number, names, until, is_end=is_end)
                targets |= dict.fromkeys(names, target)
        taken: dict[str, int] = {}
        for level in self._levels:
            names = [name for name in level if not self._stands_still(name)]
            outcomes = pool.map(lambda name: self._step(name, targets.get(name), until, is_end=is_end), names)
            for name, outcome in zip(names, outcomes, strict=True):
                if isinstance(outcome, BourneError):
                    self.failures[name] = outcome
                else:
                    taken[name] = outcome
        return taken

    def _ends(self) -> Positions:
        """Return where each log ends."""
        found: Positions = {}
        for name, runner in self._runners.items():
            if name not in self.failures:
                found = runner.ends() | found
        return {log: end for log, end in found.items() if log not in self._views}

    def settle(self) -> None:
        """Wait until what the views took in is durable."""
        for name, runner in self._runners.items():
            try:
                runner.settle()
            except BourneError as error:
                self.failures.setdefault(name, error)

    def raise_first(self) -> None:
        """Raise the first failure, if there is one, with a note of the others."""
        if self.failures:
            failure = next(iter(self.failures.values()))
            for name, other in list(self.failures.items())[1:]:
                failure.add_note(f"view {name!r} stands still, too: {other.what}")
            raise failure

    def _stands_still(self, name: str) -> bool:
        """Say whether a view, or one that it reads, has failed."""
        inputs = [each.name for each in self._views[name].inputs if each.name in self._views]
        return name in self.failures or any(self._stands_still(each) for each in inputs)

    def _step(
        self, name: str, target: Positions | None, until: Positions, *, is_end: bool
    ) -> int | BourneError:
        runner = self._runners[name]
        try:
            ends = runner.ends()
            if target is None:
                bounds = {log: until[log] for log in ends}
                return runner.step(until=bounds, is_end=is_end, may_run_ahead=True)
            reached = {log: target.get(log, end) for log, end in ends.items()}
            # In one commit: one state of the world.
            return runner.step(until=reached, is_whole=True, is_end=is_end)
        except BourneError as error:
            return error

    @staticmethod
    def _within_causes(target: Positions, runners: Iterable[ViewRunner]) -> Positions:
        """Return a target that all views can reach together: none before what its author had seen."""
        before = None
        while target != before:
            before = target
            for runner in runners:
                own = {log: target[log] for log in runner.ends() if log in target}
                target = {**target, **runner.within_causes(own)}
        return target

    def _target(self, number: int, names: Sequence[str], until: Positions, *, is_end: bool) -> Positions:
        """Return the position in each log that all views of a family are to reach in this round.

        It is one epoch after the furthest of them: after a crash some are further than others.
        """
        runners = [self._runners[name] for name in names]
        reached: dict[str, list[tuple[int, ...]]] = {}
        ends: Positions = {}
        for runner in runners:
            for log, at in runner.positions.items():
                if log not in self._views:
                    reached.setdefault(log, []).append(at)
                    ends[log] = until[log]
        furthest = {
            log: tuple(map(max, *found)) if len(found) > 1 else found[0] for log, found in reached.items()
        }
        tables = {each.name for name in names for each in self._views[name].inputs if each.table is not None}
        share = max(1, self._epoch_rows[number] // max(1, sum(len(end) for end in ends.values())))
        target: Positions = {}
        for log, last in ends.items():
            parts = [max(at, min(at + share, end)) for at, end in zip(furthest[log], last, strict=True)]
            target[log] = last if log in tables else tuple(parts)  # a version of a table is never split
        target = target if is_end else self._within_causes(target, runners)
        is_full = any(
            to - at == share for log in target for to, at in zip(target[log], furthest[log], strict=True)
        )
        self._epoch_rows[number] = (
            min(2 * self._epoch_rows[number], EPOCH_ROWS_MAX) if is_full else EPOCH_ROWS_MIN
        )
        return target
