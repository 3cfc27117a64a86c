"""Which records of its log a view may have to read again: retention leaves them alone."""

from __future__ import annotations

from bourne.engine.snapshot import oldest_positions
from bourne.log.catalog import LogInfo
from bourne.log.reader import LogReader
from bourne.log.retention import Pin
from bourne.views.catalog import ViewInfo


def view_pins(view: ViewInfo, log: LogInfo) -> list[Pin]:
    """Return where a view's recovery, or its first run, would start in each partition of one of its logs."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
    finally:
        reader.close()
    positions: list[int] | None = None
    if last is not None and not last.meta["has_state"]:
        positions = last.meta["positions"][log.name]
    elif last is not None:
        saved = oldest_positions(view.folder / "snapshots")
        positions = saved[log.name] if saved is not None else None
    if positions is None:
        positions = [0] * log.partitions
    return [Pin(number, offset, f"view {view.name}") for number, offset in enumerate(positions)]
