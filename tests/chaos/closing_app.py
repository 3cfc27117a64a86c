"""The app whose views close that is killed: windows, sessions, joins in time; late and impossible times are in its logs."""

import os
from functools import partial

import bourne
import bourne.running
from bourne.engine import runner
from bourne.engine.operators import forgetting

if "BOURNE_SMALL_EPOCHS" in os.environ:
    for module in (bourne.running, runner):
        module.EPOCH_ROWS_MIN, module.EPOCH_ROWS_MAX = 60, 240
    runner._EPOCH_ROWS_WORTH = 1
    bourne.running.ViewRunner = partial(bourne.running.ViewRunner, snapshot_rows=700)
    forgetting._MIN = forgetting._SHARE = 0

app = bourne.App("closing")
app.log(
    "events",
    schema={"id": "bigint", "owner": "integer", "n": "integer", "at": "timestamp"},
    key="owner",
    partitions=2,
    time="at",
    watermark="3 seconds",
)
app.log(
    "rates",
    schema={"id": "bigint", "owner": "integer", "rate": "integer", "at": "timestamp"},
    time="at",
    watermark="1 second",
)
app.log("owners", schema={"owner": "integer", "city": "varchar"}, key="owner", changes="upsert")

VIEWS = {
    "tumbled": "SELECT window_start, owner, count(*) AS n, min(id) AS first "
    "FROM TUMBLE(events, at, INTERVAL '10 seconds') GROUP BY window_start, owner EMIT FINAL",
    "hopped": "SELECT window_start, count(*) AS n, sum(n) AS total "
    "FROM HOP(events, at, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_start "
    "EMIT FINAL LATENESS INTERVAL '4 seconds'",
    "changing": "SELECT window_start, count(DISTINCT owner) AS owners, median(n) AS middle "
    "FROM TUMBLE(events, at, INTERVAL '15 seconds') GROUP BY window_start EMIT CHANGES LATENESS INTERVAL '2 seconds'",
    "sessions": "SELECT owner, window_start, window_end, count(*) AS n "
    "FROM SESSION(events, at, INTERVAL '2 seconds' PARTITION BY owner) GROUP BY owner, window_start, window_end "
    "EMIT FINAL",
    "pairs": "SELECT a.id, a.at, b.rate, b.at AS rated FROM events a JOIN rates b "
    "ON a.owner = b.owner AND b.at BETWEEN a.at - INTERVAL '3 seconds' AND a.at + INTERVAL '3 seconds' EMIT FINAL",
    "unmatched": "SELECT a.id, a.at FROM events a LEFT JOIN rates b "
    "ON a.owner = b.owner AND b.at BETWEEN a.at AND a.at + INTERVAL '5 seconds' WHERE b.at IS NULL EMIT FINAL",
    "converted": "SELECT e.id, e.at, e.n * r.rate AS value FROM events e ASOF LEFT JOIN rates r "
    "ON e.owner = r.owner AND e.at >= r.at EMIT FINAL",
    "best": "SELECT window_start, id, n FROM TUMBLE(events, at, INTERVAL '10 seconds') "
    "QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY n DESC, id) <= 3 EMIT FINAL",
    # Over those.
    "busiest": "SELECT window_start, max(n) AS most FROM tumbled GROUP BY window_start EMIT FINAL",
    "halves": "SELECT window_start, sum(most) AS most FROM TUMBLE(busiest, window_start, INTERVAL '30 seconds') "
    "GROUP BY window_start EMIT FINAL",
}  # fmt: skip
for name, sql in VIEWS.items():
    app.view(name, sql, grows=True)
# What an owner's city is when a window closes depends on the moment, so of this one only the sums are known.
app.view(
    "per_city",
    "SELECT window_start, city, count(*) AS n FROM TUMBLE(events, at, INTERVAL '10 seconds') "
    "LEFT JOIN owners USING (owner) GROUP BY window_start, city EMIT FINAL",
)
