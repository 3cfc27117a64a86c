"""A local copy of a view, moved from one whole state to the next.

Law: the copy is the view at `position`. What cannot be a state of it leaves the copy as it was.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa

from bourne.client.asking import HasPosition
from bourne.client.following import Change
from bourne.client.texts import Row, Texts
from bourne.errors import Behind, BourneError, Closed, InputError, ServerRefused
from bourne.position import is_within, parse_position
from bourne.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

ReplicaState: TypeAlias = Literal["offline", "catching up", "live", "closed"]


class Copy:
    """The rows of a view: by key, or counted."""

    def __init__(self) -> None:
        self.position = ""
        self.id: str | None = None
        self._texts: Texts | None = None
        self._by_key: dict[Any, Row] = {}
        self._counts: dict[Row, int] = {}
        self._result: Result | None = None

    def take(self, change: Change) -> None:
        """Go to the next state. Takes O(changes).

        Raises:
            ServerRefused: a row would be there fewer than no times.
        """
        by_key = {} if change.is_snapshot else self._by_key
        counts = {} if change.is_snapshot else self._counts
        if change.is_keyed:
            for key, row, _ in change.raw:
                if row is None:
                    by_key.pop(key, None)
                else:
                    by_key[key] = row
        else:
            self._count(counts, change)
        self._by_key, self._counts, self._texts = by_key, counts, change.texts
        self.id, self.position = change.id, change.position
        if change.raw or change.is_snapshot:
            self._result = None

    @staticmethod
    def _count(counts: dict[Row, int], change: Change) -> None:
        found: dict[Row, int] = {}
        for _, row, weight in change.raw:
            if row is not None:
                found[row] = found.get(row, counts.get(row, 0)) + weight
        if any(count < 0 for count in found.values()):
            raise ServerRefused("a row would be there fewer than no times", status=200, where=change.id)
        for row, count in found.items():
            if count:
                counts[row] = count
            else:
                counts.pop(row, None)

    def reaches(self, position: str) -> bool:
        """Say whether there is a state, and it reflects a position."""
        return self.id is not None and is_within(parse_position(position), parse_position(self.position))

    def __len__(self) -> int:
        return len(self._by_key) + sum(self._counts.values())

    def result(self) -> Result:
        """Return the rows. Takes O(rows) after a change, nothing until the next one."""
        if self._result is None:
            if self._texts is None:
                return Result(pa.table({}))
            rows = list(self._by_key.values())
            for row, count in self._counts.items():
                rows += [row] * count
            kinds = [kind for _, kind in self._texts.columns]
            self._result = Result(self._texts.table(rows), kinds)
        return self._result


class Copied:
    """What a replica shows: the rows, what they reflect, and how it is. From any thread."""

    def __init__(self) -> None:
        self._copy = Copy()
        self._changed = threading.Condition()
        self.state: ReplicaState = "offline"
        self.error: BourneError | None = None

    @property
    def position(self) -> str:
        """The position that it reflects."""
        return self._copy.position

    @property
    def id(self) -> str | None:
        """The id of its state."""
        return self._copy.id

    def __len__(self) -> int:
        with self._changed:
            return len(self._copy)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows, {self.state}, position={self.position!r})"

    def result(self) -> Result:
        """Return the rows, in no order. Takes O(rows) after a change, nothing until the next one."""
        with self._changed:
            return self._copy.result()

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self.result().to_arrow()

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a Polars dataframe (needs `polars`)."""
        return self.result().to_polars()

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas dataframe (needs `pandas`)."""
        return self.result().to_pandas()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows as Python tuples."""
        return self.result().fetchall()

    def _has(self, position: str) -> bool:
        """Say whether it reflects a position. Raises: why it never will."""
        if self._copy.reaches(position):
            return True
        if self.error is not None:
            raise self.error
        if self.state == "closed":
            raise Closed("the replica is closed")
        return False

    def _not_entered(self) -> InputError:
        return InputError(
            "nothing keeps this replica current", expected="a with block (async with, of an AsyncClient)",
            found="a replica that was not entered", hint="with client.replica(…) as replica: …",
        )  # fmt: skip

    def _late(self, position: str) -> Behind:
        return Behind(
            "the replica does not reflect it in time",
            expected=position or "any state",
            found=self.position or "none",
        )


def text_of(position: str | HasPosition) -> str:
    """Return a position as text."""
    return position if isinstance(position, str) else position.position or ""
