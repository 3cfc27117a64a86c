"""How much the logs hold and how far the views are: read from what is committed, from any process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bourne.engine.circuit import OperatorState
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
class OperatorStatus:
    """How much one operator of a view remembers: rows or keys, in about so many bytes of memory.

    `number` is its number in the view, as `Instance.explain` gives it.
    """

    number: int
    operator: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class WatermarkStatus:
    """How far the time of one input of a view has come, in microseconds of event time; None: nothing is known.

    `partitions` says it of each partition of a log: the least holds the view back.
    """

    input: str
    watermark_us: int | None
    partitions: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class BuildingStatus:
    """How far the version of a view is that is being built, and why it is: `change`, `replay` or `rollback`."""

    version: int
    why: str
    position: int
    lag_records: int


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """How far a view is. `watermark_us` is in microseconds of event time, the least of `watermarks`, but for idle ones;
    None as long as nothing is known. `is_complete` says that its inputs have ended (`catch_up(final=True)`).

    `late_records` counts the records that came too late for it (they are in the log `NAME_late`), `failed_records` those
    that it goes on without (in `NAME_errors`).

    `inputs` are the logs and views that it reads, `position` the sum of its offsets in them. `state` says what each of
    its operators remembers, `state_rows` and `state_bytes` are the sums. `building` is the version that is going to be
    served next, if there is one.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    position: int
    lag_records: int
    rows: int
    epoch: int
    watermark_us: int | None
    state_rows: int
    state_bytes: int
    output_bytes: int
    state: tuple[OperatorStatus, ...] = ()
    watermarks: tuple[WatermarkStatus, ...] = ()
    is_complete: bool = False
    late_records: int = 0
    failed_records: int = 0
    building: BuildingStatus | None = None


def log_status(log: EmbeddedLog, pins: Sequence[Pin]) -> LogStatus:
    """Return how much a log holds now; `pins` are those of its views."""
    cursor = log.cursor()
    try:
        ends, firsts = cursor.end_offsets(), cursor.first_offsets()
        size = cursor.size_bytes()
    finally:
        cursor.close()
    return LogStatus(log.info.name, sum(ends), sum(ends) - sum(firsts), size, ends, tuple(pins))


def output_ends(view: ViewInfo) -> tuple[int, ...]:
    """Return the end of a view's output log, as of now."""
    reader = LogReader(view.folder, view.output)
    try:
        return (reader.end_offset(),)
    finally:
        reader.close()


def view_state(view: ViewInfo) -> tuple[int, list[OperatorState]] | None:
    """Return the epoch that a view has committed last, and what its operators remembered then. None before the first."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
    finally:
        reader.close()
    return None if last is None else (last.meta.get("epoch", -1), _states(last.meta))


def _states(meta: Mapping[str, Any]) -> list[OperatorState]:
    return [OperatorState(*each) for each in meta.get("state", [])]


def view_status(
    view: ViewInfo,
    *,
    input_ends: Mapping[str, Sequence[int]],
    rows: int,
    late_records: int,
    failed_records: int,
    building: BuildingStatus | None = None,
) -> ViewStatus:
    """Return how far a view is; `input_ends` are the ends of its inputs, `rows` how many rows it has."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
        output_bytes = reader.size_bytes()
    finally:
        reader.close()
    meta = last.meta if last else {}
    reached: Mapping[str, Sequence[int]] = meta.get("positions", {})
    state = tuple(OperatorStatus(each.node, each.label, each.rows, each.bytes) for each in _states(meta))
    return ViewStatus(
        name=view.name,
        version=view.version,
        inputs=tuple(each.name for each in view.inputs),
        position=sum(sum(offsets) for offsets in reached.values()),
        lag_records=sum(_lag(ends, reached.get(name, ())) for name, ends in input_ends.items()),
        rows=rows,
        epoch=meta.get("epoch", -1),
        watermark_us=meta.get("watermark"),
        state_rows=sum(each.rows for each in state),
        state_bytes=sum(each.bytes for each in state),
        output_bytes=output_bytes,
        state=state,
        watermarks=tuple(_watermark(name, found) for name, found in meta.get("watermarks", {}).items()),
        is_complete=meta.get("end", False),
        late_records=late_records,
        failed_records=failed_records,
        building=building,
    )


def building_status(view: ViewInfo, why: str, *, input_ends: Mapping[str, Sequence[int]]) -> BuildingStatus:
    """Return how far a version is that is being built; `input_ends` are the ends of logs and served views."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
    finally:
        reader.close()
    reached: Mapping[str, Sequence[int]] = {} if last is None else last.meta["positions"]
    return BuildingStatus(
        view.version,
        why,
        sum(sum(offsets) for offsets in reached.values()),
        sum(
            _lag(input_ends[each.name], reached.get(each.name, ()))
            for each in view.inputs
            if each.name in input_ends
        ),
    )


def _watermark(name: str, found: Sequence[Any]) -> WatermarkStatus:
    reached: Sequence[int | None] = found[0]
    known = [at for at in reached if at is not None]
    return WatermarkStatus(name, min(known) if len(known) == len(reached) else None, tuple(reached))


def _lag(ends: Sequence[int], reached: Sequence[int]) -> int:
    positions = [*reached, *[0] * (len(ends) - len(reached))]
    return sum(max(0, end - at) for end, at in zip(ends, positions, strict=True))
