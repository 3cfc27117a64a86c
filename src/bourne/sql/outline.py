"""A plan for people: each node as one line, its columns under the names that they have in the logs and the view.

A column that a view computes has the name that the view gives it, if it gives one; else its place: c0, c1, … Of two
columns of the same name in one node, each is told by its log (`orders.user`), or else by a number (`user_2`). The text
is there to be read: it need not be SQL that DuckDB takes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bourne.sql.plan import (
    Aggregate,
    AsOf,
    Call,
    Expr,
    Filter,
    Get,
    Join,
    Logic,
    Plan,
    Project,
    Ref,
    Session,
    Temporal,
    Test,
    TopN,
    Union,
    Unnest,
    Values,
    Window,
    children,
    nodes,
)
from bourne.sql.render import clock_text, render, render_aggregation, render_orders, render_window

# What is said shorter than DuckDB needs it: texts in quotes stay as they are, of quoted names group 1 is the name; casts
# of constants to the types of numbers and texts say no more than the constant; the rest are SQL's defaults.
_LONG = re.compile(
    r"""'(?:[^']|'')*'"""
    r"""|"((?:[^"]|"")*)\""""
    r"""|CAST\((-?[\d.]+|'(?:[^']|'')*') AS (?:VARCHAR|[A-Z]*INT(?:EGER)?|DOUBLE|DECIMAL\([\d,]+\))\)"""
    r"""|\((-?[\d.]+)\)::[A-Z]+INT\b"""
    r"""|( ASC NULLS LAST| NULLS LAST| RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"""
    r"""|( !?~~ )"""
)

# How many of a plan's constant rows are shown.
_ROWS_SHOWN = 3

# A column as it is traced: the log or view that it is of, where that is known, and its name.
_Traced = tuple[str | None, str]


class Names:
    """What the columns of a plan's nodes are called. Also of nodes that are made of the plan's later on."""

    def __init__(self, plan: Plan, output: Sequence[str]) -> None:
        """`output` are the names of the plan's own columns."""
        self._wanted = _wanted_names(plan, output)
        self._traced: dict[
            int, tuple[Plan, list[_Traced]]
        ] = {}  # the plans, too: an id is one's only while it lives

    def of(self, plan: Plan) -> list[str]:
        """Return the names of a node's columns; no two are the same."""
        return _distinct(self._trace(plan))

    def of_pairs(self, join: Join | AsOf) -> list[str]:
        """Return the names of the columns of both sides of a join, whatever it hands on."""
        return _distinct([*self._trace(join.left), *self._trace(join.right)])

    def _trace(self, plan: Plan) -> list[_Traced]:
        if id(plan) not in self._traced:
            self._traced[id(plan)] = (plan, self._trace_new(plan))
        return self._traced[id(plan)][1]

    def _trace_new(self, plan: Plan) -> list[_Traced]:
        match plan:
            case Get(relation=relation, columns=columns):
                return [(relation, column) for column in columns]
            case Project(child=child, expressions=expressions):
                return self._of_expressions(plan, child, expressions)
            case Aggregate(child=child, groups=groups):
                return [*self._of_expressions(plan, child, groups), *self._computed(plan, len(groups))]
            case Filter(child=child) | TopN(child=child) | Temporal(child=child):
                return self._trace(child)
            case Union(children=inputs):
                return self._trace(inputs[0])
            case Unnest(child=child) | Window(child=child) | Session(child=child):
                return [*self._trace(child), *self._computed(plan, len(child.types))]
            case AsOf(left=left, right=right):
                return [*self._trace(left), *self._trace(right)]
            case Join(left=left, right=right, kind=kind):
                given = [
                    *self._trace(left),
                    *(self._trace(right) if kind not in ("semi", "anti", "mark") else []),
                ]
                return [*given, *self._computed(plan, len(given))]
            case Values():
                return self._computed(plan, 0)

    def _of_expressions(self, plan: Plan, child: Plan, expressions: Sequence[Expr]) -> list[_Traced]:
        given, computed = self._trace(child), self._computed(plan, 0)
        return [given[e.index] if isinstance(e, Ref) else computed[i] for i, e in enumerate(expressions)]

    def _computed(self, plan: Plan, first: int) -> list[_Traced]:
        wanted = self._wanted.get(id(plan), [None] * len(plan.types))
        return [(None, wanted[i] or f"c{i}") for i in range(first, len(plan.types))]


