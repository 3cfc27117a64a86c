"""How fast is the whole path, from append to committed view, next to DuckDB's one-shot answer?

Every figure is a median of rounds; ours and the reference are measured in turn in the same run, and the ratio is
what counts, as machines are noisy. Run with `make bench`; it writes docs/benchmarks.md.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

import bourne
from bourne.log.reader import LogReader
from bourne.views.catalog import Catalog

ROWS = int(os.environ.get("BOURNE_BENCH_ROWS", str(10_000_000)))
ROUNDS = int(os.environ.get("BOURNE_BENCH_ROUNDS", str(3)))
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

SCHEMA = {"k": "bigint", "user": "varchar", "price": "decimal(10,2)", "v": "double", "at": "timestamp"}

VIEWS = {
    "filter view": "SELECT k, user, v FROM events WHERE v < 0.1",
    "keyed aggregate, 1 M keys": "SELECT k, count(*) AS n, sum(v) AS total FROM events GROUP BY k",
    "tumbling window, 10 s": "SELECT window_start, count(*) AS n, sum(price) AS total, max(v) AS top "
    "FROM TUMBLE(events, at, INTERVAL '10 seconds') GROUP BY window_start",
    "tumbling window, 10 s per user": "SELECT user, window_start, count(*) AS n, sum(price) AS total "
    "FROM TUMBLE(events, at, INTERVAL '10 seconds') GROUP BY user, window_start",
}


@dataclass(frozen=True)
class Line:
    """One measured thing: seconds for ours and for the reference."""

    what: str
    rows: int
    ours_s: float
    reference: str
    reference_s: float

    def markdown(self) -> str:
        """Return a table row."""
        return (
            f"| {self.what} | {self.rows / self.ours_s / 1e6:.1f} | {self.reference} | "
            f"{self.rows / self.reference_s / 1e6:.1f} | {self.reference_s / self.ours_s:.2f} |"
        )


def make_events(rows: int) -> pa.Table:
    """Return events in order of time: one hour, 1 M keys, 1,000 users."""
    random = np.random.default_rng(7)
    users = pa.array([f"user-{i:03d}" for i in range(1000)])
    hour = np.sort(random.integers(0, 3600 * 10**6, rows)) + 1_700_000_000_000_000
    cents = random.integers(1, 10**6, rows)
    price = np.stack([cents, np.zeros_like(cents)], axis=1)
    return pa.table(
        {
            "k": random.integers(0, 1_000_000, rows),
            "user": users.take(pa.array(random.integers(0, 1000, rows))),
            "price": pa.Array.from_buffers(pa.decimal128(10, 2), rows, [None, pa.py_buffer(price)]),
            "v": random.random(rows),
            "at": pa.array(hour, pa.timestamp("us")),
        }
    )


def timed(action: Callable[[], object]) -> float:
    """Return how long an action takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def make_app(views: dict[str, str]) -> tuple[bourne.App, dict[str, str]]:
    """Return an app with these views, and the name of each."""
    app = bourne.App("bench")
    app.log("events", schema=SCHEMA, time="at")
    names = {title: f"v{number}" for number, title in enumerate(views)}
    for title, sql in views.items():
        app.view(names[title], sql)
    return app, names


