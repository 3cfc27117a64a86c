"""Filters move down to where their columns come from, and inner joins get their keys from them.

Law: a predicate is true of a row above a node if and only if it is true of the rows below that the row comes from.
A predicate that may fail (a cast, an overflow) stays above what might remove its rows before it sees them: it moves
only where every row that it sees below it would also see above, and never past a predicate that stays. Only the two
sides of an equality between two inputs of an inner join, its key, are computed for every row of theirs, as DuckDB
does it. Shared nodes are not pushed into.
"""

from __future__ import annotations

from dataclasses import replace

from bourne.sql.plan import (
    Aggregate,
    Expr,
    Filter,
    Join,
    JoinKey,
    Plan,
    Project,
    Ref,
    TopN,
    Union,
    Unnest,
    Window,
    children,
)
from bourne.sql.rules.inner_joins import as_key, flatten
from bourne.sql.rules.order_joins import order_joins
from bourne.sql.rules.totality import cannot_fail, rejects_nulls
from bourne.sql.rules.tree import (
    conjunction,
    conjuncts,
    filtered,
    refs,
    shared,
    shift,
    substitute,
    with_children,
)

Predicates = tuple[Expr, ...]


def push_filters(plan: Plan) -> Plan:
    """Push every filter down as far as it goes."""
    return _Pusher(plan).rewrite(plan)


class _Pusher:
    """Rewrites one plan: knows its shared nodes and what has become of them."""

    def __init__(self, plan: Plan) -> None:
        self._shared = shared(plan)
        self._done: dict[int, Plan] = {}

    def rewrite(self, plan: Plan) -> Plan:
        """Rewrite a node with nothing to push into it."""
        if id(plan) not in self._done:
            self._done[id(plan)] = self._below(plan, ())
        return self._done[id(plan)]

    def push(self, plan: Plan, predicates: Predicates) -> Plan:
        """Return the rows of the plan for which the predicates are true."""
        if id(plan) in self._shared or not predicates:
            return filtered(self.rewrite(plan), predicates)
        return self._below(plan, predicates)

    def _below(self, plan: Plan, predicates: Predicates) -> Plan:
        match plan:
            case Filter(child=child, predicates=own):
                return self.push(child, conjuncts((*own, *predicates)))
            case Project(child=child, expressions=expressions):
                return Project(self.push(child, substitute(predicates, expressions)), expressions)
            case Union(children=inputs):
                return Union(tuple(self.push(child, predicates) for child in inputs))
            case Aggregate(child=child, groups=groups):
                down, rest = _split(predicates, frozenset(range(len(groups))))
                return filtered(replace(plan, child=self.push(child, substitute(down, groups))), rest)
            case Window(child=child, functions=functions):
                common = [_columns(function.partitions) for function in functions]
                return self._through(plan, child, predicates, frozenset.intersection(*common))
            case TopN(child=child, partitions=partitions):
                return self._through(plan, child, predicates, _columns(partitions))
            case Unnest(child=child):
                down, rest = _split(predicates, frozenset(range(len(child.types))), is_all_kept=False)
                return filtered(replace(plan, child=self.push(child, down)), rest)
            case Join(kind="inner"):
                return self._inner(plan, predicates)
            case Join():
                return self._outer(plan, predicates)
            case _:
                return filtered(
                    with_children(plan, [self.rewrite(child) for child in children(plan)]), predicates
                )

    def _through(
        self, plan: Window | TopN, child: Plan, predicates: Predicates, whole: frozenset[int]
    ) -> Plan:
        """Push what keeps or drops whole partitions: predicates on the columns `whole` alone."""
        down, rest = _split(predicates, whole, is_all_kept=isinstance(plan, Window))
        return filtered(replace(plan, child=self.push(child, down)), rest)

    # --- inner joins ---

    def _inner(self, plan: Join, predicates: Predicates) -> Plan:
        """Join what the tree of inner joins below joins, by keys wherever there are some."""
        join = flatten(plan, lambda node: id(node) in self._shared)
        asked = conjuncts((*join.predicates, *substitute(predicates, join.outputs)))
        return order_joins(replace(join, predicates=asked), plan.span, self.push)

    # --- the other joins ---

    def _outer(self, plan: Join, predicates: Predicates) -> Plan:
        left_count = len(plan.left.types)
        left_side = frozenset(range(left_count))
        right_side = frozenset(range(left_count, left_count + len(plan.right.types)))
        if plan.kind == "left" and any(rejects_nulls(predicate, right_side) for predicate in predicates):
            return self._inner(replace(plan, kind="inner"), predicates)
        keys, left_on, right_on, residual = _on(plan, left_side, right_side)
        left_down: Predicates = ()
        right_down: Predicates = ()
        rest = predicates
        match plan.kind:
            case "left" | "single" | "mark":
                left_down, rest = _split(predicates, left_side)
            case "semi" | "anti":
                left_down, rest = _split(predicates, left_side, is_all_kept=False)
            case "right":
                right_down, rest = _split(predicates, right_side)
        left = self.push(plan.left, (*left_on, *left_down))
        right = self.push(plan.right, shift((*right_on, *right_down), -left_count))
        return filtered(
            replace(plan, left=left, right=right, keys=keys, residual=conjunction(residual)), rest
        )


def _on(plan: Join, left_side: frozenset[int], right_side: frozenset[int]) -> tuple[
    tuple[JoinKey, ...], Predicates, Predicates, Predicates
]:  # fmt: skip
    """Split a join's condition: keys, what is asked of the left rows alone, of the right rows alone, the residual.

    A side whose unmatched rows appear in the output keeps its rows; a mark join's condition may be unknown.
    """
    keys = list(plan.keys)
    left_on: list[Expr] = []
    right_on: list[Expr] = []
    residual: list[Expr] = []
    for predicate in conjuncts([plan.residual]):
        used = refs(predicate)
        key = as_key(predicate, left_side, right_side)
        if key is not None:
            keys.append(replace(key, right=shift(key.right, -len(left_side))))
        elif (
            used
            and used <= right_side
            and plan.kind in {"left", "single", "semi", "anti"}
            and cannot_fail(predicate)
        ):
            right_on.append(predicate)
        elif used and used <= left_side and plan.kind in {"right", "semi"} and cannot_fail(predicate):
            left_on.append(predicate)
        else:
            residual.append(predicate)
    return tuple(keys), tuple(left_on), tuple(right_on), tuple(residual)


def _split(
    predicates: Predicates, below: frozenset[int], *, is_all_kept: bool = True
) -> tuple[Predicates, Predicates]:
    """Return the predicates that go down, being on the columns `below` alone, and those that stay.

    `is_all_kept`: each of those columns' values below is there above, too.
    """
    down: list[Expr] = []
    rest: list[Expr] = []
    for predicate in predicates:
        used = refs(predicate)
        is_safe = cannot_fail(predicate) or (is_all_kept and not rest)
        (down if used and used <= below and is_safe else rest).append(predicate)
    return tuple(down), tuple(rest)


def _columns(expressions: Predicates) -> frozenset[int]:
    return frozenset(expression.index for expression in expressions if isinstance(expression, Ref))
