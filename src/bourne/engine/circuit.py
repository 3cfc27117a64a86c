"""A plan becomes a circuit: the chain of operators that turns a delta of the input into one of the output.

Invariant: `step` is a pure function of state and delta. What has no rule is refused here, when the view is
declared, never computed wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import duckdb
import pyarrow as pa

from bourne.engine.delta import Delta, column_names
from bourne.engine.kernels.keys import is_groupable
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.accumulators import Accumulator, Count, make_accumulator
from bourne.engine.operators.aggregate import Aggregate as AggregateOperator
from bourne.engine.operators.linear import Linear, Pick
from bourne.errors import NotMaintainable
from bourne.log.catalog import Changes
from bourne.schema import arrow_type, is_storable, quote
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    BoundQuery,
    Expr,
    Filter,
    Get,
    Literal,
    Plan,
    Project,
    Ref,
    walk,
)
from bourne.sql.render import render
from bourne.sql.windows import find_word


class Operator(Protocol):
    """A step from delta to delta, with state that can be carried away and brought back."""

    def step(self, delta: Delta) -> Delta:
        """Return the output's change for the input's."""
        ...

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables; empty if there is none."""
        ...

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        ...


@dataclass(frozen=True, slots=True)
class Circuit:
    """The operators of one view, from input to output. `changes` says what its output log holds."""

    input: Get
    operators: tuple[Operator, ...]
    changes: Changes

    @property
    def has_state(self) -> bool:
        """Say whether a restart has anything to restore."""
        return self.changes == "upsert"

    def initial(self) -> Delta | None:
        """Return the output before any input, if there is any."""
        for index, operator in enumerate(self.operators):
            if isinstance(operator, AggregateOperator):
                delta = operator.initial()
                return None if delta is None else _run(self.operators[index + 1 :], delta)
        return None

    def step(self, table: pa.Table) -> Delta:
        """Return the output's change for new rows of the input (its columns, under their names)."""
        columns = [table.column(name) for name in self.input.columns]
        return _run(self.operators, Delta(pa.Table.from_arrays(columns, column_names(len(columns)))))

    def state_rows(self) -> int:
        """Return how many keys the circuit remembers."""
        return sum(operator.rows for operator in self.operators if isinstance(operator, AggregateOperator))

    def state_bytes(self) -> int:
        """Return about how much memory the circuit's state takes."""
        return sum(
            operator.nbytes() for operator in self.operators if isinstance(operator, AggregateOperator)
        )

    def save(self) -> dict[str, pa.Table]:
        """Return the state as tables."""
        return {
            f"{index}.{name}": table
            for index, operator in enumerate(self.operators)
            for name, table in operator.save().items()
        }

    def load(self, parts: dict[str, pa.Table]) -> None:
        """Become what `save` described."""
        for index, operator in enumerate(self.operators):
            prefix = f"{index}."
            own = {name.removeprefix(prefix): t for name, t in parts.items() if name.startswith(prefix)}
            operator.load(own)


def _run(operators: Sequence[Operator], delta: Delta) -> Delta:
    for operator in operators:
        delta = operator.step(delta)
    return delta


def compile_circuit(
    query: BoundQuery, database: duckdb.DuckDBPyConnection, *, sql: str, view: str | None = None
) -> Circuit:
    """Return a new circuit without state. `database` runs its stages.

    Raises:
        NotMaintainable: an operator or function has no rule yet; names its place in `sql`.
    """
    try:
        return _compile(query, database, sql)
    except NotMaintainable as error:
        raise error.in_view(view) from None


def _compile(query: BoundQuery, database: duckdb.DuckDBPyConnection, sql: str) -> Circuit:
    for column in query.schema.columns:
        _check_crosses_arrow(column.type, sql)
    linear, below = _linear_part(query.plan)
    if isinstance(below, Get):
        return Circuit(below, _linear_operators(linear, below, database, is_keyed=False), "append")
    inner, source = _linear_part(below.child)
    if not isinstance(source, Get):
        raise NotMaintainable("an aggregate over an aggregate", sql=sql, span=find_word(sql, "GROUP"))
    below = _pruned(below, _used(linear))
    arguments = list(dict.fromkeys(a for aggregation in below.aggregations for a in aggregation.arguments))
    feeding = Project(below.child, (*below.groups, *arguments) or _any_column(below.child))
    inner.append(feeding)
    positions = {argument: len(below.groups) + i for i, argument in enumerate(arguments)}
    operator = AggregateOperator(
        _key_types(below, sql),
        _accumulators(below, sql),
        [positions[a.arguments[0]] if a.arguments else None for a in below.aggregations],
    )
    before = _linear_operators(inner, source, database, is_keyed=False)
    after = _linear_operators(linear, below, database, is_keyed=True)
    return Circuit(source, (*before, operator, *after), "upsert")


def _used(part: Sequence[Project | Filter]) -> frozenset[int] | None:
    """Return which columns below these steps their output depends on; None for all."""
    used: frozenset[int] | None = None
    for step in reversed(part):
        if isinstance(step, Project):
            shown = step.expressions if used is None else [step.expressions[i] for i in sorted(used)]
            used = _references(shown)
        elif used is not None:
            used |= _references(step.predicates)
    return used


