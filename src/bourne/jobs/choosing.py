"""Which of the waiting fires begin now. A pure decision.

Law: the order is that of priority, then what was begun before what is new, then age; who may not begin (its schedule has
as many runs as it may, or its window is closed, or it waits for others) holds back nobody but younger ones of its own
schedule, and those only by the number of runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from bourne.batch.scheduled import ScheduleDefinition
from bourne.jobs.fires import Fire


def choose(
    candidates: Iterable[Fire],
    busy: Mapping[str, int],
    schedules: Mapping[str, ScheduleDefinition],
    *,
    runs_max: int,
    is_open: Callable[[str], bool],
    is_held: Callable[[Fire], bool],
) -> list[Fire]:
    """Return the fires to begin, in order. `busy`: how many runs each schedule has at work; those are not candidates."""
    taken = Counter(busy)
    room = runs_max - sum(busy.values())
    chosen: list[Fire] = []
    known = (fire for fire in candidates if fire.schedule in schedules)
    for fire in sorted(known, key=lambda fire: _rank(fire, schedules[fire.schedule])):
        if len(chosen) >= room:
            break
        if taken[fire.schedule] >= schedules[fire.schedule].parallel_max or not is_open(fire.schedule):
            continue
        if fire.state == "waiting" and is_held(fire):
            continue
        taken[fire.schedule] += 1
        chosen.append(fire)
    return chosen


def _rank(fire: Fire, schedule: ScheduleDefinition) -> tuple[int, bool, int, int]:
    return -schedule.priority, fire.state == "waiting", fire.at_us, fire.id
