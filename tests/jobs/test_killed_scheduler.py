"""kill -9 of a process with a scheduler, again and again: each fire has begun one run, and none was missed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bourne.batch.schedule import due_between
from bourne.jobs.noticing import time_key
from bourne.jobs.scheduler import Scheduler
from bourne.testing import SimulatedClock
from jobs.killed_scheduler import SCHEDULES, SECOND, NoViews, QuickClock, StoredRuns

KILLS = 100 if os.environ.get("BOURNE_LONG") else 5
SEED = int(os.environ.get("BOURNE_SEED", "1"))
PROGRAM = Path(__file__).with_name("killed_scheduler.py")


def test_killed_again_and_again(tmp_path):
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    (tmp_path / "began").write_text(str(time.time_ns()))
    for _ in range(KILLS):
        live_and_die(tmp_path, chance.uniform(0.0, 0.5), is_patient=chance.random() < 0.9)
    clock = SimulatedClock(QuickClock(tmp_path).now_us())
    runs = StoredRuns(tmp_path / "runs.sqlite", clock)
    end_us = clock.now_us()
    scheduler = Scheduler(tmp_path / "jobs", SCHEDULES, runs, NoViews(), clock, runs_max=100)
    scheduler.look()
    scheduler._notice = lambda now_us: None  # what is there already comes to its end, and nothing more
    while scheduler.fires.open():
        clock.advance(30 * SECOND)
        scheduler.look()
    fires = scheduler.fires.listed(limit=1_000_000)
    scheduler.close()
    assert len(fires) > 2 * KILLS  # as many as time has gone by: fewer on a quick machine
    for each in SCHEDULES:
        mine = sorted(fire.at_us for fire in fires if fire.schedule == each.name)
        assert mine == list(due_between(each.when, mine[0] - 1, end_us)), "one is missing"
    keys = sorted(f"{fire.schedule} {time_key(fire.at_us)}" for fire in fires)
    assert max(Counter(runs.begins()).values()) == 1, "a run was begun twice"
    assert sorted(runs.begins()) == sorted(key for key, _ in runs.all()) == keys
    assert {state for _, state in runs.all()} == {"completed"}


def live_and_die(folder: Path, seconds: float, *, is_patient: bool) -> None:
    """Run the scheduler, and kill it at some moment of its life, or of its birth."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(PROGRAM), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    if is_patient:
        assert process.stdout.readline() == b"looking\n", process.stderr.read().decode()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return
    raise AssertionError(f"it ended by itself: {process.stderr.read().decode()}")
