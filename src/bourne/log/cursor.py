"""Reading all partitions of a log, each from its own position."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bourne.log.catalog import LogInfo
from bourne.log.reader import Frame, LogReader
from bourne.ports import Files, OsFiles


class Piece(NamedTuple):
    """A frame, and the partition that it is in."""

    partition: int
    frame: Frame


class LogCursor:
    """Stands at one position in each partition. For one thread at a time."""

    def __init__(
        self,
        log_folder: Path,
        info: LogInfo,
        *,
        partitions: Sequence[int] | None = None,
        files: Files | None = None,
        is_durable: bool = False,
    ) -> None:
        """Open the given partitions (all, if None) at their first records.

        Raises: as `LogReader`.
        """
        self.info = info
        self.partitions = tuple(range(info.partitions) if partitions is None else partitions)
        with ExitStack() as opened:
            self._readers: list[LogReader] = []
            for number in self.partitions:
                reader = LogReader(
                    log_folder, info, partition=number, files=files or OsFiles(), is_durable=is_durable
                )
                self._readers.append(reader)
                opened.callback(reader.close)
            opened.pop_all()

    @property
    def positions(self) -> tuple[int, ...]:
        """The offset of the next record of each partition."""
        return tuple(reader.offset for reader in self._readers)

    def first_offsets(self) -> tuple[int, ...]:
        """Return the offset of the oldest record that is kept, of each partition."""
        return tuple(reader.first_offset for reader in self._readers)

    def end_offsets(self) -> tuple[int, ...]:
        """Return the offset after the last record of each partition, as of now."""
        return tuple(reader.end_offset() for reader in self._readers)

    def size_bytes(self) -> int:
        """Return the size of all segments."""
        return sum(reader.size_bytes() for reader in self._readers)

    def seek(self, positions: Sequence[int]) -> None:
        """Move to these offsets.

        Raises:
            InputError: there is no such offset (yet, or any more).
        """
        for reader, position in zip(self._readers, positions, strict=True):
            reader.seek(position)

    def seek_time(self, instant_us: int) -> None:
        """Move to the first records that were appended at that instant or later."""
        for reader in self._readers:
            reader.seek_time(instant_us)

    def read(
        self,
        *,
        until: Sequence[int] | None = None,
        until_time_us: int | None = None,
        rows_max: int = 1 << 62,
        bytes_max: int = 1 << 62,
    ) -> list[Piece]:
        """Return the next frames, one partition after another, each its share of `rows_max` and `bytes_max`.

        Raises: as `LogReader.read`.
        """
        pieces: list[Piece] = []
        share = max(1, rows_max // len(self._readers)), max(1, bytes_max // len(self._readers))
        for index, reader in enumerate(self._readers):
            frames = reader.read(
                until=None if until is None else until[index],
                until_time_us=until_time_us,
                rows_max=share[0],
                bytes_max=share[1],
            )
            pieces += [Piece(self.partitions[index], frame) for frame in frames]
        return pieces

    def rest(self) -> None:
        """Hold nothing until the next `read`: retention may delete what comes, and `read` then raises InputError."""
        for reader in self._readers:
            reader.rest()

    def close(self) -> None:
        """Let go of the files; what was read stays valid. Safe to call twice."""
        for reader in self._readers:
            reader.close()
