"""What Flink is asked: the statements of a measurement, and its settings; and its answer, read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import duckdb

from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.peers.environments import ROOT, FlinkEnvironment
from benchmarks.peers.flink_queries import FLINK_QUERIES
from benchmarks.peers.flink_tables import checksum, tables
from benchmarks.peers.processes import Finished, PeerFailed, PeerTimes, run

# Mini-batches and split distinct aggregates as Nexmark for Flink sets them. No checkpoints: nothing is made durable.
CONFIGURATION: Final = {
    "parallelism.default": "2",
    "pipeline.object-reuse": "true",
    "state.backend.type": "hashmap",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "2 s",
    "table.exec.mini-batch.size": "50000",
    "table.optimizer.distinct-agg.split.enabled": "true",
    "table.local-time-zone": "UTC",
    "rest.address": "127.0.0.1",
    "rest.bind-address": "127.0.0.1",
    "rest.bind-port": "0",
    "jobmanager.bind-host": "127.0.0.1",
    "taskmanager.bind-host": "127.0.0.1",
}
JVM_ARGUMENTS: Final = "-Xmx12g -XX:-DontCompileHugeMethods"

_SINK: Final = "CREATE TABLE answer WITH ('connector' = 'blackhole') AS "
_TIMEOUT_S: Final = 3600.0


def measure(
    environment: FlinkEnvironment,
    query: str,
    *,
    events: int,
    warm_events: int,
    rows_of_few: int,
    settings: Settings,
) -> PeerTimes:
    """Run a query over a few events, over all, and then a bare SELECT of all that it reads.

    Its start is that of the JVM, and the first small run.

    Raises:
        PeerFailed: it ends with an error, or has another number of rows than `rows_of_few` for the few events.
    """
    asked = FLINK_QUERIES[query]
    rounds = [
        [*tables(asked.reads, count, settings, has_event_time=asked.has_event_time), statement + asked.sql + end]
        for count, statement, end in (
            (warm_events, _SINK, ""), (events, _SINK, ""), (warm_events, "SELECT COUNT(*) FROM (", ")"),
        )
    ]  # fmt: skip
    for relation, columns in asked.reads.items():
        made = tables({relation: columns}, events, settings, has_event_time=False)
        rounds.append([*made, f"{_SINK}SELECT {', '.join(columns)} FROM {relation}"])
    finished = ask(environment, rounds)
    warm, full, counted, *generating = finished.answer["rounds"]
    warm_s, full_s, generating_s = (
        sum(each["seconds"] for each in some) for some in ([warm], [full], generating)
    )
    if (rows := counted["rows"][-1][0]) != rows_of_few:
        raise PeerFailed(f"{query}: Flink has {rows} rows, expected {rows_of_few}")
    return PeerTimes(full_s, generating_s, finished.answer["start_s"] + warm_s, finished.bytes_max)


def check_rows(environment: FlinkEnvironment, *, events: int, settings: Settings) -> None:
    """Compare sums over every column of every log with those of our generator.

    Raises:
        PeerFailed: Flink's rows are not ours; names the log.
    """
    rounds = [
        [
            *tables({relation: list(schema)}, events, settings, has_event_time=False),
            checksum(relation, lambda column: f"CAST(DATE_FORMAT({column}, 'HHmmssSSS') AS BIGINT)"),
        ]
        for relation, schema in generator.SCHEMAS.items()
    ]
    answers = ask(environment, rounds).answer["rounds"]
    for relation, answer in zip(generator.SCHEMAS, answers, strict=True):
        expected, found = our_checksum(relation, events, settings), answer["rows"][-1]
        if expected != found:
            raise PeerFailed(f"Flink's {relation} are other rows: expected sums {expected}, found {found}")


def our_checksum(relation: str, events: int, settings: Settings) -> list[int]:
    """Return the sums of the generator's rows."""
    query = checksum(relation, lambda column: f"CAST(strftime({column}, '%H%M%S%g') AS BIGINT)")
    table = generator.rows(relation, 0, events, settings)
    with duckdb.connect() as connection:
        connection.register(relation, table)
        return [int(value) for value in connection.execute(query).fetchall()[0]]


def ask(environment: FlinkEnvironment, rounds: list[list[str]]) -> Finished:
    """Run rounds of statements in one JVM on this machine's loopback."""
    function = (
        "CREATE TEMPORARY SYSTEM FUNCTION LETTERS AS 'Letters' LANGUAGE JAVA "
        f"USING JAR '{environment.letters_jar.as_uri()}'"
    )
    request: dict[str, Any] = {
        "configuration": CONFIGURATION,
        "rounds": [[function, *rounds[0]], *rounds[1:]],
    }
    return run(
        [str(environment.python), str(Path(__file__).with_name("flink_child.py")), json.dumps(request)],
        # Functions in Python are not used; unless they are to be processes, a server waits for them on all interfaces.
        environment=os.environ | {"JVM_ARGS": JVM_ARGUMENTS, "_python_worker_execution_mode": "process"},
        folder=ROOT / ".venv-flink",
        timeout_s=_TIMEOUT_S,
    )
