"""A schedule by a cron expression, in a time zone.

Law: of an expression with hours (`0 2 * * *`, `*/10 1-3 * * *`) each local time that it names is due once: the first time
that clocks show it, or, where they jump over it, right after the jump (several such become one). One whose hour begins
with a star (`*/30 * * * *`, `0 */2 * * *`) goes with the time that passes: it is due whenever clocks show a time that it
names, so twice in an hour that is repeated, and not in one that is left out.

Which local times an expression names is asked of cronsim, without any zone; what a change of the clocks means is decided
here. (cronsim has rules of its own for that, which miss times in zones that change by half an hour.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from bourne.batch.local_time import DAY_US, LAST_US, clocks_change, first_shown, shown_at, zone_named
from bourne.errors import DefinitionError

_US: Final = timedelta(microseconds=1)

# Whatever an expression names at all, it names within fifty years, which is how far cronsim looks.
_FIRST: Final = datetime(2000, 1, 1)

_FIELDS: Final = (
    "minute, hour, day of the month, month, day of the week: '0 2 * * MON-FRI' is 2:00 on working days"
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression and the name of a zone."""

    expression: str
    zone: str

    def next_after(self, at_us: int) -> int | None:
        """Return the first instant after `at_us`."""
        try:
            if self.expression.split()[1].startswith("*"):
                return self._shown_after(at_us)
            return self._named_after(at_us)
        except OverflowError:
            return None  # dates end with the year 9999

    def _named_after(self, at_us: int) -> int | None:
        # Local times are named in order, and the instants at which they are due never go back. Those that come after what
        # is shown now may have been due already: in an hour that is shown for the second time.
        zone = zone_named(self.zone)
        for local in CronSim(self.expression, shown_at(at_us, zone)):
            found = first_shown(local, zone)
            if found > at_us:
                return found
        return None

    def _shown_after(self, at_us: int) -> int | None:
        # From one change of the clocks to the next local times and instants go side by side.
        zone = zone_named(self.zone)
        start = at_us + 1
        while start < LAST_US:
            change = clocks_change(zone, start, start + DAY_US)
            end = start + DAY_US if change is None else change
            shown = shown_at(start, zone)
            local = next(CronSim(self.expression, shown - _US), None)
            if local is None:
                return None
            found: int = start + (local - shown) // _US
            if found < end:
                return found
            # The clocks are never turned by more than a day: nothing is due long before that.
            start = end if change is not None else max(end, found - 2 * DAY_US)
        return None


def cron(expression: str, *, zone: str = "UTC") -> Cron:
    """Return the schedule of a cron expression of five fields.

    Fields take lists, ranges, steps and names (`MON`, `JAN`); the day of the month also `L` (the last) and `LW` (the last
    that is no Saturday or Sunday), the day of the week `5L` (the last Friday) and `MON#2` (the second Monday). If neither
    day begins with a star, one of the two has to fit, else both.

    Raises:
        DefinitionError: it cannot be read, names no time at all, or there is no such zone.

    >>> cron("30 * * * *").next_after(0)
    1800000000
    """
    zone_named(zone)
    where = f"cron({expression!r})"
    fields = expression.split()
    if len(fields) != 5:
        raise DefinitionError(
            "a cron expression has five fields", where=where, expected=_FIELDS, found=f"{len(fields)} fields",
            hint="for seconds, use every('10 seconds')",
        )  # fmt: skip
    try:
        is_ever = next(CronSim(expression, _FIRST), None) is not None
    except CronSimError as error:
        raise DefinitionError(
            "that cron expression cannot be read", where=where, expected=_FIELDS, found=str(error)
        ) from error
    if not is_ever:
        raise DefinitionError(
            "that cron expression is never due", where=where, expected="a day that some year has",
            hint="'L' as the day of the month is its last one",
        )  # fmt: skip
    return Cron(" ".join(fields).upper(), zone)
