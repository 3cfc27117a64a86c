"""A correlated subquery is joined to the outer rows themselves, not to the distinct outer values first.

DuckDB joins what a subquery reads to D, the distinct values of the outer columns that it uses, and the result back to
the outer rows L, on those columns of D. Where all that happens to D is a join, it can happen to L.

Law 1, for a join of L with P, the inner join of D with R on a condition c(D, R): D is distinct and has the columns of
every row of L, so each row of L meets exactly one row d of D in the join back, and that d has its own values. So the
rows of P that it meets are one for each row of R for which c(its own values, R) is true: a join of L with R on c.
This holds for every kind of join that is about a left row's matches. It is done where `c` or the join have a key left.

Law 2, for P that adds to each row of D columns of left joins: L with the same columns added, if the join back is inner
or left; also if it is single and none of those joins finds two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bourne.sql.plan import Aggregate, Case, Expr, Join, JoinKey, Literal, Plan, Project, Ref, Test
from bourne.sql.rules.inner_joins import InnerJoin, as_key, flatten
from bourne.sql.rules.lineage import comes_from, is_unique
from bourne.sql.rules.order_joins import order_joins
from bourne.sql.rules.tree import (
    TRUE,
    IsShared,
    columns,
    conjunction,
    conjuncts,
    equality,
    project,
    refs,
    replace_refs,
    rewrite,
    shift,
    substitute,
    unplaced,
)


def undo_delim(plan: Plan) -> Plan:
    """Join to the outer rows wherever one of the two laws says so; leave the rest as it is, which is right, too."""
    return rewrite(plan, _undo)


def _undo(node: Plan, is_shared: IsShared) -> Plan:
    if not isinstance(node, Join) or node.kind in {"right", "full"} or is_shared(node.right):
        return node
    return _joined(node, is_shared) or _extended(node, is_shared) or node


def _outer_values(join: Join, distinct: Plan, places: dict[int, int]) -> dict[int, Expr] | None:
    """Return for each column of D the expression over L that it equals, if D is what we think it is.

    `places` has the columns of P that are columns of D.
    """
    base = distinct
    groups = columns(distinct)
    while isinstance(base, Project):
        groups, base = substitute(groups, base.expressions), base.child
    if not isinstance(base, Aggregate) or base.aggregations or set(groups) != set(columns(base)):
        return None
    values: dict[int, Expr] = {}
    for key in join.keys:
        if key.is_null_safe and isinstance(key.right, Ref) and key.right.index in places:
            values.setdefault(places[key.right.index], key.left)
    if len(values) < len(groups):
        return None
    source, wanted = base.child, substitute(groups, base.groups)
    while isinstance(source, Project):
        wanted, source = substitute(wanted, source.expressions), source.child
    found = comes_from(join.left, tuple(values[i] for i in range(len(groups))), source)
    return values if unplaced(found) == unplaced(wanted) else None


# --- law 1 ---


@dataclass(frozen=True, slots=True)
class _Split:
    """P without D: the other inputs as one plan, and what P's expressions are over L's and that plan's columns."""

    rest: Plan
    conditions: tuple[Expr, ...]  # those that are about D
    over_pair: Callable[[Expr], Expr]


def _joined(join: Join, is_shared: IsShared) -> Plan | None:
    if join.kind == "mark":  # with conditions it would only become a join with distinct values again
        return None
    top = join.right
    outputs = columns(top)
    if isinstance(top, Project):
        outputs, top = top.expressions, top.child
        if is_shared(top):
            return None
    inner = flatten(top, is_shared)
    outputs = substitute(outputs, inner.outputs)
    start = 0
    for distinct in inner.inputs if len(inner.inputs) > 1 else ():
        end = start + len(distinct.types)
        places = {
            i: part.index - start
            for i, part in enumerate(outputs)
            if isinstance(part, Ref) and start <= part.index < end
        }
        values = _outer_values(join, distinct, places)
        split = _split(inner, distinct, start, values, len(join.left.types)) if values else None
        plan = _rejoined(join, split, outputs) if split is not None else None
        if plan is not None:
            return plan
        start = end
    return None


def _split(
    inner: InnerJoin, distinct: Plan, start: int, values: dict[int, Expr], width: int
) -> _Split | None:
    """Take D out of P. None if nothing but D connects the other inputs."""
    end = start + len(distinct.types)
    gone = frozenset(range(start, end))
    others = tuple(plan for plan in inner.inputs if plan is not distinct)
    if len(others) + 1 < len(inner.inputs):
        return None

    def without(ref: Ref) -> Expr:
        return ref if ref.index < start else Ref(ref.index - (end - start), ref.type)

    def over_pair(expression: Expr) -> Expr:
        return replace_refs(
            expression,
            lambda ref: values[ref.index - start] if ref.index in gone else shift(without(ref), width),
        )

    alone = tuple(
        replace_refs(predicate, without) for predicate in inner.predicates if not refs(predicate) & gone
    )
    types = [kind for plan in others for kind in plan.types]
    outputs = tuple(Ref(i, kind) for i, kind in enumerate(types))
    product = InnerJoin(others, alone, outputs)
    if not _is_connected(product):
        return None
    conditions = tuple(over_pair(predicate) for predicate in inner.predicates if refs(predicate) & gone)
    return _Split(order_joins(product, None), conditions, over_pair)


