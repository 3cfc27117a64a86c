"""Rows at the end of a file: JSON lines or CSV, `jsonl:path` or `csv:path`; or to standard output, `stdout:` or `-`.

Law: the position is in a second file, `path.position`, with how many bytes of the first it is about; it is replaced
atomically after those bytes are synced. `open` cuts what is beyond them. So each change is in the file once and whole when
`write` returns, durably. Who reads the file meanwhile may see rows of a change before it counts, and, if there was a
crash, see them written anew.

A shape with weights gets a column `__weight`: a row is there as often as its weights sum up to. One with a key is refused:
lines cannot be replaced. Every type is written as `bourne query` writes it, exactly, and `bourne append` reads it back. In
JSON lines a value of type JSON is part of the line: it loses line breaks between its parts, and its `null` is NULL. In CSV a row that is one NULL would be an empty line:
one column alone has to be NOT NULL.

Standard output is "at most once": it knows no position, and what was flushed may be lost behind the pipe.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

import pyarrow as pa

from bourne.connect.positions import check_held, position_text
from bourne.connect.row_texts import CsvRows, json_rows
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_file_url
from bourne.connect.source import Delivery, Position
from bourne.errors import DefinitionError, SinkFailed, StorageError, Unreachable
from bourne.log.catalog import FORMAT, read_json
from bourne.log.relation import COUNT_COLUMN
from bourne.ports import Files, OsFiles, write_durably
from bourne.schema import Column, Schema

LineFormat = Literal["jsonl", "csv"]

URL: Final = "jsonl:PATH, csv:PATH or stdout:?format=jsonl|csv"

# Rows that are text at a time.
_PAGE_ROWS: Final = 1 << 14


class FileSink:
    """A file that grows."""

    delivery: Delivery = "exactly once"

    def __init__(self, path: Path, kind: LineFormat, shape: Shape, *, files: Files | None = None) -> None:
        """Note what to open.

        Raises:
            DefinitionError: the file cannot hold such rows.
        """
        self._columns = _columns(shape, kind)
        self._path, self._kind, self._shape, self._files = path, kind, shape, files or OsFiles()
        self._sidecar = path.with_name(path.name + ".position")
        self._where = str(path)
        self._descriptor: int | None = None

    @staticmethod
    def from_url(url: str, shape: Shape) -> FileSink:
        """Return the sink that a URL names.

        Raises:
            DefinitionError: it names none.
        """
        parts = split_file_url(url, kinds=["jsonl", "csv"], options=[], form=URL)
        return FileSink(Path(parts.path), "csv" if url.startswith("csv:") else "jsonl", shape)

    def open(self) -> Position | None:
        """Open the file, make it if it is missing, cut what no position is about, and return the position.

        Raises:
            Unreachable: another process writes to it, or the disk refuses.
            SinkFailed: it is somebody else's, or shorter than it was.
        """
        self.close()
        if not self._path.parent.is_dir():
            raise SinkFailed("the folder of the file is not there", where=self._where, hint="make it")
        try:
            self._descriptor = self._files.open(self._path)
        except OSError as error:
            raise self._unreachable(error) from error
        with self._locked() as descriptor:
            size = os.fstat(descriptor).st_size
            if self._read_sidecar() is None:
                if size:
                    raise SinkFailed(
                        "the file is there already, and nothing says which rows are in it", where=self._where,
                        expected=f"no file, or {self._sidecar.name} beside it", found=f"{size:,} bytes",
                        hint="write to another file",
                    )  # fmt: skip
                self._write_sidecar(0, None)
            return self._cut(descriptor)[1]

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows, and then the position; both are durable on return."""
        with self._locked() as descriptor:
            end, held = self._cut(descriptor)
            check_held(held, before, where=self._where)
            for text in _texts(change, self._kind, self._columns, is_first=end == 0):
                data = text.encode()
                self._files.write(descriptor, [memoryview(data)], end)
                end += len(data)
            self._files.sync(descriptor)
            self._write_sidecar(end, position)

    def accepts(self, change: Change) -> bool:
        """Say that a file takes all rows."""
        return True

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None

    # --- the two files -----------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the file for the block, against other processes and other sinks of this one."""
        if self._descriptor is None:
            raise Unreachable("the file is not open", where=self._where, hint="open it")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._descriptor).st_ino != self._path.stat().st_ino:
                raise Unreachable(
                    "the file was replaced by another one", where=self._where, hint="open it again"
                )
            yield self._descriptor
        except OSError as error:
            raise self._unreachable(error) from error
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _cut(self, descriptor: int) -> tuple[int, Position | None]:
        """Cut what no position is about; return where the file ends, and the position."""
        content = self._read_sidecar()
        if content is None:
            raise SinkFailed(
                "the position of the file is gone",
                where=str(self._sidecar),
                hint="remove the file to start over",
            )
        end, size = content["bytes"], os.fstat(descriptor).st_size
        if size < end:
            raise SinkFailed(
                "the file is shorter than it was", where=self._where,
                expected=f"{end:,} bytes", found=f"{size:,} bytes",
                hint=f"restore it; or remove it and {self._sidecar.name} to start over",
            )  # fmt: skip
        if size > end:
            self._files.truncate(descriptor, end)
            self._files.sync(descriptor)
        return end, content["position"]

    def _read_sidecar(self) -> dict[str, Any] | None:
        try:
            content = read_json(self._sidecar)
        except StorageError as error:
            raise SinkFailed(
                "the position of the file cannot be read", where=error.where, found=error.found
            ) from error
        if content is None:
            return None
        if not isinstance(content.get("bytes"), int) or "position" not in content:
            raise SinkFailed("that is no position of a file", where=str(self._sidecar), found=content)
        columns = Schema(self._columns).to_json()
        if content.get("sink") != self._shape.name or content.get("columns") != columns:
            raise SinkFailed(
                "the file holds something else", where=self._where,
                expected=f"{self._shape.name}: {columns}", found=f"{content.get('sink')}: {content.get('columns')}",
                hint="write to another file; from a job to one for each instance, such as out/{day}.csv",
            )  # fmt: skip
        return content

    def _write_sidecar(self, end: int, position: Position | None) -> None:
        content = {
            "format": FORMAT,
            "sink": self._shape.name,
            "columns": Schema(self._columns).to_json(),
            "bytes": end,
            "position": None if position is None else json.loads(position_text(position) or "null"),
        }
        write_durably(self._files, self._sidecar, json.dumps(content, ensure_ascii=False).encode())

    def _unreachable(self, error: OSError) -> Unreachable:
        is_locked = isinstance(error, BlockingIOError)
        return Unreachable(
            "another process writes to the file" if is_locked else "the file cannot be written",
            where=self._where,
            found=error.strerror,
        )


