"""Records of logs and views in jobs: each once over all runs; what became of rows, by key; all rows at one position."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import chunk, records, view
from bourne.errors import JobFailed

SALES = {"id": "bigint", "shop": "varchar", "amount": "bigint"}


class Fails:
    """Fails at certain rows, as often as it is told."""

    def __init__(self) -> None:
        self.at: int | None = None

    def __call__(self, rows: Any) -> Any:
        if self.at in rows.column("id").to_pylist():
            raise ValueError("as asked")
        return rows


def shop_app(
    make: Callable[[bourne.App], None],
    *,
    sql: str = "SELECT shop, sum(amount) AS total FROM sales GROUP BY shop",
) -> bourne.App:
    app = bourne.App("shop")
    app.log("sales", schema=SALES, key="shop", partitions=3)
    app.view("totals", sql)
    make(app)
    return app


def sales(first: int, count: int) -> list[dict[str, Any]]:
    return [{"id": n, "shop": f"shop {n % 5}", "amount": n} for n in range(first, first + count)]


def found(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def start(app: bourne.App, folder: Path, rows: list[dict[str, Any]], run: int) -> Any:
    with bourne.open(app, data=folder / "data") as shop:
        if rows:
            shop.append("sales", rows)
        done = shop.jobs.start("load", run=run)
        return shop.jobs.steps(done.id)[-1]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_each_record_comes_once_over_all_runs(size: int, tmp_path: Path) -> None:
    fails = Fails()

    def make(app: bourne.App) -> None:
        @app.job
        def load(run: int) -> Any:
            return chunk(
                "copy",
                read=records("sales"),
                process=fails,
                write=f"sqlite:{tmp_path}/out.db?table=t",
                size=size,
            )

    app = shop_app(make)
    assert start(app, tmp_path, sales(0, 20), 1).read == 20
    assert start(app, tmp_path, [], 2).read == 0
    fails.at = 33
    with pytest.raises(JobFailed):
        start(app, tmp_path, sales(20, 20), 3)
    fails.at = None
    # Another instance goes on where the failed one was, within a part of the log, and then with what came meanwhile.
    start(app, tmp_path, sales(40, 20), 4)
    assert found(tmp_path / "out.db", "SELECT id FROM t ORDER BY id") == [(n,) for n in range(60)]


def test_rows_that_change_go_by_key(tmp_path: Path) -> None:
    def make(app: bourne.App) -> None:
        @app.job
        def load(run: int) -> Any:
            write = f"sqlite:{tmp_path}/out.db?table=t"
            return view("totals") >> chunk("copy", read=records("totals"), key="shop", write=write)

    app = shop_app(
        make, sql="SELECT shop, sum(amount) AS total FROM sales GROUP BY shop HAVING sum(amount) < 20"
    )
    query = "SELECT shop, CAST(total AS INTEGER) FROM t ORDER BY shop"
    start(app, tmp_path, sales(0, 5), 1)
    assert found(tmp_path / "out.db", query) == [(f"shop {n}", n) for n in range(5)]
    step = start(app, tmp_path, [*sales(5, 2), {"id": 9, "shop": "shop 4", "amount": 99}], 2)
    assert found(tmp_path / "out.db", query) == [("shop 0", 5), ("shop 1", 7), ("shop 2", 2), ("shop 3", 3)]
    assert step.written == 2
    assert start(app, tmp_path, [], 3).status == "EMPTY"
    # Another definition: what the target holds becomes what it says now.
    app = shop_app(make, sql="SELECT shop, sum(amount) + 1 AS total FROM sales WHERE id > 1 GROUP BY shop")
    start(app, tmp_path, [], 4)
    assert found(tmp_path / "out.db", query) == [
        ("shop 0", 6),
        ("shop 1", 7),
        ("shop 2", 3),
        ("shop 3", 4),
        ("shop 4", 104),
    ]


def test_rows_that_change_need_a_key(tmp_path: Path) -> None:
    for options in ({}, {"key": "shop", "process": "SELECT * FROM input"}):

        def make(app: bourne.App, options: dict[str, Any] = options) -> None:
            @app.job
            def load(run: int) -> Any:
                return view("totals") >> chunk(
                    "copy", read=records("totals"), write=f"sqlite:{tmp_path}/o.db?table=t", **options
                )

        with pytest.raises(JobFailed, match="goes by a key"):
            start(shop_app(make), tmp_path, [], 1)


@pytest.mark.parametrize("name", ["sales", "totals"])
def test_all_rows_as_they_are(name: str, tmp_path: Path) -> None:
    def make(app: bourne.App) -> None:
        @app.job
        def load(run: int) -> Any:
            write = f"{tmp_path}/out.csv"
            return view("totals") >> chunk("copy", read=records(name), mode="replace", write=write, size=2)

    app = shop_app(make)
    for run, count in ((1, 10), (2, 5)):
        start(app, tmp_path, sales(10 * run, count), run)
        lines = (tmp_path / "out.csv").read_text().splitlines()
        assert len(lines) == 1 + ((10, 15)[run - 1] if name == "sales" else 5)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    def make(app: bourne.App) -> None:
        @app.job
        def load(run: int) -> Any:
            return chunk("copy", read=records("nothing"), write=f"{tmp_path}/out.csv")

    with pytest.raises(JobFailed, match="no log or view 'nothing'"):
        start(shop_app(make), tmp_path, [], 1)


def test_files_are_added_to(tmp_path: Path) -> None:
    def make(app: bourne.App) -> None:
        @app.job
        def load(run: int) -> Any:
            return chunk("copy", read=records("sales"), write=f"{tmp_path}/out.jsonl")

    app = shop_app(make)
    for run in (1, 2):
        start(app, tmp_path, sales(10 * run, 3), run)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
