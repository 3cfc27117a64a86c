"""Local times and instants, in any zone that there is."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bourne.batch.local_time import (
    DAY_US,
    clocks_change,
    first_shown,
    instant_of,
    local_datetime,
    read_date,
    read_time,
    shown_at,
)
from bourne.errors import DefinitionError

ZONES = [zoneinfo.ZoneInfo(name) for name in sorted(zoneinfo.available_timezones())]
LORD_HOWE, APIA, TROLL = (
    zoneinfo.ZoneInfo(name) for name in ("Australia/Lord_Howe", "Pacific/Apia", "Antarctica/Troll")
)

local_times = st.datetimes(datetime(1973, 1, 1), datetime(2060, 1, 1))


@given(zone=st.sampled_from(ZONES), local=local_times)
@example(zone=LORD_HOWE, local=datetime(2024, 10, 6, 2, 15))
@example(zone=LORD_HOWE, local=datetime(2024, 4, 7, 1, 45))
@example(zone=APIA, local=datetime(2011, 12, 30, 12))
@example(zone=TROLL, local=datetime(2024, 3, 31, 2))
def test_a_local_time_is_reached_once(zone, local):
    at = first_shown(local, zone)
    assert shown_at(at, zone) >= local
    assert shown_at(at - 1, zone) < local
    later = first_shown(local + timedelta(minutes=7), zone)
    assert later >= at


@given(zone=st.sampled_from(ZONES), start=st.integers(10**14, 2 * 10**15))
def test_a_change_is_the_first_instant_of_another_offset(zone, start):
    change = clocks_change(zone, start, start + DAY_US)
    before = local_datetime(start, zone).utcoffset()
    if change is None:
        assert local_datetime(start + DAY_US, zone).utcoffset() == before
    else:
        assert local_datetime(change - 1, zone).utcoffset() == before
        assert local_datetime(change, zone).utcoffset() != before
        assert start < change <= start + DAY_US


@given(zone=st.sampled_from(ZONES), at=st.integers(0, 2 * 10**15))
def test_there_and_back(zone, at):
    assert instant_of(local_datetime(at, zone)) == at


def test_texts():
    assert read_time("06:30", where="x").isoformat() == "06:30:00"
    assert read_time("23:59:59", where="x").isoformat() == "23:59:59"
    assert read_date("2024-02-29", where="x") == date(2024, 2, 29)
    for text in ("6:30", "24:00", "12:60", "noon", "", "１２:００", "12:00:00:00"):
        with pytest.raises(DefinitionError, match="no time of the day"):
            read_time(text, where="x")
