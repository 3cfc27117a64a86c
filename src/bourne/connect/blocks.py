"""A text file in blocks of whole records, each with the line that it begins at.

Law: the blocks, one after another, are the file (without a byte order mark); a block ends where a record ends. So a
file of any size is read in bounded memory, and every record's line can be told. Live input (a pipe) is handed on when
it pauses, not only when a block is full.

Quotes are taken strictly, as RFC 4180 says: a quoted field is quoted from end to end. A stray quote is an error at
its line, where a lenient reader would swallow the rest of the file.
"""

from __future__ import annotations

import functools
import io
import os
import select
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled
from bourne.errors import MalformedInput, SourceFailed
from bourne.limits import FILE_BATCH_BYTES, FILE_RECORD_BYTES_MAX

# When a pipe has brought something and then nothing for so long, that is handed on.
_PAUSE_S = 0.05

_NONE: NDArray[np.int64] = np.empty(0, np.int64)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole records. `line` is the number of the first line, from 1, `byte` where in the file it begins, from 0."""

    data: bytes
    line: int
    byte: int = 0

    @property
    def next_line(self) -> int:
        """The number of the line after the last one."""
        return self.line + self.newlines + (not self.data.endswith(b"\n"))

    @functools.cached_property
    def newlines(self) -> int:
        """How many newlines it has. O(bytes), once."""
        return count_newlines(self.data)

    def part(self, start: int, end: int | None = None) -> Block:
        """Return a part of it that begins where a line does (or after a byte order mark)."""
        return Block(self.data[start:end], self.line_at(start), self.byte + start)

    def line_at(self, byte: int) -> int:
        """Return the number of the line that holds a byte of the block."""
        return self.line + count_newlines(self.data[:byte])


def count_newlines(data: bytes) -> int:
    """Return how many newlines there are. (`bytes.count` takes several times as long where they are many.)"""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n")))


LeaveOut = Callable[[int, bytes, MalformedInput], None]
"""Told of what is left out: the number of its line, its bytes, and why."""


def read_blocks(
    stream: BinaryIO,
    *,
    name: str,
    has_quotes: bool,
    line: int = 1,
    byte: int = 0,
    leave_out: LeaveOut | None = None,
) -> Iterator[Block]:
    """Yield the records of a stream, which is opened unbuffered. `has_quotes`: newlines in quotes end no record.

    The stream stands where a record begins, at `line` and `byte` of its file. With `leave_out`, a record with a stray
    quote is left out, up to the next end of a line.

    Raises:
        MalformedInput: a stray or unclosed quote, a record that is too long.
        SourceFailed: the stream cannot be read.
    """
    is_first = byte == 0
    rest = Block(b"", line, byte)
    for piece in _pieces(stream, name):
        rest = Block(rest.data + piece, rest.line, rest.byte)
        if is_first and len(rest.data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(rest.data):
            continue
        rest, is_first = _without_mark(rest) if is_first else rest, False
        while True:
            try:
                end = _records_end(rest, name, has_quotes=has_quotes)
            except _Stray as stray:
                if leave_out is None:
                    raise stray.error from None
                whole, left_out, rest = _around(rest, stray, is_last=False)
                if whole.data:
                    yield whole
                if not left_out.data:
                    break  # the end of its line is still to come
                leave_out(left_out.line, left_out.data, stray.error)
                continue
            if end:
                whole = rest.part(0, end)
                yield whole
                rest = Block(rest.data[end:], whole.line + whole.newlines, rest.byte + end)
            break
        if len(rest.data) > FILE_RECORD_BYTES_MAX:
            _fail("a record is too long", name, rest.line, f"at most {FILE_RECORD_BYTES_MAX} bytes")
    rest = _without_mark(rest) if is_first else rest
    if rest.data:
        quotes = _quotes(rest.data) if has_quotes else _NONE
        try:
            _check_quotes(rest, quotes, name)
        except _Stray as stray:
            if leave_out is None:
                raise stray.error from None
            whole, left_out, _ = _around(rest, stray, is_last=True)
            leave_out(left_out.line, left_out.data, stray.error)
            rest, quotes = whole, _NONE
        if len(quotes) % 2:
            _fail("a quoted field is not closed", name, rest.line_at(int(quotes[-1])), "a closing quote")
        if rest.data:
            yield rest


def _without_mark(block: Block) -> Block:
    return block.part(len(_BYTE_ORDER_MARK)) if block.data.startswith(_BYTE_ORDER_MARK) else block


class _Stray(Exception):
    """A quote, at a byte of a block, that neither begins nor ends a field; `opening` is that of its field."""

    def __init__(self, byte: int, opening: int, error: MalformedInput) -> None:
        super().__init__(str(error))
        self.byte = byte
        self.opening = opening
        self.error = error


def _around(block: Block, stray: _Stray, *, is_last: bool) -> tuple[Block, Block, Block]:
    """Return what is before the record with a stray quote, it up to the end of its line (if that is there), the rest."""
    before = _outside_newlines(block.data[: stray.opening], _quotes(block.data[: stray.opening]))
    start = int(before[-1]) + 1 if len(before) else 0
    end = block.data.find(b"\n", stray.byte) + 1 or (len(block.data) if is_last else start)
    return block.part(0, start), block.part(start, end), block.part(end)


def _pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        is_live = not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except io.UnsupportedOperation:
        is_live = False
    try:
        while parts := list(_until_pause(stream) if is_live else _full(stream)):
            yield b"".join(parts)
    except (OSError, ValueError) as error:
        raise SourceFailed(f"cannot read {name}", found=str(error)) from error


def _full(stream: BinaryIO) -> Iterator[bytes]:
    if data := stream.read(FILE_BATCH_BYTES):
        yield data


def _until_pause(stream: BinaryIO) -> Iterator[bytes]:
    """Yield what comes until it pauses, ends, or is a block."""
    size = 0
    while size < FILE_BATCH_BYTES and (size == 0 or select.select([stream], [], [], _PAUSE_S)[0]):
        data = stream.read(FILE_BATCH_BYTES - size)
        if not data:
            return
        size += len(data)
        yield data


def _records_end(block: Block, name: str, *, has_quotes: bool) -> int:
    """Return where the last whole record of the data ends; 0 if there is none."""
    if not has_quotes or b'"' not in block.data:
        return block.data.rfind(b"\n") + 1
    end = _last_end(np.frombuffer(block.data, np.uint8))
    if end < 0:
        _check_quotes(block, _quotes(block.data), name)
    return int(end)


@compiled
def _last_end(data: NDArray[np.uint8]) -> int:
    """Return where the last newline outside of quotes ends, 0 if there is none; -1 if a quote is where it may not be."""
    found, is_inside, size = 0, False, len(data)
    for i in range(size):
        code = data[i]
        if code == 34:
            if is_inside:
                after = data[i + 1] if i + 1 < size else np.uint8(10)
                if after not in (44, 13, 10, 34):
                    return -1
            else:
                before = data[i - 1] if i else np.uint8(10)
                if before not in (44, 10, 34):
                    return -1
            is_inside = not is_inside
        elif code == 10 and not is_inside:
            found = i + 1
    return found


def _outside_newlines(data: bytes, quotes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the newlines are that are not in quotes."""
    newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    outside: NDArray[np.int64] = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    return outside


