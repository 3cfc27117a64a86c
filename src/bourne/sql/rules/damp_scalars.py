"""A single row that every row is joined to, computed from an aggregate, is passed on only when it changes.

`WHERE EXISTS (SELECT … FROM b)` asks whether count(*) of b is not 0: the count changes with every step, the answer
hardly ever, and each change of it is joined to all rows. DISTINCT of a single row is that row, and lets nothing out
that takes a row back and gives it again. Not where values can be equal without being the same, as 0.0 and -0.0: DISTINCT
would go on with the first.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bourne.sql.plan import Aggregate, Filter, Join, Plan, Project, Ref
from bourne.sql.rules.tree import IsShared, columns, rewrite

# Types with values that are equal but not the same, also inside of lists and structs.
_LOOSE = r"\b(FLOAT|DOUBLE|INTERVAL)\b"


def damp_scalars(plan: Plan) -> Plan:
    """Put a DISTINCT on each computed single row that is joined without keys."""
    return rewrite(plan, _damp)


def _damp(node: Plan, _: IsShared) -> Plan:
    if isinstance(node, Join) and not node.keys:
        left, right = _steady(node.left), _steady(node.right)
        if left is not node.left or right is not node.right:
            return replace(node, left=left, right=right)
    return node


def _steady(plan: Plan) -> Plan:
    below, is_computed = plan, False
    while isinstance(below, Project | Filter):
        if isinstance(below, Filter) or not all(isinstance(part, Ref) for part in below.expressions):
            is_computed = True
        below = below.child
    is_plain = all(not re.search(_LOOSE, spelled) for spelled in plan.types)
    if is_computed and is_plain and isinstance(below, Aggregate) and not below.groups:
        return Aggregate(plan, columns(plan), ())
    return plan
