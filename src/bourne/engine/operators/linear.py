"""Filter, projection and unnesting, fused into one DuckDB query, or into none where only columns are picked.

Law: linear, so each row is treated alone, and what comes of it has its weight. Over keyed rows a filter can make a
key's row vanish: then the key is taken back, which needs one remembered bit per key.
Cost of a step: O(rows in the delta).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, KeyedDelta, table_of
from bourne.engine.kernels.arrays import grown
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.operator import Stateless

# Columns that a stage hands through: a row's weight, or the key that it is the row of.
WEIGHT = "__weight"
KEY = "__key"


class Pick(Stateless):
    """Picks columns by position: a projection without expressions."""

    def __init__(self, columns: Sequence[int]) -> None:
        self._columns = list(columns)

    def step(self, delta: Delta) -> Delta:
        """Return the picked columns; nothing is copied."""
        return Delta(self.pick(delta.table), delta.weights)

    def pick(self, table: pa.Table) -> pa.Table:
        """Return the picked columns of a table."""
        return table_of([table.column(i) for i in self._columns])


class Linear(Stateless):
    """Runs a stage that hands the column `__weight` through, where there is one (`is_growing` says that there is none)."""

    def __init__(self, stage: Stage, *, is_growing: bool) -> None:
        self._stage = stage
        self._is_growing = is_growing

    def step(self, delta: Delta) -> Delta:
        """Return what becomes of the rows."""
        if self._is_growing:
            return Delta(self._stage.run(delta.table))
        result = self._stage.run(delta.table.append_column(WEIGHT, pa.array(delta.signed())))
        return Delta(result.drop_columns([WEIGHT]), result.column(WEIGHT).to_numpy())


class KeyedPick(Stateless):
    """`Pick` over keyed rows."""

    def __init__(self, columns: Sequence[int]) -> None:
        self._pick = Pick(columns)

    def step(self, delta: KeyedDelta) -> KeyedDelta:
        """Return the picked columns; nothing is copied."""
        return KeyedDelta(self._pick.pick(delta.table), delta.keys, delta.weights)


class KeyedLinear:
    """Runs a stage, which hands the column `__key` through, over keyed rows."""

    is_stateful = True

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._present: NDArray[np.bool_] = np.zeros(1024, np.bool_)
        self._count = 0

    def step(self, delta: KeyedDelta) -> KeyedDelta:
        """Return the rows that pass, and take back the keys whose row is gone or no longer does."""
        given, given_keys = delta.table, delta.keys
        if delta.weights is not None:
            is_there = delta.weights > 0
            given, given_keys = given.filter(pa.array(is_there)), given_keys[is_there]
        result = self._stage.run(given.append_column(KEY, pa.array(given_keys)))
        keys = result.column(KEY).to_numpy()
        table = result.drop_columns([KEY])
        if len(delta.keys):
            self._present = grown(self._present, int(delta.keys.max()) + 1)
        was_present = delta.keys[self._present[delta.keys]]
        self._present[delta.keys] = False
        self._present[keys] = True
        gone = was_present[~self._present[was_present]]
        self._count += len(keys) - len(was_present)
        return with_gone(table, keys, gone)

    @property
    def rows(self) -> int:
        """How many keys have a row."""
        return self._count

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._present.nbytes

    def save(self) -> dict[str, pa.Table]:
        """Return the state: which keys have a row."""
        return {"present": pa.table({"present": self._present})}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._present = np.array(parts["present"].column(0).to_numpy(zero_copy_only=False), np.bool_)
        self._count = int(self._present.sum())


def with_gone(table: pa.Table, keys: NDArray[np.int64], gone: NDArray[np.int64]) -> KeyedDelta:
    """Return the new rows of some keys, and that the rows of others are gone."""
    if not len(gone):
        return KeyedDelta(table, keys)
    nothing = pa.Table.from_arrays([pa.nulls(len(gone), f.type) for f in table.schema], table.schema.names)
    weights = np.concatenate([np.ones(len(keys), np.int8), np.full(len(gone), -1, np.int8)])
    return KeyedDelta(pa.concat_tables([table, nothing]), np.concatenate([keys, gone]), weights)
