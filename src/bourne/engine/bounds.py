"""How far the times in a view's rows have come: which rows cannot come, or change, any more.

Law: let the time of a log's records have come to w: no record with an earlier one is taken in. An expression e of that
time that never goes back while its argument goes on (the start of a window, a local day, an instant some seconds later)
has then come to e(w): no row with a smaller value of it is added or taken back any more. So the bound of a column is its
own expression, of w; windows need no rules of their own. What a smaller value would change is closed, and need not be
remembered.

Such expressions: Begoli et al., One SQL to Rule Them All (2019), on watermarks of relations; Tucker et al., Exploiting
Punctuation Semantics (2003), on what passes through which operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bourne.engine.join_times import as_of_times, join_times
from bourne.engine.monotone import Bounds, bound_of, least, of_expressions, of_lists
from bourne.engine.watermark import is_timed
from bourne.log.catalog import LogInfo
from bourne.log.relation import only_grows
from bourne.sql.plan import (
    Aggregate,
    AsOf,
    Filter,
    Get,
    Join,
    Plan,
    Project,
    Ref,
    Session,
    TopN,
    Union,
    Unnest,
    Window,
    nodes,
)
from bourne.sql.unstable import ARRIVAL

# What a bound calls the time that the log has come to: a TIMESTAMP.
TIME: Final = "__time"

# And the epoch's clock, before which no record arrives any more.
CLOCK: Final = "__clock"


def bounds_of(plan: Plan, inputs: Mapping[str, LogInfo]) -> Bounds:
    """Return the bounds of a plan's columns, of those that have one, where what is closed is neither taken in nor kept."""
    match plan:
        case Get(relation=relation, columns=columns, types=types):
            return _of_log(inputs.get(relation), columns, types)
        case Filter(child=child):
            return bounds_of(child, inputs)
        case Project(child=child, expressions=expressions):
            return of_expressions(expressions, bounds_of(child, inputs))
        case Unnest(child=child, lists=lists):
            below = bounds_of(child, inputs)
            width = len(child.types)
            return {**below, **{width + i: text for i, text in of_lists(lists, below).items()}}
        case Union(children=children):
            found = [bounds_of(child, inputs) for child in children]
            return {
                i: least([each[i] for each in found]) for i in found[0] if all(i in each for each in found)
            }
        case Aggregate(child=child, groups=groups):
            return of_expressions(groups, bounds_of(child, inputs))
        case TopN(child=child, partitions=partitions):
            below = bounds_of(child, inputs)
            return {p.index: below[p.index] for p in partitions if isinstance(p, Ref) and p.index in below}
        case Window(child=child, functions=functions):
            below = bounds_of(child, inputs)
            common = set.intersection(
                *({p.index for p in f.partitions if isinstance(p, Ref)} for f in functions)
            )
            return {i: below[i] for i in common if i in below}
        case Session(child=child, time=time):
            text = bound_of(time, bounds_of(child, inputs))
            return (
                {}
                if text is None or not _is_row_by_row(child)
                else {len(child.types) + 1: f"({text}) + to_microseconds(1)"}
            )
        case AsOf(left=left, right=right):
            return as_of_times(plan, bounds_of(left, inputs), bounds_of(right, inputs)).bounds
        case Join(left=left, right=right):
            return join_times(
                plan, bounds_of(left, inputs), bounds_of(right, inputs), is_timeless(inputs)
            ).bounds
        case _:
            return {}


def _is_row_by_row(plan: Plan) -> bool:
    """Say whether a plan is logs' records, each treated alone: a session of rows that may go could end earlier again."""
    return all(isinstance(node, Get | Project | Filter | Unnest | Union) for node in nodes(plan))


def is_timeless(inputs: Mapping[str, LogInfo]) -> Callable[[Plan], bool]:
    """Return who says of a plan that nothing in it has a time: tables, logs that change their mind, constants."""

    def says(plan: Plan) -> bool:
        read = (inputs.get(node.relation) for node in nodes(plan) if isinstance(node, Get))
        return all(info is not None and (not only_grows(info) or not is_timed(info)) for info in read)

    return says


def _of_log(info: LogInfo | None, columns: Sequence[str], types: Sequence[str]) -> Bounds:
    if info is None or not only_grows(info):
        return {}
    arrival = {i: CLOCK for i, name in enumerate(columns) if name == ARRIVAL}
    if info.bounds:
        known = dict(info.bounds)
        return arrival | {i: known[name] for i, name in enumerate(columns) if name in known}
    if info.time is None:
        return arrival
    return arrival | {
        i: TIME if types[i] == "TIMESTAMP" else f"TRY_CAST({TIME} AS {types[i]})"
        for i, name in enumerate(columns)
        if name.casefold() == info.time.casefold()
    }
