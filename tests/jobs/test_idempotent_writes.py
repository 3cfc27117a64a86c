"""Whatever a step reads and wherever it writes: killed between any two writes, and gone on with, the rows of one clean run."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bourne
from bourne.batch import chunk, query, records, view
from bourne.jobs import query_reader
from jobs.crashing import Crashes, at_every_point

INPUTS = ["query", "since", "overlap", "log", "view"]
DAILY = [
    ("postgres", "query"), ("postgres", "overlap"), ("postgres", "view"), ("sqlite", "since"), ("sqlite", "log"),
    ("duckdb", "view"), ("jsonl", "query"), ("log", "query"),
]  # fmt: skip
ALL = [(kind, read) for kind in ("postgres", "sqlite") for read in INPUTS] + [
    ("duckdb", "query"), ("duckdb", "view"), ("jsonl", "query"), ("jsonl", "log"), ("log", "query"),
]  # fmt: skip
CASES = [pytest.param(*case, marks=[] if case in DAILY else pytest.mark.long) for case in ALL]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS_FIRST", 3)
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS", 4)


def source(folder: Path) -> str:
    path = folder / "source.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, seen INTEGER, name TEXT)")
        database.executemany("INSERT INTO s VALUES (?, ?, ?)", [(n, n // 3, f"name {n}") for n in range(10)])
        database.commit()
    return f"sqlite:{path}"


def job_app(kind: str, write: str, folder: Path) -> bourne.App:
    app = bourne.App("shop")
    app.log("events", schema={"id": "bigint", "name": "varchar"}, partitions=2, key="id")
    app.log("out", schema={"id": "bigint", "name": "varchar"})
    app.view("names", "SELECT id, max(name) AS name FROM events GROUP BY id HAVING count(*) < 2")

    @app.job
    def load(run: int) -> Any:
        read = query(f"sqlite:{folder}/source.db", "SELECT id, seen, name FROM s", key="id")
        process = "SELECT id, name FROM input"
        options: dict[str, Any] = {
            "query": {"read": read, "process": process},
            "since": {"read": read, "process": process, "since": "seen"},
            "overlap": {"read": read, "process": process, "since": "seen", "overlap": 2, "key": "id"},
            "log": {"read": records("events")},
            "view": {"read": records("names"), "key": "id"},
        }[kind]
        step = chunk("copy", write=write, size=4, **options)
        return view("names") >> step if kind == "view" else step

    return app


@pytest.mark.parametrize(("kind", "read"), CASES)
def test_killed_between_any_two_writes(
    kind: str, read: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes = Crashes(monkeypatch)
    database = request.getfixturevalue("database") if kind == "postgres" else ""

    def target(point: int) -> str:
        folder = tmp_path / str(point)
        return {
            "postgres": f"{database}?table=p{point}.t",
            "jsonl": f"{folder}/out.jsonl",
            "log": "log:out",
        }.get(kind, f"{kind}:{folder}/out.{kind}?table=t")

    def open_app(point: int) -> Any:
        folder = tmp_path / str(point)
        app = job_app(read, target(point), folder)
        if not folder.exists():
            folder.mkdir()
            source(folder)
            if database:
                with pytest.importorskip("psycopg").connect(database, autocommit=True) as connection:
                    connection.execute(f"CREATE SCHEMA p{point}")  # positions are kept beside the table
            with bourne.open(app, data=folder / "data") as shop:
                shop.append(
                    "events", [{"id": n, "name": f"name {n}"} for n in range(10) if n != 5 or read != "view"]
                )
                if read in ("overlap", "view"):  # a run before, so that this one rereads, and takes rows away
                    crashes.at(-1)
                    shop.append("events", [{"id": 50, "name": "goes away"}])
                    shop.jobs.start("load", run=0)
                    shop.append("events", [{"id": 50, "name": "goes away"}, {"id": 5, "name": "name 5"}])
        return bourne.open(app, data=folder / "data")

    def check(point: int) -> None:
        with open_app(point) as shop:
            found = rows(kind, target(point), shop, point)
        assert found == [(n, f"name {n}") for n in range(10)], point

    assert at_every_point(crashes, open_app, check, first=ALL.index((kind, read))) >= (
        4 if read == "view" else 6
    )


def rows(kind: str, url: str, shop: Any, point: int) -> list[tuple[Any, ...]]:
    if kind == "log":
        return sorted(
            tuple(row.values()) for row in shop.query("SELECT id, name FROM out").to_arrow().to_pylist()
        )
    if kind == "jsonl":
        return sorted(tuple(json.loads(line).values()) for line in Path(url).read_text().splitlines())
    if kind == "postgres":
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(url.partition("?")[0]) as connection:
            return connection.execute(f"SELECT id, name FROM p{point}.t ORDER BY id, name").fetchall()
    path = url.partition(":")[2].partition("?")[0]
    with closing(sqlite3.connect(path) if kind == "sqlite" else duckdb.connect(path)) as database:
        return database.execute("SELECT id, name FROM t ORDER BY id, name").fetchall()
