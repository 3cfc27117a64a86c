"""How fast is a batch job, next to what else would load a file: and how soon does it begin, and how much memory does it take?

A CSV of so many rows is read, filtered, computed with, and loaded into PostgreSQL: by a chunk step; by `psql \\copy` into a
staging table and one INSERT … SELECT; by `psql \\copy` alone, without the computing, as the bound; and by pandas, in chunks,
with `to_sql`. Each in a process of its own, from its start to its end. Run with `make bench-jobs`; it writes
docs/benchmarks_jobs.md.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.csv as arrow_csv

import bourne
from bourne.batch import chunk
from bourne.duck import connect

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # for the server

ROWS = int(os.environ.get("BOURNE_BENCH_ROWS", str(10_000_000)))
ROUNDS = int(os.environ.get("BOURNE_BENCH_ROUNDS", "3"))
MEMORY_GB = float(os.environ.get("BOURNE_BENCH_GB", "5"))
TRIGGERS = 50
PANDAS_ROWS = min(ROWS, 300_000)  # it takes a minute or more a million
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks_jobs.md"

COLUMNS = {
    "id": "bigint",
    "customer": "varchar",
    "amount": "decimal(12,2)",
    "ordered_at": "timestamp",
    "note": "varchar",
}
TABLE = "id bigint, customer text, amount numeric(12,2), ordered_at timestamp, note text"
RESULT = "id bigint, customer text, gross numeric(14,4), day date, note text"
COMPUTE = (
    "SELECT id, upper(customer) AS customer, CAST(amount * 1.19 AS DECIMAL(14,4)) AS gross, CAST(ordered_at AS DATE) AS day, note "
    "FROM {input} WHERE amount >= 10"
)

app = bourne.App("bench_jobs")


@app.job
def load(source: str, target: str, turn: int = 0) -> Any:
    """Load a CSV into PostgreSQL, or any other target. `turn` tells instances apart."""
    return chunk("load", read=source, columns=COLUMNS, process=COMPUTE.format(input="input"), write=target)


# --- what is measured, each in a process of its own ------------------------------------------------------


def ours(source: str, target: str, data: str) -> None:
    """Run the job; print how long the first chunk took, and the most memory."""
    with bourne.open(app, data=data) as instance:
        began = time.time()
        run = instance.jobs.start("load", source=source, target=target)
        first = min(instance.jobs.chunks(run.id, most=100_000), key=lambda each: each.number)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print((first.ended_us / 1e6 - began) * 1e3, peak)


def triggers(source: str, target: str, data: str) -> None:
    """Start instances of the job in one process, one after the other; print of each how long its first chunk took, in ms."""
    with bourne.open(app, data=data) as instance:
        for turn in range(1, TRIGGERS + 2):  # the first one loads what is needed
            began = time.time()
            run = instance.jobs.start("load", source=source, target=target, turn=turn)
            (chunk_run, *_) = instance.jobs.chunks(run.id)
            print((chunk_run.ended_us / 1e6 - began) * 1e3)


def with_pandas(source: str, address: str, rows: int) -> None:
    """Do the same with pandas, in chunks."""
    import pandas as pd  # noqa: PLC0415
    import sqlalchemy  # noqa: PLC0415

    engine = sqlalchemy.create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    with pd.read_csv(source, parse_dates=["ordered_at"], chunksize=100_000, nrows=rows) as parts:
        for part in parts:
            kept = part[part.amount >= 10]
            done = pd.DataFrame({
                "id": kept.id, "customer": kept.customer.str.upper(), "gross": (kept.amount * 1.19).round(4),
                "day": kept.ordered_at.dt.date, "note": kept.note,
            })  # fmt: skip
            done.to_sql("by_pandas", engine, if_exists="append", index=False)


# --- measuring -------------------------------------------------------------------------------------------


def make_csv(path: Path, rows: int) -> None:
    """Write a file of so many orders."""
    with connect(threads=2) as database:
        step = 1_000_000
        with path.open("w") as file:
            file.write(",".join(COLUMNS) + "\n")
        for start in range(0, rows, step):
            part = database.sql(
                "SELECT i AS id, 'customer ' || (hash(i) % 100000) AS customer, CAST((hash(i * 7) % 100000) / 100 AS DECIMAL(12,2)) AS amount, "
                "TIMESTAMP '2026-01-01' + to_seconds(i) AS ordered_at, 'note ' || i || ' 한국' AS note FROM range(?, ?) t(i)",
                params=[start, min(start + step, rows)],
            ).to_arrow_table()
            with path.open("ab") as file:
                arrow_csv.write_csv(
                    part, file, arrow_csv.WriteOptions(include_header=False, quoting_style="none")
                )


def seconds(command: list[str], **more: Any) -> tuple[float, str]:
    """Return how long a command took, and what it said."""
    start = time.perf_counter()
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more)
    return time.perf_counter() - start, ran.stdout


def measure(folder: Path, server: Any) -> dict[str, Any]:
    """Measure everything, in turn."""
    import psycopg  # noqa: PLC0415

    source = folder / "orders.csv"
    make_csv(source, ROWS)
    address = server.url()
    psql = [str(server.programs / "psql"), "--quiet", "--set=ON_ERROR_STOP=1", address]
    found: dict[str, list[float]] = {
        "ours": [],
        "copy and compute": [],
        "copy alone": [],
        "first": [],
        "memory": [],
    }
    for number in range(ROUNDS):
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(
                f"DROP TABLE IF EXISTS by_job, by_copy, staging; CREATE TABLE by_job ({RESULT}); CREATE TABLE by_copy ({RESULT})"
            )
            connection.execute(f"CREATE TABLE staging ({TABLE})")
        took, said = seconds([
            sys.executable, "-m", "benchmarks.jobs", "ours", str(source), f"{address}?table=by_job", str(folder / f"data-{number}"),
        ])  # fmt: skip
        first, memory = map(float, said.split())
        copy, _ = seconds([*psql, "-c", f"\\copy staging from '{source}' with (format csv, header true)"])
        compute, _ = seconds(
            [*psql, "-c", f"INSERT INTO by_copy {_postgres(COMPUTE).format(input='staging')}"]
        )
        with psycopg.connect(address) as connection:
            counts = [
                connection.execute(f"SELECT count(*), sum(gross), sum(id) FROM {name}").fetchone()
                for name in ("by_job", "by_copy")
            ]
            assert counts[0] == counts[1], counts
            connection.execute("TRUNCATE bourne_positions")
        for name, value in (
            ("ours", took),
            ("copy and compute", copy + compute),
            ("copy alone", copy),
            ("first", first),
            ("memory", memory),
        ):
            found[name].append(value)
        print(number, took, copy, compute, first, memory)
    small = folder / "small.csv"
    make_csv(small, 1_000)
    _, said = seconds([sys.executable, "-m", "benchmarks.jobs", "triggers", str(small), f"{address}?table=by_job", str(folder / "data-0")])  # fmt: skip
    found["warm"] = [float(line) for line in said.split()[1:]]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE by_pandas ({RESULT.replace('numeric(14,4)', 'float8')})")
    pandas_s, _ = seconds(
        [sys.executable, "-m", "benchmarks.jobs", "pandas", str(source), address, str(PANDAS_ROWS)]
    )
    print("pandas", pandas_s)
    return {name: statistics.median(values) for name, values in found.items()} | {
        "warm p90": statistics.quantiles(found["warm"], n=10)[-1],
        "pandas": pandas_s * ROWS / PANDAS_ROWS,
    }


def _postgres(sql: str) -> str:
    return sql.replace("DECIMAL(14,4)", "numeric(14,4)")


def measure_memory(folder: Path) -> list[tuple[float, float, float]]:
    """Return for inputs of several sizes: GB, the most memory in MiB, and the seconds."""
    found = []
    for share in (0.1, 0.3, 1.0):
        source = folder / "large.csv"
        make_csv(source, int(MEMORY_GB * share * 1e9 / 74))
        size = source.stat().st_size / 1e9
        took, said = seconds([
            sys.executable, "-m", "benchmarks.jobs", "ours", str(source), f"csv:{folder}/large_out.csv", str(folder / f"memory-{share}"),
        ])  # fmt: skip
        found.append((size, float(said.split()[1]), took))
        print(found[-1])
        source.unlink()
    return found


def page(found: dict[str, float], memory: list[tuple[float, float, float]]) -> str:
    """Return the page."""
    ours_s = found["ours"]
    lines = "\n".join(
        f"| {what} | {found[name]:,.1f} | {ROWS / found[name] / 1e3:,.0f} | {found[name] / ours_s:.2f} |"
        for what, name in (
            ("a chunk step of a job", "ours"), ("`psql \\copy` into a staging table, then one INSERT … SELECT", "copy and compute"),
            ("`psql \\copy` alone: no filter, nothing computed", "copy alone"),
            (f"pandas `read_csv(chunksize=100_000)`, `to_sql` (of {PANDAS_ROWS:,} rows, scaled)", "pandas"),
        )
    )  # fmt: skip
    sizes = "\n".join(f"| {size:.1f} | {peak:,.0f} | {took:,.0f} |" for size, peak, took in memory)
    return f"""# Benchmarks: batch jobs

