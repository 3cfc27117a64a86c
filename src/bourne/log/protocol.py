"""What a log is to those who use it, whatever keeps it.

The law: within a partition, records have dense offsets in the order in which they were acknowledged, the same for
every reader and for ever; what was acknowledged is served, once and unchanged, and nothing else is.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.log.catalog import Durability, LogInfo
from bourne.position import position_text

Place = int | datetime | Sequence[int]
"""Where to start or stop: an offset (of a log with one partition), an instant of append, or an offset per partition."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the records of one append are.

    `ranges` are the offsets that this call wrote, by partition (or that the first call with its request id wrote, if
    this one `is_repeat`); `partitions` and `offsets` say it of each record, in the order of the rows given. `position`
    says it for `at_least`: what reflects it reflects these records.
    """

    ranges: Mapping[int, range]
    is_repeat: bool
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    log: str = ""

    @property
    def position(self) -> str:
        """The position after these records."""
        ends = [0] * (1 + max(self.ranges, default=0))
        for partition, offsets in self.ranges.items():
            ends[partition] = offsets.stop
        return position_text({self.log: tuple(ends)})

    def __len__(self) -> int:
        return len(self.offsets)

    def __repr__(self) -> str:
        places = ", ".join(f"{number}: {r.start}..{r.stop}" for number, r in self.ranges.items())
        return f"Appended({len(self)} records, {{{places}}}{', a repeat' if self.is_repeat else ''})"


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of a partition, to publish elsewhere: the offset after its last record, and the hash of its last frame.

    Whoever has it can tell later whether the log up to there is still the same (`bourne verify`, `bourne prove`).
    """

    partition: int
    offset: int
    hash: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition that follow one another. `append_time_us` is in microseconds since 1970-01-01 UTC."""

    partition: int
    first_offset: int
    next_offset: int
    append_time_us: int
    records: pa.RecordBatch
    offsets: NDArray[np.int64]


class Batches(Protocol):
    """What `Log.batches` returns: iterate over it with `for` or `async for`."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    @property
    def positions(self) -> tuple[int, ...]:
        """Where it stands: the offset of the next record of each partition, to go on from another time."""
        ...

    def close(self) -> None:
        """Let go of the files; iterating ends. Safe to call twice, and from another thread."""
        ...


class Log(Protocol):
    """An ordered, durable sequence of records in partitions."""

    @property
    def info(self) -> LogInfo:
        """Its name, columns and promises."""
        ...

    def append(
        self, rows: Any, *, durability: Durability | None = None, request_id: str | None = None
    ) -> Appended:
        """Append records, all or none in each partition; acknowledged when this returns.

        A repeat of a `request_id` writes nothing and returns the first offsets.
        """
        ...

    def first_offsets(self) -> tuple[int, ...]:
        """Return the offset of the oldest record that is kept, of each partition."""
        ...

    def end_offsets(self) -> tuple[int, ...]:
        """Return the offset after the last acknowledged record, of each partition, as of now."""
        ...

    def batches(
        self,
        *,
        start: Place | None = None,
        until: Place | None = None,
        partition: int | None = None,
        follow: bool = False,
        stop: threading.Event | None = None,
    ) -> Batches:
        """Return the records from `start` to before `until`, in order within each partition.

        With `follow` it waits for more, until `stop` is set or it is closed.

        Raises:
            InputError: there is no such offset (any more), or no such partition.
        """
        ...

    def close(self) -> None:
        """Make durable what is not yet, and let go. Safe to call twice."""
        ...
