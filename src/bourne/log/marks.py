"""How far the sources of a log have come: each append of a source carries a mark, in the same frame as its records.

Law: the newest mark of a source in a partition says how far the records of that partition go, neither more nor less,
whatever crash came in between. So who starts a source again from its newest mark loses nothing and repeats nothing.

A mark is a number that counts the source's appends, and a position that only the source understands (plain JSON). Each
segment begins with the newest marks of all sources, so that retention takes none away, and only the last one is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bourne.errors import CorruptFrame
from bourne.log.cold import open_segment
from bourne.log.disk import disk_errors
from bourne.log.format import Head, decode_meta
from bourne.log.recovery import read_head
from bourne.log.segment import Damaged


class Mark(NamedTuple):
    """The count of a source's appends, this one included, and where the source stands after it."""

    number: int
    position: Any


Marks = dict[str, Mark]
"""The newest mark of each source."""


def marks_of(meta: Mapping[str, Any]) -> Marks:
    """Return the marks in the meta part of a frame."""
    return {source: Mark(*mark) for source, mark in meta.get("marks", {}).items()}


def to_meta(marks: Mapping[str, Mark]) -> dict[str, Any]:
    """Return marks as a meta part; nothing if there are none."""
    return {"marks": {source: list(mark) for source, mark in marks.items()}} if marks else {}


def read_marks(folder: Path, *, log: str, partition: int, head: Head | None = None) -> Marks:
    """Return the newest mark of each source in a partition, up to `head` if it is given. O(bytes of its last segment).

    Raises:
        CorruptFrame: the last segment is damaged.
        StorageError: it cannot be read.
    """
    found: Marks = {}
    with disk_errors(folder, f"cannot read log {log!r}"):
        head = head or read_head(folder)
        segment = None if head is None or head.end == 0 else open_segment(folder, head.segment)
        if head is None or segment is None:
            return found
        byte, offset = 0, head.segment
        try:
            for byte, header in segment.headers(0, head.end):
                offset = header.base_offset
                if header.meta_bytes:
                    found |= marks_of(decode_meta(header, segment.body(byte, header)))
        except (Damaged, ValueError, TypeError) as error:
            raise CorruptFrame(
                f"a frame is not what was written: {error}", log=log, partition=partition, file=segment.name,
                byte=byte, offset=offset,
            ) from error  # fmt: skip
        finally:
            segment.close()
    return found
