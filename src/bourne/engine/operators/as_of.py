"""ASOF joins: each row of the left side meets the one row of the right side, of equal keys, whose time is nearest.

Law: the output is the sum, over all left rows, of the pair with its nearest right row; of right rows at the same time the
last one by all columns, so the pair depends on the rows alone. A new left row meets the right side as it is; a right row
that comes or goes may be the nearest one of the left rows of its key, so these are matched anew, before and after.

What may be forgotten, where the nearest row is the last one not after the left row's time, and right rows come in time: a
left row before the right side's bound, as no nearer one follows; a right row that is not the last one before both sides'
bounds: left rows that come, and those that are kept, are after it.
Cost of a step: O(left rows, and right rows of their keys), and for right rows O(rows of their keys).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.delta import Delta, concat, table_of
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import NEVER, Moment
from bourne.engine.operators.closing import instants
from bourne.engine.operators.recompute import GROUP
from bourne.engine.operators.top_n import ROW
from bourne.engine.operators.two_sides import TwoSides

Numbers = NDArray[np.int64]

# Takes rows (columns c0, c1, …, `__group` and `__row`) and returns `__row` and each row's place in its group.
Rank = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class TimedSide:
    """One input: its columns' types, which of them are the key, and which is the time; and whether it only grows.

    `end` is the number of the bound of the other side's time: before it, rows may be forgotten.
    """

    types: tuple[pa.DataType, ...]
    key: tuple[int, ...]
    time: int
    is_growing: bool
    end: int | None = None


class AsOf(TwoSides):
    """Joins two inputs; the output has the left columns, then the right ones."""

    def __init__(
        self,
        left: TimedSide,
        right: TimedSide,
        *,
        rank: Rank,
        is_left: bool,
        is_after: bool,
        is_strict: bool,
        is_null_safe: Sequence[bool],
    ) -> None:
        """`is_left` keeps left rows without a partner. The nearest is the last one before, or (`is_after`) the first after.

        `is_strict` says that it is not at the same time.
        """
        self._sides = (left, right)
        self._rank = rank
        self._is_left = is_left
        self._is_after = is_after
        self._is_strict = is_strict
        self._needs_value = [i for i, is_safe in enumerate(is_null_safe) if not is_safe]
        super().__init__(
            KeyTable([left.types[i] for i in left.key]),
            [RowChains(list(side.types), is_append_only=side.is_growing) for side in self._sides],
        )

    def step(self, left: Delta, right: Delta, moment: Moment | None = None) -> Delta:
        """Return how the pairs change."""
        deltas = [*self._meet(left), *self._change(right)]
        if moment is not None:
            self._forget(moment)
        if deltas:
            return concat(deltas)
        types = [*self._sides[0].types, *self._sides[1].types]
        return Delta(table_of([pa.array([], target) for target in types]), np.zeros(0, np.int64))

    # --- a change of the left side ---

    def _meet(self, delta: Delta) -> list[Delta]:
        if not delta.rows:
            return []
        columns = [as_array(column) for column in delta.table.columns]
        groups = self._groups(columns, delta.rows, 0)
        found = self._paired(columns, delta.signed(), self._found(columns, groups, _distinct(groups)))
        kept = groups >= 0
        self._stores[0].update(groups[kept], _filtered(columns, kept), self._weights(delta, 0, kept))
        return found

    def _weights(self, delta: Delta, side: int, kept: NDArray[np.bool_]) -> Numbers | None:
        return None if self._sides[side].is_growing else delta.signed()[kept]

    def _groups(self, columns: Sequence[pa.Array], rows: int, side: int) -> Numbers:
        """Return the number of each row's key; -1 where a NULL keeps it from having a partner."""
        given = self._sides[side]
        groups = self._keys.assign([columns[i] for i in given.key], rows)
        for i in (*(given.key[j] for j in self._needs_value), given.time):
            if columns[i].null_count:
                groups = np.where(pc.is_valid(columns[i]).to_numpy(zero_copy_only=False), groups, -1)
        return groups

    def _paired(self, columns: Sequence[pa.Array], weights: Numbers, nearest: Numbers) -> list[Delta]:
        """Return left rows with the right rows of these numbers; -1 is none."""
        out, has_partner = [], nearest >= 0
        if has_partner.any():
            pairs = [*_filtered(columns, has_partner), *self._stores[1].take(nearest[has_partner])]
            out.append(Delta(table_of(pairs), weights[has_partner]))
        if self._is_left and not has_partner.all():
            alone = _filtered(columns, ~has_partner)
            nulls = [pa.nulls(len(alone[0]), target) for target in self._sides[1].types]
            out.append(Delta(table_of([*alone, *nulls]), weights[~has_partner]))
        return out

    def _found(self, columns: Sequence[pa.Array], groups: Numbers, touched: Numbers) -> Numbers:
        """Return the numbers of left rows' nearest right rows; `touched` are their groups, each once."""
        rows, row_groups = self._stores[1].rows_of(touched[touched >= 0])
        is_there = self._stores[1].weights(rows) > 0
        return self._nearest(columns, groups, rows[is_there], row_groups[is_there])

    def _nearest(
        self, columns: Sequence[pa.Array], groups: Numbers, rows: Numbers, row_groups: Numbers
    ) -> Numbers:
        """Return for each left row the number of the nearest of some right rows, -1 for none."""
        left = instants(columns[self._sides[0].time])
        right = instants(self._stores[1].take_columns(rows, [self._sides[1].time])[0])
        if self._is_after:
            left, right = -left, -right
        order = self._in_order(rows, row_groups, right)
        count = len(order)
        times = np.concatenate([right[order], left])
        owners = np.concatenate([row_groups[order], groups])
        is_left = np.concatenate([np.zeros(count, np.bool_), np.ones(len(left), np.bool_)])
        # At the same time a right row counts, unless it has to be strictly before: then left rows come first.
        first = ~is_left if self._is_strict else is_left
        sequence = np.lexsort((np.arange(len(times)), first, times, owners))
        places = np.where(is_left[sequence], -1, sequence)
        latest = np.maximum.accumulate(np.where(places >= 0, np.arange(len(places)), -1))
        nearest = np.where(latest >= 0, places[latest], -1)
        is_own = (
            (nearest >= 0) & (owners[np.maximum(nearest, 0)] == owners[sequence]) if count else nearest >= 0
        )
        result = np.full(len(left), -1, np.int64)
        lefts = is_left[sequence]
        result[sequence[lefts] - count] = np.where(is_own, rows[order][nearest] if count else -1, -1)[lefts]
        result[groups < 0] = -1
        return result

    def _in_order(self, rows: Numbers, row_groups: Numbers, times: Numbers) -> Numbers:
        """Return the order of right rows by group and time; of those at the same time the one that counts comes last."""
        order = np.lexsort((times, row_groups))
        is_same = (np.diff(row_groups[order]) == 0) & (np.diff(times[order]) == 0)
        if not is_same.any():
            return order
        ties = np.concatenate([[0], np.cumsum(~is_same)])
        tied = np.flatnonzero(np.bincount(ties)[ties] > 1)
        table = table_of(self._stores[1].take(rows[order[tied]]))
        table = table.append_column(GROUP, pa.array(ties[tied])).append_column(ROW, pa.array(tied))
        found, ranks = (as_array(column).to_numpy() for column in self._rank(table).columns)
        places = np.zeros(len(order), np.int64)
        places[found] = ranks
        again: Numbers = order[np.lexsort((places, ties))]
        return again

    # --- a change of the right side ---

    def _change(self, delta: Delta) -> list[Delta]:
        if not delta.rows:
            return []
        columns = [as_array(column) for column in delta.table.columns]
        groups = self._groups(columns, delta.rows, 1)
        kept = groups >= 0
        touched = _distinct(groups[kept])
        rows, lefts = self._stores[0].rows_of(touched)
        given, weights = self._stores[0].take(rows), self._stores[0].weights(rows)
        self._stores[1].close_gaps()  # so that numbers stay what they are meanwhile
        before = self._found(given, lefts, touched)
        self._stores[1].update(groups[kept], _filtered(columns, kept), self._weights(delta, 1, kept))
        after = self._found(given, lefts, touched)
        changed = before != after
        given, weights = _filtered(given, changed), weights[changed]
        return [
            *self._paired(given, -weights, before[changed]),
            *self._paired(given, weights, after[changed]),
        ]

    # --- what cannot matter any more ---

    def _forget(self, moment: Moment) -> None:
        for side, store in enumerate(self._stores):
            end = self._sides[side].end
            if end is None or not self._is_time_to_forget(side):
                continue
            before = moment.bounds[end].closed
            rows = store.living()
            if before != NEVER:
                times = instants(store.take_columns(rows, [self._sides[side].time])[0])
                is_over = times < before
                if side:
                    is_over &= ~self._is_last(rows, times, is_over)
                store.keep_rows(rows[~is_over])
            self._have_forgotten(side)

    def _is_last(self, rows: Numbers, times: Numbers, is_over: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Say which right rows are the last ones of their key that are over: they still are somebody's nearest."""
        known, owners = self._stores[1].rows_of(np.arange(len(self._keys)))
        group_of = np.full(int(max(known.max(initial=-1), rows.max(initial=-1))) + 1, -1, np.int64)
        group_of[known] = owners
        found = np.zeros(len(rows), np.bool_)
        over = np.flatnonzero(is_over)
        latest = np.full(len(self._keys), NEVER, np.int64)
        np.maximum.at(latest, group_of[rows[over]], times[over])
        found[over] = times[over] == latest[group_of[rows[over]]]
        return found


def _distinct(groups: Numbers) -> Numbers:
    found, first = np.unique(groups, return_index=True)
    return found[np.argsort(first)]


def _filtered(columns: Sequence[pa.Array], kept: NDArray[np.bool_]) -> list[pa.Array]:
    if kept.all():
        return list(columns)
    mask = pa.array(kept)
    return [column.filter(mask) for column in columns]
