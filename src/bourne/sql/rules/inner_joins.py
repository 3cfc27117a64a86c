"""A tree of inner joins as what it means: some inputs, predicates over all their columns, and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from bourne.sql.plan import Call, Expr, Filter, Join, JoinKey, Plan, Project, Ref
from bourne.sql.rules.tree import IsShared, columns, conjuncts, equality, refs, shift, substitute


@dataclass(frozen=True, slots=True)
class InnerJoin:
    """The rows of the product of the inputs for which the predicates are true.

    Predicates and outputs are over all columns of the inputs, one input after the other.
    """

    inputs: tuple[Plan, ...]
    predicates: tuple[Expr, ...]
    outputs: tuple[Expr, ...]


def flatten(plan: Plan, is_shared: IsShared) -> InnerJoin:
    """Read the inner joins at the top of a plan, with filters and picked columns between them, as one.

    Shared nodes below the top are inputs. A plan that is no inner join is its own only input.
    """
    inputs: list[Plan] = []
    found: list[Expr] = []

    def below(node: Plan, *, is_top: bool = False) -> tuple[Expr, ...]:
        if is_top or not is_shared(node):
            match node:
                case Join(kind="inner", left=left, right=right, keys=keys, residual=residual):
                    both = (*below(left), *below(right))
                    asked = [_as_predicate(key, len(left.types)) for key in keys]
                    found.extend(substitute(conjuncts([*asked, residual]), both))
                    return both
                case Filter(child=child, predicates=own) if _is_joined(child):
                    outputs = below(child)
                    found.extend(substitute(own, outputs))
                    return outputs
                case Project(child=child, expressions=expressions) if _is_joined(node):
                    return substitute(expressions, below(child))
        start = sum(len(known.types) for known in inputs)
        inputs.append(node)
        return shift(columns(node), start)

    outputs = below(plan, is_top=True)
    return InnerJoin(tuple(inputs), conjuncts(found), outputs)


def _is_joined(plan: Plan) -> bool:
    """Say whether the plan is an inner join, filtered or with some of its columns picked."""
    match plan:
        case Join(kind=kind):
            return kind == "inner"
        case Filter(child=child):
            return _is_joined(child)
        case Project(child=child, expressions=expressions):
            return all(isinstance(expression, Ref) for expression in expressions) and _is_joined(child)
        case _:
            return False


def _as_predicate(key: JoinKey, left_count: int) -> Expr:
    return equality(key.left, shift(key.right, left_count), is_null_safe=key.is_null_safe)


def as_key(predicate: Expr, left: frozenset[int], right: frozenset[int]) -> JoinKey | None:
    """Read an equality of one expression of each side as a join key, all columns numbered as in the predicate."""
    if not isinstance(predicate, Call) or predicate.function not in {"=", "IS NOT DISTINCT FROM"}:
        return None
    first, second = predicate.arguments
    if first.type != second.type:
        return None
    is_null_safe = predicate.function != "="
    sides = refs(first), refs(second)
    if all(sides) and sides[0] <= left and sides[1] <= right:
        return JoinKey(first, second, is_null_safe)
    if all(sides) and sides[0] <= right and sides[1] <= left:
        return JoinKey(second, first, is_null_safe)
    return None