Written by `make bench-jobs` on {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}; medians of {ROUNDS} rounds, each in turn, each a process of its
own from start to end. Server and client share the cores.

**A CSV of {ROWS:,} rows -> filter and compute -> a table of PostgreSQL.** The job commits a chunk about every second, and can be killed at any
moment; the others do all or nothing, or rows twice. A ratio above 1: so many times as long as the job.

| | seconds | thousand rows/s | ratio |
|---|---:|---:|---:|
{lines}

**From the trigger to the first committed chunk**, durable in PostgreSQL: {found["warm"]:,.0f} ms (median of {TRIGGERS} starts in a process that has run the job
once, as `bourne run` has; the slowest tenth {found["warm p90"]:,.0f} ms or more; a file of 1,000 rows). In a new process, with the large file: {found["first"]:,.0f} ms, most of which is
loading libraries.

**Memory** of the whole process, CSV -> compute -> CSV:

| input, GB | most memory, MiB | seconds |
|---:|---:|---:|
{sizes}
"""


def main() -> None:
    """Measure, and write the page; or be one of the processes."""
    if sys.argv[1:2] == ["ours"]:
        ours(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["triggers"]:
        triggers(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["pandas"]:
        with_pandas(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    from servers import postgres  # noqa: PLC0415

    programs = postgres.find()
    assert programs is not None, "make servers"
    server = postgres.PostgresServer(programs)
    with tempfile.TemporaryDirectory() as name:
        try:
            server.start()
            found = measure(Path(name), server)
        finally:
            server.close()
        memory = measure_memory(Path(name))
    PAGE.write_text(page(found, memory), encoding="utf-8")


if __name__ == "__main__":
    main()
