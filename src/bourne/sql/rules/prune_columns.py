"""Columns that nobody reads are not computed, not joined and not kept.

First every node learns which of its columns some parent reads; then the plan is rebuilt from the leaves, each node
with those columns only. Invariant: rows count even where no column does, so every node keeps at least one column,
a narrow one; groups always stay, as they decide how many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bourne.sql.plan import (
    Aggregate,
    AsOf,
    Filter,
    Get,
    Join,
    JoinKey,
    Plan,
    Project,
    Ref,
    Session,
    Temporal,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    nodes,
)
from bourne.sql.rules.tree import project, refs, renumber

Columns = frozenset[int]

_WIDTHS = {"BOOLEAN": 1, "TINYINT": 1, "UTINYINT": 1, "SMALLINT": 2, "USMALLINT": 2, "INTEGER": 4, "UINTEGER": 4,
           "FLOAT": 4, "DATE": 4, "BIGINT": 8, "UBIGINT": 8, "DOUBLE": 8, "TIMESTAMP": 8, "TIME": 8}  # fmt: skip


def prune_columns(plan: Plan) -> Plan:
    """Drop unread columns. The plan's own output stays as it is."""
    needed = _needed(plan)
    done: dict[int, tuple[Plan, tuple[int, ...]]] = {}
    for node in nodes(plan):
        done[id(node)] = _rebuild(node, needed[id(node)], done)
    return _with(*done[id(plan)], range(len(plan.types)), plan)


# --- what is read ---


def _needed(plan: Plan) -> dict[int, Columns]:
    """Return for each node the columns that its parents read, and one if they read none."""
    needed: dict[int, Columns] = {id(plan): frozenset(range(len(plan.types)))}
    for node in reversed(nodes(plan)):  # parents before children
        wanted = needed.setdefault(id(node), frozenset()) or _narrowest(node)
        needed[id(node)] = wanted
        for child, columns in _reads(node, wanted):
            needed[id(child)] = needed.get(id(child), frozenset()) | columns
    return needed


def _narrowest(plan: Plan) -> Columns:
    """Return the column that costs least to keep; one that is computed only if there is no other."""
    match plan:
        case Window(child=child) | Unnest(child=child):
            types = child.types or plan.types
        case Aggregate(groups=groups):
            types = tuple(group.type for group in groups) or plan.types
        case _:
            types = plan.types
    widths = [_WIDTHS.get(kind, 16) for kind in types]
    return frozenset([widths.index(min(widths))]) if widths else frozenset()


def _reads(node: Plan, wanted: Columns) -> list[tuple[Plan, Columns]]:
    """Return the columns that a node reads of each child, to give the wanted ones."""
    match node:
        case Get() | Values():
            return []
        case Project(child=child, expressions=expressions):
            return [(child, refs(tuple(expressions[i] for i in wanted)))]
        case Filter(child=child, predicates=predicates):
            return [(child, wanted | refs(predicates))]
        case Temporal(child=child, tests=tests):
            return [(child, wanted | refs(tests))]
        case Unnest(child=child, lists=lists):
            return [(child, frozenset(i for i in wanted if i < len(child.types)) | refs(lists))]
        case Aggregate(child=child, groups=groups, aggregations=aggregations):
            used = tuple(a for i, a in enumerate(aggregations, len(groups)) if i in wanted)
            return [(child, refs((groups, used)))]
        case Window(child=child, functions=functions):
            count = len(child.types)
            used_functions = tuple(f for i, f in enumerate(functions, count) if i in wanted)
            return [(child, frozenset(i for i in wanted if i < count) | refs(used_functions))]
        case TopN(child=child, partitions=partitions, orders=orders):
            return [(child, wanted | refs((partitions, orders)))]
        case Session(child=child, keys=parts, time=time):
            return [(child, frozenset(i for i in wanted if i < len(child.types)) | refs((parts, time)))]
        case Union(children=inputs):
            return [(child, wanted) for child in inputs]
        case AsOf(left=left, right=right, keys=keys):
            count = len(left.types)
            on_left = frozenset(i for i in wanted if i < count) | refs(node.left_time)
            on_right = frozenset(i - count for i in wanted if i >= count) | refs(node.right_time)
            return [
                (left, on_left | refs(tuple(key.left for key in keys))),
                (right, on_right | refs(tuple(key.right for key in keys))),
            ]
        case Join(left=left, right=right, keys=keys, residual=residual):
            count = len(left.types)
            both = wanted | refs(residual)
            on_left = frozenset(i for i in both if i < count)
            has_right = node.kind not in {"semi", "anti", "mark"}
            on_right = frozenset(i - count for i in (both if has_right else refs(residual)) if i >= count)
            return [
                (left, on_left | refs(tuple(key.left for key in keys))),
                (right, on_right | refs(tuple(key.right for key in keys))),
            ]


# --- rebuilding ---

# The rebuilt nodes by the old ones' ids, each with the old columns that it still has, in order.
Done = dict[int, tuple[Plan, tuple[int, ...]]]


