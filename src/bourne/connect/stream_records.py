"""CSV from a stream, such as standard input: its first line names the columns.

A stream cannot be read again: what was taken and not yet appended when the process dies is lost, at most once. It is read
by a thread of its own, a bounded number of bytes ahead; when that is full, who writes to it waits.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import pyarrow as pa

from bourne.connect.csv_files import read_csv
from bourne.connect.source import DeadLetter, Delivery, Lag, Position, Taken
from bourne.errors import InputError, SourceFailed
from bourne.limits import SOURCE_BYTES_MAX
from bourne.log.catalog import LogInfo

_PIECE_BYTES = 1 << 16


class StreamRecords:
    """Reads records from a stream until it ends."""

    delivery: Delivery = "at most once"

    def __init__(self, stream: BinaryIO, log: LogInfo, *, name: str = "standard input") -> None:
        self.name = name
        self._log = log
        self._pump = _Pump(stream)

    def read(self, position: Position | None, partitions: Mapping[int, Position]) -> Iterator[Taken | None]:
        """Yield the records that come; where it stands is how many came."""
        count: int = (position or {"records": 0})["records"]
        try:
            for batch in read_csv(self._pump, self._log.schema, self._log.name, self.name, leaves_out=True):  # type: ignore[arg-type]
                count += batch.table.num_rows
                columns = ",".join(batch.next.columns)
                dead = tuple(
                    DeadLetter(
                        f"{self.name}, line {each.number} ({count})",
                        each.error.what,
                        each.data,
                        f"csv:{columns}",
                    )
                    for each in batch.misfits
                )
                table = pa.Table.from_arrays(batch.table.columns, schema=self._log.schema.to_arrow())
                yield Taken(table, {"records": count}, dead=dead)
        except InputError as error:
            raise SourceFailed(
                f"{self.name} cannot be taken in: {error.what}", where=error.where, expected=error.expected,
                found=error.found, hint=error.hint,
            ) from error  # fmt: skip

    def confirm(self, position: Position) -> None:
        """Nobody waits for it."""

    def lag(self) -> Lag:
        """Return 0 when the stream has ended."""
        return Lag(records=0) if self._pump.has_ended else Lag()

    def stop(self) -> None:
        """Let `read` end with what has come."""
        self._pump.stop()


class _Pump(io.RawIOBase):
    """A stream that a thread reads, so that waiting for it can be ended. `read` returns what has come, at least a byte."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="standard input", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        read = getattr(self._stream, "read1", self._stream.read)
        try:
            while piece := read(_PIECE_BYTES):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_over or self._bytes < SOURCE_BYTES_MAX)
                    if self._is_over:
                        return
                    self._pieces.append(piece)
                    self._bytes += len(piece)
                    self._changed.notify_all()
        except (OSError, ValueError) as error:
            self._failure = error
        self.stop()

    @property
    def has_ended(self) -> bool:
        return self._is_over and not self._pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._is_over)
            if not self._pieces and self._failure is not None:
                raise OSError(str(self._failure))
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._bytes = 0
            self._changed.notify_all()
            return data

    def stop(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
