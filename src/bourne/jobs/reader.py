"""The contract of what a chunk step reads from, and how parts of any size become chunks of the size that is wanted.

Law: a reader yields the same rows in the same order whenever it begins at the same position, up to an end that is fixed
when it begins. So a chunk that ends within a part can say so: the position before the part, and how many of its rows to
pass over. How large the parts are does not matter for that. What may be other rows when it is read again (a table that
others write to) says the position after each row instead (`Part`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from bourne.batch.chunk_size import ChunkSize
from bourne.connect.source import DeadLetter, Position, Taken
from bourne.schema import Schema


class Reader(Protocol):
    """Reads rows that come to an end. For one thread."""

    schema: Schema
    """The columns of the rows."""

    def read(self, position: Position | None) -> Iterator[Taken]:
        """Yield the rows after a position (None: all), in parts, each with the position after it.

        Raises:
            Unreachable: the other side is not there; it may be tried again from the last position.
            SourceFailed, InputError: what is there cannot be read, or is not what was there before.
        """
        ...

    def share(self, position: Position | None) -> float | None:
        """Return which share of it lies before a position, from 0 to 1; None if that is not known."""
        ...

    def close(self) -> None:
        """Let go of what it holds. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Part(Taken):
    """Rows of which is known more: `at` says the position after so many of them, from 1, so that they can be cut anywhere.

    `is_whole`: they are not cut at all, and are a chunk by themselves; `gone` are keys that are to go away with it.
    """

    at: Callable[[int], Position] | None = None
    gone: pa.Table | None = None
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one chunk as they were read, what could not be read among them, and where reading goes on after it."""

    rows: pa.Table
    position: Position
    dead: tuple[DeadLetter, ...] = ()
    gone: pa.Table | None = None


def pieces(reader: Reader, start: Position | None, size: Callable[[], ChunkSize]) -> Iterator[Piece]:
    """Yield what a reader has after a position, cut into chunks of the size that `size` says each time.

    `start` is the `position` of a piece, or None.
    """
    before, passed = (None, 0) if start is None else (start["at"], start["skip"])
    empty = reader.schema.to_arrow().empty_table()
    waiting: list[pa.Table] = []
    dead: list[DeadLetter] = []
    rows = 0

    def piece(position: Position, skip: int) -> Piece:
        nonlocal waiting, dead, rows
        found = Piece(pa.concat_tables([empty, *waiting]), {"at": position, "skip": skip}, tuple(dead))
        waiting, dead, rows = [], [], 0
        return found

    for part in reader.read(before):
        table = empty if part.rows is None else part.rows
        if isinstance(part, Part) and part.is_whole:
            if rows or dead:
                yield piece(before, 0)
            yield Piece(table, {"at": part.position, "skip": 0}, part.dead, part.gone)
            before = part.position
            continue
        at = passed
        passed = max(0, passed - table.num_rows)
        # Letters go with the last row of their part: with the first one, a share of what is skipped would be of too few rows.
        # Where a position lies within the part, they go first, as reading that goes on there would not come by them.
        is_cut_within = isinstance(part, Part) and part.at is not None
        if is_cut_within or at >= table.num_rows:
            dead += part.dead
        while at < table.num_rows:
            wanted = size()
            # What a row takes, on average, says how many of them are so many bytes.
            per_row = max(1, table.nbytes // max(1, table.num_rows))
            room = min(wanted.rows - rows, max(1, wanted.bytes // per_row) - rows)
            cut = table.slice(at, max(room, 1))
            waiting.append(cut)
            rows += cut.num_rows
            at += cut.num_rows
            if at >= table.num_rows and not is_cut_within:
                dead += part.dead
            if rows >= wanted.rows or rows * per_row >= wanted.bytes:
                if at >= table.num_rows:
                    yield piece(part.position, 0)
                elif isinstance(part, Part) and part.at is not None:
                    yield piece(part.at(at), 0)
                else:
                    yield piece(before, at)
        before = part.position
        if len(dead) >= size().rows:  # they take memory, too
            yield piece(before, 0)
    if rows or dead:
        yield piece(before, 0)
