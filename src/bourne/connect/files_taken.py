"""Which files a source has taken in: a log beside the one that it feeds, `NAME_files`, for SQL to read like any other.

Law: a file is in it only when all of its records are durable. What is in progress the source's position says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from bourne.log.catalog import LogInfo
from bourne.schema import Column, Schema

_SCHEMA: Final = Schema(
    (
        Column("id", "VARCHAR", nullable=False),
        Column("source", "VARCHAR", nullable=False),
        Column("path", "VARCHAR", nullable=False),
        Column("version", "VARCHAR", nullable=False),
        Column("content", "VARCHAR", nullable=False),
        Column("bytes", "BIGINT", nullable=False),
        Column("lines", "BIGINT", nullable=False),
        Column("records", "BIGINT", nullable=False),
    )
)


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A file all of whose records are in the log. `records` is how many came from this content under this name: 0 if it
    was there under another one. `lines` counts those before its end, where it has lines."""

    path: str
    version: str
    content: str
    bytes: int
    lines: int
    records: int

    def to_json(self) -> list[Any]:
        """Return it as part of a position."""
        return list(asdict(self).values())


def files_log_name(log: str) -> str:
    """Return what the log of the files is called that were taken into a log."""
    return f"{log}_files"


def files_log(log: str) -> LogInfo:
    """Return the log of the files that were taken into a log."""
    return LogInfo(files_log_name(log), _SCHEMA, request_id="id")


class FilesTaken:
    """The files that one source has taken in. In memory, about 500 bytes for each."""

    def __init__(
        self,
        source: str,
        append: Callable[[pa.Table], object],
        stored: Callable[[], Iterable[pa.RecordBatch]],
    ) -> None:
        """`append` returns when the rows are durable, each id once; `stored` returns what was appended."""
        self._source = source
        self._append = append
        self._stored = stored
        self._versions: set[tuple[str, str]] = set()
        self._contents: set[str] = set()
        self._newest: dict[str, TakenFile] = {}

    def load(self) -> None:
        """Read again what the log has. O(files)."""
        self._versions.clear()
        self._contents.clear()
        self._newest.clear()
        for batch in self._stored():
            for row in batch.to_pylist():
                if row.pop("source") == self._source:
                    row.pop("id")
                    self._know(TakenFile(**row))

    def add(self, files: Sequence[TakenFile]) -> None:
        """Take note of files; durable when this returns. Those that are known already do no harm."""
        new = [file for file in files if not self.has_version(file.path, file.version)]
        if not new:
            return
        columns = {
            "id": [self._id(file) for file in new],
            "source": [self._source] * len(new),
            **{name: [getattr(file, name) for file in new] for name in _SCHEMA.names[2:]},
        }
        self._append(pa.table(columns, schema=_SCHEMA.to_arrow()))
        for file in new:
            self._know(file)

    def _id(self, file: TakenFile) -> str:
        named = "\0".join((self._source, file.path, file.version, file.content))
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def _know(self, file: TakenFile) -> None:
        self._versions.add((file.path, file.version))
        self._contents.add(file.content)
        self._newest[file.path] = file

    def has_version(self, path: str, version: str) -> bool:
        """Say whether a file is known as it is now. O(1)."""
        return (path, version) in self._versions

    def has_content(self, content: str) -> bool:
        """Say whether a file of this content was taken in, under whatever name. O(1)."""
        return content in self._contents

    def newest(self, path: str) -> TakenFile | None:
        """Return what was last taken in under this name."""
        return self._newest.get(path)
