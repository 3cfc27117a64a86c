"""Where a chunk step writes to: a sink, and what makes a whole target seen at once.

Law: rows and position move together, as of any sink. What replaces a target is written beside it, and takes its place when
all of it is there: a reader sees the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from bourne.batch.steps import Mode
from bourne.connect.file_sink import FileSink, LineFormat
from bourne.connect.positions import check_held
from bourne.connect.sink import Change, Shape, Sink
from bourne.connect.sinks import open_sink, sink_kind
from bourne.connect.source import Delivery, Position
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError, InputError, Rejected, SinkFailed, StorageError, Unreachable
from bourne.jobs.history import History
from bourne.jobs.host import Host
from bourne.jobs.replaced_table import ReplacedTable
from bourne.log.catalog import read_json
from bourne.log.disk import disk_errors
from bourne.log.relation import check_records
from bourne.log.source_appends import SourceAppends
from bourne.ports import make_folder_durably
from bourne.schema import conform


class Target(Protocol):
    """A sink for the chunks of one step, or one part of it."""

    sink: Sink

    def open(self) -> Position | None:
        """As `Sink.open`."""
        ...

    def finish(self) -> None:
        """Make seen what was written, if it is not yet; durable on return. May be called again after a crash."""
        ...

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        ...


class Plain:
    """A target that is seen as it grows."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def open(self) -> Position | None:
        """Open the sink."""
        return self.sink.open()

    def finish(self) -> None:
        """All of it is seen already."""

    def close(self) -> None:
        """Close the sink."""
        self.sink.close()


class FileReplaced:
    """A file that is written beside its place (`.NAME.part`) and renamed into it when it is complete."""

    def __init__(self, path: Path, kind: LineFormat, shape: Shape, host: Host) -> None:
        self._path = path
        self._files = host.files
        self._shape = shape
        self._draft = path.with_name(f".{path.name}.part")
        self._sidecar = self._draft.with_name(self._draft.name + ".position")
        self.sink: Sink = FileSink(self._draft, kind, shape, files=host.files)

    def open(self) -> Position | None:
        """Open what has been written so far; what another run has left there of something else is thrown away."""
        with disk_errors(self._path, f"cannot write {self._path}"):
            make_folder_durably(self._files, self._path.parent)
            left = self._left()
            if left is not None and left.get("sink") != self._shape.name:
                self._files.remove(self._draft)
                self._files.remove(self._sidecar)
            elif left is not None and not self._draft.exists() and (left.get("position") or {}).get("done"):
                return left["position"]  # it was renamed, and nobody came to note it
            elif left is None and self._draft.exists():
                self._files.remove(self._draft)
        return self.sink.open()

    def _left(self) -> dict[str, Any] | None:
        try:
            return read_json(self._sidecar)
        except StorageError:
            return {}

    def finish(self) -> None:
        """Put the file into its place."""
        self.sink.close()
        with disk_errors(self._path, f"cannot write {self._path}"):
            if self._draft.exists():
                self._check_own()
                self._files.replace(self._draft, self._path)
                self._files.sync_folder(self._path.parent)

    def _check_own(self) -> None:
        """Refuse to put a file into the place that another run has begun meanwhile."""
        left = self._left() or {}
        if left.get("sink") != self._shape.name or not (left.get("position") or {}).get("done"):
            raise Unreachable(
                "another run writes to the same file", where=str(self._path), expected=self._shape.name, found=left.get("sink"),
                hint="let one wait for the other: pools=…; or give each a file of its own",
            )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self.sink.close()

    def forget(self) -> None:
        """Take away what was needed to go on after a crash."""
        with disk_errors(self._path, f"cannot write {self._path}"):
            self._files.remove(self._sidecar)


