"""Aggregates over hopping windows: each record is added once, to its pane; a window is its panes put together.

Law: windows that begin every slide overlap, and share the panes between their beginnings. An aggregate that can be merged
is, over a window, that of its panes merged. A record that comes after some of its windows have closed counts in the others
only: so a group of records has a pane, and the first window that it counts in.
Cost of a step: O(rows in the delta), and O(groups of the panes of the windows that close): not the records times the
windows that each is in (Li et al., No Pane, No Gain, 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, table_of
from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.moment import NEVER, Moment
from bourne.engine.operators.accumulators import Accumulator
from bourne.engine.operators.aggregate import Function, is_true
from bourne.engine.operators.closing import instants
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import part_of, with_prefix

Numbers = NDArray[np.int64]

# Takes the newest windows of panes (a table of one column, c0) and gives each of the windows that overlap one: (pane, start).
WindowsOf = Callable[[pa.Table], pa.Table]


class Panes:
    """Takes rows of keys, what the functions read, the pane, and the first window that counts; gives complete windows.

    A pane is called by the start of its newest window. The output has the keys, the window's start, and the functions.
    """

    is_stateful = True

    def __init__(
        self,
        types: Sequence[pa.DataType],
        key_count: int,
        functions: Sequence[Function],
        make: Callable[[], list[Accumulator]],
        windows_of: WindowsOf,
        *,
        bound: int,
    ) -> None:
        """`types` are the input's. `make` gives new accumulators, for merging; `bound` is that of the windows' starts."""
        self._key_count = key_count
        self._functions, self._make, self._windows_of, self._bound = tuple(functions), make, windows_of, bound
        self._time_type = types[-2]
        self._keys = KeyTable(types[:key_count])
        self._groups = KeyTable([pa.int64(), pa.int64(), pa.int64()])  # key, pane, first window
        self._of_group: Numbers = np.zeros((1024, 3), np.int64)
        self._panes: dict[int, list[Numbers]] = {}  # the groups of each pane
        self._windows: dict[int, list[int]] = {}  # the panes of each window that has not come out
        self._closed_before = NEVER

    def step(self, delta: Delta, moment: Moment | None = None) -> Delta:
        """Add rows; return the windows that are complete now."""
        assert moment is not None
        if delta.rows:
            self._take_in(delta)
        before = moment.bounds[self._bound].closed
        due = sorted(start for start in self._windows if start < before)
        result = self._complete(due)
        self._closed_before = max(self._closed_before, before)
        self._forget()
        return result

    def _take_in(self, delta: Delta) -> None:
        columns = [as_array(column) for column in delta.table.columns]
        panes, firsts = instants(columns[-2]), instants(columns[-1])
        keys = self._keys.assign(columns[: self._key_count], delta.rows)
        known = len(self._groups)
        groups = self._groups.assign([pa.array(keys), pa.array(panes), pa.array(firsts)], delta.rows)
        count = len(self._groups)
        self._of_group = grown(self._of_group, count)
        if count > known:
            fresh = np.arange(known, count)
            self._of_group[fresh] = np.column_stack([each.to_numpy() for each in self._groups.columns(fresh)])
            self._note(fresh)
        for each in self._functions:
            each.accumulator.grow(count)
            numbers, values = groups, None if each.argument is None else columns[each.argument]
            if each.filter is not None:
                passes = is_true(columns[each.filter])
                numbers = numbers[passes]
                values = None if values is None else values.filter(pa.array(passes))
            each.accumulator.update(numbers, values, None)

    def _note(self, groups: Numbers) -> None:
        """Put groups to their panes, and new panes to their windows."""
        panes = self._of_group[groups, 1]
        order = np.argsort(panes, kind="stable")
        distinct, starts = np.unique(panes[order], return_index=True)
        new = [pane for pane in distinct.tolist() if pane not in self._panes]
        for pane, found in zip(distinct.tolist(), np.split(groups[order], starts[1:]), strict=True):
            self._panes.setdefault(pane, []).append(found)
        if new:
            times = pa.array(new, pa.int64()).cast(pa.timestamp("us")).cast(self._time_type)
            made = self._windows_of(table_of([times]))
            pairs = zip(*(instants(as_array(column)).tolist() for column in made.columns), strict=True)
            for pane, start in pairs:
                if start >= self._closed_before:
                    self._windows.setdefault(start, []).append(pane)

    def _complete(self, starts: Sequence[int]) -> Delta:
        """Return the rows of some windows, which come out."""
        groups, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, start in enumerate(starts):
            found = np.concatenate([part for pane in self._windows.pop(start) for part in self._panes[pane]])
            found = found[self._of_group[found, 2] <= start]
            groups.append(found)
            owners.append(np.full(len(found), number, np.int64))
        parts, windows = np.concatenate(groups), np.concatenate(owners)
        rows, into = np.unique(
            windows * max(1, len(self._keys)) + self._of_group[parts, 0], return_inverse=True
        )
        whole = self._make()
        for merged, each in zip(whole, self._functions, strict=True):
            merged.grow(len(rows))
            merged.merge(into, each.accumulator, parts)
        numbers, keys = np.divmod(rows, max(1, len(self._keys)))
        at = pa.array(np.array(starts, np.int64)[numbers] if len(starts) else np.zeros(0, np.int64))
        every = np.arange(len(rows))
        return Delta(
            table_of([
                *self._keys.columns(keys), at.cast(pa.timestamp("us")).cast(self._time_type),
                *(merged.result(every) for merged in whole),
            ])
        )  # fmt: skip

    def _forget(self) -> None:
        """Forget the panes that are in no window any more, once their groups are more than the others."""
        over = [pane for pane in self._panes if pane < self._closed_before]
        for pane in over:
            del self._panes[pane]
        count = len(self._groups)
        kept = np.flatnonzero(self._of_group[:count, 1] >= self._closed_before)
        if not pays(count - len(kept), len(kept)):
            return
        for each in self._functions:
            each.accumulator.keep(kept)
        used, keys = np.unique(self._of_group[kept, 0], return_inverse=True)
        self._keys.keep(used)
        spans = self._of_group[kept]
        spans[:, 0] = keys
        self._index(spans)

    def _index(self, of_group: Numbers) -> None:
        """Build what follows from the groups: their numbers, panes and windows."""
        self._groups = KeyTable([pa.int64(), pa.int64(), pa.int64()])
        self._groups.assign([pa.array(column) for column in of_group.T], len(of_group))
        self._of_group = grown(of_group, 1024)
        self._panes, self._windows = {}, {}
        open_ = np.flatnonzero(of_group[:, 1] >= self._closed_before)
        if len(open_):
            self._note(open_)

    # --- state ---

    @property
    def rows(self) -> int:
        """How many groups of open panes there are."""
        return int((self._of_group[: len(self._groups), 1] >= self._closed_before).sum())

    def nbytes(self) -> int:
        """Return the memory in use."""
        own = self._keys.nbytes() + self._groups.nbytes() + self._of_group.nbytes
        return own + sum(each.accumulator.nbytes() for each in self._functions)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        count = len(self._groups)
        parts = with_prefix(self._keys.save(), "keys")
        parts["groups"] = pa.table({f"c{i}": self._of_group[:count, i] for i in range(3)})
        parts["closed"] = pa.table({"before": [self._closed_before]})
        for i, each in enumerate(self._functions):
            parts |= with_prefix(each.accumulator.save(count), f"function{i}")
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        self._closed_before = parts["closed"].column(0)[0].as_py()
        for i, each in enumerate(self._functions):
            each.accumulator.load(part_of(parts, f"function{i}"))
        self._index(
            np.column_stack([column.to_numpy() for column in parts["groups"].columns]).astype(np.int64)
        )
