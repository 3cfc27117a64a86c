"""What could not be taken in, or delivered: kept with its bytes, why, and where it came from, to be mended and retried.

Law: a letter is in the log `dead_letters` once, however often a crash makes it come again: its id says where it was.
What became of it is in a second log, `dead_letters_done`, likewise once. Both are logs like any other, for SQL to read.

Nothing is eaten: more dead letters than were declared stop the source (or the sink) before its position moves on.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa

from bourne.connect.source import DeadLetter
from bourne.errors import DefinitionError
from bourne.limits import DEAD_RATE_RECORDS
from bourne.log.catalog import LogInfo
from bourne.ports import Clock
from bourne.schema import Column, Schema

DEAD_LETTERS: Final = "dead_letters"
DEAD_LETTERS_DONE: Final = "dead_letters_done"

_LETTERS = Schema(
    (
        Column("id", "VARCHAR", nullable=False),
        Column("at", "TIMESTAMP", nullable=False),
        Column("origin", "VARCHAR", nullable=False),
        Column("place", "VARCHAR", nullable=False),
        Column("log", "VARCHAR", nullable=False),
        Column("reason", "VARCHAR", nullable=False),
        Column("format", "VARCHAR", nullable=False),
        Column("data", "BLOB", nullable=False),
    )
)

_DONE = Schema(
    (
        Column("id", "VARCHAR", nullable=False),
        Column("at", "TIMESTAMP", nullable=False),
        Column("outcome", "VARCHAR", nullable=False),
    )
)

LOGS: Final = (
    LogInfo(DEAD_LETTERS, _LETTERS, request_id="id"),
    LogInfo(DEAD_LETTERS_DONE, _DONE, request_id="id"),
)


class DeadLetters:
    """The dead letters of one source or sink. `append` returns when they are durable, each id once."""

    def __init__(
        self,
        append: Callable[[str, pa.Table], object],
        clock: Clock,
        *,
        origin: str,
        log: str,
        share_max: float,
    ) -> None:
        """`append` appends to the log of that name; `origin` is the source's or sink's name, `log` what it feeds or follows."""
        self._append = append
        self._clock = clock
        self._origin = origin
        self._log = log
        self.rate = Rate(share_max)
        self.count = 0

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; durable when this returns. Some may be there already."""
        if not letters:
            return
        now = [self._clock.now_us()] * len(letters)
        columns: dict[str, list[Any]] = {
            "id": [letter_id(self._origin, self._log, each) for each in letters],
            "at": now,
            "origin": [self._origin] * len(letters),
            "place": [each.origin for each in letters],
            "log": [self._log] * len(letters),
            "reason": [each.reason for each in letters],
            "format": [each.format for each in letters],
            "data": [each.data for each in letters],
        }
        self._append(DEAD_LETTERS, pa.table(columns, schema=_LETTERS.to_arrow()))
        self.count += len(letters)

    def settle(self, ids: Sequence[str]) -> None:
        """Note that letters were delivered after all; durable when this returns. Some may be noted already."""
        if ids:
            self._append(DEAD_LETTERS_DONE, outcomes(ids, "retried", self._clock.now_us()))


def outcomes(ids: Sequence[str], outcome: str, at_us: int) -> pa.Table:
    """Return what became of letters as records of the log of that."""
    columns = {"id": list(ids), "at": [at_us] * len(ids), "outcome": [outcome] * len(ids)}
    return pa.table(columns, schema=_DONE.to_arrow())


def letter_id(origin: str, log: str, letter: DeadLetter) -> str:
    """Return what a letter is called: the same whenever it comes."""
    place = "\0".join((origin, log, letter.origin, "")).encode()
    return hashlib.sha256(place + letter.data).hexdigest()[:16]


class Rate:
    """The share of dead letters among the last records."""

    def __init__(self, share_max: float) -> None:
        self._share_max = share_max
        self._parts: deque[tuple[int, int]] = deque()
        self._records = self._dead = 0

    def is_within(self, records: int, dead: int) -> bool:
        """Say whether the share would be within bounds with a part."""
        if not dead or self._share_max >= 1:
            return True
        return self._dead + dead <= self._share_max * max(self._records + records + dead, DEAD_RATE_RECORDS)

    def count(self, records: int, dead: int) -> None:
        """Take in a part: so many records that were taken, and so many that were not."""
        records += dead
        self._parts.append((records, dead))
        self._records += records
        self._dead += dead
        while len(self._parts) > 1 and self._records - self._parts[0][0] >= DEAD_RATE_RECORDS:
            gone = self._parts.popleft()
            self._records -= gone[0]
            self._dead -= gone[1]

    def __str__(self) -> str:
        return f"at most {self._share_max:.2%} of {DEAD_RATE_RECORDS:,} records"


def share(text: float | str, *, where: str) -> float:
    """Return the largest share of dead letters, as it was declared: 0.01 or "1%".

    Raises:
        DefinitionError: it is no share.
    """
    try:
        found = (
            float(text.removesuffix("%")) / 100
            if isinstance(text, str) and text.endswith("%")
            else float(text)
        )
    except (ValueError, TypeError):
        found = -1.0
    if not 0 <= found <= 1:
        raise DefinitionError(
            "no share of dead letters",
            where=where,
            expected="0 to 1, or a percentage such as '1%'",
            found=repr(text),
        )
    return found
