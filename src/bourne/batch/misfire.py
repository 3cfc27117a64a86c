"""What becomes of times that passed while nobody looked: the machine was off, the process dead, its clock set forward.

Law: a pure function of the schedule, the last time that was dealt with, and now. Each time after the last one is either
due, or passed over for good, or left to the next look; and `through_us` says up to where that is decided.

A time is *missed* if it is longer ago than the grace when somebody looks at last; else it is on time, and due under every
policy. Of those that were missed, "once" makes the newest due, for all of them, "all" each one that is not too old for
`catch_up`, and "skip" none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, get_args

from bourne.batch.schedule import Schedule, due_between, newest_until
from bourne.errors import DefinitionError
from bourne.limits import CATCH_UP_FIRES_MAX, FIRES_DUE_MAX
from bourne.schema import interval_us

Policy = Literal["once", "all", "skip"]

POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Misfire:
    """What was declared. Of `catch_up_us` (how old) and `catch_up_count` (how many of the newest) at most one is there."""

    policy: Policy
    grace_us: int
    catch_up_us: int | None = None
    catch_up_count: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """The times that are due, in order; the first and last of those passed over; up to where all this is decided."""

    fires: tuple[int, ...]
    passed: tuple[int, int] | None
    through_us: int


def misfire(
    policy: str = "once", *, grace: str = "1 minute", catch_up: str | int | None = "7 days"
) -> Misfire:
    """Return what is to become of missed times; `catch_up` bounds "all": by age, by number, or None: not at all.

    Raises:
        DefinitionError: there is no such policy, or a bound cannot be.
    """
    where = "misfire"
    if policy not in POLICIES:
        raise DefinitionError(
            "no such policy for missed times", where=where, expected=", ".join(POLICIES), found=repr(policy)
        )
    grace_us = interval_us(grace, where=f"{where}, grace")
    if catch_up is None:
        return Misfire(policy, grace_us)
    if isinstance(catch_up, str):
        return Misfire(policy, grace_us, catch_up_us=interval_us(catch_up, where=f"{where}, catch_up"))
    if isinstance(catch_up, bool) or not 1 <= catch_up <= CATCH_UP_FIRES_MAX:
        raise DefinitionError(
            "so many times cannot be caught up with by number", where=where, expected=f"1 to {CATCH_UP_FIRES_MAX}",
            found=repr(catch_up), hint="say how old they may be, as in '7 days'",
        )  # fmt: skip
    return Misfire(policy, grace_us, catch_up_count=catch_up)


def due(schedule: Schedule, policy: Misfire, last_us: int, now_us: int) -> Due:
    """Return what is due now if everything up to `last_us` was dealt with. At most `FIRES_DUE_MAX` times.

    Where the clock stands before `last_us`, nothing is due.
    """
    if now_us <= last_us:
        return Due((), None, last_us)
    missed_until = max(last_us, now_us - policy.grace_us - 1)
    start = _start(schedule, policy, last_us, missed_until, now_us)
    fires = tuple(islice(due_between(schedule, start, now_us), FIRES_DUE_MAX + 1))
    is_cut = len(fires) > FIRES_DUE_MAX
    fires = fires[:FIRES_DUE_MAX]
    return Due(fires, _passed(schedule, last_us, start), fires[-1] if is_cut else now_us)


def _start(schedule: Schedule, policy: Misfire, last_us: int, missed_until: int, now_us: int) -> int:
    """Return the instant after which everything is due; what lies before it is passed over."""
    if policy.policy == "skip":
        return missed_until
    if policy.policy == "once":
        newest = newest_until(schedule, last_us, missed_until)
        return missed_until if newest is None else newest - 1
    if policy.catch_up_us is not None:
        return min(missed_until, max(last_us, now_us - policy.catch_up_us - 1))
    start = missed_until
    for _ in range(policy.catch_up_count or 0):
        newest = newest_until(schedule, last_us, start)
        if newest is None:
            return last_us
        start = newest - 1
    return start if policy.catch_up_count else last_us


def _passed(schedule: Schedule, last_us: int, start_us: int) -> tuple[int, int] | None:
    first = schedule.next_after(last_us)
    if first is None or first > start_us:
        return None
    newest = newest_until(schedule, last_us, start_us)
    assert newest is not None  # the first one is one of them
    return first, newest
