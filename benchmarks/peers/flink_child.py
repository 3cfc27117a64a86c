"""Runs statements in Flink and says how long they took. Runs in Flink's own environment, so it knows nothing of ours.

One argument, JSON: {"configuration": {name: value}, "rounds": [[statement, …], …]}. The last statement of each round is
timed, from its submission to the end of its job; if it is a SELECT, its rows are collected. Prints one line of JSON:
{"start_s": s, "rounds": [{"seconds": s, "rows": [[…]]}]}.
"""

import json
import sys
import time

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment


def main() -> None:
    """Run all rounds, each in a database of its own, in one JVM."""
    request = json.loads(sys.argv[1])
    start = time.perf_counter()
    configuration = Configuration()
    for name, value in request["configuration"].items():
        configuration.set_string(name, value)
    settings = (
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    )
    environment = TableEnvironment.create(settings)
    start_s = time.perf_counter() - start
    rounds = []
    for number, statements in enumerate(request["rounds"]):
        environment.execute_sql(f"CREATE DATABASE round{number}")
        environment.execute_sql(f"USE round{number}")
        for statement in statements[:-1]:
            environment.execute_sql(statement)
        rounds.append(timed(environment, statements[-1]))
    print(json.dumps({"start_s": start_s, "rounds": rounds}))


def timed(environment: TableEnvironment, statement: str) -> dict:
    """Run a statement to its end."""
    start = time.perf_counter()
    result = environment.execute_sql(statement)
    rows = []
    if statement.startswith("SELECT"):
        with result.collect() as found:
            rows = [list(row) for row in found]
    else:
        result.wait()
    return {"seconds": time.perf_counter() - start, "rows": rows}


main()
