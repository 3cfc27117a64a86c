"""A sink that keeps rows in memory, and fails when told to: for tests of what delivers to sinks, and of sinks themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bourne.connect.sink import Change, Shape
from bourne.connect.source import Delivery, Position
from bourne.errors import Rejected, Unreachable


@dataclass
class MemoryTarget:
    """The other side: what is there outlives the sinks that write to it.

    `is_away` makes every call fail, `fails` one of the next writes (before or after it happened), `refuses` says which
    rows it does not take.
    """

    rows: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    position: Position | None = None
    is_away: bool = False
    fails: list[str] = field(default_factory=list)
    refuses: Callable[[dict[str, Any]], bool] = lambda row: False
    writes: int = 0


class MemorySink:
    """Delivers exactly once into a `MemoryTarget`."""

    delivery: Delivery = "exactly once"

    def __init__(self, target: MemoryTarget, shape: Shape) -> None:
        self._target = target
        self._shape = shape

    def open(self) -> Position | None:
        """Return the position that the target holds."""
        self._look()
        return self._target.position

    def _look(self) -> None:
        if self._target.is_away:
            raise Unreachable("the memory is away")

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write a change and the position after it."""
        self._look()
        if self._target.position != before:
            raise Unreachable(
                "the memory holds another position", expected=before, found=self._target.position
            )
        if not self.accepts(change):
            raise Rejected("the memory does not take that row", found="a row that it refuses")
        failure = self._target.fails.pop(0) if self._target.fails else ""
        if failure == "before":
            raise Unreachable("the memory failed")
        self._put(change)
        self._target.position = position
        self._target.writes += 1
        if failure == "after":
            raise Unreachable("the memory failed")

    def _put(self, change: Change) -> None:
        rows = [_hashable(tuple(row.values())) for row in change.rows.to_pylist()]
        if self._shape.key:
            places = [change.rows.column_names.index(name) for name in self._shape.key]
            replaced = {tuple(row[place] for place in places) for row in rows}
            replaced |= {
                _hashable(tuple(row.values())) for row in (change.gone.to_pylist() if change.gone else [])
            }
            for row in list(self._target.rows):
                if tuple(row[place] for place in places) in replaced:
                    del self._target.rows[row]
        weights = [1] * len(rows) if change.weights is None else change.weights.to_pylist()
        for row, weight in zip(rows, weights, strict=True):
            self._target.rows[row] += weight
            if not self._target.rows[row]:
                del self._target.rows[row]

    def accepts(self, change: Change) -> bool:
        """Say whether the target takes all rows."""
        self._look()
        return not any(map(self._target.refuses, change.rows.to_pylist()))

    def close(self) -> None:
        """There is nothing to let go of."""


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return value
