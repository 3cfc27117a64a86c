"""Calendars: given days, business days, the n-th of a month; a year of them against brute force."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from batch.year_of_clocks import MINUTE_US, year_of
from bourne.batch.days import business_days, calendar
from bourne.batch.schedule import due_between
from bourne.errors import DefinitionError

HOLIDAYS = [date(2024, 1, 1), date(2024, 3, 29), date(2024, 5, 31), date(2024, 12, 25), date(2024, 12, 31)]
YEAR = [date(2024, 1, 1) + timedelta(days=index) for index in range(366)]


def is_business(day: date) -> bool:
    return day.weekday() < 5 and day not in HOLIDAYS


def nth_of_month(nth: int) -> list[date]:
    months = [[day for day in YEAR if day.month == month and is_business(day)] for month in range(1, 13)]
    return [month[nth if nth < 0 else nth - 1] for month in months if len(month) >= abs(nth)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Seoul", "Africa/Casablanca"])
@pytest.mark.parametrize("nth", [None, 1, -1, 22, 23])
def test_a_year_of_business_days(zone, nth):
    clocks = year_of(zone, 2024)
    schedule = calendar(business_days(holidays=HOLIDAYS, nth=nth), at=["02:15", "00:00"], zone=zone)
    days = [day for day in YEAR if is_business(day)] if nth is None else nth_of_month(nth)
    expected = sorted({int(each) for at in [(2, 15), (0, 0)] for each in clocks.at(days, *at)})
    first, last = expected[0] - 1, expected[-1]
    assert [at // MINUTE_US for at in due_between(schedule, first * MINUTE_US, last * MINUTE_US)] == expected


def test_the_last_business_day_of_the_month():
    schedule = calendar(business_days(holidays=HOLIDAYS, nth=-1), at="18:00")
    start = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp()) * 1_000_000
    found = due_between(schedule, start, start + 50 * 86_400_000_000)
    assert [datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in found] == [
        "2024-05-30T18:00:00+00:00"
    ]


def test_given_days_come_to_an_end():
    schedule = calendar(["2024-12-24", date(2024, 3, 1), "2024-03-01"], at="06:00")
    assert [datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in due_between(schedule, 0, 2**60)] == [
        "2024-03-01T06:00:00+00:00",
        "2024-12-24T06:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: calendar([], at="06:00"), "never due"),
        (lambda: calendar(["2024-01-01"], at=[]), "never due"),
        (lambda: calendar(["2024-02-30"], at="06:00"), "no date"),
        (lambda: calendar([datetime(2024, 1, 1)], at="06:00"), "no date"),
        (lambda: calendar(["2024-01-01"], at="6 o'clock"), "no time of the day"),
        (lambda: calendar(["2024-01-01"], at="24:00"), "no time of the day"),
        (lambda: calendar(["2024-01-01"], at="06:00", zone="Mars/Olympus"), "no such time zone"),
        (lambda: business_days(nth=0), "no day fits"),
        (lambda: business_days(nth=24), "no day fits"),
        (lambda: business_days(weekend=["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]), "no day fits"),
        (lambda: business_days(weekend=["caturday"]), "no day of the week"),
        (lambda: business_days(holidays=["soon"]), "no date"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(declare, says):
    with pytest.raises(DefinitionError, match=says):
        declare()
