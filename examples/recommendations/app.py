"""A shop's recommendations, at 2:00: who took this took that, too. Clicks and orders in, Redis and PostgreSQL out.

SHOP=postgres://… CACHE=redis://… bourne jobs start examples/recommendations/app.py recommend day=2026-03-01
"""

from datetime import date, timedelta

import pyarrow.parquet as pq

import bourne
from bourne.batch import chunk, cron, query, records, task, view

app = bourne.App("recommendations")
app.log(
    "events", schema={"user_id": "bigint", "item": "bigint", "weight": "integer", "happened_at": "timestamp"}
)

# How much each user likes each item: its strongest sign. So an event that comes twice changes nothing.
app.view(
    "likes",
    "SELECT user_id, item, max(weight) AS weight, max(happened_at) AS last_at FROM events GROUP BY user_id, item",
)

# What was recommended last for each item: the view knows which of it is new, so that only that goes to Redis.
app.log("ranked", key="item", changes="upsert", schema={
    "item": "bigint not null", "others": "STRUCT(rank BIGINT, other BIGINT, score DOUBLE)[]",
})  # fmt: skip
app.view("recommended", "SELECT item, others FROM ranked")

# Item-item collaborative filtering: the cosine of what the users think of two items. Of each user the newest 50 likes count, as
# one who clicks on everything says little, and would cost most.
SIMILAR = """
    WITH taste AS (
        SELECT user_id, item, weight FROM likes
        QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY last_at DESC, item) <= 50
    ), norms AS (
        SELECT item, sqrt(sum(weight * weight)) AS norm FROM taste GROUP BY item
    ), pairs AS (
        SELECT a.item, b.item AS other, sum(a.weight * b.weight) AS product
        FROM taste a JOIN taste b ON a.user_id = b.user_id AND a.item <> b.item
        GROUP BY ALL HAVING count(*) >= 3
    ), ranked AS (
        SELECT p.item, p.other, round(p.product / (a.norm * b.norm), 4) AS score,
            row_number() OVER (PARTITION BY p.item ORDER BY score DESC, p.other) AS rank
        FROM pairs p JOIN norms a ON a.item = p.item JOIN norms b ON b.item = p.other
        QUALIFY rank <= 10
    )
    SELECT item, list({'rank': rank, 'other': other, 'score': score} ORDER BY rank) AS others FROM ranked GROUP BY item"""


@app.job
def recommend(day: date, *, clicks: str = "clicks", similar: str = "similar.parquet"):
    """Take in the events of a day; put in place what they and all before them recommend."""
    clicked = chunk(
        "clicks",
        read=f"{clicks}/{day}.parquet",
        process="SELECT user_id, item, 1 AS weight, clicked_at AS happened_at FROM input",
        write="log:events",
    )
    ordered = chunk(
        "orders",
        read=query("${SHOP}", f"SELECT * FROM orders WHERE ordered_at >= '{day}' AND ordered_at < '{day + timedelta(days=1)}'", key="id"),
        process="SELECT user_id, item, 5 AS weight, ordered_at AS happened_at FROM input", write="log:events",
    )  # fmt: skip
    compute = task("similar", lambda context: pq.write_table(context.app.query(SIMILAR).to_arrow(), similar))
    keep = chunk("keep", read=similar, write="log:ranked")
    to_redis = chunk(
        "to Redis", read=records("recommended"), write="${CACHE}?prefix=similar:&as=json", key="item"
    )
    to_postgres = chunk(
        "to PostgreSQL", read=records("recommended"), process="SELECT item, unnest(others, recursive := true) FROM input",
        write="${SHOP}?table=recommended", mode="replace",
    )  # fmt: skip
    return (
        [clicked, ordered]
        >> view("likes")
        >> compute
        >> keep
        >> view("recommended")
        >> [to_redis, to_postgres]
    )


# The day that ended two hours before; and after a night in which the machine was off, each of the days.
app.schedule(
    recommend, cron("0 2 * * *", zone="Europe/Berlin"), params=lambda at: {"day": at.date() - timedelta(days=1)},
    misfire="all",
)  # fmt: skip