def bare_write(folder: Path, size: int, chunk: bytes) -> None:
    """Write and sync `size` bytes, with nothing else around it."""
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for _ in range(size // len(chunk)):
        os.write(descriptor, chunk)
    os.fdatasync(descriptor)
    os.close(descriptor)


def measure_log(folder: Path, events: pa.Table) -> list[Line]:
    """Append everything with fsync and scan it, each next to a reference."""
    append_s, bare_s, scan_s, memory_s = [], [], [], []
    chunk = os.urandom(16 << 20)
    for number in range(ROUNDS):
        app, _ = make_app({})
        with bourne.open(app, data=folder / f"log{number}") as instance:
            append_s.append(timed(lambda: instance.append("events", events)))
            size = instance.status().logs[0].bytes
        bare_s.append(timed(lambda: bare_write(folder, size, chunk)))  # noqa: B023
        info = Catalog(folder / f"log{number}").log("events")
        assert info is not None

        def scan() -> None:
            reader = LogReader(folder / f"log{number}" / "logs" / "events", info)  # noqa: B023
            table = pa.Table.from_batches([frame.batch for frame in reader.read()])
            answer(table)
            reader.close()

        def answer(table: pa.Table) -> None:
            connection = duckdb.connect()
            connection.register("events", table)
            connection.sql('SELECT count(*), sum(k), sum(v), max("at") FROM events').fetchall()

        scan_s.append(timed(scan))
        memory_s.append(timed(lambda: answer(events)))
        shutil.rmtree(folder / f"log{number}")
    rows = events.num_rows
    return [
        Line("append with fsync", rows, statistics.median(append_s),
             "bare write + fsync of the same bytes", statistics.median(bare_s)),
        Line("log scan: read, check, sum 3 columns", rows, statistics.median(scan_s),
             "DuckDB over the same rows in memory", statistics.median(memory_s)),
    ]  # fmt: skip


def measure_views(folder: Path, events: pa.Table) -> list[Line]:
    """From the log to the committed output, next to DuckDB's answer over the same log."""
    lines = []
    for title, sql in VIEWS.items():
        ours, reference = [], []
        for number in range(ROUNDS):
            app, names = make_app({title: sql})
            data = folder / f"view{number}"
            with bourne.open(app, data=data) as instance:
                instance.append("events", events)
                instance.query("SELECT count(*) FROM events")
                ours.append(timed(instance.catch_up))
                reference.append(timed(lambda: instance.query(sql)))  # noqa: B023
                assert len(instance.query(f"FROM {names[title]}")) == len(instance.query(sql))
            shutil.rmtree(data)
        lines.append(
            Line(f"{title}: log to committed output", events.num_rows, statistics.median(ours),
                 "DuckDB one-shot over the log", statistics.median(reference))
        )  # fmt: skip
    return lines


def measure_latency(folder: Path, events: pa.Table) -> list[str]:
    """How long from a small append to its result, on small and on large state."""
    lines = []
    title = "keyed aggregate, 1 M keys"
    for rows in (1000, 2_000_000):
        app, names = make_app({title: VIEWS[title]})
        with bourne.open(app, data=folder / f"latency{rows}") as instance:
            instance.append("events", events.slice(0, rows))
            instance.catch_up()
            keys = len(instance.query(f"FROM {names[title]}"))
            samples = []
            for number in range(50):
                row = events.slice(number, 1)

                def visible() -> None:
                    instance.append("events", row)  # noqa: B023
                    instance.catch_up()
                    instance.query(f"SELECT * FROM {names[title]} WHERE k = ?", [row["k"][0].as_py()])  # noqa: B023

                samples.append(timed(visible) * 1e3)
        ordered = sorted(samples)
        lines.append(f"| {keys:,} | {ordered[25]:.1f} | {ordered[47]:.1f} |")
    return lines


def main() -> None:
    """Measure and write the page."""
    folder = Path(tempfile.mkdtemp(prefix="bourne-bench-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        warm_up(folder)
        events = make_events(ROWS)
        lines = [*measure_log(folder, events), *measure_views(folder, events)]
        latency = measure_latency(folder, events)
    finally:
        shutil.rmtree(folder)
    page = PAGE_TEXT.format(
        rows=ROWS, rounds=ROUNDS, table="\n".join(line.markdown() for line in lines),
        latency="\n".join(latency), machine=f"{os.cpu_count()} cores, {platform.machine()}",
        versions=f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, PyArrow {pa.__version__}, "
        f"Bourne {bourne.__version__}",
    )  # fmt: skip
    PAGE.write_text(page, encoding="utf-8")
    print(page)


def warm_up(folder: Path) -> None:
    """Run everything once on few rows, so that compilation is not measured."""
    app, _ = make_app(VIEWS)
    with bourne.open(app, data=folder / "warm") as instance:
        instance.append("events", make_events(100_000))
        instance.catch_up()


PAGE_TEXT = """# Benchmarks

Written by `make bench`; do not edit. {rows:,} rows of 5 columns (bigint, varchar, decimal, double, timestamp), median
of {rounds} rounds, ours and the reference in turn in the same run. The ratio is what counts: more than 1 means that
Bourne is faster than the reference. {machine}; {versions}.

| what | M rows/s | reference | M rows/s | ratio |
|---|---:|---|---:|---:|
{table}

The path of a view is: read and check the log, compute, write the output with its position, fsync. DuckDB's one-shot
answer reads the log from the memory map, in parallel, and keeps nothing: it is the bound, not a rival.

From the call of `append` with one row to its result in a query, in milliseconds (append with fsync, `catch_up`,
`query`):

| keys in the view | median | 95th percentile |
|---:|---:|---:|
{latency}
"""

if __name__ == "__main__":
    main()
