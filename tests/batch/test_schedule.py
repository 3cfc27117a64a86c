"""Intervals, and looking back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bourne.batch.local_time import instant_of
from bourne.batch.schedule import due_between, every, newest_until
from bourne.errors import DefinitionError

SECOND = 1_000_000


@given(
    seconds=st.integers(1, 100_000), start=st.none() | st.integers(0, 10**9), at=st.integers(0, 2 * 10**15)
)
def test_an_interval_is_counted_from_its_anchor(seconds, start, at):
    begin = None if start is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start)
    schedule = every(f"{seconds} seconds", start=begin)
    found = schedule.next_after(at)
    anchor = (start or 0) * SECOND
    assert found > at
    assert (found - anchor) % (seconds * SECOND) == 0
    if start is not None and at < anchor:
        assert found == anchor
    else:
        assert found - at <= seconds * SECOND


@given(seconds=st.integers(1, 5_000), after=st.integers(0, 10**12), span=st.integers(0, 10**11))
def test_the_newest_is_the_last_of_all(seconds, after, span):
    schedule = every(f"{seconds} seconds")
    if span // (seconds * SECOND) < 2_000:
        assert newest_until(schedule, after, after + span) == max(
            due_between(schedule, after, after + span), default=None
        )


def test_a_start_in_any_zone():
    schedule = every("1 day", start=datetime(2024, 1, 1, 5, tzinfo=timezone(timedelta(hours=5))))
    assert schedule.next_after(0) == instant_of(datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("interval", ["0.5 seconds", "0 seconds", "1 month", "soon", "-1 hour"])
def test_intervals_that_cannot_be(interval):
    with pytest.raises(DefinitionError):
        every(interval)


def test_a_start_without_a_zone_is_refused():
    with pytest.raises(DefinitionError, match="no time zone"):
        every("1 hour", start=datetime(2024, 1, 1))


def test_time_comes_to_an_end():
    assert every("1 hour").next_after(253_402_214_400_000_000) is None
