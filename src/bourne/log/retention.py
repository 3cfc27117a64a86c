"""What becomes of old segments: deleted by age or size, compacted by key, or made cold.

Law: offsets never change, the head hash goes on to vouch for all that is kept, and nothing is touched that a reader
stands at or before, or that a view may have to read again. Each change is one rename or one removal, oldest first, so
that a crash between two leaves a sound log.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.errors import CorruptFrame
from bourne.limits import COMPACT_BYTES_MIN, TOMBSTONE_KEEP_US
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cold import Cold, ColdSegment, make_cold, open_segment
from bourne.log.disk import disk_errors
from bourne.log.format import KIND_SCHEMA, Header, decode_meta, payload_of
from bourne.log.recovery import read_head
from bourne.log.segment import (
    Damaged,
    Segment,
    cold_path,
    parquet_names,
    read_schema,
    segment_bases,
    segment_path,
    size_bytes,
)
from bourne.log.writer import LogWriter
from bourne.ports import Files, write_durably


@dataclass(frozen=True, slots=True)
class Pin:
    """What holds a partition's records from `offset` on, and all behind them."""

    partition: int
    offset: int
    holder: str


@dataclass(slots=True)
class Maintained:
    """What became of a partition: how many segments were deleted, compacted, made cold; and what held the others."""

    log: str
    partition: int
    deleted: int = 0
    compacted: int = 0
    cold: int = 0
    held: list[Pin] = field(default_factory=list)
    is_busy: bool = False
    """Another process is at it just now: nothing was done."""

    def __add__(self, later: Maintained) -> Maintained:
        return Maintained(
            self.log, self.partition, self.deleted + later.deleted, self.compacted + later.compacted,
            self.cold + later.cold, later.held, later.is_busy,
        )  # fmt: skip


def maintain(
    log_folder: Path,
    info: LogInfo,
    partition: int,
    *,
    writer: Callable[[], LogWriter],
    pins: Sequence[Pin],
    now_us: int,
    files: Files,
) -> Maintained:
    """Do to one partition what its retention says. Safe beside writers, readers, and other processes that do the same.

    Raises:
        CorruptFrame: a segment is damaged; it stays as it is.
        StorageError, DiskFull: the disk refuses; what was done before holds.
    """
    folder = partition_folder(log_folder, partition)
    done = Maintained(info.name, partition)
    with disk_errors(folder, f"cannot maintain log {info.name!r}"), ExitStack() as stack:
        if not stack.enter_context(_alone(folder / "maintain")):
            done.is_busy = True
            return done
        keeper = _Keeper(folder, info, partition, writer, now_us, files, done)
        keeper.pin = min(pins, key=lambda pin: pin.offset, default=None)
        keeper.clean()
        keeper.roll()
        keeper.settle()
        keeper.delete()
        keeper.compact()
        keeper.cool()
    return done


def readers(folder: Path, partition: int) -> Iterator[Pin]:
    """Yield the closed segments that somebody is reading just now."""
    for base in segment_bases(folder)[:-1]:
        with _unread(folder, base) as is_free:
            if not is_free:
                yield Pin(partition, base, "a reader")


