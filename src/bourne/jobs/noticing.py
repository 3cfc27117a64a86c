"""One schedule's eye: what of it is due, or has happened, is noted as fires.

Law: what was decided is written with the fires that it gave (`Fires.note`). In memory time is decided further than that on
disk, where nothing was due between: who starts anew decides the same again. Where the clock is turned back, so is what is
decided, on disk too: else what is due between now and then would be lost by a restart. Times that gave a fire are known
by it, and do not give another one.
"""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from bourne.batch.local_time import local_datetime, zone_named
from bourne.batch.misfire import due
from bourne.batch.schedule import Schedule
from bourne.batch.scheduled import ScheduleDefinition, zone_of
from bourne.batch.triggers import Event, FileArrived, HttpCall
from bourne.jobs.events import EventLooker, World
from bourne.jobs.fires import Fire, Fires, Mark, New
from bourne.jobs.launcher import Launcher
from bourne.limits import CALLS_KEPT, FIRES_KEPT


class Eye:
    """Looks at one schedule, again and again. `next_us`: when it is due next, as far as is known."""

    def __init__(
        self, definition: ScheduleDefinition, fires: Fires, world: World, launcher: Launcher
    ) -> None:
        self.next_us: int | None = None
        self._through_us: int | None = None
        self._definition = definition
        self._fires = fires
        self._kept_from = 0
        when = definition.when
        self._events = None if isinstance(when, Schedule) else EventLooker(when, world, launcher)

    def look(self, now_us: int) -> int:
        """Note what is due or has happened, and return how many fires are new.

        Raises:
            BourneError: it cannot be seen, or cannot be noted. It is looked for again.
        """
        when = self._definition.when
        return (
            self._look_at_time(when, now_us) if isinstance(when, Schedule) else self._look_at_events(now_us)
        )

    def _look_at_time(self, when: Schedule, now_us: int) -> int:
        if self._through_us is None:
            mark = self._mark(now_us)
            self._through_us, self._kept_from = mark.through, mark.kept_from
            self.next_us = when.next_after(self._through_us)
        if now_us < self._through_us:
            self._through_us = max(now_us, self._kept_from)
            if self._through_us < self._mark(now_us).through:
                self._note(self._through_us, [])
            self.next_us = when.next_after(self._through_us)
        if self.next_us is None or now_us < self.next_us:
            self._through_us = max(now_us, self._through_us)
            return 0
        found = due(when, self._definition.misfire, self._through_us, now_us)
        fires = [New(time_key(at_us), at_us) for at_us in found.fires]
        count = self._note(found.through_us, fires, passed=found.passed, now_us=now_us)
        self._through_us = found.through_us
        self.next_us = when.next_after(found.through_us)
        return count

    def _look_at_events(self, now_us: int) -> int:
        assert self._events is not None
        mark = self._mark(now_us)
        seen = self._events.look(mark.through, now_us)
        count = self._note(seen.through, seen.fires) if seen.fires or seen.through != mark.through else 0
        self._events.noted(seen)
        return count

    def forget(self) -> None:
        """Forget old fires, so far as they can be told from new ones without them."""
        name, declared = self._definition.name, self._definition.declared
        if isinstance(self._definition.when, FileArrived):
            return  # the file may still be there
        self._fires.forget(name, CALLS_KEPT if isinstance(self._definition.when, HttpCall) else FIRES_KEPT)
        mark = self._fires.mark(name, declared)
        self._kept_from = mark.kept_from if mark is not None else self._kept_from

    def _mark(self, now_us: int) -> Mark:
        mark = self._fires.mark(self._definition.name, self._definition.declared)
        if mark is None:
            # A schedule begins when it is first seen: what lies before that is none of its fires.
            begin = now_us if self._events is None else self._events.begin()
            self._note(begin, [])
            mark = self._fires.mark(self._definition.name, self._definition.declared)
            assert mark is not None
        return mark

    def _note(
        self,
        through: int,
        fires: list[New] | tuple[New, ...],
        *,
        passed: tuple[int, int] | None = None,
        now_us: int = 0,
    ) -> int:
        name, declared = self._definition.name, self._definition.declared
        return self._fires.note(name, declared, through, fires, passed=passed, now_us=now_us)


def time_key(at_us: int) -> str:
    """Return the key of a fire that is for a time: its instant in UTC."""
    return local_datetime(at_us, ZoneInfo("UTC")).replace(tzinfo=None).isoformat() + "Z"


def event_of(definition: ScheduleDefinition, fire: Fire) -> Event | None:
    """Return the event that a fire follows; None if it is for a time."""
    if isinstance(definition.when, Schedule):
        return None
    return Event(
        fire.key,
        local_datetime(fire.at_us, zone_named(zone_of(definition))).astimezone(UTC),
        fire.details or {},
    )
