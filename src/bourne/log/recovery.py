"""Opening a partition after whatever happened: keep what is whole, cut the torn tail, report damage.

Law: every frame that was acknowledged is kept; nothing that was never written is kept; bytes are cut only if
they were never acknowledged. Runs under the writer lock.

It leans on the order in which a writer works: a frame is durable before the next one is written, and all frames
of a segment before the next segment is created. So at most one frame, the last, can be torn; a whole frame
behind one that is not, or a segment behind a gap, is proof of damage. Decides first, and only then changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bourne.errors import CorruptFrame
from bourne.log.format import HEAD_BYTES, HEADER_BYTES, NO_HASH, Head, decode_head, decode_header, encode_head
from bourne.log.segment import frames, has_frame_from, segment_bases, segment_path, segment_schema
from bourne.ports import Files

# A reader can meet `head` half overwritten; it looks again this often.
_HEAD_TRIES = 4

# How much of a tail is written again at a time.
_COPY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """The partition's end, and how many bytes of a torn tail were cut. `head.end` is 0 if no frame is left."""

    head: Head
    cut_bytes: int


@dataclass(frozen=True, slots=True)
class _Tail:
    """What to do to one segment: everything from `start` to `end` is kept, the rest up to `size` is cut."""

    path: Path
    start: int
    end: int
    size: int
    head: Head


def read_head(folder: Path) -> Head | None:
    """Return what the file `head` says; None if it is missing or damaged."""
    for _ in range(_HEAD_TRIES):
        try:
            with (folder / "head").open("rb") as file:
                raw = file.read(HEAD_BYTES + 1)
        except FileNotFoundError:
            return None
        head = decode_head(raw)
        if head is not None:
            return head
    return None


def publish_head(files: Files, descriptor: int, head: Head) -> None:
    """Let readers see up to `head`. Call only when everything before it is durable."""
    files.write(descriptor, [memoryview(encode_head(head))], 0)


def needs_recovery(folder: Path, head: Head | None) -> bool:
    """Say whether there are bytes past `head`, as a crash (or a writer at work) leaves them, or too few."""
    bases = segment_bases(folder)
    if head is None or not bases:
        return head is not None or bool(bases)
    return bases[-1] != head.segment or _size(segment_path(folder, head.segment)) != head.end


def recover(folder: Path, *, log: str, partition: int, files: Files) -> Recovered | None:
    """Make the partition end after its last whole frame, durably; None if there are no segments yet.

    Reads only what lies past `head`, or the last segment if there is no `head`.

    Raises:
        CorruptFrame: acknowledged bytes are missing or damaged; nothing was changed.
        OSError: the disk refuses; try again.
    """
    bases = segment_bases(folder)
    head = read_head(folder)
    damage = _Damage(folder, log, partition)
    if head is not None:
        damage.check_head(head)
    else:
        head = _first_head(folder, bases)
    if head is None:
        return None
    tails = list(_tails(folder, [base for base in bases if base >= head.segment], head, damage))
    for tail in tails:
        _apply(tail, files)
    # The names, too: whoever created the last segment may have died before it made its name durable.
    files.sync_folder(folder)
    return Recovered(tails[-1].head, sum(tail.size - tail.end for tail in tails))


def _first_head(folder: Path, bases: list[int]) -> Head | None:
    """Return where to start without a `head`: the last segment that begins with a whole frame, or the first."""
    for base in reversed(bases):
        path = segment_path(folder, base)
        with path.open("rb") as file:
            _, header = next(frames(file.fileno(), 0, file=path.name), (0, None))
        if header is not None:
            return Head(base, 0, 0, base, header.fence, header.previous_hash)
    return Head(bases[0], 0, 0, bases[0], 0, NO_HASH) if bases else None


def _tails(folder: Path, bases: list[int], head: Head, damage: _Damage) -> Iterator[_Tail]:
    """Follow the chain from `head` through the segments and say what to do to each."""
    for base in bases:
        path = segment_path(folder, base)
        if base > head.next_offset:
            raise damage.error("records are missing before the next segment", head, head.end)
        is_continued = base in (head.segment, head.next_offset)
        start = end = head.end if base == head.segment else 0
        with path.open("rb") as file:
            descriptor = file.fileno()
            for byte, header in frames(descriptor, start, file=path.name) if is_continued else ():
                if header.previous_hash != head.hash or header.base_offset != head.next_offset:
                    break
                end = byte + header.frame_bytes
                head = Head(base, end, byte, header.next_offset, header.fence, header.hash)
            size = os.fstat(descriptor).st_size
            if end < size and has_frame_from(descriptor, _torn_until(descriptor, end, head), file=path.name):
                raise damage.error(
                    "a frame is not what was written, and whole frames follow it", head, end, path
                )
        yield _Tail(path, start, end, size, head)


def _torn_until(descriptor: int, byte: int, head: Head) -> int:
    """Return where a next frame would start: behind the one at `byte` if only that one's body is torn."""
    header = decode_header(os.pread(descriptor, HEADER_BYTES, byte))
    if header is None or header.previous_hash != head.hash or header.base_offset != head.next_offset:
        return byte
    return byte + header.frame_bytes


def _apply(tail: _Tail, files: Files) -> None:
    """Keep what is to be kept, durably, and cut the rest.

    What is kept is written once more: if an earlier sync failed, the system may hold these bytes in memory,
    believe them to be on the disk, and never write them.
    """
    descriptor = files.open(tail.path)
    try:
        for start in range(tail.start, tail.end, _COPY_BYTES):
            piece = os.pread(descriptor, min(_COPY_BYTES, tail.end - start), start)
            files.write(descriptor, [memoryview(piece)], start)
        if tail.end < tail.size:
            files.truncate(descriptor, tail.end)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    if tail.end == 0:
        files.remove(tail.path)


def _size(path: Path) -> int:
    """Return the file's size, -1 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


@dataclass(frozen=True, slots=True)
class _Damage:
    """Names the place of damage."""

    folder: Path
    log: str
    partition: int

    def error(self, reason: str, head: Head, byte: int, path: Path | None = None) -> CorruptFrame:
        """Return the error for the frame after `head`."""
        path = path or segment_path(self.folder, head.segment)
        return CorruptFrame(reason, log=self.log, partition=self.partition, file=path.name, byte=byte,
                            offset=head.next_offset)  # fmt: skip

    def check_head(self, head: Head) -> None:
        """Check that the schema is there, and the frame that `head` calls the last.

        Raises:
            CorruptFrame: one is not, or is another one.
        """
        path = segment_path(self.folder, head.segment)
        if _size(path) < head.end:
            raise self.error("the file ends before what was acknowledged", head, head.end)
        with path.open("rb") as file:
            if segment_schema(file.fileno()) is None:
                raise self.error("the segment does not start with its schema", head, 0)
            header = decode_header(os.pread(file.fileno(), HEADER_BYTES, head.last), file=path.name)
        if header is None or header.hash != head.hash or head.last + header.frame_bytes != head.end:
            raise self.error("its last acknowledged frame is not what was written", head, head.last)
