"""A launcher, a world and a death for the scheduler's tests. All time is a simulated clock's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bourne.connect.stores import Store
from bourne.errors import UnknownName
from bourne.jobs import scheduler as module
from bourne.jobs.events import store_of
from bourne.jobs.fires import Fires
from bourne.jobs.launcher import RunEnd
from bourne.jobs.scheduler import Scheduler
from bourne.testing import SimulatedClock

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Killed(BaseException):
    """The process is gone."""


class Deaths:
    """Kills at the n-th moment from now on: before or after something that lasts."""

    def __init__(self) -> None:
        self.moments_left: int | None = None

    def pass_by(self) -> None:
        if self.moments_left is not None:
            self.moments_left -= 1
            if self.moments_left < 0:
                self.moments_left = None
                raise Killed


@dataclass
class Run:
    """A run: how long it still takes, from when on it is at work, and how it is."""

    number: int
    job: str
    key: str
    params: Mapping[str, Any]
    left_us: int
    since_us: int
    state: str = "running"
    begun: int = 1
    went_on: int = 0


@dataclass
class FakeLauncher:
    """Runs that take a while and end. `on_work` is told of each run that begins or goes on."""

    clock: SimulatedClock
    deaths: Deaths = field(default_factory=Deaths)
    duration_us: Callable[[str], int] = lambda key: 0
    on_work: Callable[[Run], None] = lambda run: None
    fails: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.runs: list[Run] = []
        self._numbers: dict[str, int] = {}
        self._active: set[int] = set()
        self.ends: list[tuple[str, int, str]] = []
        self.refusals: list[Exception] = []

    def start(self, job: str, params: Mapping[str, Any], *, key: str) -> int:
        self.deaths.pass_by()
        if self.refusals:
            raise self.refusals.pop(0)
        if (number := self.begun(key)) is not None:
            run = self._run(number)
        else:
            run = Run(len(self.runs) + 1, job, key, dict(params), self.duration_us(key), self.clock.now_us())
            self.runs.append(run)
            self._numbers[key] = run.number
            self._active.add(run.number)
            self.on_work(run)
        self.deaths.pass_by()
        return run.number

    def begun(self, key: str) -> int | None:
        return self._numbers.get(key)

    def state(self, run: int) -> str:
        found = self._run(run)
        worked_us = max(0, self.clock.now_us() - found.since_us)
        if found.state == "running" and worked_us >= found.left_us:
            self.end(run, "failed" if found.key in self.fails else "completed")
        return found.state

    def stop(self, run: int) -> None:
        self.deaths.pass_by()
        found = self._run(run)
        if self.state(run) == "running":
            found.left_us -= max(0, self.clock.now_us() - found.since_us)
            found.state = "stopped"
        self.deaths.pass_by()

    def restart(self, run: int) -> int:
        self.deaths.pass_by()
        found = self._run(run)
        if self.state(run) != "running":
            found.state, found.since_us = "running", self.clock.now_us()
            self._active.add(run)
            found.went_on += 1
            self.on_work(found)
        self.deaths.pass_by()
        return run

    def finished(self, job: str, after: int) -> Iterable[RunEnd]:
        numbered = enumerate(self.ends, start=1)
        return [
            RunEnd(number, run, status)
            for number, (its, run, status) in numbered
            if its == job and number > after
        ]

    # --- what a test does ---------------------------------------------------------------------------------

    def end(self, run: int, state: str) -> None:
        found = self._run(run)
        found.state = state
        self.ends.append((found.job, run, state.upper()))

    def lose(self) -> None:
        """All runs die with their process."""
        for run in self.running():
            run.state = "lost"

    def running(self) -> list[Run]:
        self._active = {number for number in self._active if self.state(number) == "running"}
        return [self._run(number) for number in sorted(self._active)]

    def keys(self) -> list[str]:
        return [run.key for run in self.runs]

    def _run(self, number: int) -> Run:
        if not 1 <= number <= len(self.runs):
            raise UnknownName(f"no run {number}")
        return self.runs[number - 1]


class FakeWorld:
    """Real files, and views by their numbers."""

    def __init__(self) -> None:
        self.views: dict[str, int] = {}

    def files(self, pattern: str) -> Store | None:
        return store_of(pattern)

    def records(self, view: str) -> int:
        if view not in self.views:
            raise UnknownName(f"no view {view!r}")
        return self.views[view]


class MortalFires(Fires):
    """Fires that are written until the process dies, before or after a write."""

    deaths = Deaths()

    def note(self, *arguments: Any, **options: Any) -> int:
        self.deaths.pass_by()
        count = super().note(*arguments, **options)
        self.deaths.pass_by()
        return count

    def change(self, *arguments: Any, **options: Any) -> Any:
        self.deaths.pass_by()
        changed = super().change(*arguments, **options)
        self.deaths.pass_by()
        return changed


def let_fires_die(monkeypatch: Any, deaths: Deaths) -> None:
    """Let each scheduler of a test write to fires that may die."""
    monkeypatch.setattr(MortalFires, "deaths", deaths)
    monkeypatch.setattr(module, "Fires", MortalFires)


def kill(scheduler: Scheduler) -> None:
    """Leave a scheduler as a killed process does: the system closes its files, and that is all."""
    scheduler._fires.close()
    scheduler._lock.close()


def some(chance: random.Random, *choices: tuple[float, Callable[[], int]]) -> int:
    """Return what one of the choices gives, by their weights."""
    return chance.choices([give for _, give in choices], [weight for weight, _ in choices])[0]()