def _rebuild(node: Plan, wanted: Columns, done: Done) -> tuple[Plan, tuple[int, ...]]:
    """Return the node with fewer columns, and which of its old ones those are, in order."""
    kept = tuple(sorted(wanted))
    match node:
        case Get(relation=relation, columns=names, types=types):
            return Get(relation, tuple(names[i] for i in kept), tuple(types[i] for i in kept)), kept
        case Values(rows=rows, types=types):
            return Values(
                tuple(tuple(row[i] for i in kept) for row in rows), tuple(types[i] for i in kept)
            ), kept
        case Project(child=child, expressions=expressions):
            below, places = _child(child, done)
            return Project(below, renumber(tuple(expressions[i] for i in kept), places)), kept
        case Filter(child=child, predicates=predicates):
            below, places = _child(child, done)
            return Filter(below, renumber(predicates, places)), tuple(places)
        case Temporal(child=child, tests=tests):
            ((_, columns),) = _reads(node, wanted)
            below, places = _narrow(child, columns, done)
            return Temporal(below, renumber(tests, places)), tuple(places)
        case Unnest(child=child, lists=lists):
            below, places = _child(child, done)
            elements = range(len(child.types), len(node.types))
            return replace(node, child=below, lists=renumber(lists, places)), (*places, *elements)
        case Aggregate(child=child, groups=groups, aggregations=aggregations):
            below, places = _child(child, done)
            used = [i for i in range(len(aggregations)) if i + len(groups) in wanted]
            functions = tuple(renumber(aggregations[i], places) for i in used)
            rebuilt = Aggregate(below, renumber(groups, places), functions, node.span)
            return rebuilt, (*range(len(groups)), *(i + len(groups) for i in used))
        case Window(child=child, functions=window_functions):
            ((_, columns),) = _reads(node, wanted)
            below, places = _narrow(child, columns, done)
            count = len(child.types)
            used = [i for i in range(len(window_functions)) if i + count in wanted]
            if not used:
                return below, tuple(places)
            overs = tuple(renumber(window_functions[i], places) for i in used)
            return Window(below, overs), (*places, *(i + count for i in used))
        case TopN(child=child, partitions=partitions, orders=orders):
            ((_, columns),) = _reads(node, wanted)
            below, places = _narrow(child, columns, done)
            partitions, orders = renumber((partitions, orders), places)
            return replace(node, child=below, partitions=partitions, orders=orders), tuple(places)
        case Session(child=child, keys=parts, time=time):
            below, places = _child(child, done)
            parts, time = renumber((parts, time), places)
            ends = range(len(child.types), len(node.types))
            return replace(node, child=below, keys=parts, time=time), (*places, *ends)
        case Union(children=inputs):
            return Union(tuple(_with(*done[id(child)], kept, child) for child in inputs)), kept
        case AsOf():
            (_, left_columns), (_, right_columns) = _reads(node, wanted)
            left, left_places = _narrow(node.left, left_columns, done)
            right, right_places = _narrow(node.right, right_columns, done)
            count = len(node.left.types)
            nearest = replace(
                node, left=left, right=right, left_time=renumber(node.left_time, left_places),
                right_time=renumber(node.right_time, right_places),
                keys=_renumbered(node.keys, left_places, right_places),
            )  # fmt: skip
            return nearest, (*left_places, *(old + count for old in right_places))
        case Join():
            return _rebuild_join(node, wanted, done)


def _renumbered(
    keys: Iterable[JoinKey], lefts: Mapping[int, int], rights: Mapping[int, int]
) -> tuple[JoinKey, ...]:
    return tuple(
        replace(key, left=renumber(key.left, lefts), right=renumber(key.right, rights)) for key in keys
    )


def _rebuild_join(node: Join, wanted: Columns, done: Done) -> tuple[Plan, tuple[int, ...]]:
    (_, left_columns), (_, right_columns) = _reads(node, wanted)
    left, left_places = _narrow(node.left, left_columns, done)
    right, right_places = _narrow(node.right, right_columns, done)
    count = len(node.left.types)
    both = left_places | {old + count: new + len(left_places) for old, new in right_places.items()}
    keys = _renumbered(node.keys, left_places, right_places)
    rebuilt = replace(node, left=left, right=right, keys=keys, residual=renumber(node.residual, both))
    match node.kind:
        case "semi" | "anti":
            return rebuilt, tuple(left_places)
        case "mark":
            return rebuilt, (*left_places, count)
        case _:
            return rebuilt, tuple(both)


def _child(child: Plan, done: Done) -> tuple[Plan, dict[int, int]]:
    """Return the rebuilt child and the new place of each old column that it still has, in order."""
    plan, kept = done[id(child)]
    return plan, {old: new for new, old in enumerate(kept)}


def _narrow(child: Plan, columns: Columns, done: Done) -> tuple[Plan, dict[int, int]]:
    """Return the rebuilt child with these columns only, for a parent that keeps its rows; and their new places."""
    plan, kept = done[id(child)]
    # Reading none, it takes one of those that are there: what others read decides which.
    exact = sorted(columns) or sorted(kept, key=lambda i: _WIDTHS.get(child.types[i], 16))[:1]
    return _with(plan, kept, exact, child), {old: new for new, old in enumerate(exact)}


def _with(plan: Plan, kept: tuple[int, ...], wanted: Iterable[int], original: Plan) -> Plan:
    """Return exactly the wanted old columns of a rebuilt node."""
    return project(plan, [Ref(kept.index(i), original.types[i]) for i in wanted])
