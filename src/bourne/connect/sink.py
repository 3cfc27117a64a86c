"""The contract of a sink: where the rows of a view go.

Law: a sink that delivers exactly once keeps the position that it is given in the same atomic write as the rows, and
`open` returns what it holds. So after any crash, on either side, it says itself from where on it wants to go on; what it
holds is what the view said at its position.

A sink knows nothing of views and logs. It does not try again, and gets one change at a time: `bourne.delivery` does the
rest, and gives it the next change only when the last one is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from bourne.connect.source import Delivery, Position
from bourne.schema import Schema


@dataclass(frozen=True, slots=True)
class Shape:
    """What a sink is going to get: `name` is what its position is kept under, `schema` its columns.

    With a `key`, the rows replace those of the same key, and keys go away: an upsert. Without one, and if rows are also
    taken back (`has_weights`), each row has a weight, +n or -n. Else rows are only ever added.

    `is_shared`: sinks of other names may write to the same place, as the instances and parts of a job do.
    """

    name: str
    schema: Schema
    key: tuple[str, ...] = ()
    has_weights: bool = False
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of the rows of a sink. `rows` has the columns of the shape.

    With a key: `rows` are the new rows of their keys, each at most once, and `gone` the keys (the key's columns) that
    have no row any more; no key is in both. With weights: `weights` is an int64 array, one for each of `rows`.
    """

    rows: pa.Table
    gone: pa.Table | None = None
    weights: pa.Array | None = None

    @property
    def size(self) -> int:
        """How many rows and keys it is about."""
        return int(self.rows.num_rows) + (0 if self.gone is None else int(self.gone.num_rows))


class Sink(Protocol):
    """Takes rows. Called by one thread."""

    delivery: Delivery
    """The best that it can promise."""

    def open(self) -> Position | None:
        """Connect, make what is missing on the other side, and return the position that it holds; None at first.

        Called again after `Unreachable`: what it holds may then be another position than before.

        Raises:
            Unreachable: the other side is not there; it is tried again.
            SinkFailed, DefinitionError: what is there does not fit.
        """
        ...

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write a change and the position after it, all or nothing; durable, as the other side has it, on return.

        A sink that is not "exactly once" may ignore the position: it is kept elsewhere.

        Args:
            before: the position that it holds. If it turns out to hold another one (somebody else is at it, or a write
                that was thought lost came through), it writes nothing and raises `Unreachable`, so that it is opened
                again.

        Raises:
            Unreachable: the other side is not there; whether it was written shows when it is opened again.
            Rejected: the other side refuses some row; nothing was written.
        """
        ...

    def accepts(self, change: Change) -> bool:
        """Say whether the other side would take a change, and change nothing. Asked after `Rejected`, to find the rows.

        Raises: as `write`, but for Rejected.
        """
        ...

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        ...
