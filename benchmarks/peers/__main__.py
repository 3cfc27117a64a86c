"""Runs Nexmark's queries in Bourne, DuckDB, Flink and Pathway, in turn, and writes docs/benchmarks_peers.md.

    python -m benchmarks.peers --events 10000000 q3 q5

Each query and peer has a process of its own, which first runs the query over a few events. The events are appended to
Bourne's logs before, which is not timed; Bourne is timed from there to its committed output, synced to disk. DuckDB's
one-shot answer over the same logs is the bound. Flink generates its rows itself, by the same formulas; Pathway reads
them from files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import bourne
from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.nexmark.queries import app_of, inputs_of
from benchmarks.peers import flink, pathway_peer, report
from benchmarks.peers.environments import ROOT, make_flink, make_pathway
from benchmarks.peers.flink_queries import FLINK_QUERIES
from benchmarks.peers.processes import PeerFailed, PeerTimes, run

_WARM_EVENTS: Final = 200_000
_CHECKED_EVENTS: Final = 100_000
_CHUNK_EVENTS: Final = 500_000
_TIMEOUT_S: Final = 3600.0

PEERS: Final = ("flink", "pathway")

# Of a query, how many events to run it over before, how many then, and how many rows its answer to the few has.
Measure = Callable[[str, int, int, int], PeerTimes]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="by default all that Flink has")
    parser.add_argument("--events", type=int, default=int(os.environ.get("EVENTS", "10000000")))
    parser.add_argument("--peers", default=",".join(PEERS), help="beside DuckDB; by default %(default)s")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks_peers.md")
    arguments = parser.parse_args()
    queries = arguments.queries or list(FLINK_QUERIES)
    peers = [name for name in arguments.peers.split(",") if name]
    for asked, there in ((queries, FLINK_QUERIES), (peers, PEERS)):
        if unknown := set(asked) - set(there):
            parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    folder = Path(tempfile.mkdtemp(prefix="bourne-peers-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        found = measure_all(queries, arguments.events, folder, peers)
    except PeerFailed as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder)
    page = report.page(found, arguments.events)
    arguments.page.write_text(page, encoding="utf-8")
    print(page)


def measure_all(queries: list[str], events: int, folder: Path, peers: Collection[str]) -> list[report.Line]:
    """Measure the queries, those that read the same logs one after the other."""
    settings = Settings()
    measures: dict[str, Measure] = {}
    if "flink" in peers:
        environment = make_flink(settings)
        flink.check_rows(environment, events=_CHECKED_EVENTS, settings=settings)
        print(f"Flink's first {_CHECKED_EVENTS:,} events are ours.", flush=True)
        measures["flink"] = lambda query, few, every, rows: flink.measure(
            environment, query, events=every, warm_events=few, rows_of_few=rows, settings=settings
        )
    if "pathway" in peers:
        python = make_pathway()
        measures["pathway"] = lambda query, few, every, rows: pathway_peer.measure(
            python, query, folder / "files", events=every, warm_events=few, rows_of_few=rows, settings=settings
        )  # fmt: skip
    found: dict[str, report.Line] = {}
    for inputs in sorted({tuple(inputs_of(query)) for query in queries}):
        stored = [folder / "few", folder / "all"]
        few = min(_WARM_EVENTS, events)
        store(inputs, few, settings, stored[0])
        stored_rows = store(inputs, events, settings, stored[1])
        for query in queries:
            if tuple(inputs_of(query)) == inputs:
                found[query] = measure(query, stored, stored_rows, (few, events), measures)
                print(found[query].markdown(), flush=True)
        for place in stored:
            shutil.rmtree(place)
    return [found[query] for query in queries]


def store(logs: Sequence[str], events: int, settings: Settings, folder: Path) -> int:
    """Append the events of these logs; return how many records that are."""
    records = 0
    with bourne.open(app_of(logs), data=folder) as instance:
        for first in range(0, events, _CHUNK_EVENTS):
            count = min(_CHUNK_EVENTS, events - first)
            for name in logs:
                rows = generator.rows(name, first, count, settings)
                records += len(instance.append(name, rows, durability="interval"))
    return records


def measure(
    query: str, stored: list[Path], records: int, events: tuple[int, int], measures: Mapping[str, Measure]
) -> report.Line:
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
    times: dict[str, PeerTimes | None] = {}
    for peer, measure_peer in measures.items():
        if peer == "pathway" and query not in pathway_peer.QUERIES:
            continue
        try:
            times[peer] = measure_peer(query, *events, ours.answer["rows_of_few"])
        except PeerFailed as failure:  # as when there is no more memory: the other queries go on
            times[peer] = None
            print(failure, file=sys.stderr, flush=True)
    return report.Line(
        query, records, ours.answer["rows"], ours.answer["seconds"], ours.bytes_max,
        duckdb.answer["seconds"], duckdb.bytes_max, times,
    )  # fmt: skip


if __name__ == "__main__":
    main()
