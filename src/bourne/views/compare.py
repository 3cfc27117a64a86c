"""Two versions of a view side by side, each up to an offset of its output: which rows only one of them has.

Law: rows are a multiset: equal rows count, their order does not. Equal versions are told by the sums of their rows' hashes
(128 bits), in O(rows) time; only of unequal ones all rows are held at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.row_hash import hash_rows
from bourne.limits import DIFFERENCE_CHARS_MAX, DIFFERENCE_ROWS_MAX
from bourne.row_json import rows_as_json
from bourne.views.catalog import ViewInfo
from bourne.views.changes import net
from bourne.views.fold import Fold
from bourne.views.serving import Difference


def compare(
    old: ViewInfo, old_end: int, new: ViewInfo, new_end: int, is_over: Callable[[], bool] = lambda: False
) -> Difference | None:
    """Return how the rows of a new version differ from those of an old one of the same columns; None once `is_over`.

    Raises:
        CorruptFrame, StorageError: an output cannot be read.
        QueryError: weights make it more rows than memory holds.
    """
    assert old.schema == new.schema
    tables = []
    for view, end in ((old, old_end), (new, new_end)):
        with contextlib.closing(Fold(view.folder, view.output)) as fold:
            fold.refresh((end,))
            tables.append(fold.table())
        if is_over():
            return None
    before, after = tables
    if before.num_rows == after.num_rows and _sums(before) == _sums(after):
        return Difference(new.name, after.num_rows, 0, 0)
    weights = np.repeat(np.array([-1, 1], np.int64), [before.num_rows, after.num_rows])
    change = net(pa.concat_tables([before, after]).combine_chunks(), weights)
    assert change.weights is not None
    is_new = change.weights > 0
    return Difference(
        new.name, after.num_rows, gone=int(-change.weights[~is_new].sum()), come=int(change.weights[is_new].sum()),
        gone_rows=_texts(change.table, ~is_new, new), come_rows=_texts(change.table, is_new, new),
    )  # fmt: skip


def _sums(table: pa.Table) -> list[int]:
    columns = [as_array(column) for column in table.columns]
    sums = hash_rows(columns, table.num_rows, is_exact=True).sum(axis=1)
    return [int(each) for each in sums]


def _texts(table: pa.Table, chosen: Any, view: ViewInfo) -> tuple[str, ...]:
    """Return the first of some rows as texts."""
    rows = table.take(pa.array(np.flatnonzero(chosen)[:DIFFERENCE_ROWS_MAX]))
    return tuple(text[:DIFFERENCE_CHARS_MAX] for text in rows_as_json(rows, view.schema))
