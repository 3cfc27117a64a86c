"""Runs Nexmark's queries, each from its logs to its committed output, next to DuckDB's one-shot answer.

    python -m benchmarks.nexmark --events 2000000 q3 q5

Each query has a data folder of its own. All events are appended first, which is not timed; then `catch_up` is, and
DuckDB's answer to the same SQL over the same logs. The answers are compared, row by row. Rows per second are those of the
logs that the query reads.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

import bourne
from benchmarks.main_path import timed
from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.nexmark.queries import QUERIES, SIDE_SCHEMA, inputs_of

# So many events are in memory at a time.
_CHUNK_EVENTS = 500_000
_WARM_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One query: records read, rows in its answer, seconds."""

    query: str
    records: int
    rows: int
    ours_s: float
    duckdb_s: float

    @property
    def ratio(self) -> float:
        """More than 1: faster than DuckDB's one-shot answer."""
        return self.duckdb_s / self.ours_s

    def line(self) -> str:
        """Return a row of the table."""
        ours, reference = self.records / self.ours_s / 1e6, self.records / self.duckdb_s / 1e6
        return (
            f"| {self.query} | {self.records:,} | {self.rows:,} | {self.ours_s:.2f} | {ours:.2f} | "
            f"{reference:.2f} | {self.ratio:.2f} |"
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nexmark", description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="q0 to q22; by default all")
    parser.add_argument("--events", type=int, default=int(os.environ.get("BOURNE_BENCH_EVENTS", "2000000")))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    unknown = set(arguments.queries) - QUERIES.keys()
    if unknown:
        parser.error(f"there is no query {', '.join(sorted(unknown))}; there are {', '.join(QUERIES)}")
    settings = Settings(seed=arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="bourne-nexmark-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    print(HEAD.format(
        events=arguments.events, cores=os.cpu_count(), machine=platform.machine(),
        python=platform.python_version(), duckdb=duckdb.__version__, bourne=bourne.__version__,
    ), flush=True)  # fmt: skip
    found = []
    try:
        for query in arguments.queries or QUERIES:
            measure(query, folder / "warm", _WARM_EVENTS, settings)  # so that compilation is not measured
            found.append(measure(query, folder / query, arguments.events, settings))
            print(found[-1].line(), flush=True)
    finally:
        shutil.rmtree(folder)
    mean = math.exp(sum(math.log(each.ratio) for each in found) / len(found))
    print(f"\nGeometric mean of the ratios: {mean:.2f}; the lowest: {min(each.ratio for each in found):.2f}.")


def measure(query: str, folder: Path, events: int, settings: Settings) -> Measured:
    """Run one query over so many events, in a folder that is removed when it is done.

    Raises:
        AssertionError: the view is not DuckDB's answer.
    """
    app = bourne.App("nexmark")
    for name in inputs_of(query):
        app.log(name, schema=(generator.SCHEMAS | {"side_input": SIDE_SCHEMA})[name])
    app.view("answer", QUERIES[query], grows=True)
    with bourne.open(app, data=folder) as instance:
        records = append_all(instance, inputs_of(query), events, settings)
        ours_s = timed(instance.catch_up)
        for name in inputs_of(query):
            instance.query(f"SELECT count(*) FROM {name}")
        duckdb_s = timed(lambda: instance.query(QUERIES[query]))
        mine, right = (instance.query(sql).to_arrow() for sql in ("FROM answer", QUERIES[query]))
    shutil.rmtree(folder)
    compare(query, mine, right)
    return Measured(query, records, right.num_rows, ours_s, duckdb_s)


def append_all(instance: bourne.Instance, logs: list[str], events: int, settings: Settings) -> int:
    """Append the events of these logs, and the side input; return how many records that are."""
    records = 0
    if "side_input" in logs:
        records += len(instance.append("side_input", generator.side_input()))
    for first in range(0, events, _CHUNK_EVENTS):
        count = min(_CHUNK_EVENTS, events - first)
        for name in logs:
            if name in generator.SCHEMAS:
                table = generator.rows(name, first, count, settings)
                records += len(instance.append(name, table, durability="interval"))
    return records


def compare(query: str, mine: pa.Table, right: pa.Table) -> None:
    """Check that two tables hold the same rows, each as often."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.register("mine", mine)
        connection.register("expected", right)
        (wrong,) = connection.execute(
            "SELECT (SELECT count(*) FROM (FROM mine EXCEPT ALL FROM expected)), "
            "(SELECT count(*) FROM (FROM expected EXCEPT ALL FROM mine))"
        ).fetchall()
    if wrong != (0, 0):
        raise AssertionError(f"{query}: {wrong[0]} rows too many, {wrong[1]} rows missing")


HEAD = """Nexmark, {events:,} events (1 person, 3 auctions, 46 bids of each 50). {cores} cores, {machine}; Python {python},
DuckDB {duckdb}, Bourne {bourne}. From the logs to the committed output, next to DuckDB's one-shot answer over the same
logs; a ratio of more than 1 means that Bourne is faster. Every answer is checked.

| query | records in | rows out | seconds | M records/s | DuckDB: M records/s | ratio |
|---|---:|---:|---:|---:|---:|---:|"""

if __name__ == "__main__":
    main()
