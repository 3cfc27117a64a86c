"""Makes a failing case small: fewer steps, fewer rows, less SQL, greedily, as long as it fails.

Law: what comes out fails too, and its answer is as closed as the original's: nothing is taken out of an ORDER BY, an
OVER or a LIMIT, since that could leave ties open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from engine.query_cases import Case, CaseFailed, Database, MakeDriver, check_case, open_answer
from engine.random_changes import Contents, Row, Step

_UNTOUCHED = (exp.Order, exp.Ordered, exp.Window, exp.WindowSpec, exp.Limit, exp.Offset, exp.DataType)

Changes = list[tuple[int, str, Row, int]]  # step, relation, row, weight


def shrink_case(case: Case, make: MakeDriver, *, seconds: float = 60) -> tuple[Case, CaseFailed] | None:
    """Return a smaller case that fails, and how; None if it does not fail again."""
    failed = failure(case, make)
    if failed is None:
        return None
    end = time.monotonic() + seconds
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for rule in (_fewer_restarts, _fewer_steps, _simpler_sql, _fewer_changes, _fewer_relations):
            found: Case | None = case
            while found is not None and time.monotonic() < end:
                found = None
                for candidate in rule(case):
                    if time.monotonic() > end:
                        break
                    worse = failure(candidate, make)
                    if worse is not None and worse.kind == failed.kind:
                        case, failed, found, is_smaller = candidate, worse, candidate, True
                        break
    return case, failed


def failure(case: Case, make: MakeDriver) -> CaseFailed | None:
    """Return how a case fails, or None: it does not, or it is none (rows less than none, no SQL, an open answer)."""
    try:
        contents = Contents(case.relations)
        for step in case.steps:
            contents.apply(step)
        with Database(case.relations) as database:
            database.describe(case.sql)
    except (ValueError, KeyError, duckdb.Error):
        return None
    try:
        check_case(case, make)
    except CaseFailed as error:
        return error if open_answer(case, shuffles=3) is None else None
    except Exception:  # noqa: BLE001  (refused, or broken in some other way: another case)
        return None
    return None


def _fewer_restarts(case: Case) -> Iterator[Case]:
    for index, how in enumerate(case.restarts):
        if how != "none":
            yield replace(case, restarts=[*case.restarts[:index], "none", *case.restarts[index + 1 :]])


def _fewer_steps(case: Case) -> Iterator[Case]:
    """Drop a step from the end, or make one of two neighbours."""
    if len(case.steps) > 1:
        yield replace(case, steps=case.steps[:-1], restarts=case.restarts[:-1])
    for index in range(len(case.steps) - 1):
        first, second = case.steps[index], case.steps[index + 1]
        names = list(dict.fromkeys([*first, *second]))
        merged: Step = {name: [*first.get(name, []), *second.get(name, [])] for name in names}
        steps = [*case.steps[:index], merged, *case.steps[index + 2 :]]
        yield replace(case, steps=steps, restarts=[*case.restarts[:index], *case.restarts[index + 1 :]])


def _fewer_changes(case: Case) -> Iterator[Case]:
    """Drop runs of changes, then single ones, each delete also together with the insert before it."""
    changes: Changes = [
        (index, name, row, weight)
        for index, step in enumerate(case.steps) for name, found in step.items() for row, weight in found
    ]  # fmt: skip
    size = len(changes) // 2
    while size > 1:
        for start in range(0, len(changes), size):
            yield _with_changes(case, changes[:start] + changes[start + size :])
        size //= 2
    for index in range(len(changes)):
        yield _with_changes(case, changes[:index] + changes[index + 1 :])
    for index, (_, name, row, weight) in enumerate(changes):
        if weight < 0:
            for before in range(index):
                if changes[before][1:3] == (name, row) and changes[before][3] > 0:
                    yield _with_changes(case, [c for i, c in enumerate(changes) if i not in (before, index)])


def _with_changes(case: Case, changes: Changes) -> Case:
    steps: list[dict[str, list[tuple[Row, int]]]] = [{} for _ in case.steps]
    for index, name, row, weight in changes:
        steps[index].setdefault(name, []).append((row, weight))
    return replace(case, steps=steps)


def _fewer_relations(case: Case) -> Iterator[Case]:
    """Drop a relation that the SQL does not read (else it does not bind)."""
    for name in case.relations:
        relations = {n: r for n, r in case.relations.items() if n != name}
        steps = [{n: c for n, c in step.items() if n != name} for step in case.steps]
        yield replace(case, relations=relations, steps=steps)


def _simpler_sql(case: Case) -> Iterator[Case]:
    for sql in sorted(set(simpler(case.sql)), key=len):
        if len(sql) < len(case.sql):
            yield replace(case, sql=sql)


def simpler(sql: str) -> Iterator[str]:
    """Yield SQL with one optional part less, or with a part in the place of the whole; some of it may not bind."""
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return
    for index, node in enumerate(tree.walk()):
        if isinstance(node, _UNTOUCHED) or node.find_ancestor(*_UNTOUCHED):
            continue
        for edit in _edits(node):
            copy = tree.copy()
            target = next(n for i, n in enumerate(copy.walk()) if i == index)
            try:
                changed = edit(target)
                yield (copy if changed is None else changed).sql(dialect="duckdb")
            except Exception:  # noqa: BLE001  (no SQL any more, which sqlglot says in many ways)
                continue


Edit = Callable[[exp.Expression], "exp.Expression | None"]


def _edits(node: exp.Expression) -> Iterator[Edit]:
    """Yield ways to edit a node in place; one that replaces the root returns the new root."""
    for key, value in node.args.items():
        if key in ("order", "limit", "offset", "window"):
            continue
        if isinstance(value, list) and len(value) > 1:
            for position in range(len(value)):
                yield lambda target, key=key, position=position: target.set(
                    key, [part for i, part in enumerate(target.args[key]) if i != position]
                )
        if value and not node.arg_types.get(key, True):
            yield lambda target, key=key: target.set(key, None)
        for position, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, exp.Condition) and isinstance(node, exp.Condition):
                yield lambda target, key=key, position=position: _hoist(target, key, position)
    if isinstance(node, exp.Query):
        for position, inner in enumerate(node.find_all(exp.Query)):
            if inner is not node:
                yield lambda target, position=position: _replace(
                    target, list(target.find_all(exp.Query))[position]
                )


def _hoist(target: exp.Expression, key: str, position: int) -> exp.Expression | None:
    value = target.args[key]
    return _replace(target, value[position] if isinstance(value, list) else value)


def _replace(target: exp.Expression, part: exp.Expression) -> exp.Expression | None:
    if target.parent is None:
        return part.copy()
    target.replace(part.copy())
    return None
