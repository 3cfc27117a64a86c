"""When something is due: the contract of all schedules, and the simplest of them, an interval.

Law: a schedule is a set of instants that depends on its declaration alone, never on when it is asked or was started. So
a restart shifts nothing, and the past can be asked about: which times were missed is computed, not remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from bourne.batch.local_time import LAST_US, instant_of
from bourne.errors import DefinitionError
from bourne.limits import SCHEDULE_INTERVAL_S_MIN
from bourne.schema import interval_us

# How far back is looked for a time at first, before the span is doubled.
_LOOK_BACK_US: Final = 60_000_000


@runtime_checkable
class Schedule(Protocol):
    """Instants, in microseconds since 1970-01-01 UTC."""

    @property
    def zone(self) -> str:
        """The zone whose date a run of it is about."""
        ...

    def next_after(self, at_us: int) -> int | None:
        """Return the first instant after `at_us`; None if there is none any more."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """All instants that are whole intervals away from an anchor; with `is_started`, none before it."""

    interval_us: int
    anchor_us: int
    is_started: bool
    zone: str = "UTC"

    def next_after(self, at_us: int) -> int | None:
        """Return the first instant after `at_us`."""
        if self.is_started and at_us < self.anchor_us:
            return self.anchor_us
        found = at_us - (at_us - self.anchor_us) % self.interval_us + self.interval_us
        return found if found < LAST_US else None


def every(interval: str, *, start: datetime | None = None) -> Every:
    """Return the schedule of a fixed interval, such as '15 minutes'; a day is 24 hours.

    It is counted from `start`, and begins then; without it from 1970-01-01 UTC, so that 15 minutes are those of the clock.

    Raises:
        DefinitionError: the interval is too short or not fixed, or `start` has no time zone.

    >>> every("1 hour").next_after(0)
    3600000000
    """
    where = "every(…)"
    length_us = interval_us(interval, where=where)
    if length_us < SCHEDULE_INTERVAL_S_MIN * 1e6:
        raise DefinitionError(
            "the interval is too short for a schedule", where=where,
            expected=f"{SCHEDULE_INTERVAL_S_MIN} seconds or more", found=repr(interval),
            hint="what has to follow records at once is a view",
        )  # fmt: skip
    if start is None:
        return Every(length_us, 0, is_started=False)
    if start.tzinfo is None or start.utcoffset() is None:
        raise DefinitionError(
            "the start has no time zone", where=where, expected="a datetime with tzinfo", found=repr(start),
            hint="datetime(…, tzinfo=ZoneInfo('Europe/Berlin')), or tzinfo=UTC",
        )  # fmt: skip
    return Every(length_us, instant_of(start), is_started=True)


def due_between(schedule: Schedule, after_us: int, until_us: int) -> Iterator[int]:
    """Return the instants after one and up to another one, in order."""
    at_us = schedule.next_after(after_us)
    while at_us is not None and at_us <= until_us:
        yield at_us
        at_us = schedule.next_after(at_us)


def newest_until(schedule: Schedule, after_us: int, until_us: int) -> int | None:
    """Return the last instant that is after `after_us` and not after `until_us`; None if there is none.

    O(log(span)) questions, however many instants lie between.
    """
    span_us = _LOOK_BACK_US
    low = max(after_us, until_us - span_us)
    while not _is_due(schedule, low, until_us):
        if low == after_us:
            return None
        span_us *= 2
        low = max(after_us, until_us - span_us)
    # Something is due after `low`, and nothing is after `high`.
    high = until_us
    while high - low > 1:
        middle = (low + high) // 2
        if _is_due(schedule, middle, until_us):
            low = middle
        else:
            high = middle
    return high


def _is_due(schedule: Schedule, after_us: int, until_us: int) -> bool:
    found = schedule.next_after(after_us)
    return found is not None and found <= until_us
