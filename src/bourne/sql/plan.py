"""The logical plan: relational operators and bound expressions, as plain data.

Invariant: every expression is fully bound: columns are positions in the child's output, types are DuckDB's
own spelling, casts are explicit. Spans point into the SQL that the user wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal as OneOf

from bourne.errors import Span
from bourne.schema import Schema
from bourne.sql.emit import CHANGES, Emit
from bourne.table_function import TableFunction


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


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a lambda calls an element. No other lambda of the expression calls one so."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Lambda:
    """`lambda x, y: …`, an argument of list_transform and the like. Its body may read columns, too."""

    parameters: tuple[Parameter, ...]
    body: Expr
    type: str = "LAMBDA"


Expr = Ref | Literal | Cast | Call | Case | Logic | Test | Parameter | Lambda


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an ORDER BY."""

    expression: Expr
    is_descending: bool
    is_nulls_first: bool


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One aggregate function over expressions of the child: `function(DISTINCT arguments ORDER BY orders) FILTER (…)`."""

    function: str
    arguments: tuple[Expr, ...]
    type: str
    is_distinct: bool = False
    orders: tuple[Order, ...] = ()
    filter: Expr | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of a window function: unit, bounds, and what is excluded, in SQL's words.

    A bound is `UNBOUNDED PRECEDING`, `CURRENT ROW`, `UNBOUNDED FOLLOWING`, or `PRECEDING` / `FOLLOWING` of an offset.
    """

    unit: OneOf["ROWS", "RANGE", "GROUPS"]
    start: str
    end: str
    start_offset: Expr | None = None
    end_offset: Expr | None = None
    exclude: OneOf["NO OTHERS", "CURRENT ROW", "GROUP", "TIES"] = "NO OTHERS"


@dataclass(frozen=True, slots=True)
class WindowFunction:
    """One function with OVER. `argument_orders` is the ORDER BY inside its parentheses."""

    function: str
    arguments: tuple[Expr, ...]
    type: str
    partitions: tuple[Expr, ...]
    orders: tuple[Order, ...]
    frame: Frame
    is_distinct: bool = False
    is_ignoring_nulls: bool = False
    argument_orders: tuple[Order, ...] = ()
    filter: Expr | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """Rows of a log (or view): these columns of it, in this order."""

    relation: str
    columns: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """Constant rows. One row without columns is what a SELECT without FROM reads."""

    rows: tuple[tuple[Expr, ...], ...]
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


Comparison = OneOf[">=", ">", "<=", "<"]


@dataclass(frozen=True, slots=True)
class ClockTest:
    """`expression comparison (clock + offset)`, of a TIMESTAMP and the clock in UTC, or (`is_date`) its day's midnight."""

    expression: Expr
    comparison: Comparison
    offset_us: int
    is_date: bool


