"""The first rows of each group, where the input only grows.

Law: what is not among the first n now never will be, so each group's first n are all that is remembered. Rows are
compared by words made of their sort keys (`kernels.ranks`); where those leave open who is in, DuckDB decides by the
whole order.
Cost of a step: O(rows in the delta, times log n, and n rows of each touched group), with DuckDB asked for ties only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.ranks import first_rows_of, in_order, order_words
from bourne.engine.kernels.row_store import RowStore
from bourne.engine.kernels.sums import first_touches
from bourne.engine.moment import Moment
from bourne.engine.operators.closing import Closing
from bourne.engine.operators.operator import part_of, with_prefix

Numbers = NDArray[np.int64]

# The column that tells rows apart when DuckDB puts them in order.
ROW = "__row"

# Takes rows (columns c0, c1, …, `__group` and `__row`) and returns `__row` and each row's rank, from 1, in its group.
Rank = Callable[[pa.Table], pa.Table]

# A store is cleared of rows that were pushed out when they are this many more than those that are in.
_GARBAGE_ROWS = 1 << 12


class TopN:
    """Keeps the first `n` rows of each group. With `has_rank` the output has one more column: each row's rank."""

    is_stateful = True

    def __init__(
        self,
        rank: Rank,
        *,
        types: Sequence[pa.DataType],
        key: Sequence[int],
        orders: Sequence[tuple[int, bool, bool]],
        n: int,
        has_rank: bool = False,
        closing: Closing | None = None,
        is_final: bool = False,
    ) -> None:
        """`orders` are (column, is descending, are NULLs first).

        With `closing` it forgets groups that are closed; with `is_final` they come out then, and only then.
        """
        self._closing = closing
        self._is_final = is_final
        self._rank = rank
        self._key = list(key)
        self._keys = KeyTable([types[i] for i in key])
        self._store = RowStore(types)
        self._columns = [column for column, _, _ in orders]
        self._descending = [is_descending for _, is_descending, _ in orders]
        self._nulls_first = [is_nulls_first for _, _, is_nulls_first in orders]
        self._n = n
        self._has_rank = has_rank
        self._rows: Numbers = np.full(
            (1024, n), -1, np.int64
        )  # of each group, in order if that matters; -1: none
        self._marks: Numbers = np.zeros(1024, np.int64)
        self._places: Numbers = np.zeros(1024, np.int64)
        self._stamp = 0
        self._live = 0

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Return the rows that are pushed out and those that come in."""
        if self._closing is None or moment is None:
            return self._change(delta)
        known = len(self._keys)
        change = self._change(delta)
        if len(self._keys) > known:
            self._closing.add(self._keys.columns(np.arange(known, len(self._keys))), known)
        due = self._closing.due(moment)
        result = self._complete(due) if self._is_final else change
        self._forget_rows(due)
        kept = self._closing.to_keep()
        if kept is not None:
            self._keys.keep(kept)
            self._rows = self._rows[kept]
            self._marks, self._places = np.zeros(1024, np.int64), np.zeros(1024, np.int64)
            self._grow()
        return result

    def _complete(self, groups: Numbers) -> Delta:
        """Return the rows of some groups as they are."""
        places, slots = np.nonzero(self._rows[groups] >= 0)
        rows = self._rows[groups][places, slots]
        return Delta(table_of(self._shown(self._store.take(rows), slots + 1)))

    def _forget_rows(self, groups: Numbers) -> None:
        self._live -= int((self._rows[groups] >= 0).sum())
        self._rows[groups] = -1
        self._clear()

    def _change(self, delta: Delta) -> Delta:
        if not self._n:
            return Delta(table_of(self._shown([column.slice(0, 0) for column in delta.table.columns], 0)))
        columns = [as_array(column) for column in delta.table.columns]
        groups = self._keys.assign([columns[i] for i in self._key], delta.rows)
        if self._closing is not None:
            self._closing.check(groups)
        self._grow()
        self._stamp += 1
        touched = first_touches(groups, self._marks, self._stamp)
        self._places[touched] = np.arange(len(touched))
        before = self._rows[touched]
        old_places, old_slots = np.nonzero(before >= 0)
        old = before[old_places, old_slots]
        places = np.concatenate([old_places, self._places[groups]])
        known = len(old)
        wins = self._winners(old, columns, places, len(touched))
        new_rows = wins[wins >= known] - known
        index = pa.array(new_rows)
        come = [column.take(index) for column in columns]
        first = self._store.append(come)
        numbers = np.concatenate([old, np.full(delta.rows, -1)])[wins]
        numbers[wins >= known] = np.arange(first, first + len(new_rows))
        slots = _positions(places[wins])
        after = np.full_like(before, -1)
        after[places[wins], slots] = numbers
        self._rows[touched] = after
        self._live += len(wins) - known
        result = self._difference(before, after)
        self._clear()
        return result

    def _winners(self, old: Numbers, columns: list[pa.Array], places: Numbers, group_count: int) -> Numbers:
        """Return which of the old and new rows are in, by group, and in order if that matters."""
        keys = (pa.concat_arrays([*self._store.take_columns(old, [i]), columns[i]]) for i in self._columns)
        words = order_words(keys, self._descending, self._nulls_first)
        can, counts = first_rows_of(places, group_count, words, self._n)
        candidates = np.flatnonzero(can)
        is_open = counts[places[candidates]] > self._n
        sure = candidates[~is_open]
        if self._has_rank:
            sure, is_tied = in_order(sure, places, group_count, words)
            sure, tied = sure[~is_tied], sure[is_tied]
            is_open = np.isin(candidates, tied, assume_unique=True) | is_open
        if not is_open.any():
            return sure if self._has_rank else sure[np.argsort(places[sure], kind="stable")]
        decided = self._decide(candidates[is_open], old, columns, places)
        wins = np.concatenate([sure, decided])
        # The rows of one group are all sure or all decided, each lot in order: a stable sort by group keeps it.
        return wins[np.argsort(places[wins], kind="stable")]

    def _decide(self, rows: Numbers, old: Numbers, columns: list[pa.Array], places: Numbers) -> Numbers:
        """Return those of some rows, all the candidates of their groups, that are in by the whole order; in order."""
        known = len(old)
        is_old = rows < known
        stored = self._store.take(old[rows[is_old]])
        index = pa.array(rows[~is_old] - known)
        taken = [column.take(index) for column in columns]
        table = table_of([pa.concat_arrays([*pair]) for pair in zip(stored, taken, strict=True)])
        ordered = np.concatenate([rows[is_old], rows[~is_old]])
        table = table.append_column("__group", pa.array(places[ordered]))
        result = self._rank(table.append_column(ROW, pa.array(ordered)))
        found, ranks = (as_array(column).to_numpy() for column in result.columns)
        found, ranks = found[ranks <= self._n], ranks[ranks <= self._n]
        ordered_rows: Numbers = found[np.lexsort((ranks, places[found]))]
        return ordered_rows

    def _difference(self, before: Numbers, after: Numbers) -> Delta:
        """Return what is not the same before and after: rows, or, with ranks, rows at their ranks."""
        if self._has_rank:
            is_changed = before != after
            gone, come = is_changed & (before >= 0), is_changed & (after >= 0)
        else:
            gone = (before >= 0) & ~_contains(after, before)
            come = (after >= 0) & ~_contains(before, after)
        rows = np.concatenate([before[gone], after[come]])
        ranks = np.concatenate([np.nonzero(gone)[1], np.nonzero(come)[1]]) + 1
        weights = np.concatenate([np.full(int(gone.sum()), -1, np.int64), np.ones(int(come.sum()), np.int64)])
        return Delta(table_of(self._shown(self._store.take(rows), ranks)), weights)

    def _shown(self, columns: list[pa.Array], ranks: Numbers | int) -> list[pa.Array]:
        if not self._has_rank:
            return columns
        return [*columns, pa.array(ranks if isinstance(ranks, np.ndarray) else [], pa.int64())]

    def _grow(self) -> None:
        known = len(self._keys)
        self._rows = grown(self._rows, known, -1)
        self._marks, self._places = grown(self._marks, known), grown(self._places, known)

    def _clear(self) -> None:
        """Drop the rows that were pushed out, once they are more than the others."""
        if len(self._store) > 2 * self._live + _GARBAGE_ROWS:
            is_there = self._rows >= 0
            live = self._rows[is_there]
            order = np.argsort(live)
            self._store.keep(live[order])
            live[order] = np.arange(len(live))
            self._rows[is_there] = live

    # --- state ---

    @property
    def rows(self) -> int:
        """How many rows are in."""
        return self._live

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + self._store.nbytes() + self._rows.nbytes

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        rows = self._rows[: len(self._keys)]
        parts = with_prefix(self._keys.save(), "keys") | with_prefix(self._store.save(), "rows")
        if self._closing is not None:
            parts |= with_prefix(self._closing.save(), "closing")
        return parts | {
            "places": pa.table({f"row{i}": rows[:, i] for i in range(self._n)} or {"none": pa.nulls(0)})
        }

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._store.load(part_of(parts, "rows"))
        if self._n and len(self._keys):
            self._rows = np.column_stack([column.to_numpy() for column in parts["places"].columns])
        self._live = int((self._rows >= 0).sum())
        if self._closing is not None:
            self._closing.load(part_of(parts, "closing"))
        self._grow()


def _positions(groups: Numbers) -> Numbers:
    """Return each element's place among the equal ones, which lie together."""
    if not len(groups):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def _contains(rows: Numbers, wanted: Numbers) -> NDArray[np.bool_]:
    """Say of each element whether it is in the same row of the other matrix."""
    if rows.shape[1] <= 16:
        return np.asarray((wanted[:, :, None] == rows[:, None, :]).any(axis=2))
    return np.isin(wanted, rows[rows >= 0])
