"""Opening a partition after whatever happened: keep what is whole, cut the torn tail, report damage.

Law: every frame that is durable is kept; nothing that was never written is kept; bytes are cut only if they were
never durable. Of an append of several frames, all are kept or none. Runs under the writer lock.

It leans on the order in which a writer works: a frame without the flag `AHEAD` is written when all before it is
durable, and a segment is created when all of the one before is durable. So what a power cut can tear ends before the
next such frame; one behind a frame that is not whole, or a segment behind a gap, is proof of damage. Decides first,
and only then changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bourne.errors import CorruptFrame
from bourne.log.format import (
    AHEAD,
    CONTINUED,
    HEAD_BYTES_MAX,
    HEADER_BYTES,
    Head,
    Header,
    decode_head,
    decode_header,
    decode_meta,
    encode_head,
)
from bourne.log.merkle import Forest, leaf_hash
from bourne.log.segment import (
    frames,
    frames_after_damage,
    hot_bases,
    read_bytes,
    segment_name,
    segment_path,
    segment_schema,
)
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


def read_head(folder: Path) -> Head | None:
    """Return what the file `head` says; None if it is missing or damaged."""
    for _ in range(_HEAD_TRIES):
        try:
            with (folder / "head").open("rb", buffering=0) as file:
                raw = file.read(HEAD_BYTES_MAX)
        except FileNotFoundError:
            return None
        head = decode_head(raw)
        if head is not None:
            return head
    return None


def publish_head(files: Files, descriptor: int, head: Head) -> None:
    """Let readers see up to `head`."""
    files.write(descriptor, [memoryview(encode_head(head))], 0)


def after_frame(head: Head, byte: int, header: Header) -> Head:
    """Return where the partition ends when this frame has come behind `head`."""
    return head._replace(
        end=byte + header.frame_bytes, last=byte, next_offset=header.next_offset, fence=header.fence,
        hash=header.hash, append_time_us=header.append_time_us, forest=head.forest.add(leaf_hash(header.hash)),
    )  # fmt: skip


def peaks_of(head: Head) -> dict[str, Any]:
    """Return the meta part of a segment's first schema frame: the Merkle forest of all frames before it, and the append
    time of the last of them."""
    return {"peaks": [peak.hex() for peak in head.forest.peaks], "until": head.append_time_us}


def head_before(header: Header, meta: dict[str, Any]) -> Head | None:
    """Return where the partition ended before the segment that starts with this frame; None if it says nonsense."""
    try:
        forest = Forest(header.number, tuple(bytes.fromhex(peak) for peak in meta["peaks"]))
    except (KeyError, TypeError, ValueError):
        return None
    if len(forest.peaks) != forest.size.bit_count() or forest.root() != header.history:
        return None
    return Head(header.base_offset, 0, 0, 0, header.base_offset, header.fence, header.previous_hash,
                header.append_time_us, bytes(16), forest)  # fmt: skip


def empty_head(fence: int) -> Head:
    """Return the end of a partition without any frame."""
    return Head(0, 0, 0, 0, 0, fence, bytes(32), -(1 << 63), bytes(16), Forest())


def needs_recovery(folder: Path, head: Head | None, boot_id: bytes) -> bool:
    """Say whether there are bytes past `head`, as a crash (or a writer at work) leaves them, or too few. O(1).

    Also if some of what was acknowledged without a sync may be gone, as the machine was started anew since.
    """
    if head is None:
        return any(folder.glob("*.seg"))
    if head.durable_end < head.end and head.boot_id != boot_id:
        return True
    if _size(segment_path(folder, head.segment)) != head.end:
        return True
    return head.next_offset > head.segment and segment_path(folder, head.next_offset).exists()


def recover(folder: Path, *, log: str, log_id: bytes, partition: int, files: Files) -> Recovered | None:
    """Make the partition end after its last whole append, durably; None if there are no segments yet.

    Reads only what lies past `head`, or the last segment if there is no `head` that is known to be durable.

    Raises:
        CorruptFrame: durable bytes are missing or damaged; nothing was changed.
        OSError: the disk refuses; try again.
    """
    published = read_head(folder)
    bases = hot_bases(folder)
    walk = _Walk(folder, log, log_id, partition)
    if published is not None:
        walk.durable = published
    is_sure = published is not None and (
        published.durable_end == published.end or published.boot_id == files.boot_id()
    )
    if published is not None and is_sure:
        walk.check_head(published)
        start: Head | None = published
    elif published is not None:
        start = walk.first_head([base for base in bases if base <= published.segment])
    else:
        start = walk.first_head(bases)
    if start is not None and start.number == 0 and start.segment:
        # What was before it is cold or deleted, which is done only when this segment is durable.
        raise walk.error("the segment does not start with its schema", start, 0)
    if start is None:
        if published is not None and published.durable_end:
            raise walk.error("its segment is missing", published, 0)
        return None
    tails = walk.follow(start, [base for base in bases if base >= start.segment])
    for tail in tails:
        if published is not None and tail.path.name == segment_name(published.segment):
            tail = replace(tail, start=min(tail.start, published.durable_end))
        _apply(tail, files)
    # The names, too: whoever created the last segment may have died before it made its name durable.
    files.sync_folder(folder)
    head = walk.head._replace(durable_end=walk.head.end, boot_id=files.boot_id())
    return Recovered(head, sum(tail.size - tail.end for tail in tails))


def write_again(files: Files, descriptor: int, start: int, end: int) -> None:
    """Write bytes of a file once more, to be synced.

    After a sync that failed, the system may hold them in memory, believe them to be on the disk, and never write them.
    """
    for at in range(start, end, _COPY_BYTES):
        files.write(descriptor, [memoryview(os.pread(descriptor, min(_COPY_BYTES, end - at), at))], at)


def _apply(tail: _Tail, files: Files) -> None:
    """Keep what is to be kept, durably, and cut the rest."""
    descriptor = files.open(tail.path)
    try:
        write_again(files, descriptor, tail.start, tail.end)
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


class _Walk:
    """Follows the chain of one partition to its end. `head` is how far it came, whole appends only."""

    def __init__(self, folder: Path, log: str, log_id: bytes, partition: int) -> None:
        self.folder = folder
        self.log = log
        self.log_id = log_id
        self.partition = partition
        self.durable: Head | None = None  # what `head` said: up to its `durable_end` nothing may be missing
        self.head = empty_head(0)

    def first_head(self, bases: list[int]) -> Head | None:
        """Return where to start without a `head`: at the last segment that begins with a whole frame, or the first."""
        for base in reversed(bases):
            path = segment_path(self.folder, base)
            with path.open("rb") as file:
                descriptor = file.fileno()
                _, header = next(frames(descriptor, 0, file=path.name), (0, None))
                if header is not None and header.base_offset == base:
                    meta = decode_meta(header, read_bytes(descriptor, HEADER_BYTES, header.frame_bytes))
                    head = head_before(header, meta)
                    if head is not None:
                        return head
        return empty_head(0)._replace(segment=bases[0], next_offset=bases[0]) if bases else None

    def follow(self, start: Head, bases: Iterable[int]) -> list[_Tail]:
        """Follow the chain from `start` through the segments and say what to do to each.

        Raises:
            CorruptFrame: something durable is missing or not what was written.
        """
        self.head = start
        tails = []
        for base in bases:
            if base > self.head.next_offset:
                raise self.error("records are missing before the next segment", self.head, self.head.end)
            tails.append(self._follow_segment(base))
        if self.durable is not None and (
            (self.head.segment, self.head.end) < (self.durable.segment, self.durable.durable_end)
        ):
            raise self.error("a frame that was durable is not what was written", self.head, self.head.end)
        return tails

    def _follow_segment(self, base: int) -> _Tail:
        path = segment_path(self.folder, base)
        is_first = base == self.head.segment
        start = self.head.end if is_first else 0
        whole = start  # up to here frames are whole and continue the chain
        head = self.head if is_first else self.head._replace(segment=base, end=0, last=0)
        stable = self.head
        with path.open("rb") as file:
            descriptor = file.fileno()
            for byte, header in (
                frames(descriptor, start, file=path.name) if base == head.next_offset or is_first else ()
            ):
                if not self._continues(head, header):
                    break
                head = after_frame(head, byte, header)
                whole = head.end
                if not header.flags & CONTINUED:
                    stable = head
            size = os.fstat(descriptor).st_size
            if whole < size:
                self._check_torn(descriptor, whole, head, path)
        self.head = stable
        return _Tail(path, start, stable.end if stable.segment == base else 0, size)

    def _continues(self, head: Head, header: Header) -> bool:
        """Say whether a frame belongs behind `head`."""
        return (
            header.previous_hash == head.hash
            and header.base_offset == head.next_offset
            and header.number == head.number
            and header.history == head.forest.root()
            and header.log_id == self.log_id
            and header.partition == self.partition
        )

    def _check_torn(self, descriptor: int, byte: int, head: Head, path: Path) -> None:
        """Make sure that what is at `byte` is a torn tail, and not damage.

        Raises:
            CorruptFrame: a whole frame behind it shows that it was durable.
        """
        header = decode_header(os.pread(descriptor, HEADER_BYTES, byte), file=path.name)
        torn_until = byte  # where to look: behind the frame at `byte` if only that one's body is torn
        if header is not None and self._continues(head, header):
            torn_until = byte + header.frame_bytes
        for _, found in frames_after_damage(descriptor, torn_until, file=path.name):
            is_ours = found.log_id == self.log_id and found.partition == self.partition
            if is_ours and found.number >= head.number and not found.flags & AHEAD:
                raise self.error(
                    "a frame is not what was written, and durable frames follow it", head, byte, path
                )

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

    def error(self, reason: str, head: Head, byte: int, path: Path | None = None) -> CorruptFrame:
        """Return the error for the frame after `head`."""
        path = path or segment_path(self.folder, head.segment)
        return CorruptFrame(reason, log=self.log, partition=self.partition, file=path.name, byte=byte,
                            offset=head.next_offset)  # fmt: skip
