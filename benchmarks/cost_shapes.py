"""Views whose state grows with the number of keys, how each is filled, and what a step brings to it.

A step brings one row for each of some keys, all different: so it makes as many rows of output whatever the number of
keys there are, and what differs is the size of the state alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Longs = NDArray[np.int64]
Rows = Mapping[str, pa.Table]

# What the rows of some keys, given by their numbers, are in the given step: of each log, a table.
MakeRows = Callable[[Longs, int], Rows]

# Times the number of a key, modulo 2^64: scattered over all of BIGINT, each once (the factor is odd).
_SCATTER = np.int64(-7046029254386353131)

_DAY_US = 86_400 * 10**6


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of view. `fill` makes the first rows of keys, `change` those that a step brings to keys that are there."""

    title: str
    sql: str
    logs: Mapping[str, Mapping[str, Any]]
    fill: MakeRows
    change: MakeRows
    rows_out_per_key: float = field(default=1.0)


def _keys(numbers: Longs) -> Longs:
    with np.errstate(over="ignore"):
        return numbers * _SCATTER


def _values(numbers: Longs, step: int) -> NDArray[np.float64]:
    """Return numbers between 0 and 1 that look random and differ from step to step."""
    mixed = _keys(numbers ^ np.int64((step + 1) << 40))
    return ((mixed >> 11) & np.int64((1 << 52) - 1)) / float(1 << 52)


def _events(numbers: Longs, step: int) -> Rows:
    at = pa.array(np.full(len(numbers), _DAY_US + 1000 * step), pa.timestamp("us"))
    return {"events": pa.table({"k": _keys(numbers), "v": _values(numbers, step), "at": at})}


def _accounts(numbers: Longs, step: int) -> Rows:
    return {"accounts": pa.table({"k": _keys(numbers), "w": _values(numbers, step)})}


def _payments(numbers: Longs, step: int) -> Rows:
    return {"payments": pa.table({"k": _keys(numbers), "v": _values(numbers, step)})}


def _stock(numbers: Longs, step: int) -> Rows:
    """Each tenth key's row goes; the next time its key comes, it is there again."""
    is_gone = np.zeros(len(numbers), np.bool_)
    is_gone[: len(numbers) // 10 if step else 0] = True
    columns = {"k": _keys(numbers), "w": _values(numbers, step), "gone": is_gone}
    return {"stock": pa.table(columns)}


def _orders_and_stock(numbers: Longs, step: int) -> Rows:
    return {
        "orders": pa.table({"k": _keys(numbers), "v": _values(numbers, step)}),
        **_stock(numbers, step),
    }


_EVENT_LOG = {"events": {"schema": {"k": "bigint", "v": "double", "at": "timestamp"}, "time": "at"}}


def _of_events(title: str, sql: str, rows_out_per_key: float = 1.0) -> Shape:
    return Shape(title, sql, _EVENT_LOG, _events, _events, rows_out_per_key)


AGGREGATE = _of_events(
    "aggregate: count and sum per key", "SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k"
)
INNER_JOIN = Shape(
    "inner join of two growing logs",
    "SELECT p.k, p.v, a.w FROM payments p JOIN accounts a ON p.k = a.k",
    {
        "accounts": {"schema": {"k": "bigint", "w": "double"}},
        "payments": {"schema": {"k": "bigint", "v": "double"}},
    },
    _accounts,
    _payments,
)
LEFT_JOIN = Shape(
    "left join, updates and deletes",
    "SELECT o.k, o.v, s.w FROM orders o LEFT JOIN stock s ON o.k = s.k",
    {
        "orders": {"schema": {"k": "bigint", "v": "double"}},
        "stock": {
            "schema": {"k": "bigint", "w": "double", "gone": "boolean"},
            "key": "k",
            "changes": "upsert",
            "tombstone": "gone",
        },
    },
    _orders_and_stock,
    _stock,
    2.0,
)
NEWEST = _of_events(
    "top 1: the newest row per key",
    "SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY k ORDER BY at DESC) = 1",
    2.0,
)

CURVES = (AGGREGATE, INNER_JOIN, LEFT_JOIN, NEWEST)

LATENCIES = (
    _of_events("filter and expressions", "SELECT k, round(v, 3) AS v FROM events WHERE v < 0.5"),
    AGGREGATE,
    _of_events("aggregate with HAVING", "SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k HAVING sum(v) > 0.5"),
    INNER_JOIN,
    LEFT_JOIN,
    NEWEST,
    _of_events("top 100 of all", "SELECT * FROM events ORDER BY v DESC LIMIT 100"),
    _of_events(
        "tumbling window, 10 s, per key",
        "SELECT k, window_start, count(*) AS n, max(v) AS top FROM TUMBLE(events, at, INTERVAL '10 seconds') "
        "GROUP BY k, window_start",
    ),
    _of_events(
        "window function: running sum per key",
        "SELECT k, at, v, sum(v) OVER (PARTITION BY k ORDER BY at, v) AS total FROM events",
    ),
)  # fmt: skip
