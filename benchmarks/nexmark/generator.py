"""Generates Nexmark's persons, auctions and bids as Arrow tables, for any range of event numbers.

Law: a row depends on its event's number and the settings alone, so ranges can be generated in any order and pieces, and
`events(0, a)` followed by `events(a, b)` is `events(0, a + b)`. The formulas are in `benchmarks.nexmark.formulas`.
"""

from __future__ import annotations

import functools
from typing import Final

import duckdb
import pyarrow as pa

from benchmarks.nexmark.formulas import (
    AUCTIONS_PER_EPOCH,
    BIDS_PER_EPOCH,
    EVENTS_PER_EPOCH,
    Settings,
    rows_sql,
)

# The columns of each log, as `App.log` takes them.
SCHEMAS: Final = {
    "persons": {
        "id": "bigint", "name": "varchar", "email_address": "varchar", "credit_card": "varchar", "city": "varchar",
        "state": "varchar", "date_time": "timestamp", "extra": "varchar",
    },
    "auctions": {
        "id": "bigint", "item_name": "varchar", "description": "varchar", "initial_bid": "bigint",
        "reserve": "bigint", "date_time": "timestamp", "expires": "timestamp", "seller": "bigint",
        "category": "bigint", "extra": "varchar",
    },
    "bids": {
        "auction": "bigint", "bidder": "bigint", "price": "bigint", "channel": "varchar", "url": "varchar",
        "date_time": "timestamp", "extra": "varchar",
    },
}  # fmt: skip

_DEFAULT = Settings()
_FIRST = {"persons": 0, "auctions": 1, "bids": 1 + AUCTIONS_PER_EPOCH}
_PER_EPOCH = {"persons": 1, "auctions": AUCTIONS_PER_EPOCH, "bids": BIDS_PER_EPOCH}


def events(first: int, count: int, settings: Settings = _DEFAULT) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return the persons, auctions and bids among `count` events from number `first` on."""
    persons, auctions, bids = (rows(relation, first, count, settings) for relation in _PER_EPOCH)
    return persons, auctions, bids


def rows(relation: str, first: int, count: int, settings: Settings = _DEFAULT) -> pa.Table:
    """Return the rows of one log among `count` events from number `first` on."""
    start, end = rows_before(relation, first), rows_before(relation, first + count)
    numbers = f"(SELECT range AS k FROM range({start}, {end}))"
    sql = rows_sql(relation, numbers, settings, lambda ms: f"make_timestamp(1000 * ({ms}))")
    with _database().cursor() as connection:
        connection.execute("SET enable_progress_bar = false")
        return connection.sql(sql).to_arrow_table()


def side_input() -> pa.Table:
    """Return the static relation that q13 joins with: 10,000 keys."""
    return duckdb.sql(
        "SELECT k AS key, 'value-' || k AS value FROM range(10000) AS numbers(k)"
    ).to_arrow_table()


def rows_before(relation: str, event: int) -> int:
    """Return how many of a log's rows come before an event."""
    place = event % EVENTS_PER_EPOCH - _FIRST[relation]
    per_epoch = _PER_EPOCH[relation]
    return event // EVENTS_PER_EPOCH * per_epoch + min(max(place, 0), per_epoch)


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"integer_division": True})
