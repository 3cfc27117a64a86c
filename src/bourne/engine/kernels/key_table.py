"""Keys of any columns to dense numbers, and back.

Law: two rows get the same number exactly if SQL calls their keys equal (NOT DISTINCT); numbers are given in the
order of first appearance, whatever the cut of the input, and `columns` gives back what was seen first.

Whole numbers, moments, booleans and decimals are compared as they are, in one or two words each. With any other
column the key's 128-bit hash stands for it, and its values are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    ALL_VALID,
    Valid,
    as_array,
    from_longs,
    from_wides,
    is_long,
    longs,
    validity,
    wides,
)
from bourne.engine.kernels.compiled import compiled
from bourne.engine.kernels.key_index import KeyIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.engine.kernels.row_store import RowStore

Longs = NDArray[np.int64]

# One bit of a word per column says that it is NULL.
_EXACT_COLUMNS_MAX = 63
# A decimal of up to this many digits fits one word.
_NARROW_DIGITS = 18


class KeyTable:
    """Numbers keys. Without columns there is one key, 0, once a row was seen."""

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._types = tuple(types)
        widths = [_width(target) for target in types]
        is_exact = all(widths) and len(widths) <= _EXACT_COLUMNS_MAX
        self._store = None if is_exact else RowStore(types)
        # Exact keys have one word more, whose bit i says that column i is NULL, once a NULL has come.
        self._width = sum(widths) if is_exact else 2
        self._index = KeyIndex(self._width)

    def __len__(self) -> int:
        return len(self._index)

    def assign(self, columns: Sequence[pa.Array], rows: int) -> Longs:
        """Return the number of each row's key, giving new ones to new keys."""
        known = len(self._index)
        numbers = self._index.assign(self._words(columns, rows))
        fresh = len(self._index) - known
        if self._store is not None and fresh:
            first = pa.array(_first_rows(numbers, known, fresh))
            self._store.append(columns if fresh == rows else [values.take(first) for values in columns])
        return numbers

    def find(self, columns: Sequence[pa.Array], rows: int) -> Longs:
        """Return the number of each row's key, -1 for unknown ones."""
        return self._index.find(self._words(columns, rows))

    def columns(self, numbers: Longs) -> list[pa.Array]:
        """Return the key columns of some numbers."""
        if self._store is not None:
            return self._store.take(numbers)
        words = self._index.keys(numbers)
        result, at = [], 0
        for i, target in enumerate(self._types):
            valid = ALL_VALID
            if len(words) > self._width:
                is_valid: Valid = (words[-1] >> i) & 1 == 0
                valid = ALL_VALID if is_valid.all() else is_valid
            if not pa.types.is_decimal128(target):
                result.append(from_longs(words[at], valid, target))
            else:
                high = words[at + 1] if _width(target) == 2 else words[at] >> 63
                result.append(from_wides(np.stack([words[at], high], axis=1), valid, target))
            at += _width(target)
        return result

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._index.nbytes() + (self._store.nbytes() if self._store is not None else 0)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        numbers = np.arange(len(self))
        if not self._types:
            return {"keys": pa.table({"none": pa.nulls(len(self))})}
        if self._store is not None:
            return {"keys": pa.table(self._store.named(numbers))}
        return {"keys": pa.table({f"c{i}": values for i, values in enumerate(self.columns(numbers))})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described. Only for an empty table."""
        table = parts["keys"]
        if self._store is not None:
            self._store.append_table(table)
        columns = [as_array(table.column(i)) for i in range(len(self._types))]
        self._index.load(self._words(columns, table.num_rows))

    def _words(self, columns: Sequence[pa.Array], rows: int) -> Longs:
        """Return what stands for the keys in the index, as (words, rows)."""
        if self._store is not None:
            return hash_rows(columns, rows)
        words: list[Longs] = []
        nulls: Longs | None = None
        for i, (values, target) in enumerate(zip(columns, self._types, strict=True)):
            valid = validity(values)
            if not pa.types.is_decimal128(target):
                mine = [longs(values)]
            else:
                mine = [wides(values)[:, j] for j in range(_width(target))]
            if len(valid):
                mine = [np.where(valid, word, 0) for word in mine]
                bit = (~valid).astype(np.int64) << i
                nulls = bit if nulls is None else nulls | bit
            words += mine
        if nulls is not None and self._index.width == self._width:
            self._index.widen()
        if self._index.width > self._width:
            words.append(np.zeros(rows, np.int64) if nulls is None else nulls)
        if len(words) == 1:
            return words[0].reshape(1, rows)
        return np.stack(words) if words else np.zeros((0, rows), np.int64)


def _width(target: pa.DataType) -> int:
    """Return how many words hold a value exactly, 0 if none do."""
    if pa.types.is_decimal128(target):
        return 1 if target.precision <= _NARROW_DIGITS else 2
    return 1 if is_long(target) else 0


@compiled
def _first_rows(numbers: Longs, known: int, fresh: int) -> Longs:
    """Return the row in which each of the `fresh` numbers from `known` on comes first."""
    result = np.empty(fresh, np.int64)
    found = 0
    for i in range(len(numbers)):
        if found == fresh:
            break
        if numbers[i] == known + found:
            result[found] = i
            found += 1
    return result
