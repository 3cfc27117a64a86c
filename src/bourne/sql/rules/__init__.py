"""The logical plan made cheaper to maintain: each rule is one file, a pure function from plan to plan.

Law: every rule keeps the answer, whatever the rows, and the output columns. Rules keep sharing.
"""

from __future__ import annotations

from bourne.sql.plan import Plan
from bourne.sql.rules.damp_scalars import damp_scalars
from bourne.sql.rules.expand_mark import expand_mark
from bourne.sql.rules.fold_constants import fold_constants
from bourne.sql.rules.growth import append_only
from bourne.sql.rules.interval_joins import interval_joins
from bourne.sql.rules.mark_to_semi import mark_to_semi
from bourne.sql.rules.merge_functions import merge_functions
from bourne.sql.rules.prune_columns import prune_columns
from bourne.sql.rules.push_filters import push_filters
from bourne.sql.rules.simplify import simplify
from bourne.sql.rules.single_to_left import single_to_left
from bourne.sql.rules.top_n import top_n
from bourne.sql.rules.tree import is_same
from bourne.sql.rules.undo_delim import undo_delim

__all__ = ["append_only", "optimise"]

# More rounds than any plan has needed; what is left after them is right, only not as cheap as it could be.
_ROUNDS_MAX = 8

_RULES = (
    simplify,
    fold_constants,
    push_filters,
    mark_to_semi,
    undo_delim,
    single_to_left,
    merge_functions,
    top_n,
    prune_columns,
)


def optimise(plan: Plan) -> Plan:
    """Apply all rules until nothing changes."""
    return interval_joins(damp_scalars(_settled(expand_mark(_settled(plan)))))


def _settled(plan: Plan) -> Plan:
    for _ in range(_ROUNDS_MAX):
        before = plan
        for rule in _RULES:
            plan = rule(plan)
        if is_same(plan, before):
            break
    return plan
