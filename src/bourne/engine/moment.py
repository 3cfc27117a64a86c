"""What an epoch knows of time: recorded with it, so that running it again comes to the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The bound of what is never closed, and of what is, all of it.
NEVER: Final = -(1 << 63)
ALWAYS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Bound:
    """How far one time has come, in microseconds: of rows with a smaller value, none comes any more.

    Below `complete` none that is in time, below `closed` none that is taken in: later by the allowed lateness. `before` is
    `closed` as it was in the epoch before.
    """

    complete: int = NEVER
    closed: int = NEVER
    before: int = NEVER


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of an epoch: the clock, in microseconds since 1970 UTC, and a bound for each time that rows have.

    `watermark_us` is None as long as nothing is known. `is_end` says that no record follows.
    """

    clock_us: int = 0
    watermark_us: int | None = None
    bounds: tuple[Bound, ...] = ()
    is_end: bool = False
