"""The contract of a source: what brings records into a log.

Law: a source hands over its records in an order that it can repeat, and after each part says where it stands. Who starts
it again from there gets what follows, no record twice and none left out. The position is kept in the log, in the same
write as the records (`bourne.log.source_appends`); so, if the source keeps its law, each record is in the log once.

A source knows nothing of the log but its columns. It does not append, it does not try again, and it keeps at most one
part at a time, and may read one more ahead: `bourne.intake` does the rest, and asks for the next part only when the last
one is durable. One kind is different: whose senders wait for an answer appends what they send itself
(`Surroundings.append`), while it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import pyarrow as pa

Delivery = Literal["exactly once", "at least once", "at most once"]

Position = Any
"""Where a source or a sink stands: plain JSON, small (it is in every frame), understood by itself only."""


ROW: Final = "row"
"""The format of a row that a sink refused: a JSON object, or, where that does not say it exactly, an Arrow stream; beside
its columns with `__weight` where rows have weights."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be taken in: its bytes as they came, why, and where it was (`orders.csv, line 12`).

    The origin is one of a kind within its source: it tells a letter that comes again after a crash. The format says how
    the bytes are read again: `csv:` and the columns' names, `jsonl`, `text`, `arrow`, `ROW`, or nothing where they cannot be.
    """

    origin: str
    reason: str
    data: bytes
    format: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a source hands over at once: records (or none, if only its position goes on), and where it stands after them.

    `rows` has columns of the log, by name; what is missing is NULL. With a `partition`, all of them go into that one,
    and the position is about that one alone; else they go by key, and the position is about everything.
    """

    rows: pa.Table | None
    position: Position
    partition: int | None = None
    dead: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """So many records that a source has appended itself, durably, as their senders wait for the acknowledgement.

    Such a source keeps no position: its senders do, and send again what was not acknowledged.
    """

    records: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a source is behind: in records and in bytes of the other side, where it knows; 0 when it has all.

    `note` warns of what grows on the other side meanwhile.
    """

    records: int | None = None
    bytes: int | None = None
    note: str | None = None


class Source(Protocol):
    """Brings records. All of it is called by one thread, but `stop` and `lag`, which may come from any."""

    name: str
    """What it is called in the log's marks, in `bourne status` and in dead letters: no secrets in it."""

    delivery: Delivery
    """What it promises: a source that cannot repeat what it handed over is "at most once"."""

    def read(
        self, position: Position | None, partitions: dict[int, Position]
    ) -> Iterator[Taken | Stored | None]:
        """Go on from a position (None: from the beginning), and yield what comes, until it ends or is stopped.

        Yields None when nothing is there just now, at least every tenth of a second once it is connected (until then it is
        not shown as running, and looks itself whether it was stopped): that is when `lag` is 0, too. The
        position that came with a part is durable when the next one is asked for.

        Args:
            position: the last one that it handed over for everything.
            partitions: the last one of each partition, of a source that hands over by partition.

        Raises:
            Unreachable: the other side is not there; it is tried again, from the last position.
            SourceFailed, InputError, DefinitionError: going on makes no sense before something is mended.
        """
        ...

    def confirm(self, position: Position) -> None:
        """All up to this position (that `read` has yielded) is durable here: the other side may forget it."""
        ...

    def lag(self) -> Lag:
        """Return how far it is behind, as of what it knows."""
        ...

    def stop(self) -> None:
        """Let `read` end soon, with what it had already taken in. Safe to call twice."""
        ...
