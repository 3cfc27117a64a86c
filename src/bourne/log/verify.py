"""Checking a log end to end: every frame's checksum, hash, place in the chain and in the Merkle history.

Law: if it returns, every byte that is acknowledged is the one that was written, as far as the head hash stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bourne.errors import CorruptFrame
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.format import HEADER_BYTES, NO_HASH, Head, Header, decode_meta, is_body_intact, sums_of
from bourne.log.protocol import LogHead
from bourne.log.recovery import after_frame, head_before, read_head
from bourne.log.segment import headers, read_bytes, segment_bases, segment_path


def verify_log(
    log_folder: Path, info: LogInfo, *, on_progress: Callable[[int, int], None] | None = None
) -> list[LogHead]:
    """Check all partitions; return the head of each. O(bytes), one pass, without locks.

    `on_progress` is called with the bytes checked so far and all there are.

    Raises:
        CorruptFrame: the first frame that is not what was written: its partition, offset, file and byte.
    """
    folders = [partition_folder(log_folder, number) for number in range(info.partitions)]
    published = [read_head(folder) for folder in folders]
    total = sum(_size(folder, head) for folder, head in zip(folders, published, strict=True))
    done = 0
    heads = []
    for number, (folder, head) in enumerate(zip(folders, published, strict=True)):
        check = _Check(folder, info, number)
        if head is None:
            if segment_bases(folder):
                raise check.error("its file 'head' is missing or damaged", 0)
            heads.append(LogHead(number, 0, ""))
            continue
        for base in [base for base in segment_bases(folder) if base <= head.segment]:
            done += check.segment(base, head)
            if on_progress is not None:
                on_progress(done, total)
        if check.head is None or check.head.hash != head.hash or check.head.next_offset != head.next_offset:
            raise check.error("its last frame is not the one that 'head' names", head.last)
        heads.append(LogHead(number, head.next_offset, head.hash.hex()))
    return heads


def _size(folder: Path, head: Head | None) -> int:
    if head is None:
        return 0
    bases = [base for base in segment_bases(folder) if base < head.segment]
    return sum(segment_path(folder, base).stat().st_size for base in bases) + head.end


class _Check:
    """Follows one partition. `head` is how far it came."""

    def __init__(self, folder: Path, info: LogInfo, partition: int) -> None:
        self._folder = folder
        self._info = info
        self._partition = partition
        self._file = ""
        self.head: Head | None = None

    def segment(self, base: int, published: Head) -> int:
        """Check the acknowledged frames of one segment; return how many bytes they are."""
        path = segment_path(self._folder, base)
        self._file = path.name
        if self.head is not None:
            if base != self.head.next_offset:
                raise self.error(f"the next segment starts at offset {base}", 0)
            self.head = replace(self.head, segment=base, end=0, last=0)
        with path.open("rb") as file:
            descriptor = file.fileno()
            end = published.end if base == published.segment else path.stat().st_size
            byte = 0
            for byte, header in headers(descriptor, 0, end, file=path.name):
                self._frame(
                    header, read_bytes(descriptor, byte + HEADER_BYTES, byte + header.frame_bytes), byte
                )
            checked = self.head.end if self.head is not None else 0
            if checked != end:
                raise self.error("a frame is not whole", checked)
        return end

    def _frame(self, header: Header, body: memoryview, byte: int) -> None:
        if not is_body_intact(header, body):
            raise self.error("its checksum does not match its bytes", byte)
        if sums_of([body]).hash != header.body_hash:
            raise self.error("its hash does not match its bytes", byte)
        if self.head is None:
            self.head = head_before(header, decode_meta(header, body))
            if self.head is None or (header.number == 0) != (header.previous_hash == NO_HASH):
                raise self.error("the log does not start with a segment's first frame", byte)
        is_next = (
            header.previous_hash == self.head.hash
            and header.base_offset == self.head.next_offset
            and header.number == self.head.number
            and header.history == self.head.forest.root()
            and header.append_time_us >= self.head.append_time_us
        )
        if not is_next:
            raise self.error("it does not continue the frame before it", byte)
        if (header.log_id, header.partition) != (self._info.id, self._partition):
            raise self.error("it belongs to another log or partition", byte)
        self.head = after_frame(self.head, byte, header)

    def error(self, reason: str, byte: int) -> CorruptFrame:
        """Return the error for the frame at a byte of the current file."""
        offset = self.head.next_offset if self.head is not None else None
        return CorruptFrame(
            f"a frame is not what was written: {reason}", log=self._info.name, partition=self._partition,
            file=self._file or "head", byte=byte, offset=offset,
        )  # fmt: skip
