"""What each run of a job takes of a query: what is beyond the last run, no row lost among equal values, late rows by overlap."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import chunk, query
from bourne.errors import DefinitionError, JobFailed
from bourne.jobs import query_reader
from jobs.databases import KINDS, made

READ = "SELECT id, seen, name FROM t"


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS_FIRST", 3)
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS", 5)


class Loads:
    """A job that loads a query into SQLite, run again and again."""

    def __init__(self, folder: Path, url: str, *, read: str = READ, **options: Any) -> None:
        self._folder = folder
        self.app = bourne.App("shop")
        write = f"sqlite:{folder}/out.db?table=t"
        options = {"since": "seen", "size": 2, "key": "id", **options}

        @self.app.job
        def load(run: int = 0, *, fails_at: int = -1) -> Any:
            def fail(rows: Any) -> Any:
                if fails_at in rows.column("id").to_pylist():
                    raise ValueError("as asked")
                return rows

            return chunk("copy", read=query(url, read, key="id"), process=fail, write=write, **options)

    def run(self, number: int, **parameters: Any) -> int:
        """Run it, and return how many rows it read."""
        with bourne.open(self.app, data=self._folder / "data") as shop:
            run = shop.jobs.start("load", run=number, **parameters)
            return shop.jobs.steps(run.id)[0].read

    def rows(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._folder / "out.db")) as database:
            return database.execute("SELECT id, name FROM t ORDER BY id, name").fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_each_run_takes_what_is_beyond_the_last_one(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    kind_of_time = "TEXT" if kind == "sqlite" else "TIMESTAMP"
    execute(f"CREATE TABLE t (id INTEGER, seen {kind_of_time}, name TEXT)",
            *[f"INSERT INTO t VALUES ({n}, '2024-01-01 00:00:0{n // 3}', 'old')" for n in range(8)])  # fmt: skip
    loads = Loads(tmp_path, url)
    assert (loads.run(1), loads.run(2)) == (8, 0)
    # One more of the last value, with a greater key; one that has changed; a new one.
    execute("INSERT INTO t VALUES (8, '2024-01-01 00:00:02', 'tie')",
            "UPDATE t SET seen = '2024-01-01 00:00:03', name = 'new' WHERE id = 1",
            "INSERT INTO t VALUES (9, '2024-01-01 00:00:03.000001', 'new')")  # fmt: skip
    assert loads.run(3) == 3
    assert loads.rows() == [
        (0, "old"),
        (1, "new"),
        *[(n, "old") for n in range(2, 8)],
        (8, "tie"),
        (9, "new"),
    ]
    # The same value and a lower key, and an earlier value: this is what an overlap is for.
    execute("INSERT INTO t VALUES (-1, '2024-01-01 00:00:03', 'late')")
    assert loads.run(4) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_time", [True, False])
def test_an_overlap_finds_rows_that_come_late(
    kind: str, is_time: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    declared = ("TEXT" if kind == "sqlite" else "TIMESTAMP") if is_time else "BIGINT"

    def at(second: int) -> str:
        return f"'2024-01-01 00:00:{second:02}'" if is_time else str(second)

    execute(f"CREATE TABLE t (id INTEGER, seen {declared}, name TEXT)",
            *[f"INSERT INTO t VALUES ({n}, {at(n * 2)}, 'old')" for n in range(15)])  # fmt: skip
    loads = Loads(tmp_path, url, overlap="6 seconds" if is_time else 6)
    assert loads.run(1) == 15
    execute(
        f"INSERT INTO t VALUES (100, {at(25)}, 'late'), (101, {at(3)}, 'too late'), (102, {at(30)}, 'new')"
    )
    # Four of the old ones come again, and once more when it goes on after the failure; with them the two that are new.
    with pytest.raises(JobFailed):
        loads.run(2, fails_at=102)
    assert loads.run(2) == 4 + 6
    late, old = [(100, "late"), (102, "new")], [(n, "old") for n in range(15)]
    assert loads.rows() == old + late
    assert loads.run(3) <= 5
    assert loads.rows() == old + late


@pytest.mark.parametrize(
    ("kind", "declared", "least"),
    [
        ("duckdb", "UBIGINT", 0), ("duckdb", "TINYINT", -128), ("duckdb", "HUGEINT", 1 - 2**127),
        ("postgres", "smallint", -(2**15)), ("postgres", "bigint", -(2**63)), ("postgres", "oid", 0), ("sqlite", "INTEGER", 0),
    ],
)  # fmt: skip
def test_an_overlap_ends_at_the_least_value_that_there_is(
    kind: str, declared: str, least: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute(f"CREATE TABLE t (id INTEGER, seen {declared}, name TEXT)",
            *[f"INSERT INTO t VALUES ({n}, {least + n}, 'x')" for n in range(3)])  # fmt: skip
    loads = Loads(tmp_path, url, overlap=7)
    assert loads.run(1) == 3
    execute(f"INSERT INTO t VALUES (3, {least}, 'late')")
    assert loads.run(2) == 4
    assert loads.rows() == [(0, "x"), (1, "x"), (2, "x"), (3, "late")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_fails_is_gone_on_with_by_the_next(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute("CREATE TABLE t (id INTEGER, seen INTEGER, name TEXT)",
            *[f"INSERT INTO t VALUES ({n}, {n // 4}, 'x')" for n in range(12)])  # fmt: skip
    loads = Loads(tmp_path, url, key=())
    with pytest.raises(JobFailed):
        loads.run(1, fails_at=7)
    assert loads.run(2) == 6
    assert loads.run(3) == 0
    assert loads.rows() == [(n, "x") for n in range(12)]


def test_an_overlap_of_another_kind_is_refused(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, execute = made("sqlite", tmp_path, request)
    execute("CREATE TABLE t (id INTEGER, seen INTEGER, name TEXT)", "INSERT INTO t VALUES (1, 1, 'x')")
    loads = Loads(tmp_path, url, overlap="5 minutes")
    loads.run(1)
    with pytest.raises(JobFailed, match="no such overlap"):
        loads.run(2)


def test_what_does_not_fit_together_is_refused() -> None:
    read = query("sqlite:x.db", "SELECT 1 AS id", key="id")
    for options in (
        {"read": "x.csv", "since": "seen"},
        {"read": read, "since": "seen", "mode": "replace"},
        {"read": read, "since": "seen", "overlap": "5 minutes"},
        {"read": read, "overlap": "5 minutes", "key": "id"},
        {"read": read, "since": "seen", "overlap": -1, "key": "id"},
        {"read": read, "since": "seen", "changed": True, "key": "id"},
        {"read": read, "changed": True},
    ):
        with pytest.raises(DefinitionError):
            chunk("x", **{"write": "y.csv", **options})


@pytest.mark.parametrize("zone", ["-05:00", " -05:00", "+05:00", "Z"])
def test_an_overlap_of_sqlite_texts_is_of_what_they_say_in_their_own_zone(zone: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "in.db")) as database:
        database.execute("CREATE TABLE t (id INTEGER, seen TEXT, name TEXT)")
        rows = [(n, f"2024-01-01 22:00:0{n}{zone}", "old") for n in range(6)]
        database.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        database.commit()
        loads = Loads(tmp_path, f"sqlite:{tmp_path}/in.db", overlap="5 seconds")
        assert loads.run(1) == 6
        database.execute("INSERT INTO t VALUES (9, ?, 'late')", [f"2024-01-01 22:00:03{zone}"])
        database.commit()
    loads.run(2)
    assert (9, "late") in loads.rows()
