"""Repairing a log: what is intact of a damaged one is copied to a new one; the damaged one stays as it is.

Law: each record of the new log is one of the old log, unchanged, in its partition and in its order; every other one that
the old log had acknowledged is in the list of what was lost. Which ones are intact, `bourne.log.intact` says.

The new log has its own id, hash chain, append times and offsets: dense ones, from 0. An old offset becomes a new one by
taking off the old log's first offset, and the offsets before it that were lost or compacted away. A frame becomes a
frame; an append of several frames is not held together any more, so what is intact of it is there. Of what frames hold
beside their records, the new log has the request ids of appends of which all records are there.

It appears under its name when it is complete. An interrupted repair leaves a folder in `repair/` of the data folder,
which nobody reads, or nothing.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.errors import CorruptFrame, DefinitionError, FormatTooNew, StorageError
from bourne.limits import FRAME_BYTES_MAX
from bourne.log.catalog import LogInfo, partition_folder, read_log_info, write_log_info
from bourne.log.disk import disk_errors
from bourne.log.format import HEADER_BYTES, decode_header
from bourne.log.intact import Intact, Lost, Whole
from bourne.log.marks import Marks, marks_of, read_marks, to_meta
from bourne.log.segment import cold_path, segment_bases, segment_path
from bourne.log.writer import LogWriter
from bourne.ports import Clock, Files
from bourne.schema import duckdb_type


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a log: the new one, and by partition how many records it has and the old log's first offset.

    `lost` is in the order of partitions and offsets.
    """

    log: LogInfo
    copied: tuple[int, ...]
    first_offsets: tuple[int, ...]
    lost: tuple[Lost, ...]


