"""Events while the scheduler is killed at any moment: files, views, ends of runs, calls. Each begins one run."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from bourne.batch.schedule import every
from bourne.batch.scheduled import schedule
from bourne.batch.triggers import file_arrived, http_call, job_ended, view_reached
from bourne.jobs.scheduler import Scheduler
from bourne.testing import SimulatedClock
from jobs.fakes import DAY, MINUTE, SECOND, Deaths, FakeLauncher, FakeWorld, Killed, kill, let_fires_die

SEEDS = range(30) if os.environ.get("BOURNE_LONG") else range(2)
START = 1_711_800_000 * SECOND


class Happenings:
    """What happens around a scheduler, at random, and what was acknowledged of it."""

    def __init__(self, folder, chance, deaths):
        self.chance, self.inbox = chance, folder / "in"
        self.inbox.mkdir()
        self.clock = SimulatedClock(START)
        self.launcher = FakeLauncher(self.clock, deaths, duration_us=lambda key: len(key) % 7 * MINUTE)
        self.world = FakeWorld()
        self.world.views["daily"] = 0
        self.files = set()
        self.calls = 0

    def happen(self):
        """Let something happen that needs no scheduler."""
        kind = self.chance.randrange(4)
        if kind == 0:
            path = self.inbox / f"{self.chance.randrange(8)}.csv"
            text = "x" * self.chance.randrange(1, 9)
            path.write_text(text)
            changed_us = self.clock.now_us()
            os.utime(path, ns=(changed_us * 1000, changed_us * 1000))
            self.files.add(f"files {path} {changed_us} {len(text)}")
        elif kind == 1:
            self.world.views["daily"] += self.chance.randrange(250)
        elif kind == 2 and (failed := [run for run in self.launcher.runs if run.state == "failed"]):
            self.launcher.restart(self.chance.choice(failed).number)
        elif kind == 3 and (running := [run for run in self.launcher.running() if run.job == "load"]):
            self.launcher.end(self.chance.choice(running).number, "failed")


@pytest.mark.parametrize("seed", SEEDS)
def test_each_event_begins_one_run_whoever_is_killed(tmp_path, monkeypatch, seed):
    print("seed:", seed)
    chance, deaths = random.Random(seed), Deaths()
    let_fires_die(monkeypatch, deaths)
    around = Happenings(tmp_path, chance, deaths)
    schedules = [
        schedule("load", "load", every("10 minutes"), misfire="all", catch_up=None, parallel_max=5),
        schedule("files", "file", file_arrived(f"{around.inbox}/*.csv", settle="0 seconds"), parallel_max=5),
        schedule("grown", "grown", view_reached("daily", rows=100), parallel_max=5),
        schedule("next", "next", job_ended("load"), parallel_max=5),
        schedule("called", "called", http_call("go"), parallel_max=5),
    ]  # fmt: skip

    def opened():
        return Scheduler(
            tmp_path / "jobs", schedules, around.launcher, around.world, around.clock, runs_max=20
        )

    scheduler, killed = opened(), 0
    scheduler.look()
    for step in range(400):
        if step < 300:
            armed, deaths.moments_left = chance.random() < 0.3, None
            around.happen()
            if armed:
                deaths.moments_left = chance.randrange(14)
        try:
            # The clock goes on before each look, so that a file changed twice has two times.
            around.clock.advance(chance.randrange(1, 4 * MINUTE) if step < 300 else MINUTE)
            scheduler = scheduler or opened()
            if step % 5 == 0 and step < 300:
                scheduler.call("go", request_id=str(around.calls))
                around.calls += 1  # acknowledged; else the same call is repeated later
            scheduler.look()
        except Killed:
            killed += 1
            kill(scheduler)
            scheduler = None
            if chance.random() < 0.5:
                around.launcher.lose()
    deaths.moments_left = None
    scheduler = scheduler or opened()
    scheduler.look()
    begun = Counter(run.job for run in around.launcher.runs)
    print(killed, "deaths", dict(begun))
    assert killed > 20 and min(begun.values()) > 20
    check(around)
    scheduler.close()


def check(around):
    launcher, keys = around.launcher, set(around.launcher.keys())
    assert len(keys) == len(launcher.runs)
    completed = [(job, status) == ("load", "COMPLETED") for job, _, status in launcher.ends]
    ends = [f"next load {number}" for number, fits in enumerate(completed, start=1) if fits]
    followed = {key for key in keys if key.startswith("next ")}
    assert set(ends[:-9]) <= followed <= set(ends)  # the last ones may have ended after the last look
    called = {key for key in keys if key.startswith("called ")}
    assert {f"called go {number}" for number in range(around.calls)} <= called
    assert called <= {f"called go {number}" for number in range(around.calls + 1)}
    reached = around.world.views["daily"] // 100 * 100
    assert f"grown daily {reached}" in keys
    files = {key for key in keys if key.startswith("files ")}
    there = [(path, path.stat()) for path in around.inbox.iterdir()]
    assert {f"files {path} {about.st_mtime_ns // 1000} {about.st_size}" for path, about in there} <= files
    assert files <= around.files


def test_events_are_looked_for_after_days_of_absence(tmp_path):
    around = Happenings(tmp_path, random.Random(1), Deaths())
    declared = [
        schedule("grown", "grown", view_reached("daily", rows=100)),
        schedule("next", "next", job_ended("load"), parallel_max=9),
    ]
    scheduler = Scheduler(
        tmp_path / "jobs", declared, around.launcher, around.world, around.clock, runs_max=9
    )
    scheduler.look()
    kill(scheduler)
    around.clock.advance(9 * DAY)
    around.world.views["daily"] = 530
    for number in range(3):
        around.launcher.end(around.launcher.start("load", {}, key=f"by hand {number}"), "completed")
    scheduler = Scheduler(
        tmp_path / "jobs", declared, around.launcher, around.world, around.clock, runs_max=9
    )
    scheduler.look()
    assert around.launcher.keys()[3:] == ["grown daily 500", "next load 1", "next load 2", "next load 3"]
    scheduler.close()
