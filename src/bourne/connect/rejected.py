"""Which rows of a change the other side of a sink refuses: found by asking (`Sink.accepts`), changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.connect.sink import Change, Sink
from bourne.errors import Rejected, SinkFailed


def without_rejected(
    sink: Sink, change: Change, error: Rejected, *, allows: Callable[[int, int], bool], name: str, where: str
) -> tuple[Change, Change]:
    """Return a change without the rows that the other side refuses, and these.

    Raises: as `split_rejected`.
    """
    kept, rejected = split_rejected(sink, change, error, allows=allows, name=name, where=where)
    return part_of(change, kept), replace(part_of(change, rejected), gone=None)


def split_rejected(
    sink: Sink, change: Change, error: Rejected, *, allows: Callable[[int, int], bool], name: str, where: str
) -> tuple[list[int], list[int]]:
    """Return the numbers of a change's rows that the other side takes, and of those that it refuses.

    First those that it refuses alone, found by halving; then those that it refuses beside the ones before them, as long as
    `allows` so many good ones and so many refused ones.

    Raises:
        SinkFailed: it does not let keys go, or does not say which rows it refuses.
    """
    if not sink.accepts(part_of(change, [])):
        raise SinkFailed(
            f"sink {name!r} refuses that rows go away", where=where, found=f"{error.what}: {error.found}",
            hint="does something else there refer to them? mend the target",
        ) from error  # fmt: skip
    rejected = _refused_alone(sink, change)
    kept = [number for number in range(change.rows.num_rows) if number not in rejected]
    while not sink.accepts(part_of(change, kept)) and allows(len(kept), len(rejected)):
        good, bad = 0, len(kept)  # it takes so many of them, but not so many
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if sink.accepts(part_of(change, kept[:middle])) else (good, middle)
        rejected.add(kept.pop(good))
    if not rejected:
        raise SinkFailed(
            f"sink {name!r} refuses a change, but takes its rows when it is asked", where=where,
            found=f"{error.what}: {error.found}", hint="does somebody else write there? mend the target",
        ) from error  # fmt: skip
    return kept, sorted(rejected)


def part_of(change: Change, rows: Sequence[int] | Any) -> Change:
    """Return a change with some of its rows; all that goes away, goes: what comes may need its place."""
    index = pa.array(rows, pa.int64())
    weights = None if change.weights is None else change.weights.take(index)
    return Change(change.rows.take(index), change.gone, weights)


def _refused_alone(sink: Sink, change: Change) -> set[int]:
    rejected: set[int] = set()
    waiting = [(0, change.rows.num_rows)]
    while waiting:
        start, end = waiting.pop()
        if start == end or sink.accepts(part_of(change, np.arange(start, end))):
            continue
        if end - start == 1:
            rejected.add(start)
            continue
        middle = (start + end) // 2
        waiting += [(middle, end), (start, middle)]
    return rejected
