"""Nexmark's queries q0 to q22 in Bourne's SQL: DuckDB's, with windows; and four of event time, which are not Nexmark's.

Each has one right answer: where the original leaves open which of several equal rows comes first, all columns decide.
The comments say what is not as in the original, and why. Prices are in cents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import bourne
from benchmarks.nexmark import generator

# What q15 to q17 count by.
_CHEAP, _FAIR, _DEAR = "price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000"

# The channel's number, if the address ends with one.
_CHANNEL_ID = "regexp_extract(url, '(&|^)channel_id=([^&]*)', 2)"

QUERIES: Final = {
    # Everything through: what reading and writing cost.
    "q0": """
        SELECT auction, bidder, price, date_time, extra FROM bids""",
    # Dollars to euros.
    "q1": """
        SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bids""",
    "q2": """
        SELECT auction, price FROM bids WHERE auction % 123 = 0""",
    # Who sells in three states?
    "q3": """
        SELECT P.name, P.city, P.state, A.id
        FROM auctions A JOIN persons P ON A.seller = P.id
        WHERE A.category = 10 AND P.state IN ('OR', 'ID', 'CA')""",
    # The average closing price of each category.
    "q4": """
        SELECT category, avg(final) AS average
        FROM (
            SELECT A.id, A.category, max(B.price) AS final
            FROM auctions A JOIN bids B ON A.id = B.auction
            WHERE B.date_time BETWEEN A.date_time AND A.expires
            GROUP BY A.id, A.category
        )
        GROUP BY category""",
    # The auctions with the most bids in the last 10 seconds, every 2 seconds.
    "q5": """
        WITH counts AS (
            SELECT auction, window_start, window_end, count(*) AS bids
            FROM HOP(bids, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
            GROUP BY auction, window_start, window_end
        ), most AS (
            SELECT window_start, max(bids) AS bids FROM counts GROUP BY window_start
        )
        SELECT C.window_start, C.window_end, C.auction, C.bids
        FROM counts C JOIN most M ON C.window_start = M.window_start AND C.bids = M.bids""",
    # The average closing price of each seller's last ten auctions. The original takes what has closed by now; without a
    # clock, an auction counts as soon as it has a bid. Auctions are in the order in which they close; ids decide ties.
    "q6": """
        SELECT seller, id, avg(final) OVER (
            PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 9 PRECEDING AND CURRENT ROW
        ) AS average
        FROM (
            SELECT A.id, A.seller, A.expires, max(B.price) AS final
            FROM auctions A JOIN bids B ON A.id = B.auction
            WHERE B.date_time BETWEEN A.date_time AND A.expires
            GROUP BY A.id, A.seller, A.expires
        )""",
    # The highest bids of each 10 seconds.
    "q7": """
        SELECT B.auction, B.bidder, B.price, B.date_time, B.extra
        FROM bids B JOIN (
            SELECT window_start, window_end, max(price) AS price
            FROM TUMBLE(bids, date_time, INTERVAL '10 seconds')
            GROUP BY window_start, window_end
        ) M ON B.price = M.price AND B.date_time >= M.window_start AND B.date_time < M.window_end""",
    # Who has come and begun to sell in the same 10 seconds?
    "q8": """
        SELECT P.id, P.name, P.window_start
        FROM (
            SELECT id, name, window_start, window_end
            FROM TUMBLE(persons, date_time, INTERVAL '10 seconds')
            GROUP BY id, name, window_start, window_end
        ) P JOIN (
            SELECT seller, window_start, window_end
            FROM TUMBLE(auctions, date_time, INTERVAL '10 seconds')
            GROUP BY seller, window_start, window_end
        ) A ON P.id = A.seller AND P.window_start = A.window_start AND P.window_end = A.window_end""",
    # The winning bid of each auction.
    "q9": """
        SELECT A.id, A.item_name, A.description, A.initial_bid, A.reserve, A.date_time, A.expires, A.seller, A.category,
            A.extra, B.auction, B.bidder, B.price, B.date_time AS bid_time, B.extra AS bid_extra
        FROM auctions A JOIN bids B ON A.id = B.auction
        WHERE B.date_time BETWEEN A.date_time AND A.expires
        QUALIFY row_number() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.date_time, B.bidder, B.extra) = 1""",
    # A log to files by day and minute. Files are a sink's work, so this is what the sink would be given.
    "q10": """
        SELECT auction, bidder, price, date_time, extra,
            strftime(date_time, '%Y-%m-%d') AS day, strftime(date_time, '%H:%M') AS minute
        FROM bids""",
    # Bids per session: a session ends with 10 seconds without a bid.
    "q11": """
        SELECT bidder, count(*) AS bids, window_start, window_end
        FROM SESSION(bids, date_time, INTERVAL '10 seconds' PARTITION BY bidder)
        GROUP BY bidder, window_start, window_end""",
    # Bids per bidder and 10 seconds. The original's seconds are those of the clock on the wall when a bid is processed,
    # to which nobody can give the same answer twice; these are the bids' own.
    "q12": """
        SELECT bidder, count(*) AS bids, window_start, window_end
        FROM TUMBLE(bids, date_time, INTERVAL '10 seconds')
        GROUP BY bidder, window_start, window_end""",
    # Bids with what a static relation says.
    "q13": """
        SELECT B.auction, B.bidder, B.price, B.date_time, S.value
        FROM bids B JOIN side_input S ON B.auction % 10000 = S.key""",
    # Arithmetic, CASE and a function of one's own: counting letters, by what is left without them.
    "q14": """
        SELECT auction, bidder, 0.908 * price AS price,
            CASE
                WHEN hour(date_time) >= 8 AND hour(date_time) <= 18 THEN 'dayTime'
                WHEN hour(date_time) <= 6 OR hour(date_time) >= 20 THEN 'nightTime'
                ELSE 'otherTime'
            END AS bid_time_type,
            date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_count
        FROM bids
        WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000""",
    # Each day: bids, bidders and auctions, by price.
    "q15": f"""
        SELECT strftime(date_time, '%Y-%m-%d') AS day,
            count(*) AS bids,
            count(*) FILTER ({_CHEAP}) AS cheap_bids,
            count(*) FILTER ({_FAIR}) AS fair_bids,
            count(*) FILTER ({_DEAR}) AS dear_bids,
            count(DISTINCT bidder) AS bidders,
            count(DISTINCT bidder) FILTER ({_CHEAP}) AS cheap_bidders,
            count(DISTINCT bidder) FILTER ({_FAIR}) AS fair_bidders,
            count(DISTINCT bidder) FILTER ({_DEAR}) AS dear_bidders,
            count(DISTINCT auction) AS auctions,
            count(DISTINCT auction) FILTER ({_CHEAP}) AS cheap_auctions,
            count(DISTINCT auction) FILTER ({_FAIR}) AS fair_auctions,
            count(DISTINCT auction) FILTER ({_DEAR}) AS dear_auctions
        FROM bids GROUP BY day""",
    # The same for each channel.
    "q16": f"""
        SELECT channel, strftime(date_time, '%Y-%m-%d') AS day,
            max(strftime(date_time, '%H:%M')) AS minute,
            count(*) AS bids,
            count(*) FILTER ({_CHEAP}) AS cheap_bids,
            count(*) FILTER ({_FAIR}) AS fair_bids,
            count(*) FILTER ({_DEAR}) AS dear_bids,
            count(DISTINCT bidder) AS bidders,
            count(DISTINCT bidder) FILTER ({_CHEAP}) AS cheap_bidders,
            count(DISTINCT bidder) FILTER ({_FAIR}) AS fair_bidders,
            count(DISTINCT bidder) FILTER ({_DEAR}) AS dear_bidders,
            count(DISTINCT auction) AS auctions,
            count(DISTINCT auction) FILTER ({_CHEAP}) AS cheap_auctions,
            count(DISTINCT auction) FILTER ({_FAIR}) AS fair_auctions,
            count(DISTINCT auction) FILTER ({_DEAR}) AS dear_auctions
        FROM bids GROUP BY channel, day""",
    # Each auction's day.
    "q17": f"""
        SELECT auction, strftime(date_time, '%Y-%m-%d') AS day,
            count(*) AS bids,
            count(*) FILTER ({_CHEAP}) AS cheap_bids,
            count(*) FILTER ({_FAIR}) AS fair_bids,
            count(*) FILTER ({_DEAR}) AS dear_bids,
            min(price) AS lowest, max(price) AS highest, avg(price) AS average, sum(price) AS total
        FROM bids GROUP BY auction, day""",
    # The last bid of each bidder on each auction.
    "q18": """
        SELECT auction, bidder, price, channel, url, date_time, extra
        FROM bids
        QUALIFY row_number() OVER (
            PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, channel, url, extra
        ) <= 1""",
    # The ten highest bids of each auction, with their rank.
    "q19": """
        SELECT *, row_number() OVER (
            PARTITION BY auction ORDER BY price DESC, date_time, bidder, channel, url, extra
        ) AS rank_number
        FROM bids
        QUALIFY rank_number <= 10""",
    # Bids with their auctions, of one category.
    "q20": """
        SELECT B.auction, B.bidder, B.price, B.channel, B.url, B.date_time, B.extra,
            A.item_name, A.description, A.initial_bid, A.reserve, A.date_time AS auction_time, A.expires, A.seller,
            A.category, A.extra AS auction_extra
        FROM bids B JOIN auctions A ON B.auction = A.id
        WHERE A.category = 10""",
    # A number for each channel, from its name or its address. DuckDB's regexp_extract gives '' for no match.
    "q21": f"""
        SELECT auction, bidder, price, channel,
            CASE lower(channel)
                WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE {_CHANNEL_ID}
            END AS channel_id
        FROM bids
        WHERE {_CHANNEL_ID} <> '' OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')""",
    # The parts of an address.
    "q22": """
        SELECT auction, bidder, price, channel,
            split_part(url, '/', 4) AS directory_1,
            split_part(url, '/', 5) AS directory_2,
            split_part(url, '/', 6) AS directory_3
        FROM bids""",
}

