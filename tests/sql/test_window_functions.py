"""What windows a record is in: compared with their definition, written out in Python."""

from __future__ import annotations

import functools
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.duck import connect
from bourne.schema import declare_schema
from bourne.sql.windows import rewrite_windows
from bourne.sql.zones import register_zones

RELATIONS = {"t": declare_schema({"at": "timestamp", "k": "integer"}, where="t")}
EPOCH = datetime(1970, 1, 1)
MONDAY = datetime(2000, 1, 3)

TIMES = st.datetimes(datetime(1950, 1, 1), datetime(2060, 1, 1))
UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


@functools.cache
def database() -> duckdb.DuckDBPyConnection:
    connection = connect()
    register_zones(connection)
    return connection


def windows(call: str, times: list[datetime], columns: str = "at") -> list[tuple[Any, ...]]:
    connection = database().cursor()
    connection.register("given", pa.table({"at": pa.array(times, pa.timestamp("us"))}))
    connection.execute('CREATE TEMP TABLE t AS SELECT "at", 1 AS k FROM given')
    sql = rewrite_windows(f"SELECT {columns}, window_start, window_end FROM {call}", RELATIONS).sql
    return sorted(connection.execute(sql).fetchall())


def start_of(time: datetime, width: timedelta, offset: timedelta = timedelta()) -> datetime:
    return MONDAY + offset + (time - MONDAY - offset) // width * width


WIDTHS = st.tuples(st.integers(1, 90), st.sampled_from(list(UNITS)))


@settings(max_examples=60, deadline=None)
@given(st.lists(TIMES, max_size=5), WIDTHS, st.integers(0, 100_000))
def test_tumble(times: list[datetime], width: tuple[int, str], offset: int) -> None:
    count, unit = width
    size, shift = timedelta(seconds=count * UNITS[unit]), timedelta(seconds=offset)
    found = windows(f"TUMBLE(t, at, INTERVAL {count} {unit}, offset => INTERVAL {offset} SECONDS)", times)
    expected = [(time, start_of(time, size, shift), start_of(time, size, shift) + size) for time in times]
    assert found == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(TIMES, max_size=5), WIDTHS, st.integers(1, 20))
def test_hop(times: list[datetime], slide: tuple[int, str], count: int) -> None:
    number, unit = slide
    step = timedelta(seconds=number * UNITS[unit])
    call = f"HOP(t, at, INTERVAL {number} {unit}, INTERVAL {number * count} {unit})"
    expected = [
        (time, start, start + count * step)
        for time in times
        for back in range(count)
        if (start := start_of(time, step) - back * step)
    ]
    assert windows(call, times) == sorted(expected)
    assert all(start <= time < end for time, start, end in expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(TIMES, max_size=5), WIDTHS, st.integers(1, 20))
def test_cumulate(times: list[datetime], step: tuple[int, str], count: int) -> None:
    number, unit = step
    part = timedelta(seconds=number * UNITS[unit])
    call = f"CUMULATE(t, at, INTERVAL {number} {unit}, INTERVAL {number * count} {unit})"
    expected = [
        (time, start, start + parts * part)
        for time in times
        for parts in range(1, count + 1)
        if time < (start := start_of(time, count * part)) + parts * part
    ]
    assert windows(call, times) == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 6))
def test_sessions(seconds: list[int], gap: int) -> None:
    times = [EPOCH + timedelta(seconds=second) for second in seconds]
    expected = []
    for second in seconds:
        start = end = second
        while near := [other for other in seconds if start - gap < other < start]:
            start = min(near)
        while near := [other for other in seconds if end < other < end + gap]:
            end = max(near)
        expected.append(tuple(EPOCH + timedelta(seconds=value) for value in (second, start, end + gap)))
    assert windows(f"SESSION(t, at, INTERVAL {gap} SECONDS PARTITION BY k)", times) == sorted(expected)
    assert windows(f"SESSION(t, at, INTERVAL {gap} SECONDS)", times) == sorted(expected)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("TUMBLE(t, at, INTERVAL 1 MONTH)", [("2024-02-01", "2024-03-01")]),
        ("TUMBLE(t, at, INTERVAL 1 YEAR)", [("2024-01-01", "2025-01-01")]),
        ("TUMBLE(t, at, INTERVAL 1 QUARTER)", [("2024-01-01", "2024-04-01")]),
        ("TUMBLE(t, at, INTERVAL 1 YEAR, offset => INTERVAL 3 MONTHS)", [("2023-04-01", "2024-04-01")]),
        ("HOP(t, at, INTERVAL 1 MONTH, INTERVAL 2 MONTHS)", [("2024-01-01", "2024-03-01"), ("2024-02-01", "2024-04-01")]),
        ("CUMULATE(t, at, INTERVAL 1 MONTH, INTERVAL 3 MONTHS)", [("2024-01-01", "2024-03-01"), ("2024-01-01", "2024-04-01")]),
        ("TUMBLE(t, at, INTERVAL 1 WEEK)", [("2024-02-26", "2024-03-04")]),
    ],
)  # fmt: skip
def test_calendar_units(call: str, expected: list[tuple[str, str]]) -> None:
    found = windows(call, [datetime(2024, 2, 29, 12)])
    assert [(str(start.date()), str(end.date())) for _, start, end in found] == expected


