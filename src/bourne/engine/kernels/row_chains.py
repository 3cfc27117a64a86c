"""The rows of groups: a multimap from dense group numbers to rows with weights.

Law: after any updates a group's rows are those whose weights add up to something else than zero, in the order in
which they came to be; which order that is depends on the updates alone, also after `save` and `load`. A weight may
be negative: a retraction may come before what it retracts.

Each group's rows are a doubly linked list, so that a row is added and removed in constant time. Rows of one group
with the same content are found by their hash. A row that is gone leaves a gap, whose number is not used again until the
gaps outnumber the rows and all are numbered anew.
Cost of a call: O(rows in the call), and O(rows returned).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import ALL_VALID, grown
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.hash_index import HashIndex, new_rows
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.row_store import RowStore, slices
from bourne.engine.kernels.sums import count_weights
from bourne.limits import GROUPS_MAX

Longs = NDArray[np.int64]
# Per row: the row before and the row after it in its group. Per group: first row, last row, how many. Rows are
# kept plus one; zero is none.
Links = NDArray[np.uint32]

# So many groups are followed side by side.
_BLOCK = 64
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
        # Per row: its weight, if there are weights, and its links.
        self._records: Longs = np.zeros((0, 1 if is_append_only else 2), np.int64)
        self._index = HashIndex()

    def __len__(self) -> int:
        return len(self._store) - self._gone

    def update(self, groups: Longs, columns: Sequence[pa.Array], weights: Longs | None) -> Longs:
        """Add rows; return the number of each, good until the next update.

        With weights, rows of one group with equal content are one row. A row whose weight is zero in the end is
        gone, but can be read until the next update; should it come again later, it is a new row.
        """
        self.close_gaps()
        if len(groups):
            self._groups = grown(self._groups, int(groups.max()) + 1)
        if self._is_append_only:
            assert weights is None
            numbers = np.arange(len(self._store), len(self._store) + len(groups))
            self._append(groups, columns)
            return numbers
        hashes = _hash(groups, columns)
        known = len(self._index)
        numbers = self._index.assign(hashes)
        fresh = len(self._index) - known
        if fresh == len(groups):
            self._append(groups, columns)
        elif fresh:
            first = new_rows(numbers, known, fresh)
            self._append(groups[first], [values.take(pa.array(first)) for values in columns])
        if weights is None:
            weights = np.ones(len(groups), np.int64)
        count_weights(numbers, ALL_VALID, weights, self._records[:, 0])
        gone = _unlink(numbers, groups, self._records, self._groups, self._links)
        self._index.forget(hashes[:, gone])
        self._gone += len(gone)
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
        return np.ones(len(rows), np.int64) if self._is_append_only else self._records[rows, 0]

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
        count_weights(rows, ALL_VALID, amounts, self._counters[which])

    def nbytes(self) -> int:
        """Return the memory in use."""
        own = self._groups.nbytes + self._records.nbytes + sum(array.nbytes for array in self._counters)
        return self._store.nbytes() + self._index.nbytes() + own

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
            self._records[:, 0] = table.column("weight").to_numpy()
            for rows in slices(np.arange(len(groups))):
                self._index.assign(_hash(groups[rows], self._store.take(rows)))
            assert len(self._index) == len(groups)
        self._link_all(groups)

    def _append(self, groups: Longs, columns: Sequence[pa.Array]) -> None:
        """Add rows at the end of the store and of their groups."""
        first = self._store.append(columns, len(groups))
        if len(self._store) > GROUPS_MAX:
            raise MemoryError(f"more than {GROUPS_MAX:,} rows in the state of one operator")
        self._records = grown(self._records, len(self._store))
        self._counters = [grown(counter, len(self._store)) for counter in self._counters]
        _link(groups, first, self._groups, self._links)

    def _link_all(self, groups: Longs) -> None:
        """Build what follows from the rows and the group of each."""
        self._groups = np.zeros((int(groups.max()) + 1 if len(groups) else 0, 3), np.uint32)
        self._links[:] = 0
        self._gone = 0
        _link(groups, 0, self._groups, self._links)

    def keep_groups(self, groups: Longs) -> None:
        """Forget the rows of all groups but these, which are numbered anew in this order, as the rows are."""
        rows, owners = self._living()
        places = np.full(max(len(self._groups), int(groups.max(initial=-1)) + 1), -1, np.int64)
        places[groups] = np.arange(len(groups))
        renumbered = places[owners]
        is_kept = renumbered >= 0
        self._keep(rows[is_kept], renumbered[is_kept])
        if not self._is_append_only:  # a row's hash is of its group's number, too
            self._index = HashIndex()
            for some in slices(np.arange(len(self._store))):
                self._index.assign(_hash(renumbered[is_kept][some], self._store.take(some)))

    def join_groups(self, group: int, into: int) -> None:
        """Put the rows of a group behind those of another one. Only where rows are not found by content."""
        assert self._is_append_only
        if group >= len(self._groups) or not self._groups[group, 2]:
            return
        self._groups = grown(self._groups, into + 1)
        first, last, count = (int(each) for each in self._groups[group])
        end = int(self._groups[into, 1])
        if end:
            self._links[end - 1, 1], self._links[first - 1, 0] = first, end
        else:
            self._groups[into, 0] = first
        self._groups[into, 1] = last
        self._groups[into, 2] += count
        self._groups[group] = 0

    def keep_rows(self, rows: Longs) -> None:
        """Forget all rows but these, ascending, which are numbered anew."""
        owners = np.full(len(self._store), -1, np.int64)
        _walk(self._groups, self._links, owners)
        self._keep(rows, owners[rows])
        if not self._is_append_only:
            self._index.keep(rows)

    def living(self) -> Longs:
        """Return the numbers of all rows, ascending."""
        return self._living()[0]

    def close_gaps(self) -> None:
        """Number the rows anew if most of the numbers are of rows that are gone."""
        if self._gone <= max(_GAPS_MIN, len(self)):
            return
        rows, groups = self._living()
        self._keep(rows, groups)
        self._index.keep(rows)

    def _keep(self, rows: Longs, groups: Longs) -> None:
        """Keep these rows, of these groups; the index is the caller's."""
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
    return hash_rows([pa.array(groups), *columns], len(groups), is_exact=True)


@compiled
def _link(owners: Longs, first: int, groups: Links, links: Links) -> None:
    """Put the rows from `first` on at the ends of their groups."""
    for i in range(len(owners)):
        row, owner = first + i, owners[i]
        last = groups[owner, 1]
        links[row, 0], links[row, 1] = last, 0
        if last:
            links[last - 1, 1] = row + 1
        else:
            groups[owner, 0] = row + 1
        groups[owner, 1] = row + 1
        groups[owner, 2] += 1


@compiled
def _unlink(numbers: Longs, owners: Longs, records: Longs, groups: Links, links: Links) -> Longs:
    """Take rows without weight out of their groups; return where each of them comes first."""
    gone = np.empty(len(numbers), np.int64)
    count = 0
    for i in range(len(numbers)):
        row, owner = numbers[i], owners[i]
        before, after = links[row, 0], links[row, 1]
        if records[row, 0] != 0 or before == _GONE:
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
        gone[count] = i
        count += 1
    return gone[:count]


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
