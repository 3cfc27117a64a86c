"""Vehicles cross a bridge: how many of each type, in all and in every ten seconds?

    python examples/bridge.py                    then, elsewhere:  nc localhost 9990
    printf 'car\nbus\ncar\n' | python examples/bridge.py --stdin

One type per line. Counts are kept in the data folder, and go on from there when it is started again.
"""

import argparse

import bourne

options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
options.add_argument("--port", type=int, default=9990, help="the TCP port to listen on")
options.add_argument("--stdin", action="store_true", help="read standard input instead, until it ends")
options.add_argument("--data", default="bridge-data", help="the data folder")


def bridge(source: str) -> bourne.App:
    app = bourne.App("bridge")
    app.log("crossings", schema={"vehicle": "varchar not null", "at": "timestamp not null"}, time="at")
    app.source(source, into="crossings")
    app.view("totals", "SELECT vehicle, count(*) AS crossings FROM crossings GROUP BY vehicle")
    app.view(
        "windows",
        """SELECT window_start, vehicle, count(*) AS crossings
           FROM TUMBLE(crossings, at, INTERVAL '10 seconds') GROUP BY window_start, vehicle""",
    )
    return app


def main() -> None:
    chosen = options.parse_args()
    source = "stdin:" if chosen.stdin else f"tcp://localhost:{chosen.port}"
    with bourne.open(bridge(source), data=chosen.data) as running:

        def show(_: list[bourne.Progress]) -> None:
            print(running.query("SELECT * FROM totals ORDER BY crossings DESC, vehicle"))
            print(
                running.query("SELECT * FROM windows ORDER BY window_start DESC, vehicle LIMIT 10"),
                flush=True,
            )

        print(f"counting what comes from {source}; Ctrl-C ends", flush=True)
        try:
            running.run(until_caught_up=True, on_progress=show)
        except KeyboardInterrupt:
            print("closed; the counts are kept in", chosen.data)


if __name__ == "__main__":
    main()
