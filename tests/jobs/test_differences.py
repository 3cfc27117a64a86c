"""Full loads of which only what is new, other or gone is written: the target is what one clean load makes, whatever dies when."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import chunk, query
from bourne.errors import JobFailed
from bourne.jobs import query_reader
from jobs.crashing import Crashes, at_every_point
from jobs.databases import KINDS, made


def write(path: Path, rows: dict[Any, Any]) -> None:
    path.write_text("id,name\n" + "".join(f"{key},{name}\n" for key, name in rows.items()))


def load_app(folder: Path, *, target: str = "", **options: Any) -> bourne.App:
    app = bourne.App("shop")
    options = {
        "read": str(folder / "in.csv"),
        "columns": {"id": "bigint", "name": "varchar"},
        "key": "id",
        "size": 3,
        **options,
    }

    @app.job
    def load(run: int) -> Any:
        return chunk("copy", changed=True, write=target or f"sqlite:{folder}/out.db?table=t", **options)

    return app


def start(app: bourne.App, folder: Path, run: int) -> Any:
    with bourne.open(app, data=folder / "data") as shop:
        done = shop.jobs.start("load", run=run)
        return shop.jobs.steps(done.id)[0]


def target(folder: Path) -> dict[Any, Any]:
    with closing(sqlite3.connect(folder / "out.db")) as database:
        found = database.execute("SELECT id, name FROM t").fetchall()
    assert len(found) == len(dict(found))
    return dict(found)


def spoil(folder: Path) -> None:
    """Change what only the job writes: rows that it does not write stay so."""
    with closing(sqlite3.connect(folder / "out.db")) as database:
        database.execute("UPDATE t SET name = 'spoiled'")
        database.commit()


def test_only_what_is_new_or_other_is_written(tmp_path: Path) -> None:
    app = load_app(tmp_path)
    write(tmp_path / "in.csv", {n: f"name {n}" for n in range(10)})
    assert start(app, tmp_path, 1).written == 10
    spoil(tmp_path)
    step = start(app, tmp_path, 2)
    assert (step.read, step.written, step.filtered) == (10, 0, 10)
    assert set(target(tmp_path).values()) == {"spoiled"}
    write(tmp_path / "in.csv", {**{n: f"name {n}" for n in range(2, 9)}, 5: "other", 11: "new"})
    assert start(app, tmp_path, 3).written == 2
    assert target(tmp_path) == {**dict.fromkeys(range(2, 9), "spoiled"), 5: "other", 11: "new"}
    write(tmp_path / "in.csv", {})
    start(app, tmp_path, 4)
    assert target(tmp_path) == {}
    write(tmp_path / "in.csv", {1: "back"})
    start(app, tmp_path, 5)
    assert target(tmp_path) == {1: "back"}
    # What is kept does not pile up: the last load's and the one before, until the next one begins.
    assert len(list((tmp_path / "data" / "jobs" / "state").glob("*/*"))) <= 3


def test_texts_that_run_together_are_different_rows(tmp_path: Path) -> None:
    app = load_app(tmp_path, columns={"id": "bigint", "a": "varchar", "b": "varchar"})
    for run, row in enumerate(["x,yz", "xy,z", ",xyz", '"",xyz', "xyz,", '"1:x",y', 'x,"1:y"']):
        (tmp_path / "in.csv").write_text(f"id,a,b\n1,{row}\n")
        assert start(app, tmp_path, run).written == 1, row
        assert start(app, tmp_path, run + 100).written == 0, row


def test_a_crash_at_any_point_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes = Crashes(monkeypatch)
    before, after = (
        {n: f"old {n}" for n in range(10)},
        {**{n: f"old {n}" for n in range(3, 12)}, 5: "new", 99: "new"},
    )

    def open_app(point: int) -> Any:
        folder = tmp_path / str(point)
        app = load_app(folder)
        if not folder.exists():
            folder.mkdir()
            write(folder / "in.csv", before)
            crashes.at(-1)
            start(app, folder, 0)
            write(folder / "in.csv", after)
        return bourne.open(app, data=folder / "data")

    def check(point: int) -> None:
        folder = tmp_path / str(point)
        assert target(folder) == after, point
        # What it knows is right, too: the next load writes just what changed.
        write(folder / "in.csv", {**after, 4: "newer"})
        assert start(load_app(folder), folder, 2).written == 1, point
        assert target(folder) == {**after, 4: "newer"}, point

    assert at_every_point(crashes, open_app, check, first=1) >= 12


@pytest.mark.parametrize("seed", [1, 2])
def test_loads_that_are_given_up_are_made_good_by_the_next(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"seed {seed}")
    random_ = random.Random(seed)
    crashes = Crashes(monkeypatch)
    app = load_app(tmp_path)
    for run in range(15):
        rows = {
            key: f"name {random_.randrange(3)}" for key in random_.sample(range(12), random_.randrange(13))
        }
        write(tmp_path / "in.csv", rows)
        crashes.at(random_.choice([-1, 0, 1, 2, 3, 4, 5, 6]))
        try:
            start(app, tmp_path, run)
        except JobFailed:
            continue  # and the next instance finds what it has left
        assert target(tmp_path) == rows, run
    crashes.at(-1)
    start(app, tmp_path, 100)
    assert target(tmp_path) == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_of_which_rows_went_away(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS_FIRST", 4)
    url, execute = made(kind, tmp_path, request)
    execute(
        "CREATE TABLE s (id INTEGER, name VARCHAR(9))",
        *[f"INSERT INTO s VALUES ({n}, 'x')" for n in range(10)],
    )
    # DuckDB does not let one file be read and written by one step.
    into = f"sqlite:{tmp_path}/out.db?table=t" if kind != "postgres" else f"{url}?table=t"
    app = load_app(tmp_path, target=into, read=query(url, "SELECT * FROM s", key="id"), columns=None)
    assert start(app, tmp_path, 1).written == 10
    execute(
        "DELETE FROM s WHERE id < 3", "UPDATE s SET name = 'y' WHERE id = 7", "INSERT INTO s VALUES (20, 'z')"
    )
    assert start(app, tmp_path, 2).written == 2
    expected = {**dict.fromkeys(range(3, 10), "x"), 7: "y", 20: "z"}
    if kind != "postgres":
        assert target(tmp_path) == expected
        return
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(url) as connection:
        assert dict(connection.execute("SELECT id, name FROM t").fetchall()) == expected


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_state_that_is_damaged_is_refused(damage: str, tmp_path: Path) -> None:
    app = load_app(tmp_path)
    write(tmp_path / "in.csv", {1: "a", 2: "b"})
    start(app, tmp_path, 1)
    (path,) = (tmp_path / "data" / "jobs" / "state").glob("*/*")
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:-1] if damage == "cut" else data)
    with pytest.raises(JobFailed, match="is not what it was"):
        start(app, tmp_path, 2)
