"""Runs Nexmark's queries in Bourne, in DuckDB and in Flink, in turn, and writes docs/benchmarks_peers.md.

    python -m benchmarks.peers --events 10000000 q3 q5

Each query and peer has a process of its own, which first runs the query over a few events. The events are appended to
Bourne's logs before, which is not timed; Bourne is timed from there to its committed output, synced to disk. DuckDB's
one-shot answer over the same logs is the bound. Flink generates its rows itself, by the same formulas.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import bourne
from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.nexmark.queries import inputs_of
from benchmarks.peers import flink, report
from benchmarks.peers.environments import ROOT, FlinkEnvironment, make_flink
from benchmarks.peers.flink_queries import FLINK_QUERIES
from benchmarks.peers.processes import PeerFailed, run

_WARM_EVENTS: Final = 200_000
_CHECKED_EVENTS: Final = 100_000
_CHUNK_EVENTS: Final = 500_000
_TIMEOUT_S: Final = 3600.0


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="by default all that Flink has")
    parser.add_argument("--events", type=int, default=int(os.environ.get("EVENTS", "10000000")))
    parser.add_argument("--without-flink", action="store_true", help="Bourne and DuckDB alone")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks_peers.md")
    arguments = parser.parse_args()
    queries = arguments.queries or list(FLINK_QUERIES)
    unknown = set(queries) - FLINK_QUERIES.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(FLINK_QUERIES)}")
    folder = Path(tempfile.mkdtemp(prefix="bourne-peers-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        found = measure_all(queries, arguments.events, folder, with_flink=not arguments.without_flink)
    except PeerFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder)
    page = report.page(found, arguments.events)
    arguments.page.write_text(page, encoding="utf-8")
    print(page)


def measure_all(queries: list[str], events: int, folder: Path, *, with_flink: bool) -> list[report.Line]:
    """Measure the queries, those that read the same logs one after the other."""
    settings = Settings()
    environment = make_flink(settings) if with_flink else None
    if environment is not None:
        flink.check_rows(environment, events=_CHECKED_EVENTS, settings=settings)
        print(f"Flink's first {_CHECKED_EVENTS:,} events are ours.", flush=True)
    found: dict[str, report.Line] = {}
    for inputs in sorted({tuple(inputs_of(query)) for query in queries}):
        stored = [folder / "few", folder / "all"]
        store(inputs, min(_WARM_EVENTS, events), settings, stored[0])
        stored_rows = store(inputs, events, settings, stored[1])
        for query in queries:
            if tuple(inputs_of(query)) == inputs:
                found[query] = measure(query, stored, stored_rows, events, environment, settings)
                print(found[query].markdown(), flush=True)
        for place in stored:
            shutil.rmtree(place)
    return [found[query] for query in queries]


def store(logs: tuple[str, ...], events: int, settings: Settings, folder: Path) -> int:
    """Append the events of these logs; return how many records that are."""
    app = bourne.App("nexmark")
    for name in logs:
        app.log(name, schema=generator.SCHEMAS[name])
    records = 0
    with bourne.open(app, data=folder) as instance:
        for first in range(0, events, _CHUNK_EVENTS):
            count = min(_CHUNK_EVENTS, events - first)
            for name in logs:
                rows = generator.rows(name, first, count, settings)
                records += len(instance.append(name, rows, durability="interval"))
    return records


def measure(
    query: str, stored: list[Path], records: int, events: int, environment: FlinkEnvironment | None,
    settings: Settings,
) -> report.Line:  # fmt: skip
    """Run a query in each peer, in turn."""
    copies = [place.with_name(f"{place.name}-{query}") for place in stored]
    try:
        for place, copy in zip(stored, copies, strict=True):
            shutil.copytree(place, copy)
        os.sync()  # else the disk would still be writing the copies
        ours, duckdb = (
            run(
                [sys.executable, "-m", "benchmarks.peers.ours_child", peer, query, *map(str, copies)],
                environment=dict(os.environ), folder=ROOT, timeout_s=_TIMEOUT_S,
            )
            for peer in ("bourne", "duckdb")
        )  # fmt: skip
    finally:
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
    if ours.answer["rows"] != duckdb.answer["rows"]:
        raise PeerFailed(f"{query}: Bourne has {ours.answer['rows']} rows, DuckDB {duckdb.answer['rows']}")
    times, has_failed = None, False
    if environment is not None:
        try:
            times = flink.measure(
                environment, query, events=events, warm_events=min(_WARM_EVENTS, events), settings=settings
            )
        except PeerFailed as failure:  # as when the JVM has no more memory: the other queries go on
            has_failed = True
            print(failure, file=sys.stderr, flush=True)
    return report.Line(
        query, records, ours.answer["rows"], ours.answer["seconds"], ours.bytes_max,
        duckdb.answer["seconds"], duckdb.bytes_max, times, has_failed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
