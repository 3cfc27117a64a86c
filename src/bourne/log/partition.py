"""Which partition a record belongs to: decided by its key alone, the same in every language and for ever.

Law: partition = (murmur2(key bytes) & 0x7fffffff) % partitions. That is what Apache Kafka's own producer does with
the same bytes (`BuiltInPartitioner.partitionForKey`, `Utils.murmur2`, seed 0x9747b28c), so a topic with as many
partitions and string keys is split alike. The hash is Austin Appleby's MurmurHash2 with that seed.

The key bytes are a text's UTF-8; a blob's bytes; an integer's decimal digits ("-42"), so that a wider type moves no
key; "true" and "false"; a UUID's 36 characters in lower case. Types with several texts for one value, or several
values for one text, are no keys: floats, decimals, dates (years before 1 and after 9999), times, JSON, nested ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.errors import DefinitionError, ValueMismatch
from bourne.schema import Column

_KEY_TYPES: Final = frozenset(
    {
        "VARCHAR", "BLOB", "BOOLEAN", "UUID", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT",
        "USMALLINT", "UINTEGER", "UBIGINT",
    }
)  # fmt: skip

_SEED: Final = np.uint32(0x9747B28C)
_MULTIPLIER: Final = 0x5BD1E995
_M: Final = np.uint32(_MULTIPLIER)
_WORD_MASK: Final = 0xFFFFFFFF
_TAIL_MASKS: Final = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], np.uint32)

# A step of NumPy costs about ten microseconds, however few values are left. So the long rest of a few is hashed one
# value after another: a step per four bytes of a key of a megabyte would cost seconds.
_FEW_ROWS: Final = 100

# Arrow puts a column's chunks together to pick rows of it, and the offsets of texts have 31 bits.
_TAKE_BYTES_MAX: Final = 1 << 30

_Words = NDArray[np.uint32]
_Longs = NDArray[np.int64]


def check_partition_key(column: Column, *, where: str) -> None:
    """Make sure that a column of this type can decide the partition.

    Raises:
        DefinitionError: it cannot.
    """
    if column.type not in _KEY_TYPES:
        raise DefinitionError(
            f"column {column.name!r} cannot decide the partition of a record",
            where=where,
            expected="varchar, blob, uuid, boolean or an integer type",
            found=column.type,
            hint="append a VARCHAR column with the key's text, and declare that one as the key",
        )


def split(
    table: pa.Table, key: str, partitions: int, *, keys: pa.ChunkedArray | pa.Array | None = None
) -> list[tuple[int, pa.Table, NDArray[np.int64]]]:
    """Return, for each partition that gets rows: its number, its rows, and their row numbers in `table`.

    Rows stay in their order. `key` is a column's name, in any case; its values are `keys`, where they are not a column of
    the table. The table itself is returned, not a copy, where all rows belong to one partition. O(rows) and one copy.

    Raises:
        ValueMismatch: a key is NULL.
    """
    rows = table.num_rows
    if rows == 0:
        return []
    if partitions == 1:
        return [(0, table, np.arange(rows))]
    if keys is None:
        key = next(name for name in table.column_names if name.casefold() == key.casefold())
        keys = table.column(key)
    return _grouped(table, partition_of(keys, partitions, name=key))


def _grouped(table: pa.Table, numbers: NDArray[np.int32]) -> list[tuple[int, pa.Table, NDArray[np.int64]]]:
    """Return the rows of each number, as `split` does."""
    counts = np.bincount(numbers)
    used = np.flatnonzero(counts)
    if len(used) == 1:
        return [(int(used[0]), table, np.arange(len(numbers)))]
    if table.nbytes > _TAKE_BYTES_MAX:
        return _grouped_by_halves(table, numbers)
    # NumPy sorts 16-bit numbers by radix, ten times as fast.
    order = np.argsort(numbers.astype(np.uint16) if len(counts) <= 1 << 16 else numbers, kind="stable")
    ordered = table.take(pa.array(order))
    ends = np.cumsum(counts)
    return [
        (int(number), ordered.slice(end - count, count), order[end - count : end])
        for number, count, end in zip(used, counts[used].tolist(), ends[used].tolist(), strict=True)
    ]


def _grouped_by_halves(
    table: pa.Table, numbers: NDArray[np.int32]
) -> list[tuple[int, pa.Table, NDArray[np.int64]]]:
    middle = len(numbers) // 2
    halves = _grouped(table[:middle], numbers[:middle]), _grouped(table[middle:], numbers[middle:])
    found: dict[int, list[tuple[pa.Table, NDArray[np.int64]]]] = {}
    for start, half in zip((0, middle), halves, strict=True):
        for number, part, rows in half:
            found.setdefault(number, []).append((part, rows + start))
    return [
        (number, pa.concat_tables([part for part, _ in parts]), np.concatenate([rows for _, rows in parts]))
        for number, parts in sorted(found.items())
    ]


def partition_of(
    keys: pa.ChunkedArray | pa.Array, partitions: int, *, name: str = "key"
) -> NDArray[np.int32]:
    """Return the number of the partition, from 0, that each key belongs to. O(bytes).

    Raises:
        ValueMismatch: a key is NULL; names the first such row of the column `name`.
        DefinitionError: no key type (`check_partition_key` tells when the log is declared).
    """
    assert partitions >= 1
    if keys.null_count:
        raise ValueMismatch(
            f"NULL in column {name!r}, which decides the partition of a record",
            where=f"row {pc.index(pc.is_null(keys), True).as_py()} of this call",
            expected="a value",
            found="NULL",
        )
    hashes = murmur2(_key_bytes(keys, name))
    return ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)


def _key_bytes(keys: pa.ChunkedArray | pa.Array, name: str) -> pa.LargeBinaryArray:
    """Return what is hashed of each key."""
    kind = keys.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_blob = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    is_huge = pa.types.is_decimal128(kind) and kind.scale == 0  # so DuckDB hands out HUGEINT
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_huge:
        keys = keys.cast(pa.large_string())
    elif not (is_text or is_blob):
        check_partition_key(Column(name, str(kind)), where="the key")
    keys = keys.cast(pa.large_binary())  # its offsets have 64 bits, so that chunks of any size fit into one
    if isinstance(keys, pa.ChunkedArray):
        return (
            keys.chunk(0)
            if keys.num_chunks == 1
            else pa.concat_arrays([*keys.chunks, pa.array([], pa.large_binary())])
        )
    return keys


# --- the hash ------------------------------------------------------------------------------------------


def murmur2(values: pa.LargeBinaryArray) -> _Words:
    """Return the 32-bit MurmurHash2 of each value, with Kafka's seed. No value is NULL. O(bytes).

    A step takes in the next four bytes of all values that still have as many; the last one to three bytes follow.
    """
    if not len(values):
        return np.zeros(0, np.uint32)
    starts, lengths, words = _layout(values)
    hashes = lengths.astype(np.uint32) ^ _SEED
    _take_in_words(hashes, starts, lengths >> 2, words)
    rest = lengths & 3
    rows = np.flatnonzero(rest)
    tails = words[starts[rows] + (lengths[rows] - rest[rows])] & _TAIL_MASKS[rest[rows]]
    hashes[rows] = (hashes[rows] ^ tails) * _M
    hashes ^= hashes >> 13
    hashes *= _M
    hashes ^= hashes >> 15
    return hashes


def _layout(values: pa.LargeBinaryArray) -> tuple[_Longs, _Longs, _Words]:
    """Return where each value starts, its length, and at each byte the little-endian word that starts there."""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    first, end = int(bounds[0]), int(bounds[-1])
    padded = np.zeros(end - first + 4, np.uint8)
    padded[: end - first] = np.frombuffer(data or b"", np.uint8)[first:end]
    words: _Words = np.ndarray((len(padded) - 3,), "<u4", padded, strides=(1,))
    return bounds[:-1] - first, np.diff(bounds), words


def _take_in_words(hashes: _Words, starts: _Longs, counts: _Longs, words: _Words) -> None:
    """Mix the first `counts` words of each value into its hash."""
    at_least = np.bincount(counts)[::-1].cumsum()[::-1]  # how many values have so many words or more
    rows = np.arange(len(hashes))
    positions, states = starts.copy(), hashes.copy()
    for step in range(1, len(at_least)):
        if at_least[step] < len(rows):
            hashes[rows] = states
            rows = rows[counts[rows] >= step]
            positions, states = starts[rows] + 4 * (step - 1), hashes[rows]
        if len(rows) <= min(_FEW_ROWS, len(at_least) - step):
            for row, position, state in zip(rows, positions.tolist(), states.tolist(), strict=True):
                value = words[position : starts[row] + 4 * counts[row] : 4]
                hashes[row] = _chained(state, value)
            return
        mixed = _mixed(words[positions])
        states *= _M
        states ^= mixed
        positions += 4
    hashes[rows] = states


def _chained(state: int, words: _Words) -> int:
    """Mix all words of one value into its hash: what a step does for many values, for one to its end."""
    for word in _mixed(words).tolist():
        state = (state * _MULTIPLIER & _WORD_MASK) ^ word
    return state


def _mixed(words: _Words) -> _Words:
    words = words * _M
    words ^= words >> 24
    words *= _M
    return words