def repair_log(
    log_folder: Path,
    new_folder: Path,
    *,
    files: Files,
    clock: Clock,
    trusts_schema: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Copy what is intact of a log to a new one of the same definition, beside it. O(bytes), a frame at a time.

    Nothing under `log_folder` is changed, and nothing there is locked against writers: let nobody write meanwhile.
    With `trusts_schema`, records whose own schema is lost are read under the one behind it, though nothing proves that
    it was theirs. `on_progress` is called with the bytes of frames that were copied, and all that there may be.

    Raises:
        DefinitionError: the new log's name is taken, or a repair to it was interrupted.
        StorageError: the log's definition is missing or damaged; the disk refuses.
        DiskFull: there is no space for the copy; nothing of it is left.
        FormatTooNew: a newer Bourne wrote the log.
    """
    info = _definition(log_folder)
    draft = new_folder.parent.parent / "repair" / new_folder.name
    _check_free(new_folder, draft)
    with disk_errors(log_folder, f"cannot read log {info.name!r}"):
        _check_fits(log_folder, info)
        partitions = [
            Intact(log_folder, info, number, boot_id=files.boot_id(), trusts_schema=trusts_schema)
            for number in range(info.partitions)
        ]
    try:
        with disk_errors(draft, f"cannot make log {new_folder.name!r}"):
            new = write_log_info(draft, replace(info, name=new_folder.name, id=bytes(16)), files)
        plain = replace(
            new, request_id=None
        )  # rows with an id that was used before are in the old log for a reason
        copied, lost = [], []
        total, done = sum(partition.size_bytes for partition in partitions), 0
        for number, partition in enumerate(partitions):
            writer = LogWriter(draft, plain, files=files, clock=clock, partition=number)
            try:
                copy = _Copy(writer)
                with disk_errors(log_folder, f"cannot read log {info.name!r}"):
                    for each in partition.read():
                        if isinstance(each, Lost):
                            lost.append(each)
                            continue
                        copy.take(each)
                        done += each.header.frame_bytes
                        if on_progress is not None:
                            on_progress(done, total)
                if marks := copy.marks | _last_marks(log_folder, info, number):
                    writer.append(info.schema.to_arrow().empty_table(), to_meta(marks))
                writer.sync()
                copied.append(writer.next_offset)
            finally:
                writer.close()
        with disk_errors(new_folder, f"cannot make log {new_folder.name!r}"):
            files.replace(draft, new_folder)
            files.sync_folder(new_folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.parent.rmdir()  # unless another repair is at work there
    return Repaired(new, tuple(copied), tuple(each.first_offset for each in partitions), tuple(lost))


class _Copy:
    """Appends frames to the new log, and knows which old offsets are there without a gap: from `_old` on, at `_new`."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._old = self._next = 0
        self._new = 0
        # With the first old offset, the number of records, and perhaps a hash.
        self._ids: list[tuple[Any, ...]] = []
        self.marks: Marks = {}  # how far the sources had come

    def take(self, frame: Whole) -> None:
        """Append a frame."""
        header = frame.header
        if header.base_offset != self._next or frame.offsets is not None:
            self._old, self._new = header.base_offset, self._writer.next_offset
        self._next = header.next_offset
        if frame.offsets is not None:  # some of its records are gone, so its offsets do not map
            self._old, self._new = self._next, self._new + frame.batch.num_rows
        self.marks |= marks_of(frame.meta)
        meta = self._request_ids(frame.meta)
        table = pa.Table.from_batches([frame.batch])
        if meta is not None and table.nbytes > FRAME_BYTES_MAX // 2:
            # It may need several frames by now, as types can widen; the ids fit in any.
            self._writer.write(table, durability="none")
            table = table.slice(0, 0)
        self._writer.write(table, meta, durability="none")

    def _request_ids(self, meta: dict[str, Any]) -> dict[str, Any] | None:
        """Return the ids of the appends that are complete with this frame, under their new offsets."""
        self._ids += [tuple(each) for each in meta.get("requests", ())]
        self._ids = [each for each in self._ids if each[1] >= self._old]
        complete = [each for each in self._ids if each[1] + each[2] <= self._next]
        self._ids = [each for each in self._ids if each not in complete]
        if not complete:
            return None
        return {
            "requests": [[name, first - self._old + self._new, *others] for name, first, *others in complete]
        }


def _last_marks(log_folder: Path, info: LogInfo, partition: int) -> Marks:
    """Return how far the sources had come, if the last segment still says so."""
    try:
        return read_marks(partition_folder(log_folder, partition), log=info.name, partition=partition)
    except CorruptFrame:
        return {}


def _definition(log_folder: Path) -> LogInfo:
    """Return what `log.json` says.

    Raises:
        StorageError: it is missing or damaged; says what to do.
    """
    try:
        info = read_log_info(log_folder)
        if info is not None:
            for column in info.schema.columns:
                duckdb_type(column.type)
            return info
        found: object = "no such file"
    except FormatTooNew:
        raise
    except (StorageError, DefinitionError) as error:
        found = error.found or error.what
    ids = ", ".join(each.hex() for each in set(_ids(log_folder))) or "not found"
    raise StorageError(
        "a log cannot be repaired without its definition",
        where=str(log_folder / "log.json"),
        expected="the log's name, id, columns and partitions",
        found=found,
        hint="restore that file from a copy; or declare the same log in an empty data folder, take that one's log.json, "
        f"and put the id of this log's frames into it ({ids})",
    )


def _check_free(new_folder: Path, draft: Path) -> None:
    """Refuse a name that is taken; SQL ignores case.

    Raises:
        DefinitionError: it is.
    """
    for folder in (new_folder, draft):
        others = folder.parent.iterdir() if folder.parent.is_dir() else ()
        taken = next((each for each in others if each.name.casefold() == folder.name.casefold()), None)
        if taken is not None:
            raise DefinitionError(
                f"the name {new_folder.name!r} is taken" if folder == new_folder
                else f"a repair to {new_folder.name!r} is at work, or was interrupted",
                where=str(taken),
                hint="choose another name" if folder == new_folder
                else "choose another name, or delete that folder: nothing reads it",
            )  # fmt: skip


def _check_fits(log_folder: Path, info: LogInfo) -> None:
    """Refuse a definition that cannot be this log's.

    Raises:
        StorageError: its frames have another id, or there are more partitions.
    """
    numbers = [int(each.name) for each in log_folder.iterdir() if each.is_dir() and each.name.isdecimal()]
    more = [number for number in numbers if number >= info.partitions]
    hint = "restore log.json from a copy, or put that right in it"
    if more:
        raise StorageError(
            "log.json is not what was written", where=str(log_folder), expected=f"{info.partitions} partitions",
            found=f"a partition {max(more)}", hint=hint,
        )  # fmt: skip
    ids = Counter(_ids(log_folder))
    if ids and info.id not in ids:
        raise StorageError(
            "log.json is not what was written", where=str(log_folder), expected=f"id {info.id.hex()}",
            found=f"id {ids.most_common(1)[0][0].hex()} in the log's frames", hint=hint,
        )  # fmt: skip


def _ids(log_folder: Path) -> Iterator[bytes]:
    """Yield the log's id as the first header of each segment says it."""
    for folder in sorted(each for each in log_folder.glob("*") if each.name.isdecimal()):
        for base in segment_bases(folder):
            for path in (segment_path(folder, base), cold_path(folder, base)):
                if path.exists():
                    with path.open("rb") as file:
                        header = decode_header(file.read(HEADER_BYTES), file=path.name)
                    if header is not None:
                        yield header.log_id