def _is_connected(inner: InnerJoin) -> bool:
    """Say whether keys lead from the first input to all others."""
    sides: list[frozenset[int]] = []
    for plan in inner.inputs:
        start = sum(map(len, sides))
        sides.append(frozenset(range(start, start + len(plan.types))))
    reached, waiting = sides[0], sides[1:]
    while waiting:
        found = [s for s in waiting if any(as_key(predicate, reached, s) for predicate in inner.predicates)]
        if not found:
            return False
        reached = reached.union(*found)
        waiting = [side for side in waiting if side not in found]
    return True


def _rejoined(join: Join, split: _Split, outputs: Sequence[Expr]) -> Plan | None:
    """Join L with the rest of P. None if no key is left."""
    width = len(join.left.types)
    sides = frozenset(range(width)), frozenset(range(width, width + len(split.rest.types)))
    pair = (*columns(join.left), *map(split.over_pair, outputs))
    asked = list(split.conditions)
    for key in join.keys:
        right = substitute(key.right, pair[width:])
        if not (key.is_null_safe and unplaced(right) == unplaced(key.left)):  # not d's own value again
            asked.append(equality(key.left, right, is_null_safe=key.is_null_safe))
    if join.residual is not None:
        asked += conjuncts([substitute(join.residual, pair)])
    keys: list[JoinKey] = []
    residual: list[Expr] = []
    for predicate in asked:
        key_or_none = as_key(predicate, *sides)
        if key_or_none is None:
            residual.append(predicate)
        else:
            keys.append(replace(key_or_none, right=shift(key_or_none.right, -width)))
    if not keys:
        return None
    rejoined = replace(join, right=split.rest, keys=tuple(keys), residual=conjunction(residual))
    match join.kind:
        case "semi" | "anti":
            return rejoined
        case "inner":
            return project(rejoined, pair)
        case _:
            return _padded(rejoined, pair)


def _padded(join: Join, pair: Sequence[Expr]) -> Plan:
    """Return `pair` over a left join: NULL after the left columns where there was no match."""
    width = len(join.left.types)
    flagged = project(join.right, (*columns(join.right), TRUE))
    is_match = Test("IS NOT NULL", (Ref(width + len(join.right.types), "BOOLEAN"),), "BOOLEAN")
    outputs = list(pair[:width])
    for part in pair[width:]:
        is_right = isinstance(part, Ref) and part.index >= width
        null = Literal(f"NULL::{part.type}", part.type)
        outputs.append(part if is_right else Case(((is_match, part),), null, part.type))
    return project(replace(join, right=flagged), outputs)


# --- law 2 ---


def _extended(join: Join, is_shared: IsShared) -> Plan | None:
    if join.kind not in {"inner", "left", "single"} or join.residual is not None:
        return None
    spine: list[Join | Project] = []
    node = join.right
    while not isinstance(node, Aggregate) and (node is join.right or not is_shared(node)):
        match node:
            case Project(child=child):
                spine.append(node)
                node = child
            case Join(kind="left", left=left, right=right, keys=keys):
                if join.kind == "single" and not is_unique(right, [key.right for key in keys]):
                    return None
                spine.append(node)
                node = left
            case _:
                return None
    traced = {i: _column_of(join.right, i, node) for i in range(len(join.right.types))}
    values = _outer_values(join, node, {i: column for i, column in traced.items() if column is not None})
    if not values or len(join.keys) != len(values):
        return None
    plan: Plan = join.left
    found: tuple[Expr, ...] = tuple(values[i] for i in range(len(values)))
    for above in reversed(spine):
        if isinstance(above, Project):
            found = substitute(above.expressions, found)
        else:
            added = shift(columns(above.right), len(plan.types))
            keys = tuple(replace(key, left=substitute(key.left, found)) for key in above.keys)
            residual = substitute(above.residual, (*found, *added))
            plan = replace(above, left=plan, keys=keys, residual=residual)
            found = (*found, *added)
    return project(plan, (*columns(join.left), *found))


def _column_of(plan: Plan, column: int, distinct: Plan) -> int | None:
    """Return the column of D that a column of P is, down the left sides of joins."""
    while plan is not distinct:
        match plan:
            case Project(child=child, expressions=expressions):
                part = expressions[column]
                if not isinstance(part, Ref):
                    return None
                column, plan = part.index, child
            case Join(left=left) if column < len(left.types):
                plan = left
            case _:
                return None
    return column
