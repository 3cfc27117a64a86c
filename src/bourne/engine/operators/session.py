"""Session windows: rows of a key that follow each other in less than a gap, and how they grow together.

Law: the sessions of a key are the stretches that its times, each with the gap after it, cover without a break. So a new row
begins a session, makes one longer, or joins several into one; no other is touched. A session whose end has passed its
bound is closed: no row comes that could touch it.
Cost of a step: O(rows in the delta, and rows of the sessions that change); with `is_final`, of those that close.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, concat, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.calendar import Calendar
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.moment import Moment
from bourne.engine.operators.closing import instants
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import part_of, with_prefix

Numbers = NDArray[np.int64]


class Session:
    """Gives each row the start and the end of its session, in two more columns. The input only grows."""

    is_stateful = True

    def __init__(
        self,
        types: Sequence[pa.DataType],
        *,
        key: Sequence[int],
        time: int,
        gap_us: int,
        bound: int | None = None,
        is_final: bool = False,
    ) -> None:
        """`bound` is that of the sessions' ends. With `is_final` rows come out when their session is closed."""
        self._types = tuple(types)
        self._key, self._time, self._gap_us = list(key), time, gap_us
        self._bound = bound
        self._is_final = is_final
        self._keys = KeyTable([types[i] for i in key])
        self._of_key = RowChains(
            [pa.int64()], is_append_only=False
        )  # the numbers of the sessions of each key
        self._rows = RowChains(list(types), is_append_only=True)  # the rows of each session
        self._spans: Numbers = np.zeros(
            (1024, 3), np.int64
        )  # of each session: start, end, key; end 0: it is gone
        self._is_there: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._count = 0
        self._calendar = Calendar()
        self._closed_rows = 0

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Take in rows; return what becomes of them and of the sessions that they touch."""
        parts = self._take_in(delta) if delta.rows else []
        if self._bound is not None and moment is not None:
            closed = self._closed(moment.bounds[self._bound].closed)
            if self._is_final:
                parts.append(self._shown(closed, 1))
            self._closed_rows += int(self._rows.count(closed).sum())
            self._drop(closed)
            self._forget()
        parts = [part for part in parts if part.rows]
        if not parts:
            empty = [pa.array([], target) for target in self._types]
            return Delta(table_of([*empty, *self._windows(np.zeros((0, 3), np.int64))]))
        return concat(parts)

    # --- new rows ---

    def _take_in(self, delta: Delta) -> list[Delta]:
        columns = [as_array(column) for column in delta.table.columns]
        parts: list[Delta] = []
        if columns[self._time].null_count:
            is_there = columns[self._time].is_valid()
            alone = [column.filter(pa.compute.invert(is_there)) for column in columns]
            nulls = [pa.nulls(len(alone[0]), self._types[self._time])] * 2
            parts.append(Delta(table_of([*alone, *nulls])))
            columns = [column.filter(is_there) for column in columns]
        times = instants(columns[self._time])
        keys = self._keys.assign([columns[i] for i in self._key], len(times))
        known, _ = self._sessions_of(np.unique(keys))
        spans = self._spans[known]
        owners = np.concatenate([spans[:, 2], keys])
        starts = np.concatenate([spans[:, 0], times])
        ends = np.concatenate([spans[:, 1], times + self._gap_us])
        order = np.lexsort((starts, owners))
        clusters = np.empty(len(order), np.int64)
        count = _cluster(owners[order], starts[order], ends[order], clusters)
        cluster_of = np.empty(len(order), np.int64)
        cluster_of[order] = clusters
        begin, end = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
        np.minimum.at(begin, cluster_of, starts)
        np.maximum.at(end, cluster_of, ends)
        of_known, of_new = cluster_of[: len(known)], cluster_of[len(known) :]
        is_changed = (begin[of_known] != spans[:, 0]) | (end[of_known] != spans[:, 1])
        if not self._is_final:
            parts.append(self._shown(known[is_changed], -1))
        numbers = self._settle(
            known, of_known, count, owners[order][np.searchsorted(clusters, np.arange(count))]
        )
        self._spans[numbers, 0], self._spans[numbers, 1] = begin, end
        if not self._is_final:
            parts.append(self._shown(np.unique(numbers[of_known[is_changed]]), 1))
        self._rows.update(numbers[of_new], columns, None)
        if not self._is_final:
            parts.append(Delta(table_of([*columns, *self._windows(self._spans[numbers[of_new]])])))
        if self._bound is not None:
            touched = np.unique(of_new)
            self._calendar.add(end[touched], numbers[touched])
        return parts

    def _sessions_of(self, keys: Numbers) -> tuple[Numbers, Numbers]:
        rows, owners = self._of_key.rows_of(keys)
        return self._of_key.take(rows)[0].to_numpy(), owners

    def _settle(self, known: Numbers, of_known: Numbers, count: int, owners: Numbers) -> Numbers:
        """Return the number of each stretch's session: that of the first one in it, or a new one. Join the others to it."""
        numbers = np.full(count, -1, np.int64)
        numbers[of_known[::-1]] = known[::-1]
        is_absorbed = numbers[of_known] != known
        for gone, into in zip(known[is_absorbed], numbers[of_known[is_absorbed]], strict=True):
            self._rows.join_groups(int(gone), int(into))
        self._drop(known[is_absorbed])
        is_new = numbers < 0
        fresh = np.arange(self._count, self._count + int(is_new.sum()))
        numbers[is_new] = fresh
        self._count += len(fresh)
        self._spans, self._is_there = grown(self._spans, self._count), grown(self._is_there, self._count)
        self._is_there[fresh] = True
        self._spans[fresh, 2] = owners[is_new]
        self._of_key.update(owners[is_new], [pa.array(fresh)], np.ones(len(fresh), np.int64))
        return numbers

    def _drop(self, sessions: Numbers) -> None:
        if len(sessions):
            owners = self._spans[sessions, 2]
            self._of_key.update(owners, [pa.array(sessions)], np.full(len(sessions), -1, np.int64))
            self._is_there[sessions] = False

    def _shown(self, sessions: Numbers, sign: int) -> Delta:
        """Return the rows of some sessions, with their windows."""
        rows, owners = self._rows.rows_of(sessions)
        columns = [*self._rows.take(rows), *self._windows(self._spans[owners])]
        return Delta(table_of(columns), None if self._is_final else np.full(len(rows), sign, np.int64))

    def _windows(self, spans: Numbers) -> list[pa.Array]:
        target = self._types[self._time]
        return [pa.array(spans[:, i]).cast(pa.timestamp("us")).cast(target) for i in (0, 1)]

    # --- closed sessions ---

    def _closed(self, before: int) -> Numbers:
        """Return the sessions that are closed now and were not before; what was due may have grown longer meanwhile."""
        due = np.unique(self._calendar.due(before))
        closed: Numbers = due[self._is_there[due] & (self._spans[due, 1] < before)]
        return closed

    def _forget(self) -> None:
        """Forget the rows of closed sessions, once they are more than the others; and keys without sessions."""
        if not pays(self._closed_rows, len(self._rows) - self._closed_rows):
            return
        open_ = np.flatnonzero(self._is_there[: self._count])
        renumbered = np.full(self._count, -1, np.int64)
        renumbered[open_] = np.arange(len(open_))
        self._rows.keep_groups(open_)
        self._calendar.renumber(renumbered)
        used, owners = np.unique(self._spans[open_, 2], return_inverse=True)
        self._keys.keep(used)
        self._spans = grown(self._spans[open_], 1024)
        self._spans[: len(open_), 2] = owners
        self._is_there = np.zeros(max(1024, len(open_)), np.bool_)
        self._is_there[: len(open_)] = True
        self._count, self._closed_rows = len(open_), 0
        self._index()

    def _index(self) -> None:
        """Build what follows from the sessions: which each key has."""
        self._of_key = RowChains([pa.int64()], is_append_only=False)
        there = np.flatnonzero(self._is_there[: self._count])
        self._of_key.update(self._spans[there, 2], [pa.array(there)], np.ones(len(there), np.int64))

    # --- state ---

    @property
    def rows(self) -> int:
        """How many rows it remembers."""
        return len(self._rows) - self._closed_rows

    def nbytes(self) -> int:
        """Return the memory in use."""
        own = self._keys.nbytes() + self._spans.nbytes + self._calendar.nbytes()
        return own + self._rows.nbytes() + self._of_key.nbytes()

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys") | with_prefix(self._rows.save(), "rows")
        spans = self._spans[: self._count]
        parts["spans"] = pa.table(
            {
                "start": spans[:, 0],
                "end": spans[:, 1],
                "key": spans[:, 2],
                "is_there": self._is_there[: self._count],
            }
        )
        return parts | with_prefix(self._calendar.save(), "calendar")

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._rows.load(part_of(parts, "rows"))
        self._calendar.load(part_of(parts, "calendar"))
        *spans, is_there = (column.to_numpy() for column in parts["spans"].columns)
        self._count = len(is_there)
        self._spans = grown(np.column_stack(spans).astype(np.int64), 1024)
        self._is_there = grown(np.array(is_there, np.bool_), 1024)
        self._closed_rows = int(self._rows.count(np.flatnonzero(~np.asarray(is_there, np.bool_))).sum())
        self._index()


@compiled
def _cluster(owners: Numbers, starts: Numbers, ends: Numbers, clusters: Numbers) -> int:
    """Number the stretches without a break, of things in order of owner and start; return how many there are."""
    count = 0
    reach = np.int64(0)
    for i in range(len(owners)):
        if i == 0 or owners[i] != owners[i - 1] or starts[i] >= reach:
            count += 1
            reach = ends[i]
        reach = max(reach, ends[i])
        clusters[i] = count - 1
    return count