@dataclass(frozen=True, slots=True)
class Temporal:
    """Rows for which all tests are true, by the clock: they come and go as time goes on."""

    child: Plan
    tests: tuple[ClockTest, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return self.child.types


@dataclass(frozen=True, slots=True)
class Unnest:
    """The child's columns, then one per unnested list; a row for each element of the longest list."""

    child: Plan
    lists: tuple[Expr, ...]
    list_types: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return (*self.child.types, *self.list_types)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One row per distinct value of `groups`; without groups exactly one row."""

    child: Plan
    groups: tuple[Expr, ...]
    aggregations: tuple[Aggregation, ...]
    span: Span | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types: first the groups, then the aggregations."""
        return tuple(e.type for e in self.groups) + tuple(a.type for a in self.aggregations)


@dataclass(frozen=True, slots=True)
class JoinKey:
    """An expression of the left child that has to equal one of the right child, both of the same type."""

    left: Expr
    right: Expr
    is_null_safe: bool  # IS NOT DISTINCT FROM: NULL equals NULL


JoinKind = OneOf["inner", "left", "right", "full", "semi", "anti", "single", "mark"]


@dataclass(frozen=True, slots=True)
class Join:
    """Pairs of rows whose keys are equal and for which the residual predicate (over left, then right columns) is true.

    `left`, `right`, `full` add the unmatched rows, padded with NULLs; `semi` and `anti` give the left rows with and
    without a match; `single` is `left` but fails if a row has two matches; `mark` adds to the left columns whether
    there is a match, NULL if that is not known (SQL's IN). No keys: every pair.
    """

    kind: JoinKind
    left: Plan
    right: Plan
    keys: tuple[JoinKey, ...]
    residual: Expr | None = None
    span: Span | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        match self.kind:
            case "semi" | "anti":
                return self.left.types
            case "mark":
                return (*self.left.types, "BOOLEAN")
            case _:
                return (*self.left.types, *self.right.types)


@dataclass(frozen=True, slots=True)
class AsOf:
    """Left rows, each with the one right row of equal keys whose time is nearest: `left_time comparison right_time`.

    For `>=` and `>` that is the last one, for `<=` and `<` the first one. With `is_left` rows without one stay, padded.
    Of right rows at the same time it is the last by all columns, so that the answer depends on the rows alone.
    """

    left: Plan
    right: Plan
    keys: tuple[JoinKey, ...]
    left_time: Expr
    right_time: Expr
    comparison: Comparison
    is_left: bool
    span: Span | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return (*self.left.types, *self.right.types)


@dataclass(frozen=True, slots=True)
class Union:
    """All rows of all children (UNION ALL), column by column."""

    children: tuple[Plan, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return self.children[0].types


@dataclass(frozen=True, slots=True)
class Window:
    """The child's columns, then one per window function."""

    child: Plan
    functions: tuple[WindowFunction, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return (*self.child.types, *(function.type for function in self.functions))


@dataclass(frozen=True, slots=True)
class Session:
    """The child's columns, then the start and the end of each row's session.

    Rows of equal `keys` whose times follow each other in less than the gap are one session; it ends a gap after its last
    row. A row whose time is NULL has none.
    """

    child: Plan
    keys: tuple[Expr, ...]
    time: Expr
    gap_us: int

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return (*self.child.types, self.time.type, self.time.type)


@dataclass(frozen=True, slots=True)
class TopN:
    """Of each partition the rows `offset` to `offset + limit` (all the rest, if None) in this order.

    Ties are broken by the other columns, so that the answer depends on the rows alone.
    """

    child: Plan
    partitions: tuple[Expr, ...]
    orders: tuple[Order, ...]
    limit: int | None
    offset: int = 0
    span: Span | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The output columns' types."""
        return self.child.types


# A plan is a graph: a node that is read twice (a CTE) is one object with two parents.
Plan = (
    Get
    | Values
    | Project
    | Filter
    | Unnest
    | Aggregate
    | Join
    | AsOf
    | Union
    | Window
    | TopN
    | Temporal
    | Session
)


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A view's SQL after binding. `sql` is DuckDB's SQL: the user's with the window functions rewritten.

    With a `function`, the view is what that makes of the plan's rows, and `schema` that of its rows. `emit` says when rows
    come out.
    """

    plan: Plan
    schema: Schema
    sql: str
    function: TableFunction | None = None
    emit: Emit = CHANGES


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


def children(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans that a node reads."""
    match plan:
        case Get() | Values():
            return ()
        case Join(left=left, right=right) | AsOf(left=left, right=right):
            return (left, right)
        case Union(children=inputs):
            return inputs
        case _:
            return (plan.child,)


def nodes(plan: Plan) -> list[Plan]:
    """Return every node of the graph once, children before parents."""
    found: dict[int, Plan] = {}

    def visit(node: Plan) -> None:
        if id(node) not in found:
            for child in children(node):
                visit(child)
            found[id(node)] = node

    visit(plan)
    return list(found.values())


def relations(plan: Plan) -> frozenset[str]:
    """Return the names of the logs and views that the plan reads."""
    return frozenset(node.relation for node in nodes(plan) if isinstance(node, Get))
