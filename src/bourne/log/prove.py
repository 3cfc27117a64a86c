"""Making proofs: from one partition's files, what it takes to show a record under a head hash.

Law: `check_proof` of what is made here says what the log says of that offset; it is asked before anything is returned.

Cost: the headers of the record's segment, of the head's, and of one more for each of the O(log frames) hashes to the
right of the record; what is before a segment, its first frame knows. Of the record's frame, the whole body.
"""

from __future__ import annotations

import base64
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from bourne.errors import CorruptFrame, InputError, InvalidProof
from bourne.limits import PROOF_BYTES_MAX
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cold import open_segment
from bourne.log.disk import disk_errors
from bourne.log.format import KIND_RECORDS, KIND_SCHEMA, Head, Header, decode_meta, payload_of
from bourne.log.merkle import LEAF_BYTES, leaf_hash, path_to, subtrees
from bourne.log.proof import VERSION, check_proof, head_hash, leaf_count, payload_start
from bourne.log.protocol import LogHead
from bourne.log.recovery import head_before
from bourne.log.row import read_row
from bourne.log.segment import Damaged, Segment, read_schema, segment_bases, segment_name

# Beyond 6, zlib gains hardly anything and takes long.
_ZLIB_LEVEL = 6


class _Frame(NamedTuple):
    """A frame, and where in its segment it starts."""

    byte: int
    header: Header


def prove(
    log_folder: Path,
    info: LogInfo,
    published: Head | None,
    offset: int,
    *,
    partition: int = 0,
    head: str | LogHead | None = None,
) -> dict[str, Any]:
    """Return the proof, plain JSON, that a record is in the log under a head: by default the newest, `published`.

    Raises:
        InputError: there is no such record (any more), it was compacted away, or there is no such head after it.
        CorruptFrame: the log is not what was written.
        StorageError: the disk refuses.
    """
    wanted = head_hash(head)
    folder = partition_folder(log_folder, partition)
    with disk_errors(folder, f"cannot read log {info.name!r}"):
        bases = [base for base in segment_bases(folder) if published and base <= published.segment]
        end = published.next_offset if published is not None else 0
        if published is None or not bases or not bases[0] <= offset < end:
            raise _no_offset(info, offset, bases[0] if bases else end, end)
        at = max(number for number, base in enumerate(bases) if base <= offset)
        found = open_segment(folder, bases[at])
        if found is None:
            raise _no_offset(info, offset, next(iter(segment_bases(folder)), end), end)
        with closing(found) as segment:  # as long as it is open, retention keeps it, and those behind it
            try:
                history = _History(folder, bases[at:], published)
                schema, record = _find(history.frames(segment, 0), info, offset)
                last = history.head(wanted, record.header)
                proof = {
                    "bourne_proof": VERSION,
                    "log": info.name,
                    "offset": offset,
                    "head": _text(last.raw),
                    "record": _record_part(history, segment, schema, record, last, info, offset),
                    "schema": _schema_part(history, segment, schema, last),
                }
                check_proof(proof, last.hash.hex())
            except (Damaged, InvalidProof) as error:
                raise CorruptFrame(
                    f"the record cannot be proved: {error}", log=info.name, partition=partition,
                    file=segment.name, byte=0, offset=offset,
                ) from error  # fmt: skip
    return proof


def _no_offset(info: LogInfo, offset: int, first: int, end: int) -> InputError:
    is_gone = 0 <= offset < first
    return InputError(
        f"log {info.name!r} does not keep offset {offset} any more" if is_gone
        else f"log {info.name!r} has no record at offset {offset}",
        expected=f"offset {first} to {end - 1}" if first < end else "a log with records",
        found=offset,
    )  # fmt: skip


