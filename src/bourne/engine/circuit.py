"""A view's circuit: operators in the order of their dependence, from deltas of the inputs to the delta of the output.

Invariant: `step` is a pure function of state and deltas. `bourne.engine.compile` makes circuits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from bourne.engine.delta import Delta, KeyedDelta, empty_delta
from bourne.engine.operators.operator import Operator, part_of, with_prefix
from bourne.log.catalog import Changes
from bourne.log.relation import SignedRows


@dataclass(frozen=True, slots=True)
class Node:
    """An operator in its place.

    `inputs` are the numbers of the nodes whose output it reads. `relation` is the log or view whose changes it takes
    instead, `columns` those of its columns that it reads. `label` says in a word or two what it does, `detail` with its
    expressions, `rule` by which rule and why, `cost` what a step costs, `growth` of what it remembers how much.
    `keeps_rows` says that this is every row of its inputs.
    """

    operator: Operator
    inputs: tuple[int, ...]
    types: tuple[str, ...]
    arrow_types: tuple[pa.DataType, ...]
    label: str
    relation: str | None = None
    columns: tuple[str, ...] = ()
    rule: str = ""
    cost: str = "O(delta)"
    growth: str | None = None
    detail: str = ""
    keeps_rows: bool = False


@dataclass(frozen=True, slots=True)
class OperatorState:
    """How much one operator remembers. `node` is its number in the circuit."""

    node: int
    label: str
    rows: int
    bytes: int


# What operators gave in one step, by their numbers.
Results = dict[int, Delta | KeyedDelta]


@dataclass(frozen=True, slots=True)
class Circuit:
    """The operators of one view; the last one gives the output. `changes` says what its output log holds."""

    nodes: tuple[Node, ...]
    changes: Changes

    @property
    def relations(self) -> tuple[str, ...]:
        """The logs and views that it reads."""
        return tuple(dict.fromkeys(node.relation for node in self.nodes if node.relation is not None))

    @property
    def has_state(self) -> bool:
        """Say whether a restart has anything to restore."""
        return any(node.operator.is_stateful for node in self.nodes)

    def initial(self) -> Delta | KeyedDelta:
        """Return the output before any input; call it once, on a new circuit that nothing was loaded into."""
        return self._run({}, is_first=True)

    def step(self, changes: Mapping[str, SignedRows], known: Results | None = None) -> Delta | KeyedDelta:
        """Return the output's change for those of the inputs; `known` is what `before_state` gave for these.

        Raises:
            duckdb.Error, ComputeError: a record cannot be computed. The circuit is then in no defined state.
        """
        return self._run(changes, is_first=False, known=known)

    def before_state(self, changes: Mapping[str, SignedRows]) -> Results:
        """Return what the operators give that no operator with state comes before: a function of the changes alone.

        Raises:
            duckdb.Error, ComputeError: a record cannot be computed. The circuit is as it was.
        """
        results: Results = {}
        for number, node in enumerate(self.nodes):
            if not node.operator.is_stateful and all(i in results for i in node.inputs):
                results[number] = self._run_node(node, changes, results, is_first=False)
        return results

    def _run(
        self, changes: Mapping[str, SignedRows], *, is_first: bool, known: Results | None = None
    ) -> Delta | KeyedDelta:
        results = dict(known or {})
        for number, node in enumerate(self.nodes):
            if number not in results:
                results[number] = self._run_node(node, changes, results, is_first=is_first)
        return results[len(self.nodes) - 1]

    @staticmethod
    def _run_node(
        node: Node, changes: Mapping[str, SignedRows], results: Results, *, is_first: bool
    ) -> Delta | KeyedDelta:
        inputs = [results[i] for i in node.inputs]
        change = changes.get(node.relation) if node.relation is not None else None
        result: Delta | KeyedDelta = empty_delta(node.arrow_types)
        if change is not None and change.table.num_rows:
            delta = Delta(change.table.select(list(node.columns)), change.weights)
            result = node.operator.step(delta, change.keys)
        elif node.relation is None and (is_first or any(delta.rows for delta in inputs)):
            result = node.operator.step(*inputs)
        return result

    def states(self) -> list[OperatorState]:
        """Return how much each operator remembers, of those that remember anything."""
        return [
            OperatorState(number, node.label, node.operator.rows, node.operator.nbytes())
            for number, node in enumerate(self.nodes)
            if node.operator.is_stateful
        ]

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        parts: dict[str, pa.Table] = {}
        for number, node in enumerate(self.nodes):
            parts |= with_prefix(node.operator.save(), str(number))
        return parts

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        for number, node in enumerate(self.nodes):
            node.operator.load(part_of(parts, str(number)))
