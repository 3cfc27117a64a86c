"""A process with a scheduler, on a clock that is six hundred times as quick, and with runs that are rows of a database.

`python killed_scheduler.py FOLDER`: works until it is killed.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bourne.batch.cron import cron
from bourne.batch.schedule import every
from bourne.batch.scheduled import schedule
from bourne.jobs.events import store_of
from bourne.jobs.launcher import RunEnd
from bourne.jobs.scheduler import Scheduler

SPEED = 600
START_US = 1_711_846_000_000_000  # some hours before the clocks of Berlin are turned
SECOND = 1_000_000

SCHEDULES = [
    schedule("minutes", "job", every("1 minute"), misfire="all", catch_up=None, parallel_max=4),
    schedule("after", "job", every("2 minutes"), misfire="all", catch_up=None, parallel_max=2, after=["minutes"]),
    schedule("local", "job", cron("*/3 * * * *", zone="Europe/Berlin"), misfire="all", catch_up=None, priority=1),
]  # fmt: skip


class QuickClock:
    """Goes on while no process lives: it is counted from a moment that the folder holds."""

    def __init__(self, folder: Path) -> None:
        self._begin_ns = int((folder / "began").read_text())

    def now_us(self) -> int:
        return START_US + (time.time_ns() - self._begin_ns) // 1000 * SPEED


class StoredRuns:
    """A launcher whose runs die with their process. `begins` has a row whenever one is begun anew."""

    def __init__(self, path: Path, clock: Any) -> None:
        self._clock = clock
        self._mine = f"{os.getpid()} {time.time_ns()}"
        self._rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = FULL")
        self._rows.executescript(
            "CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, key TEXT UNIQUE, owner TEXT, ends INTEGER, state TEXT);"
            "CREATE TABLE IF NOT EXISTS begins (key TEXT)"
        )

    def start(self, job: str, params: Mapping[str, Any], *, key: str) -> int:
        self._rows.execute("BEGIN IMMEDIATE")
        known = self.begun(key)
        if known is None:
            ends = self._clock.now_us() + zlib.crc32(key.encode()) % 40 * SECOND
            new = "INSERT INTO runs (key, owner, ends, state) VALUES (?, ?, ?, 'running')"
            known = self._rows.execute(new, (key, self._mine, ends)).lastrowid
            self._rows.execute("INSERT INTO begins VALUES (?)", (key,))
        self._rows.execute("COMMIT")
        assert known is not None
        return known

    def begun(self, key: str) -> int | None:
        found = self._rows.execute("SELECT number FROM runs WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    def state(self, run: int) -> Any:
        owner, ends, state = self._rows.execute(
            "SELECT owner, ends, state FROM runs WHERE number = ?", (run,)
        ).fetchone()
        if state == "running" and owner != self._mine:
            return "lost"
        if state == "running" and self._clock.now_us() >= ends:
            self._rows.execute("UPDATE runs SET state = 'completed' WHERE number = ?", (run,))
            return "completed"
        return state

    def stop(self, run: int) -> None:
        self._rows.execute("UPDATE runs SET state = 'stopped' WHERE number = ? AND state = 'running'", (run,))

    def restart(self, run: int) -> int:
        self._rows.execute("UPDATE runs SET state = 'running', owner = ? WHERE number = ?", (self._mine, run))
        return run

    def finished(self, job: str, after: int) -> Iterable[RunEnd]:
        return []

    def all(self) -> list[Any]:
        return self._rows.execute("SELECT key, state FROM runs").fetchall()

    def begins(self) -> list[str]:
        return [key for (key,) in self._rows.execute("SELECT key FROM begins")]


class NoViews:
    files = staticmethod(store_of)

    def records(self, view: str) -> int:
        raise AssertionError(view)


def main(folder: Path) -> None:
    clock = QuickClock(folder)
    pace = threading.Event()
    scheduler = Scheduler(
        folder / "jobs", SCHEDULES, StoredRuns(folder / "runs.sqlite", clock), NoViews(), clock, runs_max=5,
        rest=lambda seconds: pace.wait(min(seconds / SPEED, 0.002)),
    )  # fmt: skip
    scheduler.look()
    print("looking", flush=True)
    scheduler.start()
    assert scheduler._thread is not None
    scheduler._thread.join()
    raise SystemExit(f"it stood still: {scheduler.failure}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
