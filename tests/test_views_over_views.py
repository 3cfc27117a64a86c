"""Views over views: each commit is one state of the world below, whatever was killed in between."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne import rounds, running
from bourne.errors import DefinitionError, SqlError, ViewFailed
from bourne.log.reader import LogReader
from engine.oracle import ask_duckdb, difference, rows_of

VIEWS = {
    "top": "SELECT s.k, s.total, b.n, (SELECT count(*) FROM events) AS everything "
           "FROM sums AS s LEFT JOIN big AS b ON s.k = b.k WHERE s.total >= (SELECT avg(total) FROM sums)",
    "sums": "SELECT k, sum(n) AS total FROM events GROUP BY k",
    "big": "SELECT k, n FROM events WHERE n > 6",
    "tops": "SELECT count(*) AS tops, max(everything) AS everything FROM top",
    "alone": "SELECT count(*) AS c FROM others",
}  # fmt: skip

# What the views say, each with those below written out.
WHOLE = {
    name: "WITH " + ", ".join(f"{below} AS ({VIEWS[below]})" for below in ("sums", "big", "top") if below != name)
    + f" {VIEWS[name]}"
    for name in VIEWS
}  # fmt: skip


def app_of(views: dict[str, str]) -> bourne.App:
    app = bourne.App("layers")
    app.log("events", schema={"k": "varchar", "n": "integer"}, key="k", partitions=3)
    app.log("others", schema={"x": "integer"})
    for name, sql in views.items():
        app.view(name, sql)
    return app


def some(random_: random.Random) -> list[dict[str, Any]]:
    return [
        {"k": random_.choice(["a", "b", "한국", None, "e"]) or "-", "n": random_.choice([None, 1, 5, 8, 9])}
        for _ in range(random_.choice([0, 1, 4, 30]))
    ]


def check(it: bourne.Instance) -> None:
    tables = {name: it.tail(name) for name in ("events", "others")}
    schemas = it.reading.schemas()
    for name, sql in WHOLE.items():
        _, expected = ask_duckdb(sql, {log: (schemas[log], table) for log, table in tables.items()})
        found = difference(rows_of(it.query(f"SELECT * FROM {name}").to_arrow()), rows_of(expected))
        assert found is None, f"{name}: {found}"


def frames(it: bourne.Instance, view: str) -> list[tuple[int, dict[str, list[int]]]]:
    """Return where each of a view's commits ends in its output log, and the positions that it reflects."""
    info = it.reading.views()[view]
    reader = LogReader(info.folder, info.output)
    try:
        found = [
            frame for some_frames in iter(lambda: reader.read(rows_max=1 << 30), []) for frame in some_frames
        ]
        return [(frame.base_offset + frame.batch.num_rows, frame.meta["positions"]) for frame in found]
    finally:
        reader.close()


def reflected(it: bourne.Instance, view: str, end: int) -> list[list[int]]:
    """Return the positions in the log with which a view's output may have ended there: empty commits do not show."""
    return [positions["events"] for at, positions in frames(it, view) if at == end] or [[0, 0, 0]]


def check_commits(it: bourne.Instance) -> None:
    """Each commit of `top` reflects the same records in the log and in both views."""
    commits = frames(it, "top")
    assert len(commits) > 3
    for _, positions in commits:
        (sums,), (big,) = positions["sums"], positions["big"]
        assert positions["events"] in reflected(it, "sums", sums), positions
        assert positions["events"] in reflected(it, "big", big) or big == 0, positions


Rounds = running.Rounds


class AppendingRounds(Rounds):
    """Rounds in which records come between the steps of one view and the next."""

    def _step(self, name: str, *given: Any, **options: Any) -> Any:
        it, random_ = self.feed  # type: ignore[attr-defined]
        if random_.random() < 0.3:
            it.append("events", some(random_))
        return super()._step(name, *given, **options)


@pytest.mark.parametrize("seed", range(30 if os.environ.get("BOURNE_LONG") else 1))
def test_each_commit_reflects_one_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(rounds, "EPOCH_ROWS_MIN", 5)
    monkeypatch.setattr(running, "Rounds", AppendingRounds)
    random_ = random.Random(seed)
    app = app_of(VIEWS)
    for _ in range(6):
        with bourne.open(app, data=tmp_path) as it:
            for _ in range(3):
                monkeypatch.setattr(AppendingRounds, "feed", (it, random_), raising=False)
                it.append("events", some(random_))
                it.append("others", [{"x": 1}])
                it.catch_up()
            monkeypatch.setattr(running, "Rounds", Rounds)
            it.catch_up()
            check(it)
            monkeypatch.setattr(running, "Rounds", AppendingRounds)
            check_commits(it) if len(frames(it, "top")) > 3 else None
            # As if killed: some of the views have committed more than the others.
            it.append("events", some(random_))
            it._runners.start()
            for name in random_.sample(["sums", "big"], random_.choice([0, 1, 1])):
                it._runners._started[f"{name}/1"].step()
    monkeypatch.setattr(running, "Rounds", Rounds)
    with bourne.open(app, data=tmp_path) as it:
        it.catch_up()
        check(it)
        check_commits(it)


