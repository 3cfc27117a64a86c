"""Windows of local days, weeks and months: where they begin, as instants.

Law: the boundaries are the first instants at which a zone's clocks show a window's local start, or, where they never show
it, the instant at which they jump over it. So the windows of a zone follow each other without gap or overlap, whatever
its clocks do; a day may have 23 or 25 hours. The time zones are DuckDB's own, those of `AT TIME ZONE`.

DuckDB cannot say this in a short expression, so it is a function: `__local_window(t, zone, kind, n)` is the start of the
n-th window after the one that t is in, `__local_windows(t, zone, kind, n)` the starts of that one and of the n - 1 before
it. `kind` says how long windows are and how much later than midnight they begin: `"7 days, 0"`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.duck import cursor

Longs = NDArray[np.int64]

DAY_US: Final = 24 * 3600 * 1_000_000

_NAME: Final = "__local_window"

# Boundaries are computed for so long at a time.
_BLOCK_US: Final = 16 * 366 * DAY_US

_NULL: Final = np.iinfo(np.int64).min


def window_kind(months: int, us: int, offset_us: int) -> str:
    """Return what the functions are told of the windows: `us` has to be whole days."""
    return f"{months} months, {offset_us}" if months else f"{us // DAY_US} days, {offset_us}"


def is_zone(name: str) -> bool:
    """Say whether DuckDB knows this time zone."""
    try:
        cursor().execute("SELECT timezone(?, TIMESTAMP '2000-01-01')", [name]).fetchall()
    except (duckdb.Error, ModuleNotFoundError):  # what it gives needs a library that is not asked for here
        return name in _zones()
    return True


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(name for (name,) in cursor().execute("SELECT name FROM pg_timezone_names()").fetchall())


def register_zones(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to a DuckDB; its cursors know them, too."""
    arguments = ["TIMESTAMP", "VARCHAR", "VARCHAR", "BIGINT"]
    for name, function, returns in (
        (_NAME, _window, "TIMESTAMP"),
        (f"{_NAME}s", _windows, "TIMESTAMP[]"),
    ):
        connection.create_function(name, function, arguments, returns, type="arrow", null_handling="special")


def _window(t: Any, zone: Any, kind: Any, n: Any) -> pa.Array:
    return _called(_starts, t, zone, kind, n)


def _windows(t: Any, zone: Any, kind: Any, n: Any) -> pa.Array:
    return _called(_lists, t, zone, kind, n)


def _called(
    function: Callable[[Longs, str, str, Longs], pa.Array], t: Any, zone: Any, kind: Any, n: Any
) -> pa.Array:
    times = t.combine_chunks() if isinstance(t, pa.ChunkedArray) else t
    instants = times.cast(pa.int64()).fill_null(_NULL).to_numpy(zero_copy_only=False)
    counts = np.asarray(n.to_numpy(zero_copy_only=False) if isinstance(n, pa.Array) else n.to_numpy())
    return function(
        instants, zone[0].as_py() if len(t) else "UTC", kind[0].as_py() if len(t) else "1 days, 0", counts
    )


def _starts(times: Longs, zone: str, kind: str, n: Longs) -> pa.Array:
    """Return the start of the n-th window after each time's."""
    found = np.full(len(times), _NULL, np.int64)
    for bounds, rows, places in _blocks(times, zone, kind, int(np.abs(n).max(initial=0))):
        found[rows] = bounds[places + n[rows]]
    return pa.array(found, mask=found == _NULL).cast(pa.timestamp("us"))


def _lists(times: Longs, zone: str, kind: str, n: Longs) -> pa.Array:
    """Return the starts of each time's window and of those before it, n in all; ascending."""
    count = int(n.max(initial=1))
    found = np.full((len(times), count), _NULL, np.int64)
    for bounds, rows, places in _blocks(times, zone, kind, count):
        found[rows] = bounds[places[:, None] + np.arange(1 - count, 1)]
    is_null = times == _NULL
    offsets = np.concatenate([[0], np.cumsum(np.where(is_null, 0, count))]).astype(np.int32)
    values = pa.array(found[~is_null].ravel()).cast(pa.timestamp("us"))
    return pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(is_null, False)), values)


def _blocks(times: Longs, zone: str, kind: str, more: int) -> Any:
    """Yield, for the times of each stretch of years: boundaries, which times, and the place of each one's window."""
    blocks = times // _BLOCK_US
    for block in np.unique(blocks[times != _NULL]):
        rows = np.flatnonzero((blocks == block) & (times != _NULL))
        bounds = _boundaries(zone, kind, int(block), more)
        yield bounds, rows, np.searchsorted(bounds, times[rows], side="right") - 1


@functools.lru_cache(maxsize=256)
def _boundaries(zone: str, kind: str, block: int, more: int) -> Longs:
    """Return the boundaries of a stretch of years and of `more` windows before and after it."""
    length, offset_us = kind.split(", ")
    count, unit = length.split(" ")
    width = f"to_{unit}({count})"
    days = int(count) * (31 if unit == "months" else 1) * (more + 2)
    first, last = block * _BLOCK_US - (days + 2) * DAY_US, (block + 1) * _BLOCK_US + (days + 2) * DAY_US
    local = f"""SELECT start + to_microseconds({offset_us}) AS v FROM (SELECT unnest(generate_series(
        time_bucket({width}, make_timestamp({first})), make_timestamp({last}), {width})) AS start)"""
    # The last instant with that local time is DuckDB's answer. If the clocks were put back just before it, the same local
    # time by the offset of some hours before is an instant, too, and the first one.
    sql = f"""
        SELECT epoch_us(CASE WHEN timezone('{zone}', early) = v THEN least(late, early) ELSE late END) AS boundary FROM (
            SELECT v, late, timezone('UTC', v - (timezone('{zone}', before) - timezone('UTC', before))) AS early FROM (
                SELECT v, timezone('{zone}', v) AS late, timezone('{zone}', v) - INTERVAL 3 HOURS AS before FROM ({local})))
        ORDER BY boundary"""
    found: Longs = cursor().sql(sql).to_arrow_table().column(0).to_numpy()
    return found