class StreamSink:
    """Rows to a stream such as standard output, flushed after each change."""

    delivery: Delivery = "at most once"

    def __init__(self, stream: IO[str], kind: LineFormat, shape: Shape) -> None:
        """Note where to write."""
        self._columns = _columns(shape, kind)
        self._stream, self._kind, self._is_first = stream, kind, True

    def open(self) -> Position | None:
        """Return that it holds no position."""
        return None

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and flush.

        Raises:
            SinkFailed: nobody reads any more; some of the rows may have been read.
        """
        try:
            for text in _texts(change, self._kind, self._columns, is_first=self._is_first):
                self._stream.write(text)
                self._is_first = False
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise SinkFailed("the output cannot be written to", where="stdout", found=str(error)) from error

    def accepts(self, change: Change) -> bool:
        """Say that a stream takes all rows."""
        return True

    def close(self) -> None:
        """Leave the stream open: it is not this sink's."""


def _columns(shape: Shape, kind: LineFormat) -> tuple[Column, ...]:
    """Return the columns of the lines; refuse what lines cannot say."""
    check_shape(shape)
    where = f"sink {shape.name!r}"
    if shape.key:
        raise DefinitionError(
            "lines of a file cannot be replaced", where=where, expected="rows without a key", found=", ".join(shape.key),
            hint="leave the key out: rows that are taken back come with a __weight below 0",
        )  # fmt: skip
    columns = (*shape.schema.columns, *([COUNT_COLUMN] if shape.has_weights else []))
    if kind == "csv" and len(columns) == 1 and columns[0].nullable:
        raise DefinitionError(
            f"CSV cannot tell a row that is one NULL in {columns[0].name!r} from no row", where=where,
            hint="write JSON lines, or a second column",
        )  # fmt: skip
    return columns


def _texts(change: Change, kind: LineFormat, columns: tuple[Column, ...], *, is_first: bool) -> Iterator[str]:
    """Yield the lines of a change, some thousand at a time; those of CSV after a header `is_first`."""
    rows = change.rows
    if change.weights is not None:
        rows = rows.append_column(COUNT_COLUMN.name, change.weights)
    if kind == "csv":
        csv_rows = CsvRows(has_header=is_first)
        yield from csv_rows.lines(rows.slice(0, _PAGE_ROWS))
        for start in range(_PAGE_ROWS, rows.num_rows, _PAGE_ROWS):
            yield from csv_rows.lines(rows.slice(start, _PAGE_ROWS))
        return
    json_columns = {column.name for column in columns if column.type == "JSON"}
    for start in range(0, rows.num_rows, _PAGE_ROWS):
        page: pa.Table = rows.slice(start, _PAGE_ROWS)
        yield "".join(f"{line}\n" for line in json_rows(page, json_columns=json_columns))
