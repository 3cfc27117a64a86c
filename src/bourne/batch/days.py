"""A schedule by the calendar: on given days, or on business days, at times of the day in a zone.

Law: as in `local_time`, each day's times are due once, whatever the clocks do. Which days are holidays is the user's to
say: Bourne knows none.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from bourne.batch.local_time import first_shown, read_date, read_time, shown_at, zone_named
from bourne.errors import DefinitionError

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# How far is looked for a day that a rule means: a month in which the holidays leave that many days comes within it.
_MONTHS_MAX: Final = 50 * 12

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BusinessDays:
    """The days that are neither weekend nor holiday; with `nth` only that one of each month (-1: the last)."""

    weekend: frozenset[int]
    holidays: frozenset[date]
    nth: int | None = None

    def from_day(self, day: date) -> Iterator[date]:
        """Return the days from one on, in order; a rule that has found none for fifty years ends."""
        first, found = day.replace(day=1), 0
        while found < _MONTHS_MAX:
            days = [each for each in self._of_month(first) if each >= day]
            yield from days
            found = 0 if days else found + 1
            first = (first + 31 * _DAY).replace(day=1)

    def _of_month(self, first: date) -> list[date]:
        month = (first + index * _DAY for index in range(31))
        days = [
            each
            for each in month
            if each.month == first.month and each.weekday() not in self.weekend and each not in self.holidays
        ]
        if self.nth is None:
            return days
        index = self.nth if self.nth < 0 else self.nth - 1
        return [days[index]] if -len(days) <= index < len(days) else []


@dataclass(frozen=True, slots=True)
class GivenDays:
    """Certain days, in order."""

    days: tuple[date, ...]

    def from_day(self, day: date) -> Iterator[date]:
        """Return the days from one on, in order."""
        return iter(self.days[bisect.bisect_left(self.days, day) :])


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days and the times at which something is due on each of them."""

    days: BusinessDays | GivenDays
    times: tuple[time, ...]
    zone: str

    def next_after(self, at_us: int) -> int | None:
        """Return the first instant after `at_us`."""
        zone = zone_named(self.zone)
        try:
            # A time that clocks jump over may be due on the next day, and they may have been turned back to this one.
            for day in self.days.from_day(shown_at(at_us, zone).date() - _DAY):
                for at in self.times:
                    found = first_shown(datetime.combine(day, at), zone)
                    if found > at_us:
                        return found
        except OverflowError:
            pass  # dates end with the year 9999
        return None


def business_days(
    *,
    holidays: Iterable[date | str] = (),
    weekend: Iterable[str] = ("saturday", "sunday"),
    nth: int | None = None,
) -> BusinessDays:
    """Return the rule of business days; with `nth` only the n-th of each month, from its end if negative.

    Raises:
        DefinitionError: a day cannot be read, or none fits.

    >>> last_of_month = business_days(holidays=["2024-12-31"], nth=-1)
    >>> next(last_of_month.from_day(date(2024, 12, 1)))
    datetime.date(2024, 12, 30)
    """
    where = "business_days(…)"
    free = weekday_numbers(weekend, where=where)
    rule = BusinessDays(free, frozenset(read_date(day, where=where) for day in holidays), nth)
    if nth == 0 or next(rule.from_day(date(2000, 1, 1)), None) is None:
        raise DefinitionError(
            "no day fits", where=where, expected="a weekend of at most six days, and nth that some month has, from 1 or -1 on",
            found=f"weekend {sorted(free)}, nth {nth}",
        )  # fmt: skip
    return rule


def calendar(
    days: BusinessDays | Iterable[date | str], *, at: str | Iterable[str], zone: str = "UTC"
) -> Calendar:
    """Return the schedule of days and times of the day, as in `calendar(business_days(nth=-1), at="18:00")`.

    Raises:
        DefinitionError: a day, a time or the zone cannot be read, or there is none.
    """
    where = "calendar(…)"
    zone_named(zone)
    texts = [at] if isinstance(at, str) else list(at)
    times = tuple(sorted({read_time(text, where=where) for text in texts}))
    if not isinstance(days, BusinessDays) and isinstance(days, str):
        days = [days]
    rule = days if isinstance(days, BusinessDays) else _given(days, where)
    if not times or rule == GivenDays(()):
        raise DefinitionError(
            "a calendar without days or times is never due",
            where=where,
            expected="one day and one time, or more",
        )
    return Calendar(rule, times, zone)


def _given(days: Iterable[date | str], where: str) -> GivenDays:
    return GivenDays(tuple(sorted({read_date(day, where=where) for day in days})))


def weekday_numbers(names: Iterable[str], *, where: str) -> frozenset[int]:
    """Return days of the week as numbers, Monday being 0.

    Raises:
        DefinitionError: one is none.
    """
    folded = [name.casefold() for name in ([names] if isinstance(names, str) else names)]
    for name in folded:
        if name not in WEEKDAYS:
            raise DefinitionError(
                "that is no day of the week", where=where, expected=", ".join(WEEKDAYS), found=repr(name)
            )
    return frozenset(WEEKDAYS.index(name) for name in folded)