ZONES = ["Asia/Seoul", "America/New_York", "Europe/Berlin", "America/Havana", "America/St_Johns", "Pacific/Apia",
         "Australia/Lord_Howe", "Africa/Cairo", "America/Sao_Paulo", "Asia/Kathmandu", "UTC"]  # fmt: skip
LOCAL = {
    "days": "TUMBLE(t, at, INTERVAL 1 DAY, timezone => '{}')",
    "later": "TUMBLE(t, at, INTERVAL 1 DAY, timezone => '{}', offset => INTERVAL 6 HOURS)",
    "weeks": "TUMBLE(t, at, INTERVAL 1 WEEK, timezone => '{}')",
    "months": "TUMBLE(t, at, INTERVAL 1 MONTH, timezone => '{}')",
    "parts": "TUMBLE(t, at, INTERVAL 8 HOURS, timezone => '{}')",
}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("kind", list(LOCAL))
def test_local_windows_follow_each_other(zone: str, kind: str) -> None:
    times = [datetime(2006, 1, 1) + timedelta(minutes=37 * number) for number in range(15_000)]
    found = windows(LOCAL[kind].format(zone), times)
    assert all(start <= time < end for time, start, end in found)
    bounds = sorted({(start, end) for _, start, end in found})
    assert all(end == following for (_, end), (following, _) in itertools.pairwise(bounds))
    assert len(found) == len(times)


@pytest.mark.parametrize("zone", ZONES)
def test_a_local_day_begins_when_its_date_does(zone: str) -> None:
    times = [datetime(1998, 1, 1) + timedelta(hours=7 * number) for number in range(15_000)]
    for time, start, _ in windows(LOCAL["days"].format(zone), times):
        first, before, now = (
            each.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
            for each in (start, start - timedelta(microseconds=1), time)
        )
        assert before < first  # the first instant of its date
        assert first == now or zone == "America/St_Johns"  # whose clocks went back over midnight until 2011


@pytest.mark.parametrize(
    ("zone", "time", "hours"),
    [
        ("America/New_York", datetime(2024, 3, 10, 12), 23),
        ("America/New_York", datetime(2024, 11, 3, 12), 25),
        (
            "America/Havana",
            datetime(2024, 11, 3, 4, 30),
            25,
        ),  # its clocks go back from one o'clock to midnight
        ("America/Havana", datetime(2024, 3, 10, 12), 23),  # and from midnight on to one
        ("Australia/Lord_Howe", datetime(2024, 4, 7, 0), 24.5),
        ("Asia/Seoul", datetime(2024, 3, 10, 12), 24),
    ],
)
def test_a_day_with_a_change_of_clocks(zone: str, time: datetime, hours: float) -> None:
    ((_, start, end),) = windows(LOCAL["days"].format(zone), [time])
    assert end - start == timedelta(hours=hours)
    hourly = windows(f"CUMULATE(t, at, INTERVAL 1 HOUR, INTERVAL 1 DAY, timezone => '{zone}')", [start])
    assert [each for _, _, each in hourly][-1] == end
    assert len(hourly) == -(-hours // 1)


def test_local_hops_are_of_local_days() -> None:
    call = "HOP(t, at, INTERVAL 1 DAY, INTERVAL 3 DAYS, timezone => 'America/New_York')"
    found = windows(call, [datetime(2024, 3, 11, 12)])
    assert [str(start) for _, start, _ in found] == [
        "2024-03-09 05:00:00",
        "2024-03-10 05:00:00",
        "2024-03-11 04:00:00",
    ]
    assert [str(end) for _, _, end in found] == [
        "2024-03-12 04:00:00",
        "2024-03-13 04:00:00",
        "2024-03-14 04:00:00",
    ]


def test_instants_beside_those_of_python_and_none() -> None:
    connection = database()
    sql = """SELECT __local_window(t, 'Asia/Seoul', '1 days, 0', 0)::VARCHAR, __local_windows(t, 'Asia/Seoul', '1 days, 0', 2)
        FROM (VALUES (TIMESTAMP '0001-01-01 12:00'), (NULL), (TIMESTAMP '9999-12-31 12:00')) AS v(t)"""
    rows = connection.execute(sql).fetchall()
    assert [row[0] is None for row in rows] == [False, True, False]
    assert rows[2][0] == "9999-12-30 15:00:00"
    assert rows[1][1] is None
