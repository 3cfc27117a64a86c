"""How fast is the log alone, next to the bare disk and to what one might take instead?

As in `main_path`: ours and each reference in turn in the same run, medians of rounds, and the ratio is what counts.
Run with `make bench`; it writes docs/benchmarks_log.md.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import bourne
from benchmarks.main_path import SCHEMA, make_events, timed
from bourne.log import embedded
from bourne.log.writer import LogWriter

ROWS = int(os.environ.get("BOURNE_BENCH_ROWS", str(10_000_000)))
ROUNDS = int(os.environ.get("BOURNE_BENCH_ROUNDS", str(3)))
SEGMENTS = int(os.environ.get("BOURNE_BENCH_SEGMENTS", str(10_000)))
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks_log.md"

FRAMES = 200
THREADS = 16
APPENDS = 2_000  # per thread

FEW_COLUMNS = 'SELECT count(*), sum(k), sum(v), max("at") FROM events'
ALL_COLUMNS = 'SELECT count(k), max("user"), sum(price), sum(v), max("at") FROM events'


def opened(folder: Path, **options: object) -> bourne.Instance:
    """Open an app with the log of events."""
    app = bourne.App("bench")
    app.log("events", schema=SCHEMA, time="at", **options)  # type: ignore[arg-type]
    return bourne.open(app, data=folder)


def write_and_sync(path: Path, chunk: bytes, count: int) -> None:
    """Write `count` chunks, each synced before the next: what a durable append cannot do without."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for _ in range(count):
        os.write(descriptor, chunk)
        os.fdatasync(descriptor)
    os.close(descriptor)


def measure_frames(folder: Path, events: pa.Table) -> list[str]:
    """Append frames of about 1 MiB with fsync, next to writing and syncing the same bytes."""
    rows = round(events.num_rows * (1 << 20) / events.nbytes)
    piece = events.slice(0, rows)
    ours, bare, size = [], [], 0
    for number in range(ROUNDS):
        with opened(folder / "warm") as instance:  # so that memory is there, as it is for the reference
            log = instance.log("events")
            for _ in range(FRAMES):
                log.append(piece)
        shutil.rmtree(folder / "warm")
        with opened(folder / f"frames{number}") as instance:
            log = instance.log("events")
            log.append(piece)
            before = instance.status().logs[0].bytes
            ours.append(timed(lambda: [log.append(piece) for _ in range(FRAMES)]))  # noqa: B023
            size = (instance.status().logs[0].bytes - before) // FRAMES
        chunk = os.urandom(size)
        write_and_sync(folder / "bare", chunk, FRAMES)
        bare.append(timed(lambda: write_and_sync(folder / "bare", chunk, FRAMES)))  # noqa: B023
        shutil.rmtree(folder / f"frames{number}")
    mib = FRAMES * size / (1 << 20)
    return [
        row(f"append, fsync, frames of {size / (1 << 20):.2f} MiB", f"{mib / median(ours):,.0f} MiB/s",
            "write + fdatasync of the same bytes", f"{mib / median(bare):,.0f} MiB/s", median(bare) / median(ours)),
    ]  # fmt: skip


def measure_small(folder: Path, events: pa.Table) -> list[str]:
    """Append one row at a time from many threads, durable each, next to the disk's own syncs and to SQLite."""
    ours, alone, bare, sqlite = [], [], [], []
    one = pa.Table.from_pylist(events.slice(0, 1).to_pylist(), events.schema)
    for number in range(ROUNDS):
        with opened(folder / f"small{number}") as instance:
            log = instance.log("events")
            log.append(one)
            ours.append(in_threads(lambda: [log.append(one) for _ in range(APPENDS)]))  # noqa: B023
            alone.append(timed(lambda: [log.append(one) for _ in range(APPENDS)]))  # noqa: B023
        bare.append(timed(lambda: write_and_sync(folder / "bare", bytes(1024), APPENDS)))
        sqlite.append(sqlite_small(folder / f"small{number}.db", one))
        shutil.rmtree(folder / f"small{number}")
    rate = THREADS * APPENDS / median(ours)
    syncs = APPENDS / median(bare)
    return [
        row(f"append of 1 row, fsync, {THREADS} threads", f"{rate:,.0f}/s", "write + fdatasync of 1 KiB, one thread",
            f"{syncs:,.0f}/s", rate / syncs),
        row(f"append of 1 row, fsync, {THREADS} threads", f"{rate:,.0f}/s",
            f"SQLite, WAL, synchronous=FULL, {THREADS} threads", f"{median(sqlite):,.0f}/s", rate / median(sqlite)),
        row("append of 1 row, fsync, one thread", f"{APPENDS / median(alone):,.0f}/s",
            "write + fdatasync of 1 KiB, one thread", f"{syncs:,.0f}/s", APPENDS / median(alone) / syncs),
    ]  # fmt: skip


