"""New versions of views on their way to be served: when they have come up, how they compare, and that they take over.

Law: a version is served only when it has taken in all that the served one has, and its commits are durable. The rows of the two
are compared at one position, and from there on both take in the same records.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from bourne.engine.runner import Positions, ViewRunner
from bourne.errors import BourneError
from bourne.log.reader import LogReader
from bourne.rounds import Rounds
from bourne.views.catalog import ViewInfo
from bourne.views.compare import compare
from bourne.views.serving import Difference, Outcome
from bourne.views.status import output_ends
from bourne.views.versions import Building, Lineup


class Builds:
    """The builds of a line-up at work. For one thread at a time."""

    def __init__(
        self,
        lineup: Lineup,
        runners: Mapping[str, ViewRunner],
        rounds: Rounds,
        end: Callable[[Outcome], bool],
    ) -> None:
        """`end` notes how a build has ended."""
        self._rounds = rounds
        self._end = end
        self._works = [_Work(each, runners, rounds) for each in lineup.builds]

    @property
    def are_comparing(self) -> bool:
        """Say whether rows are being compared, on another thread, or were, as nobody has looked at yet."""
        return any(work.comparison is not None and not work.is_compared for work in self._works)

    def look(self, pool: ThreadPoolExecutor) -> bool:
        """Let each build go on as far as it can without waiting; say whether one has ended, so that others are to run."""
        has_ended = False
        for work in self._works:
            outcome = self._go_on(work, pool)
            if outcome is not None:
                self._end(outcome)
                has_ended = True
        return has_ended

    def _go_on(self, work: _Work, pool: ThreadPoolExecutor) -> Outcome | None:
        work.is_compared = work.comparison is not None and work.comparison.is_done
        failure = work.failure()
        if failure is not None:
            # A changed definition stays declared: who runs it is told, and it may be put right.
            return None if work.build.why == "change" else work.outcome(failure.what)
        if work.comparison is not None and not work.is_compared:
            return None
        if not work.has_come_up():
            return None
        self._level(work, pool)
        if work.failure() is not None or not work.has_come_up():
            return None
        if work.comparison is None and work.is_to_be_compared:
            if work.is_level():
                work.comparison = _Comparison(work.building)
                return None
            if work.is_old_at_work():
                return None  # the next round may bring them together
            if not work.build.accepts:
                return work.outcome(
                    "it cannot be compared: the served version stands still at another position"
                )
        if work.comparison is not None and work.comparison.failure is not None:
            return work.outcome(work.comparison.failure.what)
        if work.differs and not work.build.accepts:
            return work.outcome("the rows are not the same")
        return work.outcome(None)

    def _level(self, work: _Work, pool: ThreadPoolExecutor) -> None:
        """Bring all views to one position in the logs of the new ones, durably, as far as they can go.

        All: so that what is read together after the switch, of new versions and of other views, stands where it stood.
        """
        until, furthest = self._rounds.ends(), self._rounds.furthest()
        until |= {log: furthest[log] for log in work.logs() if log in furthest}
        while sum(self._rounds.step(pool, until).values()):
            pass
        self._rounds.settle()

    def wait(self) -> None:
        """Wait until all that is being compared is compared."""
        for work in self._works:
            if work.comparison is not None:
                work.comparison.wait()

    def close(self) -> None:
        """Let comparisons end. Safe to call twice."""
        for work in self._works:
            if work.comparison is not None:
                work.comparison.close()


class _Work:
    """One build at work."""

    def __init__(self, building: Building, runners: Mapping[str, ViewRunner], rounds: Rounds) -> None:
        self.building = building
        self.build = building.build
        self.comparison: _Comparison | None = None
        self.is_compared = False  # what was compared has been looked at
        self._rounds = rounds
        self._new = {key: runners[key] for key in building.views if key in runners}
        self._old: dict[str, ViewRunner] = {}
        self._stood: dict[str, Positions] = {}  # of served versions that do not run: where they stand
        for key, served in building.served.items():
            if served is None:
                continue
            if served.key in runners:
                self._old[key] = runners[served.key]
            else:
                self._stood[key] = committed_positions(served)
        if self.build.why == "replay":
            rounds.bounds |= {key: self._logs_of(key, at) for key, at in self._stood.items()}
        self._wanted: dict[str, Positions] = {
            key: self._logs_of(key, runner.ends()) for key, runner in self._new.items()
        }

    def _logs_of(self, key: str, positions: Positions) -> Positions:
        """Return which of the positions of a view are of logs, not of views."""
        views = {view.name for view in self.building.views.values()} | set(self._rounds.names)
        return {name: at for name, at in positions.items() if name not in views}

    def failure(self) -> BourneError | None:
        """Return why a new version cannot go on."""
        found = (self._rounds.failures.get(key) for key in self.building.views)
        return next((failure for failure in found if failure is not None), None)

    def is_old_at_work(self) -> bool:
        """Say whether all served versions go on, so that they can be brought to the position of the new ones."""
        return not self._stood and not any(self._rounds.stands_still(key) for key in self._served_keys())

    def _served_keys(self) -> list[str]:
        return [
            served.key
            for key, served in self.building.served.items()
            if served is not None and key in self._old
        ]

    def _served_positions(self, key: str) -> Positions:
        """Return where the served version of a view stands."""
        if key in self._old:
            return self._logs_of(key, self._old[key].positions)
        return self._logs_of(key, self._stood.get(key, {}))

    def has_come_up(self) -> bool:
        """Say whether the new versions have all that the served ones have, and what was there when they began to run here."""
        for key, runner in self._new.items():
            if self._rounds.stands_still(key):
                return False
            has, bound = runner.positions, self._rounds.bounds.get(key, {})
            for log, end in self._wanted[key].items():
                least = tuple(map(min, end, bound[log])) if log in bound else end
                if any(at < wanted for at, wanted in zip(has[log], least, strict=True)):
                    return False
            for log, at in self._served_positions(key).items():
                if log in has and any(mine < its for mine, its in zip(has[log], at, strict=True)):
                    return False
            ends = runner.ends()
            if any(has[name] != ends[name] for name in ends if name not in self._wanted[key]):
                return False  # a view below has told more
        return True

    def logs(self) -> set[str]:
        """Return the logs that the new versions read."""
        return {log for key, runner in self._new.items() for log in self._logs_of(key, runner.positions)}

    def is_level(self) -> bool:
        """Say whether each new version stands where its served one does."""
        return all(
            self._served_positions(key) == self._logs_of(key, runner.positions)
            for key, runner in self._new.items()
            if self.building.served[key] is not None
        )

    @property
    def is_to_be_compared(self) -> bool:
        """Say whether rows are to be compared before the new versions are served."""
        if self.build.why == "replay":
            return True
        return (
            self.build.why == "change"
            and self.is_old_at_work()
            and self.is_level()
            and bool(pairs(self.building))
        )

    @property
    def differs(self) -> bool:
        """Say whether a comparison has found other rows."""
        return any(each.gone or each.come for each in self._differences)

    @property
    def _differences(self) -> tuple[Difference, ...]:
        return () if self.comparison is None else tuple(self.comparison.found)

    def outcome(self, error: str | None) -> Outcome:
        """Return how the build ends: served, if there is no error."""
        return Outcome(
            self.build.number, self.build.views, self.build.why, error is None, self._differences, error
        )


class _Comparison:
    """Compares the rows of the versions of a build, as they are when this is made, on a thread of its own."""

    def __init__(self, building: Building) -> None:
        self.found: list[Difference] = []
        self.failure: BourneError | None = None
        self._is_over = threading.Event()
        ends = [(old, output_ends(old)[0], new, output_ends(new)[0]) for old, new in pairs(building)]
        self._thread = threading.Thread(target=self._run, args=(ends,), name="bourne-compare", daemon=True)
        self._thread.start()

    def _run(self, ends: list[tuple[ViewInfo, int, ViewInfo, int]]) -> None:
        try:
            for old, old_end, new, new_end in ends:
                difference = compare(old, old_end, new, new_end, self._is_over.is_set)
                if difference is not None:
                    self.found.append(difference)
        except BourneError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001  (a thread's failure is told by the build)
            self.failure = BourneError(f"the rows cannot be compared: {error!r}")

    @property
    def is_done(self) -> bool:
        """Say whether all are compared, or it has failed."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until all are compared, or it has failed."""
        self._thread.join()

    def close(self) -> None:
        """End. Safe to call twice."""
        self._is_over.set()
        self._thread.join()


def pairs(building: Building) -> list[tuple[ViewInfo, ViewInfo]]:
    """Return the served and the new version of each view of a build whose rows can be compared."""
    return [
        (served, building.views[key])
        for key, served in building.served.items()
        if served is not None and served.schema == building.views[key].schema
    ]


def committed_positions(view: ViewInfo) -> Positions:
    """Return where a version stands in its inputs, as committed."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
    finally:
        reader.close()
    if last is None:
        return {each.name: (0,) * each.partitions for each in view.inputs}
    return {name: tuple(at) for name, at in last.meta["positions"].items()}
