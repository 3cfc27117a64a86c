"""Joins of every kind: pairs of rows with equal keys, and what becomes of rows without a partner.

Law: the pairs are bilinear, so (L + l)(R + r) - LR = lR + (L + l)r: each new row meets the other side as it was, or as
it has become, once. A row without partners is told by the number of its partners, which is kept with it: going to or
from zero moves it between the matched and the unmatched.
Cost of a step: O(rows in the deltas and pairs that they make), whatever the size of the sides. Sides that only grow
are kept without looking their rows up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.engine.delta import Delta, Weights, concat, table_of
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import Moment
from bourne.engine.operators.closing import instants
from bourne.engine.operators.operator import ComputeError
from bourne.engine.operators.two_sides import TwoSides
from bourne.sql.plan import JoinKind

Numbers = NDArray[np.int64]

# Takes pairs of rows, the columns of the left and then of the right side, and says which of them count.
Residual = Callable[[pa.Table], NDArray[np.bool_]]


class SecondMatch(ComputeError):
    """A subquery that has to give one value gave two."""


@dataclass(frozen=True, slots=True)
class Side:
    """One input: its columns' types, which of them are the key, and whether it only grows.

    A row goes when one of the times `ends`, (column, number of its bound), is before its bound: then it has met all its
    partners; or, where it is looking up, which partners it has counts no more.
    """

    types: tuple[pa.DataType, ...]
    key: tuple[int, ...]
    is_growing: bool
    ends: tuple[tuple[int, int], ...] = ()
    is_looking_up: bool = False


class Join(TwoSides):
    """Joins two inputs. The output has the left columns, then (but for semi and anti) the right ones.

    `is_null_safe` says, for each key column, whether NULL equals NULL. Right joins are left joins of swapped sides.
    """

    def __init__(
        self,
        kind: JoinKind,
        left: Side,
        right: Side,
        *,
        is_null_safe: Sequence[bool],
        residual: Residual | None = None,
    ) -> None:
        assert kind not in ("right", "mark")
        self._kind = kind
        self._sides = (left, right)
        self._needs_value = [i for i, is_safe in enumerate(is_null_safe) if not is_safe]
        self._residual = residual
        self._counts = (kind != "inner", kind == "full")
        super().__init__(
            KeyTable([left.types[i] for i in left.key]),
            [
                RowChains(list(side.types), is_append_only=side.is_growing, counters=int(is_counting))
                for side, is_counting in zip(self._sides, self._counts, strict=True)
            ],
        )
        self._is_growing = left.is_growing and right.is_growing and kind in ("inner", "semi")
        self._moment: Moment | None = None

    def step(self, left: Delta, right: Delta, moment: Moment | None = None) -> Delta:
        """Return the change of the pairs and of the rows without partners.

        Raises:
            SecondMatch: a row of a `single` join has two partners.
        """
        self._moment = moment
        before = self._meet(left, 0)
        after = self._meet(right, 1)
        if self._kind == "single":
            for rows in (before[1], after[1]):
                self._check_single(rows)
        self._forget()
        deltas = [*before[0], *after[0]]
        result = concat(deltas) if deltas else self._nothing()
        return Delta(result.table) if self._is_growing else result

    # --- one side's change against the other side ---

    def _meet(self, delta: Delta, side: int) -> tuple[list[Delta], Numbers]:
        """Take in the change of one side; return the output's change, and the left rows whose partners changed."""
        if not delta.rows:
            return [], np.zeros(0, np.int64)
        columns = [as_array(column) for column in delta.table.columns]
        weights = delta.signed()
        groups = self._groups(columns, delta.rows, side)
        other = self._stores[1 - side]
        rows, partners = other.match(groups)
        if self._sides[1 - side].is_looking_up and len(rows):
            is_open = ~self._have_ended(partners, 1 - side)
            rows, partners = rows[is_open], partners[is_open]
        if self._residual is not None and len(rows):
            kept = self._residual(table_of(self._pairs(columns, rows, partners, side)))
            rows, partners = rows[kept], partners[kept]
        pair_weights = weights[rows] * other.weights(partners)
        out: list[Delta] = []
        if self._kind not in ("semi", "anti") and len(rows):
            out.append(Delta(table_of(self._pairs(columns, rows, partners, side)), pair_weights))
        stored = self._store(groups, columns, weights, side)
        if self._counts[side]:
            counts = np.zeros(delta.rows, np.int64)
            np.add.at(counts, rows, other.weights(partners))
            self._set_counts(stored, groups, counts, side)
            out += self._newcomers(columns, weights, counts, side)
        if self._counts[1 - side] and len(rows):
            out += self._changed_partners(partners, weights[rows], 1 - side)
        touched = partners if side else stored[groups >= 0]
        return out, touched

    def _groups(self, columns: Sequence[pa.Array], rows: int, side: int) -> Numbers:
        """Return the number of each row's key; -1 where a NULL keeps it from having partners."""
        key = [columns[i] for i in self._sides[side].key]
        groups = self._keys.assign(key, rows)
        for i in self._needs_value:
            if key[i].null_count:
                groups = np.where(pc.is_valid(key[i]).to_numpy(zero_copy_only=False), groups, -1)
        return groups

    def _store(self, groups: Numbers, columns: Sequence[pa.Array], weights: Weights, side: int) -> Numbers:
        """Remember the rows that can have partners; return their row numbers, -1 for the others."""
        store, is_kept = self._stores[side], groups >= 0
        signed = None if self._sides[side].is_growing else weights
        if is_kept.all():
            return store.update(groups, columns, signed)
        stored = np.full(len(groups), -1, np.int64)
        kept = pa.array(is_kept)
        stored[is_kept] = store.update(
            groups[is_kept], [column.filter(kept) for column in columns],
            None if signed is None else signed[is_kept],
        )  # fmt: skip
        return stored

    def _pairs(
        self, columns: Sequence[pa.Array], rows: Numbers, partners: Numbers, side: int
    ) -> list[pa.Array]:
        """Return the columns of pairs, the left side's first."""
        index = pa.array(rows)
        mine = [column.take(index) for column in columns]
        theirs = self._stores[1 - side].take(partners)
        return [*theirs, *mine] if side else [*mine, *theirs]

    # --- rows that have met all their partners ---

    def _have_ended(self, rows: Numbers, side: int) -> NDArray[np.bool_]:
        """Say which rows of a side can have no more partners, by what was closed before this step."""
        assert self._moment is not None
        ends = self._sides[side].ends
        found = np.zeros(len(rows), np.bool_)
        columns = self._stores[side].take_columns(rows, [column for column, _ in ends])
        for values, (_, bound) in zip(columns, ends, strict=True):
            found |= instants(values) < self._moment.bounds[bound].before
        return found

    def _forget(self) -> None:
        """Forget such rows, and the keys without any, when there are twice as many as the last time."""
        if self._moment is None:
            return
        for side, store in enumerate(self._stores):
            if self._sides[side].ends and self._is_time_to_forget(side):
                rows = store.living()
                store.keep_rows(rows[~self._have_ended(rows, side)])
                self._have_forgotten(side)

    # --- rows and the number of their partners ---

    def _set_counts(self, stored: Numbers, groups: Numbers, counts: Numbers, side: int) -> None:
        """Give the rows just stored their number of partners; one that was there before has it already."""
        is_stored = groups >= 0
        rows, first = np.unique(stored[is_stored], return_index=True)
        store = self._stores[side]
        store.add_counter(rows, 0, counts[is_stored][first] - store.counter(rows, 0))

    def _newcomers(
        self, columns: Sequence[pa.Array], weights: Weights, counts: Numbers, side: int
    ) -> list[Delta]:
        """Return the rows of a delta that stand alone (or, for semi, that do not)."""
        is_shown = counts != 0 if self._kind == "semi" else counts == 0
        if not is_shown.any():
            return []
        shown = pa.array(is_shown)
        return [self._alone([column.filter(shown) for column in columns], weights[is_shown], side)]

    def _changed_partners(self, partners: Numbers, amounts: Weights, side: int) -> list[Delta]:
        """Count new and lost partners of stored rows; return the rows that so go from alone to matched, or back."""
        store = self._stores[side]
        rows = np.unique(partners)
        old = store.counter(rows, 0)
        store.add_counter(partners, 0, amounts)
        new = store.counter(rows, 0)
        turn = (new == 0).astype(np.int64) - (old == 0)
        if self._kind == "semi":
            turn = -turn
        changed = turn != 0
        if not changed.any():
            return []
        return [self._alone(store.take(rows[changed]), turn[changed] * store.weights(rows[changed]), side)]

    def _alone(self, columns: Sequence[pa.Array], weights: Weights, side: int) -> Delta:
        """Return rows of one side as rows of the output."""
        if self._kind in ("semi", "anti"):
            return Delta(table_of(columns), weights)
        nulls = [pa.nulls(len(weights), target) for target in self._sides[1 - side].types]
        return Delta(table_of([*nulls, *columns] if side else [*columns, *nulls]), weights)

    def _check_single(self, rows: Numbers) -> None:
        rows = np.unique(rows)
        store = self._stores[0]
        if ((store.counter(rows, 0) > 1) & (store.weights(rows) != 0)).any():
            raise SecondMatch(
                "a subquery that stands for one value has more than one row",
                expected="at most one row for each row outside",
                hint="use an aggregate (max, any_value …) or ORDER BY … LIMIT 1 in the subquery",
            )

    def _nothing(self) -> Delta:
        left, right = self._sides
        types = left.types if self._kind in ("semi", "anti") else (*left.types, *right.types)
        return Delta(table_of([pa.array([], target) for target in types]), np.zeros(0, np.int64))
