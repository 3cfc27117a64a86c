"""Opening a partition after whatever happened: keep what is whole, cut the torn tail, report damage.

Law: every frame that was acknowledged is kept; nothing that was never written is kept; bytes are cut only if
they were never acknowledged. Runs under the writer lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bourne.errors import CorruptFrame
from bourne.log.format import HEAD_BYTES, HEADER_BYTES, NO_HASH, Head, decode_head, decode_header, encode_head
from bourne.log.segment import frames, has_frame_after, segment_bases, segment_path
from bourne.ports import Files


@dataclass(frozen=True, slots=True)
class Recovered:
    """The partition's end, and how many bytes of a torn tail were cut."""

    head: Head
    cut_bytes: int


def read_head(folder: Path) -> Head | None:
    """Return what the file `head` says; None if it is missing or damaged."""
    try:
        with (folder / "head").open("rb") as file:
            return decode_head(file.read(HEAD_BYTES))
    except FileNotFoundError:
        return None


def publish_head(descriptor: int, head: Head) -> None:
    """Let readers see up to `head`. Call only when everything before it is durable."""
    os.pwrite(descriptor, encode_head(head), 0)


def needs_recovery(folder: Path, head: Head | None) -> bool:
    """Say whether there are bytes past `head`, as a crash (or a writer at work) leaves them."""
    bases = segment_bases(folder)
    if not bases or head is None:
        return bool(bases)
    return bases[-1] != head.segment or segment_path(folder, head.segment).stat().st_size != head.end


def recover(folder: Path, *, log: str, partition: int, files: Files) -> Recovered | None:
    """Make the partition end after its last whole frame, durably; None if there are no segments yet.

    Reads only what lies past `head`, or the last segment if there is no `head`.

    Raises:
        CorruptFrame: acknowledged bytes are missing or damaged; nothing was changed.
    """
    bases = segment_bases(folder)
    head = read_head(folder)
    if head and (head.segment not in bases or segment_path(folder, head.segment).stat().st_size < head.end):
        raise CorruptFrame(
            "the file ends before what was acknowledged", log=log, partition=partition,
            file=segment_path(folder, head.segment).name, byte=head.end, offset=head.next_offset,
        )  # fmt: skip
    if head is None:
        head = _first_head(folder, bases)
        if head is None:
            return None
        trusted = False
    else:
        trusted = True
    cut_bytes = 0
    for base in [base for base in bases if base >= head.segment]:
        head, cut = _recover_segment(folder, base, head, trusted, log, partition, files)
        cut_bytes += cut
    return Recovered(head, cut_bytes)


def _first_head(folder: Path, bases: list[int]) -> Head | None:
    """Return where to start without a `head`: the last segment that begins with a whole frame."""
    for base in reversed(bases):
        path = segment_path(folder, base)
        with path.open("rb") as file:
            header = decode_header(file.read(HEADER_BYTES), file=path.name)
        if header is not None or base == bases[0]:
            previous = header.previous_hash if header else NO_HASH
            return Head(base, 0, 0, base, header.fence if header else 0, previous)
    return None


def _recover_segment(
    folder: Path, base: int, head: Head, trusted: bool, log: str, partition: int, files: Files
) -> tuple[Head, int]:
    """Go on from `head` through one segment; cut what does not continue the chain."""
    path = segment_path(folder, base)
    start = head.end if base == head.segment else 0
    descriptor = files.open(path)
    try:
        size = os.fstat(descriptor).st_size
        end = start
        if base == head.segment or base == head.next_offset:
            for byte, header in frames(descriptor, start, file=path.name):
                if header.previous_hash != head.hash or header.base_offset != head.next_offset:
                    break
                end = byte + header.frame_bytes
                head = Head(base, end, byte, header.next_offset, header.fence, header.hash)
        if end < size:
            if not trusted and has_frame_after(descriptor, end, file=path.name):
                raise CorruptFrame(
                    "a frame is not what was written, and good frames follow it",
                    log=log, partition=partition, file=path.name, byte=end, offset=head.next_offset,
                )  # fmt: skip
            files.truncate(descriptor, end)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    if end == 0:
        path.unlink()
        files.sync_folder(folder)
    return head, size - end
