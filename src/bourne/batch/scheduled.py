"""A schedule as declared: which job begins when, with which parameters, how often at once, after which others.

Pure data and pure checks; who acts on it is `jobs/scheduler`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any

from bourne.batch.local_time import local_datetime, zone_named
from bourne.batch.misfire import Misfire, Policy, misfire
from bourne.batch.schedule import Schedule
from bourne.batch.triggers import Event, FileArrived, HttpCall, JobEnded, ViewReached
from bourne.batch.window import BatchWindow
from bourne.errors import BourneError, DefinitionError
from bourne.limits import SCHEDULED_RUNS_MAX
from bourne.schema import check_name

When = Schedule | FileArrived | ViewReached | JobEnded | HttpCall
Params = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ScheduleDefinition:
    """A declared schedule. `after` are the names of others; `misfire` holds the grace and the bound of catching up."""

    name: str
    job: str
    when: When
    params: Params | None
    window: BatchWindow | None
    misfire: Misfire
    parallel_max: int
    priority: int
    after: tuple[str, ...]

    @property
    def declared(self) -> str:
        """What decides which times and events there are: if it is another one, the schedule begins anew."""
        return repr(self.when)

    def is_open(self, at_us: int) -> bool:
        """Say whether its window is open, if it has one."""
        return self.window is None or self.window.is_open(at_us)


def schedule(
    name: str, job: str, when: When, *, params: Params | None = None, window: BatchWindow | None = None,
    misfire: Policy = "once", grace: str = "1 minute", catch_up: str | int | None = "7 days", parallel_max: int = 1,
    priority: int = 0, after: Iterable[str] = (),
) -> ScheduleDefinition:  # fmt: skip
    """Return a schedule.

    `params` are the job's parameters, or a function that makes them: of the local datetime that a run is for, or of the
    `Event` that it follows. Runs begin by `priority`, the highest first, then by age; at most `parallel_max` of this
    schedule run at once. A run waits until the newest fire, at its own time or before, of each schedule of `after` is done.

    Raises:
        DefinitionError: something in it cannot be.
    """
    where = f"schedule {name!r}"
    check_name(name, kind="schedule")
    check_name(job, kind="job", where=where)
    if not isinstance(when, Schedule | FileArrived | ViewReached | JobEnded | HttpCall):
        raise DefinitionError(
            "that says no time and no event", where=where,
            expected="cron(…), every(…), calendar(…), file_arrived(…), view_reached(…), job_ended(…) or http_call(…)",
            found=repr(when),
        )  # fmt: skip
    if not 1 <= parallel_max <= SCHEDULED_RUNS_MAX:
        raise DefinitionError(
            "so many runs at once cannot be",
            where=where,
            expected=f"1 to {SCHEDULED_RUNS_MAX}",
            found=parallel_max,
        )
    if params is not None and not callable(params) and not isinstance(params, Mapping):
        raise DefinitionError(
            "those are no parameters", where=where, expected="a mapping, or a function that returns one",
            found=type(params).__name__,
        )  # fmt: skip
    return ScheduleDefinition(
        name,
        job,
        when,
        params,
        window,
        _misfire(misfire, grace, catch_up),
        parallel_max,
        priority,
        _names(after),
    )


def _misfire(policy: Policy, grace: str, catch_up: str | int | None) -> Misfire:
    return misfire(policy, grace=grace, catch_up=catch_up)


def _names(after: Iterable[str]) -> tuple[str, ...]:
    return (after,) if isinstance(after, str) else tuple(after)


def check_together(schedules: Sequence[ScheduleDefinition]) -> None:
    """Refuse schedules of one name, and those that come after one that is not there, or after themselves.

    Raises:
        DefinitionError: there is one.
    """
    names = [each.name for each in schedules]
    for each in schedules:
        where = f"schedule {each.name!r}"
        if names.count(each.name) > 1:
            raise DefinitionError("two schedules have one name", where=where, hint="rename one of them")
        for other in each.after:
            if other not in names:
                raise DefinitionError(
                    "it comes after a schedule that is not there",
                    where=where,
                    expected=", ".join(names),
                    found=other,
                )
    try:
        TopologicalSorter({each.name: each.after for each in schedules}).prepare()
    except CycleError as error:
        raise DefinitionError(
            "schedules come after each other in a circle", where="after", found=" -> ".join(error.args[1])
        ) from error


def params_of(definition: ScheduleDefinition, at_us: int, event: Event | None) -> Mapping[str, Any]:
    """Return the parameters of the run that is for a time, or follows an event.

    Raises:
        BourneError: the function that makes them fails.
    """
    if definition.params is None:
        return {}
    if isinstance(definition.params, Mapping):
        return definition.params
    given: Event | datetime = (
        local_datetime(at_us, zone_named(zone_of(definition))) if event is None else event
    )
    where = f"schedule {definition.name!r}"
    try:
        made = definition.params(given)
    except Exception as error:
        raise BourneError(
            "the function that makes a run's parameters failed", where=where, found=f"{type(error).__name__}: {error}",
            hint="mend it; the run can then be begun by hand",
        ) from error  # fmt: skip
    if not isinstance(made, Mapping):
        raise BourneError(
            "the function that makes a run's parameters made none",
            where=where,
            expected="a mapping",
            found=repr(made),
        )
    return made


def zone_of(definition: ScheduleDefinition) -> str:
    """Return the zone whose dates its runs are about."""
    return definition.when.zone if isinstance(definition.when, Schedule) else "UTC"