def in_threads(work: Callable[[], object], count: int = THREADS) -> float:
    """Run the same in several threads; return the seconds from the first start to the last end."""
    ready = threading.Barrier(count + 1)

    def run() -> None:
        ready.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def sqlite_small(path: Path, one: pa.Table) -> float:
    """Return how many one-row transactions a second SQLite commits durably, from as many threads."""
    values = plain(one)[0]
    connect_sqlite(path).close()
    appends = APPENDS // 20  # it takes long

    def work() -> None:
        connection = connect_sqlite(path)
        for _ in range(appends):
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", values)
        connection.close()

    return THREADS * appends / in_threads(work)


def connect_sqlite(path: Path) -> sqlite3.Connection:
    """Open a database as one would who wants no commit to be lost."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS events (k, user, price, v, at)")
    return connection


def plain(events: pa.Table) -> list[tuple[object, ...]]:
    """Return rows as SQLite and JSON take them."""
    columns = events.to_pydict()
    columns["price"] = [str(value) for value in columns["price"]]
    columns["at"] = [value.isoformat() for value in columns["at"]]
    return list(zip(*columns.values(), strict=True))


def measure_bulk(folder: Path, events: pa.Table) -> list[str]:
    """Append and scan many rows, next to Parquet, SQLite and a file of JSON lines."""
    few = events.slice(0, min(ROWS, 500_000))
    rows = plain(few)
    gc.freeze()  # millions of objects that the garbage collector need not look at again and again
    names = events.column_names
    seconds: dict[str, list[float]] = {}

    def take(what: str, action: Callable[[], object]) -> None:
        seconds.setdefault(what, []).append(timed(action))

    for number in range(ROUNDS):
        data, parquet = folder / f"bulk{number}", folder / f"bulk{number}.parquet"
        database, lines = folder / f"bulk{number}.db", folder / f"bulk{number}.jsonl"
        with opened(folder / "warm") as instance:  # so that memory is there, as it is for the others
            instance.append("events", events)
        shutil.rmtree(folder / "warm")
        with opened(data) as instance:
            take("append", lambda: instance.append("events", events))
            size = instance.status().logs[0].bytes
        chunk = os.urandom(16 << 20)
        take("bare", lambda: bare_write(folder / "bare", chunk, size // len(chunk)))  # noqa: B023
        take("write parquet", lambda: write_parquet(parquet, events))  # noqa: B023
        connection = connect_sqlite(database)
        take("write sqlite", lambda: insert_all(connection, rows))  # noqa: B023
        take("write jsonl", lambda: write_lines(lines, names, rows))  # noqa: B023
        for sql in (FEW_COLUMNS, ALL_COLUMNS):
            take(f"log {sql}", lambda: scan_log(data, sql))  # noqa: B023
            take(f"parquet {sql}", lambda: scan(f"CREATE VIEW events AS FROM '{parquet}'", sql))  # noqa: B023
        take("sqlite", lambda: connection.execute(FEW_COLUMNS).fetchall())  # noqa: B023
        take("jsonl", lambda: scan(f"CREATE VIEW events AS FROM read_json('{lines}')", FEW_COLUMNS))  # noqa: B023
        connection.close()
        for path in (data, parquet, database, lines):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    speed = {
        what: (few.num_rows if "sqlite" in what or "jsonl" in what else events.num_rows) / median(each) / 1e6
        for what, each in seconds.items()
    }

    def against(what: str, ours: str, reference: str, theirs: str) -> str:
        return row(what, f"{speed[ours]:.1f} M rows/s", reference, f"{speed[theirs]:.2f} M rows/s",
                   speed[ours] / speed[theirs])  # fmt: skip

    return [
        against("append of all rows at once, fsync", "append", "write + fdatasync of the same bytes", "bare"),
        against("append of all rows at once, fsync", "append", "PyArrow writes Parquet (zstd), fsync", "write parquet"),
        against("append of all rows at once, fsync", "append", "SQLite executemany, one commit", "write sqlite"),
        against("append of all rows at once, fsync", "append", "JSON lines, fsync", "write jsonl"),
        against("scan of 3 columns, all bytes checked", f"log {FEW_COLUMNS}", "DuckDB over Parquet (zstd)",
                f"parquet {FEW_COLUMNS}"),
        against("scan of 5 columns, all bytes checked", f"log {ALL_COLUMNS}", "DuckDB over Parquet (zstd)",
                f"parquet {ALL_COLUMNS}"),
        against("scan of 3 columns, all bytes checked", f"log {FEW_COLUMNS}", "SQLite", "sqlite"),
        against("scan of 3 columns, all bytes checked", f"log {FEW_COLUMNS}", "DuckDB over JSON lines", "jsonl"),
    ]  # fmt: skip


def bare_write(path: Path, chunk: bytes, count: int) -> None:
    """Write `count` chunks and sync once."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for _ in range(count):
        os.write(descriptor, chunk)
    os.fdatasync(descriptor)
    os.close(descriptor)


