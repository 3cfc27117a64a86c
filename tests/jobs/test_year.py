"""A year of schedules: clocks that are turned, a leap day, deaths at any moment, long absences, clocks that are put right.

What is to come of it is found by brute force over every minute of the year (`batch/year_of_clocks`), by zoneinfo alone.
"""

from __future__ import annotations

import os
import random
import zlib

import pytest

from batch.year_of_clocks import MINUTE_US, year_of
from bourne.batch.cron import cron
from bourne.batch.scheduled import schedule
from bourne.batch.window import window
from bourne.jobs.noticing import time_key
from bourne.jobs.scheduler import Scheduler
from bourne.testing import SimulatedClock
from jobs.fakes import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Deaths,
    FakeLauncher,
    FakeWorld,
    Killed,
    kill,
    let_fires_die,
    some,
)

ZONES = ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "America/New_York", "Asia/Seoul"]
EXPRESSIONS = [
    "30 2 * * *",
    "0 0 * * *",
    "15 */8 * * *",
    "45 1 29 2 *",
    "0 3 * * SUN",
    "*/30 1,2 * * SUN",
    "0 0 1 * *",
]
IS_LONG = "BOURNE_LONG" in os.environ


class Year:
    """A scheduler that lives through a year in some zone, and is opened again whenever it died."""

    def __init__(self, folder, seed, policies):
        print("seed:", seed)
        self.folder = folder
        self.chance = random.Random(seed)
        self.zone = ZONES[seed % len(ZONES)]
        self.clocks = year_of(self.zone, 2024)
        self.clock = SimulatedClock(int(self.clocks.known_from) * MINUTE_US + self.chance.randrange(DAY))
        self.begin_us = self.clock.now_us()
        self.end = int(self.clocks.minutes[-1]) * MINUTE_US - 10 * DAY
        self.deaths = Deaths()
        self.launcher = FakeLauncher(self.clock, self.deaths, duration_us=_duration, on_work=self.check_work)
        self.night = window("22:30", "05:00", zone=self.zone)
        self.runs_max = 3
        self.schedules = [
            schedule(
                f"s{number}", "job", cron(expression, zone=self.zone), misfire=policies[number % len(policies)],
                grace="10 minutes", catch_up=None, parallel_max=1 + number % 2, priority=number % 3,
                window=self.night if number == 0 else None, after=["s1"] if number == 4 else [],
            )
            for number, expression in enumerate(self.chance.sample(EXPRESSIONS, 5))
        ]  # fmt: skip
        self.scheduler = None
        self.latest_us = 0

    def open(self):
        self.scheduler = Scheduler(
            self.folder, self.schedules, self.launcher, FakeWorld(), self.clock, runs_max=self.runs_max
        )
        self.scheduler.fires._database.execute("PRAGMA synchronous = OFF")  # nobody pulls a plug here

    def look(self):
        self.latest_us = max(self.latest_us, self.clock.now_us())
        while True:  # until the clock, or something else than a time, brings more
            self.scheduler.look()
            if self.scheduler.rest_s() > 0:
                return

    def die(self):
        kill(self.scheduler)
        if self.chance.random() < 0.6:
            self.launcher.lose()
        self.scheduler = None

    def step_us(self):
        """Return how far the clock goes, or is turned back: but never to before the schedules were first seen."""
        chance = self.chance
        step = some(
            chance,
            (0.30, lambda: chance.randrange(30 * MINUTE)),
            (0.45, lambda: chance.randrange(5 * HOUR)),
            (0.20, lambda: chance.randrange(14 * HOUR)),
            (0.02, lambda: chance.randrange(6 * DAY)),
            (0.04, lambda: -chance.choice([1, SECOND, 40 * MINUTE, 3 * HOUR, DAY])),
        )
        return max(step, self.begin_us - self.clock.now_us())

    def check_work(self, run):
        definition = next(each for each in self.schedules if each.name == run.key.split()[0])
        mine = [each for each in self.launcher.running() if each.key.split()[0] == definition.name]
        assert len(mine) <= definition.parallel_max, run
        assert len(self.launcher.running()) <= self.runs_max, run
        assert definition.is_open(self.clock.now_us()), run
        earlier = [
            at for each in definition.after for at in self.due[each] if at <= self.times[run.key.split()[1]]
        ]
        if earlier:
            before = self.launcher.begun(f"s1 {time_key(earlier[-1])}")
            assert before is not None and self.launcher.state(before) == "completed", run

    def due_from(self, begin_us):
        """Return by brute force when each schedule is due after an instant."""
        minutes = {each.name: self.clocks.cron(each.when.expression) for each in self.schedules}
        return {
            name: [int(each) * MINUTE_US for each in found if int(each) * MINUTE_US > begin_us]
            for name, found in minutes.items()
        }


