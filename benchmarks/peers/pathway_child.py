"""Runs one of Nexmark's queries in Pathway, over files. Runs in Pathway's own environment, so it knows nothing of ours.

One argument, JSON: {"query": name, "columns": {relation: {column: "int" or "str"}}, "folders": [few, all]}; each folder
has a RELATION.csv per relation. The query runs over the few, where its rows are counted, and over all, where it is timed
from the start of reading to its end; then all are read without a query. Prints one line of JSON:
{"rows_of_few": number of rows in the answer, "start_s": s of the few, "seconds": s, "reading_s": s}.

The programs are what is best for Pathway, not our text translated: windows are numbers, so are times (in milliseconds).
`id` is a name of Pathway's own: an `id` of ours is called `number`.
"""

import json
import sys
import time
from pathlib import Path

import pathway as pw
from pathway.internals.parse_graph import G

_DAY_MS, _TEN_S, _TWO_S, _MINUTE_MS = 86_400_000, 10_000, 2_000, 60_000


def main() -> None:
    """Run the query over each folder."""
    request = json.loads(sys.argv[1])
    few, every = request["folders"]
    program, columns = PROGRAMS[request["query"]], request["columns"]
    counted = []
    answer = program(**tables(columns, few)).reduce(rows=pw.reducers.count())
    pw.io.subscribe(answer, on_change=lambda key, row, time, is_addition: counted.append(row["rows"]))
    start_s = run()
    pw.io.null.write(program(**tables(columns, every)))
    seconds = run()
    for table in tables(columns, every).values():
        pw.io.null.write(table)
    rows = counted[-1] if counted else 0
    print(json.dumps({"rows_of_few": rows, "start_s": start_s, "seconds": seconds, "reading_s": run()}))


def tables(columns, folder):
    """Return the relations of a folder, each read in one commit: no corrections are computed."""
    found = {}
    for relation, types in columns.items():
        schema = pw.schema_builder(
            {name: pw.column_definition(dtype={"int": int, "str": str}[kind]) for name, kind in types.items()}
        )
        found[relation] = pw.io.csv.read(Path(folder) / f"{relation}.csv", schema=schema, mode="static")
    return found


def run() -> float:
    """Run what is declared to its end; return the seconds."""
    start = time.perf_counter()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = time.perf_counter() - start
    G.clear()
    return seconds


def q0(bids):
    """Everything through."""
    return bids.select(*columns_of(bids))


def q1(bids):
    """Dollars to euros."""
    return bids.select(*columns_of(bids, "price"), price=0.908 * pw.this.price)


def q2(bids):
    """Some auctions' bids."""
    return bids.filter(pw.this.auction % 123 == 0).select(pw.this.auction, pw.this.price)


def q3(auctions, persons):
    """Who sells in three states?"""
    ours = persons.filter((pw.this.state == "OR") | (pw.this.state == "ID") | (pw.this.state == "CA"))
    sold = auctions.filter(pw.this.category == 10)
    return sold.join(ours, sold.seller == ours.number).select(ours.name, ours.city, ours.state, sold.number)


def in_time(auctions, bids):
    """Return each bid with its auction, if it came while that was open."""
    both = auctions.join(bids, auctions.number == bids.auction).select(
        *columns_of(auctions, "date_time"),
        *columns_of(bids, "date_time", "extra"),
        begins=auctions.date_time,
        bid_time=bids.date_time,
        **({"bid_extra": bids.extra} if "extra" in bids.column_names() else {}),
    )
    return both.filter((pw.this.bid_time >= pw.this.begins) & (pw.this.bid_time <= pw.this.expires))


def q4(auctions, bids):
    """The average closing price of each category."""
    finals = (
        in_time(auctions, bids)
        .groupby(pw.this.number, pw.this.category)
        .reduce(pw.this.category, final=pw.reducers.max(pw.this.price))
    )
    return finals.groupby(pw.this.category).reduce(pw.this.category, average=pw.reducers.avg(pw.this.final))


def q5(bids):
    """The auctions with the most bids in the last 10 seconds, every 2 seconds."""
    window = pw.temporal.sliding(hop=_TWO_S, duration=_TEN_S)
    counts = bids.windowby(pw.this.date_time, window=window, instance=pw.this.auction).reduce(
        auction=pw.this._pw_instance, begins=pw.this._pw_window_start, n=pw.reducers.count()
    )
    most = counts.groupby(pw.this.begins).reduce(pw.this.begins, n=pw.reducers.max(pw.this.n))
    return counts.join(most, counts.begins == most.begins, counts.n == most.n).select(*columns_of(counts))


