"""A small log to try things on: two columns, files that can fail, a clock that stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bourne.limits import SEGMENT_BYTES_MAX
from bourne.log.catalog import LogInfo, partition_folder, read_log_info, write_log_info
from bourne.log.reader import Frame, LogReader
from bourne.log.writer import LogWriter
from bourne.schema import declare_schema
from bourne.testing.clock import SimulatedClock
from bourne.testing.files import FaultyFiles

# A frame as a test wants to see it: offset of its first record, its records, its meta part.
Seen = tuple[int, list[tuple[int, str]], dict[str, Any]]


class ScratchLog:
    """A log in `folder` of the columns `number bigint, text varchar`, to be written and read in tests."""

    def __init__(self, folder: Path, *, name: str = "scratch") -> None:
        """Create it, or open the one that is there."""
        self.folder = folder / name
        self.files = FaultyFiles()
        self.clock = SimulatedClock(1_700_000_000_000_000)
        found = read_log_info(self.folder)
        if found is None:
            schema = declare_schema({"number": "bigint", "text": "varchar"}, where=name)
            found = write_log_info(
                self.folder, LogInfo(name, schema, id=name.encode().ljust(16)[:16]), self.files
            )
        self.info = found

    @property
    def partition(self) -> Path:
        """The folder of its one partition."""
        return partition_folder(self.folder)

    def segments(self) -> list[Path]:
        """Return its segment files, in order."""
        return sorted(self.partition.glob("*.seg"))

    def writer(self, *, segment_bytes: int = SEGMENT_BYTES_MAX) -> LogWriter:
        """Open it for appending."""
        return LogWriter(
            self.folder, self.info, files=self.files, clock=self.clock, segment_bytes=segment_bytes
        )

    def reader(self) -> LogReader:
        """Open it for reading."""
        return LogReader(self.folder, self.info, files=self.files)

    def table(self, rows: Sequence[tuple[int, str]]) -> pa.Table:
        """Return rows as a table that fits."""
        numbers, texts = [row[0] for row in rows], [row[1] for row in rows]
        return pa.table([numbers, texts], schema=self.info.schema.to_arrow())

    def append(self, writer: LogWriter, rows: Sequence[tuple[int, str]], meta: Mapping[str, Any] | None = None
               ) -> range:  # fmt: skip
        """Append rows as one call."""
        return writer.append(self.table(rows), meta)

    def frames(self) -> list[Seen]:
        """Read everything with a new reader, frame by frame."""
        reader = self.reader()
        try:
            return self.read_on(reader)
        finally:
            reader.close()

    def rows(self) -> list[tuple[int, str]]:
        """Read all records with a new reader."""
        return [row for _, rows, _ in self.frames() for row in rows]

    @classmethod
    def read_on(cls, reader: LogReader) -> list[Seen]:
        """Read what is there from the reader's cursor on. Nothing of it stays mapped."""
        seen: list[Seen] = []
        while frames := reader.read():
            seen += cls.frames_of(frames)
        return seen

    @staticmethod
    def frames_of(frames: Sequence[Frame]) -> list[Seen]:
        """Return frames in plain Python."""
        seen: list[Seen] = []
        for frame in frames:
            columns = frame.batch.to_pydict()
            rows = list(zip(columns["number"], columns["text"], strict=True))
            seen.append((frame.base_offset, rows, frame.meta))
        return seen
