"""The scheduler, one rule at a time: a simulated clock, real SQLite, runs that are numbers."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime

import pytest

from bourne.batch import misfire
from bourne.batch.cron import cron
from bourne.batch.local_time import instant_of
from bourne.batch.schedule import every
from bourne.batch.scheduled import schedule
from bourne.batch.triggers import file_arrived, http_call, job_ended, view_reached
from bourne.batch.window import window
from bourne.errors import (
    BourneError,
    Closed,
    DefinitionError,
    InputError,
    LogLocked,
    StorageError,
    UnknownName,
    Unreachable,
)
from bourne.jobs import calls, noticing
from bourne.jobs import scheduler as module
from bourne.jobs.scheduler import Scheduler
from bourne.testing import SimulatedClock
from jobs.fakes import DAY, HOUR, MINUTE, SECOND, FakeLauncher, FakeWorld, Killed, kill
from waiting import until

START = instant_of(datetime(2024, 3, 30, 12, tzinfo=UTC))


class Jobs:
    """A scheduler that can be opened again and again, with all around it."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = SimulatedClock(START)
        self.launcher = FakeLauncher(self.clock)
        self.world = FakeWorld()
        self.scheduler = None

    def open(self, *schedules, **options):
        self.scheduler = Scheduler(
            self.folder / "jobs", schedules, self.launcher, self.world, self.clock, **options
        )
        return self.scheduler

    def look(self, us=0):
        self.clock.advance(us)
        self.scheduler.look()
        return self.launcher.keys()

    def states(self):
        return [fire.state for fire in reversed(self.scheduler.fires.listed())]


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path)
    yield made
    if made.scheduler is not None:
        made.scheduler.close()


def test_a_run_begins_when_it_is_due_with_its_day(jobs):
    jobs.open(
        schedule(
            "load", "load_day", cron("30 2 * * *", zone="Europe/Berlin"), params=lambda at: {"day": at.date()}
        )
    )
    assert jobs.look() == []
    assert jobs.look(13 * HOUR - SECOND) == []
    # The clocks jump from 2:00 to 3:00 on that night: at 1:00 UTC.
    assert jobs.look(SECOND) == ["load 2024-03-31T01:00:00Z"]
    run = jobs.launcher.runs[0]
    assert run.job == "load_day" and run.params["day"].isoformat() == "2024-03-31"
    assert jobs.look(HOUR) == ["load 2024-03-31T01:00:00Z"]
    assert jobs.states() == ["done"]


def test_a_schedule_begins_when_it_is_first_seen(jobs):
    jobs.open(schedule("hourly", "job", every("1 hour"), misfire="all"))
    jobs.look()
    assert jobs.launcher.keys() == []


def test_one_that_is_declared_otherwise_begins_anew(jobs):
    jobs.open(schedule("s", "job", every("7 days"), misfire="all"))
    jobs.look()
    jobs.scheduler.close()
    jobs.clock.advance(6 * HOUR)
    jobs.open(schedule("s", "job", every("1 hour"), misfire="all"))
    assert jobs.look() == []
    assert len(jobs.look(HOUR)) == 1


@pytest.mark.parametrize(("policy", "runs"), [("once", 1), ("all", 5), ("skip", 0)])
def test_what_was_missed_while_nobody_looked(jobs, policy, runs):
    declared = schedule("s", "job", every("1 hour"), misfire=policy, parallel_max=9)
    jobs.open(declared, runs_max=9)
    jobs.look(MINUTE)
    jobs.scheduler.close()
    jobs.clock.advance(5 * HOUR + MINUTE)
    jobs.open(declared, runs_max=9)
    assert len(jobs.look()) == runs
    passed = jobs.scheduler.fires.passed_over()
    assert [(each.first_us, each.last_us) for each in passed] == {
        "once": [(START + HOUR, START + 4 * HOUR)], "all": [], "skip": [(START + HOUR, START + 5 * HOUR)],
    }[policy]  # fmt: skip