def _quotes(data: bytes) -> NDArray[np.int64]:
    if b'"' not in data:
        return _NONE
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))


def _check_quotes(block: Block, quotes: NDArray[np.int64], name: str) -> None:
    """Refuse quotes that do not begin or end a field, and are not doubled inside one.

    Raises:
        _Stray: the first such quote.
    """
    around = np.frombuffer(b"\n" + block.data + b"\n", np.uint8)
    before, after = around[quotes[0::2]], around[quotes[1::2] + 2]
    is_strange_start = ~np.isin(before, np.frombuffer(b',\n"', np.uint8))
    is_strange_end = ~np.isin(after, np.frombuffer(b',\r\n"', np.uint8))
    opening = quotes[0::2]
    strange = [
        *zip(opening[is_strange_start][:1], opening[is_strange_start][:1], strict=True),
        *zip(opening[: len(after)][is_strange_end][:1], quotes[1::2][is_strange_end][:1], strict=True),
    ]
    if strange:
        opened, byte = min(strange)
        error = MalformedInput(
            "a quote in the middle of a field", where=f"{name}, line {block.line_at(int(opened))}",
            expected='a field with quotes in it is quoted as a whole, each quote in it doubled: "5"" pipe"',
            hint="mend the input",
        )  # fmt: skip
        raise _Stray(int(byte), int(opened), error)


def _fail(what: str, name: str, line: int, expected: str) -> NoReturn:
    raise MalformedInput(what, where=f"{name}, line {line}", expected=expected, hint="mend the input")
