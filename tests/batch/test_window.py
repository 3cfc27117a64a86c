"""Batch windows over a year: every minute against brute force."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from batch.year_of_clocks import MINUTE_US, year_of
from bourne.batch.days import WEEKDAYS
from bourne.batch.window import window
from bourne.errors import DefinitionError

DAYS = [date(2023, 12, 29) + timedelta(days=index) for index in range(373)]


def spans(zone: str, start: tuple[int, int], end: tuple[int, int], days: set[int]) -> list[tuple[int, int]]:
    """Return from which minute to which a window is open."""
    clocks, found = year_of(zone, 2024), []
    for day in (day for day in DAYS if day.weekday() in days):
        last = day if end > start else day + timedelta(days=1)
        opens, closes = clocks.at([day], *start), clocks.at([last], *end)
        if len(opens) and len(closes) and opens[0] < closes[0]:
            found.append((int(opens[0]), int(closes[0])))
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"])
@pytest.mark.parametrize(
    ("start", "end", "names"),
    [
        ((1, 0), (5, 0), WEEKDAYS),
        ((22, 0), (2, 30), WEEKDAYS),
        ((2, 0), (2, 30), WEEKDAYS),
        ((23, 30), (1, 45), ("saturday", "sunday")),
        ((0, 0), (0, 0), ("monday", "tuesday")),
    ],
)
def test_a_year_of_a_window(zone, start, end, names):
    opened = window("{:02}:{:02}".format(*start), "{:02}:{:02}".format(*end), zone=zone, days=names)
    expected = spans(zone, start, end, {WEEKDAYS.index(name) for name in names})
    clocks = year_of(zone, 2024)
    minutes = clocks.minutes[2 * 1440 : -3 * 1440]
    is_open = np.zeros(len(minutes) + 2, dtype=bool)
    for opens, closes in expected:
        is_open[max(0, opens - minutes[0]) : max(0, closes - minutes[0])] = True
    edges = [int(minutes[index]) for index in np.flatnonzero(np.diff(is_open[: len(minutes)])) + 1]
    for edge in edges:
        now_open = bool(is_open[edge - minutes[0]])
        assert opened.is_open(edge * MINUTE_US) == now_open
        assert opened.is_open(edge * MINUTE_US - 1) != now_open
    for opens, closes in itertools.pairwise(edges):
        if is_open[opens - minutes[0]]:
            assert opened.closes_after(opens * MINUTE_US) == closes * MINUTE_US
            assert opened.opens_after(opens * MINUTE_US - 1) == opens * MINUTE_US
        else:
            assert opened.closes_after(opens * MINUTE_US) is None
            assert opened.opens_after(opens * MINUTE_US) == closes * MINUTE_US
    chance = np.random.default_rng(7)
    for index in chance.integers(0, len(minutes) - 1, 200):
        assert opened.is_open(int(minutes[index]) * MINUTE_US) == is_open[index]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def test_midnight_is_an_end():
    evening = window("20:00", "24:00")
    assert evening.is_open(at("2024-01-01T23:59")) and not evening.is_open(at("2024-01-02T00:00"))


def test_whole_days_follow_each_other_without_closing():
    weekend = window("00:00", "24:00", days=["saturday", "sunday"])
    assert weekend.closes_after(at("2024-01-06T12:00")) == at("2024-01-08T00:00")
    assert weekend.opens_after(at("2024-01-06T12:00")) == at("2024-01-07T00:00")


@pytest.mark.parametrize(
    ("start", "end", "options", "says"),
    [
        ("1:00", "05:00", {}, "no time of the day"),
        ("01:00", "25:00", {}, "no time of the day"),
        ("01:00", "05:00", {"zone": "Nowhere"}, "no such time zone"),
        ("01:00", "05:00", {"days": []}, "never open"),
        ("01:00", "05:00", {"days": ["someday"]}, "no day of the week"),
    ],
)
def test_what_cannot_be_is_refused(start, end, options, says):
    with pytest.raises(DefinitionError, match=says):
        window(start, end, **options)
