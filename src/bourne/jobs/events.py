"""Looking for events: files that have arrived, records that views reflect, runs that have ended.

Law: what is returned depends on what is there and on `through`, which is durable; an event that is returned twice has the
same key. So nothing is missed by a crash, and what is seen twice is noted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from bourne.batch.triggers import FileArrived, HttpCall, JobEnded, Trigger, ViewReached
from bourne.connect.stores import BucketFiles, Entry, LocalFiles, Store
from bourne.connect.urls import parse_url
from bourne.jobs.fires import New
from bourne.jobs.launcher import Launcher
from bourne.limits import FIRES_DUE_MAX


class World(Protocol):
    """Where events come from, beside the runs themselves."""

    def files(self, pattern: str) -> Store | None:
        """Return the files that a pattern names; None if it is a single one that is not there."""
        ...

    def records(self, view: str) -> int:
        """Return how many records of its inputs a view reflects. It never goes back, but by a new version of the view.

        Raises:
            UnknownName: there is no such view.
        """
        ...


class Seen(NamedTuple):
    """New events, and up to where it was looked."""

    fires: tuple[New, ...]
    through: int


class EventLooker:
    """Looks for the events of one schedule, and remembers which files it has seen."""

    def __init__(self, trigger: Trigger, world: World, launcher: Launcher) -> None:
        self._trigger: Final = trigger
        self._world = world
        self._launcher = launcher
        self._noted: set[str] = set()

    def begin(self) -> int:
        """Return where a schedule that was not there before begins: views and runs count from now on."""
        match self._trigger:
            case ViewReached(view, rows):
                return self._world.records(view) // rows * rows
            case JobEnded(job, _):
                return max((end.number for end in self._launcher.finished(job, 0)), default=0)
            case _:
                return 0

    def look(self, through: int, now_us: int) -> Seen:
        """Return what has happened. `noted` is to be called when it is durable."""
        match self._trigger:
            case FileArrived():
                return Seen(tuple(self._files(self._trigger, now_us)), through)
            case ViewReached(view, rows):
                reached = self._world.records(view) // rows * rows
                if reached <= through:
                    return Seen((), through)
                return Seen((New(f"{view} {reached}", now_us, {"view": view, "rows": reached}),), reached)
            case JobEnded(job, status):
                return self._ends(job, status, through, now_us)
            case HttpCall():
                return Seen((), through)

    def noted(self, seen: Seen) -> None:
        """Remember that these events are durable, so that their files are not shown again."""
        if isinstance(self._trigger, FileArrived):
            self._noted.update(fire.key for fire in seen.fires)

    def _ends(self, job: str, status: str | None, through: int, now_us: int) -> Seen:
        fires = []
        for end in self._launcher.finished(job, through):
            through = max(through, end.number)
            if status is None or end.status == status:
                details = {"job": job, "run": end.run, "status": end.status}
                fires.append(New(f"{job} {end.number}", now_us, details))
        return Seen(tuple(fires), through)

    def _files(self, trigger: FileArrived, now_us: int) -> Iterable[New]:
        store = self._world.files(trigger.pattern)
        entries = [] if store is None else store.entries()
        keys = {_file_key(entry): entry for entry in entries}
        self._noted &= keys.keys()  # what is gone need not be remembered
        settle_us = trigger.settle_us if store is not None and store.has_halves else 0
        count = 0
        for key, entry in keys.items():
            if key not in self._noted and now_us - entry.changed_us >= settle_us and count < FIRES_DUE_MAX:
                count += 1
                yield New(key, now_us, {"path": entry.path, "size": entry.size})


def _file_key(entry: Entry) -> str:
    return f"{entry.path} {entry.changed_us} {entry.size}"


def store_of(pattern: str) -> Store | None:
    """Return the files of this machine or of a bucket that a pattern names; None: a single one that is not there."""
    parts = parse_url(pattern)
    if parts.scheme == "s3":
        parts.check_options("endpoint", "region", "silence")
        return BucketFiles(parts)
    parts.check_options()
    store = LocalFiles(parts.path)
    return None if store.is_single and not Path(parts.path).exists() else store
