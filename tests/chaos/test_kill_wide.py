"""kill -9 of an app with every kind of operator, while records come; after each restart every view is DuckDB's answer.

Epochs of some dozen records and snapshots after each few of them, so that kills hit all of what is written. Now and
then the static table's file changes between two lives. A few kills in the suite; `make chaos` makes many.
"""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import bourne
from bourne.loading import load_app
from bourne.log.reader import LogReader
from chaos.lives import feeding, live
from engine.oracle import ask_duckdb, difference, rows_of

HERE = Path(__file__).parent
LIVES = 60 if os.environ.get("BOURNE_LONG") else 1
SEED = int(os.environ.get("BOURNE_SEED", "1"))
CITIES = ["Seoul", "서울", "Berlin", "Köln", ""]


def write_cities(path: Path, dice: random.Random) -> None:
    chosen = dice.sample(CITIES[:-1], dice.randrange(5))
    lines = ["city,name", *(f"{city},{city}-{dice.randrange(3)}" for city in chosen)]
    draft = path.with_suffix(".draft")
    draft.write_text("\n".join(lines) + "\n")
    draft.replace(path)


def append_some(it: bourne.Instance, dice: random.Random, first: int) -> int:
    """Append to one of the logs; return the id after the last one."""
    rows = dice.choice([1, 3, 30, 90])
    if dice.random() < 0.4:
        it.append("owners", [
            {"owner": dice.randrange(25), "city": dice.choice([*CITIES, None]), "gone": dice.random() < 0.2}
            for _ in range(min(rows, 40))
        ])  # fmt: skip
        return first
    start_at = datetime(2026, 1, 1)
    it.append("events", [
        {"id": first + row, "owner": dice.randrange(30), "n": dice.randrange(100),
         "moment": start_at + timedelta(seconds=(first + row) // 10 + dice.randrange(90))}
        for row in range(rows)
    ])  # fmt: skip
    return first + rows


def check(it: bourne.Instance) -> None:
    """Compare each view with DuckDB's answer over the relations of the logs; `zero` in each of its commits."""
    assert it.app is not None
    views = {name: view.sql for name, view in it.app.views.items()}
    schemas = it.reading.schemas()
    known = {}
    for name in ("events", "owners", "cities"):
        known[name] = (schemas[name], it.query(f"FROM {name}").to_arrow())
    assert len(it.tail("owners")) >= len(known["owners"][1])
    for name, sql in views.items():
        got = it.query(f"FROM {name}").to_arrow()
        if "TUMBLE" in sql:
            expected = it.query(sql).to_arrow()
        else:
            _, expected = ask_duckdb(sql, known)
        found = difference(rows_of(got), rows_of(expected))
        assert found is None, f"{name}: {found}"
        known[name] = (schemas[name], expected)
    info = it._catalog.view("zero")
    assert info is not None
    reader = LogReader(info.folder, info.output)
    try:
        said = {
            row["difference"]
            for frames in iter(reader.read, [])
            for frame in frames
            for row in frame.batch.to_pylist()
        }
    finally:
        reader.close()
    assert said <= {0}, "a commit mixes two states"


def test_every_operator_survives_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cities = tmp_path / "data", tmp_path / "cities.csv"
    monkeypatch.setenv("BOURNE_CITIES", str(cities))
    dice = random.Random(SEED)
    print(f"seed {SEED}, {LIVES} lives")
    write_cities(cities, dice)
    wide = load_app(HERE / "wide_app.py", name=None)
    bourne.open(wide, data=data).close()
    next_id = 0
    for life in range(LIVES):
        if dice.random() < 0.5:
            write_cities(cities, dice)
        with feeding(data, append_some, dice, next_id) as fed:
            live(HERE / "wide_app.py", data, dice)
        next_id = fed.next_id
        with bourne.open(wide, data=data) as it:
            it.catch_up()
            assert all(view.lag_records == 0 for view in it.status().views)
            check(it)
            print(
                f"life {life}: {next_id:,} events, {sum(v.epoch + 1 for v in it.status().views):,} epochs, exact"
            )