def q7(bids):
    """The highest bids of each 10 seconds."""
    placed = bids.with_columns(window=pw.this.date_time // _TEN_S)
    best = placed.groupby(pw.this.window).reduce(pw.this.window, price=pw.reducers.max(pw.this.price))
    return placed.join(best, placed.window == best.window, placed.price == best.price).select(
        *columns_of(placed, "window")
    )


def q8(auctions, persons):
    """Who has come and begun to sell in the same 10 seconds?"""
    came, sold = (each.with_columns(window=pw.this.date_time // _TEN_S) for each in (persons, auctions))
    came = came.groupby(pw.this.number, pw.this.name, pw.this.window).reduce(
        pw.this.number, pw.this.name, pw.this.window
    )
    sold = sold.groupby(pw.this.seller, pw.this.window).reduce(pw.this.seller, pw.this.window)
    return came.join(sold, came.number == sold.seller, came.window == sold.window).select(*columns_of(came))


def q9(auctions, bids):
    """The winning bid of each auction."""
    both = in_time(auctions, bids)
    best = both.groupby(pw.this.number).reduce(row=pw.reducers.argmax(pw.this.price))
    return both.ix(best.row)


def counts():
    """Return the twelve counts of q15 and q16, by name."""
    cheap, dear = pw.this.price < 10_000, pw.this.price >= 1_000_000
    found = {"bids": pw.reducers.count()}
    kinds = {"cheap": cheap, "fair": ~cheap & ~dear, "dear": dear}
    for name, is_one in kinds.items():
        found[f"{name}_bids"] = pw.reducers.sum(pw.if_else(is_one, 1, 0))
    for column in ("bidder", "auction"):
        found[f"{column}s"] = pw.reducers.count_distinct(pw.this[column])
        for name, is_one in kinds.items():
            # There is no FILTER: what does not count is -1, which then counts one too many.
            others = pw.reducers.max(pw.if_else(is_one, 0, 1))
            found[f"{name}_{column}s"] = (
                pw.reducers.count_distinct(pw.if_else(is_one, pw.this[column], -1)) - others
            )
    return found


def q15(bids):
    """Each day: bids, bidders and auctions, by price."""
    placed = bids.with_columns(day=pw.this.date_time // _DAY_MS)
    return placed.groupby(pw.this.day).reduce(pw.this.day, **counts())


def q16(bids):
    """The same for each channel."""
    placed = bids.with_columns(
        day=pw.this.date_time // _DAY_MS, minute=pw.this.date_time % _DAY_MS // _MINUTE_MS
    )
    return placed.groupby(pw.this.channel, pw.this.day).reduce(
        pw.this.channel, pw.this.day, minute=pw.reducers.max(pw.this.minute), **counts()
    )


def q17(bids):
    """Each auction's day."""
    cheap, dear = pw.this.price < 10_000, pw.this.price >= 1_000_000
    placed = bids.with_columns(day=pw.this.date_time // _DAY_MS)
    return placed.groupby(pw.this.auction, pw.this.day).reduce(
        pw.this.auction,
        pw.this.day,
        bids=pw.reducers.count(),
        cheap_bids=pw.reducers.sum(pw.if_else(cheap, 1, 0)),
        fair_bids=pw.reducers.sum(pw.if_else(~cheap & ~dear, 1, 0)),
        dear_bids=pw.reducers.sum(pw.if_else(dear, 1, 0)),
        lowest=pw.reducers.min(pw.this.price),
        highest=pw.reducers.max(pw.this.price),
        average=pw.reducers.avg(pw.this.price),
        total=pw.reducers.sum(pw.this.price),
    )


def q18(bids):
    """The last bid of each bidder on each auction."""
    last = bids.groupby(pw.this.bidder, pw.this.auction).reduce(row=pw.reducers.argmax(pw.this.date_time))
    return bids.ix(last.row)


def q20(auctions, bids):
    """Bids with their auctions, of one category."""
    some = auctions.filter(pw.this.category == 10)
    return bids.join(some, bids.auction == some.number).select(
        *columns_of(bids),
        *columns_of(some, "number", "date_time", "extra"),
        auction_time=some.date_time,
        auction_extra=some.extra,
    )


def columns_of(table, *without):
    """Return the columns of a table, but for those."""
    return [table[name] for name in table.column_names() if name not in without]


PROGRAMS = {program.__name__: program for program in (
    q0, q1, q2, q3, q4, q5, q7, q8, q9, q15, q16, q17, q18, q20,
)}  # fmt: skip

if __name__ == "__main__":
    main()
