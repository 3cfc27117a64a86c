"""A batch window: the hours of the day in which a job may run.

Law: a window is open from the instant at which its zone's clocks first show its start (or jump over it) to that at which
they next show its end, so it is one span on each of its days, also where an hour is repeated. One that lies whole within
an hour that is left out is not open on that day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from bourne.batch.days import WEEKDAYS, weekday_numbers
from bourne.batch.local_time import first_shown, read_time, shown_at, zone_named
from bourne.errors import DefinitionError

_DAY: Final = timedelta(days=1)
_MIDNIGHT: Final = "24:00"

# A window of one day in the week may be left out by a change of the clocks: it is open on that day of the next week.
_DAYS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class BatchWindow:
    """From `start` to `end`, on the next day if that is not later; `days` are those on which it opens (Monday: 0)."""

    start: time
    end: time
    zone: str
    days: frozenset[int]

    def is_open(self, at_us: int) -> bool:
        """Say whether something may run at an instant."""
        return self.closes_after(at_us) is not None

    def closes_after(self, at_us: int) -> int | None:
        """Return the instant at which it closes, if it is open; if it then opens again at once, it does not close."""
        closes_us = at_us
        for opens, ends in self._spans(at_us):
            if opens > closes_us:
                break
            closes_us = max(closes_us, ends)
        return closes_us if closes_us > at_us else None

    def opens_after(self, at_us: int) -> int:
        """Return the first instant after `at_us` at which it opens."""
        return next(opens for opens, _ in self._spans(at_us) if opens > at_us)

    def _spans(self, at_us: int) -> Iterable[tuple[int, int]]:
        """Return the spans from two days before an instant on, for two weeks; those that have a length."""
        zone = zone_named(self.zone)
        first = shown_at(at_us, zone).date() - 2 * _DAY
        for index in range(_DAYS_MAX):
            day: date = first + index * _DAY
            if day.weekday() in self.days:
                opens = first_shown(datetime.combine(day, self.start), zone)
                last = day if self.end > self.start else day + _DAY
                ends = first_shown(datetime.combine(last, self.end), zone)
                if opens < ends:
                    yield opens, ends


def window(start: str, end: str, *, zone: str = "UTC", days: Iterable[str] = WEEKDAYS) -> BatchWindow:
    """Return the window from a time of the day to another, over midnight if `end` is not later; '24:00' is midnight.

    `days` are the days of the week on which it opens. From a time to the same one is a whole day.

    Raises:
        DefinitionError: a time, a day or the zone cannot be read, or there is no day.

    >>> night = window("22:00", "05:00")
    >>> night.is_open(0), night.closes_after(0)
    (True, 18000000000)
    """
    where = "window(…)"
    zone_named(zone)
    opened = weekday_numbers(days, where=where)
    if not opened:
        raise DefinitionError(
            "a window without days is never open", where=where, expected=", ".join(WEEKDAYS)
        )
    ends = time(0) if end == _MIDNIGHT else read_time(end, where=where)
    return BatchWindow(read_time(start, where=where), ends, zone, opened)
