"""The logical plan: relational operators and bound expressions, as plain data.

Invariant: every expression is fully bound: columns are positions in the child's output, types are DuckDB's
own spelling, casts are explicit. Spans point into the SQL that the user wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from bourne.errors import Span
from bourne.schema import Schema


@dataclass(frozen=True, slots=True)
class Ref:
    """A column of the child, by position."""

    index: int
    type: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant, as SQL text that DuckDB reads as exactly this value of this type."""

    text: str
    type: str


@dataclass(frozen=True, slots=True)
class Cast:
    """`CAST` or `TRY_CAST` to `type`."""

    argument: Expr
    type: str
    is_try: bool
    span: Span | None


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator call. `names` are the arguments' names, empty where they have none."""

    function: str
    arguments: tuple[Expr, ...]
    names: tuple[str, ...]
    type: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Case:
    """`CASE WHEN … THEN … ELSE … END`."""

    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr
    type: str


@dataclass(frozen=True, slots=True)
class Logic:
    """`AND` or `OR` of two or more."""

    word: str
    arguments: tuple[Expr, ...]
    type: str = "BOOLEAN"


@dataclass(frozen=True, slots=True)
class Test:
    """NOT, IS NULL, IS NOT NULL, IN, COALESCE, TRY: DuckDB's operators that are no functions."""

    kind: str
    arguments: tuple[Expr, ...]
    type: str


Expr = Ref | Literal | Cast | Call | Case | Logic | Test


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One aggregate function over expressions of the child."""

    function: str
    arguments: tuple[Expr, ...]
    type: str


@dataclass(frozen=True, slots=True)
class Get:
    """Rows of a log (or view): these columns of it, in this order."""

    relation: str
    columns: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """One output column per expression."""

    child: Plan
    expressions: tuple[Expr, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return tuple(expression.type for expression in self.expressions)


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which every predicate is true."""

    child: Plan
    predicates: tuple[Expr, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return self.child.types


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One row per distinct value of `groups`; without groups exactly one row."""

    child: Plan
    groups: tuple[Expr, ...]
    aggregations: tuple[Aggregation, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types: first the groups, then the aggregations."""
        return tuple(e.type for e in self.groups) + tuple(a.type for a in self.aggregations)


Plan = Get | Project | Filter | Aggregate


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A view's SQL after binding. `sql` is DuckDB's SQL: the user's with the window functions rewritten."""

    plan: Plan
    schema: Schema
    sql: str


def walk(expression: Expr) -> Iterator[Expr]:
    """Yield the expression and everything below it."""
    yield expression
    for field in fields(expression):
        yield from _below(getattr(expression, field.name))


def _below(value: object) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield from walk(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _below(item)


def relations(plan: Plan) -> frozenset[str]:
    """Return the names of the logs and views that the plan reads."""
    if isinstance(plan, Get):
        return frozenset({plan.relation})
    return relations(plan.child)
