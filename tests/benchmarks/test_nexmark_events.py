"""Nexmark's events: a function of their numbers, in the published proportions and distributions."""

from __future__ import annotations

import datetime

import duckdb
import pyarrow as pa
import pytest
from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.schema import declare_schema

PERSON = {
    "id": 21000, "name": "Peter Walton", "email_address": "tvviczr@ixfcs.com", "credit_card": "8997 8229 6535 7760",
    "city": "Cheyenne", "state": "AZ",
}  # fmt: skip
AUCTION = {
    "id": 61000, "item_name": "rxcwgcvefv", "description": "fxgfwpupryphmfpnsmwygfevsyxsrtybugcfrfwap",
    "initial_bid": 9714, "reserve": 5765914, "expires": datetime.datetime(2015, 7, 15, 0, 1, 40, 112_000),
    "seller": 21000, "category": 11,
}  # fmt: skip
BID = {
    "auction": 61000, "bidder": 21001, "price": 535, "channel": "Facebook",
    "url": "https://www.nexmark.com/ebpii/sxqfp/gmrxc/item.htm?query=1",
}  # fmt: skip
LOGS = ("persons", "auctions", "bids")
EVENTS = 100_000


@pytest.fixture(scope="module")
def tables() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB with the first events, and with each bid's and auction's newest person and auction."""
    connection = duckdb.connect()
    for name, table in zip(LOGS, generator.events(0, EVENTS), strict=True):
        connection.register(f"arrow_{name}", table)
        connection.execute(
            f"CREATE TABLE {name} AS SELECT *, row_number() OVER () - 1 AS k FROM arrow_{name}"
        )
    return connection


def fraction(tables: duckdb.DuckDBPyConnection, condition: str, relation: str) -> float:
    (found,) = tables.execute(f"SELECT avg(({condition})::INTEGER) FROM {relation}").fetchall()
    return float(found[0])


@pytest.mark.parametrize("first", [0, 1, 4, 12_345])
def test_of_fifty_events_one_is_a_person_and_three_are_auctions(first: int) -> None:
    assert [table.num_rows for table in generator.events(first, 50)] == [1, 3, 46]


def test_every_event_is_of_one_kind() -> None:
    for event in range(500):
        assert sum(generator.rows_before(log, event) for log in LOGS) == event
    assert [generator.rows_before(log, 10**9) for log in LOGS] == [2 * 10**7, 6 * 10**7, 92 * 10**7]


@settings(max_examples=4, derandomize=True, deadline=None)
@given(
    first=st.integers(0, 10**9), sizes=st.lists(st.integers(0, 120), min_size=1, max_size=3),
    seed=st.integers(0, 3), rate=st.sampled_from([1, 7, 10_000, 10_000_000]),
)  # fmt: skip
def test_pieces_are_the_whole(first: int, sizes: list[int], seed: int, rate: int) -> None:
    run = Settings(seed=seed, events_per_s=rate)
    whole = generator.events(first, sum(sizes), run)
    starts = [first + sum(sizes[:i]) for i in range(len(sizes))]
    pieces = [generator.events(start, size, run) for start, size in zip(starts, sizes, strict=True)]
    for one, parts in zip(whole, zip(*pieces, strict=True), strict=True):
        assert pa.concat_tables(parts).combine_chunks() == one.combine_chunks()


def test_formulas_do_not_overflow_and_do_not_change() -> None:
    # DuckDB raises where 64 bits do not suffice. What is written out here must never change: other engines compute it.
    generator.events((1 << 30) - 50, 50)
    person, auction, bid = (table.to_pylist()[0] for table in generator.events(1_000_000, 50))
    at = datetime.datetime(2015, 7, 15, 0, 1, 40)
    assert person | PERSON == person
    assert auction | AUCTION == auction
    assert bid | BID == bid
    assert person["date_time"] == auction["date_time"] == bid["date_time"] == at
    assert [len(row["extra"]) for row in (person, auction, bid)] == [128, 406, 71]


def test_seeds_are_other_draws_of_the_same_events() -> None:
    for name, one, other in zip(
        LOGS, generator.events(0, 5000), generator.events(0, 5000, Settings(seed=1)), strict=True
    ):
        assert one.num_rows == other.num_rows
        assert one["date_time"] == other["date_time"]
        assert one["extra"] != other["extra"], name


def test_columns_are_those_declared() -> None:
    for name, table in zip(LOGS, generator.events(0, 50), strict=True):
        declared = declare_schema(generator.SCHEMAS[name], where=name).to_arrow()
        assert [(f.name, f.type) for f in table.schema] == [(f.name, f.type) for f in declared]
        assert all(column.null_count == 0 for column in table.columns)


def test_ids_are_in_order_and_time_never_goes_back(tables: duckdb.DuckDBPyConnection) -> None:
    assert fraction(tables, "id = k + 1000", "persons") == 1
    assert fraction(tables, "id = k + 1000", "auctions") == 1
    for name in LOGS:
        later = "SELECT date_time >= lag(date_time, 1, date_time) OVER (ORDER BY k) AS is_later"
        assert fraction(tables, "is_later", f"({later} FROM {name})") == 1
    last = tables.execute("SELECT max(date_time) - min(date_time) FROM bids").fetchall()[0][0]
    assert 9.9 < last.total_seconds() < 10  # 100,000 events at 10,000 a second


def test_what_is_named_exists_or_is_about_to(tables: duckdb.DuckDBPyConnection) -> None:
    newest = "k // 46 * 3 + 2 + 1000"
    assert fraction(tables, f"auction BETWEEN greatest({newest} - 102, 1000) AND {newest} + 10", "bids") == 1
    hot = "(auction - 1000) % 100 = 0"
    assert fraction(tables, f"auction <= {newest}", f"(FROM bids WHERE {hot})") > 0.99
    for column, relation, person in (("bidder", "bids", "k // 46"), ("seller", "auctions", "k // 3")):
        newest = f"{person} + 1000"
        bounds = f"{column} BETWEEN greatest({newest} - 1000, 1000) AND {newest} + 10"
        assert fraction(tables, bounds, relation) == 1, column
    assert fraction(tables, "seller IN (SELECT id FROM persons)", "auctions") > 0.95
    assert fraction(tables, "auction IN (SELECT id FROM auctions)", "bids") > 0.95


def test_the_hot_ones_are_as_hot_as_published(tables: duckdb.DuckDBPyConnection) -> None:
    hot_auction = "auction - 1000 = (k // 46 * 3 + 2) // 100 * 100"
    hot_bidder = "bidder - 1000 = k // 46 // 100 * 100 + 1"
    hot_seller = "seller - 1000 = k // 3 // 100 * 100"
    for condition, relation, expected in (
        (hot_auction, "bids", 1 / 2),
        (hot_bidder, "bids", 3 / 4),
        (hot_seller, "auctions", 3 / 4),
        (f"{hot_auction} AND {hot_bidder}", "bids", 3 / 8),
        ("channel IN ('Google', 'Facebook', 'Baidu', 'Apple')", "bids", 1 / 2),
        ("channel = 'Apple'", "bids", 1 / 8),
        ("url LIKE '%&channel_id=%'", "bids", 9 / 20),
        ("category = 10", "auctions", 1 / 5),
        ("state IN ('OR', 'ID', 'CA')", "persons", 1 / 2),
    ):
        assert fraction(tables, condition, relation) == pytest.approx(expected, abs=0.035), condition


def test_prices_are_spread_evenly_over_six_decades(tables: duckdb.DuckDBPyConnection) -> None:
    quantiles = tables.execute(
        "SELECT quantile_cont(log10(price / 100) / 6, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]) FROM bids"
    ).fetchall()[0][0]
    assert quantiles == pytest.approx([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], abs=0.005)
    assert fraction(tables, "reserve > initial_bid AND initial_bid >= 100", "auctions") == 1


def test_auctions_last_up_to_twice_the_time_of_a_hundred(tables: duckdb.DuckDBPyConnection) -> None:
    low, high, mean = tables.execute(
        "SELECT min(ms), max(ms), avg(ms) FROM (SELECT epoch_ms(expires) - epoch_ms(date_time) AS ms FROM auctions)"
    ).fetchall()[0]
    assert (low, high) == (1, 332)
    assert mean == pytest.approx(166, abs=5)


def test_a_channel_has_one_address(tables: duckdb.DuckDBPyConnection) -> None:
    (count,) = tables.execute(
        "SELECT max(n) FROM (SELECT count(DISTINCT url) AS n FROM bids GROUP BY channel)"
    ).fetchall()
    assert count == (1,)
    assert tables.execute("SELECT count(DISTINCT url) FROM bids").fetchall()[0][0] > 9000


@pytest.mark.parametrize(("relation", "size"), [("persons", 135), ("auctions", 382), ("bids", 68)])
def test_fillings_vary_by_a_fifth(tables: duckdb.DuckDBPyConnection, relation: str, size: int) -> None:
    low, high = tables.execute(f"SELECT min(length(extra)), max(length(extra)) FROM {relation}").fetchall()[0]
    assert size * 0.78 < low < size * 0.82
    assert size * 1.18 < high < size * 1.22
    assert fraction(tables, "regexp_full_match(extra, '[a-z]+')", relation) == 1
    distinct = tables.execute(f"SELECT count(DISTINCT extra) / count(*) FROM {relation}").fetchall()[0][0]
    assert distinct > 0.95
