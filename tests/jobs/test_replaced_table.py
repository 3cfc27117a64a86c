"""Tables that are replaced as a whole: old rows or new ones, whatever dies when."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bourne
from bourne.batch import chunk
from bourne.errors import JobFailed
from jobs.crashing import Crashes, at_every_point
from jobs.databases import KINDS, Execute, made


def tables(url: str) -> list[str]:
    return sorted(row[0] for row in ask(url, {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'", "duckdb": "SELECT table_name FROM duckdb_tables()",
    }.get(url.partition(":")[0], "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))  # fmt: skip


def ask(url: str, query: str) -> list[tuple[Any, ...]]:
    kind, _, path = url.partition(":")
    if kind.startswith("postgres"):
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()
    with closing(sqlite3.connect(path) if kind == "sqlite" else duckdb.connect(path)) as database:
        return database.execute(query).fetchall()


def load_app(tmp_path: Path, target: str, **options: Any) -> bourne.App:
    app = bourne.App("shop")

    @app.job
    def load(run: int) -> Any:
        return chunk("copy", read=str(tmp_path / "in.csv"), write=target, mode="replace", size=3, **options)

    return app


def write_rows(tmp_path: Path, count: int, word: str = "new") -> None:
    (tmp_path / "in.csv").write_text("id,name\n" + "".join(f"{n},{word}\n" for n in range(count)))


def old_table(execute: Execute) -> None:
    execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, note TEXT DEFAULT 'none')",
            "CREATE VIEW names AS SELECT name FROM t", "INSERT INTO t VALUES (1, 'old', 'x'), (100, 'old', 'x')")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_at_any_point_changes_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, execute = made(kind, tmp_path, request)
    old_table(execute)
    write_rows(tmp_path, 8)
    crashes = Crashes(monkeypatch)
    names = tables(url)

    def open_app(point: int) -> Any:
        # Another instance each time: the position of the last one is that of another run.
        app = load_app(tmp_path, f"{url}?table=t")
        return bourne.open(app, data=tmp_path / f"data {point}")

    def check(point: int) -> None:
        assert ask(url, "SELECT id, name, note FROM t ORDER BY id") == [
            (n, "new", "none") for n in range(8)
        ], point
        assert ask(url, "SELECT count(*) FROM names") == [(8,)]
        assert [each for each in tables(url) if "__next" in each] == []
        execute("DELETE FROM t", "INSERT INTO t VALUES (1, 'old', 'x')", "DELETE FROM bourne_positions")

    assert at_every_point(crashes, open_app, check, first=KINDS.index(kind)) >= 12
    assert tables(url) == sorted([*names, "bourne_positions"])


@pytest.mark.parametrize("kind", KINDS)
def test_readers_see_the_old_rows_until_the_end(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    old_table(execute)
    write_rows(tmp_path, 8)

    def refuse(rows: Any) -> Any:
        assert ask(url, "SELECT id FROM t ORDER BY id") == [(1,), (100,)]
        if (tmp_path / "fails").exists() and 7 in rows.column("id").to_pylist():
            raise ValueError("as asked")
        return rows

    app = load_app(tmp_path, f"{url}?table=t", process=refuse, key="id")
    (tmp_path / "fails").touch()
    with bourne.open(app, data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed):
            shop.jobs.start("load", run=1)
        assert ask(url, "SELECT id FROM t ORDER BY id") == [(1,), (100,)]
        (tmp_path / "fails").unlink()
        # Another instance fills a table of its own, and what the first one had done is still there.
        write_rows(tmp_path, 8)
        run = shop.jobs.start("load", run=1)
        assert shop.jobs.steps(run.id)[0].read == 8
    assert ask(url, "SELECT count(*), min(name) FROM t") == [(8, "new")]


@pytest.mark.parametrize("kind", KINDS)
def test_instances_follow_each_other(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, _ = made(kind, tmp_path, request)
    app = load_app(tmp_path, f"{url}?table=t")
    with bourne.open(app, data=tmp_path / "data") as shop:
        for run, count in ((1, 8), (2, 3)):
            write_rows(tmp_path, count, f"run {run}")
            shop.jobs.start("load", run=run)
            assert ask(url, "SELECT count(*), min(name) FROM t") == [(count, f"run {run}")]
        write_rows(tmp_path, 5, "again")
        shop.jobs.start("load", run=2, again=True)
        assert ask(url, "SELECT count(*), min(name) FROM t") == [(5, "again")]


def test_rows_that_the_table_refuses_are_skipped(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, execute = made("postgres", tmp_path, request)
    execute("CREATE SCHEMA stock", "CREATE TABLE stock.t (id bigint PRIMARY KEY CHECK (id <> 4), name text)")
    write_rows(tmp_path, 8)
    app = load_app(tmp_path, f"{database}?table=stock.t", skip=bourne.batch.skip(1))
    with bourne.open(app, data=tmp_path / "data") as shop:
        shop.jobs.start("load", run=1)
    assert ask(database, "SELECT array_agg(id ORDER BY id) FROM stock.t") == [([0, 1, 2, 3, 5, 6, 7],)]
    execute("CREATE TABLE child (id bigint REFERENCES stock.t ON DELETE CASCADE)")
    with (
        bourne.open(app, data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match="other tables refer"),
    ):
        shop.jobs.start("load", run=2)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_rows_that_do_not_fit_leave_the_table_as_it_was(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute("CREATE TABLE t (id bigint CHECK (id <> 2), name text)", "INSERT INTO t VALUES (7, 'x')")
    write_rows(tmp_path, 3)
    with bourne.open(load_app(tmp_path, f"{url}?table=t"), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed, match=r"(?s)do not fit the table.*begin anew"):
            shop.jobs.start("load", run=1)
        write_rows(tmp_path, 2)
        execute("UPDATE t SET name = 'y'")  # it is still there, and nobody holds it
        assert shop.jobs.start("load", run=2).status == "COMPLETED"


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_table_that_others_refer_to_is_not_replaced(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute("CREATE TABLE t (id bigint PRIMARY KEY, name text)", "INSERT INTO t VALUES (7, 'x')",
            "CREATE TABLE child (id bigint REFERENCES t (id))", "INSERT INTO child VALUES (7)")  # fmt: skip
    write_rows(tmp_path, 3)
    with (
        bourne.open(load_app(tmp_path, f"{url}?table=t"), data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match=r"(?s)other tables refer.*child"),
    ):
        shop.jobs.start("load", run=1)


@pytest.mark.parametrize(
    "target", ["redis://127.0.0.1:1/0?prefix=x:", "kafka://127.0.0.1:1/x", "parquet:x/", "log:sales", print]
)
def test_other_targets_are_not_replaced(target: Any, tmp_path: Path) -> None:
    write_rows(tmp_path, 3)
    app = load_app(tmp_path, target)
    with (
        bourne.open(app, data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match="cannot be replaced"),
    ):
        shop.jobs.start("load", run=1)
