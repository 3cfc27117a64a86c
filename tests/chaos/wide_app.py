"""The app of many operators that is killed: joins, views over views, a static table; epochs of a few records."""

import os
from functools import partial
from pathlib import Path

import bourne
import bourne.running
from bourne.engine import runner

if "BOURNE_SMALL_EPOCHS" in os.environ:
    for module in (bourne.running, runner):
        module.EPOCH_ROWS_MIN, module.EPOCH_ROWS_MAX = 60, 240
    runner._EPOCH_ROWS_WORTH = 1
    bourne.running.ViewRunner = partial(bourne.running.ViewRunner, snapshot_rows=700)

app = bourne.App("wide")
app.log(
    "events",
    schema={"id": "bigint", "owner": "integer", "n": "integer", "moment": "timestamp"},
    key="owner",
    partitions=3,
)
app.log(
    "owners",
    schema={"owner": "integer", "city": "varchar", "gone": "boolean"},
    key="owner",
    changes="upsert",
    tombstone="gone",
    partitions=3,
)
app.table("cities", Path(os.environ["BOURNE_CITIES"]))

VIEWS = {
    "joined": "SELECT o.city, count(*) AS n, sum(e.n) AS total, count(DISTINCT e.n) AS kinds "
    "FROM events e JOIN owners o USING (owner) GROUP BY o.city",
    "alone": "SELECT e.owner, e.n, o.city FROM events e LEFT JOIN owners o ON e.owner = o.owner WHERE e.n > 95",
    "per_owner": "SELECT owner, count(*) AS n, max(moment) AS latest FROM events GROUP BY owner",
    "ranked": "SELECT owner, id, n FROM events QUALIFY row_number() OVER (PARTITION BY owner ORDER BY n DESC, id) <= 2",
    "best": "SELECT id, n FROM events ORDER BY n DESC, id LIMIT 7",
    "between": "SELECT id, n - lag(n) OVER (PARTITION BY owner ORDER BY id) AS step FROM events WHERE n > 80",
    "named": "SELECT c.name, count(*) AS n FROM owners o LEFT JOIN cities c ON o.city = c.city GROUP BY c.name",
    "windows": "SELECT window_start, count(*) AS n FROM TUMBLE(events, moment, INTERVAL '1 minute') GROUP BY window_start",
    # Over those: each of its commits has to reflect one state, so that the difference is always zero.
    "zero": "SELECT (SELECT count(*) FROM events) - (SELECT coalesce(sum(n), 0) FROM per_owner) AS difference",
    "above": "SELECT p.owner, p.n, r.id FROM per_owner p LEFT JOIN ranked r ON p.owner = r.owner WHERE p.n % 3 = 0",
    "top": "SELECT city, count(*) AS n, min(total) AS least FROM joined FULL JOIN owners USING (city) GROUP BY city",
    "median": "SELECT owner % 3 AS k, median(n) AS middle, list(id ORDER BY id)[1] AS first FROM above GROUP BY k",
}  # fmt: skip
for name, sql in VIEWS.items():
    app.view(name, sql, grows=True)
