"""Rows that are kept: columns of any types that grow at the end, and give back any rows.

Law: `take` gives values and types back exactly. A row's number never changes, but by `keep`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.stored_columns import stored_column

Longs = NDArray[np.int64]

# So many rows are copied at once.
_ROWS_AT_ONCE = 1 << 18


class RowStore:
    """Rows numbered from 0 in the order in which they were appended."""

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._types = tuple(types)
        self._columns = [stored_column(target) for target in types]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, columns: Sequence[pa.Array], rows: int | None = None) -> int:
        """Add rows at the end; return the number of the first. Without columns, `rows` says how many."""
        first = self._count
        for stored, values in zip(self._columns, columns, strict=True):
            stored.append(values)
        self._count += len(columns[0]) if columns else rows or 0
        return first

    def take(self, rows: Longs) -> list[pa.Array]:
        """Return the columns of some rows, in that order."""
        return self.take_columns(rows, range(len(self._columns)))

    def take_columns(self, rows: Longs, indexes: Sequence[int]) -> list[pa.Array]:
        """Return some columns of some rows."""
        return [self._columns[i].take(rows) for i in indexes]

    def keep(self, rows: Longs) -> None:
        """Become a store of only these rows, in this order."""
        kept = RowStore(self._types)
        for some in slices(rows):
            kept.append(self.take(some), len(some))
        self._columns, self._count = kept._columns, kept._count

    def nbytes(self) -> int:
        """Return the memory in use."""
        return sum(column.nbytes() for column in self._columns)

    def named(self, rows: Longs) -> dict[str, Any]:
        """Return some rows as columns of a table, by the names c0, c1, …"""
        parts = [self.take(some) for some in slices(rows)]
        return {
            f"c{i}": pa.chunked_array([part[i] for part in parts], target)
            for i, target in enumerate(self._types)
        }

    def append_table(self, table: pa.Table) -> None:
        """Add the rows of a table of what `named` returned; it may have more columns."""
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            part = table.slice(start, _ROWS_AT_ONCE)
            columns = [as_array(part.column(f"c{i}")) for i in range(len(self._types))]
            self.append(columns, part.num_rows)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        columns = self.named(np.arange(self._count)) or {"none": pa.nulls(self._count)}
        return {"rows": pa.table(columns)}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for an empty store."""
        assert self._count == 0
        self.append_table(parts["rows"])


def slices(rows: Longs) -> Iterator[Longs]:
    """Return row numbers a part at a time, so that what is done with them needs little memory."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]
