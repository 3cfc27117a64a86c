"""Statistics of web servers' logs, a day at a time: a day is a run, the files of its servers are read side by side.

bourne jobs start examples/server_logs/app.py statistics day=2026-03-01
"""

from datetime import date, timedelta
from functools import reduce
from operator import rshift

import bourne
from bourne.batch import by_file, check, chunk, cron, records, skip, subjob, view

app = bourne.App("server_logs")

REQUEST = {
    "id": "varchar not null",
    "at": "timestamp",
    "path": "varchar",
    "status": "integer",
    "bytes": "bigint",
    "ms": "bigint",
}
app.log("requests", schema=REQUEST, key="id", changes="upsert")  # a day that is read again counts once

COUNTS = """
    count(*) AS requests, count(*) FILTER (status >= 500) AS errors, sum(bytes)::BIGINT AS bytes, max(ms) AS slowest_ms,
    count(*) FILTER (ms > 300) AS slow"""

app.view("pages", f"SELECT at::DATE AS day, path, {COUNTS} FROM requests GROUP BY ALL")
app.view("hours", f"SELECT at::DATE AS day, hour(at) AS hour, {COUNTS} FROM requests GROUP BY ALL")


@app.job
def statistics(day: date, *, logs: str = "logs", out: str = "statistics"):
    """Read the logs of a day; write what they say of each page and each hour."""
    read = chunk(
        "read", read=f"{logs}/{day}/*.jsonl", columns=REQUEST, process="SELECT * FROM input WHERE path <> '/health'",
        write="log:requests", partition=by_file(), workers=2, skip=skip("1%"),
    )  # fmt: skip
    silent = check("no silent hour", f"""
        SELECT hour FROM range(24) AS hours_of_day(hour)
        WHERE hour NOT IN (SELECT hour FROM hours WHERE day = DATE '{day}')""")  # fmt: skip
    pages, hours = (
        chunk(
            f"write {name}", read=records(name), process=f"SELECT * FROM input WHERE day = DATE '{day}'",
            write=f"{out}/{name}-{day}.csv", mode="replace",
        )
        for name in ("pages", "hours")
    )  # fmt: skip
    return read >> view("pages") >> view("hours") >> silent >> [pages, hours]


@app.job
def backfill(first: date, last: date, *, logs: str = "logs", out: str = "statistics"):
    """Read the logs of many days, one after the other, whether or not they have been read before."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return reduce(rshift, (subjob(str(day), statistics, day=day, logs=logs, out=out) for day in days))


# Yesterday, at half past midnight. After a week in which the machine was off, each of its days.
app.schedule(
    statistics, cron("30 0 * * *"), params=lambda at: {"day": at.date() - timedelta(days=1)},
    misfire="all", catch_up="30 days",
)  # fmt: skip
