"""The rows of groups: a multimap from dense group numbers to rows with weights.

Law: after any updates a group's rows are those whose weights add up to something else than zero, in the order in
which they came to be; which order that is depends on the updates alone, also after `save` and `load`. A weight may
be negative: a retraction may come before what it retracts.

Each group's rows are a doubly linked list, so that a row is added and removed in constant time. Rows of one group
with equal content are found by their hash (`row_hash`), in open addressing. A row that is gone leaves a gap, whose
number is not used again until the gaps outnumber the rows and all are numbered anew.
Cost of a call: O(rows in the call), and O(rows returned).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.row_store import RowStore
from bourne.limits import GROUPS_MAX

Longs = NDArray[np.int64]
# Per row: the row before and the row after it in its group. Per group: first row, last row, how many. Rows are
# kept plus one; zero is none.
Links = NDArray[np.uint32]

_BLOCK = 64
_LOW = np.int64(0xFFFFFFFF)
# What stands for the row before one that is gone.
_GONE = np.uint32(0xFFFFFFFF)
# So few gaps are not worth the work.
_GAPS_MIN = 1024
# So many rows are hashed at once: what they need in memory besides is small then.
_ROWS_AT_ONCE = 1 << 18


class RowChains:
    """Rows of groups. Append-only ones take no weights, and keep equal rows apart."""

    def __init__(self, types: Sequence[pa.DataType], *, is_append_only: bool, counters: int = 0) -> None:
        self._is_append_only = is_append_only
        self._store = RowStore(types)
        self._groups: Links = np.zeros((0, 3), np.uint32)
        self._links: Links = np.zeros((0, 2), np.uint32)
        self._gone = 0
        self._counters = [np.zeros(0, np.int64) for _ in range(counters)]
        # Only with weights: a row's weight and the hash of its group and content; the index over these hashes.
        self._weights: Longs = np.zeros(0, np.int64)
        self._hashes: Longs = np.zeros((0, 2), np.int64)
        self._slots: Longs = np.zeros(4096, np.int64)

    def __len__(self) -> int:
        return len(self._store) - self._gone

    def update(self, groups: Longs, columns: Sequence[pa.Array], weights: Longs | None) -> Longs:
        """Add rows; return the number of each, good until the next update.

        With weights, rows of one group with equal content are one row. A row whose weight is zero in the end is
        gone, but can be read until the next update; should it come again later, it is a new row.
        """
        self._close_gaps()
        if len(groups):
            self._groups = grown(self._groups, int(groups.max()) + 1)
        if self._is_append_only:
            assert weights is None
            numbers = np.arange(len(self._store), len(self._store) + len(groups))
            fresh, fresh_groups = columns, groups
        else:
            if weights is None:
                weights = np.ones(len(groups), np.int64)
            numbers, first = self._add_weights(groups, columns, weights)
            is_all = len(first) == len(groups)
            fresh = columns if is_all else [values.take(pa.array(first)) for values in columns]
            fresh_groups = groups if is_all else groups[first]
        self._append(fresh_groups, fresh)
        if not self._is_append_only:
            self._gone += _unlink(numbers, groups, self._weights, self._groups, self._links)
        return numbers

    def match(self, groups: Longs) -> tuple[Longs, Longs]:
        """Return the pairs (i, row) for every row of group groups[i], in order; -1 is a group without rows."""
        total = _count(groups, self._groups, np.empty(len(groups), np.int64))
        lefts, rows = np.empty(total, np.int64), np.empty(total, np.int64)
        _match(groups, self._groups, self._links, lefts, rows)
        return lefts, rows

    def rows_of(self, groups: Longs) -> tuple[Longs, Longs]:
        """Return (row numbers, group of each) of distinct groups."""
        lefts, rows = self.match(groups)
        return rows, groups[lefts]

    def count(self, groups: Longs) -> Longs:
        """Return how many rows each group has."""
        counts = np.empty(len(groups), np.int64)
        _count(groups, self._groups, counts)
        return counts

    def weights(self, rows: Longs) -> Longs:
        """Return the weights of some rows."""
        return np.ones(len(rows), np.int64) if self._is_append_only else self._weights[rows]

    def take(self, rows: Longs) -> list[pa.Array]:
        """Return the columns of some rows."""
        return self._store.take(rows)

    def take_columns(self, rows: Longs, indexes: Sequence[int]) -> list[pa.Array]:
        """Return some columns of some rows."""
        return self._store.take_columns(rows, indexes)

    def counter(self, rows: Longs, which: int) -> Longs:
        """Return a counter of some rows. All start at zero."""
        return self._counters[which][rows]

    def add_counter(self, rows: Longs, which: int, amounts: Longs) -> None:
        """Add to a counter of some rows; a row may come more than once."""
        _add(rows, amounts, self._counters[which])

    def nbytes(self) -> int:
        """Return the memory in use."""
        longs = (self._weights, self._hashes, self._slots, *self._counters)
        links = self._groups.nbytes + self._links.nbytes
        return self._store.nbytes() + links + sum(array.nbytes for array in longs)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        rows, groups = self._living()
        table = self._store.table(rows).append_column("group", pa.array(groups))
        if not self._is_append_only:
            table = table.append_column("weight", pa.array(self._weights[rows]))
        for which in range(len(self._counters)):
            table = table.append_column(f"counter{which}", pa.array(self.counter(rows, which)))
        return {"rows": table}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for empty chains."""
        assert not len(self._store)
        table = parts["rows"]
        self._store.append_table(table)
        groups = table.column("group").to_numpy()
        self._counters = [table.column(f"counter{i}").to_numpy().copy() for i in range(len(self._counters))]
        if not self._is_append_only:
            self._weights = table.column("weight").to_numpy().copy()
            self._hashes = np.empty((len(groups), 2), np.int64)
            for start in range(0, len(groups), _ROWS_AT_ONCE):
                rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(groups)))
                self._hashes[rows] = _hash(groups[rows], self._store.take(rows)).T
        self._link_all(groups)

    def _append(self, groups: Longs, columns: Sequence[pa.Array]) -> None:
        """Add rows at the end of the store and of their groups."""
        first = self._store.append(columns, len(groups))
        self._links = grown(self._links, len(self._store))
        self._counters = [grown(counter, len(self._store)) for counter in self._counters]
        _link(groups, first, self._groups, self._links)

    def _add_weights(self, groups: Longs, columns: Sequence[pa.Array], weights: Longs) -> tuple[Longs, Longs]:
        """Add weights to rows; return each one's number, and where each new number comes first."""
        known = count = len(self._store)
        words = _hash(groups, columns)
        numbers, first = np.empty(len(groups), np.int64), np.empty(len(groups), np.int64)
        row = 0
        while True:
            row, count = _add_weights(
                words, weights, row, self._slots, self._hashes, self._links, self._weights,
                known, count, numbers, first,
            )  # fmt: skip
            if row == len(groups):
                return numbers, first[: count - known]
            self._grow(count)

    def _grow(self, count: int) -> None:
        """Make room for one more block of rows."""
        if count + _BLOCK > GROUPS_MAX:
            raise MemoryError(f"more than {GROUPS_MAX:,} rows in the state of one operator")
        self._weights = grown(self._weights, count + _BLOCK)
        self._hashes = grown(self._hashes, count + _BLOCK)
        self._links = grown(self._links, count + _BLOCK)
        if 2 * (count + _BLOCK) > len(self._slots):
            self._index_all(count)

    def _index_all(self, count: int) -> None:
        size = 4096
        while size < 4 * (count + _BLOCK):
            size *= 2
        self._slots = np.zeros(size, np.int64)
        _index(self._slots, self._hashes, self._links, count)

    def _link_all(self, groups: Longs) -> None:
        """Build what follows from the rows and the group of each."""
        self._groups = np.zeros((int(groups.max()) + 1 if len(groups) else 0, 3), np.uint32)
        self._links = np.zeros((len(groups), 2), np.uint32)
        self._gone = 0
        _link(groups, 0, self._groups, self._links)
        if not self._is_append_only:
            self._index_all(len(groups))

    def _close_gaps(self) -> None:
        """Number the rows anew if most of the numbers are of rows that are gone."""
        if self._gone <= max(_GAPS_MIN, len(self)):
            return
        rows, groups = self._living()
        self._store.keep(rows)
        self._counters = [counter[rows] for counter in self._counters]
        self._weights, self._hashes = self._weights[rows], self._hashes[rows]
        self._link_all(groups)

    def _living(self) -> tuple[Longs, Longs]:
        """Return the rows that are not gone, in order, and the group of each."""
        owners = np.full(len(self._store), -1, np.int64)
        _walk(self._groups, self._links, owners)
        rows = np.flatnonzero(owners >= 0)
        return rows, owners[rows]