# One question per kind of window and join in time; as views they emit once, when the watermark closes what they say.
EVENT_TIME_QUERIES: Final = {
    "tumble": """
        SELECT auction, window_start, window_end, count(*) AS bids, sum(price) AS total
        FROM TUMBLE(bids, date_time, INTERVAL '60 seconds')
        GROUP BY auction, window_start, window_end""",
    # Each bid is in 60 windows.
    "hop": """
        SELECT auction, window_start, window_end, count(*) AS bids, sum(price) AS total
        FROM HOP(bids, date_time, INTERVAL '1 second', INTERVAL '60 seconds')
        GROUP BY auction, window_start, window_end""",
    "session": """
        SELECT bidder, window_start, window_end, count(*) AS bids, sum(price) AS total
        FROM SESSION(bids, date_time, INTERVAL '10 seconds' PARTITION BY bidder)
        GROUP BY bidder, window_start, window_end""",
    # The bids of an auction's first 10 seconds.
    "interval": """
        SELECT A.id, A.seller, B.bidder, B.price, B.date_time
        FROM auctions A JOIN bids B ON B.auction = A.id
            AND B.date_time BETWEEN A.date_time AND A.date_time + INTERVAL '10 seconds'""",
}
SIDE_SCHEMA: Final = {"key": "bigint", "value": "varchar"}

_INPUT: Final = re.compile(r"\b(?:FROM |JOIN |TUMBLE\(|HOP\(|SESSION\()(persons|auctions|bids|side_input)\b")


def inputs_of(query: str) -> list[str]:
    """Return the logs that a query reads."""
    return sorted(set(_INPUT.findall((QUERIES | EVENT_TIME_QUERIES)[query])))


def app_of(logs: Iterable[str]) -> bourne.App:
    """Return an app with these logs of events. Late ones are waited for as long as Nexmark for Flink does."""
    app = bourne.App("nexmark")
    for name in logs:
        app.log(name, schema=generator.SCHEMAS[name], time="date_time", watermark="4 seconds")
    return app