def test_a_view_declared_later_takes_in_what_is_there(tmp_path: Path) -> None:
    random_ = random.Random(1)
    first = {name: VIEWS[name] for name in ("sums", "big", "alone")}
    with bourne.open(app_of(first), data=tmp_path) as it:
        it.append("events", [*some(random_), {"k": "a", "n": 9}])
        it.catch_up()
    with bourne.open(app_of(VIEWS), data=tmp_path) as it:
        it.append("events", [{"k": "e", "n": 7}])
        it.catch_up()
        check(it)


def test_a_view_declared_later_does_not_compute_rows_that_are_gone(tmp_path: Path) -> None:
    def app_of_texts(views: dict[str, str]) -> bourne.App:
        app = bourne.App("texts")
        app.log("texts", schema={"k": "varchar", "t": "varchar"}, key="k", changes="upsert")
        for name, sql in views.items():
            app.view(name, sql)
        return app

    lower = {"lower": "SELECT k, t FROM texts WHERE t <> ''"}
    with bourne.open(app_of_texts(lower), data=tmp_path) as it:
        for text in ("not a number", "7"):
            it.append("texts", [{"k": "가", "t": text}])
            it.catch_up()
    numbers = {"numbers": "SELECT k, CAST(t AS INTEGER) AS n FROM lower"}
    with bourne.open(app_of_texts(lower | numbers), data=tmp_path) as it:
        it.catch_up()
        assert it.query("SELECT * FROM numbers").fetchall() == [("가", 7)]


def test_a_changed_view_is_computed_anew_with_those_over_it(tmp_path: Path) -> None:
    with bourne.open(app_of(VIEWS), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 9}, {"k": "b", "n": 1}])
        it.catch_up()
    changed = VIEWS | {"sums": "SELECT k, sum(n) + 1000 AS total FROM events GROUP BY k"}
    with bourne.open(app_of(changed), data=tmp_path) as it:
        it.catch_up()
        assert it.query("SELECT k, total FROM top").fetchall() == [("a", 1009)]
        assert {view.name: view.version for view in it.status().views} == {
            "sums": 2, "top": 2, "tops": 2, "big": 1, "alone": 1,
        }  # fmt: skip


def test_views_that_read_each_other_are_refused(tmp_path: Path) -> None:
    app = app_of({"a": "SELECT k FROM b", "b": "SELECT k FROM a", "c": "SELECT k FROM events"})
    with pytest.raises(DefinitionError, match="views a, b cannot be put in an order"):
        bourne.open(app, data=tmp_path)
    with pytest.raises(SqlError, match="a"):
        bourne.open(app_of({"a": "SELECT k FROM a"}), data=tmp_path)


def test_a_name_in_the_text_is_not_yet_a_view_that_is_read(tmp_path: Path) -> None:
    app = app_of(
        {"total": "SELECT count(*) AS number FROM events", "number": "SELECT sum(n) AS total FROM events"}
    )
    with bourne.open(app, data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 3}])
        it.catch_up()
        assert it.query("SELECT number FROM total").fetchall() == [(1,)]
        assert it.query("SELECT total FROM number").fetchall() == [(3,)]


def test_what_reads_a_failed_view_waits_for_it_and_the_others_go_on(tmp_path: Path) -> None:
    views = {"whole": "SELECT k, (100 // n)::INTEGER AS x, n::VARCHAR::TINYINT AS t FROM events",
             "over": "SELECT count(*) AS c FROM whole", "beside": "SELECT count(*) AS c FROM events"}  # fmt: skip
    with bourne.open(app_of(views), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 3}])
        it.catch_up()
        it.append("events", [{"k": "a", "n": 1000}])
        with pytest.raises(ViewFailed, match="whole"):
            it.catch_up()
        assert it.query("SELECT c FROM over").fetchall() == [(1,)]
        assert it.query("SELECT c FROM beside").fetchall() == [(2,)]


def test_a_view_of_no_log(tmp_path: Path) -> None:
    with bourne.open(
        app_of({"one": "SELECT 1 AS x", "two": "SELECT x + 1 AS y FROM one"}), data=tmp_path
    ) as it:
        it.catch_up()
        assert it.query("SELECT x, y FROM one, two").fetchall() == [(1, 2)]
    with bourne.open(
        app_of({"one": "SELECT 1 AS x", "two": "SELECT x + 1 AS y FROM one"}), data=tmp_path
    ) as it:
        it.catch_up()
        assert it.query("SELECT x, y FROM one, two").fetchall() == [(1, 2)]


def test_positions_of_what_is_read_are_in_the_status(tmp_path: Path) -> None:
    with bourne.open(app_of(VIEWS), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 9}])
        before = {view.name: view for view in it.status().views}
        assert before["top"].inputs == ("events", "sums", "big") and before["top"].lag_records == 1
        it.catch_up()
        after = {view.name: view for view in it.status().views}
        assert after["top"].lag_records == 0 and after["top"].position == 3
        assert [state.rows for state in after["sums"].state] == [1]
        assert pa.types.is_decimal(it.query("SELECT total FROM sums").to_arrow().schema.field(0).type)
