"""A view's circuit: operators in the order of their dependence, from deltas of the inputs to the delta of the output.

Invariant: `step` is a pure function of state and deltas. `bourne.engine.compile` makes circuits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from bourne.engine.delta import Delta, KeyedDelta, empty_delta
from bourne.engine.moment import Bound, Moment
from bourne.engine.operators.late import WATERMARK, Late
from bourne.engine.operators.operator import Operator, Timed, part_of, with_prefix
from bourne.log.catalog import Changes
from bourne.log.relation import SignedRows
from bourne.sql.emit import CHANGES, Emit
from bourne.sql.unstable import ARRIVAL


@dataclass(frozen=True, slots=True)
class Node:
    """An operator in its place.

    `inputs` are the numbers of the nodes whose output it reads. `relation` is the log or view whose changes it takes
    instead, `columns` those of its columns that it reads. `label` says in a word or two what it does, `detail` with its
    expressions, `rule` by which rule and why, `cost` what a step costs, `growth` of what it remembers how much.
    `keeps_rows` says that this is every row of its inputs. One that `is_timed` is told the epoch's moment, and runs in
    every epoch.
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
    is_timed: bool = False


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
    """The operators of one view; the last one gives the output. `changes` says what its output log holds.

    `bounds` are the times that its operators ask for, as SQL over `engine.bounds.TIME`; `output_bounds` says the same of
    columns of the output, over the view's watermark, or its clock (`is_by_clock`). `emit` says when rows come out, and how
    late they may be.
    """

    nodes: tuple[Node, ...]
    changes: Changes
    emit: Emit = CHANGES
    bounds: tuple[str, ...] = ()
    output_bounds: tuple[tuple[int, str], ...] = ()
    database: duckdb.DuckDBPyConnection | None = None  # that the bounds are computed in
    is_by_clock: bool = False

    @property
    def relations(self) -> tuple[str, ...]:
        """The logs and views that it reads."""
        return tuple(dict.fromkeys(node.relation for node in self.nodes if node.relation is not None))

    @property
    def has_state(self) -> bool:
        """Say whether a restart has anything to restore."""
        return any(node.operator.is_stateful for node in self.nodes)

    @property
    def late_relations(self) -> frozenset[str]:
        """The logs whose records may come too late."""
        return frozenset(node.relation for node in self.nodes if node.relation and WATERMARK in node.columns)

    @property
    def arrival_relations(self) -> frozenset[str]:
        """The logs of whose records it is asked when they arrive."""
        return frozenset(node.relation for node in self.nodes if node.relation and ARRIVAL in node.columns)

    @property
    def is_timed(self) -> bool:
        """Say whether anything happens because time goes on."""
        return any(node.is_timed for node in self.nodes)

    def due_us(self) -> int | None:
        """Return the clock at which something changes though nothing comes in; None if that does not happen."""
        found = [node.operator.due_us() for node in self.nodes if isinstance(node.operator, Timed)]
        return min((at for at in found if at is not None), default=None)

    def late(self) -> dict[str, dict[int, int]]:
        """Return, of each log, which records of the last step were too late, and for how many rows; 0: for a part of one."""
        found: dict[str, dict[int, int]] = {}
        for node in self.nodes:
            if isinstance(node.operator, Late) and len(node.operator.rejected):
                records, counts = np.unique(node.operator.rejected, return_counts=True)
                known = found.setdefault(node.operator.relation, {})
                for record, count in zip(records.tolist(), counts.tolist(), strict=True):
                    known[record] = max(count, known.get(record, 0))
            if isinstance(node.operator, Late):
                for record in np.unique(node.operator.partly).tolist():
                    found.setdefault(node.operator.relation, {}).setdefault(record, 0)
        return found

    def initial(self) -> Delta | KeyedDelta:
        """Return the output before any input; call it once, on a new circuit that nothing was loaded into."""
        return self._run({}, self._no_moment(), is_first=True)

    def _no_moment(self) -> Moment:
        return Moment(bounds=(Bound(),) * len(self.bounds))

    def step(
        self, changes: Mapping[str, SignedRows], moment: Moment | None = None, known: Results | None = None
    ) -> Delta | KeyedDelta:
        """Return the output's change for those of the inputs at a moment; `known` is what `before_state` gave for these.

        Raises:
            duckdb.Error, ComputeError: a record cannot be computed. The circuit is then in no defined state.
        """
        return self._run(changes, moment or self._no_moment(), is_first=False, known=known)

    def before_state(self, changes: Mapping[str, SignedRows], moment: Moment | None = None) -> Results:
        """Return what the operators give that no operator with state comes before: a function of the changes alone.

        Raises:
            duckdb.Error, ComputeError: a record cannot be computed. The circuit is as it was.
        """
        results: Results = {}
        for number, node in enumerate(self.nodes):
            if not node.operator.is_stateful and all(i in results for i in node.inputs):
                results[number] = self._run_node(
                    node, changes, results, moment or self._no_moment(), is_first=False
                )
        return results

    def _run(
        self,
        changes: Mapping[str, SignedRows],
        moment: Moment,
        *,
        is_first: bool,
        known: Results | None = None,
    ) -> Delta | KeyedDelta:
        results = dict(known or {})
        for number, node in enumerate(self.nodes):
            if number not in results:
                results[number] = self._run_node(node, changes, results, moment, is_first=is_first)
        return results[len(self.nodes) - 1]

    @staticmethod
    def _run_node(
        node: Node, changes: Mapping[str, SignedRows], results: Results, moment: Moment, *, is_first: bool
    ) -> Delta | KeyedDelta:
        inputs = [results[i] for i in node.inputs]
        change = changes.get(node.relation) if node.relation is not None else None
        result: Delta | KeyedDelta = empty_delta(node.arrow_types)
        if change is not None and change.table.num_rows:
            delta = Delta(change.table.select(list(node.columns)), change.weights)
            result = node.operator.step(delta, change.keys)
        elif node.is_timed:
            result = node.operator.step(*inputs, moment)
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
