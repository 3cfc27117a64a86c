"""Checking a log end to end: every frame's checksum, hash, place in the chain and in the Merkle history.

Law: if it returns, every byte that is acknowledged is the one that was written, as far as the head hash stands for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bourne.errors import CorruptFrame
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cold import ColdSegment, open_segment
from bourne.log.format import KIND_SCHEMA, NO_HASH, Head, Header, decode_meta, sums_of
from bourne.log.protocol import LogHead
from bourne.log.recovery import after_frame, head_before, read_head
from bourne.log.segment import Damaged, Segment, segment_bases, segment_path


def verify_log(
    log_folder: Path, info: LogInfo, *, on_progress: Callable[[int, int], None] | None = None
) -> list[LogHead]:
    """Check all partitions; return the head of each. O(bytes), one pass, without locks.

    What was compacted away cannot be hashed any more. What is left of such a frame is checked against the hash that
    the compaction itself appended to the log, so that a head hash published after it stands for that, too.

    `on_progress` is called with the frames checked so far and all there are.

    Raises:
        CorruptFrame: the first frame that is not what was written: its partition, offset, file and byte.
    """
    folders = [partition_folder(log_folder, number) for number in range(info.partitions)]
    published = [read_head(folder) for folder in folders]
    total = sum(head.number for head in published if head is not None)
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
            check.segment(base, head)
            if on_progress is not None:
                on_progress(done + (check.head.number if check.head is not None else 0), total)
        head = check.go_on(head)
        check.finish(head)
        done += head.number
        heads.append(LogHead(number, head.next_offset, head.hash.hex()))
    return heads


class _Check:
    """Follows one partition. `head` is how far it came."""

    def __init__(self, folder: Path, info: LogInfo, partition: int) -> None:
        self._folder = folder
        self._info = info
        self._partition = partition
        self._file = ""
        self._compacted: dict[str, str] = {}  # segments and the hashes that they have
        self._noted: set[tuple[str, str]] = set()  # and those that the log says they have
        self._schema_number = -1
        self.head: Head | None = None

    def go_on(self, published: Head) -> Head:
        """Check what came meanwhile, while it is there that compactions just done are noted; return how far."""
        while any(each not in self._noted for each in self._compacted.items()):
            before, newer = published, read_head(self._folder)
            if newer is None or newer.number <= before.number:
                break
            published = newer
            for base in segment_bases(self._folder):
                if before.segment <= base <= published.segment:
                    self.segment(base, published, before.end if base == before.segment else 0)
        return published

    def segment(self, base: int, published: Head, start: int = 0) -> None:
        """Check the acknowledged frames of one segment, from byte `start` on."""
        self._file = segment_path(self._folder, base).name
        if self.head is not None and not start:
            if base != self.head.next_offset:
                raise self.error(f"the next segment starts at offset {base}", 0)
            self.head = self.head._replace(segment=base, end=0, last=0)
        byte = start
        try:
            segment = open_segment(self._folder, base)
            if segment is None:
                bases = segment_bases(self._folder)
                if self.head is not None and (not bases or base > bases[0]):
                    raise self.error("its segment is missing", 0)
                self.head = None
                return  # retention deleted it meanwhile, with all before it
            self._file = segment.name
            with closing(segment):
                end = published.end if base == published.segment else segment.size()
                for byte, header in segment.headers(start, end):
                    self._frame(header, segment, byte)
                checked = self.head.end if self.head is not None else 0
                if checked != end:
                    raise self.error("a frame is not whole", checked)
                if isinstance(segment, ColdSegment):
                    segment.check()
                    if segment.has_compacted:
                        self._compacted[str(base)] = segment.hash.hex()
        except Damaged as error:
            raise self.error(str(error), byte) from None

    def _frame(self, header: Header, segment: Segment, byte: int) -> None:
        meta = {}
        if not segment.is_compacted(byte):
            body = segment.body(byte, header)
            if sums_of([body]).hash != header.body_hash:
                raise self.error("its hash does not match its bytes", byte)
            meta = decode_meta(header, body)
            self._take_notes(meta.get("compacted", {}))
        if self.head is None:
            self.head = head_before(header, meta)
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
        if header.kind == KIND_SCHEMA:
            self._schema_number = header.number
        if header.schema_number != self._schema_number:
            raise self.error("it was written under another schema than the last one before it", byte)
        if (header.log_id, header.partition) != (self._info.id, self._partition):
            raise self.error("it belongs to another log or partition", byte)
        self.head = after_frame(self.head, byte, header)

    def _take_notes(self, notes: dict[str, Any]) -> None:
        self._noted.update((base, str(noted)) for base, noted in notes.items())

    def finish(self, published: Head) -> None:
        """Check that this is the end, and that what was compacted is what the log says of it."""
        if self.head is None or (self.head.hash, self.head.next_offset) != (
            published.hash,
            published.next_offset,
        ):
            raise self.error("its last frame is not the one that 'head' names", published.last)
        for base, found in self._compacted.items():
            if (base, found) not in self._noted:
                self._file = f"{int(base):020d}.cold"
                raise self.error("its segment was compacted, but not as the log says", 0)

    def error(self, reason: str, byte: int) -> CorruptFrame:
        """Return the error for the frame at a byte of the current file."""
        offset = self.head.next_offset if self.head is not None else None
        return CorruptFrame(
            f"a frame is not what was written: {reason}", log=self._info.name, partition=self._partition,
            file=self._file or "head", byte=byte, offset=offset,
        )  # fmt: skip