class _History:
    """The frames of a partition, from the record's segment on."""

    def __init__(self, folder: Path, bases: list[int], published: Head) -> None:
        self._folder = folder
        self._bases = bases
        self._published = published
        self._before = [self._head_before(index) for index in range(len(bases))]
        self._numbers = [before.number for before in self._before]
        self._subtrees: dict[int, Callable[[int, int], bytes]] = {}

    def _open(self, index: int) -> Segment:
        segment = open_segment(self._folder, self._bases[index])
        if segment is None:
            raise Damaged(f"segment {segment_name(self._bases[index])} is missing")
        return segment

    def _head_before(self, index: int) -> Head:
        """Return where the partition ended before a segment."""
        with closing(self._open(index)) as segment:
            _, first = next(iter(self.frames(segment, index)))
            before = head_before(first, decode_meta(first, segment.body(0, first)))
        if before is None:
            raise Damaged(
                f"segment {segment_name(self._bases[index])} does not start with a segment's first frame"
            )
        return before

    def frames(self, segment: Segment, index: int) -> Iterator[_Frame]:
        """Yield the acknowledged frames of a segment."""
        is_last = self._bases[index] == self._published.segment
        end = self._published.end if is_last else segment.size()
        last = 0
        for byte, header in segment.headers(0, end):
            yield _Frame(byte, header)
            last = byte + header.frame_bytes
        if last != end:
            raise Damaged(f"a frame of {segment.name} is not whole, at byte {last}")

    def head(self, wanted: str | None, record: Header) -> Header:
        """Return the header of the frame that has that hash, or of the last one. It is the record's frame or a later one.

        Raises:
            InputError: there is none.
        """
        published = self._published
        if wanted is None or wanted == published.hash.hex():
            with closing(self._open(-1)) as segment:
                newest = segment.header(published.last, published.end)
            if newest is None or newest.hash != published.hash:
                raise Damaged("the log's last frame is not the one that 'head' names")
            return newest
        for index in range(len(self._bases)):
            with closing(self._open(index)) as segment:
                for _, header in self.frames(segment, index):
                    if header.hash.hex() == wanted and header.number >= record.number:
                        return header
        raise InputError(
            "the log has no such head at or after that record",
            expected="the hash of the record's frame or of a later one, as bourne verify and head() give it",
            found=wanted,
        )

    def path(self, number: int, count: int) -> str:
        """Return the audit path of a frame in the history of the frame with number `count`; none to itself."""
        return _text(b"".join(path_to(number, count, self._subtree) if number < count else ()))

    def _subtree(self, start: int, end: int) -> bytes:
        """Return the root over some frames: leaves of the segment with the last of them, and peaks of those before it.

        What lies before the record's segment altogether is one of its peaks.
        """
        index = max(0, bisect_left(self._numbers, end) - 1)
        if index not in self._subtrees:
            with closing(self._open(index)) as segment:
                leaves = [leaf_hash(frame.header.hash) for frame in self.frames(segment, index)]
            forest = self._before[index].forest
            self._subtrees[index] = subtrees(forest.size, forest.peaks, leaves)
        return self._subtrees[index](start, end)


def _find(frames: Iterator[_Frame], info: LogInfo, offset: int) -> tuple[_Frame, _Frame]:
    """Return the frame with a record, and the schema frame that counts for it."""
    schema = None
    for frame in frames:
        header = frame.header
        if header.kind == KIND_SCHEMA:
            schema = frame
        elif header.kind == KIND_RECORDS and header.base_offset <= offset < header.next_offset:
            if schema is None:
                raise Damaged("its segment does not start with its schema")
            return schema, frame
    raise Damaged(f"log {info.name!r} has no frame with offset {offset}")


def _record_part(
    history: _History,
    segment: Segment,
    schema: _Frame,
    record: _Frame,
    head: Header,
    info: LogInfo,
    offset: int,
) -> dict[str, Any]:
    """Return what the proof shows of the record's frame: the leaves that the record needs."""
    header = record.header
    if segment.is_compacted(record.byte):
        raise InputError(
            f"offset {offset} of log {info.name!r} was appended together with records that were compacted away, "
            "or was itself: it cannot be proved any more",
            where=f"file {segment.name}",
            found=offset,
        )
    fields = read_schema(payload_of(schema.header, segment.body(schema.byte, schema.header)))
    body = segment.body(record.byte, header)
    payload = memoryview(payload_of(header, body))
    needed: set[int] = set()

    def read(start: int, end: int) -> bytes:
        needed.update(_leaves_of(header, start, end))
        return bytes(payload[start:end])

    read_row(read, header.payload_bytes, fields, header.row_count, offset - header.base_offset)
    if len(needed) * LEAF_BYTES > PROOF_BYTES_MAX:
        raise InputError(
            f"offset {offset} of log {info.name!r} is too large to be proved",
            expected=f"{PROOF_BYTES_MAX:,} bytes",
        )
    return _part(history, header, head, body, needed)


def _schema_part(history: _History, segment: Segment, schema: _Frame, head: Header) -> dict[str, Any]:
    """Return what the proof shows of the schema's frame: all of its payload."""
    body = segment.body(schema.byte, schema.header)
    needed = set(_leaves_of(schema.header, 0, schema.header.payload_bytes))
    return _part(history, schema.header, head, body, needed)


def _part(
    history: _History, header: Header, head: Header, body: memoryview, needed: set[int]
) -> dict[str, Any]:
    leaves = [body[at : at + LEAF_BYTES] for at in range(0, len(body), LEAF_BYTES)]
    subtree = subtrees(0, (), [leaf_hash(leaf) for leaf in leaves])

    def path(index: int) -> str:
        return _text(b"".join(path_to(index, leaf_count(header), subtree)))

    return {
        "header": _text(header.raw),
        "path": history.path(header.number, head.number),
        "leaves": [
            {"index": index, "data": _text(zlib.compress(leaves[index], _ZLIB_LEVEL)), "path": path(index)}
            for index in sorted(needed)
        ],
    }


def _leaves_of(header: Header, start: int, end: int) -> range:
    """Return the leaves of the body in which bytes of the payload are."""
    at = payload_start(header)
    return range((at + start) // LEAF_BYTES, -(-(at + end) // LEAF_BYTES))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