def _duration(key):
    """A run takes what its key says: minutes, or hours, so that windows end in its middle."""
    number = zlib.crc32(key.encode())
    return (number % 40) * MINUTE if number % 3 else (number % 9) * HOUR


@pytest.mark.parametrize("seed", range(12) if IS_LONG else [0])
def test_each_fire_of_a_year_begins_one_run_whoever_is_killed(tmp_path, monkeypatch, seed):
    year = Year(tmp_path, seed, ["all"])
    let_fires_die(monkeypatch, year.deaths)
    year.due = year.due_from(year.begin_us)
    year.times = {time_key(at): at for times in year.due.values() for at in times}
    year.open()
    year.look()
    deaths = 0
    while year.clock.now_us() < year.end:
        year.clock.advance(year.step_us())
        if year.chance.random() < 0.15:
            year.deaths.moments_left = year.chance.randrange(12)
        try:
            if year.scheduler is None:
                year.open()
            year.look()
            if year.chance.random() < 0.05:
                year.scheduler.close()
                year.scheduler = None
        except Killed:
            deaths += 1
            year.die()
    year.deaths.moments_left = None
    year.clock.advance(2 * DAY)
    if year.scheduler is None:
        year.open()
    year.look()
    last_us = year.latest_us
    year.scheduler._notice = lambda now_us: None
    while year.scheduler.fires.open():  # what still waits is done in the days after
        year.clock.advance(HOUR)
        year.scheduler.look()
    year.scheduler.close()
    expected = [f"{name} {time_key(at)}" for name, times in year.due.items() for at in times if at <= last_us]
    print(deaths, "deaths,", len(expected), "fires")
    assert deaths > 20 and len(expected) > 100
    assert sorted(year.launcher.keys()) == sorted(expected)
    assert all(run.state == "completed" and run.begun == 1 for run in year.launcher.runs)


@pytest.mark.parametrize("seed", range(12) if IS_LONG else [1])
def test_each_policy_over_a_year_of_absences(tmp_path, monkeypatch, seed):
    year = Year(tmp_path, seed, ["once", "skip", "all"])
    year.launcher.on_work = lambda run: None
    year.open()
    year.look()
    due = year.due_from(year.begin_us)
    through = {each.name: year.begin_us for each in year.schedules}
    expected = {each.name: set() for each in year.schedules}
    while year.clock.now_us() < year.end:
        year.clock.advance(year.step_us())
        now = year.clock.now_us()
        for each in year.schedules:
            through[each.name] = min(through[each.name], now)
            times = [at for at in due[each.name] if through[each.name] < at <= now]
            missed = [at for at in times if now - at > 10 * MINUTE]
            wanted = {"once": missed[-1:], "skip": [], "all": missed}[each.misfire.policy]
            expected[each.name].update(wanted, (at for at in times if at not in missed))
            through[each.name] = now
        if year.scheduler is None:
            year.open()
        year.look()
        if year.chance.random() < 0.1:
            kill(year.scheduler)
            year.scheduler = None
    if year.scheduler is None:
        year.open()
    noted = {
        each.name: {fire.key for fire in year.scheduler.fires.listed(each.name, limit=10_000)}
        for each in year.schedules
    }
    year.scheduler.close()
    assert sum(len(keys) for keys in noted.values()) > 100
    assert noted == {name: {time_key(at) for at in times} for name, times in expected.items()}
