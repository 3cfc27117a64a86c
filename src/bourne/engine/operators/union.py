"""UNION ALL: the rows of all inputs. Linear, without state, O(rows in the deltas)."""

from __future__ import annotations

from bourne.engine.delta import Delta, concat
from bourne.engine.operators.operator import Stateless


class Union(Stateless):
    """Adds up its inputs' changes."""

    def step(self, *deltas: Delta) -> Delta:
        """Return all rows, those of the first input first."""
        return concat(deltas)
