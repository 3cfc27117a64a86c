"""A plan becomes a circuit: each node an operator, by its fast rule where there is one, else by the generic one.

Invariant: what has no rule is refused here, when the view is declared, never computed wrongly. Whether a stream only
grows is known here and decides which rules are right for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.circuit import Circuit, Node
from bourne.engine.delta import empty_delta, table_of
from bourne.engine.kernels.stage import Databases, Stage
from bourne.engine.operators.aggregate import Aggregate as AggregateOperator
from bourne.engine.operators.aggregate import Function
from bourne.engine.operators.changes import Clamped, Taken, Upserted
from bourne.engine.operators.constant import Constant
from bourne.engine.operators.distinct import Distinct, Pairs
from bourne.engine.operators.extremes import Retractable
from bourne.engine.operators.functions import make_accumulator
from bourne.engine.operators.join import Join as JoinOperator
from bourne.engine.operators.join import Residual, Side
from bourne.engine.operators.linear import KEY, WEIGHT, KeyedLinear, KeyedPick, Linear, Pick
from bourne.engine.operators.operator import Operator
from bourne.engine.operators.recompute import Recompute
from bourne.engine.operators.top_n import TopN as TopNOperator
from bourne.engine.operators.union import Union as UnionOperator
from bourne.engine.stages import (
    LinearStep,
    empty_aggregate_sql,
    linear_sql,
    rank_sql,
    recompute_sql,
    residual_sql,
    values_sql,
)
from bourne.errors import NotMaintainable, Span, SqlError
from bourne.log.catalog import LogInfo
from bourne.log.relation import is_exact, is_keyed, key_column, only_grows, relation_schema
from bourne.schema import arrow_type, is_storable
from bourne.sql.outline import Names, describe
from bourne.sql.plan import (
    Aggregate,
    Aggregation,
    BoundQuery,
    Expr,
    Filter,
    Get,
    Join,
    Literal,
    Plan,
    Project,
    Ref,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    children,
    nodes,
)
from bourne.sql.rules import optimise
from bourne.sql.rules.tree import replace_refs
from bourne.sql.windows import find_word
from bourne.udf import reason


def compile_circuit(
    query: BoundQuery,
    database: Databases | duckdb.DuckDBPyConnection,
    *,
    sql: str,
    inputs: Mapping[str, LogInfo] | None = None,
    view: str | None = None,
) -> Circuit:
    """Return a new circuit without state. `database` runs its stages; a single one must have one thread.

    `inputs` says of which log the records of each relation are; one that only grows, where it says nothing.

    Raises:
        NotMaintainable: an operator or function has no rule yet; names its place in `sql`.
    """
    try:
        for column in query.schema.columns:
            _check_storable(column.type, sql)
        plan = optimise(query.plan, sql=sql)
        databases = database if isinstance(database, Databases) else Databases(database, database)
        return _Compiler(databases, sql, inputs or {}, plan, Names(plan, query.schema.names)).compile()
    except NotMaintainable as error:
        raise error.in_view(view) from None
    except duckdb.Error as error:
        raise SqlError(f"a constant cannot be computed: {reason(error)}", sql=sql, view=view) from error


# The first rows of each partition are kept in a matrix: up to so many each, or of all together.
_FIRST_MAX = 64
_FIRST_OF_ALL_MAX = 1 << 16


class _Compiler:
    """Turns one plan's nodes into a circuit's. Lives as long as `compile_circuit` runs."""

    def __init__(
        self, database: Databases, sql: str, inputs: Mapping[str, LogInfo], plan: Plan,
        names: Names,
    ) -> None:  # fmt: skip
        self._database = database
        self._sql = sql
        self._inputs = inputs
        self._plan = plan
        self._names = names
        self._nodes: list[Node] = []
        self._grows: list[bool] = []
        self._of_plan: dict[int, tuple[Plan, int]] = {}  # the plans, too: an id is one's only while it lives
        self._of_relation: dict[str, int] = {}
        self._needed: dict[str, dict[str, str]] = {}  # of each relation: columns and their types
        self._parents: Counter[int] = Counter()
        for node in nodes(plan):
            self._parents.update(id(child) for child in children(node))
            if isinstance(node, Get):
                columns = zip(node.columns, node.types, strict=True)
                self._needed.setdefault(node.relation, {}).update(columns)

    def compile(self) -> Circuit:
        """Return the circuit."""
        if self._compile_keyed():
            return Circuit(tuple(self._nodes), "upsert")
        top = self._compile(self._plan)
        if top != len(self._nodes) - 1:
            every = range(len(self._plan.types))
            top = self._add(Pick(every), (top,), self._plan.types, "output", grows=self._grows[top])
        return Circuit(tuple(self._nodes), "append" if self._grows[top] else "weights")

    # --- the graph ---

    def _add(
        self, operator: Operator, inputs: Sequence[int], types: Sequence[str], label: str, *, grows: bool,
        rule: str = "", cost: str = "O(delta)", growth: str | None = None, relation: str | None = None,
        columns: Sequence[str] = (), detail: str = "", keeps_rows: bool = False,
    ) -> int:  # fmt: skip
        arrow = tuple(arrow_type(spelled) for spelled in types)
        self._nodes.append(
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
        self._grows.append(grows)
        return len(self._nodes) - 1

    def _compile(self, plan: Plan) -> int:
        """Return the number of the node that gives this plan's output."""
        if id(plan) not in self._of_plan:
            self._of_plan[id(plan)] = (plan, self._compile_new(plan))
        return self._of_plan[id(plan)][1]

    def _compile_new(self, plan: Plan) -> int:
        match plan:
            case Get():
                return self._get(plan)
            case Values():
                return self._values(plan)
            case Project() | Filter() | Unnest():
                return self._linear(plan)
            case Union(children=inputs):
                numbers = [self._compile(child) for child in inputs]
                grows = all(self._grows[number] for number in numbers)
                return self._add(UnionOperator(), numbers, plan.types, "union", grows=grows)
            case Join():
                return self._join(plan)
            case Aggregate():
                return self._aggregate(plan, is_keyed=False)
            case Window():
                return self._windows(plan)
            case TopN():
                return self._top_n(plan)

    # --- without state ---

    def _get(self, plan: Get) -> int:
        """Return a node with the columns that this place needs of a relation; its records are taken in once."""
        needed = self._needed[plan.relation]
        if plan.relation not in self._of_relation:
            self._check_types(needed.values(), None)
            self._of_relation[plan.relation] = self._input(plan.relation, needed)
        number = self._of_relation[plan.relation]
        names = list(needed)
        picked = [names.index(name) for name in plan.columns]
        if picked == list(range(len(names))):
            return number
        detail = f"columns {', '.join(plan.columns)}"
        return self._add(
            Pick(picked), (number,), plan.types, "columns", grows=self._grows[number], detail=detail
        )

    def _input(self, relation: str, needed: Mapping[str, str]) -> int:
        """Return the node that turns the changes of a log into signed rows: those of its columns that are needed."""
        info, columns, types = self._inputs.get(relation), list(needed), list(needed.values())
        arrow = [arrow_type(spelled) for spelled in types]
        operator: Operator = Taken()
        rule, growth, keeps_rows = "each record is a row", None, False
        if info is not None and is_keyed(info):
            key = key_column(info)
            assert key is not None
            operator = Upserted(arrow, arrow_type(key.type))
            rule, growth = "the newest record of a key is its row", "a row per key"
        elif info is not None and is_exact(info) and not only_grows(info):
            rule = "records add rows and take rows back"
        elif info is not None and not only_grows(info):
            whole = relation_schema(info)
            columns = list(whole.names)
            operator = Clamped(list(whole.to_arrow().types), [columns.index(name) for name in needed])
            rule, growth = "rows as often as their weights sum up to", "every distinct row"
            keeps_rows = True
        grows = info is None or only_grows(info)
        return self._add(
            operator, (), types, f"input {relation}", grows=grows, rule=rule, growth=growth, relation=relation,
            columns=columns, detail=f"input {relation}: {', '.join(needed)}", keeps_rows=keeps_rows,
        )  # fmt: skip

    def _values(self, plan: Values) -> int:
        self._check_types(plan.types, None)
        if not plan.rows:
            rows = empty_delta([arrow_type(spelled) for spelled in plan.types]).table
            return self._add(Constant(rows), (), plan.types, "no rows", grows=True)
        rows = Stage(self._database.linear, values_sql(plan)).run(pa.table({"c0": pa.nulls(0)}))
        if not plan.types:  # a table without columns has no rows: give it one
            rows = pa.table({"c0": pa.nulls(len(plan.rows), pa.bool_())})
            return self._add(Constant(rows), (), ("BOOLEAN",), "one row", grows=True)
        detail = describe(plan, self._names)
        return self._add(Constant(rows), (), plan.types, "constant rows", grows=True, detail=detail)

    def _linear(self, plan: Project | Filter | Unnest) -> int:
        steps, below = self._linear_part(plan)
        number = self._compile(below)
        grows = self._grows[number]
        picked = _picked(steps, len(below.types))
        if picked is not None:
            if picked == list(range(len(below.types))):
                return number
            return self._columns(picked, number, plan, grows=grows)
        self._check_types(plan.types, None)
        query = linear_sql(steps, self._nodes[number].types, () if grows else (WEIGHT,))
        operator = Linear(Stage(self._database.linear, query), is_growing=grows)
        return self._add(
            operator, (number,), plan.types, _label(steps), grows=grows, rule="one DuckDB query",
            detail=self._say(steps),
        )  # fmt: skip

    def _columns(self, picked: Sequence[int], number: int, plan: Plan, *, grows: bool) -> int:
        """Return a node that gives a plan's output by picking columns of a node."""
        detail = f"columns {', '.join(self._names.of(plan)) or 'none'}"
        return self._add(Pick(picked), (number,), plan.types, "columns", grows=grows, detail=detail)

    def _say(self, steps: Sequence[LinearStep]) -> str:
        return ", then ".join(describe(step, self._names) for step in steps)

    def _linear_part(self, plan: Plan) -> tuple[list[LinearStep], Plan]:
        """Return the linear steps on top of a plan that nobody else reads, innermost first, and what is below."""
        steps: list[LinearStep] = []
        while isinstance(plan, Project | Filter | Unnest) and (not steps or self._parents[id(plan)] <= 1):
            steps.insert(0, plan)
            plan = plan.child
        return steps, plan

    # --- joins ---

    def _join(self, plan: Join) -> int:
        if plan.kind == "right":
            width, width_right = len(plan.left.types), len(plan.right.types)
            swapped = replace(
                plan, kind="left", left=plan.right, right=plan.left,
                keys=tuple(replace(key, left=key.right, right=key.left) for key in plan.keys),
                residual=None if plan.residual is None else _swapped(plan.residual, width, width_right),
            )  # fmt: skip
            order = [*range(width_right, width_right + width), *range(width_right)]
            number = self._compile_new(swapped)
            return self._columns(order, number, plan, grows=self._grows[number])
        if plan.kind == "inner" and plan.residual is not None:
            return self._linear(Filter(replace(plan, residual=None), (plan.residual,)))
        sides, numbers = [], []
        for child, keys in (
            (plan.left, [k.left for k in plan.keys]),
            (plan.right, [k.right for k in plan.keys]),
        ):
            number, columns = self._with_columns(child, keys)
            numbers.append(number)
            node = self._nodes[number]
            self._check_types(node.types, plan.span)
            sides.append(Side(node.arrow_types, columns, self._grows[number]))
        left, right = sides
        operator = JoinOperator(
            plan.kind, left, right, is_null_safe=[key.is_null_safe for key in plan.keys],
            residual=self._residual(plan, [len(side.types) for side in sides]),
        )  # fmt: skip
        grows = left.is_growing and right.is_growing and plan.kind in ("inner", "semi")
        is_cross = not plan.keys
        shown = [*range(len(plan.left.types))]
        types = list(self._nodes[numbers[0]].types)
        if plan.kind not in ("semi", "anti"):
            shown += [len(types) + i for i in range(len(plan.right.types))]
            types += self._nodes[numbers[1]].types
        joined = self._add(
            operator, numbers, types, _join_label(plan), grows=grows,
            rule="every pair" if is_cross else "rows of each side by key",
            cost="O(delta x other side)" if is_cross else "O(delta and its matches)",
            growth="every row of both sides", detail=describe(plan, self._names), keeps_rows=True,
        )  # fmt: skip
        if shown == list(range(len(types))):
            return joined
        return self._columns(shown, joined, plan, grows=grows)

    def _with_columns(self, plan: Plan, expressions: Sequence[Expr]) -> tuple[int, tuple[int, ...]]:
        """Return a node that gives a plan's columns and these expressions, and where those are."""
        width = len(plan.types)
        added = list(dict.fromkeys(e for e in expressions if not isinstance(e, Ref)))
        where = tuple(e.index if isinstance(e, Ref) else width + added.index(e) for e in expressions)
        if not added:
            return self._compile(plan), where
        everything = tuple(Ref(i, spelled) for i, spelled in enumerate(plan.types))
        wider = Project(plan, (*everything, *added))
        return self._linear(wider), where

    def _residual(self, plan: Join, widths: Sequence[int]) -> Residual | None:
        """Return what decides about pairs; the sides may have more columns than the plan's, at their ends."""
        if plan.residual is None:
            return None
        stage = Stage(self._database.linear, residual_sql(plan))
        left, right = len(plan.left.types), len(plan.right.types)
        pick = Pick([*range(left), *range(widths[0], widths[0] + right)])

        def decide(pairs: pa.Table) -> NDArray[np.bool_]:
            decided = stage.run(pick.pick(pairs)).column(0)
            return np.asarray(decided.to_numpy(), np.bool_)

        return decide

    # --- groups ---

    def _aggregate(self, plan: Aggregate, *, is_keyed: bool) -> int:
        """Return a node for an aggregate: accumulators where all its functions have one, else computed anew."""
        read = [e for each in plan.aggregations for e in (*each.arguments[:1], *_filter_of(each))]
        columns = list(dict.fromkeys((*plan.groups, *read)))
        below = Project(
            plan.child, (*plan.groups, *columns[len(set(plan.groups)) :]) or _any_column(plan.child)
        )
        self._check_types([group.type for group in plan.groups], plan.span)
        grows = self._grows[self._compile(self._linear_part(below)[1])]
        places = {expression: i for i, expression in reversed(list(enumerate(below.expressions)))}
        functions = self._functions(plan.aggregations, places, grows=grows)
        if isinstance(functions, str):
            return self._groups_anew(plan, why=functions)
        number = self._linear(below)
        operator = AggregateOperator(
            [arrow_type(group.type) for group in plan.groups], functions, is_growing=grows, is_keyed=is_keyed
        )
        return self._add(
            operator, (number,), plan.types, _aggregate_label(plan),
            grows=grows and not plan.aggregations and bool(plan.groups),
            rule="a row per group, updated in place", growth=_aggregate_growth(plan, functions),
            detail=describe(plan, self._names),
        )  # fmt: skip

    def _functions(
        self, aggregations: Sequence[Aggregation], places: Mapping[Expr, int], *, grows: bool
    ) -> list[Function] | str:
        """Return the functions with what accumulates each, or why there is none for one of them."""
        result: list[Function] = []
        pairs: dict[Expr, Pairs] = {}
        for each in aggregations:
            if each.orders:
                return f"{each.function} with ORDER BY has no accumulator"
            if not all(is_storable(argument.type) for argument in each.arguments):
                return f"the arguments of {each.function} cannot be stored"
            types = [arrow_type(argument.type) for argument in each.arguments]
            accumulator = make_accumulator(each.function, types, arrow_type(each.type), is_growing=grows)
            if accumulator is None:
                named = ", ".join(argument.type for argument in each.arguments)
                return (
                    f"{each.function}({named}) has no accumulator{'' if grows else ' that takes rows back'}"
                )
            argument = places[each.arguments[0]] if each.arguments else None
            test = None if each.filter is None else places[each.filter]
            if each.is_distinct and each.arguments:
                shared = pairs.setdefault(each.arguments[0], Pairs(types[0]))
                result.append(Function(Distinct(accumulator, shared), argument, test, shared))
            else:
                result.append(Function(accumulator, argument, test))
        return result

    def _groups_anew(self, plan: Aggregate, *, why: str) -> int:
        """Return a node for an aggregate whose groups are computed anew."""
        number, columns = self._with_columns(plan.child, plan.groups)
        given = self._nodes[number]
        when_empty = None
        if not plan.groups:
            empty = Stage(self._database.grouped, empty_aggregate_sql(plan, given.types))
            when_empty = empty.run(table_of([pa.array([], target) for target in given.arrow_types]))
        return self._anew(
            plan, number, columns, plan.types, _aggregate_label(plan), when_empty=when_empty,
            rule=f"touched groups computed anew: {why}", cost="O(group)" if columns else "O(state)", growth="every row",
        )  # fmt: skip

    def _top_n(self, plan: TopN) -> int:
        """Return a node for the first rows of each partition."""
        if self._is_pruning(plan):
            return self._first_rows(plan, has_rank=False)
        number, columns = self._with_columns(plan.child, plan.partitions)
        given = self._nodes[number]
        why = (
            "its input takes rows back" if not self._grows[number] else "rows before the first one count"
            if plan.offset else "there is no last one" if plan.limit is None else "they are many"
        )  # fmt: skip
        result = self._anew(
            plan, number, columns, given.types, f"top {plan.limit}",
            rule=f"touched partitions computed anew: {why}",
            cost="O(partition)" if columns else "O(state)", growth="every row",
        )  # fmt: skip
        if len(given.types) == len(plan.types):
            return result
        return self._columns(range(len(plan.types)), result, plan, grows=False)

    def _is_pruning(self, plan: TopN) -> bool:
        """Say whether rows that are not among the first now never will be, and the first are few enough."""
        is_few = plan.limit is not None and plan.limit <= (_FIRST_MAX if plan.partitions else _FIRST_OF_ALL_MAX)
        return is_few and plan.offset == 0 and self._grows[self._compile(self._linear_part(plan.child)[1])]

    def _first_rows(self, plan: TopN, *, has_rank: bool) -> int:
        """Return a node that remembers nothing but the first rows; with `has_rank`, their rank is one more column."""
        assert plan.limit is not None
        keys = [*plan.partitions, *(order.expression for order in plan.orders)]
        number, columns = self._with_columns(plan.child, keys)
        given, count = self._nodes[number], len(plan.partitions)
        self._check_types(given.types, plan.span)
        orders = [
            (column, order.is_descending, order.is_nulls_first)
            for column, order in zip(columns[count:], plan.orders, strict=True)
        ]
        operator = TopNOperator(
            Stage(self._database.grouped, rank_sql(plan, given.types)).run, types=given.arrow_types, key=columns[:count],
            orders=orders, n=plan.limit, has_rank=has_rank,
        )  # fmt: skip
        types = (*given.types, "BIGINT") if has_rank else given.types
        result = self._add(
            operator, (number,), types, f"top {plan.limit}", grows=False, rule="only rows that can still be in it",
            growth="the first rows of each partition" if count else "the first rows",
            detail=describe(plan, self._names),
        )  # fmt: skip
        shown = [*range(len(plan.types)), *([len(given.types)] if has_rank else [])]
        if shown == list(range(len(types))):
            return result
        return self._add(Pick(shown), (result,), [types[i] for i in shown], "columns", grows=False)

    def _anew(
        self, plan: Aggregate | TopN | Window, number: int, key: Sequence[int], types: Sequence[str], label: str, *,
        rule: str, growth: str | None, cost: str = "O(delta)",
        when_empty: pa.Table | None = None,
    ) -> int:  # fmt: skip
        """Return a node that computes touched groups anew; `key` are the columns of node `number` that tell groups apart."""
        given, span = self._nodes[number], plan.functions[0].span if isinstance(plan, Window) else plan.span
        self._check_types((*given.types, *types), span)
        operator = Recompute(
            Stage(self._database.grouped, recompute_sql(plan, given.types)).run,
            types=given.arrow_types, key=key, output_types=[arrow_type(spelled) for spelled in types],
            is_growing=self._grows[number], when_empty=when_empty,
        )  # fmt: skip
        return self._add(
            operator, (number,), types, label, grows=False, rule=rule, cost=cost, growth=growth,
            detail=describe(plan, self._names), keeps_rows=True,
        )  # fmt: skip

    def _windows(self, plan: Window) -> int:
        """Return nodes for window functions: one for those of the same partitions, one above the other."""
        if isinstance(plan.child, TopN) and self._is_rank_of(plan, plan.child):
            return self._first_rows(plan.child, has_rank=True)
        width = len(plan.child.types)
        number = -1
        below, places = plan.child, dict[int, int]()
        left = dict(enumerate(plan.functions))
        while left:
            partitions = next(iter(left.values())).partitions
            now = {i: function for i, function in left.items() if function.partitions == partitions}
            layer = plan if len(now) == len(plan.functions) else Window(below, tuple(now.values()))
            places |= {i: len(below.types) + at for at, i in enumerate(now)}
            number = self._window(layer, partitions)
            self._of_plan[id(layer)] = (layer, number)
            below, left = layer, {i: function for i, function in left.items() if i not in now}
        order = [*range(width), *(places[i] for i in range(len(plan.functions)))]
        if order == list(range(len(order))):
            return number
        return self._columns(order, number, plan, grows=False)

    def _is_rank_of(self, plan: Window, below: TopN) -> bool:
        """Say whether the only function is the rank of the rows that the top-n below keeps in order."""
        function, *others = plan.functions
        return (
            not others and function.function == "row_number"
            and (function.partitions, function.orders) == (below.partitions, below.orders)
            and self._parents[id(below)] <= 1 and self._is_pruning(below)
        )  # fmt: skip

    def _window(self, plan: Window, partitions: Sequence[Expr]) -> int:
        number, columns = self._with_columns(plan.child, partitions)
        given = self._nodes[number]
        types = (*given.types, *(function.type for function in plan.functions))
        label = "window " + ", ".join(function.function for function in plan.functions)
        result = self._anew(
            plan, number, columns, types, label,
            rule="touched partitions computed anew: window functions have no rule of their own",
            cost="O(partition)" if columns else "O(state)", growth="every row",
        )  # fmt: skip
        width, more = len(plan.child.types), len(given.types)
        if width == more:
            return result
        order = [*range(width), *range(more, len(types))]
        return self._columns(order, result, plan, grows=False)

    # --- the output, by key ---

    def _compile_keyed(self) -> bool:
        """Compile a plan that is an aggregate and what follows it row by row: its output is the newest row per group.

        Return False, and do nothing, if it is not.
        """
        steps: list[Project | Filter] = []
        below = self._plan
        while isinstance(below, Project | Filter):
            steps.insert(0, below)
            below = below.child
        if not isinstance(below, Aggregate) or self._parents[id(below)] > 1 or not below.aggregations:
            return False
        before = len(self._nodes)
        number = self._aggregate(below, is_keyed=True)
        if not isinstance(self._nodes[number].operator, AggregateOperator):
            self._of_plan[id(below)] = (below, number)
            return False
        assert number >= before
        picked = _picked(steps, len(below.types))
        if picked == list(range(len(below.types))):
            return True
        if picked is not None:
            detail = f"columns {', '.join(self._names.of(self._plan))}"
            self._add(KeyedPick(picked), (number,), self._plan.types, "columns", grows=False, detail=detail)
        else:
            query = linear_sql(steps, self._nodes[number].types, (KEY,))
            operator = KeyedLinear(Stage(self._database.linear, query))
            self._add(
                operator, (number,), self._plan.types, _label(steps), grows=False, rule="one DuckDB query",
                growth="a bit per group", detail=self._say(steps),
            )  # fmt: skip
        return True

    def _check_types(self, types: Iterable[str], span: Span | None) -> None:
        """Refuse types whose values are not the same after a trip through Arrow."""
        for spelled in types:
            _check_storable(spelled, self._sql, span)


