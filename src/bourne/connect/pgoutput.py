"""PostgreSQL's logical replication messages (pgoutput, protocol 1), decoded in columns.

Many messages lie one behind the other in one piece of memory. `scan` says of each what it is; `cells` says where the
values of each column lie in it; `texts` makes an Arrow array of them. No value becomes a Python object.

Law: a cell is its bytes as they were sent, or NULL, or unchanged (a large value that an update left alone, which
PostgreSQL does not send), or not there at all. Nothing is interpreted here: `bourne.connect.postgres_texts` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.cells import gather
from bourne.engine.kernels.compiled import compiled
from bourne.errors import SourceFailed

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]

BEGIN, COMMIT, RELATION, TYPE, ORIGIN, MESSAGE, TRUNCATE = b"BCRYOMT"
INSERT, UPDATE, DELETE, KEEPALIVE = b"IUDk"
_KNOWN = np.frombuffer(b"BCRYOMTIUDk", np.uint8)

# What a cell's length says when it is no length.
NULL, UNCHANGED, ABSENT = -1, -2, -3

# Where a pgoutput message begins in a copy message: behind its kind, two WAL positions and a time.
_HEAD = 25


@dataclass(frozen=True, slots=True)
class Messages:
    """Copy messages one behind the other: message i is `data[starts[i]:starts[i + 1]]`.

    `kinds` are pgoutput's letters, or KEEPALIVE. `relations` are the tables of inserts, updates and deletes, else 0.
    """

    data: Bytes
    starts: Longs
    kinds: Bytes
    relations: Longs

    def body(self, index: int) -> bytes:
        """Return a message without its head and letter; a keepalive without its letter."""
        skipped = 1 if self.kinds[index] == KEEPALIVE else _HEAD + 1
        return self.data[self.starts[index] + skipped : self.starts[index + 1]].tobytes()

    def numbers(self, indexes: Longs, *, at: int, size: int) -> Longs:
        """Return an unsigned number (big-endian, `size` bytes, `at` bytes behind the letter) of each of these messages."""
        places = self.starts[indexes] + _HEAD + 1 + at
        result = np.zeros(len(indexes), np.int64)
        for byte in range(size):
            result = (result << 8) | self.data[places + byte]
        return result


def scan(messages: Sequence[bytes | memoryview]) -> Messages:
    """Put copy messages one behind the other, and say what each is.

    Raises:
        SourceFailed: one is of a kind that is not known, or is cut off.
    """
    starts = np.zeros(len(messages) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)), out=starts[1:])
    data = np.frombuffer(b"".join(messages), np.uint8)
    kinds, relations = np.zeros(len(messages), np.uint8), np.zeros(len(messages), np.int64)
    bad = _scan(data, starts, _KNOWN, kinds, relations)
    if bad >= 0:
        raise _broken(data[starts[bad] : starts[bad + 1]].tobytes())
    return Messages(data, starts, kinds, relations)


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the values of each column (first axis) of each row (second axis) lie."""

    offsets: Longs
    lengths: Longs

    def take(self, rows: Longs) -> Cells:
        """Return these rows."""
        return Cells(self.offsets[:, rows], self.lengths[:, rows])

    def where(self, condition: NDArray[np.bool_], other: Cells) -> Cells:
        """Return the cells where the condition (of cells, or of rows) holds, else the other ones."""
        return Cells(
            np.where(condition, self.offsets, other.offsets), np.where(condition, self.lengths, other.lengths)
        )


def cells(messages: Messages, rows: Longs, columns: int) -> tuple[Bytes, Cells, Cells]:
    """Return what inserts, updates and deletes of one table hold: the kind of old row (`K`, `O` or 0), old and new rows.

    Raises:
        SourceFailed: a row has another number of columns.
    """
    shape = (columns, len(rows))
    old = Cells(np.zeros(shape, np.int64), np.full(shape, ABSENT, np.int64))
    new = Cells(np.zeros(shape, np.int64), np.full(shape, ABSENT, np.int64))
    identities = np.zeros(len(rows), np.uint8)
    bad = _walk(
        messages.data, messages.starts, rows, columns,
        identities, old.offsets, old.lengths, new.offsets, new.lengths,
    )  # fmt: skip
    if bad >= 0:
        index = int(rows[bad])
        raise _broken(messages.data[messages.starts[index] : messages.starts[index + 1]].tobytes())
    return identities, old, new


