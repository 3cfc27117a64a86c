"""Missed times: each policy against what it says, over any span and any bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bourne.batch import misfire as module
from bourne.batch.misfire import Misfire, due, misfire
from bourne.batch.schedule import due_between, every
from bourne.errors import DefinitionError

SECOND = 1_000_000
HOURLY = every("1 hour")
HOUR = 3600 * SECOND

moments = st.integers(0, 60 * HOUR)
bounds = st.none() | st.integers(0, 70 * HOUR)


@given(last=moments, now=moments, grace=st.integers(0, 5 * HOUR), policy=st.sampled_from(module.POLICIES),
       age=bounds, count=st.none() | st.integers(1, 9))  # fmt: skip
def test_each_time_is_due_or_passed_over(last, now, grace, policy, age, count):
    found = due(HOURLY, Misfire(policy, grace, age if count is None else None, count), last, now)
    times = list(due_between(HOURLY, last, now))
    missed = [at for at in times if now - at > grace]
    if policy == "skip":
        wanted = []
    elif policy == "once":
        wanted = missed[-1:]
    elif count is not None:
        wanted = missed[-count:]
    else:
        wanted = [at for at in missed if age is None or now - at <= age]
    wanted += [at for at in times if now - at <= grace]
    left = [at for at in times if at not in wanted]
    assert list(found.fires) == wanted
    assert found.passed == ((left[0], left[-1]) if left else None)
    assert found.through_us == max(last, now)


@given(steps=st.lists(st.integers(1, 30 * HOUR), max_size=12), policy=st.sampled_from(["all", "once"]))
def test_looks_add_up(steps, policy):
    """However often is looked: with "all" every time is due exactly once, with "once" none is due twice."""
    at, fires = 0, []
    through = 0
    for step in steps:
        at += step
        found = due(HOURLY, Misfire(policy, HOUR // 2), through, at)
        through = found.through_us
        fires += found.fires
    assert sorted(set(fires)) == fires
    if policy == "all":
        assert fires == list(due_between(HOURLY, 0, at))


def test_many_are_due_in_parts():
    secondly, at, fires = every("1 second"), 0, []
    now = 2_500 * SECOND
    for _ in range(3):
        found = due(secondly, misfire("all", catch_up=None), at, now)
        assert len(found.fires) <= 1_000 and found.passed is None
        fires += found.fires
        at = found.through_us
    assert at == now
    assert fires == [second * SECOND for second in range(1, 2_501)]


def test_a_year_of_seconds_is_not_counted():
    found = due(every("1 second"), misfire("once"), 0, 366 * 24 * HOUR)
    assert found.fires[0] == 366 * 24 * HOUR - 61 * SECOND and len(found.fires) == 62
    assert found.passed == (SECOND, found.fires[0] - SECOND)


def test_a_clock_that_was_turned_back_makes_nothing_due():
    assert due(HOURLY, misfire(), 10 * HOUR, 5 * HOUR).through_us == 10 * HOUR


@pytest.mark.parametrize(
    "options",
    [{"policy": "never"}, {"grace": "soon"}, {"catch_up": 0}, {"catch_up": 1001}, {"catch_up": "x"}],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(DefinitionError):
        misfire(**options)
