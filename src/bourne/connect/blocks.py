"""A text file in blocks of whole records, each with the line that it begins at.

Law: the blocks, one after another, are the file (without a byte order mark); a block ends where a record ends. So a
file of any size is read in bounded memory, and every record's line can be told. Live input (a pipe) is handed on when
it pauses, not only when a block is full.

Quotes are taken strictly, as RFC 4180 says: a quoted field is quoted from end to end. A stray quote is an error at
its line, where a lenient reader would swallow the rest of the file.
"""

from __future__ import annotations

import io
import os
import select
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from bourne.errors import MalformedInput, SourceFailed
from bourne.limits import FILE_BATCH_BYTES, FILE_RECORD_BYTES_MAX

# When a pipe has brought something and then nothing for so long, that is handed on.
_PAUSE_S = 0.05

_NONE: NDArray[np.int64] = np.empty(0, np.int64)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records. `line` is the number of the first line, from 1."""

    data: bytes
    line: int

    @property
    def next_line(self) -> int:
        """The number of the line after the last one."""
        return self.line + self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    def line_at(self, byte: int) -> int:
        """Return the number of the line that holds a byte of the block."""
        return self.line + self.data.count(b"\n", 0, byte)


def read_blocks(stream: BinaryIO, *, name: str, has_quotes: bool) -> Iterator[Block]:
    """Yield the records of a stream, which is opened unbuffered. `has_quotes`: newlines in quotes end no record.

    Raises:
        MalformedInput: a stray or unclosed quote, a record that is too long.
        SourceFailed: the stream cannot be read.
    """
    rest, line, is_first = b"", 1, True
    for piece in _pieces(stream, name):
        data = rest + piece
        if is_first and len(data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(data):
            rest = data
            continue
        data = data.removeprefix(_BYTE_ORDER_MARK) if is_first else data
        is_first = False
        end = _records_end(Block(data, line), name, has_quotes=has_quotes)
        rest = data[end:]
        if end:
            block = Block(data[:end], line)
            yield block
            line = block.next_line
        if len(rest) > FILE_RECORD_BYTES_MAX:
            _fail("a record is too long", name, line, f"at most {FILE_RECORD_BYTES_MAX} bytes")
    rest = rest.removeprefix(_BYTE_ORDER_MARK) if is_first else rest
    if rest:
        last = Block(rest, line)
        quotes = _quotes(rest) if has_quotes else _NONE
        if len(quotes) % 2:
            _fail("a quoted field is not closed", name, last.line_at(int(quotes[-1])), "a closing quote")
        yield last


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
    quotes = _quotes(block.data) if has_quotes else _NONE
    if not len(quotes):
        return block.data.rfind(b"\n") + 1
    _check_quotes(block, quotes, name)
    newlines = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
    outside = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _quotes(data: bytes) -> NDArray[np.int64]:
    if b'"' not in data:
        return _NONE
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))


def _check_quotes(block: Block, quotes: NDArray[np.int64], name: str) -> None:
    """Refuse quotes that do not begin or end a field, and are not doubled inside one."""
    around = np.frombuffer(b"\n" + block.data + b"\n", np.uint8)
    before, after = around[quotes[0::2]], around[quotes[1::2] + 2]
    is_strange_start = ~np.isin(before, np.frombuffer(b',\n"', np.uint8))
    is_strange_end = ~np.isin(after, np.frombuffer(b',\r\n"', np.uint8))
    strange = [
        *(quotes[0::2][is_strange_start][:1]),
        *(quotes[0::2][: len(after)][is_strange_end][:1]),
    ]
    if strange:
        _fail(
            "a quote in the middle of a field", name, block.line_at(int(min(strange))),
            'a field with quotes in it is quoted as a whole, each quote in it doubled: "5"" pipe"',
        )  # fmt: skip


def _fail(what: str, name: str, line: int, expected: str) -> NoReturn:
    raise MalformedInput(what, where=f"{name}, line {line}", expected=expected, hint="mend the file")
