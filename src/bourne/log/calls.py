"""Calls that wait to be written, and the frames that they become: small neighbours share one.

Law: the frames hold the calls' rows in the calls' order, and each frame fits the limits or is one record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from bourne.limits import FRAME_BYTES_MAX, GROUP_FRAME_BYTES, SMALL_APPEND_BYTES
from bourne.log.catalog import Durability
from bourne.log.requests import Written


class Call:
    """One call, waiting to be written: an append, or with `table` None a wish to sync, to roll, or to close."""

    __slots__ = (
        "durability", "error", "hash", "id", "is_close", "is_done", "is_roll", "is_small", "meta", "size", "table", "wake",
        "written",
    )  # fmt: skip

    def __init__(
        self,
        table: pa.Table | None,
        durability: Durability,
        meta: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        is_close: bool = False,
        is_roll: bool = False,
        request_hash: str | None = None,
    ) -> None:
        self.table = table
        self.size = _size_of(table) if table is not None else 0
        # Whether it may share a frame with its neighbours.
        self.is_small = table is not None and meta is None and self.size <= SMALL_APPEND_BYTES
        self.durability = durability
        self.meta = meta
        self.id = request_id
        self.hash = request_hash
        self.is_close = is_close
        self.is_roll = is_roll
        self.is_done = False
        self.written = Written(range(0))
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.is_done = True


class NewFrame(NamedTuple):
    """Records to be written as one frame."""

    batch: pa.RecordBatch
    meta: Mapping[str, Any] | None
    is_continued: bool


class Planned(NamedTuple):
    """A call, the rows of it that are not there yet, and what to answer."""

    call: Call
    table: pa.Table
    written: Written


def grouped(
    planned: Sequence[Planned],
    cut: Callable[[pa.Table, Mapping[str, Any] | None, bool], Iterator[NewFrame]],
) -> Iterator[NewFrame]:
    """Yield the frames of the calls: small neighbours share one."""
    together: list[Planned] = []
    size = 0
    for each in planned:
        request, table, _ = each
        if request.is_small and size < GROUP_FRAME_BYTES:
            together.append(each)
            size += request.size
            continue
        yield from _together(together, cut)
        together, size = ([each], request.size) if request.is_small else ([], 0)
        if not request.is_small and (table.num_rows or request.meta is not None):
            meta = request.meta if request.meta is not None else _ids_of([each])
            yield from cut(table, meta, request.meta is not None)
    yield from _together(together, cut)


def _together(
    calls: Sequence[Planned],
    cut: Callable[[pa.Table, Mapping[str, Any] | None, bool], Iterator[NewFrame]],
) -> Iterator[NewFrame]:
    tables = [table for _, table, _ in calls if table.num_rows]
    if tables:
        schema = tables[0].schema
        alike = [
            table if table.schema.equals(schema) else pa.Table.from_arrays(table.columns, schema=schema)
            for table in tables
        ]
        yield from cut(
            alike[0] if len(alike) == 1 else pa.concat_tables(alike), _ids_of(calls), len(alike) > 1
        )


def _ids_of(calls: Sequence[Planned]) -> Mapping[str, Any] | None:
    """Return the meta part that remembers the request ids of these calls; None if there are none."""
    ids = [
        [request.id, written.offsets.start, len(written.offsets), *([request.hash] if request.hash else [])]
        for request, _, written in calls
        if request.id is not None and not written.is_repeat
    ]
    return {"requests": ids} if ids else None


def halved(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield a table in record batches that fit a frame; a record that does not fit alone comes alone."""
    if table.num_rows > 1 and _size_of(table, FRAME_BYTES_MAX // 2) > FRAME_BYTES_MAX // 2:
        middle = table.num_rows // 2
        yield from halved(table.slice(0, middle))
        yield from halved(table.slice(middle))
    else:
        yield from table.combine_chunks().to_batches()


def _size_of(table: pa.Table, few: int = SMALL_APPEND_BYTES) -> int:
    """Return how many bytes a table has; quickly, and perhaps too many, where they are `few` at most."""
    held = int(table.get_total_buffer_size())  # more, if it is a slice of a larger one
    return held if held <= few else int(table.nbytes)
