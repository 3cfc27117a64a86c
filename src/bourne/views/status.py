"""How much the logs hold and how far the views are: read from what is committed, from any process."""

from __future__ import annotations

from dataclasses import dataclass

from bourne.log.catalog import LogInfo
from bourne.log.reader import LogReader
from bourne.views.catalog import Catalog, ViewInfo


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How much a log holds: the offset after its last record, how many records are kept, in how many bytes."""

    name: str
    end: int
    records: int
    bytes: int


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


def log_status(catalog: Catalog, log: LogInfo) -> LogStatus:
    """Return how much a log holds now."""
    reader = LogReader(catalog.log_folder(log.name), log)
    try:
        end = reader.end_offset()
        return LogStatus(log.name, end, end - reader.first_offset, reader.size_bytes())
    finally:
        reader.close()


def view_status(view: ViewInfo, *, input_end: int, rows: int) -> ViewStatus:
    """Return how far a view is; `input_end` is its log's end, `rows` how many rows it has."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
        output_bytes = reader.size_bytes()
    finally:
        reader.close()
    meta = last.meta if last else {}
    position = meta["positions"][view.input.name][0] if meta else 0
    return ViewStatus(
        name=view.name,
        version=view.version,
        input=view.input.name,
        position=position,
        lag_records=max(0, input_end - position),
        rows=rows,
        epoch=meta.get("epoch", -1),
        watermark_us=meta.get("watermark"),
        state_rows=meta.get("state_rows", 0),
        state_bytes=meta.get("state_bytes", 0),
        output_bytes=output_bytes,
    )
