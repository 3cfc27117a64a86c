"""Which fires begin: over any fires and limits, none that may not, and none is left that might."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bourne.batch.schedule import every
from bourne.batch.scheduled import schedule
from bourne.jobs.choosing import choose
from bourne.jobs.fires import Fire

NAMES = ["a", "b", "c"]
SCHEDULES = {
    name: schedule(name, "job", every("1 hour"), priority=number % 2, parallel_max=number + 1)
    for number, name in enumerate(NAMES)
}

fires = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "gone"]),
        st.integers(0, 5),
        st.sampled_from(["waiting", "paused", "started"]),
    ),
    max_size=12,
).map(
    lambda rows: [
        Fire(index, name, str(index), at, state, None, 0, None, None)
        for index, (name, at, state) in enumerate(rows)
    ]
)


@given(
    fires=fires,
    busy=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)),
    runs_max=st.integers(1, 6),
    closed=st.sets(st.sampled_from(NAMES)),
    held=st.sets(st.integers(0, 11)),
)
def test_all_that_may_and_nothing_else(fires, busy, runs_max, closed, held):
    def is_held(fire):
        return fire.id in held

    chosen = choose(
        fires, busy, SCHEDULES, runs_max=runs_max, is_open=lambda name: name not in closed, is_held=is_held
    )
    at_work = Counter(busy) + Counter(fire.schedule for fire in chosen)
    assert len({fire.id for fire in chosen}) == len(chosen)
    assert not chosen or at_work.total() <= runs_max
    for fire in chosen:
        assert fire.schedule in SCHEDULES and fire.schedule not in closed
        assert at_work[fire.schedule] <= SCHEDULES[fire.schedule].parallel_max
        assert fire.state != "waiting" or not is_held(fire)
    ranks = [
        (-SCHEDULES[fire.schedule].priority, fire.state == "waiting", fire.at_us, fire.id) for fire in chosen
    ]
    assert ranks == sorted(ranks)
    if at_work.total() < runs_max:
        for fire in fires:
            is_free = fire.schedule in SCHEDULES and fire.schedule not in closed
            if is_free and fire not in chosen and (fire.state != "waiting" or not is_held(fire)):
                assert at_work[fire.schedule] >= SCHEDULES[fire.schedule].parallel_max
