"""Keys of any columns to dense numbers, and back.

Law: two rows get the same number exactly if SQL calls their keys equal (NOT DISTINCT), up to collisions of their
hashes; numbers are given in the order of first appearance, whatever the cut of the input, and `columns` gives back
what was seen first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.hash_index import HashIndex, new_rows
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.row_store import RowStore, slices

Longs = NDArray[np.int64]


class KeyTable:
    """Numbers keys. Without columns there is one key, 0, once a row was seen.

    `is_exact` tells keys apart that SQL calls equal but that are not the same, such as 0.0 and -0.0.
    """

    def __init__(self, types: Sequence[pa.DataType], *, is_exact: bool = False) -> None:
        self._is_exact = is_exact
        self._index = HashIndex()
        self._store = RowStore(types)

    def __len__(self) -> int:
        return len(self._index)

    def assign(self, columns: Sequence[pa.Array], rows: int) -> Longs:
        """Return the number of each row's key, giving new ones to new keys."""
        known = len(self._index)
        numbers = self._index.assign(hash_rows(columns, rows, is_exact=self._is_exact))
        fresh = len(self._index) - known
        if fresh:
            first = pa.array(new_rows(numbers, known, fresh))
            self._store.append(
                columns if fresh == rows else [values.take(first) for values in columns], fresh
            )
        return numbers

    def find(self, columns: Sequence[pa.Array], rows: int) -> Longs:
        """Return the number of each row's key, -1 for unknown ones."""
        return self._index.find(hash_rows(columns, rows, is_exact=self._is_exact))

    def columns(self, numbers: Longs) -> list[pa.Array]:
        """Return the key columns of some numbers."""
        return self._store.take(numbers)

    def keep(self, numbers: Longs) -> None:
        """Forget all keys but these, which are numbered anew in this order."""
        self._index.keep(numbers)
        self._store.keep(numbers)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._index.nbytes() + self._store.nbytes()

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        return {"keys": self._store.save()["rows"]}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for an empty table."""
        self._store.load({"rows": parts["keys"]})
        for numbers in slices(np.arange(len(self._store))):
            self._index.assign(hash_rows(self._store.take(numbers), len(numbers), is_exact=self._is_exact))
        assert len(self._index) == len(self._store)
