"""Walking and rebuilding plans and expressions: what every rule needs.

Invariant: sharing is kept. A node with two parents is rewritten once and stays one object; a node whose children
did not change stays the same object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from bourne.sql.plan import (
    AsOf,
    Call,
    Expr,
    Filter,
    Join,
    Literal,
    Logic,
    Plan,
    Project,
    Ref,
    Union,
    children,
    nodes,
)

T = TypeVar("T")

IsShared = Callable[[Plan], bool]

TRUE = Literal("true", "BOOLEAN")
FALSE = Literal("false", "BOOLEAN")


# --- plans ---


def rewrite(plan: Plan, rule: Callable[[Plan, IsShared], Plan]) -> Plan:
    """Apply a rule to every node once, children first.

    The rule gets a node over children that are rewritten already, and whom to ask whether such a child has more readers.
    """
    several = shared(plan)
    fixed: set[int] = set()  # the shared nodes' ids after they were rewritten
    done: dict[int, Plan] = {}
    for node in nodes(plan):
        rebuilt = with_children(node, [done[id(child)] for child in children(node)])
        done[id(node)] = rule(rebuilt, lambda child: id(child) in fixed)
        if id(node) in several:
            fixed.add(id(done[id(node)]))
    return done[id(plan)]


def with_children(plan: Plan, inputs: Sequence[Plan]) -> Plan:
    """Return the node over other children; the node itself if they are the ones that it has."""
    if all(old is new for old, new in zip(children(plan), inputs, strict=True)):
        return plan
    if isinstance(plan, Join | AsOf):
        return replace(plan, left=inputs[0], right=inputs[1])
    if isinstance(plan, Union):
        return Union(tuple(inputs))
    return replace(plan, child=inputs[0])  # type: ignore[arg-type]


def shared(plan: Plan) -> frozenset[int]:
    """Return the ids of the nodes that are read more than once."""
    reads = Counter(id(child) for node in nodes(plan) for child in children(node))
    return frozenset(node for node, count in reads.items() if count > 1)


def columns(plan: Plan) -> tuple[Expr, ...]:
    """Return a reference to each output column."""
    return tuple(Ref(index, kind) for index, kind in enumerate(plan.types))


def project(plan: Plan, expressions: Sequence[Expr]) -> Plan:
    """Return the expressions over the plan; the plan itself if they are its columns as they are."""
    return plan if tuple(expressions) == columns(plan) else Project(plan, tuple(expressions))


def filtered(plan: Plan, predicates: Sequence[Expr]) -> Plan:
    """Return the plan's rows for which the predicates are true; the plan itself without any."""
    return Filter(plan, tuple(predicates)) if predicates else plan


def is_same(first: Plan, second: Plan) -> bool:
    """Say whether two plans are the same graph of the same nodes."""
    return _described(first) == _described(second)


def _described(plan: Plan) -> list[tuple[object, ...]]:
    numbers: dict[int, int] = {}
    found: list[tuple[object, ...]] = []
    for node in nodes(plan):
        numbers[id(node)] = len(numbers)
        own = [
            getattr(node, f.name)
            for f in fields(node)
            if f.name not in {"child", "children", "left", "right"}
        ]
        found.append((type(node), *own, *(numbers[id(child)] for child in children(node))))
    return found


# --- expressions, and whatever holds some: orders, aggregations, window functions, join keys ---


def replace_refs(part: T, change: Callable[[Ref], Expr]) -> T:
    """Return the part with every column reference in it replaced."""
    changed: Any = part
    if isinstance(part, Ref):
        changed = change(part)
    elif isinstance(part, tuple):
        items = tuple(replace_refs(item, change) for item in part)
        changed = part if all(a is b for a, b in zip(items, part, strict=True)) else items
    elif is_dataclass(part) and not isinstance(part, type):
        values = {f.name: getattr(part, f.name) for f in fields(part)}
        after = {name: replace_refs(value, change) for name, value in values.items()}
        if any(after[name] is not values[name] for name in values):
            changed = replace(part, **after)
    result: T = changed
    return result


def replace_parts(part: T, change: Callable[[Any], Expr | None]) -> T:
    """Return the part with each expression in it replaced for which `change` gives another one."""
    changed: Any = change(part)
    if changed is not None:
        pass
    elif isinstance(part, tuple):
        changed = tuple(replace_parts(item, change) for item in part)
    elif is_dataclass(part) and not isinstance(part, type):
        changed = replace(
            part, **{f.name: replace_parts(getattr(part, f.name), change) for f in fields(part)}
        )
    else:
        changed = part
    result: T = changed
    return result


def unplaced(part: T) -> T:
    """Return the part without its places in the text: two parts that mean the same are equal then."""
    changed: Any = part
    if isinstance(part, tuple):
        changed = tuple(unplaced(item) for item in part)
    elif is_dataclass(part) and not isinstance(part, type):
        values = {f.name: getattr(part, f.name) for f in fields(part)}
        changed = replace(
            part, **{name: None if name == "span" else unplaced(value) for name, value in values.items()}
        )
    result: T = changed
    return result


def substitute(part: T, expressions: Sequence[Expr]) -> T:
    """Return the part with column i replaced by expression i."""
    return replace_refs(part, lambda ref: expressions[ref.index])


def renumber(part: T, places: Mapping[int, int]) -> T:
    """Return the part with column i called column `places[i]`."""
    return replace_refs(
        part, lambda ref: ref if places[ref.index] == ref.index else Ref(places[ref.index], ref.type)
    )


def shift(part: T, by: int) -> T:
    """Return the part with every column number larger by `by`."""
    return replace_refs(part, lambda ref: Ref(ref.index + by, ref.type))


def occurrences(part: object) -> Counter[int]:
    """Return how often the part refers to each column."""
    found: Counter[int] = Counter()

    def note(ref: Ref) -> Expr:
        found[ref.index] += 1
        return ref

    replace_refs(part, note)
    return found


def refs(part: object) -> frozenset[int]:
    """Return the numbers of the columns that the part refers to."""
    return frozenset(occurrences(part))


def conjuncts(predicates: Iterable[Expr | None]) -> tuple[Expr, ...]:
    """Return the parts of the predicates that are joined by AND, in order; none for None and for TRUE."""
    found: list[Expr] = []
    for predicate in predicates:
        if isinstance(predicate, Logic) and predicate.word == "AND":
            found.extend(conjuncts(predicate.arguments))
        elif predicate is not None and predicate != TRUE:
            found.append(predicate)
    return tuple(found)


def conjunction(predicates: Sequence[Expr]) -> Expr | None:
    """Return the predicates joined by AND; None for none."""
    if len(predicates) <= 1:
        return predicates[0] if predicates else None
    return Logic("AND", tuple(predicates))


def equality(left: Expr, right: Expr, *, is_null_safe: bool = False) -> Call:
    """Return `left = right` or `left IS NOT DISTINCT FROM right`."""
    word = "IS NOT DISTINCT FROM" if is_null_safe else "="
    return Call(word, (left, right), ("", ""), "BOOLEAN", None)