def _check_storable(spelled: str, sql: str, span: Span | None = None) -> None:
    if not is_storable(spelled):
        raise NotMaintainable(
            f"a column of type {spelled}", sql=sql, span=span or find_word(sql, "SELECT"),
            hint="CAST it to another type",
        )  # fmt: skip


def _picked(steps: Sequence[LinearStep], width: int) -> list[int] | None:
    """Return which columns steps pick, if that is all they do."""
    picked = list(range(width))
    for step in steps:
        if not isinstance(step, Project) or not all(isinstance(e, Ref) for e in step.expressions):
            return None
        picked = [picked[e.index] for e in step.expressions if isinstance(e, Ref)]
    return picked


def _any_column(plan: Plan) -> tuple[Expr]:
    """Return what to hand on where only the number of rows counts: a table without columns has no rows."""
    return (Ref(0, plan.types[0]) if plan.types else Literal("true", "BOOLEAN"),)


def _filter_of(aggregation: Aggregation) -> tuple[Expr, ...]:
    return () if aggregation.filter is None else (aggregation.filter,)


def _swapped(residual: Expr, left: int, right: int) -> Expr:
    """Return a residual for the sides in the other order."""
    return replace_refs(
        residual, lambda ref: Ref(ref.index + right if ref.index < left else ref.index - left, ref.type)
    )


def _label(steps: Sequence[LinearStep]) -> str:
    names = {Filter: "filter", Project: "project", Unnest: "unnest"}
    return ", ".join(dict.fromkeys(names[type(step)] for step in steps))


def _join_label(plan: Join) -> str:
    return "cross join" if plan.kind == "inner" and not plan.keys else f"{plan.kind} join"


def _aggregate_growth(plan: Aggregate, functions: Sequence[Function]) -> str | None:
    kept = ["a row per group"] if plan.groups else []
    if any(function.pairs is not None for function in functions):
        kept.append("the distinct values of each" if plan.groups else "the distinct values")
    if any(isinstance(function.accumulator, Retractable) for function in functions):
        kept.append("the values of min and max, which may come back")
    return ", and ".join(kept) or None


def _aggregate_label(plan: Aggregate) -> str:
    if not plan.aggregations:
        return "distinct"
    functions = ", ".join(dict.fromkeys(aggregation.function for aggregation in plan.aggregations))
    return f"aggregate {functions}"