def _references(expressions: Sequence[Expr]) -> frozenset[int]:
    return frozenset(e.index for expression in expressions for e in walk(expression) if isinstance(e, Ref))


_UNUSED = "unused"


def _pruned(plan: Aggregate, used: frozenset[int] | None) -> Aggregate:
    """Replace the functions that nobody asks for by a count: they cost, and could fail where DuckDB does not."""
    if used is None:
        return plan
    kept = [
        aggregation if len(plan.groups) + i in used else Aggregation(_UNUSED, (), aggregation.type)
        for i, aggregation in enumerate(plan.aggregations)
    ]
    return replace(plan, aggregations=tuple(kept))


def _any_column(plan: Plan) -> tuple[Expr]:
    """Return what to hand on where only the number of rows counts: a table without columns has no rows."""
    return (Ref(0, plan.types[0]) if isinstance(plan, Get) else Literal("true", "BOOLEAN"),)


def _linear_part(plan: Plan) -> tuple[list[Project | Filter], Get | Aggregate]:
    """Return the filters and projections on top of a plan, innermost first, and what they stand on."""
    part: list[Project | Filter] = []
    while isinstance(plan, Project | Filter):
        part.insert(0, plan)
        plan = plan.child
    if not isinstance(plan, Get | Aggregate):
        raise NotMaintainable(f"a {type(plan).__name__}", sql="")
    return part, plan


def _check_crosses_arrow(spelled: str, sql: str) -> None:
    """Refuse types whose values are not the same after a trip through Arrow."""
    if not is_storable(spelled):
        raise NotMaintainable(
            f"a column of type {spelled}",
            sql=sql,
            span=find_word(sql, "SELECT"),
            hint="CAST it to another type",
        )


def _key_types(plan: Aggregate, sql: str) -> list[pa.DataType]:
    for group in plan.groups:
        _check_crosses_arrow(group.type, sql)
    types = [arrow_type(group.type) for group in plan.groups]
    for group, target in zip(plan.groups, types, strict=True):
        if not is_groupable(target):
            raise NotMaintainable(
                f"GROUP BY a {group.type}", sql=sql, span=find_word(sql, "GROUP"), hint="CAST it to VARCHAR"
            )
    return types


def _accumulators(plan: Aggregate, sql: str) -> list[Accumulator]:
    result: list[Accumulator] = []
    for aggregation in plan.aggregations:
        for argument in aggregation.arguments:
            _check_crosses_arrow(argument.type, sql)
        if aggregation.function == _UNUSED:
            result.append(Count())
            continue
        types = [arrow_type(argument.type) for argument in aggregation.arguments]
        accumulator = make_accumulator(aggregation.function, types, arrow_type(aggregation.type))
        if accumulator is None:
            named = ", ".join(argument.type for argument in aggregation.arguments)
            raise NotMaintainable(
                f"the aggregate {aggregation.function}({named})",
                sql=sql,
                span=find_word(sql, aggregation.function),
                hint="count, sum, avg, min and max of numbers (min and max also of texts and times) are there",
            )
        result.append(accumulator)
    return result


def _linear_operators(
    part: Sequence[Project | Filter],
    below: Get | Aggregate,
    database: duckdb.DuckDBPyConnection,
    *,
    is_keyed: bool,
) -> tuple[Operator, ...]:
    """Fuse filters and projections into one operator; into none if they change nothing."""
    picked: list[int] | None = list(range(len(below.types)))
    for step in part:
        if picked is None or isinstance(step, Filter):
            picked = None
        else:
            references = [e.index if isinstance(e, Ref) else None for e in step.expressions]
            picked = None if None in references else [picked[i] for i in references if i is not None]
    if picked is not None:
        return () if picked == list(range(len(below.types))) else (Pick(picked),)
    return (Linear(Stage(database, _stage_sql(part, below, is_keyed=is_keyed)), is_keyed=is_keyed),)


def _stage_sql(part: Sequence[Project | Filter], below: Get | Aggregate, *, is_keyed: bool) -> str:
    """Return one nested SELECT; DuckDB flattens it."""

    def column(index: int) -> str:
        return f"c{index}"

    def select(expressions: Sequence[str]) -> str:
        items = [f"{text} AS c{i}" for i, text in enumerate(expressions)]
        return ", ".join([*items, quote("__key")] if is_keyed else items) or "NULL"

    def text(expression: Expr) -> str:
        return render(expression, column).replace("{", "{{").replace("}", "}}")

    # Arrow forgets some types (HUGEINT is a decimal there): say them again.
    casts = [f"c{i}" if _survives_arrow(t) else f"c{i}::{t}" for i, t in enumerate(below.types)]
    if isinstance(below, Aggregate):
        for i, aggregation in enumerate(below.aggregations, len(below.groups)):
            if aggregation.function == _UNUSED:  # nobody asks for it, but what is not shown has to bind, too
                casts[i] = f"NULL::{aggregation.type}"
    query = f"SELECT {select(casts)} FROM {{input}}"
    for step in part:
        if isinstance(step, Filter):
            query = f"SELECT * FROM ({query}) WHERE {' AND '.join(text(p) for p in step.predicates)}"
        else:
            query = f"SELECT {select([text(e) for e in step.expressions])} FROM ({query})"
    return query


def _survives_arrow(spelled: str) -> bool:
    return spelled not in ("HUGEINT", "UUID", "JSON")
