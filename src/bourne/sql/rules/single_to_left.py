"""A scalar subquery that cannot find two rows for one need not count them: its single join is a left join."""

from __future__ import annotations

from dataclasses import replace

from bourne.sql.plan import Join, Plan
from bourne.sql.rules.lineage import is_unique
from bourne.sql.rules.tree import IsShared, rewrite


def single_to_left(plan: Plan) -> Plan:
    """Replace single joins whose right keys are unique."""
    return rewrite(plan, _loosen)


def _loosen(node: Plan, _: IsShared) -> Plan:
    if (
        isinstance(node, Join)
        and node.kind == "single"
        and is_unique(node.right, [k.right for k in node.keys])
    ):
        return replace(node, kind="left")
    return node
