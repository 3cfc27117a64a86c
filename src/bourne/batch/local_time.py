"""What a zone's clocks show: instants to local times and back, across every change of the clocks.

Law: each local time has one instant, the first at which the clocks show it, or, where they jump over it, the end of the
gap. So what is due at a local time is due neither twice nor never. Instants are microseconds since 1970-01-01 UTC; a local
time is a datetime without a zone. The rules are the system's (`zoneinfo`).
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bourne.errors import DefinitionError

DAY_US: Final = 24 * 3600 * 1_000_000

# Nothing is due after this: dates end with the year 9999, and local ones differ from UTC.
LAST_US: Final = 253_370_764_800_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


@functools.cache
def zone_named(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        DefinitionError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise DefinitionError(
            "no such time zone", expected="a name as in 'Europe/Berlin' or 'UTC'", found=repr(name),
            hint="check its spelling; if this machine has no time zones at all, pip install tzdata",
        ) from error  # fmt: skip


def instant_of(at: datetime) -> int:
    """Return the microseconds since 1970 of a datetime that has a zone."""
    return (at - _EPOCH) // _US


def local_datetime(at_us: int, zone: ZoneInfo) -> datetime:
    """Return the zone's date and time at an instant, with the zone."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


def shown_at(at_us: int, zone: ZoneInfo) -> datetime:
    """Return what the zone's clocks show at an instant."""
    return local_datetime(at_us, zone).replace(tzinfo=None, fold=0)


def first_shown(local: datetime, zone: ZoneInfo) -> int:
    """Return the first instant at which the clocks show a local time, or that at which they jump over it."""
    as_before = instant_of(local.replace(tzinfo=zone, fold=0))
    if shown_at(as_before, zone) == local:
        return as_before
    # In a gap the first reading takes the clocks as they were before it, so lies after the gap, and the second before.
    as_after = instant_of(local.replace(tzinfo=zone, fold=1))
    changed = clocks_change(zone, as_after, as_before)
    return as_before if changed is None else changed


def clocks_change(zone: ZoneInfo, start_us: int, end_us: int) -> int | None:
    """Return the first instant after `start_us`, up to `end_us`, from which on the clocks differ from UTC by another amount.

    It looks at both ends: the span has to be so short (a day) that the clocks are not turned there and back within it.
    """
    before = _offset(start_us, zone)
    if _offset(end_us, zone) == before:
        return None
    while end_us - start_us > 1:
        middle = (start_us + end_us) // 2
        if _offset(middle, zone) == before:
            start_us = middle
        else:
            end_us = middle
    return end_us


def _offset(at_us: int, zone: ZoneInfo) -> timedelta | None:
    return local_datetime(at_us, zone).utcoffset()


def read_time(text: str, *, where: str) -> time:
    """Return a time of the day from 'HH:MM' or 'HH:MM:SS'.

    Raises:
        DefinitionError: it is none.
    """
    parts = text.split(":")
    if len(parts) in (2, 3) and all(len(part) == 2 and part.isascii() and part.isdigit() for part in parts):
        hour, minute, second = (int(part) for part in (*parts, "00")[:3])
        if hour < 24 and minute < 60 and second < 60:
            return time(hour, minute, second)
    raise DefinitionError(
        "that is no time of the day",
        where=where,
        expected="HH:MM or HH:MM:SS, as in '06:30'",
        found=repr(text),
    )


def read_date(day: date | str, *, where: str) -> date:
    """Return a date from a date or an ISO text.

    Raises:
        DefinitionError: it is none, or has a time.
    """
    if isinstance(day, date) and not isinstance(day, datetime):
        return day
    try:
        return date.fromisoformat(str(day))  # a datetime's text has a time, so is none
    except ValueError as error:
        raise DefinitionError(
            "that is no date", where=where, expected="a date, or a text as in '2026-12-24'", found=repr(day)
        ) from error
