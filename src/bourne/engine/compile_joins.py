"""Joins become nodes: one operator for every kind, right ones turned round, residuals of inner ones a filter above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.graph import Graph
from bourne.engine.join_times import JoinTimes
from bourne.engine.kernels.stage import Stage
from bourne.engine.operators.as_of import AsOf as AsOfOperator
from bourne.engine.operators.as_of import TimedSide
from bourne.engine.operators.join import Join as JoinOperator
from bourne.engine.operators.join import Residual, Side
from bourne.engine.operators.linear import Pick
from bourne.engine.stages import last_sql, residual_sql
from bourne.sql.outline import describe
from bourne.sql.plan import AsOf, Expr, Filter, Join, Ref
from bourne.sql.rules.tree import replace_refs


def join(graph: Graph, plan: Join) -> int:
    if plan.kind == "right":
        width, width_right = len(plan.left.types), len(plan.right.types)
        swapped = replace(
            plan, kind="left", left=plan.right, right=plan.left,
            keys=tuple(replace(key, left=key.right, right=key.left) for key in plan.keys),
            residual=None if plan.residual is None else _swapped(plan.residual, width, width_right),
        )  # fmt: skip
        order = [*range(width_right, width_right + width), *range(width_right)]
        number = graph.rule(graph, swapped)
        return graph.columns(order, number, plan, grows=graph.grows[number])
    if plan.kind == "inner" and plan.residual is not None:
        bare = replace(plan, residual=None)
        graph.of_plan[id(bare)] = (bare, _join(graph, bare, times=graph.join_times(plan)))
        return graph.linear(Filter(bare, (plan.residual,)))
    return _join(graph, plan, times=graph.join_times(plan))


def _join(graph: Graph, plan: Join, *, times: JoinTimes) -> int:
    sides, numbers = [], []
    for i, (child, keys) in enumerate(
        ((plan.left, [k.left for k in plan.keys]), (plan.right, [k.right for k in plan.keys]))
    ):
        ends = times.ends[i]
        number, columns = graph.with_columns(child, [*keys, *(end for end, _ in ends)], keep_to=times.used[i])
        numbers.append(number)
        node = graph.nodes[number]
        graph.check_types(node.types, plan.span)
        bounds = [graph.bound(text) for _, text in ends]
        sides.append(
            Side(
                node.arrow_types, columns[: len(keys)], graph.grows[number],
                tuple(zip(columns[len(keys) :], bounds, strict=True)), times.is_looking_up[i],
            )
        )  # fmt: skip
    left, right = sides
    is_timed = bool(left.ends or right.ends)
    operator = JoinOperator(
        plan.kind, left, right, is_null_safe=[key.is_null_safe for key in plan.keys],
        residual=_residual(graph, plan, [len(side.types) for side in sides]),
    )  # fmt: skip
    grows = left.is_growing and right.is_growing and plan.kind in ("inner", "semi")
    is_cross = not plan.keys
    shown = [*range(len(plan.left.types))]
    types = list(graph.nodes[numbers[0]].types)
    if plan.kind not in ("semi", "anti"):
        shown += [len(types) + i for i in range(len(plan.right.types))]
        types += graph.nodes[numbers[1]].types
    joined = graph.add(
        operator, numbers, types, _join_label(plan), grows=grows,
        rule="every pair" if is_cross else "rows of each side by key",
        cost="O(delta x other side)" if is_cross else "O(delta and its matches)",
        growth=_growth(sides), detail=describe(plan, graph.names), keeps_rows=not (left.ends and right.ends),
        is_timed=is_timed,
    )  # fmt: skip
    if shown == list(range(len(types))):
        return joined
    return graph.columns(shown, joined, plan, grows=grows)


def as_of(graph: Graph, plan: AsOf) -> int:
    times = graph.join_times(plan)
    numbers, sides = [], []
    for i, (child, keys, time) in enumerate(
        (
            (plan.left, [k.left for k in plan.keys], plan.left_time),
            (plan.right, [k.right for k in plan.keys], plan.right_time),
        )
    ):
        number, columns = graph.with_columns(child, [*keys, time], keep_to=times.used[i])
        numbers.append(number)
        node = graph.nodes[number]
        graph.check_types(node.types, plan.span)
        end = graph.bound(times.ends[i][0][1]) if times.ends[i] else None
        sides.append(TimedSide(node.arrow_types, columns[:-1], columns[-1], graph.grows[number], end))
    left, right = sides
    types = (*graph.nodes[numbers[0]].types, *graph.nodes[numbers[1]].types)
    operator = AsOfOperator(
        left, right, rank=Stage(graph.databases.grouped, last_sql(graph.nodes[numbers[1]].types)).run, is_left=plan.is_left,
        is_after=plan.comparison in ("<=", "<"), is_strict=plan.comparison in (">", "<"),
        is_null_safe=[key.is_null_safe for key in plan.keys],
    )  # fmt: skip
    is_timed = any(side.end is not None for side in sides)
    joined = graph.add(
        operator, numbers, types, "asof join", grows=False, rule="touched keys matched anew",
        cost="O(delta and the rows of its keys)",
        growth="rows that can change partners" if is_timed else "every row of both sides",
        detail=describe(plan, graph.names), keeps_rows=not is_timed, is_timed=is_timed,
    )  # fmt: skip
    width = len(left.types)
    shown = [*range(len(plan.left.types)), *(width + i for i in range(len(plan.right.types)))]
    return joined if shown == list(range(len(types))) else graph.columns(shown, joined, plan, grows=False)


def _growth(sides: Sequence[Side]) -> str:
    kept = ["rows that can have partners" if side.ends else "every row" for side in sides]
    return (
        f"{kept[0]} of both sides"
        if kept[0] == kept[1]
        else f"{kept[0]} of the left side, {kept[1]} of the right"
    )


def _residual(graph: Graph, plan: Join, widths: Sequence[int]) -> Residual | None:
    """Return what decides about pairs; the sides may have more columns than the plan's, at their ends."""
    if plan.residual is None:
        return None
    stage = Stage(graph.databases.linear, residual_sql(plan))
    left, right = len(plan.left.types), len(plan.right.types)
    pick = Pick([*range(left), *range(widths[0], widths[0] + right)])

    def decide(pairs: pa.Table) -> NDArray[np.bool_]:
        decided = stage.run(pick.pick(pairs)).column(0)
        return np.asarray(decided.to_numpy(), np.bool_)

    return decide


def _swapped(residual: Expr, left: int, right: int) -> Expr:
    """Return a residual for the sides in the other order."""
    return replace_refs(
        residual, lambda ref: Ref(ref.index + right if ref.index < left else ref.index - left, ref.type)
    )


def _join_label(plan: Join) -> str:
    return "cross join" if plan.kind == "inner" and not plan.keys else f"{plan.kind} join"