def test_a_clock_that_is_turned_back_doubles_nothing_and_misses_nothing(jobs):
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    assert len(jobs.look(HOUR)) == 1
    jobs.look(-HOUR // 2)
    assert len(jobs.look(HOUR // 2)) == 1
    assert len(jobs.look(HOUR)) == 2
    # It was years ahead, and is put right: what comes is due at its time.
    jobs.clock.advance(3000 * DAY + 5 * MINUTE)
    ahead = len(jobs.look())
    jobs.clock.advance(-3000 * DAY - 5 * MINUTE)
    assert len(jobs.look()) == ahead
    jobs.look(HOUR)
    assert jobs.launcher.keys()[-1] == "s 2024-03-30T15:00:00Z"
    kill(jobs.scheduler)
    jobs.clock.advance(-HOUR)
    jobs.open(schedule("s", "job", every("1 hour")))
    count = len(jobs.look())
    assert len(jobs.look(HOUR)) == count


def test_a_clock_that_was_put_right_stays_so_after_a_restart(jobs):
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    jobs.look(3000 * DAY)
    jobs.look(-3000 * DAY)
    kill(jobs.scheduler)
    jobs.clock.advance(90 * MINUTE)
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    assert "s 2024-03-30T13:00:00Z" in jobs.look(MINUTE)


def test_so_many_at_once(jobs):
    jobs.launcher.duration_us = lambda key: HOUR
    jobs.open(
        schedule("a", "job", every("1 minute"), parallel_max=2),
        schedule("b", "job", every("1 minute")),
        runs_max=2,
    )
    jobs.look()
    for _ in range(5):
        jobs.look(MINUTE)
    assert [run.key[0] for run in jobs.launcher.running()] == ["a", "b"]
    jobs.launcher.end(2, "completed")
    jobs.look()
    assert len(jobs.launcher.running()) == 2
    assert jobs.states().count("waiting") == 7


def test_the_highest_priority_first_then_the_oldest(jobs):
    jobs.open(
        schedule("low", "job", every("1 minute"), parallel_max=9),
        schedule("high", "job", every("2 minutes"), priority=5, parallel_max=9),
        runs_max=1,
    )  # fmt: skip
    jobs.look()
    jobs.clock.advance(MINUTE)
    for _ in range(5):
        jobs.look(MINUTE)
    begun = jobs.launcher.keys()
    assert begun == [
        "high 2024-03-30T12:02:00Z",
        "low 2024-03-30T12:01:00Z",
        "high 2024-03-30T12:04:00Z",
        "low 2024-03-30T12:02:00Z",
        "high 2024-03-30T12:06:00Z",
    ]


def test_a_window_pauses_a_run_and_the_next_night_goes_on(jobs):
    jobs.launcher.duration_us = lambda key: 6 * HOUR
    night = window("01:00", "05:00", zone="Europe/Berlin")
    jobs.open(schedule("s", "job", cron("0 23 * * *", zone="Europe/Berlin"), window=night))
    jobs.look()
    assert jobs.look(10 * HOUR) == []  # 23:00 in Berlin: noted, and waits
    assert jobs.states() == ["waiting"]
    assert len(jobs.look(2 * HOUR)) == 1  # 1:00
    jobs.look(3 * HOUR - SECOND)  # 4:59:59, an hour of the night is left out
    assert jobs.states() == ["started"]
    jobs.look(SECOND)
    assert jobs.states()[0] == "pausing" and jobs.launcher.running() == []
    jobs.look(HOUR)
    assert jobs.states()[0] == "paused"
    jobs.look(19 * HOUR)
    assert jobs.states() == ["started", "waiting"]
    jobs.look(4 * HOUR)
    assert jobs.states() == ["done", "waiting"]
    assert jobs.launcher.runs[0].went_on == 1


def test_a_run_that_somebody_stops_is_not_gone_on_with(jobs):
    jobs.launcher.duration_us = lambda key: HOUR
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    jobs.look(HOUR)
    jobs.launcher.stop(1)
    jobs.look(MINUTE)
    assert jobs.states() == ["stopped"]
    assert len(jobs.look(HOUR)) == 2


def test_closing_pauses_what_runs_and_opening_goes_on(jobs):
    jobs.launcher.duration_us = lambda key: HOUR
    declared = schedule("s", "job", every("1 hour"))
    jobs.open(declared)
    jobs.look()
    jobs.look(HOUR)
    jobs.scheduler.close()
    assert jobs.launcher.runs[0].state == "stopped"
    jobs.open(declared)
    jobs.look(MINUTE)
    assert jobs.states() == ["started"] and jobs.launcher.runs[0].went_on == 1


def test_a_run_whose_process_died_is_restarted_but_not_for_ever(jobs, monkeypatch):
    monkeypatch.setattr(module, "FIRE_LOST_MAX", 2)
    jobs.launcher.duration_us = lambda key: HOUR
    jobs.open(schedule("s", "job", every("7 days")))
    jobs.look()
    jobs.look(7 * DAY)
    for went_on in (1, 2):
        jobs.launcher.lose()
        jobs.look(SECOND)
        assert jobs.states() == ["started"] and jobs.launcher.runs[0].went_on == went_on
    jobs.launcher.lose()
    jobs.look(SECOND)
    assert jobs.states() == ["failed"]
    assert jobs.scheduler.fires.listed()[0].reason == "its process died 3 times"


def test_one_after_the_other(jobs):
    jobs.launcher.duration_us = lambda key: 10 * MINUTE
    jobs.launcher.fails.add("load 2024-03-30T14:00:00Z")
    jobs.open(
        schedule("report", "report", every("1 hour"), after=["load"], priority=9, parallel_max=9),
        schedule("load", "load", every("1 hour"), parallel_max=9),
        runs_max=9,
    )
    jobs.look()
    assert jobs.look(HOUR) == ["load 2024-03-30T13:00:00Z"]
    assert jobs.look(10 * MINUTE)[1:] == ["report 2024-03-30T13:00:00Z"]
    jobs.look(50 * MINUTE)
    jobs.look(10 * MINUTE)
    assert "report 2024-03-30T14:00:00Z" not in jobs.look(10 * MINUTE)
    # The next hour does not wait for the one that failed.
    jobs.look(40 * MINUTE)
    assert jobs.look(10 * MINUTE)[-1] == "report 2024-03-30T15:00:00Z"
    # Somebody restarts the run that failed.
    failed = next(run.number for run in jobs.launcher.runs if run.state == "failed")
    jobs.launcher.fails.clear()
    jobs.launcher.restart(failed)
    jobs.look(MINUTE)
    assert jobs.look(10 * MINUTE)[-1] == "report 2024-03-30T14:00:00Z"


def test_who_waits_for_one_that_failed_goes_on_when_it_is_skipped(jobs):
    jobs.launcher.fails.add("load 2024-03-30T13:00:00Z")
    jobs.open(
        schedule("load", "load", every("1 hour")), schedule("report", "report", every("1 hour"), after="load")
    )
    jobs.look()
    jobs.look(HOUR)
    assert len(jobs.look(MINUTE)) == 1
    fires = jobs.scheduler.fires
    assert fires.skip(fires.by_key("load", "2024-03-30T13:00:00Z").id, "not needed")
    assert len(jobs.look(MINUTE)) == 2


def test_it_waits_for_the_newest_that_is_not_later(jobs):
    """A weekly one that was done is not waited for again; one of the evening before is."""
    jobs.launcher.duration_us = lambda key: 2 * HOUR if key.startswith("load") else 0
    jobs.open(
        schedule("load", "load", cron("0 23 * * *")),
        schedule("report", "report", cron("30 0 * * *"), after="load"),
    )
    jobs.look()
    jobs.look(11 * HOUR)
    assert len(jobs.look(90 * MINUTE)) == 1
    assert len(jobs.look(30 * MINUTE)) == 2


def test_it_waits_for_what_is_not_even_noted_yet(jobs, monkeypatch):
    monkeypatch.setattr(misfire, "FIRES_DUE_MAX", 2)
    declared = [
        schedule("load", "load", every("1 hour"), misfire="all", parallel_max=9),
        schedule("report", "report", every("1 hour"), misfire="once", after="load"),
    ]
    jobs.open(*declared, runs_max=9)
    jobs.look()
    jobs.scheduler.close()
    jobs.clock.advance(5 * HOUR + 2 * MINUTE)
    jobs.open(*declared, runs_max=9)
    counts = [len(jobs.look()) for _ in range(4)]
    assert counts == [
        2,
        4,
        5,
        6,
    ]  # the loads come in parts, and the report of the last hour after that of the last hour
    assert jobs.launcher.keys()[-1].startswith("report")


def test_a_run_that_outlives_the_scheduler_is_known_to_the_next_one(jobs):
    """Killed after the launcher began it, and before that was noted: its window is over when the next scheduler comes."""
    jobs.launcher.duration_us = lambda key: DAY
    declared = [
        schedule("night", "job", cron("30 12 * * *"), window=window("12:00", "13:00")),
        schedule("s", "job", every("1 day")),
    ]
    jobs.open(*declared, runs_max=1)
    jobs.look()
    jobs.launcher.deaths.moments_left = 1
    with pytest.raises(Killed):
        jobs.look(30 * MINUTE)
    kill(jobs.scheduler)
    jobs.open(*declared, runs_max=1)
    assert jobs.states() == ["starting"]
    jobs.look(HOUR)
    assert jobs.states() == ["pausing"] and jobs.launcher.running() == []
    jobs.look(11 * HOUR)
    assert len(jobs.launcher.running()) == 1 and jobs.states() == ["paused", "started"]


def test_a_run_that_was_not_begun_waits_again(jobs):
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    jobs.launcher.deaths.moments_left = 0
    with pytest.raises(Killed):
        jobs.look(HOUR)
    kill(jobs.scheduler)
    jobs.open(schedule("s", "job", every("1 hour")), runs_max=1)
    assert jobs.states() == ["starting"]
    assert jobs.look() == ["s 2024-03-30T13:00:00Z"]


def test_each_file_once_and_again_when_it_has_changed(jobs, tmp_path):
    inbox = tmp_path / "in"
    inbox.mkdir()
    put(inbox / "a.csv", "1", START - HOUR)
    jobs.open(
        schedule("files", "load", file_arrived(f"{inbox}/*.csv", settle="5 seconds"), parallel_max=9,
                 params=lambda event: {"path": event.details["path"]}),
        runs_max=9,
    )  # fmt: skip
    jobs.look()
    assert [run.params for run in jobs.launcher.runs] == [{"path": str(inbox / "a.csv")}]
    put(inbox / "b.csv", "1", START - 3 * SECOND)
    put(inbox / "c.csv.tmp", "1", START - HOUR)
    assert len(jobs.look()) == 1  # it may be half-written
    assert len(jobs.look(2 * SECOND)) == 2
    declared = list(jobs.scheduler._schedules.values())
    jobs.scheduler.close()
    jobs.open(*declared, runs_max=9)
    assert len(jobs.look(HOUR)) == 2
    put(inbox / "a.csv", "2", START)
    assert len(jobs.look()) == 3


def put(path, text, changed_us):
    path.write_text(text)
    os.utime(path, ns=(changed_us * 1000, changed_us * 1000))


def test_a_file_that_is_not_there_yet(jobs, tmp_path):
    jobs.open(schedule("flag", "job", file_arrived(str(tmp_path / "ready"), settle="0 seconds")))
    assert jobs.look() == [] and jobs.scheduler.troubles == {}
    put(tmp_path / "ready", "", START)
    assert len(jobs.look()) == 1


def test_a_view_that_grows(jobs):
    jobs.world.views["daily"] = 250
    declared = schedule(
        "grown", "job", view_reached("daily", rows=100), params=lambda event: {"rows": event.details["rows"]}
    )
    jobs.open(declared)
    assert jobs.look() == []  # what it had before is no event
    jobs.world.views["daily"] = 299
    assert jobs.look() == []
    jobs.world.views["daily"] = 620
    assert jobs.look() == ["grown daily 600"]
    jobs.scheduler.close()
    jobs.open(declared)
    jobs.world.views["daily"] = 699
    assert len(jobs.look()) == 1
    jobs.world.views["daily"] = 700
    assert len(jobs.look()) == 2


def test_a_view_that_is_not_there_stops_no_other(jobs):
    jobs.open(schedule("grown", "job", view_reached("gone", rows=1)), schedule("s", "job", every("1 hour")))
    jobs.look()
    assert len(jobs.look(HOUR)) == 1
    assert list(jobs.scheduler.troubles) == ["grown"]
    assert jobs.scheduler.rest_s() == 1.0
    jobs.world.views["gone"] = 0
    jobs.look()
    assert jobs.scheduler.troubles == {}


def test_a_job_that_ended_whatever_the_order(jobs):
    launcher = jobs.launcher
    launcher.duration_us = lambda key: DAY
    for number in range(4):
        launcher.start("load", {}, key=f"by hand {number}")
    launcher.end(1, "completed")
    declared = schedule(
        "next", "next", job_ended("load"), params=lambda event: {"run": event.details["run"]}, parallel_max=9
    )
    jobs.open(declared, runs_max=9)
    jobs.look()  # what ended before is no event

    def followed():
        jobs.look()
        return [run.params["run"] for run in launcher.runs if run.job == "next"]

    assert followed() == []
    launcher.end(3, "completed")
    assert followed() == [3]
    launcher.end(2, "failed")
    jobs.scheduler.close()
    jobs.open(declared, runs_max=9)
    assert followed() == [3]
    launcher.end(2, "completed")  # restarted, and now well
    assert followed() == [3, 2]


def test_a_call_begins_one_run_however_often_it_is_repeated(jobs):
    declared = schedule(
        "called", "job", http_call("go"), params=lambda event: {"who": event.details["who"]}, parallel_max=9
    )
    jobs.open(declared, runs_max=9)
    jobs.look()
    first = jobs.scheduler.call("go", request_id="1", details={"who": "ann"})
    assert [fire.state for fire in first] == ["waiting"]
    jobs.look()
    again = jobs.scheduler.call("go", request_id="1", details={"who": "bo"})
    assert again[0].id == first[0].id and again[0].state == "started"
    jobs.scheduler.call("go", request_id="2", details={"who": "bo"})
    kill(jobs.scheduler)
    jobs.open(declared, runs_max=9)
    jobs.look()
    assert [run.params["who"] for run in jobs.launcher.runs] == ["ann", "bo"]
    with pytest.raises(UnknownName, match="no schedule waits"):
        jobs.scheduler.call("stop", request_id="1")
    with pytest.raises(InputError, match="needs an id"):
        jobs.scheduler.call("go", request_id="")
    with pytest.raises(InputError, match="not JSON"):
        jobs.scheduler.call("go", request_id="3", details={"who": object()})


def test_calls_are_told_to_come_again_when_too_many_wait(jobs, monkeypatch):
    monkeypatch.setattr(calls, "FIRES_WAITING_MAX", 2)
    jobs.open(schedule("called", "job", http_call("go")))
    for number in range(2):
        jobs.scheduler.call("go", request_id=str(number))
    with pytest.raises(BourneError, match="too many calls"):
        jobs.scheduler.call("go", request_id="9")
    assert jobs.scheduler.call("go", request_id="1")[0].state == "waiting"


def test_a_schedule_whose_fires_pile_up_stands_still(jobs, monkeypatch):
    monkeypatch.setattr(module, "FIRES_WAITING_MAX", 3)
    jobs.launcher.duration_us = lambda key: 100 * DAY
    jobs.open(schedule("s", "job", every("1 hour"), misfire="all", catch_up=None))
    jobs.look()
    for _ in range(9):
        jobs.look(HOUR)
    assert jobs.states() == ["started", "waiting", "waiting", "waiting"]
    assert jobs.scheduler.rest_s() > 0
    jobs.launcher.end(1, "completed")
    jobs.look()
    assert jobs.states().count("waiting") == 2
    jobs.look()
    assert len(jobs.states()) == 9  # all that came meanwhile: none was lost


def test_a_run_that_cannot_be_is_refused_at_once_and_one_that_cannot_be_now_is_tried_again(jobs, monkeypatch):
    monkeypatch.setattr(module, "FIRE_START_TRIES", 3)
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    jobs.launcher.refusals = [Unreachable("busy"), Unreachable("busy")]
    jobs.look(HOUR)
    assert jobs.states() == ["starting"] and "busy" in str(jobs.scheduler.troubles["s"])
    jobs.look()
    assert len(jobs.look()) == 1
    jobs.launcher.refusals = [InputError("no such parameter")]
    jobs.look(HOUR)
    assert jobs.states() == ["done", "failed"]
    assert jobs.scheduler.fires.listed()[0].reason == "no such parameter"
    jobs.launcher.refusals = [Unreachable("busy")] * 3
    jobs.look(HOUR)
    jobs.look()
    jobs.look()
    assert jobs.states() == ["done", "failed", "failed"]


def test_parameters_that_cannot_be_made_stop_no_other(jobs, monkeypatch):
    monkeypatch.setattr(module, "FIRE_START_TRIES", 2)
    jobs.open(
        schedule("bad", "job", every("1 hour"), params=lambda at: 1 / 0),
        schedule("good", "job", every("1 hour")),
    )
    jobs.look()
    assert jobs.look(HOUR) == ["good 2024-03-30T13:00:00Z"]
    assert "ZeroDivisionError" in str(jobs.scheduler.troubles["bad"])


def test_old_fires_are_forgotten_and_do_not_come_again(jobs, monkeypatch):
    monkeypatch.setattr(noticing, "FIRES_KEPT", 3)
    jobs.open(schedule("s", "job", every("1 hour")))
    jobs.look()
    for _ in range(10):
        jobs.look(HOUR)
    jobs.look(HOUR)
    assert len(jobs.scheduler.fires.listed()) < 6
    newest = jobs.scheduler.fires.listed()[0].id
    jobs.clock.advance(-9 * HOUR)
    for _ in range(9):
        jobs.look(HOUR)
    assert jobs.scheduler.fires.listed()[0].id == newest


def test_a_file_that_stays_is_remembered_and_calls_within_bounds(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(noticing, "FIRES_KEPT", 0)
    monkeypatch.setattr(noticing, "CALLS_KEPT", 2)
    put(tmp_path / "a.csv", "1", START - HOUR)
    declared = [
        schedule("files", "load", file_arrived(f"{tmp_path}/*.csv")),
        schedule("called", "job", http_call("go")),
    ]
    jobs.open(*declared)
    for number in range(4):
        jobs.scheduler.call("go", request_id=str(number))
        jobs.look(2 * HOUR)
    jobs.look(2 * HOUR)
    jobs.look(2 * HOUR)
    kill(jobs.scheduler)
    jobs.open(*declared)
    jobs.look()
    assert [fire.state for fire in jobs.scheduler.fires.listed("files")] == ["done"]
    assert [fire.key for fire in jobs.scheduler.fires.listed("called")] == ["go 3", "go 2"]
    assert jobs.scheduler.call("go", request_id="3")[0].state == "done"


def test_a_second_scheduler_is_refused(jobs):
    first = jobs.open(schedule("s", "job", every("1 hour")))
    with pytest.raises(LogLocked, match="another scheduler"):
        jobs.open(schedule("s", "job", every("1 hour")))
    first.close()
    jobs.open(schedule("s", "job", every("1 hour"))).look()
    with pytest.raises(Closed):
        first.look()


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: [schedule("a", "job", every("1 hour")), schedule("a", "job", every("2 hours"))], "one name"),
        (lambda: [schedule("a", "job", every("1 hour"), after=["b"])], "not there"),
        (lambda: [schedule("a", "job", every("1 hour"), after="b"), schedule("b", "job", every("1 hour"), after="a")], "circle"),
        (lambda: [schedule("a", "job", "0 2 * * *")], "no time and no event"),
        (lambda: [schedule("a b", "job", every("1 hour"))], "cannot be a schedule name"),
        (lambda: [schedule("a", "job", every("1 hour"), parallel_max=0)], "at once cannot be"),
        (lambda: [schedule("a", "job", every("1 hour"), params=7)], "no parameters"),
        (lambda: [schedule("a", "job", every("1 hour"), misfire="maybe")], "no such policy"),
        (lambda: [schedule("a", "job", view_reached("v", rows=0))], "number of records"),
        (lambda: [schedule("a", "job", file_arrived(""))], "which files"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(jobs, declare, says):
    with pytest.raises(DefinitionError, match=says):
        jobs.open(*declare())


def test_the_thread_looks_when_something_is_due_and_rests_between(jobs):
    rests = []
    gate = threading.Semaphore(0)

    def rest(seconds):
        rests.append(seconds)
        jobs.clock.advance(int(seconds * 1e6))
        gate.acquire(timeout=60)

    scheduler = jobs.open(schedule("s", "job", every("10 seconds")), rest=rest)
    scheduler.start()
    for _ in range(40):
        gate.release()
    until(lambda: len(rests) > 40, what="the rests")
    assert sum(rests) == pytest.approx(41, abs=0.1) and max(rests) <= 1.0
    assert len(jobs.launcher.keys()) == 4
    scheduler._is_closed = True
    gate.release()
    scheduler.close()


def test_a_call_wakes_the_thread(jobs):
    scheduler = jobs.open(schedule("called", "job", http_call("go")))
    scheduler.start()
    scheduler.call("go", request_id="1")
    until(lambda: jobs.launcher.keys() == ["called go 1"])


def test_a_disk_that_refuses_is_tried_again(jobs, monkeypatch):
    steps = []
    scheduler = jobs.open(schedule("s", "job", every("1 hour")), rest=steps.append)
    looked = scheduler.look
    failures = [StorageError("full"), StorageError("full")]

    def look():
        if failures:
            raise failures.pop()
        looked()

    monkeypatch.setattr(scheduler, "look", look)
    scheduler.start()
    until(lambda: len(steps) > 4)
    assert steps[:2] == [1.0, 1.0] and scheduler.failure is None