def texts(data: Bytes, offsets: Longs, lengths: Longs) -> pa.Array:
    """Return cells of one column as an array of texts; what is not there is NULL.

    Raises:
        SourceFailed: they are not UTF-8 (a database in SQL_ASCII may hold anything).
    """
    if (size := int(np.maximum(lengths, 0).sum())) > np.iinfo(np.int32).max:
        raise SourceFailed(
            "the values of one column are too large", expected="at most 2 GiB", found=f"{size:,} B"
        )
    result = gather(data, offsets, lengths)
    try:
        result.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceFailed(
            "a text is not UTF-8", found=str(error), hint="convert the database to UTF8, or repair that value"
        ) from error
    return result


# --- messages that come seldom, one by one --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the following messages see it. `identity` is its replica identity; `keys` are numbers of columns."""

    number: int
    name: str
    identity: str
    columns: tuple[str, ...]
    types: tuple[int, ...]
    keys: tuple[int, ...]


def relation(body: bytes) -> Relation:
    """Read a message that describes a table."""
    number = int.from_bytes(body[:4], "big")
    space, name, rest = body[4:].split(b"\0", 2)
    count, rest, names, types, keys = int.from_bytes(rest[1:3], "big"), rest[3:], [], [], []
    identity = chr(body[len(body) - len(rest) - 3])
    for index in range(count):
        is_key, (column, rest) = rest[0] & 1, rest[1:].split(b"\0", 1)
        names.append(column.decode())
        types.append(int.from_bytes(rest[:4], "big"))
        keys += [index] if is_key else []
        rest = rest[8:]
    full_name = f"{(space or b'pg_catalog').decode()}.{name.decode()}"
    return Relation(number, full_name, identity, tuple(names), tuple(types), tuple(keys))


def truncated(body: bytes) -> tuple[int, ...]:
    """Read which tables a message says are emptied."""
    count = int.from_bytes(body[:4], "big")
    return tuple(int.from_bytes(body[5 + 4 * i : 9 + 4 * i], "big") for i in range(count))


def _broken(message: bytes) -> SourceFailed:
    return SourceFailed(
        "a message of PostgreSQL cannot be read", expected="pgoutput, protocol 1", found=repr(message[:80])
    )


# --- kernels --------------------------------------------------------------------------------------------


@compiled
def _scan(data: Bytes, starts: Longs, known: Bytes, kinds: Bytes, relations: Longs) -> int:
    for i in range(len(kinds)):
        start, end = starts[i], starts[i + 1]
        if end > start and data[start] == 107:
            kinds[i] = 107
            if end - start < 18:
                return i
            continue
        if end - start <= 25 or data[start] != 119:
            return i
        kind = data[start + 25]
        is_known = False
        for each in known:
            is_known |= each == kind
        if not is_known:
            return i
        kinds[i] = kind
        if kind in (73, 85, 68):
            if end - start < 32:
                return i
            for byte in range(4):
                relations[i] = (relations[i] << 8) | data[start + 26 + byte]
    return -1


@compiled
def _walk(
    data: Bytes, starts: Longs, rows: Longs, columns: int,
    identities: Bytes, old_offsets: Longs, old_lengths: Longs, new_offsets: Longs, new_lengths: Longs,
) -> int:  # fmt: skip
    for i in range(len(rows)):
        at, end = starts[rows[i]] + 30, starts[rows[i] + 1]
        is_delete, has_new = data[at - 5] == 68, False
        while at < end:
            side = data[at]
            is_new = side == 78
            has_new |= is_new
            if not is_new and side not in (75, 79):
                return i
            if not is_new:
                identities[i] = side
            if at + 3 > end or (np.int64(data[at + 1]) << 8) + data[at + 2] != columns:
                return i
            at += 3
            for c in range(columns):
                if at >= end:
                    return i
                kind = data[at]
                at += 1
                length = np.int64(-1)
                if kind == 117:
                    length = np.int64(-2)
                elif kind == 116:
                    if at + 4 > end:
                        return i
                    length = np.int64(0)
                    for byte in range(4):
                        length = (length << 8) | data[at + byte]
                    at += 4
                    if at + length > end:
                        return i
                elif kind != 110:
                    return i
                if is_new:
                    new_offsets[c, i] = at
                    new_lengths[c, i] = length
                else:
                    old_offsets[c, i] = at
                    old_lengths[c, i] = length
                at += max(length, 0)
        if has_new == is_delete or (is_delete and identities[i] == 0):
            return i
    return -1
