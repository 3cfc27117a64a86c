"""What joins of two sides have in common: keys that both share, and the rows of each side by key.

Invariant: a key without rows on either side is forgotten once such keys are many; the others keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bourne.engine.kernels.key_table import KeyTable
from bourne.engine.kernels.row_chains import RowChains
from bourne.engine.operators.forgetting import pays
from bourne.engine.operators.operator import part_of, with_prefix

_NAMES = ("left", "right")


class TwoSides:
    """The state of a join. `kept` is how many rows each side had when some of them were last forgotten."""

    is_stateful = True

    def __init__(self, keys: KeyTable, stores: Sequence[RowChains]) -> None:
        self._keys = keys
        self._stores = tuple(stores)
        self._kept = [0, 0]

    def _is_time_to_forget(self, side: int) -> bool:
        """Say whether a side has twice as many rows as when some were last forgotten."""
        return pays(len(self._stores[side]) - self._kept[side], self._kept[side])

    def _have_forgotten(self, side: int) -> None:
        """Note that rows of a side were forgotten; forget the keys that no row is left of, once they are many."""
        self._kept[side] = len(self._stores[side])
        known = np.arange(len(self._keys))
        used = np.flatnonzero(sum(store.count(known) for store in self._stores))
        if pays(len(known) - len(used), len(used)):
            self._keys.keep(used)
            for store in self._stores:
                store.keep_groups(used)

    @property
    def rows(self) -> int:
        """How many rows it remembers, of both sides."""
        return sum(len(store) for store in self._stores)

    def nbytes(self) -> int:
        """Return the memory in use."""
        return self._keys.nbytes() + sum(store.nbytes() for store in self._stores)

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts = with_prefix(self._keys.save(), "keys")
        for name, store in zip(_NAMES, self._stores, strict=True):
            parts |= with_prefix(store.save(), name)
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        self._keys.load(part_of(parts, "keys"))
        for name, store in zip(_NAMES, self._stores, strict=True):
            store.load(part_of(parts, name))
        self._kept = [len(store) for store in self._stores]
