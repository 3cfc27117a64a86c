"""A year of cron in zones whose clocks are turned in all ways, against every minute walked by brute force."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from batch.year_of_clocks import MINUTE_US, year_of
from bourne.batch.cron import cron
from bourne.batch.local_time import instant_of
from bourne.batch.schedule import due_between, newest_until
from bourne.errors import DefinitionError

# Where clocks are turned at night; by half an hour; at midnight (so that a day begins at 1:00); for a month of the moon's
# year; not at all; and where a whole day is left out.
YEARS = [
    ("Europe/Berlin", 2024),
    ("America/New_York", 2023),
    ("Australia/Lord_Howe", 2024),
    ("America/Sao_Paulo", 2018),
    ("Africa/Casablanca", 2024),
    ("Asia/Seoul", 2024),
    ("Asia/Seoul", 1988),
    ("Pacific/Apia", 2011),
]

EXPRESSIONS = [
    "0 2 * * *",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "*/10 2 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "30 0 * * SUN",
    "0 12 29 2 *",
    "0 3 L * *",
    "0 2 1 * MON",
    "30 */2 * * *",
    "0 * * * *",
    "*/15 * * * *",
    "45 * * * *",
    "20 */3 * 3,4,10 SUN",
    "0 2 31 3 *",
]


def minutes_due(schedule, first, last):
    return [
        at // MINUTE_US for at in due_between(schedule, int(first) * MINUTE_US, int(last - 1) * MINUTE_US)
    ]


@pytest.mark.parametrize(("zone", "year"), YEARS)
def test_a_year_is_what_brute_force_finds(zone, year):
    clocks = year_of(zone, year)
    first, last = clocks.known_from, clocks.minutes[-1]
    for expression in EXPRESSIONS:
        expected = clocks.cron(expression)
        schedule = cron(expression, zone=zone)
        spans = [(first, last)]
        if len(expected) > 1500:  # often enough to look only at the days on which the clocks are turned
            spans = [(each - 1500, min(each + 1500, last)) for each in clocks.changes if each - 1500 > first]
        for start, end in spans:
            inside = expected[(expected > start) & (expected < end)]
            assert minutes_due(schedule, start, end) == inside.tolist(), expression


@pytest.mark.parametrize(("zone", "year"), YEARS)
def test_any_expression_asked_at_any_moment(zone, year):
    seed = f"{zone} {year}"
    print("seed:", seed)
    chance = random.Random(seed)
    clocks = year_of(zone, year)
    for _ in range(300 if os.environ.get("BOURNE_LONG") else 6):
        expression = any_expression(chance)
        schedule = cron(expression, zone=zone)
        due = clocks.cron(expression) * MINUTE_US
        for _ in range(12):
            if chance.random() < 0.7 and clocks.changes:
                near = chance.choice(clocks.changes) + chance.randint(-200, 200)
            else:
                near = chance.randint(int(clocks.known_from), int(clocks.minutes[-1]))
            at = near * MINUTE_US + chance.choice([0, 0, -1, 1, chance.randrange(MINUTE_US)])
            later, earlier = due[due > at], due[due <= at]
            if clocks.known_from * MINUTE_US < at and len(later):
                assert schedule.next_after(at) == later[0], (expression, at)
            if len(earlier):
                start = int(clocks.known_from) * MINUTE_US
                assert newest_until(schedule, start, at) == earlier[-1], (expression, at)


def any_expression(chance: random.Random) -> str:
    minute = chance.choice(["0", "30", "*/20", "5,35", str(chance.randrange(60)), "*/7", "10-50/13"])
    hour = chance.choice(
        ["*", "*/2", "*/5", "0", "1", "2", "3", "23", "0-3", "1,2", "2-4", str(chance.randrange(24))]
    )
    day = chance.choice(["*", "*", "*", "L", "31", "28-31", "1,15", "*/9", "30"])
    month = chance.choice(["*", "*", "*", "2,3,4,10,11", "12", "10"])
    weekday = chance.choice(["*", "*", "SUN", "MON-FRI", "0,6", "7", "FRI"])
    return (
        f"{minute} {hour} {day} {month} {weekday}" if day != "30" or month == "*" else any_expression(chance)
    )


def due_on(expression: str, zone: str, day: str, *, hours: int = 24) -> list[str]:
    """Return what the clocks show whenever it is due, from the beginning of a day on."""
    info = ZoneInfo(zone)
    start = instant_of(datetime.fromisoformat(day).replace(tzinfo=info))
    found = due_between(cron(expression, zone=zone), start - 1, start + hours * 60 * MINUTE_US - 1)
    return [datetime.fromtimestamp(at / 1e6, info).strftime("%H:%M%z") for at in found]


@pytest.mark.parametrize(
    ("expression", "zone", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2024-03-31", ["03:00+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2024-10-27", ["02:30+0200"]),
        ("*/20 2 * * *", "Europe/Berlin", "2024-03-31", ["03:00+0200"]),
        ("*/20 2 * * *", "Europe/Berlin", "2024-10-27", ["02:00+0200", "02:20+0200", "02:40+0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2024-03-31", ["03:00+0200"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-04", ["01:00-0200"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-07", ["01:45+1100"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-06", ["02:30+1100"]),
    ],
)
def test_a_named_time_is_due_neither_twice_nor_never(expression, zone, day, expected):
    assert due_on(expression, zone, day, hours=20) == expected


def test_a_star_goes_with_the_time_that_passes():
    assert due_on("*/30 * * * *", "Europe/Berlin", "2024-10-27", hours=5)[4:8] == [
        "02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100",
    ]  # fmt: skip
    assert due_on("*/30 * * * *", "Europe/Berlin", "2024-03-31", hours=3)[3:5] == ["01:30+0100", "03:00+0200"]
    # cronsim's own rules leave out the second 1:45 here.
    assert due_on("45 * * * *", "Australia/Lord_Howe", "2024-04-07", hours=3) == [
        "00:45+1100", "01:45+1100", "01:45+1030",
    ]  # fmt: skip


def test_leap_days():
    days = due_between(cron("0 12 29 2 *"), instant_of(datetime(2000, 3, 1, tzinfo=UTC)), 2**62)
    assert [datetime.fromtimestamp(next(days) / 1e6, UTC).year for _ in range(3)] == [2004, 2008, 2012]
    century = cron("0 12 29 2 *").next_after(instant_of(datetime(2096, 3, 1, tzinfo=UTC)))
    assert datetime.fromtimestamp(century / 1e6, UTC).year == 2104


def test_the_last_friday_and_the_second_monday():
    start = instant_of(datetime(2024, 1, 1, tzinfo=UTC))
    friday, monday = cron("0 0 * * 5L").next_after(start), cron("0 0 * * MON#2").next_after(start)
    assert datetime.fromtimestamp(friday / 1e6, UTC).date().isoformat() == "2024-01-26"
    assert datetime.fromtimestamp(monday / 1e6, UTC).date().isoformat() == "2024-01-08"


def test_time_comes_to_an_end():
    assert cron("0 0 * * *", zone="Europe/Berlin").next_after(253_402_214_400_000_000) is None
    assert cron("* * * * *", zone="Europe/Berlin").next_after(253_402_214_400_000_000) is None


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("0 0 30 2 *", "cannot be read"),
        ("0 0 31 4,6,9,11 *", "cannot be read"),
        ("61 * * * *", "cannot be read"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("", "five fields"),
        ("a b c d e", "cannot be read"),
        ("*/0 * * * *", "cannot be read"),
        ("5-1 * * * *", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(expression, says):
    with pytest.raises(DefinitionError, match=says) as error:
        cron(expression)
    assert error.value.where == f"cron({expression!r})"


@pytest.mark.parametrize("zone", ["Europe/Berlinn", "", "../etc/passwd", "europe/ber lin"])
def test_a_zone_that_is_none_is_refused(zone):
    with pytest.raises(DefinitionError, match="no such time zone"):
        cron("0 0 * * *", zone=zone)


def test_the_oracle_knows_a_year():
    """The oracle itself: a leap year has 366 midnights, and two of Berlin's days are not 24 hours long."""
    midnights = year_of("Europe/Berlin", 2024).cron("0 0 * * *")
    year = midnights[(midnights >= 28401060) & (midnights <= 28401060 + 366 * 1440)]
    assert len(year) == 367
    assert sorted(set(np.diff(year).tolist())) == [1380, 1440, 1500]