class LogSink:
    """A log of the app. The position is in the frames of its records."""

    delivery: Delivery = "exactly once"

    def __init__(self, log: str, shape: Shape, host: Host) -> None:
        """Note which log.

        Raises:
            DefinitionError: its rows have a key; a log has one of its own.
        """
        if shape.key:
            raise DefinitionError("rows of a log are not replaced", where=f"log {log!r}", expected="no key",
                                  found=", ".join(shape.key), hint="declare the log with changes='upsert' and its key")  # fmt: skip
        self._log, self._name, self._host = log, shape.name, host
        self._appends: SourceAppends | None = None

    def open(self) -> Position | None:
        """Take the position's lock, and return it."""
        self.close()
        self._appends = SourceAppends(self._host.log(self._log), self._name, files=self._host.files)
        return self._appends.position

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Append the rows, and in the same frames the position."""
        if self._appends is None:
            self.open()
        assert self._appends is not None
        check_held(self._appends.position, before, where=f"log {self._log!r}")
        try:
            self._check(change)
        except InputError as error:
            raise Rejected(
                f"log {self._log!r} does not take a row: {error.what}", where=error.where, expected=error.expected, found=error.found
            ) from error  # fmt: skip
        self._appends.append(change.rows, position)

    def accepts(self, change: Change) -> bool:
        """Say whether the log takes all rows."""
        try:
            self._check(change)
        except InputError:
            return False
        return True

    def _check(self, change: Change) -> None:
        info = self._host.log(self._log).info
        check_records(info, conform(change.rows, info.schema, log=info.name))

    def close(self) -> None:
        """Give the lock back."""
        if self._appends is not None:
            self._appends.close()
            self._appends = None


class FunctionSink:
    """A function that is called with each chunk's rows, and a text that is the same when a chunk comes again."""

    delivery: Delivery = "at least once"

    def __init__(
        self, function: Callable[[pa.Table, str], Any], shape: Shape, history: Callable[[], History]
    ) -> None:
        self._function, self._name, self._history = function, shape.name, history

    def open(self) -> Position | None:
        """Return the position that the history has."""
        return self._history().position(self._name)

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Call the function, then note the position."""
        check_held(self.open(), before, where=self._name)
        if change.gone is not None and change.gone.num_rows:
            raise SinkFailed("rows go away, which a function is not told of", where=self._name,
                             hint="write to a table, with a key")  # fmt: skip
        if change.rows.num_rows:
            self._function(change.rows, f"{self._name} after {0 if before is None else before['read']}")
        self._history().move_position(self._name, position, before)

    def accepts(self, change: Change) -> bool:
        """Say nothing of single rows."""
        return True

    def close(self) -> None:
        """Nothing is held."""


def open_target(
    write: str | Callable[..., Any],
    shape: Shape,
    *,
    mode: Mode | None,
    host: Host,
    history: Callable[[], History],
) -> Target:
    """Return what a step writes to.

    Raises:
        DefinitionError: there is no such target, or it cannot be replaced.
    """
    if mode == "replace" and (callable(write) or parse_url(write).scheme == "log"):
        raise DefinitionError("such a target cannot be replaced", where=shape.name, expected="a table or a file",
                              found="a function" if callable(write) else write)  # fmt: skip
    if callable(write):
        return Plain(FunctionSink(write, shape, history))
    parts = parse_url(write)
    if parts.scheme == "log":
        return Plain(LogSink(parts.path, shape, host))
    path = _file(parts)
    if path is not None and mode != "append":
        kind: LineFormat = "csv" if sink_kind(parts) == "csv" else "jsonl"
        return FileReplaced(path, kind, shape, host)
    if mode == "replace":
        return ReplacedTable(parts, shape)
    if sink_kind(parts) == "parquet":
        with disk_errors(path := Path(parts.path).absolute(), f"cannot write {path}"):
            make_folder_durably(host.files, path.parent)
    return Plain(open_sink(write, shape))


def _file(parts: Url) -> Path | None:
    return Path(parts.path) if sink_kind(parts) in ("csv", "jsonl") else None
