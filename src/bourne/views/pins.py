"""Which records of its log a view may have to read again: retention leaves them alone; without them it cannot go on."""

from __future__ import annotations

from bourne.engine.snapshot import oldest_positions
from bourne.errors import ViewFailed
from bourne.log.catalog import LogInfo
from bourne.log.cursor import LogCursor
from bourne.log.reader import LogReader
from bourne.log.retention import Pin
from bourne.views.catalog import Catalog, ViewInfo


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


def first_offsets(catalog: Catalog, log: LogInfo) -> tuple[int, ...]:
    """Return, of each partition of a log, the first record that is kept."""
    cursor = LogCursor(catalog.log_folder(log.name), log)
    try:
        return cursor.first_offsets()
    finally:
        cursor.close()


def check_can_go_on(catalog: Catalog, view: ViewInfo) -> None:
    """Refuse a version whose logs do not keep what it has not taken in.

    Raises:
        ViewFailed: they do not.
    """
    for each in view.inputs:
        if catalog.log(each.name) is None:
            continue
        kept = first_offsets(catalog, each)
        reached = [pin.offset for pin in view_pins(view, each)]
        if any(at > start for at, start in zip(kept, reached, strict=True)):
            raise ViewFailed(
                f"version {view.version} of view {view.name!r} cannot catch up: records are gone that it has not taken in",
                where=f"log {each.name!r}", expected=f"records from offset {', '.join(map(str, reached))} on",
                found=f"records from offset {', '.join(map(str, kept))} on",
                hint="serve it as it stands, without what came since: --as-it-is",
            )  # fmt: skip
