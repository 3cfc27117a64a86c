"""How much the logs hold and how far the views are: read from what is committed, from any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bourne.log.embedded import EmbeddedLog
from bourne.log.reader import LogReader
from bourne.log.retention import Pin
from bourne.views.catalog import ViewInfo


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How much a log holds: how many records were appended, how many are kept, in how many bytes.

    `ends` are the offsets after the last record of each partition; `end` is their sum. `records` counts the offsets
    that are kept, also of records that compaction dropped. `pins` say what keeps retention from old records, and from
    which offset on: views, and readers in segments that are closed.
    """

    name: str
    end: int
    records: int
    bytes: int
    ends: tuple[int, ...]
    pins: tuple[Pin, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """How far a view is. `watermark_us` is in microseconds of event time; None before the first record."""

    name: str
    version: int
    input: str
    position: int
    lag_records: int
    rows: int
    epoch: int
    watermark_us: int | None
    state_rows: int
    state_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """All logs and views of a data folder, by name."""

    logs: tuple[LogStatus, ...]
    views: tuple[ViewStatus, ...]


def log_status(log: EmbeddedLog, pins: Sequence[Pin]) -> LogStatus:
    """Return how much a log holds now; `pins` are those of its views."""
    cursor = log.cursor()
    try:
        ends, firsts = cursor.end_offsets(), cursor.first_offsets()
        size = cursor.size_bytes()
    finally:
        cursor.close()
    return LogStatus(log.info.name, sum(ends), sum(ends) - sum(firsts), size, ends, tuple(pins))


def view_status(view: ViewInfo, *, input_ends: Sequence[int], rows: int) -> ViewStatus:
    """Return how far a view is; `input_ends` are its log's ends, `rows` how many rows it has."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
        output_bytes = reader.size_bytes()
    finally:
        reader.close()
    meta = last.meta if last else {}
    positions = meta["positions"][view.input.name] if meta else [0] * len(input_ends)
    return ViewStatus(
        name=view.name,
        version=view.version,
        input=view.input.name,
        position=sum(positions),
        lag_records=sum(max(0, end - at) for end, at in zip(input_ends, positions, strict=True)),
        rows=rows,
        epoch=meta.get("epoch", -1),
        watermark_us=meta.get("watermark"),
        state_rows=meta.get("state_rows", 0),
        state_bytes=meta.get("state_bytes", 0),
        output_bytes=output_bytes,
    )
