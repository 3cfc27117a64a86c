"""Fewer nodes: projects over projects, filters over filters and unions of unions become one.

A project is merged into what reads it where that computes nothing twice: where it only picks columns and constants,
or where it has one reader, who uses each of its other expressions at most once. Nodes that are shared stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bourne.sql.plan import Aggregate, Expr, Filter, Literal, Plan, Project, Ref, Union, children
from bourne.sql.rules.tree import IsShared, conjuncts, occurrences, project, rewrite, substitute


def simplify(plan: Plan) -> Plan:
    """Merge what can be merged."""
    return rewrite(plan, _merge)


def _merge(node: Plan, is_shared: IsShared) -> Plan:
    match node:
        case Project(child=child, expressions=outer):
            if project(child, outer) is child:
                return child
            if isinstance(child, Project) and _is_cheap(
                child.expressions, outer, is_once=not is_shared(child)
            ):
                return project(child.child, substitute(outer, child.expressions))
        case Filter(child=child, predicates=predicates):
            if isinstance(child, Filter) and not is_shared(child):
                return Filter(child.child, conjuncts((*child.predicates, *predicates)))
            parts = conjuncts(predicates)
            if not parts:
                return child
            return node if parts == predicates else Filter(child, parts)
        case Aggregate(
            child=Project(child=below, expressions=inner), groups=groups, aggregations=aggregations
        ):
            if all(isinstance(inner[index], Ref) for index in occurrences((groups, aggregations))):
                return Aggregate(below, substitute(groups, inner), substitute(aggregations, inner), node.span)
        case Union(children=inputs):
            flat: list[Plan] = []
            for child in inputs:
                is_union = isinstance(child, Union) and not is_shared(child)
                flat.extend(children(child) if is_union else (child,))
            if len(flat) == 1:
                return flat[0]
            return node if len(flat) == len(inputs) else Union(tuple(flat))
    return node


def _is_cheap(inner: Sequence[Expr], outer: Sequence[Expr], *, is_once: bool) -> bool:
    """Say whether to put `inner` into `outer` computes no more than before."""
    uses: Counter[int] = occurrences(outer)
    return all(
        isinstance(inner[index], Ref | Literal) or (count == 1 and is_once) for index, count in uses.items()
    )
