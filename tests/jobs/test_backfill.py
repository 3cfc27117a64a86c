"""A range of instances of a job: each once, whatever fails or is stopped meanwhile."""

from __future__ import annotations

import threading
from datetime import date

import pytest

import bourne
from bourne.batch import task
from bourne.errors import InputError
from bourne.jobs.backfill import values_between


def app_of(done: list[date], bad: set[date]) -> bourne.App:
    app = bourne.App("shop")

    def work(day: date) -> None:
        if day in bad:
            raise ValueError("no data yet")
        done.append(day)

    @app.job
    def load(day: date, *, note: str = ""):
        return task("load", lambda: work(day))

    return app


DAYS = values_between("2024-02-27", "2024-03-02")


def test_the_values_of_a_range():
    assert DAYS == ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
    assert values_between("-1", "2") == ["-1", "0", "1", "2"]
    assert values_between("7", "7") == ["7"]


@pytest.mark.parametrize(
    ("first", "last"),
    [("2", "1"), ("1", "x"), ("2024-01-01", "3"), ("2024-02-30", "2024-03-01"), ("1", "99999"), ("", "")],
)
def test_what_is_no_range_is_refused(first, last):
    with pytest.raises(InputError, match="range"):
        values_between(first, last)


@pytest.mark.parametrize("at_once", [1, 3])
def test_each_instance_is_done_once_though_some_fail_and_are_gone_on_with(tmp_path, at_once):
    done: list[date] = []
    bad = {date(2024, 2, 29)}
    app, told = app_of(done, bad), []
    with bourne.open(app, data=tmp_path / "data") as shop:
        first = shop.jobs.backfill("load", "day", DAYS, {"note": "x"}, at_once=at_once, on_end=told.append)
        assert [each.state for each in first] == [
            "completed",
            "completed",
            "failed",
            "completed",
            "completed",
        ]
        assert sorted(each.number for each in told) == [1, 2, 3, 4, 5]
        assert first[2].error is not None and "no data yet" in str(first[2].error)
        bad.clear()
        second = shop.jobs.backfill("load", "day", DAYS, at_once=at_once)
    assert [each.state for each in second] == [
        "was completed",
        "was completed",
        "completed",
        "was completed",
        "was completed",
    ]
    assert sorted(done) == [date.fromisoformat(day) for day in DAYS]


def test_a_value_that_does_not_fit_is_refused_before_anything_runs(tmp_path):
    done: list[date] = []
    with (
        bourne.open(app_of(done, set()), data=tmp_path / "data") as shop,
        pytest.raises(InputError, match="parameters"),
    ):
        shop.jobs.backfill("load", "day", ["2024-02-01", "the day after"])
    assert done == []


def test_a_backfill_that_is_stopped_goes_on_with_the_same_call(tmp_path):
    done: list[date] = []
    stop = threading.Event()
    with bourne.open(app_of(done, set()), data=tmp_path / "data") as shop:
        first = shop.jobs.backfill(
            "load", "day", DAYS, stop=stop, on_end=lambda each: stop.set() if each.number == 2 else None
        )
        assert [each.state for each in first] == ["completed", "completed", "stopped", "stopped", "stopped"]
        shop.jobs.backfill("load", "day", DAYS)
    assert done == [date.fromisoformat(day) for day in DAYS]
