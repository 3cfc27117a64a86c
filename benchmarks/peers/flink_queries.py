"""The queries in Flink's SQL, as Nexmark for Flink writes them: what is best for Flink, not our text translated.

Where equal rows compete (q9, q18, q19), Flink's order is the shorter one of the original, by price or time alone; ours
breaks ties by all columns. Windows (q5, q7, q8) are Flink's window functions, which emit once, when the watermark
closes them; ours emit every correction. Those of event time (tumble, hop, session, interval) emit once in both. The
other queries run without watermarks, which Flink then need not keep; q18 has them, as they make it Flink's cheaper
deduplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_BIDS: Final = ["auction", "bidder", "price", "date_time", "extra"]
_ALL_BIDS: Final = ["auction", "bidder", "price", "channel", "url", "date_time", "extra"]
_ALL_AUCTIONS: Final = [
    "id", "item_name", "description", "initial_bid", "reserve", "date_time", "expires", "seller", "category", "extra",
]  # fmt: skip
_CHEAP, _FAIR, _DEAR = "price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000"


@dataclass(frozen=True, slots=True)
class FlinkQuery:
    """A query, and the columns that it reads of each log."""

    reads: dict[str, list[str]]
    sql: str
    has_event_time: bool = False


def _counts() -> str:
    """The twelve counts of q15 and q16."""
    filters = {"": "", "cheap_": f" FILTER (WHERE {_CHEAP})", "fair_": f" FILTER (WHERE {_FAIR})",
               "dear_": f" FILTER (WHERE {_DEAR})"}  # fmt: skip
    return ", ".join(
        f"{count}{where} AS {prefix}{name}"
        for name, count in (
            ("bids", "COUNT(*)"), ("bidders", "COUNT(DISTINCT bidder)"), ("auctions", "COUNT(DISTINCT auction)"),
        )
        for prefix, where in filters.items()
    )  # fmt: skip


def _tumble(relation: str) -> str:
    return f"TABLE(TUMBLE(TABLE {relation}, DESCRIPTOR(date_time), INTERVAL '10' SECOND))"


_HOP: Final = """
    SELECT auction, COUNT(*) AS num, window_start, window_end
    FROM TABLE(HOP(TABLE bids, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end"""

FLINK_QUERIES: Final = {
    "q0": FlinkQuery({"bids": _BIDS}, "SELECT auction, bidder, price, date_time, extra FROM bids"),
    "q1": FlinkQuery(
        {"bids": _BIDS}, "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bids"
    ),
    "q2": FlinkQuery(
        {"bids": ["auction", "price"]}, "SELECT auction, price FROM bids WHERE MOD(auction, 123) = 0"
    ),
    "q3": FlinkQuery(
        {"auctions": ["id", "seller", "category"], "persons": ["id", "name", "city", "state"]},
        """SELECT P.name, P.city, P.state, A.id
        FROM auctions A JOIN persons P ON A.seller = P.id
        WHERE A.category = 10 AND P.state IN ('OR', 'ID', 'CA')""",
    ),
    "q4": FlinkQuery(
        {"auctions": ["id", "category", "date_time", "expires"], "bids": ["auction", "price", "date_time"]},
        """SELECT category, AVG(final) AS average
        FROM (
            SELECT A.id, A.category, MAX(B.price) AS final
            FROM auctions A JOIN bids B ON A.id = B.auction
            WHERE B.date_time BETWEEN A.date_time AND A.expires
            GROUP BY A.id, A.category
        ) GROUP BY category""",
    ),
    "q5": FlinkQuery(
        {"bids": ["auction", "date_time"]},
        f"""SELECT C.auction, C.num, C.window_start, C.window_end
        FROM ({_HOP}) C JOIN (
            SELECT MAX(num) AS most, window_start, window_end FROM ({_HOP}) GROUP BY window_start, window_end
        ) M ON C.window_start = M.window_start AND C.window_end = M.window_end AND C.num = M.most""",
        has_event_time=True,
    ),
    "q7": FlinkQuery(
        {"bids": _BIDS},
        f"""SELECT B.auction, B.price, B.bidder, B.date_time, B.extra
        FROM bids B JOIN (
            SELECT MAX(price) AS price, window_end AS date_time
            FROM {_tumble("bids")} GROUP BY window_start, window_end
        ) M ON B.price = M.price
        WHERE B.date_time BETWEEN M.date_time - INTERVAL '10' SECOND AND M.date_time""",
        has_event_time=True,
    ),
    "q8": FlinkQuery(
        {"auctions": ["seller", "date_time"], "persons": ["id", "name", "date_time"]},
        f"""SELECT P.id, P.name, P.window_start
        FROM (
            SELECT id, name, window_start, window_end FROM {_tumble("persons")}
            GROUP BY id, name, window_start, window_end
        ) P JOIN (
            SELECT seller, window_start, window_end FROM {_tumble("auctions")}
            GROUP BY seller, window_start, window_end
        ) A ON P.id = A.seller AND P.window_start = A.window_start AND P.window_end = A.window_end""",
        has_event_time=True,
    ),
    "q9": FlinkQuery(
        {"auctions": _ALL_AUCTIONS, "bids": _BIDS},
        """SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
            auction, bidder, price, bid_time, bid_extra
        FROM (
            SELECT A.*, B.auction, B.bidder, B.price, B.date_time AS bid_time, B.extra AS bid_extra,
                ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.date_time ASC) AS place
            FROM auctions A JOIN bids B ON A.id = B.auction
            WHERE B.date_time BETWEEN A.date_time AND A.expires
        ) WHERE place <= 1""",
    ),
    "q15": FlinkQuery(
        {"bids": ["auction", "bidder", "price", "date_time"]},
        f"""SELECT DATE_FORMAT(date_time, 'yyyy-MM-dd') AS bid_day, {_counts()}
        FROM bids GROUP BY DATE_FORMAT(date_time, 'yyyy-MM-dd')""",
    ),
    "q16": FlinkQuery(
        {"bids": ["auction", "bidder", "price", "channel", "date_time"]},
        f"""SELECT channel, DATE_FORMAT(date_time, 'yyyy-MM-dd') AS bid_day,
            MAX(DATE_FORMAT(date_time, 'HH:mm')) AS bid_minute, {_counts()}
        FROM bids GROUP BY channel, DATE_FORMAT(date_time, 'yyyy-MM-dd')""",
    ),
    "q17": FlinkQuery(
        {"bids": ["auction", "price", "date_time"]},
        f"""SELECT auction, DATE_FORMAT(date_time, 'yyyy-MM-dd') AS bid_day, COUNT(*) AS total_bids,
            COUNT(*) FILTER (WHERE {_CHEAP}) AS cheap_bids, COUNT(*) FILTER (WHERE {_FAIR}) AS fair_bids,
            COUNT(*) FILTER (WHERE {_DEAR}) AS dear_bids,
            MIN(price) AS lowest, MAX(price) AS highest, AVG(price) AS average, SUM(price) AS total
        FROM bids GROUP BY auction, DATE_FORMAT(date_time, 'yyyy-MM-dd')""",
    ),
    "q18": FlinkQuery(
        {"bids": _ALL_BIDS},
        """SELECT auction, bidder, price, channel, url, date_time, extra
        FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS place FROM bids
        ) WHERE place <= 1""",
        has_event_time=True,
    ),
    "q19": FlinkQuery(
        {"bids": _ALL_BIDS},
        """SELECT * FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bids
        ) WHERE rank_number <= 10""",
    ),
    "q20": FlinkQuery(
        {"auctions": _ALL_AUCTIONS, "bids": _ALL_BIDS},
        """SELECT B.auction, B.bidder, B.price, B.channel, B.url, B.date_time, B.extra,
            A.item_name, A.description, A.initial_bid, A.reserve, A.date_time AS auction_time, A.expires, A.seller,
            A.category, A.extra AS auction_extra
        FROM bids B JOIN auctions A ON B.auction = A.id
        WHERE A.category = 10""",
    ),
    "tumble": FlinkQuery(
        {"bids": ["auction", "price", "date_time"]},
        """SELECT auction, window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
        FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(date_time), INTERVAL '60' SECOND))
        GROUP BY auction, window_start, window_end""",
        has_event_time=True,
    ),
    "hop": FlinkQuery(
        {"bids": ["auction", "price", "date_time"]},
        """SELECT auction, window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
        FROM TABLE(HOP(TABLE bids, DESCRIPTOR(date_time), INTERVAL '1' SECOND, INTERVAL '60' SECOND))
        GROUP BY auction, window_start, window_end""",
        has_event_time=True,
    ),
    "session": FlinkQuery(
        {"bids": ["bidder", "price", "date_time"]},
        """SELECT bidder, window_start, window_end, COUNT(*) AS bids, SUM(price) AS total
        FROM TABLE(SESSION(TABLE bids PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
        GROUP BY bidder, window_start, window_end""",
        has_event_time=True,
    ),
    "interval": FlinkQuery(
        {"auctions": ["id", "seller", "date_time"], "bids": ["auction", "bidder", "price", "date_time"]},
        """SELECT A.id, A.seller, B.bidder, B.price, B.date_time
        FROM auctions A JOIN bids B ON B.auction = A.id
            AND B.date_time BETWEEN A.date_time AND A.date_time + INTERVAL '10' SECOND""",
        has_event_time=True,
    ),
}
