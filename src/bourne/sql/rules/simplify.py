"""Fewer nodes: projects over projects, filters over filters and unions of unions become one.

A project is merged into what reads it where that computes nothing twice: where it only picks columns and constants,
or where it has one reader, who uses each of its other expressions at most once. Nodes that are shared stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bourne.sql.plan import Aggregate, Expr, Filter, Literal, Plan, Project, Ref, Union, children, nodes
from bourne.sql.rules.tree import conjuncts, occurrences, project, shared, substitute, with_children


def simplify(plan: Plan) -> Plan:
    """Merge what can be merged."""
    several = shared(plan)
    fixed: set[int] = set()  # the shared nodes' ids after they were rewritten
    done: dict[int, Plan] = {}
    for node in nodes(plan):
        merged = _merge(with_children(node, [done[id(child)] for child in children(node)]), fixed)
        done[id(node)] = merged
        if id(node) in several:
            fixed.add(id(merged))
    return done[id(plan)]


def _merge(node: Plan, fixed: set[int]) -> Plan:
    match node:
        case Project(child=child, expressions=outer):
            if project(child, outer) is child:
                return child
            if isinstance(child, Project) and _is_cheap(
                child.expressions, outer, is_shared=id(child) in fixed
            ):
                return project(child.child, substitute(outer, child.expressions))
        case Filter(child=child, predicates=predicates):
            if isinstance(child, Filter) and id(child) not in fixed:
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
                is_union = isinstance(child, Union) and id(child) not in fixed
                flat.extend(children(child) if is_union else (child,))
            if len(flat) == 1:
                return flat[0]
            return node if len(flat) == len(inputs) else Union(tuple(flat))
    return node


def _is_cheap(inner: Sequence[Expr], outer: Sequence[Expr], *, is_shared: bool) -> bool:
    """Say whether to put `inner` into `outer` computes no more than before."""
    uses: Counter[int] = occurrences(outer)
    return all(
        isinstance(inner[index], Ref | Literal) or (count == 1 and not is_shared)
        for index, count in uses.items()
    )