def _wanted_names(plan: Plan, output: Sequence[str]) -> dict[int, list[str | None]]:
    """Return what each node's columns become in the output, where they reach it as they are."""
    wanted: dict[int, list[str | None]] = {id(node): [None] * len(node.types) for node in nodes(plan)}
    wanted[id(plan)] = list(output)
    for node in reversed(nodes(plan)):
        for child, place, source in _carried(node):
            wanted[id(child)][source] = wanted[id(child)][source] or wanted[id(node)][place]
    return wanted


def _carried(plan: Plan) -> Iterator[tuple[Plan, int, int]]:
    """Yield the columns that a node hands on as they are: of which child, where they come out and went in."""
    match plan:
        case Project(child=child, expressions=expressions) | Aggregate(child=child, groups=expressions):
            yield from ((child, i, e.index) for i, e in enumerate(expressions) if isinstance(e, Ref))
        case Join(left=left) | AsOf(left=left):
            yield from ((left, i, i) for i in range(len(left.types)))
            if isinstance(plan, AsOf) or plan.kind not in ("semi", "anti", "mark"):
                yield from ((plan.right, len(left.types) + i, i) for i in range(len(plan.right.types)))
        case _:
            for child in children(plan):
                yield from ((child, i, i) for i in range(len(child.types)))


def _distinct(traced: Sequence[_Traced]) -> list[str]:
    homes: dict[str, set[str | None]] = {}
    for where, name in traced:
        homes.setdefault(name, set()).add(where)
    shown = [f"{where}.{name}" if where and len(homes[name]) > 1 else name for where, name in traced]
    seen: Counter[str] = Counter()
    result = []
    for name in shown:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def outline(plan: Plan, names: Names) -> list[str]:
    """Return the plan as lines, what a node reads below it and further in. What is read twice is numbered and shown once."""
    parents = Counter(id(child) for node in nodes(plan) for child in children(node))
    numbers: dict[int, int] = {}
    lines: list[str] = []

    def show(node: Plan, depth: int) -> None:
        indent = "  " * depth
        if id(node) in numbers:
            lines.append(f"{indent}[{numbers[id(node)]}] again")
            return
        mark = ""
        if parents[id(node)] > 1:
            numbers[id(node)] = len(numbers) + 1
            mark = f"[{numbers[id(node)]}] "
        lines.append(f"{indent}{mark}{describe(node, names)}")
        for child in children(node):
            show(child, depth + 1)

    show(plan, 0)
    return lines


def describe(plan: Plan, names: Names) -> str:
    """Return what one node does, in one line."""
    own = names.of(plan)
    match plan:
        case Get(relation=relation, columns=columns):
            return f"{relation}: {', '.join(columns) or 'no columns'}"
        case Values(rows=rows, types=types):
            return "one row" if len(rows) == 1 and not types else _describe_values(rows)
        case Project(child=child, expressions=expressions):
            return f"project {_named(expressions, own, names.of(child)) or 'no columns'}"
        case Filter(child=child, predicates=predicates):
            return f"filter {' AND '.join(_say(predicate, names.of(child)) for predicate in predicates)}"
        case Unnest(child=child, lists=lists):
            return f"unnest {_named(lists, own[len(child.types) :], names.of(child))}"
        case Aggregate():
            return _describe_aggregate(plan, own, names.of(plan.child))
        case Join():
            return _describe_join(plan, names.of_pairs(plan))
        case AsOf(left=left, right=right):
            lefts, rights = names.of(left), names.of(right)
            tests = [*(f"{_say(key.left, lefts)} = {_say(key.right, rights)}" for key in plan.keys),
                     f"{_say(plan.left_time, lefts)} {plan.comparison} {_say(plan.right_time, rights)}"]  # fmt: skip
            return f"asof {'left ' if plan.is_left else ''}join on {' AND '.join(tests)}"
        case Union():
            return "union all"
        case Window(child=child, functions=functions):
            column = _column(names.of(child))
            calls = [_readable(render_window(function, column)) for function in functions]
            added = own[len(child.types) :]
            return f"window {', '.join(f'{c} AS {n}' for c, n in zip(calls, added, strict=True))}"
        case Temporal(child=child, tests=tests):
            given = names.of(child)
            return f"filter {' AND '.join(f'{_say(t.expression, given)} {t.comparison} {clock_text(t)}' for t in tests)}"
        case Session(child=child, keys=keys, time=time):
            given = names.of(child)
            each = f" of each {', '.join(_say(key, given) for key in keys)}" if keys else ""
            return f"sessions{each} by {_say(time, given)}, {plan.gap_us / 1_000_000:g} s apart"
        case TopN():
            return _describe_top(plan, names.of(plan.child))


