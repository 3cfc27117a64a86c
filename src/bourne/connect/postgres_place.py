"""Where a source of PostgreSQL's changes stands, and what a snapshot of its table has seen.

Law: the table at a place is, for each range of keys, what that range's snapshot saw, and all changes in the stream up to
`lsn` (and the first `open[1]` of the transaction that commits at `open[0]`) that it did not see. A transaction that a
snapshot saw was written to the WAL before the range's `wal`: when the stream is past it, the range says nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bourne.errors import SourceFailed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions a query saw: PostgreSQL's `xmin:xmax:xip,xip...`, in 64-bit ids."""

    text: str
    first: int = field(init=False)
    end: int = field(init=False)
    running: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        first, end, running = self.text.split(":")
        object.__setattr__(self, "first", int(first))
        object.__setattr__(self, "end", int(end))
        object.__setattr__(
            self, "running", frozenset(map(int, running.split(","))) if running else frozenset()
        )

    def sees(self, transactions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which committed transactions it saw. Their ids have 32 bits: they are meant to be near to the snapshot's."""
        away = (transactions - self.end) & 0xFFFFFFFF
        whole = self.end + np.where(away >= 1 << 31, away - (1 << 32), away)
        is_past = whole < self.end
        if self.running:
            is_past &= ~np.isin(whole, np.fromiter(self.running, np.int64))
        return is_past

    def misses_of(self, earlier: Snapshot) -> bool:
        """Say whether it does not see something that an earlier one saw: a commit that is written but not yet visible."""
        return any(earlier.sees(np.array([each & 0xFFFFFFFF]))[0] for each in self.running)


@dataclass(frozen=True, slots=True)
class Range:
    """Keys behind those of the range before, up to and with `last` (texts; None: to the end), and who saw them."""

    last: tuple[str, ...] | None
    snapshot: Snapshot
    wal: int


@dataclass(frozen=True, slots=True)
class Place:
    """A position: `system` and `table` are the server's and the table's ids, `is_copied` ends the first copy."""

    system: str
    table: int
    lsn: int
    ranges: tuple[Range, ...] = ()
    is_copied: bool = False
    open: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a position."""
        ranges = [
            {
                "last": None if each.last is None else list(each.last),
                "snapshot": each.snapshot.text,
                "wal": each.wal,
            }
            for each in self.ranges
        ]
        return {
            "system": self.system,
            "table": self.table,
            "phase": "stream" if self.is_copied else "snapshot",
            "lsn": self.lsn,
            **({"ranges": ranges} if ranges else {}),
            **({"open": list(self.open)} if self.open else {}),
        }


def place_from_json(position: Any) -> Place:
    """Read back what `to_json` wrote.

    Raises:
        SourceFailed: it is not such a position.
    """
    try:
        ranges = tuple(
            Range(
                None if each["last"] is None else tuple(each["last"]),
                Snapshot(each["snapshot"]),
                int(each["wal"]),
            )
            for each in position.get("ranges", ())
        )
        opened = position.get("open")
        return Place(
            system=str(position["system"]),
            table=int(position["table"]),
            lsn=int(position["lsn"]),
            ranges=ranges,
            is_copied=position["phase"] == "stream",
            open=None if opened is None else (int(opened[0]), int(opened[1])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SourceFailed(
            "this is not a position of a PostgreSQL source", found=repr(position)[:200],
            hint="has the source's name been another source's before? Give it a new one",
        ) from error  # fmt: skip


def lsn_number(text: str) -> int:
    """Return a WAL position such as 0/16B3748 as a number."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(number: int) -> str:
    """Return a WAL position as PostgreSQL writes it."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"
