"""What a source appends to a log: records, and in the same write where the source stands after them (`bourne.log.marks`).

Law: whatever crash comes in between, each record that a source handed over is in the log once, and its position tells.

An append whose records go to several partitions is kept in a file first: what a crash has torn is completed from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from bourne.errors import Closed, InputError, LogLocked, StorageError
from bourne.log.at_work import take
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.disk import disk_errors
from bourne.log.marks import Mark, read_marks, to_meta
from bourne.log.partition import split
from bourne.log.relation import check_records, column_of
from bourne.log.writer import LogWriter
from bourne.ports import Files, write_durably
from bourne.schema import conform


class Partitions(Protocol):
    """What `SourceAppends` needs of a log: where it is, and who writes to its partitions."""

    folder: Path

    @property
    def info(self) -> LogInfo: ...

    def writer(self, partition: int) -> LogWriter: ...


def source_file(log_folder: Path, source: str, what: str) -> Path:
    """Return the path of a source's `lock` beside its log, or of its `pending` append."""
    return log_folder / f"source-{hashlib.sha256(source.encode()).hexdigest()[:16]}.{what}"


class SourceAppends:
    """The appends of one source to one log, with their marks. One at a time: a second one is refused by a file lock."""

    def __init__(self, log: Partitions, source: str, *, files: Files) -> None:
        """Take the source's lock, and complete what a crash has torn.

        The log stays the caller's to close.

        Raises:
            LogLocked: this source is at work elsewhere.
            CorruptFrame, StorageError: the log, or what was kept of a torn append, cannot be read.
        """
        self._log = log
        self._source = source
        self._files = files
        self._pending = source_file(log.folder, source, "pending")
        self._descriptor = self._lock(source_file(log.folder, source, "lock"))
        try:
            self.marks: dict[int, Mark] = {}
            for number in range(log.info.partitions):
                log.writer(
                    number
                ).sync()  # recover first: whole frames that a crash left behind the end count
                marks = read_marks(partition_folder(log.folder, number), log=log.info.name, partition=number)
                if source in marks:
                    self.marks[number] = marks[source]
            self._complete()
        except BaseException:
            self.close()
            raise

    def _lock(self, path: Path) -> int | None:
        with disk_errors(path, f"cannot run source {self._source!r}"):
            descriptor = take(path)
        if descriptor is None:
            raise LogLocked(
                f"source {self._source!r} of log {self._log.info.name!r} is at work already",
                where=str(self._log.folder), pid=None,
            )  # fmt: skip
        return descriptor

    @property
    def position(self) -> Any:
        """Where the source stands, over all partitions; None if it has not appended anything yet."""
        newest = max(self.marks.values(), key=lambda mark: mark.number, default=None)
        return None if newest is None else newest.position

    def append(self, rows: Any, position: Any, *, partition: int | None = None) -> int:
        """Append records, and with them where the source stands after them; durable when this returns.

        Args:
            rows: as for `EmbeddedLog.append`; None if only the position goes on.
            partition: where all of them go, and what the position is about. By default by key, and about everything.

        Returns: how many records were appended.

        Raises: as `EmbeddedLog.append`. Whether it was stored is known to the next one that opens this: this one is closed
        then.
        """
        if self._descriptor is None:
            raise Closed(f"source {self._source!r} is closed", hint="open it again")
        info = self._log.info
        table = (
            info.schema.to_arrow().empty_table()
            if rows is None
            else conform(rows, info.schema, log=info.name)
        )
        check_records(info, table)
        mark = Mark(max((each.number for each in self.marks.values()), default=0) + 1, position)
        parts = self._parts(table, partition)
        try:
            if len(parts) > 1:
                self._keep(table, mark)
            for number, part in parts.items():
                self._write(number, part, mark)
        except BaseException:
            self.close()
            raise
        return int(table.num_rows)

    def _parts(self, table: pa.Table, partition: int | None) -> dict[int, pa.Table]:
        info = self._log.info
        if partition is not None or info.partitions == 1 or not table.num_rows:
            number = partition or 0
            if number >= info.partitions:
                raise InputError(
                    f"log {info.name!r} has no partition {number}", where=f"source {self._source!r}",
                    expected=f"0 to {info.partitions - 1}", found=number,
                    hint="declare the log with as many partitions as the source has",
                )  # fmt: skip
            return {number: table}
        assert info.key is not None  # declared with several partitions
        keys = column_of(info, table, info.key)
        return {number: part for number, part, _ in split(table, info.key, info.partitions, keys=keys)}

    def _write(self, partition: int, table: pa.Table, mark: Mark) -> None:
        meta = to_meta({self._source: mark})
        self._log.writer(partition).write(table, meta, durability="fsync")
        self.marks[partition] = mark

    # --- appends to several partitions -------------------------------------------------------------------

    def _keep(self, table: pa.Table, mark: Mark) -> None:
        """Keep an append durably, to be completed after a crash."""
        schema = table.schema.with_metadata({b"mark": json.dumps(list(mark)).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(table.replace_schema_metadata(schema.metadata))
        with disk_errors(self._pending, f"cannot append to log {self._log.info.name!r}"):
            write_durably(self._files, self._pending, sink.getvalue().to_pybytes())

    def _complete(self) -> None:
        """Write what is missing of the append that was kept last."""
        if not self._pending.exists():
            return
        try:
            with pa.OSFile(str(self._pending)) as file, pa.ipc.open_file(file) as reader:
                table = reader.read_all()
                mark = Mark(*json.loads(reader.schema.metadata[b"mark"]))
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise StorageError(
                f"what was kept of an append of source {self._source!r} cannot be read", where=str(self._pending),
                found=str(error), hint="restore that file from a copy",
            ) from error  # fmt: skip
        for number, part in self._parts(self._adapted(table), None).items():
            if number not in self.marks or self.marks[number].number < mark.number:
                self._write(number, part, mark)

    def _adapted(self, table: pa.Table) -> pa.Table:
        """Return the records in the log's columns, to which some may have been added since."""
        return conform(table.replace_schema_metadata(None), self._log.info.schema, log=self._log.info.name)

    def close(self) -> None:
        """Give the lock back. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
