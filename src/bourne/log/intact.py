"""What is intact of a damaged partition, and what is not: for `repair`. Changes nothing, takes no lock but a reader's.

Law: a record is served only if its frame is provably whole (the CRC-32 of its header, the CRC-32 and the hash of its
body), names this log and partition, and stands where it must: behind the frame before it by `previous_hash`, or, behind
damage, at an offset and frame number that fit between what is before it and what is behind it. What is not served is
listed, unless it held no records.

A record is read under its segment's schema. Where that one is damaged, another is taken only if it is provably the
same: schemas only grow from segment to segment, so one that is the same before and behind is the same in between; or
the newer one's bytes are there, or complete the damaged frame to what its hash says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.errors import DefinitionError
from bourne.evolution import adapt, check_evolution
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cold import ColdSegment, open_segment
from bourne.log.format import (
    ALIGNMENT,
    CONTINUED,
    HEADER_BYTES,
    KIND_RECORDS,
    KIND_SCHEMA,
    Head,
    Header,
    decode_header,
    payload_of,
    sums_of,
)
from bourne.log.recovery import after_frame, read_head
from bourne.log.runs import NOWHERE, Anchor, Run, contradicts, first_run, later_runs, that_fit
from bourne.log.segment import (
    Damaged,
    HotSegment,
    Segment,
    cold_path,
    frames,
    hot_bases,
    parquet_names,
    read_bytes,
    read_schema,
    segment_bases,
    segment_name,
    segment_path,
)
from bourne.schema import Schema

# A segment's schema frames stand at its start: their bytes are looked for no further than this.
_SCHEMA_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that are not intact: their offsets, where the damage is, and what it is.

    `next` is the offset behind them, None where nobody knows how many there were.
    """

    partition: int
    first: int
    next: int | None
    file: str
    byte: int
    reason: str


class Whole(NamedTuple):
    """A frame that is intact: its records in the log's newest columns; `offsets` only where some were compacted away."""

    header: Header
    batch: pa.RecordBatch
    meta: dict[str, Any]
    offsets: NDArray[np.int64] | None


@dataclass(slots=True)
class _Part:
    """A segment: the frames that belong here, its schema, or why there is nothing to be had of it."""

    base: int
    name: str
    end: int = 0  # how far there can be frames
    runs: list[Run] = field(default_factory=list)
    reason: str | None = None
    schemas: list[pa.Schema] = field(default_factory=list)  # of its whole schema frames
    is_schema_sure: bool = False  # the last of them is the one of its records
    schema: pa.Schema | None = None
    records_at: int | None = None  # where the first frame with records starts

    @property
    def end_of_runs(self) -> int:
        return self.runs[-1].end if self.runs else 0

    @property
    def next_offset(self) -> int:
        return self.runs[-1].last.next_offset if self.runs else self.base


