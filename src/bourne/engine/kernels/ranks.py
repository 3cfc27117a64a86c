"""Rows in order, within groups: who is among the first n, by keys that are 64-bit words whose order is the keys'.

Law: words compare as the rows' keys do, the first word first; where not all of a key fits into words, rows of equal words
may still be in order, and whoever asks has to decide between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    doubles,
    is_long,
    longs,
    text_buffers,
    validity,
    wides,
    without_minus_zero,
)
from bourne.engine.kernels.compiled import compiled

Longs = NDArray[np.int64]

_TOP = np.int64(-(2**63))


def order_words(
    columns: Iterable[pa.Array], is_descending: Sequence[bool], is_nulls_first: Sequence[bool]
) -> Longs:
    """Return the sort keys of some rows as (words, rows). Keys that differ may have equal words.

    Columns behind the first that does not fit into words are not asked for.
    """
    words: list[Longs] = []
    for values, descending, nulls_first in zip(columns, is_descending, is_nulls_first, strict=True):
        found, is_exact = _words(values)
        valid = validity(values)
        if len(valid):
            words.append(np.where(valid, 0, -1 if nulls_first else 1))
            found = [np.where(valid, word, 0) for word in found]
        words += [~word for word in found] if descending else found
        if not is_exact:
            break
    return np.stack(words) if words else np.zeros((0, 0), np.int64)


def _words(values: pa.Array) -> tuple[list[Longs], bool]:
    """Return words that are in the order of the values, and whether they say all of them."""
    kind = values.type
    if pa.types.is_uint64(kind):
        return [longs(values) ^ _TOP], True
    if is_long(kind):
        return [longs(values)], True
    if pa.types.is_decimal128(kind):
        pair = wides(values)
        return [pair[:, 1], pair[:, 0] ^ _TOP], True
    if pa.types.is_floating(kind):
        numbers = without_minus_zero(doubles(values))
        bits = np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)
        return [np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits)], True
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        starts, data = text_buffers(values)
        return [_prefixes(starts, data)], False
    return [np.zeros(len(values), np.int64)], False


@compiled
def _prefixes(starts: Longs, data: NDArray[np.uint8]) -> Longs:
    """Return the first eight bytes of texts, as numbers in their order."""
    result = np.empty(len(starts) - 1, np.int64)
    for i in range(len(result)):
        word = np.uint64(0)
        for j in range(8):
            word <<= np.uint64(8)
            if starts[i] + j < starts[i + 1]:
                word |= np.uint64(data[starts[i] + j])
        result[i] = np.int64(word ^ np.uint64(1 << 63))
    return result


@compiled
def _is_after(words: Longs, i: int, j: int) -> bool:
    for k in range(words.shape[0]):
        if words[k, i] != words[k, j]:
            return bool(words[k, i] > words[k, j])
    return False


@compiled
def first_rows_of(groups: Longs, group_count: int, words: Longs, n: int) -> tuple[NDArray[np.bool_], Longs]:
    """Say which rows can be among the first n of their group, and how many of each group can: more than n are tied.

    A binary heap per group of the n first so far, the last of them at its root (Knuth, vol. 3, 5.2.3). O(rows log n).
    """
    heaps = np.empty((group_count, n), np.int64)
    sizes = np.zeros(group_count, np.int64)
    for i in range(len(groups)):
        heap, size = heaps[groups[i]], sizes[groups[i]]
        if size < n:
            at = size
            sizes[groups[i]] += 1
            while at and _is_after(words, i, heap[(at - 1) // 2]):
                heap[at] = heap[(at - 1) // 2]
                at = (at - 1) // 2
            heap[at] = i
        elif _is_after(words, heap[0], i):
            at = 0
            while 2 * at + 1 < n:
                below = 2 * at + 1
                if below + 1 < n and _is_after(words, heap[below + 1], heap[below]):
                    below += 1
                if not _is_after(words, heap[below], i):
                    break
                heap[at] = heap[below]
                at = below
            heap[at] = i
    can = np.empty(len(groups), np.bool_)
    counts = np.zeros(group_count, np.int64)
    for i in range(len(groups)):
        group = groups[i]
        can[i] = sizes[group] < n or not _is_after(words, i, heaps[group, 0])
        counts[group] += can[i]
    return can, counts


@compiled
def in_order(rows: Longs, groups: Longs, group_count: int, words: Longs) -> tuple[Longs, NDArray[np.bool_]]:
    """Return rows by group and within a group by their words, and which are of groups where two have equal words.

    A counting sort by group, then Shell's sort in each (Knuth, vol. 3, 5.2.1). O(rows + groups) while groups are small.
    """
    ends = np.zeros(group_count + 1, np.int64)
    for row in rows:
        ends[groups[row] + 1] += 1
    ends = np.cumsum(ends)
    starts = ends.copy()
    result = np.empty(len(rows), np.int64)
    for row in rows:
        result[starts[groups[row]]] = row
        starts[groups[row]] += 1
    is_tied = np.zeros(len(rows), np.bool_)
    for group in range(group_count):
        first, end = ends[group], ends[group + 1]
        gap = 1
        while 3 * gap + 1 < end - first:
            gap = 3 * gap + 1
        while gap:
            for i in range(first + gap, end):
                row, at = result[i], i
                while at - gap >= first and _is_after(words, result[at - gap], row):
                    result[at] = result[at - gap]
                    at -= gap
                result[at] = row
            gap //= 3
        for i in range(first + 1, end):
            if not _is_after(words, result[i], result[i - 1]):
                is_tied[first:end] = True
                break
    return result, is_tied
