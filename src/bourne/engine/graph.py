"""The graph that a circuit is made of, while it is being made: nodes, and what every rule needs to add some.

Invariant: a plan that is read twice is compiled once; a node comes after those that it reads. `grows` says of each node
whether its stream only ever grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from bourne.engine.circuit import Node
from bourne.engine.kernels.stage import Databases, Stage
from bourne.engine.operators.linear import WEIGHT, Linear, Pick
from bourne.engine.operators.operator import Operator
from bourne.engine.stages import LinearStep, linear_sql
from bourne.errors import NotMaintainable, Span
from bourne.log.catalog import LogInfo
from bourne.schema import arrow_type, is_storable
from bourne.sql.outline import Names, describe
from bourne.sql.plan import Expr, Filter, Get, Plan, Project, Ref, Unnest, children, nodes
from bourne.sql.text import find_word


class Graph:
    """The nodes of a circuit so far. Lives as long as a plan is being compiled."""

    def __init__(
        self, databases: Databases, sql: str, inputs: Mapping[str, LogInfo], plan: Plan, names: Names,
        rule: Callable[[Graph, Plan], int],
    ) -> None:  # fmt: skip
        """`rule` compiles a plan that is new here; it returns the number of the node that gives its output."""
        self.databases = databases
        self.sql = sql
        self.inputs = inputs
        self.plan = plan
        self.names = names
        self.rule = rule
        self.nodes: list[Node] = []
        self.grows: list[bool] = []
        self.of_plan: dict[int, tuple[Plan, int]] = {}  # the plans, too: an id is one's only while it lives
        self.of_relation: dict[str, int] = {}
        self.needed: dict[str, dict[str, str]] = {}  # of each relation: columns and their types
        self.parents: Counter[int] = Counter()
        for node in nodes(plan):
            self.parents.update(id(child) for child in children(node))
            if isinstance(node, Get):
                columns = zip(node.columns, node.types, strict=True)
                self.needed.setdefault(node.relation, {}).update(columns)

    def add(
        self, operator: Operator, inputs: Sequence[int], types: Sequence[str], label: str, *, grows: bool,
        rule: str = "", cost: str = "O(delta)", growth: str | None = None, relation: str | None = None,
        columns: Sequence[str] = (), detail: str = "", keeps_rows: bool = False,
    ) -> int:  # fmt: skip
        arrow = tuple(arrow_type(spelled) for spelled in types)
        self.nodes.append(
            Node(
                operator,
                tuple(inputs),
                tuple(types),
                arrow,
                label,
                relation,
                tuple(columns),
                rule,
                cost,
                growth,
                detail or label,
                keeps_rows,
            )
        )
        self.grows.append(grows)
        return len(self.nodes) - 1

    def compile(self, plan: Plan) -> int:
        """Return the number of the node that gives this plan's output."""
        if id(plan) not in self.of_plan:
            self.of_plan[id(plan)] = (plan, self.rule(self, plan))
        return self.of_plan[id(plan)][1]

    def with_columns(self, plan: Plan, expressions: Sequence[Expr]) -> tuple[int, tuple[int, ...]]:
        """Return a node that gives a plan's columns and these expressions, and where those are."""
        width = len(plan.types)
        added = list(dict.fromkeys(e for e in expressions if not isinstance(e, Ref)))
        where = tuple(e.index if isinstance(e, Ref) else width + added.index(e) for e in expressions)
        if not added:
            return self.compile(plan), where
        everything = tuple(Ref(i, spelled) for i, spelled in enumerate(plan.types))
        wider = Project(plan, (*everything, *added))
        return self.linear(wider), where

    def linear(self, plan: Project | Filter | Unnest) -> int:
        steps, below = self.linear_part(plan)
        number = self.compile(below)
        grows = self.grows[number]
        picked = picked_columns(steps, len(below.types))
        if picked is not None:
            if picked == list(range(len(below.types))):
                return number
            return self.columns(picked, number, plan, grows=grows)
        self.check_types(plan.types, None)
        query = linear_sql(steps, self.nodes[number].types, () if grows else (WEIGHT,))
        operator = Linear(Stage(self.databases.linear, query), is_growing=grows)
        return self.add(
            operator, (number,), plan.types, label_of(steps), grows=grows, rule="one DuckDB query",
            detail=self.say(steps),
        )  # fmt: skip

    def linear_part(self, plan: Plan) -> tuple[list[LinearStep], Plan]:
        """Return the linear steps on top of a plan that nobody else reads, innermost first, and what is below."""
        steps: list[LinearStep] = []
        while isinstance(plan, Project | Filter | Unnest) and (not steps or self.parents[id(plan)] <= 1):
            steps.insert(0, plan)
            plan = plan.child
        return steps, plan

    def columns(self, picked: Sequence[int], number: int, plan: Plan, *, grows: bool) -> int:
        """Return a node that gives a plan's output by picking columns of a node."""
        detail = f"columns {', '.join(self.names.of(plan)) or 'none'}"
        return self.add(Pick(picked), (number,), plan.types, "columns", grows=grows, detail=detail)

    def say(self, steps: Sequence[LinearStep]) -> str:
        return ", then ".join(describe(step, self.names) for step in steps)

    def check_types(self, types: Iterable[str], span: Span | None) -> None:
        """Refuse types whose values are not the same after a trip through Arrow."""
        for spelled in types:
            check_storable(spelled, self.sql, span)


def check_storable(spelled: str, sql: str, span: Span | None = None) -> None:
    if not is_storable(spelled):
        raise NotMaintainable(
            f"a column of type {spelled}", sql=sql, span=span or find_word(sql, "SELECT"),
            hint="CAST it to another type",
        )  # fmt: skip


def picked_columns(steps: Sequence[LinearStep], width: int) -> list[int] | None:
    """Return which columns steps pick, if that is all they do."""
    picked = list(range(width))
    for step in steps:
        if not isinstance(step, Project) or not all(isinstance(e, Ref) for e in step.expressions):
            return None
        picked = [picked[e.index] for e in step.expressions if isinstance(e, Ref)]
    return picked


def label_of(steps: Sequence[LinearStep]) -> str:
    names = {Filter: "filter", Project: "project", Unnest: "unnest"}
    return ", ".join(dict.fromkeys(names[type(step)] for step in steps))