def _describe_values(rows: Sequence[Sequence[Expr]]) -> str:
    shown = [f"({', '.join(_say(value, ()) for value in row)})" for row in rows[:_ROWS_SHOWN]]
    if len(rows) > len(shown):
        shown.append(f"… {len(rows):,} in all")
    return f"constant rows {', '.join(shown)}" if rows else "no rows"


def _describe_aggregate(plan: Aggregate, own: Sequence[str], given: Sequence[str]) -> str:
    groups = _named(plan.groups, own, given)
    if not plan.aggregations:
        return f"distinct {groups}" if groups else "whether there is a row"
    calls = [_readable(render_aggregation(each, _column(given))) for each in plan.aggregations]
    shown = ", ".join(f"{c} AS {n}" for c, n in zip(calls, own[len(plan.groups) :], strict=True))
    return f"aggregate {f'by {groups}' if groups else 'everything'}: {shown}"


def _describe_join(plan: Join, given: Sequence[str]) -> str:
    left, right = given[: len(plan.left.types)], given[len(plan.left.types) :]
    tests = [
        f"{_say(key.left, left)} {'IS NOT DISTINCT FROM' if key.is_null_safe else '='} {_say(key.right, right)}"
        for key in plan.keys
    ]
    tests += [] if plan.residual is None else [_say(plan.residual, given)]
    if not tests:
        return "cross join" if plan.kind == "inner" else f"{plan.kind} join on true"
    return f"{plan.kind} join on {' AND '.join(tests)}"


def _describe_top(plan: TopN, given: Sequence[str]) -> str:
    column = _column(given)
    amount = "all" if plan.limit is None else str(plan.limit)
    each = ", ".join(_say(part, given) for part in plan.partitions)
    parts = [
        f"top {amount}",
        f"after {plan.offset}" if plan.offset else "",
        f"of each {each}" if each else "",
        _readable(render_orders(plan.orders, column)),
    ]
    return " ".join(part for part in parts if part)


def _named(expressions: Sequence[Expr], own: Sequence[str], given: Sequence[str]) -> str:
    texts = [_say(expression, given) for expression in expressions]
    return ", ".join(
        text if text == name else f"{text} AS {name}" for text, name in zip(texts, own, strict=False)
    )


def _say(expression: Expr, given: Sequence[str]) -> str:
    """Return an expression over columns of these names."""
    text = _readable(render(expression, _column(given)))
    match expression:
        case Logic() | Test(kind="NOT" | "IS NULL" | "IS NOT NULL" | "IN" | "NOT IN"):
            return text[1:-1]
        case Call(function=function) if not function.isidentifier() and text.startswith("("):
            return text[1:-1]
        case _:
            return text


def _column(given: Sequence[str]) -> Callable[[int], str]:
    return lambda index: given[index]


def _readable(text: str) -> str:
    """Return SQL in fewer words."""

    def shorten(match: re.Match[str]) -> str:
        name, constant, number, default, like = match.groups()
        if name is not None:
            return name if name.isidentifier() else match[0]
        if like is not None:
            return " NOT LIKE " if "!" in like else " LIKE "
        return constant or number or ("" if default else match[0])

    return _LONG.sub(shorten, text)
