"""kill -9 of an app whose views close, while records come late: what it closed, and what it found late, is the same.

Which record is late depends on the log alone. So after each life every view, and every log of late records and of
errors, is compared with those of an app that takes in the same logs at once and is never killed; at the end, also with
DuckDB's answer over the records that were not late. A few kills in the suite; `make chaos` makes many.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import bourne
from bourne.loading import load_app
from bourne.sql.emit import split_emit
from bourne.sql.windows import rewrite_windows
from chaos.lives import feeding, live
from engine.oracle import ask_duckdb, difference, rows_of

HERE = Path(__file__).parent
LIVES = 60 if os.environ.get("BOURNE_LONG") else 2
SEED = int(os.environ.get("BOURNE_SEED", "1"))

ABSURD = [None, datetime(1, 1, 1), datetime(9999, 12, 31)]
# In these a record that is late is not at all; one may be late for some of its hops only.
WHOLE = ("tumbled", "changing", "sessions", "best", "pairs", "unmatched", "converted")


def append_some(it: bourne.Instance, dice: random.Random, first: int) -> int:
    """Append to one of the logs: times go on by a tenth of a second per id, are out of order, and now and then none."""
    rows = dice.choice([1, 3, 30, 90])

    def moment(number: int) -> datetime | None:
        if dice.random() < 0.003:
            return dice.choice(ABSURD)
        jitter = dice.uniform(-12, 0) if dice.random() < 0.03 else dice.uniform(-1.5, 1.5)
        return datetime(2026, 1, 1, 12) + timedelta(seconds=number / 10 + jitter)

    if dice.random() < 0.1:
        it.append("owners", [{"owner": dice.randrange(6), "city": dice.choice(["서울", "Köln", None])}])
        return first
    if dice.random() < 0.4:
        it.append("rates", [
            {"id": first * 100 + row, "owner": dice.randrange(6), "rate": dice.randrange(100), "at": moment(first)}
            for row in range(min(rows, 40))
        ])  # fmt: skip
        return first + 1
    it.append("events", [
        {"id": first + row, "owner": dice.randrange(6), "n": dice.randrange(100), "at": moment(first + row)}
        for row in range(rows)
    ])  # fmt: skip
    return first + rows


def side_log(it: bourne.Instance, name: str) -> list[tuple[object, ...]]:
    """What is in it, with where each record came from."""
    wanted = ["input", "input_partition", "input_offset", "error", "record"]
    return sorted(tuple(row.values()) for row in it.tail(name).select(wanted).to_pylist())


def check_alike(it: bourne.Instance, other: bourne.Instance) -> None:
    """Compare views and their side logs."""
    for view in it.status().views:
        if view.name != "per_city":
            found = difference(*(rows_of(each.query(f"FROM {view.name}").to_arrow()) for each in (it, other)))
            assert found is None, f"{view.name}: {found}"
        for side in ("late", "errors"):
            assert side_log(it, f"{view.name}_{side}") == side_log(other, f"{view.name}_{side}")


def check_lookups(it: bourne.Instance) -> None:
    """Each event is counted once, in whatever city its owner was: the counts of the windows are those without cities."""
    sql = "SELECT window_start, sum(n) FROM {} GROUP BY window_start ORDER BY ALL"
    assert it.query(sql.format("per_city")).fetchall() == it.query(sql.format("tumbled")).fetchall()


def computed_at_once(data: Path, folder: Path, *, final: bool) -> bourne.Instance:
    """Copy the logs, and take them in."""
    for log in ("events", "rates", "owners"):
        shutil.copytree(data / "logs" / log, folder / "logs" / log)
    shutil.copy(data / "bourne.json", folder / "bourne.json")
    other = bourne.open(load_app(HERE / "closing_app.py", name=None), data=folder)
    other.catch_up(final=final)
    return other


def check_with_duckdb(it: bourne.Instance) -> None:
    """Compare views with DuckDB's answer over the records that are neither late nor errors."""
    assert it.app is not None
    logs = {
        name: (it.reading.schemas()[name], it.query(f"FROM {name}").to_arrow())
        for name in ("events", "rates")
    }
    for name in WHOLE:
        left = dict(logs)
        aside = pa.concat_tables([it.tail(f"{name}_{side}") for side in ("late", "errors")])
        for log, (schema, records) in logs.items():
            gone = aside.filter(pc.equal(aside.column("input"), log)).column("record").to_pylist()
            ids = {json.loads(record)["id"] for record in gone}
            assert len(ids) == len(gone), f"{name}: a record was put aside twice"
            rest = records.filter(pc.invert(pc.is_in(records.column("id"), pa.array(ids, pa.int64()))))
            assert rest.num_rows == records.num_rows - len(ids)
            left[log] = (schema, rest)
        select, _ = split_emit(it.app.views[name].sql)
        schemas = {log: schema for log, (schema, _) in left.items()}
        _, expected = ask_duckdb(rewrite_windows(select, schemas).sql, left)
        found = difference(rows_of(it.query(f"FROM {name}").to_arrow()), rows_of(expected))
        assert found is None, f"{name}: {found}"


def test_what_is_closed_and_late_survives_kills(tmp_path: Path) -> None:
    data = tmp_path / "data"
    dice = random.Random(SEED)
    print(f"seed {SEED}, {LIVES} lives")
    closing = load_app(HERE / "closing_app.py", name=None)
    bourne.open(closing, data=data).close()
    next_id = 0
    for life in range(LIVES):
        with feeding(data, append_some, dice, next_id) as fed:
            live(HERE / "closing_app.py", data, dice)
        next_id = fed.next_id
        is_last = life == LIVES - 1
        fresh = tmp_path / "fresh"
        with bourne.open(closing, data=data) as it:
            it.catch_up(final=is_last)
            with computed_at_once(data, fresh, final=is_last) as other:
                check_alike(it, other)
            check_lookups(it)
            shutil.rmtree(fresh)
            late = {view.name: view.late_records for view in it.status().views}
            print(f"life {life}: {next_id:,} events; late: {late}")
            if is_last:
                check_with_duckdb(it)
