"""The app that is killed: views of each kind, with snapshots so often that kills hit them, too."""

from functools import partial

import bourne
import bourne.running

bourne.running.ViewRunner = partial(bourne.running.ViewRunner, snapshot_rows=5000)

app = bourne.App("chaos")
app.log(
    "events",
    schema={"id": "bigint not null", "name": "varchar", "cents": "decimal(10,2)", "at": "timestamp"},
    time="at",
    watermark="1 second",
)
app.view(
    "per_name", "SELECT name, count(*) AS n, sum(cents) AS total, max(at) AS latest FROM events GROUP BY name"
)
app.view("even", "SELECT id % 977 AS k, count(*) AS n FROM events GROUP BY k HAVING count(*) % 2 = 0")
app.view(
    "windows",
    "SELECT window_start, name, count(*) AS n, min(id) AS first "
    "FROM TUMBLE(events, at, INTERVAL '10 seconds') GROUP BY window_start, name",
)
app.view("large", "SELECT id, upper(name) AS name FROM events WHERE cents > 90")
app.view("everything", "SELECT count(*) AS n, sum(id) AS ids FROM events")