def _hash(groups: Longs, columns: Sequence[pa.Array]) -> Longs:
    """Return what rows of these groups are found by."""
    return hash_rows([pa.array(groups), *columns], len(groups))


@compiled
def _add_weights(
    words: Longs, weights: Longs, row: int, slots: Longs, hashes: Longs, links: Links, sums: Longs,
    known: int, count: int, numbers: Longs, first: Longs,
) -> tuple[int, int]:  # fmt: skip
    """Add weights from `row` on; return early, at a block's start, when the arrays have to grow.

    A slot holds the upper half of a hash's first word and the row's number plus one; zero is free. Each block
    first touches all the memory that it will need, so that the cache misses overlap.
    """
    mask = np.uint64(len(slots) - 1)
    touched = np.int64(0)
    rows = words.shape[1]
    while row < rows:
        if count + _BLOCK > len(sums) or 2 * (count + _BLOCK) > len(slots):
            return row, count
        end = min(rows, row + _BLOCK)
        for i in range(row, end):
            numbers[i] = (slots[np.uint64(words[0, i]) & mask] & _LOW) - 1
        for i in range(row, end):
            if numbers[i] >= 0:
                touched += hashes[numbers[i], 0] + sums[numbers[i]] + links[numbers[i], 0]
        for i in range(row, end):
            tag = (words[0, i] >> 32) & _LOW
            at = np.uint64(words[0, i]) & mask
            while True:
                slot = slots[at]
                number = (slot & _LOW) - 1
                is_free = slot == 0
                is_same = not is_free and ((slot >> 32) & _LOW) == tag
                if is_same and hashes[number, 0] == words[0, i] and hashes[number, 1] == words[1, i]:
                    is_free = number < known and links[number, 0] == _GONE
                    if not is_free:
                        sums[number] += weights[i]
                        numbers[i] = number
                        break
                if is_free:
                    slots[at] = (tag << 32) | (count + 1)
                    hashes[count, 0], hashes[count, 1] = words[0, i], words[1, i]
                    sums[count] = weights[i]
                    numbers[i] = count
                    first[count - known] = i
                    count += 1
                    break
                at = (at + np.uint64(1)) & mask
        row = end
    if touched == 1 and count < 0:  # never: keeps the touching loop from being optimised away
        return -1, count
    return row, count


