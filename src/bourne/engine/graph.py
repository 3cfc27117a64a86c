"""The graph that a circuit is made of, while it is being made: nodes, and what every rule needs to add some.

Invariant: a plan that is read twice is compiled once; a node comes after those that it reads. `grows` says of each node
whether its stream only ever grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from bourne.engine.bounds import bounds_of, is_timeless
from bourne.engine.circuit import Node
from bourne.engine.join_times import JoinTimes, as_of_times, join_times
from bourne.engine.kernels.stage import Databases, Stage
from bourne.engine.operators.late import RECORD, WATERMARK, Late
from bourne.engine.operators.linear import WEIGHT, Linear, Pick
from bourne.engine.operators.operator import Operator
from bourne.engine.stages import LinearStep, late_sql, linear_sql
from bourne.errors import NotMaintainable, Span
from bourne.log.catalog import LogInfo
from bourne.log.relation import only_grows
from bourne.schema import arrow_type, is_storable
from bourne.sql.emit import CHANGES, Emit
from bourne.sql.outline import Names, describe
from bourne.sql.plan import AsOf, Expr, Filter, Get, Join, Plan, Project, Ref, Union, Unnest, children, nodes
from bourne.sql.rules.tree import refs
from bourne.sql.text import find_word

# Columns, and which bound each has.
Times = list[tuple[int, int]]


class Graph:
    """The nodes of a circuit so far. Lives as long as a plan is being compiled."""

    def __init__(
        self, databases: Databases, sql: str, inputs: Mapping[str, LogInfo], plan: Plan, names: Names,
        rule: Callable[[Graph, Plan], int], emit: Emit = CHANGES,
    ) -> None:  # fmt: skip
        """`rule` compiles a plan that is new here; it returns the number of the node that gives its output."""
        self.emit = emit
        self.bounds: list[str] = []
        self.kept: dict[int, tuple[Plan, Mapping[int, str]]] = {}  # which keep to which bounds
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
        columns: Sequence[str] = (), detail: str = "", keeps_rows: bool = False, is_timed: bool = False,
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
                is_timed,
            )
        )
        self.grows.append(grows)
        return len(self.nodes) - 1

    def read_nodes(self) -> tuple[Node, ...]:
        """Return the inputs, the last node, and those that it reads, numbered anew.

        A node is not read if the same plan was compiled again, to keep to more bounds. What sets late records aside is.
        """
        is_read = [node.relation is not None for node in self.nodes]
        is_read[-1] = True
        for number in range(len(self.nodes) - 1, -1, -1):
            for below in self.nodes[number].inputs if is_read[number] else ():
                is_read[below] = True
        numbers = list(accumulate(is_read, initial=0))
        for number, node in enumerate(self.nodes):
            assert is_read[number] or not isinstance(node.operator, Late), f"nobody reads {node.detail}"
        return tuple(
            replace(node, inputs=tuple(numbers[below] for below in node.inputs))
            for number, node in enumerate(self.nodes)
            if is_read[number]
        )

    def compile(self, plan: Plan) -> int:
        """Return the number of the node that gives this plan's output."""
        if id(plan) not in self.of_plan:
            self.of_plan[id(plan)] = (plan, self.rule(self, plan))
        return self.of_plan[id(plan)][1]

    def with_columns(
        self, plan: Plan, expressions: Sequence[Expr], *, keep_to: Iterable[int] = ()
    ) -> tuple[int, tuple[int, ...]]:
        """Return a node that gives a plan's columns and these expressions, and where those are.

        It keeps to the bounds of the columns `keep_to`, of those that have one.
        """
        wider, where = self._wider(plan, expressions)
        return self.guaranteed(wider, keep_to)[0], where

    def with_groups(
        self, plan: Plan, groups: Sequence[Expr], count: int | None = None
    ) -> tuple[int, tuple[int, ...], Times]:
        """Return the same for the keys of groups, the first `count` of them (all, if None), and their bounds.

        These are (which key, which bound), and the node keeps to them.
        """
        wider, where = self._wider(plan, groups)
        number, times = self.guaranteed(wider, where[:count])
        return number, where, [(where.index(column), bound) for column, bound in times]

    def _wider(self, plan: Plan, expressions: Sequence[Expr]) -> tuple[Plan, tuple[int, ...]]:
        width = len(plan.types)
        added = list(dict.fromkeys(e for e in expressions if not isinstance(e, Ref)))
        where = tuple(e.index if isinstance(e, Ref) else width + added.index(e) for e in expressions)
        if not added:
            return plan, where
        everything = tuple(Ref(i, spelled) for i, spelled in enumerate(plan.types))
        return Project(plan, (*everything, *added)), where

    # --- time ---

    @property
    def is_final(self) -> bool:
        """Whether rows come out once, when they are complete, and never change after that."""
        return self.emit.is_final and self.emit.lateness_us == 0 and self.emit.early_us is None

    def bound(self, text: str) -> int:
        """Return the number of a bound."""
        if text not in self.bounds:
            self.bounds.append(text)
        return self.bounds.index(text)

    def guaranteed(self, plan: Plan, wanted: Iterable[int]) -> tuple[int, Times]:
        """Return a node that gives a plan's output, and which of the wanted columns have a bound: (column, bound).

        No row comes from that node, and none is taken back, that is before one of these.
        """
        times = self.guarantee(plan, wanted)
        return self.compile(plan), times

    def guarantee(self, plan: Plan, wanted: Iterable[int]) -> Times:
        """See to it that the node of a plan keeps to the bounds of some columns; return those that have one."""
        known = bounds_of(plan, self.inputs) if self.emit.closes else {}
        times = [(column, self.bound(known[column])) for column in dict.fromkeys(wanted) if column in known]
        if times:
            self._keep_to(plan, {column: known[column] for column, _ in times})
        return times

    def join_times(self, plan: Join | AsOf) -> JoinTimes:
        """Return what a join's conditions say of time."""
        if not self.emit.closes:
            return JoinTimes()
        left, right = (bounds_of(child, self.inputs) for child in (plan.left, plan.right))
        if isinstance(plan, AsOf):
            return as_of_times(plan, left, right)
        return join_times(plan, left, right, is_timeless(self.inputs))

    def _keep_to(self, plan: Plan, bounds: Mapping[int, str]) -> None:
        """Compile a plan so that its output keeps to bounds: where it reads a log, late records are set aside."""
        known = self.kept[id(plan)][1] if id(plan) in self.kept else {}
        if set(bounds) <= set(known):
            return
        bounds = {**known, **bounds}  # a new node, for all; who has the old one needs no more than that
        self.kept[id(plan)] = (plan, bounds)
        steps, below = self.linear_part(plan)
        if isinstance(below, Get) and self.has_late(below.relation):
            self.of_plan[id(plan)] = (plan, self.late(steps, below, plan, bounds))
            return
        used = _used(steps, bounds)
        if isinstance(below, Union):
            for child in below.children:
                found = bounds_of(child, self.inputs)
                self._keep_to(child, {column: found[column] for column in found if column in used})
            self.of_plan.pop(id(below), None)  # what was compiled before does not keep to them
        elif steps:
            found = bounds_of(below, self.inputs)
            self._keep_to(below, {column: found[column] for column in found if column in used})
        if steps:
            self.of_plan.pop(id(plan), None)

    def will_grow(self, plan: Plan) -> bool:
        """Say whether a plan's output will only grow, though it is not compiled yet."""
        below = self.linear_part(plan)[1]
        if isinstance(below, Get):
            info = self.inputs.get(below.relation)
            return info is None or only_grows(info)
        return self.grows[self.compile(below)]

    def has_late(self, relation: str) -> bool:
        """Say whether records of a log may come too late for this view."""
        info = self.inputs.get(relation)
        return self.emit.closes and info is not None and info.time is not None and only_grows(info)

    def late(
        self, steps: Sequence[LinearStep], get: Get, plan: Plan, bounds: Mapping[int, str], *,
        raised: Mapping[int, str] | None = None,
    ) -> int:  # fmt: skip
        """Return a node for linear steps over a log's records, without those that are before one of the bounds.

        Columns that are `raised` are not before theirs: a record that is so is late in part.
        """
        self.check_types(plan.types, None)
        needed = self.needed[get.relation]
        types = (*needed.values(), "TIMESTAMP", "BIGINT")
        number = self.rule(self, Get(get.relation, (*needed, WATERMARK, RECORD), types))
        names = list(needed)
        query = late_sql(steps, get.types, plan.types, bounds, self.emit.lateness_us or 0, raised or {})
        operator = Late(
            get.relation, Stage(self.databases.linear, query), picked=[names.index(name) for name in get.columns],
            times=[(column, self.bound(text)) for column, text in bounds.items()],
        )  # fmt: skip
        return self.add(
            operator, (number,), plan.types, label_of(steps) or "in time", grows=True, is_timed=True,
            rule="one DuckDB query; late records are set aside", detail=self.say(steps) or f"{get.relation} in time",
        )  # fmt: skip

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


def _used(steps: Sequence[LinearStep], columns: Iterable[int]) -> frozenset[int]:
    """Return the columns below some linear steps that these columns above them are computed from."""
    used = frozenset(columns)
    for step in reversed(steps):
        match step:
            case Project(expressions=expressions):
                used = refs(tuple(expressions[i] for i in used))
            case Unnest(child=child, lists=lists):
                width = len(child.types)
                used = frozenset(i for i in used if i < width) | refs(
                    tuple(lists[i - width] for i in used if i >= width)
                )
    return used


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
