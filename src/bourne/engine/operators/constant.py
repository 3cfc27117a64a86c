"""Rows that are there from the beginning: VALUES, and the one row of a SELECT without FROM."""

from __future__ import annotations

import pyarrow as pa

from bourne.engine.delta import Delta
from bourne.engine.operators.operator import Stateless


class Constant(Stateless):
    """Gives its rows in its first step, and nothing ever after."""

    def __init__(self, rows: pa.Table) -> None:
        self._left = rows

    def step(self) -> Delta:
        """Return the rows, once."""
        rows, self._left = self._left, self._left.slice(0, 0)
        return Delta(rows)

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Take the rows as given."""
        self._left = self._left.slice(0, 0)