def write_parquet(path: Path, events: pa.Table) -> None:
    """Write a Parquet file durably."""
    pq.write_table(events, path, compression="zstd")
    sync(path)


def write_lines(path: Path, names: list[str], rows: list[tuple[object, ...]]) -> None:
    """Write a file of JSON lines durably."""
    with path.open("w", encoding="utf-8") as file:
        for values in rows:
            file.write(json.dumps(dict(zip(names, values, strict=True))) + "\n")
    sync(path)


def insert_all(connection: sqlite3.Connection, rows: list[tuple[object, ...]]) -> None:
    """Insert rows in one transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def sync(path: Path) -> None:
    """Make a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def scan(view: str, sql: str) -> None:
    """Ask DuckDB anew."""
    with duckdb.connect() as connection:
        connection.execute(view)
        connection.sql(sql).fetchall()


def scan_log(data: Path, sql: str) -> None:
    """Open the folder anew and ask."""
    with bourne.open(data=data) as instance:
        instance.query(sql).fetchall()


def measure_segments(folder: Path) -> list[str]:
    """Open a log of many segments."""
    real, embedded.LogWriter = LogWriter, small_segments  # type: ignore[misc,assignment]
    data = folder / "segments"
    try:
        app = bourne.App("bench")
        app.log("l", schema={"n": "bigint"}, durability="none")
        with bourne.open(app, data=data) as instance:
            log = instance.log("l")
            for number in range(SEGMENTS):
                log.append(pa.table({"n": [number]}))
    finally:
        embedded.LogWriter = real  # type: ignore[misc]
    count = len(list((data / "logs" / "l" / "0").glob("*.seg")))
    lines = []

    def line(what: str, action: Callable[[bourne.Instance], object]) -> None:
        samples = []
        for _ in range(ROUNDS):
            with bourne.open(data=data) as instance:
                samples.append(timed(lambda: action(instance)) * 1e3)
        lines.append(f"| {what} | {median(samples):,.1f} |")

    def seek(instance: bourne.Instance) -> None:
        with instance.log("l").batches(start=count // 2, until=count // 2 + 1) as batches:
            assert [batch.first_offset for batch in batches] == [count // 2]

    line("open for reading, find the end", lambda instance: instance.log("l").end_offsets())
    line("read one record in the middle", seek)
    line("open for appending, append one record", lambda instance: instance.append("l", pa.table({"n": [1]})))
    line("read it all", lambda instance: instance.tail("l"))
    return [f"| of a log of {count:,} segments | milliseconds |", "|---|---:|", *lines]


def small_segments(*arguments: object, **options: object) -> LogWriter:
    """Return a writer that begins a segment with each append."""
    return LogWriter(*arguments, segment_bytes=1, **options)  # type: ignore[arg-type]


def median(samples: list[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def row(what: str, ours: str, reference: str, theirs: str, ratio: float) -> str:
    """Return a table row."""
    return f"| {what} | {ours} | {reference} | {theirs} | {ratio:.2f} |"


def main() -> None:
    """Measure and write the page."""
    folder = Path(tempfile.mkdtemp(prefix="bourne-bench-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    try:
        events = make_events(ROWS)
        lines = [
            *measure_frames(folder, events),
            *measure_small(folder, events),
            *measure_bulk(folder, events),
        ]
        segments = measure_segments(folder)
    finally:
        shutil.rmtree(folder)
    page = PAGE_TEXT.format(
        rows=ROWS, rounds=ROUNDS, table="\n".join(lines), segments="\n".join(segments),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
        versions=f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, PyArrow {pa.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, Bourne {bourne.__version__}",
    )  # fmt: skip
    PAGE.write_text(page, encoding="utf-8")
    print(page)


PAGE_TEXT = """# Benchmarks of the log

Written by `make bench`; do not edit. {rows:,} rows of 5 columns (bigint, varchar, decimal, double, timestamp), median
of {rounds} rounds, ours and the reference in turn in the same run, on the same disk. The ratio is what counts: more
than 1 means that Bourne is faster than the reference. Each figure is taken after the same was done once untimed. {machine}; {versions}.

| what | Bourne | reference | | ratio |
|---|---:|---|---:|---:|
{table}

A durable append computes a CRC-32 and a SHA-256 of every byte, and writes a hash chain; the bare write does not. SQLite
and JSON lines were given 500,000 of the rows. A scan of the log opens the folder anew, checks every frame, also the
columns that are not asked for, and lets DuckDB compute over the memory map.

{segments}
"""

if __name__ == "__main__":
    main()
