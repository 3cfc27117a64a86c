"""Filter and projection, fused into one DuckDB query, or into none where only columns are picked.

Law: linear, so each row is treated alone. Over keyed rows a filter can make a key's row vanish: then the key is
taken back, which needs one remembered bit per key. Cost of a step: O(rows in the delta).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.delta import Delta, column_names
from bourne.engine.kernels.arrays import grown
from bourne.engine.kernels.stage import Stage

_KEY = "__key"


class Pick:
    """Picks columns by position: a projection without expressions."""

    def __init__(self, columns: Sequence[int]) -> None:
        self._columns = list(columns)

    def step(self, delta: Delta) -> Delta:
        """Return the picked columns; nothing is copied."""
        picked = [delta.table.column(i) for i in self._columns]
        names = column_names(len(picked))
        return Delta(pa.Table.from_arrays(picked, names), delta.keys, delta.weights)

    def save(self) -> dict[str, pa.Table]:
        """There is no state."""
        return {}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """There is no state."""


class Linear:
    """Runs a stage. `is_keyed`: its input has keys, and the stage hands the column `__key` through."""

    def __init__(self, stage: Stage, *, is_keyed: bool) -> None:
        self._stage = stage
        self._is_keyed = is_keyed
        self._present: NDArray[np.bool_] = np.zeros(1024 if is_keyed else 0, np.bool_)

    def step(self, delta: Delta) -> Delta:
        """Return the rows that pass, and take back the keys whose row no longer does."""
        if not self._is_keyed:
            return Delta(self._stage.run(delta.table))
        assert delta.keys is not None
        result = self._stage.run(delta.table.append_column(_KEY, pa.array(delta.keys)))
        keys = result.column(_KEY).to_numpy()
        table = result.drop_columns([_KEY])
        if len(delta.keys):
            self._present = grown(self._present, int(delta.keys.max()) + 1)
        was_present = delta.keys[self._present[delta.keys]]
        self._present[delta.keys] = False
        self._present[keys] = True
        gone = was_present[~self._present[was_present]]
        if not len(gone):
            return Delta(table, keys)
        nothing = pa.Table.from_arrays(
            [pa.nulls(len(gone), f.type) for f in table.schema], table.schema.names
        )
        weights = np.concatenate([np.ones(len(keys), np.int8), np.full(len(gone), -1, np.int8)])
        return Delta(pa.concat_tables([table, nothing]), np.concatenate([keys, gone]), weights)

    def save(self) -> dict[str, pa.Table]:
        """Return the state: which keys have a row."""
        return {"present": pa.table({"present": self._present})} if self._is_keyed else {}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        if self._is_keyed:
            self._present = np.array(parts["present"].column(0).to_numpy(zero_copy_only=False), np.bool_)