class _Keeper:
    """Works on one partition. `pin` is the first thing that holds it."""

    def __init__(
        self,
        folder: Path,
        info: LogInfo,
        partition: int,
        writer: Callable[[], LogWriter],
        now_us: int,
        files: Files,
        done: Maintained,
    ) -> None:
        self._folder = folder
        self._info = info
        self._partition = partition
        self._retention = info.retention
        self._writer = writer
        self._now_us = now_us
        self._files = files
        self._done = done
        self.pin: Pin | None = None

    # --- what there is ---

    def _closed(self) -> list[tuple[int, int]]:
        """Return base and end of the segments that nothing is appended to any more, oldest first."""
        head = read_head(self._folder)
        bases = [base for base in segment_bases(self._folder) if head is not None and base <= head.segment]
        return list(itertools.pairwise(bases))

    def _open(self, base: int) -> Segment:
        try:
            found = open_segment(self._folder, base)
        except Damaged as error:
            raise self._damaged(base, error) from None
        if found is None:
            raise self._damaged(base, Damaged("its segment is missing"))
        return found

    def _damaged(self, base: int, error: Damaged) -> CorruptFrame:
        return CorruptFrame(
            f"a segment is not what was written: {error}", log=self._info.name, partition=self._partition,
            file=segment_path(self._folder, base).name, byte=0, offset=base,
        )  # fmt: skip

    def _paths(self, base: int) -> list[Path]:
        """Return the files of a segment."""
        paths = [segment_path(self._folder, base), cold_path(self._folder, base)]
        paths += self._folder.glob(f"{base:020d}-*.parquet")
        return [path for path in paths if path.exists()]

    def _first_frame(self, base: int) -> tuple[Header, dict[str, Any]]:
        """Return header and meta part of the schema frame that a segment starts with."""
        try:
            with closing(self._open(base)) as segment:
                header = segment.header(0, segment.size())
                if header is None or header.kind != KIND_SCHEMA:
                    raise Damaged("the segment does not start with its schema")
                return header, decode_meta(header, segment.body(0, header))
        except Damaged as error:
            raise self._damaged(base, error) from None

    def _is_older(self, end: int, age_us: int) -> bool:
        """Say whether all records before the segment that begins at `end` are at least that old."""
        return int(self._first_frame(end)[1]["until"]) <= self._now_us - age_us

    def _is_pinned(self, end: int) -> bool:
        """Say whether what lies before `end` may have to be read again by a view, and note it."""
        if self.pin is None or end <= self.pin.offset:
            return False
        if self.pin not in self._done.held:
            self._done.held.append(self.pin)
        return True

    @contextlib.contextmanager
    def _unread(self, base: int) -> Iterator[bool]:
        """Keep readers out of a segment for a moment, if none is in it; note it otherwise."""
        with _unread(self._folder, base) as is_free:
            if not is_free:
                self._done.held.append(Pin(self._partition, base, "a reader"))
            yield is_free

    # --- what is done ---

    def clean(self) -> None:
        """Remove what a crash left: drafts, Parquet files that no index names, frames that are cold by now."""
        self._files.sync_folder(self._folder)  # what is named now must be so after a power cut, too
        for draft in self._folder.glob("*.cold.draft"):
            self._files.remove(draft)
        for base, _ in self._closed():
            if cold_path(self._folder, base).exists() and segment_path(self._folder, base).exists():
                unused = segment_path if self._is_whole(base) else cold_path
                with self._unread(base) as is_free:
                    if is_free:
                        self._files.remove(unused(self._folder, base))
        for base, names in parquet_names(self._folder).items():
            if len(names) == 1 and cold_path(self._folder, base).exists():
                continue
            named = None
            if cold_path(self._folder, base).exists():
                with closing(self._cold(base)) as segment:
                    named = segment.parquet
            for name in names:
                if name != named:
                    self._files.remove(self._folder / name)

    def _is_whole(self, base: int) -> bool:
        """Say whether the cold form of a segment is all there: a power cut may have left a part of it."""
        try:
            with closing(ColdSegment(self._folder, base)) as segment:
                segment.check()
        except Damaged:
            return False
        return True

    def _cold(self, base: int) -> ColdSegment:
        try:
            return ColdSegment(self._folder, base)
        except Damaged as error:
            raise self._damaged(base, error) from None

    def roll(self) -> None:
        """Begin a new segment if the last one has records, and is old or large enough for something to be done to it."""
        keep_us, cold_after_us = self._retention.keep_us, self._retention.cold_after_us
        ages = (
            [keep_us // 8] if keep_us is not None else []
        )  # so that nothing is kept longer than 9/8 of that
        ages += [cold_after_us] if cold_after_us is not None else []
        head = read_head(self._folder)
        if head is None or head.next_offset == head.segment:
            return
        is_large = self._retention.is_compacted and head.end >= COMPACT_BYTES_MIN
        if is_large or (
            ages and self._first_frame(head.segment)[0].append_time_us <= self._now_us - min(ages)
        ):
            self._writer().roll()

    def settle(self) -> None:
        """Make `head` durable: after a power cut, an older one would name a segment that is not there any more."""
        if self._closed():
            descriptor = self._files.open(self._folder / "head")
            try:
                self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
            self._files.sync_folder(self._folder)

    def delete(self) -> None:
        """Delete the oldest segments: those that are too old, and those beyond the size."""
        keep_us, keep_bytes = self._retention.keep_us, self._retention.keep_bytes
        if keep_us is None and keep_bytes is None:
            return
        size = size_bytes(self._folder)
        for base, end in self._closed():
            is_old = keep_us is not None and self._is_older(end, keep_us)
            is_much = keep_bytes is not None and size > keep_bytes
            if not (is_old or is_much) or self._is_pinned(end):
                return
            paths = self._paths(base)
            size -= sum(path.stat().st_size for path in paths)
            with self._unread(base) as is_free:
                if not is_free:
                    return
                for path in paths:
                    if path.suffix != ".parquet":
                        self._files.remove(path)
                # Durable before the next one goes: names that came back in another order would leave a gap, or an
                # index without its Parquet file.
                self._files.sync_folder(self._folder)
            for path in paths:
                self._files.remove(path)
            self._done.deleted += 1

    def cool(self) -> None:
        """Make cold what is old enough, oldest first."""
        if self._retention.cold_after_us is None:
            return
        for base, end in self._closed():
            if cold_path(self._folder, base).exists():
                continue
            if not self._is_older(end, self._retention.cold_after_us):
                return
            with closing(self._open(base)) as segment:
                cold = self._made(segment, base, None)
            if cold is not None and self._put(base, cold):
                self._done.cold += 1

    def _made(self, segment: Segment, base: int, keep: NDArray[np.int64] | None) -> Cold | None:
        try:
            return make_cold(
                segment,
                base=base,
                log_id=self._info.id,
                partition=self._partition,
                now_us=self._now_us,
                keep=keep,
            )
        except Damaged as error:
            raise self._damaged(base, error) from None

    def _put(self, base: int, cold: Cold) -> bool:
        """Put the cold form in the place of the one there; say whether nobody was reading that."""
        if cold.parquet is not None:
            path = self._folder / cold.parquet_name
            descriptor = self._files.open(path)
            try:
                self._files.truncate(descriptor, 0)
                self._files.write(descriptor, [cold.parquet], 0)
                self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
            self._files.sync_folder(self._folder)  # its name, too, before an index names it
        with self._unread(base) as is_free:
            if is_free:
                write_durably(self._files, cold_path(self._folder, base), cold.content)
                self._files.remove(segment_path(self._folder, base))
        names = parquet_names(self._folder).get(base, [])
        if is_free:
            unused = [name for name in names if name != cold.parquet_name]
        else:
            is_ours = cold.parquet is not None and not self._is_in_use(base, cold.parquet_name)
            unused = [cold.parquet_name] if is_ours else []
        for name in unused:
            self._files.remove(self._folder / name)
        return is_free

    def _is_in_use(self, base: int, parquet_name: str) -> bool:
        if not cold_path(self._folder, base).exists():
            return False
        with closing(self._cold(base)) as segment:
            return segment.parquet == parquet_name

    # --- compaction ---

    def compact(self) -> None:
        """Keep the newest record per key of the closed segments, and no tombstone that is older than a day.

        Reads the closed segments once, and those not compacted yet twice; they are rewritten only where a record goes.
        Memory: the keys of those that were not compacted yet. Done when there are as many bytes of them as of the others,
        so that on the whole every byte is rewritten O(log) times (as Kafka's cleaner has it).
        """
        if not self._retention.is_compacted:
            return
        closed = self._closed()
        free = [(base, end) for base, end in closed if self.pin is None or end <= self.pin.offset]
        if len(free) < len(closed):
            self._is_pinned(closed[-1][1])
        clean_until, whole = self._compacted()
        dirty = [(base, end) for base, end in free if end > clean_until]
        sizes = {base: sum(path.stat().st_size for path in self._paths(base)) for base, _ in free}
        if not dirty or 2 * sum(sizes[base] for base, _ in dirty) < sum(sizes.values()):
            return
        newest = self._newest([base for base, _ in dirty])
        if whole is not None and whole < free[0][0]:
            whole = None  # it was deleted
        for base, end in free:
            # A tombstone must stay until the records that it stands for are gone.
            drops_tombstones = (whole is None or base < whole) and self._is_older(end, TOMBSTONE_KEEP_US)
            with closing(self._open(base)) as segment:
                keep, count = self._to_keep(segment, base, newest, drops_tombstones)
                if len(keep) == count:
                    continue
                cold = self._made(segment, base, keep)
            if cold is None:
                whole = base if whole is None else min(base, whole)
                continue
            with self._unread(base) as is_free:
                pass
            if not is_free:
                return
            note = {"compacted": {str(base): cold.hash.hex()}}
            self._writer().append(self._info.schema.to_arrow().empty_table(), note)
            if not self._put(base, cold):
                return
            self._done.compacted += 1
        content = json.dumps({"until": free[-1][1], "whole": whole})
        write_durably(self._files, self._folder / "compacted", content.encode())

    def _compacted(self) -> tuple[int, int | None]:
        """Return the offset up to which all has been compacted, and the first segment that could not be.

        If that is not known, nothing has been.
        """
        try:
            content = json.loads((self._folder / "compacted").read_bytes())
            until, whole = int(content["until"]), content.get("whole")
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return 0, None
        return until, whole if isinstance(whole, int) else None

    def _keys(self, segment: Segment) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
        """Yield the key column (and the tombstones) of each frame, with the offsets."""
        assert self._info.key is not None
        names = [self._info.key] + ([self._info.tombstone] if self._info.tombstone else [])
        schema = None
        for byte, header in segment.headers(0, segment.size()):
            if header.kind == KIND_SCHEMA:
                schema = read_schema(payload_of(header, segment.body(byte, header)))
            elif header.row_count:
                assert schema is not None
                records = segment.records(byte, header, schema)
                offsets = records.offsets
                if offsets is None:
                    offsets = np.arange(header.base_offset, header.next_offset)
                folded = {name.casefold(): name for name in schema.names}
                columns = {
                    role: records.batch.column(folded[name.casefold()])
                    for role, name in zip(("key", "tombstone"), names, strict=False)
                    if name.casefold() in folded  # a tombstone column may have been added later
                }
                yield pa.table(columns), offsets

    def _newest(self, bases: Sequence[int]) -> pa.Table:
        """Return the newest offset of each key in these segments: columns `key` and `newest`."""
        newest: pa.Table | None = None
        for base in bases:
            with closing(self._open(base)) as segment:
                try:
                    parts = [
                        pa.table({"key": keys.column("key"), "newest": offsets})
                        for keys, offsets in self._keys(segment)
                    ]
                except Damaged as error:
                    raise self._damaged(base, error) from None
            parts += [newest] if newest is not None else []
            if parts:
                newest = _widened(parts).group_by("key").aggregate([("newest", "max")])
                newest = newest.rename_columns(["key", "newest"])
        return newest if newest is not None else pa.table({"key": [], "newest": []})

    def _to_keep(
        self, segment: Segment, base: int, newest: pa.Table, drops_tombstones: bool
    ) -> tuple[NDArray[np.int64], int]:
        """Return the offsets of the records to keep, and how many there are now."""
        kept, count = [np.zeros(0, np.int64)], 0
        try:
            for keys, offsets in self._keys(segment):
                count += len(offsets)
                # The newest ones' type is the widest: an older segment's may be too narrow for them.
                place = pc.index_in(keys.column("key").cast(newest.column("key").type), newest.column("key"))
                latest = newest.column("newest").take(place).fill_null(-1).to_numpy()
                is_kept = offsets >= latest
                if drops_tombstones and "tombstone" in keys.column_names:
                    is_kept &= ~keys.column("tombstone").fill_null(False).to_numpy()
                kept.append(offsets[is_kept])
        except Damaged as error:
            raise self._damaged(base, error) from None
        return np.concatenate(kept), count


def _widened(parts: Sequence[pa.Table]) -> pa.Table:
    """Put tables together whose keys may have been widened from one segment to the next."""
    return pa.concat_tables(parts, promote_options="permissive").combine_chunks()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock for the time of the block; False if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield _try_exclusive(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unread(folder: Path, base: int) -> Iterator[bool]:
    """Hold the files of a segment for the time of the block; False if a reader has one."""
    with ExitStack() as stack:
        is_free = True
        for path in (segment_path(folder, base), cold_path(folder, base)):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                is_free = is_free and _try_exclusive(descriptor)
        yield is_free


def _try_exclusive(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
