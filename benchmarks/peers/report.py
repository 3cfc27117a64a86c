"""The page of a run against peers: a line per query, ratios, geometric means, and what was compared how."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import duckdb

import bourne
from benchmarks.peers.environments import FLINK_VERSION
from benchmarks.peers.flink import CONFIGURATION, JVM_ARGUMENTS, FlinkTimes


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
    flink: FlinkTimes | None
    flink_failed: bool = False

    @property
    def against_duckdb(self) -> float:
        """More than 1: Bourne is faster."""
        return self.duckdb_s / self.ours_s

    @property
    def against_flink(self) -> float:
        """More than 1: Bourne is faster. All of Flink's time counts."""
        return self.flink.seconds / self.ours_s if self.flink else math.nan

    @property
    def against_computing(self) -> float:
        """As `against_flink`, as if Flink's rows had cost nothing; not a number if generating alone took no less."""
        if self.flink is None or self.flink.seconds <= self.flink.generating_s:
            return math.nan
        return (self.flink.seconds - self.flink.generating_s) / self.ours_s

    def markdown(self) -> str:
        """Return a row of the table."""
        rate = self.records / 1e6
        cells = [
            self.query, f"{self.records:,}", f"{self.rows:,}",
            f"{rate / self.ours_s:.2f}", f"{rate / self.duckdb_s:.2f}",
            f"{rate / self.flink.seconds:.2f}" if self.flink else "failed" if self.flink_failed else "-",
            f"{rate / self.flink.generating_s:.2f}" if self.flink else "-",
            f"{self.against_duckdb:.2f}",
            *("-" if math.isnan(ratio) else f"{ratio:.1f}" for ratio in (self.against_flink, self.against_computing)),
            f"{self.ours_bytes / 1e6:,.0f}", f"{self.duckdb_bytes / 1e6:,.0f}",
            f"{self.flink.bytes_max / 1e6:,.0f}" if self.flink else "-",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def page(lines: list[Line], events: int) -> str:
    """Return the whole page."""
    measured = [line for line in lines if line.flink]
    means = [f"Against DuckDB: {summary(lines, lambda line: line.against_duckdb)}."]
    if measured:
        starts = sorted(line.flink.start_s for line in measured if line.flink)
        means += [
            f"Against Flink: {summary(measured, lambda line: line.against_flink)}.",
            "Against Flink as if its rows had cost nothing: "
            f"{summary(measured, lambda line: line.against_computing)}.",
            f"Flink's start, which does not count (a JVM, a first small run): {starts[len(starts) // 2]:.1f} s.",
        ]
    return _PAGE.format(
        events=events, cores=os.cpu_count(), machine=platform.machine(), python=platform.python_version(),
        bourne=bourne.__version__, duckdb=duckdb.__version__, flink=FLINK_VERSION,
        table="\n".join(line.markdown() for line in lines), means="\n".join(f"* {mean}" for mean in means),
        configuration=", ".join(
            f"`{name}={value}`" for name, value in CONFIGURATION.items()
            if name.startswith(("parallelism", "pipeline", "state", "table."))
        ),
        jvm=JVM_ARGUMENTS,
    )  # fmt: skip


def summary(lines: list[Line], ratio: Callable[[Line], float]) -> str:
    """Return the geometric mean of a ratio, and its lowest, of the queries that have one."""
    ratios = {line.query: ratio(line) for line in lines if not math.isnan(ratio(line))}
    if not ratios:
        return "no query has one"
    mean = math.exp(sum(math.log(value) for value in ratios.values()) / len(ratios))
    lowest = min(ratios, key=ratios.__getitem__)
    return f"geometric mean {mean:.2f}, lowest {ratios[lowest]:.2f} ({lowest})"


_PAGE: Final = """# Benchmarks against peers

Written by `make bench-peers`; do not edit. Nexmark, {events:,} events (1 person, 3 auctions, 46 bids of each 50), of which
a query reads those of its logs. {cores} cores, {machine}; Python {python}, Bourne {bourne}, DuckDB {duckdb}, Apache Flink
{flink}. In turn in one run, each query and peer in a process of its own that has run the query over a few events before.
Speed is in millions of records read per second. Ratios of more than 1 mean that Bourne is faster.

| query | records in | rows out | Bourne | DuckDB | Flink | Flink, generating alone | / DuckDB | / Flink | / Flink, computing alone | Bourne MB | DuckDB MB | Flink MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{table}

{means}

## What is compared

* **Bourne**: from its logs, already appended, to its output, committed and synced to disk. Views emit every correction.
* **DuckDB**: its one-shot answer to the same SQL over the same logs, kept in memory. It keeps nothing up to date: it is the
  bound, not a rival.
* **Flink**: streaming, from the submission of the job to its end, into the `blackhole` sink: nothing is written or made
  durable, and there are no checkpoints. {configuration}; the JVM with `{jvm}`.
* **Flink's rows** come from its `datagen` connector and computed columns, by the formulas of our generator; sums over every
  column of the first events are compared before anything is measured. Generating costs Flink more than reading a log
  costs us. So the same rows are also generated without a query; *computing alone* is Flink's time less that, which is more
  than fair to Flink, as it would have to read its rows from somewhere. It has no figure where the query took no longer
  than generating alone: a query that filters or aggregates has fewer columns computed. (In q7 Flink generates its bids
  once for each side of the join.)
* **Flink's queries** are those of Nexmark for Flink: windows by its window functions (q5, q7, q8), which emit once,
  when the watermark closes them; ties (q9, q18, q19) by price or time alone, where ours take all columns.
* **Memory** is the most that a process and its children held, without pages of files, while it warmed up and while it ran.
  Flink takes what it is allowed before it collects garbage.
* **Pathway** is not compared: its queries are programs in Python, which we would have to write, and its rows would come
  from files by its own connectors, so that it would be reading files that is measured.
"""
