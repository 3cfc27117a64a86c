"""What a year of schedules should be, found by brute force: every minute of the year is walked, and asked of zoneinfo.

It shares nothing with what it checks: an own reader of cron expressions (of the simple forms), no library, and no
arithmetic with changes of the clocks. Only this is used: a local minute is *reached* at the first minute of the world
at which the clocks show it or a later one.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

MINUTE_US = 60_000_000
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIRST = [0, 0, 1, 1, 0]
_LAST = [59, 23, 31, 12, 7]


class YearOfClocks:
    """Every minute of a year in a zone, from a few days before it to a few days after."""

    def __init__(self, zone: str, year: int) -> None:
        start = datetime(year, 1, 1, tzinfo=UTC) - timedelta(days=3)
        end = datetime(year + 1, 1, 1, tzinfo=UTC) + timedelta(days=3)
        first, last = int(start.timestamp()) // 60, int(end.timestamp()) // 60
        info = ZoneInfo(zone)
        offsets = [
            datetime.fromtimestamp(minute * 60, info).utcoffset() // timedelta(minutes=1)
            for minute in range(first, last)
        ]
        self.zone, self.year = zone, year
        self.minutes = np.arange(first, last)
        self.shown = self.minutes + np.array(offsets)
        # All local minutes of the span, whether shown or not, and the index of the minute at which each is reached.
        self.locals = np.arange(self.shown.min(), self.shown.max() + 1)
        furthest = np.maximum.accumulate(self.shown)
        self.reached = self.minutes[np.searchsorted(furthest, self.locals, side="left")]
        self._shown, self._locals = _Fields(self.shown), _Fields(self.locals)
        # A span starts in its middle: what came before its first minute is not known.
        self.known_from = self.minutes[0] + 1440

    @property
    def changes(self) -> list[int]:
        """The minutes from which on the clocks differ from UTC by another amount."""
        offsets = self.shown - self.minutes
        return [int(self.minutes[index + 1]) for index in np.flatnonzero(np.diff(offsets))]

    def cron(self, expression: str) -> np.ndarray:
        """Return the minutes at which an expression is due."""
        if expression.split()[1].startswith("*"):
            due = self.minutes[self._shown.fit(expression)]
        else:
            due = np.unique(self.reached[self._locals.fit(expression)])
        return due[due > self.known_from]

    def at(self, days: list[date], hour: int, minute: int) -> np.ndarray:
        """Return the minutes at which a local time is reached on some days."""
        wanted = [(day - date(1970, 1, 1)).days * 1440 + hour * 60 + minute - self.locals[0] for day in days]
        due = np.unique(self.reached[[index for index in wanted if 0 <= index < len(self.locals)]])
        return due[due > self.known_from]


@functools.cache
def year_of(zone: str, year: int) -> YearOfClocks:
    """Return the clocks of a year; walking it takes about a second."""
    return YearOfClocks(zone, year)


class _Fields:
    """What cron's fields are of each local minute."""

    def __init__(self, local: np.ndarray) -> None:
        days = np.arange(local.min() // 1440, local.max() // 1440 + 1).astype("datetime64[D]")
        months = days.astype("datetime64[M]")
        # The day's fields are found for each day, and looked up for each minute.
        self.day_index = local // 1440 - local.min() // 1440
        self.minute, self.hour = local % 60, local // 60 % 24
        self.day = (days - months).astype(int) + 1
        self.is_last = days + 1 == (months + 1).astype("datetime64[D]")
        self.month = months.astype(int) % 12 + 1
        self.weekday = (days.astype(int) + 4) % 7

    def fit(self, expression: str) -> np.ndarray:
        fields = expression.split()
        minute, hour, day, month, weekday = (_numbers(index, text) for index, text in enumerate(fields))
        fits_day = np.isin(self.day, list(day)) | (self.is_last & ("L" in fields[2].split(",")))
        fits_weekday = np.isin(self.weekday, [each % 7 for each in weekday])
        is_both = fields[2].startswith("*") or fields[4].startswith("*")
        days = fits_day & fits_weekday if is_both else fits_day | fits_weekday
        days &= np.isin(self.month, list(month))
        return _table(minute, 60)[self.minute] & _table(hour, 24)[self.hour] & days[self.day_index]


def _table(numbers: set[int], size: int) -> np.ndarray:
    return np.isin(np.arange(size), list(numbers))


def _numbers(index: int, text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        if span == "L":
            continue
        if span == "*":
            first, last = _FIRST[index], _LAST[index]
        else:
            first = _number(low)
            last = _number(high) if high else (_LAST[index] if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str) -> int:
    return _DAYS.index(text) if text in _DAYS else int(text)