@compiled
def _index(slots: Longs, hashes: Longs, links: Links, count: int) -> None:
    """Put all rows but those that are gone into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for row in range(count):
        if links[row, 0] != _GONE:
            at = np.uint64(hashes[row, 0]) & mask
            while slots[at] != 0:
                at = (at + np.uint64(1)) & mask
            slots[at] = (((hashes[row, 0] >> 32) & _LOW) << 32) | (row + 1)


@compiled
def _link(owners: Longs, row: int, groups: Links, links: Links) -> None:
    """Put the rows from `row` on at the ends of their groups."""
    for i in range(len(owners)):
        owner = owners[i]
        last = groups[owner, 1]
        links[row, 0], links[row, 1] = last, 0
        if last:
            links[last - 1, 1] = row + 1
        else:
            groups[owner, 0] = row + 1
        groups[owner, 1] = row + 1
        groups[owner, 2] += 1
        row += 1


@compiled
def _unlink(numbers: Longs, owners: Longs, weights: Longs, groups: Links, links: Links) -> int:
    """Take rows without weight out of their groups; return how many that are."""
    gone = 0
    for i in range(len(numbers)):
        row, owner = numbers[i], owners[i]
        if weights[row] != 0 or links[row, 0] == _GONE:
            continue
        before, after = links[row, 0], links[row, 1]
        if before:
            links[before - 1, 1] = after
        else:
            groups[owner, 0] = after
        if after:
            links[after - 1, 0] = before
        else:
            groups[owner, 1] = before
        groups[owner, 2] -= 1
        links[row, 0] = _GONE
        gone += 1
    return gone


@compiled
def _count(owners: Longs, groups: Links, counts: Longs) -> int:
    """Set how many rows each group has; return the sum."""
    total = 0
    for i in range(len(owners)):
        is_known = 0 <= owners[i] < len(groups)
        counts[i] = groups[owners[i], 2] if is_known else 0
        total += counts[i]
    return total


@compiled
def _match(owners: Longs, groups: Links, links: Links, lefts: Longs, rows: Longs) -> None:
    """Set each pair of a position and a row of the group there."""
    at = 0
    for i in range(len(owners)):
        if not 0 <= owners[i] < len(groups):
            continue
        link = groups[owners[i], 0]
        while link:
            lefts[at], rows[at] = i, link - 1
            link = links[link - 1, 1]
            at += 1


@compiled
def _walk(groups: Links, links: Links, owners: Longs) -> None:
    """Set the group of each row that has one."""
    for owner in range(len(groups)):
        link = groups[owner, 0]
        while link:
            owners[link - 1] = owner
            link = links[link - 1, 1]


@compiled
def _add(rows: Longs, amounts: Longs, sums: Longs) -> None:
    for i in range(len(rows)):
        sums[rows[i]] += amounts[i]
