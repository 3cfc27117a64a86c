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
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import grown
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.row_store import RowStore, slices
from bourne.limits import GROUPS_MAX

Longs = NDArray[np.int64]
# Per row: the row before and the row after it in its group. Per group: first row, last row, how many. Rows are
# kept plus one; zero is none.
Links = NDArray[np.uint32]

_BLOCK = 64
_WEIGHT = 2
_LOW = np.int64(0xFFFFFFFF)
# What stands for the row before one that is gone.
_GONE = np.uint32(0xFFFFFFFF)
# So few gaps are not worth the work.
_GAPS_MIN = 1024


class RowChains:
    """Rows of groups. Append-only ones take no weights, and keep equal rows apart."""

    def __init__(self, types: Sequence[pa.DataType], *, is_append_only: bool, counters: int = 0) -> None:
        self._is_append_only = is_append_only
        self._store = RowStore(types)
        self._groups: Links = np.zeros((0, 3), np.uint32)
        self._gone = 0
        self._counters = [np.zeros(0, np.int64) for _ in range(counters)]
        # Per row, together in memory: its links; with weights, before that, the hash of its group and content in
        # two words, and its weight.
        self._records: Longs = np.zeros((0, 1 if is_append_only else 4), np.int64)
        self._slots: Longs = np.zeros(4096, np.int64)  # the index over the hashes

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
            self._append(groups, columns)
            return numbers
        if weights is None:
            weights = np.ones(len(groups), np.int64)
        numbers, first = self._add_weights(groups, columns, weights)
        if len(first) == len(groups):
            self._append(groups, columns)
        elif len(first):
            self._append(groups[first], [values.take(pa.array(first)) for values in columns])
        self._gone += _unlink(numbers, groups, self._records, self._groups, self._links)
        return numbers

    @property
    def _links(self) -> Links:
        return self._records[:, -1:].view(np.uint32)

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
        return np.ones(len(rows), np.int64) if self._is_append_only else self._records[rows, _WEIGHT]

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
        arrays = (self._records, self._slots, *self._counters)
        return self._store.nbytes() + self._groups.nbytes + sum(array.nbytes for array in arrays)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        rows, groups = self._living()
        columns = self._store.named(rows) | {"group": groups}
        if not self._is_append_only:
            columns["weight"] = self.weights(rows)
        for which in range(len(self._counters)):
            columns[f"counter{which}"] = self.counter(rows, which)
        return {"rows": pa.table(columns)}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for empty chains."""
        assert not len(self._store)
        table = parts["rows"]
        self._store.append_table(table)
        groups = table.column("group").to_numpy()
        self._counters = [table.column(f"counter{i}").to_numpy().copy() for i in range(len(self._counters))]
        self._records = np.zeros((len(groups), self._records.shape[1]), np.int64)
        if not self._is_append_only:
            self._records[:, _WEIGHT] = table.column("weight").to_numpy()
            for rows in slices(np.arange(len(groups))):
                self._records[rows, :2] = _hash(groups[rows], self._store.take(rows)).T
        self._link_all(groups)

    def _append(self, groups: Longs, columns: Sequence[pa.Array]) -> None:
        """Add rows at the end of the store and of their groups."""
        first = self._store.append(columns, len(groups))
        self._records = grown(self._records, len(self._store))
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
                words, weights, row, self._slots, self._records, self._links, known, count, numbers, first
            )
            if row == len(groups):
                return numbers, first[: count - known]
            self._grow(count)

    def _grow(self, count: int) -> None:
        """Make room for one more block of rows."""
        if count + _BLOCK > GROUPS_MAX:
            raise MemoryError(f"more than {GROUPS_MAX:,} rows in the state of one operator")
        self._records = grown(self._records, count + _BLOCK)
        if 2 * (count + _BLOCK) > len(self._slots):
            self._index_all(count)

    def _index_all(self, count: int) -> None:
        size = 4096
        while size < 4 * (count + _BLOCK):
            size *= 2
        self._slots = np.zeros(size, np.int64)
        _index(self._slots, self._records, self._links, count)

    def _link_all(self, groups: Longs) -> None:
        """Build what follows from the rows and the group of each."""
        self._groups = np.zeros((int(groups.max()) + 1 if len(groups) else 0, 3), np.uint32)
        self._links[:] = 0
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
        self._records = self._records[rows]
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
    words: Longs, weights: Longs, row: int, slots: Longs, records: Longs, links: Links,
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
        if count + _BLOCK > len(records) or 2 * (count + _BLOCK) > len(slots):
            return row, count
        end = min(rows, row + _BLOCK)
        for i in range(row, end):
            slot = slots[np.uint64(words[0, i]) & mask]
            is_same = ((slot ^ words[0, i]) >> 32) == 0 and slot != 0
            numbers[i] = (slot & _LOW) - 1 if is_same else 0
        for i in range(row, end):
            touched += records[numbers[i], 0]
        for i in range(row, end):
            at = np.uint64(words[0, i]) & mask
            while True:
                slot = slots[at]
                number = (slot & _LOW) - 1
                is_free = slot == 0
                is_same = not is_free and ((slot ^ words[0, i]) >> 32) == 0
                if is_same and records[number, 0] == words[0, i] and records[number, 1] == words[1, i]:
                    is_free = number < known and links[number, 0] == _GONE
                    if not is_free:
                        records[number, _WEIGHT] += weights[i]
                        numbers[i] = number
                        break
                if is_free:
                    slots[at] = (words[0, i] & ~_LOW) | (count + 1)
                    records[count, 0], records[count, 1] = words[0, i], words[1, i]
                    records[count, _WEIGHT] = weights[i]
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
def _index(slots: Longs, records: Longs, links: Links, count: int) -> np.int64:
    """Put all rows but those that are gone into empty slots."""
    mask = np.uint64(len(slots) - 1)
    touched = np.int64(0)
    for start in range(0, count, _BLOCK):
        end = min(count, start + _BLOCK)
        for row in range(start, end):
            touched += slots[np.uint64(records[row, 0]) & mask]
        for row in range(start, end):
            if links[row, 0] == _GONE:
                continue
            at = np.uint64(records[row, 0]) & mask
            while slots[at] != 0:
                at = (at + np.uint64(1)) & mask
            slots[at] = (records[row, 0] & ~_LOW) | (row + 1)
    return touched  # nobody wants it: keeps the touching loop from being optimised away


@compiled
def _place(link: Any) -> Any:
    """Return the row that a link leads to; row 0 if to none."""
    return max(np.int64(link) - 1, 0)


@compiled
def _link(owners: Longs, first: int, groups: Links, links: Links) -> np.int64:
    """Put the rows from `first` on at the ends of their groups."""
    touched = np.int64(0)
    for start in range(0, len(owners), _BLOCK):
        end = min(len(owners), start + _BLOCK)
        for i in range(start, end):
            touched += links[_place(groups[owners[i], 1]), 1]
        for i in range(start, end):
            row, owner = first + i, owners[i]
            last = groups[owner, 1]
            links[row, 0], links[row, 1] = last, 0
            if last:
                links[last - 1, 1] = row + 1
            else:
                groups[owner, 0] = row + 1
            groups[owner, 1] = row + 1
            groups[owner, 2] += 1
    return touched  # nobody wants it: keeps the touching loop from being optimised away


@compiled
def _unlink(numbers: Longs, owners: Longs, records: Longs, groups: Links, links: Links) -> int:
    """Take rows without weight out of their groups; return how many that are."""
    gone = 0
    touched = np.int64(0)
    found = np.empty(_BLOCK, np.int64)
    for start in range(0, len(numbers), _BLOCK):
        count = 0
        for i in range(start, min(len(numbers), start + _BLOCK)):
            found[count] = i
            count += records[numbers[i], _WEIGHT] == 0
        for i in found[:count]:
            row = numbers[i]
            touched += groups[owners[i], 0] + links[_place(links[row, 1]), 0]
            if links[row, 0] != _GONE:
                touched += links[_place(links[row, 0]), 0]
        for i in found[:count]:
            row, owner = numbers[i], owners[i]
            before, after = links[row, 0], links[row, 1]
            if before == _GONE:
                continue
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
    if touched == 1 and gone < 0:  # never: keeps the touching loop from being optimised away
        return -1
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
    """Set each pair of a position and a row of the group there.

    Several groups are followed side by side, a row of each at a time, so that their cache misses overlap.
    """
    ends, places = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    i = total = 0
    while i < len(owners):
        following = 0
        while i < len(owners) and following < _BLOCK:
            if 0 <= owners[i] < len(groups) and groups[owners[i], 2]:
                ends[following], places[following] = groups[owners[i], 0], total
                following += 1
                for _ in range(groups[owners[i], 2]):
                    lefts[total] = i
                    total += 1
            i += 1
        while following:
            left = 0
            for j in range(following):
                row, place = ends[j] - 1, places[j]
                rows[place] = row
                after = links[row, 1]
                ends[left], places[left] = after, place + 1
                left += after != 0
            following = left


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
