"""Batch jobs killed with -9 at every boundary of a chunk and inside chunks: a restart yields what one clean run does.

`BOURNE_LONG=1` runs 200 seeds, `BOURNE_SEED` says where they begin.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bourne

SEEDS = 200 if os.environ.get("BOURNE_LONG") else 7
SEED = int(os.environ.get("BOURNE_SEED", "0")) or random.SystemRandom().randrange(1 << 30)

psycopg = pytest.importorskip("psycopg")


def held(folder: Path, kind: str, seed: int, database: str) -> list[tuple[Any, ...]]:
    """Return the rows that a target holds."""
    names = "id, name, twice, kind"
    if kind == "log":
        with bourne.open(data=folder / "data") as shop:
            return sorted(shop.query(f"SELECT {names} FROM out").fetchall())
    if kind == "postgres":
        with psycopg.connect(database) as connection:
            return sorted(connection.execute(f"SELECT {names} FROM t{seed}").fetchall())
    if kind == "duckdb":
        with duckdb.connect(folder / "out.duckdb", read_only=True) as connection:
            return sorted(connection.execute(f"SELECT {names} FROM t").fetchall())
    if kind == "sqlite":
        import sqlite3  # noqa: PLC0415

        return sorted(sqlite3.connect(folder / "out.sqlite").execute(f"SELECT {names} FROM t").fetchall())
    source = {
        "csv": f"read_csv('{folder}/out.csv')", "jsonl": f"read_json('{folder}/out.jsonl')",
        "parquet": f"read_parquet('{folder}/out/**/*.parquet')",
    }[kind]  # fmt: skip
    if kind != "csv" and not expected_files(folder, kind):
        return []
    return sorted(duckdb.sql(f"SELECT {names} FROM {source}").fetchall())


def expected_files(folder: Path, kind: str) -> bool:
    """Say whether there is a file with rows in it: an empty one says nothing of columns."""
    if kind == "jsonl":
        return (folder / "out.jsonl").stat().st_size > 0
    return any((folder / "out").rglob("*.parquet"))


def test_a_killed_job_goes_on_and_yields_what_one_clean_run_does(tmp_path, database):
    command = [
        sys.executable,
        Path(__file__).with_name("job_lives.py"),
        tmp_path,
        str(SEED),
        str(SEEDS),
        database,
    ]
    print(f"BOURNE_SEED={SEED}")
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert ran.returncode == 0, ran.stderr[-3000:]
    deaths = 0
    for line in ran.stdout.splitlines():
        found = json.loads(line)
        seed = found["seed"]
        assert "error" not in found, (found, ran.stderr[-3000:])
        deaths += sum(found["died"].values())
        kinds = ["csv", "jsonl", "sqlite", "duckdb", "log", "parquet", "postgres"]
        kind, folder = kinds[seed % len(kinds)], tmp_path / str(seed)
        assert held(folder, kind, seed, database) == [tuple(row) for row in found["expected"]], (seed, kind)
        with bourne.open(data=folder / "data") as shop:
            runs = shop.jobs.runs()
            assert runs[0].status == "COMPLETED", (seed, kind)
            assert {run.status for run in runs[1:]} <= {"FAILED"}, (seed, kind)
            step = max(
                (each for each in shop.jobs.steps(runs[0].id) if each.part == ""),
                key=lambda each: each.read,
                default=None,
            )
            assert shop.query("SELECT count(*) FROM dead_letters").fetchall() == [(1,)], (seed, kind)
            if step is not None and step.kind == "chunk" and step.chunks:
                assert step.written == len(found["expected"]), (seed, kind, step)
                assert step.read == step.written + step.filtered + step.skipped, (seed, kind, step)
    assert deaths >= SEEDS // 2 or SEEDS < 50, "hardly anybody died: the points are not reached"
