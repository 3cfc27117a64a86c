"""Parts of a chunk step: disjoint, all of the input, the same after a crash; in threads, processes, and on any executor."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bourne
from bourne.batch import by_file, by_hash, by_range, chunk, query, skip
from bourne.errors import DefinitionError, JobCompleted, JobFailed
from bourne.jobs.parts import Narrowed, narrow
from jobs.running import app_of, breaking, counts, csv_rows, letters, run_once, run_until_done

COLUMNS = {"id": "bigint", "k": "varchar"}
ROWS = 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,k\n" + "".join(f"{n if n % 7 else ''},{'가나다'[n % 3]}{n}\n" for n in range(ROWS)))
    return path


def written(path: Path) -> Counter[str]:
    with closing(sqlite3.connect(path)) as database:
        return Counter(k for (k,) in database.execute("SELECT k FROM sold"))


WANTED = Counter(f"{'가나다'[n % 3]}{n}" for n in range(ROWS))

PARTITIONS = {
    "range": by_range("id", bounds=[5, 20, 21]), "texts": by_range("k", bounds=["나", "나2", "다"]), "hash": by_hash("id", 3),
    "hash of texts": by_hash("k", 5), "one": by_hash("k", 1),
}  # fmt: skip


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_parts_are_all_rows_once(partition, workers, source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, partition=partition, workers=workers, size=7, write=f"sqlite:{tmp_path / 't.db'}?table=sold"
    )  # fmt: skip
    _, (step, *parts) = run_once(app, tmp_path / "data")
    assert written(tmp_path / "t.db") == WANTED
    assert counts(step) == (ROWS, 0, ROWS, 0)
    assert sum(part.read for part in parts) in (ROWS, 0)  # one part alone is the step


def test_threads_write_to_one_duckdb_file_side_by_side(source, tmp_path):
    for number in range(6):
        path = tmp_path / f"{number}.duckdb"
        app = app_of(
            read=str(source), columns=COLUMNS, partition=by_hash("k", 4), workers=4, size=7, write=f"duckdb:{path}?table=sold",
        )  # fmt: skip
        run_once(app, tmp_path / f"data{number}")
        with closing(duckdb.connect(path)) as database:
            assert Counter(k for (k,) in database.execute("SELECT k FROM sold").fetchall()) == WANTED


@pytest.mark.parametrize("partition", [PARTITIONS["range"], PARTITIONS["hash"]], ids=["range", "hash"])
def test_broken_anywhere_the_parts_go_on(partition, source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, partition=partition, workers=2, size=5, write=f"sqlite:{tmp_path / 't.db'}?table=sold"
    )  # fmt: skip
    with breaking(
        lambda number, moment: number < 24 and number % 5 == 0 and moment == ("before", "after")[number % 2]
    ):
        step, failures = run_until_done(app, tmp_path / "data")
    assert failures >= 3
    assert written(tmp_path / "t.db") == WANTED and counts(step) == (ROWS, 0, ROWS, 0)


@pytest.mark.parametrize("form", ["json", "stream"])
def test_parts_and_instances_share_a_prefix_of_redis(form, tmp_path, redis):
    """Each has a position of its own under it; killed anywhere, each goes on with its own."""
    (source := tmp_path / "in.csv").write_text("id,k\n" + "".join(f"{n},김 {n}\n" for n in range(ROWS)))
    prefix = f"shared.{form}:"
    app = bourne.App("shop")

    @app.job
    def load(day: int) -> Any:
        return chunk(
            "load", read=str(source), columns=COLUMNS, partition=by_hash("id", 3), workers=2, size=5, process=f"SELECT id + {day} * 1000 AS id, k FROM input",
            write=redis.url(f"prefix={prefix}&as={form}"), key=() if form == "stream" else "id",
        )  # fmt: skip

    for day in (1, 2, 1, 2):
        with (
            breaking(lambda number, moment: number == 5 and moment == "after"),
            suppress(JobFailed, JobCompleted),
        ):
            run_once(app, tmp_path / "data", day=day)
    for day in (1, 2):
        with suppress(JobCompleted):
            run_once(app, tmp_path / "data", day=day)
    client = redis.client()
    if form == "stream":
        found = [int(entry[b"id"]) for _, entry in client.xrange(prefix)]
    else:
        found = [
            json.loads(client.get(key))["id"] for key in client.keys(f"{prefix}*") if b"%position" not in key
        ]
    assert sorted(found) == sorted(day * 1000 + n for day in (1, 2) for n in range(ROWS))


def test_files_are_parts_with_a_target_each(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("가", "b", "B"):
        (tmp_path / "in" / f"{name}.csv").write_text(f"id,k\n1,{name}\n")
    app = app_of(
        read=str(tmp_path / "in" / "*.csv"), columns=COLUMNS, partition=by_file(), workers=2, write=str(tmp_path / "out-{part}.csv")
    )  # fmt: skip
    run_once(app, tmp_path / "data")
    found = {path.name: csv_rows(path)[1][1] for path in tmp_path.glob("out-*.csv")}
    assert sorted(found.values()) == ["B", "b", "가"] and "out-가.csv" in found
    assert len({name.casefold() for name in found}) == 3


def test_a_column_that_is_not_there_is_named(source, tmp_path):
    app = app_of(
        read=str(source),
        columns=COLUMNS,
        partition=by_hash("kk", 2),
        write=f"sqlite:{tmp_path / 't.db'}?table=sold",
    )
    with pytest.raises(JobFailed, match=r"(?s)no column 'kk' to make parts by.*id, k"):
        run_once(app, tmp_path / "data")


def test_the_folders_of_parquet_are_made(source, tmp_path):
    app = app_of(
        read=str(source),
        columns=COLUMNS,
        partition=by_hash("id", 2),
        write=f"parquet:{tmp_path}/새/out/{{part}}/",
    )
    run_once(app, tmp_path / "data")
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/새/out/*/*.parquet'").fetchall()
    assert count == ROWS


def test_a_file_that_comes_between_crash_and_restart_is_no_part(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"id,k\n1,{name}\n")
    app = app_of(
        read=str(tmp_path / "?.csv"),
        columns=COLUMNS,
        partition=by_file(),
        write=f"sqlite:{tmp_path / 't.db'}?table=sold",
    )
    with breaking(lambda number, _: number == 3), pytest.raises(JobFailed):
        run_once(app, tmp_path / "data")
    (tmp_path / "c.csv").write_text("id,k\n1,c\n")
    run_once(app, tmp_path / "data")
    assert written(tmp_path / "t.db") == Counter("ab")


@pytest.mark.parametrize("partition", [PARTITIONS["range"], by_hash("k", 4)], ids=["range", "hash"])
def test_rows_that_cannot_be_read_are_told_of_once(partition, source, tmp_path):
    source.write_text(source.read_text() + "x,wrong\ny,wrong\n")
    app = app_of(
        read=str(source), columns=COLUMNS, partition=partition, workers=2, size=7, skip=skip(2), write=f"sqlite:{tmp_path / 't.db'}?table=sold"
    )  # fmt: skip
    _, (step, *_) = run_once(app, tmp_path / "data")
    assert counts(step) == (ROWS + 2, 0, ROWS, 2)
    assert len(letters(tmp_path / "data")) == 2


def check_seven(rows: Any) -> Any:
    if any((n or 0) % 10 == 5 for n in rows["id"].to_pylist()):
        raise ValueError("five")
    return rows


@pytest.mark.parametrize("bound", [3, "9%"])
def test_a_bound_is_of_the_whole_step_over_all_parts(bound, source, tmp_path):
    """Rows 5, 15 and 25 are wrong (35 is none), and each in another part."""
    step = {"read": str(source), "columns": COLUMNS, "process": check_seven, "partition": by_range("id", bounds=[10, 20, 30]),
            "write": f"sqlite:{tmp_path / 't.db'}?table=sold"}  # fmt: skip
    with pytest.raises(JobFailed, match="too many rows"):
        run_once(app_of(**step, skip=skip(2)), tmp_path / "data")
    _, (found, *_) = run_once(app_of(**step, skip=skip(bound)), tmp_path / "data")
    assert counts(found) == (ROWS, 0, ROWS - 3, 3)


EXECUTORS: dict[str, Any] = {"pool": lambda: ThreadPoolExecutor(2), "processes": "processes"}


@pytest.mark.parametrize(
    "executor",
    [EXECUTORS["pool"], pytest.param("processes", marks=pytest.mark.long)],
    ids=["pool", "processes"],
)
def test_on_any_executor_the_parts_are_all_rows_once(executor, source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, partition=by_hash("k", 3), workers=2, size=7, executor=executor,
        write=f"sqlite:{tmp_path / 't.db'}?table=sold",
    )  # fmt: skip
    _, (step, *_) = run_once(app, tmp_path / "data")
    assert written(tmp_path / "t.db") == WANTED and counts(step) == (ROWS, 0, ROWS, 0)


@pytest.mark.parametrize("bounds", [[20, 10], [1, 1], [1, "2"], []])
def test_bounds_that_do_not_ascend_are_refused(bounds):
    """Ranges would overlap, and rows be written twice."""
    with pytest.raises(DefinitionError):
        by_range("id", bounds=bounds)


@pytest.mark.parametrize("wrong", [
    {"partition": by_file(), "write": "out.csv"}, {"partition": by_range("id", count=3), "write": "log:sold"},
    {"partition": by_file(), "write": "out.JSONL"}, {"partition": by_file(), "write": "${OUT}"},
    {"partition": by_file(), "write": "out.parquet"},
    {"partition": by_hash("id", 3), "write": "sqlite:t.db?table=sold", "mode": "replace"},
])  # fmt: skip
def test_parts_that_cannot_be_are_refused(wrong, source, tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", "out.csv")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in2.csv").write_text("id,k\n1,a\n")
    app = app_of(read=str(tmp_path / "in*.csv"), columns=COLUMNS, **wrong)
    with pytest.raises(
        JobFailed, match=r"cannot write to one file|only a database|cannot each replace one table"
    ):
        run_once(app, tmp_path / "data")
    assert not [
        path.name for path in tmp_path.iterdir() if path.name.lower().startswith((".out", "out", "t.db"))
    ]


def test_files_that_are_not_there_yet_are_the_parts_of_the_next_run(tmp_path):
    app = app_of(
        read=str(tmp_path / "in*.csv"), columns=COLUMNS, partition=by_file(), throttle="1000000 rows",
        write=f"sqlite:{tmp_path / 't.db'}?table=sold",
    )  # fmt: skip
    with pytest.raises(JobFailed, match="there are no files"):
        run_once(app, tmp_path / "data")
    (tmp_path / "in2.csv").write_text("id,k\n1,a\n")
    run_once(app, tmp_path / "data")
    assert written(tmp_path / "t.db") == Counter("a")


def test_several_workers_need_parts():
    with pytest.raises(DefinitionError, match="one input cannot be read by several"):
        chunk("a", read="a.csv", write="b.csv", workers=2)
    for count in (0, -1, 10**6):
        with pytest.raises(DefinitionError):
            by_hash("id", count)


def test_postgresql_hashes_by_itself_also_if_a_variable_says_where_it_is(monkeypatch):
    monkeypatch.setenv("SHOP", "postgres://shop.example/shop")
    for url in ("postgres://shop.example/shop", "${SHOP}"):
        step = chunk(
            "load",
            read=query(url, "SELECT * FROM orders", key="id"),
            write="log:orders",
            partition=by_hash("id", 2),
        )
        narrowed = narrow(step, Narrowed("1 of 2", condition="hash = 0"))
        assert narrowed.read == query(
            url, "SELECT * FROM (SELECT * FROM orders) AS part WHERE hash = 0", key="id"
        )
