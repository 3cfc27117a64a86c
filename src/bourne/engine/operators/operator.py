"""What every operator is: a step from the deltas of its inputs to one of its output.

Law: `step` is a pure function of state and deltas, and the output stream stands for the operator applied to the
relations that the input streams stand for, whatever the cut into steps.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from bourne.errors import BourneError


class ComputeError(BourneError):
    """What an operator cannot compute, though DuckDB's part went well."""


class EngineFault(BourneError):
    """A mistake of Bourne's own that would show in the result: better to stand still."""


class Operator(Protocol):
    """A step from deltas to a delta, with state that can be carried away and brought back.

    The first step of a new operator may have empty inputs; it returns what there is before any input. Later on, steps
    without input may be left out.
    """

    def step(self, *deltas: Any) -> Any:
        """Return the output's change for those of the inputs."""
        ...

    @property
    def is_stateful(self) -> bool:
        """Whether it remembers anything."""
        ...

    @property
    def rows(self) -> int:
        """How many rows or keys it remembers."""
        ...

    def nbytes(self) -> int:
        """Return about how much memory the state takes."""
        ...

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables; empty if there is none."""
        ...

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        ...


@runtime_checkable
class Timed(Protocol):
    """An operator whose output changes when the clock goes on, though nothing comes in."""

    def due_us(self) -> int | None:
        """Return the clock at which something changes; None if nothing is to."""
        ...


class Stateless:
    """An operator that remembers nothing."""

    is_stateful = False

    @property
    def rows(self) -> int:
        """None."""
        return 0

    def nbytes(self) -> int:
        """Return nothing."""
        return 0

    def save(self) -> dict[str, pa.Table]:
        """Return nothing."""
        return {}

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Do nothing."""


def part_of(parts: dict[str, pa.Table], prefix: str) -> dict[str, pa.Table]:
    """Return the tables whose names begin with `prefix.`, under the rest of their names."""
    return {name[len(prefix) + 1 :]: table for name, table in parts.items() if name.startswith(f"{prefix}.")}


def with_prefix(parts: dict[str, pa.Table], prefix: str) -> dict[str, pa.Table]:
    """Return the tables under names that begin with `prefix.`."""
    return {f"{prefix}.{name}": table for name, table in parts.items()}
