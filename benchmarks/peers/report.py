"""The page of a run against peers: a line per query, ratios, geometric means, and what was compared how."""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import duckdb

import bourne
from benchmarks.peers.environments import FLINK_VERSION, PATHWAY_VERSION
from benchmarks.peers.flink import CONFIGURATION, JVM_ARGUMENTS
from benchmarks.peers.pathway_peer import WORKERS
from benchmarks.peers.processes import PeerTimes


@dataclass(frozen=True, slots=True)
class Line:
    """One query: records read, rows in the answer, seconds and memory of each peer."""

    query: str
    records: int
    rows: int
    ours_s: float
    ours_bytes: int
    duckdb_s: float
    duckdb_bytes: int
    peers: Mapping[str, PeerTimes | None] = field(default_factory=dict)  # None: it failed; without: not asked

    @property
    def against_duckdb(self) -> float:
        """More than 1: Bourne is faster."""
        return self.duckdb_s / self.ours_s

    def against(self, peer: str) -> float:
        """More than 1: Bourne is faster. All of the peer's time counts."""
        times = self.peers.get(peer)
        return times.seconds / self.ours_s if times else math.nan

    def against_computing(self, peer: str) -> float:
        """As `against`, as if the peer's rows had cost nothing; not a number if getting them alone took no less."""
        times = self.peers.get(peer)
        return times.computing_s / self.ours_s if times else math.nan

    def markdown(self) -> str:
        """Return a row of the table of what every peer has."""
        rate = self.records / 1e6
        cells = [
            self.query, f"{self.records:,}", f"{self.rows:,}", f"{rate / self.ours_s:.2f}",
            f"{rate / self.duckdb_s:.2f}", f"{self.against_duckdb:.2f}",
            f"{self.ours_bytes / 1e6:,.0f}", f"{self.duckdb_bytes / 1e6:,.0f}",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def beside(self, peer: str) -> str:
        """Return a row of a peer's own table."""
        rate, times = self.records / 1e6, self.peers.get(peer)
        cells = [self.query, f"{rate / self.ours_s:.2f}"]
        if times is None:
            cells += ["failed" if peer in self.peers else "-", *["-"] * 4]
        else:
            cells += [
                f"{rate / times.seconds:.2f}", f"{rate / times.rows_s:.2f}", f"{self.against(peer):.1f}",
                "-" if math.isnan(ratio := self.against_computing(peer)) else f"{ratio:.1f}",
                f"{times.bytes_max / 1e6:,.0f}",
            ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def page(lines: list[Line], events: int) -> str:
    """Return the whole page."""
    return _PAGE.format(
        events=events, cores=os.cpu_count(), machine=platform.machine(), python=platform.python_version(),
        bourne=bourne.__version__, duckdb=duckdb.__version__, flink=FLINK_VERSION, pathway=PATHWAY_VERSION,
        table="\n".join(line.markdown() for line in lines),
        against_duckdb=summary(lines, lambda line: line.against_duckdb),
        beside_flink=_beside(lines, "flink", "Flink", "generating"),
        beside_pathway=_beside(lines, "pathway", "Pathway", "reading"),
        configuration=", ".join(
            f"`{name}={value}`" for name, value in CONFIGURATION.items()
            if name.startswith(("parallelism", "pipeline", "state", "table."))
        ),
        jvm=JVM_ARGUMENTS, workers=WORKERS,
    )  # fmt: skip


def _beside(lines: list[Line], peer: str, name: str, getting: str) -> str:
    """Return the table of one peer and what it comes to."""
    if not any(peer in line.peers for line in lines):
        return f"{name} was not asked in this run."
    starts = sorted(times.start_s for line in lines if (times := line.peers.get(peer)))
    computing = functools.partial(Line.against_computing, peer=peer)
    return "\n".join(
        [
            f"| query | Bourne | {name} | {name}, {getting} alone | / {name} | / {name}, computing alone | {name} MB |",
            f"|---|{'---:|' * 6}",
            *(line.beside(peer) for line in lines),
            "",
            f"* Against {name}: {summary(lines, functools.partial(Line.against, peer=peer))}.",
            f"* Against {name} as if its rows had cost nothing: {summary(lines, computing)}.",
            *(
                f"* {name}'s start, which does not count: {at:.1f} s."
                for at in starts[len(starts) // 2 :][:1]
            ),
        ]
    )


def summary(lines: list[Line], ratio: Callable[[Line], float]) -> str:
    """Return the geometric mean of a ratio, and its lowest, of the queries that have one."""
    ratios = {line.query: ratio(line) for line in lines if not math.isnan(ratio(line))}
    if not ratios:
        return "no query has one"
    mean = math.exp(sum(math.log(value) for value in ratios.values()) / len(ratios))
    lowest = min(ratios, key=ratios.__getitem__)
    return f"geometric mean {mean:.2f}, lowest {ratios[lowest]:.2f} ({lowest}), of {len(ratios)} queries"


_PAGE: Final = """# Benchmarks against peers

Written by `make bench-peers`; do not edit. Nexmark, {events:,} events (1 person, 3 auctions, 46 bids of each 50), of which
a query reads those of its logs. {cores} cores, {machine}; Python {python}, Bourne {bourne}, DuckDB {duckdb}, Apache Flink
{flink}, Pathway {pathway}. In turn in one run, each query and peer in a process of its own that has run the query over a
few events before. Speed is in millions of records read per second. Ratios of more than 1 mean that Bourne is faster.
Four questions of event time are added to Nexmark's: counts and sums per auction and minute (*tumble*) and per auction and
minute, beginning each second (*hop*: each bid is in 60 windows), per bidder's session with gaps under 10 seconds
(*session*), and an auction's bids of its first 10 seconds (*interval*).

## Beside DuckDB, the bound

| query | records in | rows out | Bourne | DuckDB | / DuckDB | Bourne MB | DuckDB MB |
|---|---:|---:|---:|---:|---:|---:|---:|
{table}

* Against DuckDB: {against_duckdb}.

## Beside Flink

{beside_flink}

## Beside Pathway

{beside_pathway}

## What is compared

* **Bourne**: from its logs, already appended, to its output, committed and synced to disk. Nexmark's views emit
  every correction; the four of event time emit once, when the watermark closes what they say (`EMIT FINAL`).
* **DuckDB**: its one-shot answer to the same SQL over the same logs, kept in memory. It keeps nothing up to date: it is the
  bound, not a rival.
* **Flink**: streaming, from the submission of the job to its end, into the `blackhole` sink: nothing is written or made
  durable, and there are no checkpoints. {configuration}; the JVM with `{jvm}`. Its start is that of a JVM and a first small
  run.
* **Flink's rows** come from its `datagen` connector and computed columns, by the formulas of our generator; sums over every
  column of the first events are compared before anything is measured. Generating costs Flink more than reading a log
  costs us. So the same rows are also generated without a query; *computing alone* is Flink's time less that, which is more
  than fair to Flink, as it would have to read its rows from somewhere. It has no figure where the query took no longer
  than generating alone: a query that filters or aggregates has fewer columns computed. (In q7 Flink generates its bids
  once for each side of the join.)
* **Flink's queries** are those of Nexmark for Flink: windows by its window functions (q5, q7, q8), which emit once,
  when the watermark closes them; ties (q9, q18, q19) by price or time alone, where ours take all columns. The number of
  rows of each answer is compared with ours for the first events.
* **Pathway**: {workers} workers; its rows come from CSV files with the columns that a query needs, by its own reader, all in
  one commit, so that it emits no corrections; into its `null` sink: nothing is written. Reading is most of its time: the
  same files are also read without a query, and *computing alone* is the time less that. It cannot express q19 (a rank
  within a group). Where rows tie (q9, q18), any of them is its answer; the number of rows is compared with
  ours, too.
* **Memory** is the most that a process and its children held, without pages of files, while it warmed up and while it ran.
  Flink takes what it is allowed before it collects garbage; Pathway's is also that of the reading alone.
  What takes more than four fifths of the machine's is stopped: it has *failed*.
"""
