"""A tree of inner joins is built anew, so that each join has keys wherever the predicates give it some.

Greedy: the first pair of inputs that an equality connects is joined, and the result takes the first one's place. The
order that the user wrote is kept where it has keys; only what nothing connects becomes a cross product, last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from bourne.errors import Span
from bourne.sql.plan import Expr, Join, JoinKey, Plan
from bourne.sql.rules.inner_joins import InnerJoin, as_key
from bourne.sql.rules.totality import cannot_fail
from bourne.sql.rules.tree import conjunction, filtered, project, refs, renumber


@dataclass(frozen=True, slots=True)
class _Part:
    """Some inputs, joined. `columns` are its output columns' numbers among those of all inputs."""

    plan: Plan
    columns: tuple[int, ...]

    @property
    def places(self) -> dict[int, int]:
        return {column: place for place, column in enumerate(self.columns)}


def order_joins(
    join: InnerJoin, span: Span | None, push: Callable[[Plan, tuple[Expr, ...]], Plan] = filtered
) -> Plan:
    """Return a plan for the join; `push(input, predicates)` filters one input.

    What is no key and may fail is asked last, in its order.
    """
    parts: list[_Part] = []
    for plan in join.inputs:
        start = sum(len(part.columns) for part in parts)
        parts.append(_Part(plan, tuple(range(start, start + len(plan.types)))))
    own: list[list[Expr]] = [[] for _ in parts]
    waiting: list[Expr] = []
    for predicate in join.predicates:
        used = refs(predicate)
        homes = [home for home, part in enumerate(parts) if used and used <= set(part.columns)]
        if homes and cannot_fail(predicate):
            own[homes[0]].append(renumber(predicate, parts[homes[0]].places))
        else:
            waiting.append(predicate)
    parts = [
        _Part(push(part.plan, tuple(asked)), part.columns) for part, asked in zip(parts, own, strict=True)
    ]
    while len(parts) > 1:
        first, second = _next_pair(parts, waiting)
        joined, waiting = _join(parts[first], parts[second], waiting, span)
        parts[first] = joined
        del parts[second]
    whole = parts[0]
    rest = [renumber(predicate, whole.places) for predicate in waiting]
    return project(filtered(whole.plan, rest), [renumber(output, whole.places) for output in join.outputs])


def _next_pair(parts: Sequence[_Part], predicates: Sequence[Expr]) -> tuple[int, int]:
    """Return the first two parts that a key connects; the first two if there are none."""
    for first, second in combinations(range(len(parts)), 2):
        sides = frozenset(parts[first].columns), frozenset(parts[second].columns)
        if any(as_key(predicate, *sides) for predicate in predicates):
            return first, second
    return 0, 1


def _join(
    left: _Part, right: _Part, predicates: Sequence[Expr], span: Span | None
) -> tuple[_Part, list[Expr]]:
    """Join two parts by all predicates that can be asked now; return the others, too."""
    both = _Part(left.plan, left.columns + right.columns)
    keys: list[JoinKey] = []
    residual: list[Expr] = []
    waiting: list[Expr] = []
    for predicate in predicates:
        key = as_key(predicate, frozenset(left.columns), frozenset(right.columns))
        if key is not None:
            keys.append(JoinKey(renumber(key.left, left.places), renumber(key.right, right.places),
                                key.is_null_safe))  # fmt: skip
        elif refs(predicate) and refs(predicate) <= set(both.columns) and cannot_fail(predicate):
            residual.append(renumber(predicate, both.places))
        else:
            waiting.append(predicate)
    plan = Join("inner", left.plan, right.plan, tuple(keys), conjunction(residual), span)
    return _Part(plan, both.columns), waiting