class Intact:
    """One partition: decides when it is made, by headers alone where nothing is damaged; `read` then serves."""

    def __init__(
        self, log_folder: Path, info: LogInfo, partition: int, *, boot_id: bytes, trusts_schema: bool = False
    ) -> None:
        """`boot_id` is the id of the running system: a `head` of another one may be older than what was acknowledged.

        With `trusts_schema`, records whose schema is lost are read under the newer one, though nothing proves it.

        Raises:
            FormatTooNew: a newer Bourne wrote it.
            DefinitionError: the log's declaration does not fit its records.
            OSError: the disk refuses.
        """
        self._info = info
        self._partition = partition
        self._folder = partition_folder(log_folder, partition)
        self._boot_id = boot_id
        self._trusts_schema = trusts_schema
        self._arrow = info.schema.to_arrow()
        self._last: list[Lost] = []  # what is known of the end
        self._end: int | None = None  # the offset that the partition ends at
        self._parts = self._plan()
        self._settle_schemas()
        self.size_bytes = sum(part.end for part in self._parts)
        self.first_offset = self._parts[0].base if self._parts else 0

    # --- deciding: which frames there are ------------------------------------------------------------------

    def _plan(self) -> list[_Part]:
        """Return the segments, each with the frames that belong here. From the last to the first: `head` vouches."""
        if not self._folder.is_dir():
            self._last = [Lost(self._partition, 0, None, self._folder.name, 0, "its folder is missing")]
            return []
        head = self._head()
        bases = segment_bases(self._folder)
        anchor = Anchor(None, NOWHERE, NOWHERE)
        if head is not None:
            bases = [base for base in bases if base <= head.segment]
            is_there = head.segment in bases
            anchor = Anchor(head.hash if is_there else None, head.number, head.next_offset)
        parts: list[_Part] = []
        for base in reversed(bases):
            end = head.end if head is not None and base == head.segment else None
            part = self._part(base, end, anchor)
            parts.insert(0, part)
            first = part.runs[0].first if part.runs and part.runs[0].start == 0 else None
            anchor = Anchor(
                first.previous_hash if first else None, first.number if first else anchor.number, base
            )
        if head is not None:
            self._end = head.next_offset
        elif parts:
            self._cut_unfinished(parts[-1])
        return parts

    def _head(self) -> Head | None:
        """Return how far the log goes; None if nobody knows.

        Nobody was told of what lies past `head`, so it does not count; but a `head` from before the machine was started
        anew may be older than what was acknowledged, as it is not synced: then whole appends that continue it do.
        """
        head = read_head(self._folder)
        if head is None:
            return None
        beyond = _beyond(self._folder, head)
        if head.boot_id != self._boot_id:
            return beyond
        if beyond.next_offset > head.next_offset:
            self._last = [
                self._lost(head.next_offset, beyond.next_offset, segment_name(head.segment), head.end,
                           "whole, but past what 'head' acknowledges")
            ]  # fmt: skip
        return head

    def _part(self, base: int, end: int | None, anchor: Anchor) -> _Part:
        part = _Part(base, segment_name(base))
        try:
            segment = open_segment(self._folder, base)
        except Damaged as error:
            part.name = cold_path(self._folder, base).name
            part.reason = str(error) + self._parquet_hint(base)
            return part
        if segment is None:  # retention deleted it just now
            part.reason = "its segment is missing"
            return part
        with closing(segment):
            part.name = segment.name
            part.end = segment.size() if end is None else min(end, segment.size())
            if isinstance(segment, ColdSegment):
                self._plan_cold(part, segment, anchor)
            else:
                self._plan_hot(part, segment, anchor)
            if part.reason is None:
                self._find_schemas(part, segment)
        return part

    def _plan_cold(self, part: _Part, segment: ColdSegment, anchor: Anchor) -> None:
        content = cold_path(self._folder, part.base).read_bytes()
        index = decode_header(content)
        if index is None or sums_of([memoryview(content)[HEADER_BYTES:]]).hash != index.body_hash:
            part.reason = "the hash of the segment's index does not match its bytes"
            part.reason += self._parquet_hint(part.base)
            return
        run = first_run(segment.headers(0, part.end), part.base, self._is_ours)
        if run is None or run.end != part.end or contradicts(run, anchor):
            part.reason = "its frames are not those of this place in the log"
            return
        part.runs = [run]

    def _plan_hot(self, part: _Part, segment: Segment, anchor: Anchor) -> None:
        start = first_run(segment.headers(0, part.end), part.base, self._is_ours)
        if start is not None and contradicts(start, anchor):
            part.reason = "its frames are not those of this place in the log"
            return
        if start is not None:
            part.runs = [start]
            if start.end == part.end or start.last.hash == anchor.hash:
                return
        number = start.last.number if start is not None else -1
        offset = start.last.next_offset if start is not None else part.base
        path, at = segment_path(self._folder, part.base), start.end if start is not None else 0
        fitting = that_fit(list(later_runs(path, at, part.end, self._is_ours)), number, offset, anchor)
        if start is not None and fitting and fitting[0].first.number <= number:
            # Some of it is there twice: what was moved within the file is whole only where it leads on.
            before = fitting[0].first.number
            found = (
                (byte, header) for byte, header in segment.headers(0, start.end) if header.number < before
            )
            start = first_run(found, part.base, self._is_ours)
            part.runs = [start] if start is not None else []
        part.runs += fitting

    def _is_ours(self, header: Header) -> bool:
        return (
            header.log_id == self._info.id
            and header.partition == self._partition
            and header.kind in (KIND_SCHEMA, KIND_RECORDS)
        )

    def _cut_unfinished(self, part: _Part) -> None:
        """Without `head`, an append at the end of the log whose last frame is not there does not count."""
        end, next_offset = part.end_of_runs, part.next_offset
        while part.runs and part.runs[-1].last.flags & CONTINUED:
            self._shorten(part)
        self._end = part.next_offset
        is_torn = end < part.end or part.reason is not None
        if part.reason is not None:
            reason = part.reason
        elif part.end_of_runs < end:
            reason = "the append has no end; without 'head', nobody knows whether it was acknowledged"
        elif is_torn:
            reason = "no whole frame from here on; without 'head', nobody knows whether a crash tore an append or it is damaged"
        else:
            return
        following = None if is_torn else next_offset
        self._last = [self._lost(self._end, following, part.name, part.end_of_runs, reason)]

    def _shorten(self, part: _Part) -> None:
        """Take the frames at a segment's end away that are continued."""
        run = part.runs.pop()
        with closing(HotSegment(segment_path(self._folder, part.base))) as segment:
            for byte, header in segment.headers(run.start, run.end):
                if not header.flags & CONTINUED:
                    run = run._replace(end=byte + header.frame_bytes, last=header)
        if not run.last.flags & CONTINUED:
            part.runs.append(run)

    # --- deciding: which schema --------------------------------------------------------------------------

    def _find_schemas(self, part: _Part, segment: Segment) -> None:
        """Collect a segment's whole schema frames; the last one is surely the one of its records if none can be missing."""
        before: Header | None = None
        for run in part.runs:
            for byte, header in segment.headers(run.start, run.end):
                if before is None:
                    part.is_schema_sure = byte == 0
                elif header.number != before.number + 1:
                    # A schema frame may be missing: but not if there is one gap of one frame, and that one had records.
                    is_one = header.number == before.number + 2
                    part.is_schema_sure &= is_one and header.base_offset > before.next_offset
                before = header
                if header.kind == KIND_SCHEMA:
                    try:
                        payload = payload_of(header, _whole_body(segment, byte, header))
                    except Damaged:
                        part.is_schema_sure = False
                    else:
                        part.schemas.append(read_schema(payload))
                        part.is_schema_sure = True
                elif header.base_offset > part.base or header.row_count:
                    part.records_at = byte
                    return

    def _settle_schemas(self) -> None:
        """Say under which schema each segment's records are read.

        Raises:
            DefinitionError: the log's declaration does not follow from it.
        """
        newer = self._arrow
        above = []
        for part in reversed(self._parts):
            above.append(newer)
            newer = part.schemas[0] if part.schemas else newer
        older: pa.Schema | None = None
        for part, newer in zip(self._parts, reversed(above), strict=True):
            older = part.schemas[-1] if part.schemas else older
            if part.is_schema_sure:
                part.schema = older
            elif (part.runs and (_is_same(older, newer) or self._has_schema(part, newer))) or (
                part.runs and self._trusts_schema
            ):
                part.schema = newer
            elif part.runs:
                part.runs = []
                part.reason = "the schema that its records need is lost, and no other is provably the same"
            older = part.schema or older
            if part.schema is not None:
                check_evolution(Schema.from_arrow(part.schema), self._info.schema, where=self._where())

    def _where(self) -> str:
        return f"log {self._info.name!r}, {self._folder.with_name('log.json')}"

    def _has_schema(self, part: _Part, schema: pa.Schema) -> bool:
        """Say whether the segment starts with a schema: its bytes are there, or complete what a header vouches for."""
        path = segment_path(self._folder, part.base)
        if not path.exists():
            return False
        payload = bytes(schema.serialize())
        with path.open("rb") as file:
            start = bytes(read_bytes(file.fileno(), 0, min(part.end, _SCHEMA_BYTES_MAX)))
        at = start.find(payload, HEADER_BYTES, part.records_at)
        while at >= 0:
            if at % ALIGNMENT == 0:
                return True
            at = start.find(payload, at + 1, part.records_at)
        header = decode_header(start)
        if header is None or not part.runs or part.runs[0].start or header.payload_bytes != len(payload):
            return False
        body = bytearray(start[HEADER_BYTES : header.frame_bytes])
        payload_at = -(-header.meta_bytes // ALIGNMENT) * ALIGNMENT
        body[payload_at : payload_at + len(payload)] = payload
        return sums_of([memoryview(body)]).hash == header.body_hash

    # --- reading -----------------------------------------------------------------------------------------

    def read(self) -> Iterator[Whole | Lost]:
        """Yield what is intact and what is lost, in the order of the offsets, frame by frame.

        Raises:
            OSError: the disk refuses.
        """
        offset = self.first_offset
        retention = self._info.retention
        if offset and retention.keep_us is None and retention.keep_bytes is None:
            reason = "no segment holds them: its files are missing, or an earlier retention deleted them"
            yield self._lost(0, offset, segment_name(0), 0, reason)
        place = segment_name(offset), 0, "its segment is missing"
        for part in self._parts:
            if part.base > offset:
                yield self._lost(offset, part.base, *place)
                offset = part.base
            if part.reason is not None:
                place = part.name, 0, part.reason
                continue
            for each in self._read_part(part, offset):
                yield each
                offset = each.header.next_offset if isinstance(each, Whole) else each.next or offset
            reason = "no whole frame of this log from here on"
            if part.end_of_runs == part.end:
                reason = "the file was cut here, or the next one is missing" + self._parquet_hint(offset)
            place = part.name, part.end_of_runs, reason
        if self._end is not None and self._end > offset:
            yield self._lost(offset, self._end, *place)
        yield from self._last

    def _read_part(self, part: _Part, offset: int) -> Iterator[Whole | Lost]:
        segment = open_segment(self._folder, part.base)
        if segment is None:
            return
        with closing(segment):
            at = 0
            for run in part.runs:
                for byte, header in segment.headers(run.start, run.end):
                    if header.base_offset > offset:
                        reason = f"no whole frame of this log until byte {byte}"
                        yield self._lost(offset, header.base_offset, part.name, at, reason)
                    at, offset = byte + header.frame_bytes, header.next_offset
                    if header.kind != KIND_RECORDS:
                        continue
                    try:
                        yield self._whole(part, segment, byte, header)
                    except Damaged as error:
                        if header.row_count:
                            yield self._lost(
                                header.base_offset, header.next_offset, part.name, byte, str(error)
                            )

    def _whole(self, part: _Part, segment: Segment, byte: int, header: Header) -> Whole:
        """Return a frame of records.

        Raises:
            Damaged: it is not what was written.
        """
        if not segment.is_compacted(byte):
            _whole_body(segment, byte, header)
        try:
            batch, meta, offsets = segment.records(byte, header, part.schema)
            if self._trusts_schema:
                batch.validate(full=True)
            batch = adapt(batch, self._info.schema)
        except pa.ArrowException as error:
            raise Damaged(f"its records cannot be read under its segment's schema: {error}") from error
        except DefinitionError as error:
            raise Damaged(f"its records do not fit the log's columns: {error.what}") from error
        if batch.num_rows != (header.row_count if offsets is None else len(offsets)):
            raise Damaged("it has another number of records than its header says")
        return Whole(header, batch, meta, offsets)

    def _lost(self, first: int, following: int | None, file: str, byte: int, reason: str) -> Lost:
        return Lost(self._partition, first, following, file, byte, reason)

    def _parquet_hint(self, base: int) -> str:
        """Return where rows may be that nothing vouches for."""
        names = parquet_names(self._folder).get(base, [])
        return f" ({', '.join(names)} may still hold its records, but nothing proves them)" if names else ""


def _beyond(folder: Path, head: Head) -> Head:
    """Return the end of the whole appends that continue `head`, as the next writer would find it."""
    at, stable = head, head
    for base in [base for base in hot_bases(folder) if base >= head.segment]:
        if base > head.segment:
            if base != at.next_offset:
                break
            at = at._replace(segment=base, end=0, last=0)
        path = segment_path(folder, base)
        with path.open("rb") as file:
            for byte, header in frames(file.fileno(), at.end, file=path.name):
                is_next = (header.previous_hash, header.number, header.base_offset) == (
                    at.hash, at.number, at.next_offset
                )  # fmt: skip
                if not is_next:
                    return stable
                at = after_frame(at, byte, header)
                if not header.flags & CONTINUED:
                    stable = at
            if at.end != path.stat().st_size:
                return stable
    return stable


def _whole_body(segment: Segment, byte: int, header: Header) -> memoryview:
    """Return a frame's body, by its checksum and its hash what was written.

    Raises:
        Damaged: it is not.
    """
    body = segment.body(byte, header)
    if sums_of([body]).hash != header.body_hash:
        raise Damaged("its hash does not match its bytes")
    return body


def _is_same(one: pa.Schema | None, other: pa.Schema) -> bool:
    """Say whether records mean the same under both; the case of names does not matter."""
    return one is not None and _meaning(one) == _meaning(other)


def _meaning(schema: pa.Schema) -> list[tuple[str, str, bool]]:
    columns = Schema.from_arrow(schema).columns
    return [(column.name.casefold(), column.type, column.nullable) for column in columns]
