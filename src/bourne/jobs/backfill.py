"""A range of instances of a job, one after the other or some at once: days that were missed, or are to be there at last.

Law: an instance that has completed is not done again, one that failed goes on where it was. So a backfill that is stopped, or
killed, is gone on with by the same call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

from bourne.errors import BourneError, InputError, JobCompleted
from bourne.limits import BACKFILL_INSTANCES_MAX

if TYPE_CHECKING:
    from bourne.jobs.jobs import Jobs

State = Literal["completed", "was completed", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of one instance of a backfill: the so-and-so-many-th of all, for which value."""

    value: str
    number: int
    total: int
    state: State
    run: int | None = None
    error: BourneError | None = None


def values_between(first: str, last: str, *, where: str = "backfill") -> list[str]:
    """Return the days, or whole numbers, from the first to the last one, both included.

    Raises:
        InputError: these are neither, or too many, or in the wrong order.
    """
    try:
        found = list(_between(first, last))
    except ValueError:
        raise InputError(
            "that is no range", where=where, expected="days (2026-01-01..2026-01-31) or whole numbers (1..12)",
            found=f"{first}..{last}",
        ) from None  # fmt: skip
    if not found or len(found) > BACKFILL_INSTANCES_MAX:
        raise InputError(
            "the range is empty" if not found else "the range is too long", where=where,
            expected=f"1 to {BACKFILL_INSTANCES_MAX:,} instances, the first one first", found=f"{first}..{last}",
        )  # fmt: skip
    return found


def _between(first: str, last: str) -> Iterator[str]:
    if first.removeprefix("-").isdigit() and last.removeprefix("-").isdigit():
        low, high = int(first), int(last)
        yield from map(str, range(low, min(high, low + BACKFILL_INSTANCES_MAX) + 1))
        return
    day, end = date.fromisoformat(first), date.fromisoformat(last)
    for number in range(min((end - day).days, BACKFILL_INSTANCES_MAX) + 1):
        yield (day + timedelta(days=number)).isoformat()


def backfill(
    jobs: Jobs, job: str, parameter: str, values: Sequence[Any], others: Mapping[str, Any], *, at_once: int,
    stop: threading.Event, tell: Callable[[Filled], None],
) -> list[Filled]:  # fmt: skip
    """Run an instance for each value; tell of each when it has ended. Returns them all, in the order of the values.

    One that fails does not hold up the others. Once `stop` is set no more begin, and those at work end after their chunks.
    """
    total = len(values)
    for value in values:  # before anything runs
        jobs.check(job, {**others, parameter: value})

    def one(number: int, value: Any) -> Filled:
        shown = str(value)
        if stop.is_set():
            return Filled(shown, number, total, "stopped")
        try:
            run = jobs.start(job, {**others, parameter: value}, trigger=f"backfill of {parameter}", stop=stop)
            found = Filled(
                shown, number, total, "completed" if run.status == "COMPLETED" else "stopped", run.id
            )
        except JobCompleted as done:
            found = Filled(shown, number, total, "was completed", done.run)
        except BourneError as error:
            found = Filled(shown, number, total, "failed", getattr(error, "run", None), error)
        tell(found)
        return found

    with ThreadPoolExecutor(at_once, thread_name_prefix="bourne-backfill") as pool:
        return list(pool.map(one, range(1, total + 1), values))
