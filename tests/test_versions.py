"""Versions of views: what readers see is always one whole version, of every view that they read, whatever is being built."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import bourne
from bourne.errors import DefinitionError, UnknownName, ViewFailed
from bourne.testing import SimulatedClock
from bourne.views.catalog import Catalog

# Definitions that a random walk goes through: of a view by key, one by content, and views over them.
LOWER = [
    "SELECT k, sum(n) AS n FROM events GROUP BY k",
    "SELECT k, max(n) AS n FROM events GROUP BY k",
    "SELECT k, n FROM events WHERE n % 2 = 0",
    "SELECT k, n + 1 AS n, 7 AS more FROM events",
]
UPPER = [
    "SELECT k, count(*) AS c FROM lower GROUP BY k",
    "SELECT l.k, l.n, e.n AS m FROM lower l JOIN events e ON l.k = e.k WHERE e.n > 3",
    "SELECT k, n FROM lower WHERE n >= (SELECT avg(n) FROM lower)",
]
ALONE = [
    "SELECT count(*) AS c FROM events",
    "SELECT k FROM events WHERE n > 5 EXCEPT SELECT k FROM events WHERE n < 2",
]

Definitions = dict[str, str]


def app_of(views: Definitions) -> bourne.App:
    app = bourne.App("versions")
    app.log("events", schema={"k": "varchar", "n": "integer"})
    for name, sql in views.items():
        app.view(name, sql, grows=True)
    return app


def some(random_: random.Random) -> list[dict[str, Any]]:
    return [{"k": random_.choice("ab가"), "n": random_.randrange(9)} for _ in range(random_.randrange(1, 9))]


def rows_of(table: Any) -> Counter[Any]:
    return Counter(tuple(row.values()) for row in table.to_pylist())


class World:
    """A data folder, what was appended, and which definitions are served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self.seen: dict[bourne.Instance, int] = {}

    def served(self) -> Definitions:
        return {view.name: view.sql for view in Catalog(self.folder).views()}

    def check(self, it: bourne.Instance, *, may_be_apart: bool) -> None:
        """What is read together is what DuckDB says of a prefix of the log, by the definitions that are served.

        `may_be_apart`: some views were killed further on than others, so that there may be nothing that they share.
        """
        served = self.served()
        found = it.reading.together(list(served), {})
        assert found is not None or may_be_apart
        if found is None:
            return
        assert {name: view.sql for name, view in found.views.items()} == served
        (end,) = found.position.get("events", (0,))
        assert end >= self.seen.get(it, 0)  # readers never go back
        self.seen[it] = end
        for name, expected in answers(served, self.events[:end]).items():
            assert rows_of(found.tables[name]) == expected, (name, served[name], end)


EVENTS = pa.schema([("k", pa.string()), ("n", pa.int32())])


def answers(definitions: Definitions, events: list[dict[str, Any]]) -> dict[str, Counter[Any]]:
    """Return what DuckDB says of the views."""
    with duckdb.connect() as connection:
        connection.register("events", pa.Table.from_pylist(events, EVENTS))
        for name in [name for name in ("lower", "upper", "alone") if name in definitions]:
            connection.execute(f"CREATE TEMP VIEW {name} AS {definitions[name]}")
        return {name: Counter(connection.execute(f"FROM {name}").fetchall()) for name in definitions}


@pytest.mark.parametrize("seed", range(60 if os.environ.get("BOURNE_LONG") else 3))
def test_readers_see_one_whole_version_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for module in ("bourne.rounds", "bourne.engine.runner"):
        monkeypatch.setattr(f"{module}.EPOCH_ROWS_MIN", 3)
        monkeypatch.setattr(f"{module}.EPOCH_ROWS_MAX", 5)
    random_, world = random.Random(seed), World(tmp_path)
    declared = {"lower": LOWER[0], "upper": UPPER[0], "alone": ALONE[0]}
    with bourne.open(app_of(declared), data=tmp_path) as it:
        it.catch_up()
    for _ in range(5):
        if random_.random() < 0.6:
            name = random_.choice(list(declared))
            declared[name] = random_.choice({"lower": LOWER, "upper": UPPER, "alone": ALONE}[name])
        with bourne.open(app_of(declared), data=tmp_path) as it, bourne.open(data=tmp_path) as reader:
            for _ in range(3):
                events = some(random_)
                it.append("events", events)
                world.events += events
                deed = random_.choice(["catch up", "steps", "steps", "replay", "rollback", "killed"])
                do(deed, it, random_, lambda: world.check(reader, may_be_apart=True))
                for each in (reader, it):
                    world.check(each, may_be_apart=deed != "catch up")
            targets = it._versions.targets()
        with bourne.open(data=tmp_path) as reader:
            world.check(reader, may_be_apart=False)  # from any point on, somebody new finds what they share
        if deed == "catch up":
            for name, view in targets.items():
                assert world.served()[name] == view.sql, name


def do(deed: str, it: bourne.Instance, random_: random.Random, check: Callable[[], None]) -> None:
    """Do something with versions, or half of it."""
    if deed == "catch up":
        it.catch_up()
    elif deed in ("steps", "killed"):
        if deed == "killed" and not it._versions.building():
            begin(it, random_)
        for _ in range(random_.randrange(4)):
            step(it, random_)
            check()
    else:
        view = random_.choice(["lower", "upper", "alone"])
        try:
            outcome = it.replay(view) if deed == "replay" else it.rollback(view)
        except DefinitionError as error:  # it is being built, or there is nothing to go back to
            assert "already" in error.what or "rolled back" in error.what or "any more" in error.what
        else:
            assert outcome is not None and (
                outcome.is_served or "served in another version" in str(outcome.error)
            )
            assert not any(each.gone or each.come for each in outcome.differences), outcome


def begin(it: bourne.Instance, random_: random.Random) -> None:
    """Leave behind what a `bourne replay` leaves that is killed."""
    from bourne.views.replaying import begin_replay  # noqa: PLC0415

    try:
        begin_replay(it._versions, random_.choice(["lower", "upper", "alone"]), accepts=False, files=it.files)
    except DefinitionError as error:
        assert "rolled back" in error.what


def step(it: bourne.Instance, random_: random.Random) -> None:
    """Let some of the versions that run commit an epoch, as if the process were killed after it."""
    runners, refused = it._runners.start()
    assert not refused
    below = [key for key, runner in runners.items() if set(runner.positions) == {"events"}]
    for key in random_.sample(below, random_.randrange(len(below) + 1)):
        runners[key].step()
    it._runners.end()


def test_the_old_version_is_read_until_the_new_one_has_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("bourne.rounds", "bourne.engine.runner"):
        monkeypatch.setattr(f"{module}.EPOCH_ROWS_MIN", 10)
        monkeypatch.setattr(f"{module}.EPOCH_ROWS_MAX", 10)
    old, new = {"v": "SELECT sum(n) AS s FROM events"}, {"v": "SELECT sum(n) AS s, count(*) AS c FROM events"}
    with bourne.open(app_of(old), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 1}] * 100)
        it.catch_up()
    stop = threading.Event()
    seen: list[tuple[Any, ...]] = []

    def look(progress: list[bourne.Progress]) -> None:
        with bourne.open(data=tmp_path) as reader:
            seen.append(reader.query("FROM v").fetchall()[0])
        if any(len(row) == 2 for row in seen):
            stop.set()
        elif len(seen) < 4:
            it.append("events", [{"k": "a", "n": 1}])

    with bourne.open(app_of(new), data=tmp_path) as it:
        assert it.status().views[0].building == bourne.views.status.BuildingStatus(2, "change", 0, 100)
        it.run(stop=stop, on_progress=look)
        assert it.query("FROM v").fetchall() == [seen[-1]] == [(103, 103)]
    assert seen[0] == (101,) or seen[0] == (100,)
    sums = [row[0] for row in seen]
    assert sums == sorted(sums) and len({row for row in seen if len(row) == 1}) >= 3  # it went on meanwhile


def folder_of(view: str, number: int, folder: Path) -> list[Path]:
    return sorted((folder / "views" / view / str(number)).rglob("*"))


def test_a_replay_that_finds_other_rows_changes_nothing_unless_it_may(tmp_path: Path) -> None:
    """A function that says something else than before, though its version says that it is the same."""
    factor = [1]

    def app() -> bourne.App:
        found = bourne.App("other")
        found.log("events", schema={"k": "varchar", "n": "integer"})
        found.udf(returns="bigint", arguments=["integer"], scalar=True, version="1")(times)
        found.view("v", "SELECT k, times(n) AS n FROM events")
        return found

    def times(n: int) -> int:
        return n * factor[0]

    with bourne.open(app(), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": n} for n in range(4)])
        it.catch_up()
        factor[0] = 3
        outcome = it.replay("v")
        assert outcome is not None and not outcome.is_served and outcome.error == "the rows are not the same"
        (difference,) = outcome.differences
        assert (difference.rows, difference.gone, difference.come) == (
            4,
            2,
            2,
        )  # 0 and 3 are there both times
        assert set(difference.come_rows) == {'{"k":"a","n":6}', '{"k":"a","n":9}'}
        assert it.query("SELECT sum(n) FROM v").fetchall() == [(6,)]
        it.catch_up()
        assert folder_of("v", 2, tmp_path) == []  # what never was served is gone, all but its number
        outcome = it.replay("v", accept_differences=True)
        assert outcome is not None and outcome.is_served and outcome.views == {"v": 3}
        assert it.query("SELECT sum(n) FROM v").fetchall() == [(18,)]
    with bourne.open(data=tmp_path) as it, pytest.raises(DefinitionError, match="cannot be run any more"):
        it.rollback("v")  # without its function
    with bourne.open(data=tmp_path) as it:
        outcome = it.rollback("v", as_it_is=True)
        assert outcome is not None and outcome.is_served
        assert it.query("SELECT sum(n) FROM v").fetchall() == [(6,)]


def test_a_comparison_that_ends_just_after_it_was_looked_at_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, a run took it for done, as it was by then, and ended before anything came of it."""
    looks: list[bool] = []

    def is_done(self: Any) -> bool:
        if looks:
            self._thread.join()
        looks.append(True)
        return len(looks) > 1

    monkeypatch.setattr("bourne.building._Comparison.is_done", property(is_done))
    with bourne.open(app_of({"v": ALONE[0]}), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 1}])
        it.catch_up()
        outcome = it.replay("v")
        assert outcome is not None and outcome.is_served


def test_what_was_rolled_back_does_not_come_back_by_itself(tmp_path: Path) -> None:
    first, second, third = ({"v": f"SELECT n + {number} AS n FROM events"} for number in (1, 2, 3))
    for definition in (first, second):
        with bourne.open(app_of(definition), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 0}])
            it.catch_up()
            assert it.rolled_back == ()
    with bourne.open(app_of(second), data=tmp_path) as it:
        outcome = it.rollback("v")
        assert outcome is not None and outcome.is_served and outcome.views == {"v": 1}
        assert it.query("FROM v").fetchall() == [(1,), (1,)]
    for _ in range(2):
        with bourne.open(app_of(second), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 10}])
            it.catch_up()
            assert it.rolled_back == ("v",)
            assert {row[0] for row in it.query("FROM v").fetchall()} == {1, 11}
    with bourne.open(app_of(second), data=tmp_path) as it:
        outcome = it.rollback("v")  # and forth again, brought up to date
        assert outcome is not None and outcome.is_served and outcome.views == {"v": 2}
        assert sorted(it.query("FROM v").fetchall()) == [(2,), (2,), (12,), (12,)]
        assert it.rolled_back == ()
        assert it.rollback("v").is_served  # type: ignore[union-attr]
    with bourne.open(app_of(third), data=tmp_path) as it:  # another definition is a change as any other
        it.catch_up()
        assert {row[0] for row in it.query("FROM v").fetchall()} == {3, 13}
        assert {view.name: view.version for view in it.status().views} == {"v": 3}


def test_what_was_rolled_back_is_not_replayed_before_it_is_declared(tmp_path: Path) -> None:
    """Else nothing would say any more that it was rolled back, and the definition would come back by itself."""
    old, new = {"lower": LOWER[0], "upper": UPPER[0]}, {"lower": LOWER[0], "upper": UPPER[2]}
    for definition in (old, new):
        with bourne.open(app_of(definition), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 2}])
            it.catch_up()
    with bourne.open(app_of(new), data=tmp_path) as it:
        it.rollback("upper")
        for view in ("upper", "lower"):
            with pytest.raises(DefinitionError, match="'upper' cannot be replayed: it was rolled back"):
                it.replay(view)
    with bourne.open(data=tmp_path) as it, pytest.raises(DefinitionError, match="rolled back"):
        it.replay("lower")
    with bourne.open(app_of(old), data=tmp_path) as it:
        outcome = it.replay("lower")
        assert outcome is not None and outcome.is_served
        assert it.query("FROM upper").fetchall() == [("a", 1)]


def test_a_definition_that_changes_within_a_build_goes_on_with_what_is_there(tmp_path: Path) -> None:
    """Once, the versions that the next build went on with were thought to be given up, and their files deleted."""
    definitions = {"lower": LOWER[0], "upper": UPPER[0]}
    for change in ({}, {"lower": LOWER[1]}, {"upper": UPPER[2]}):
        definitions |= change
        with bourne.open(app_of(definitions), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 2}] * 5)
            if len(change) == 0:
                it.catch_up()
            else:
                step_all(it)
    with bourne.open(app_of(definitions), data=tmp_path) as it:
        it.catch_up()
        assert it.query("FROM upper").fetchall() == [("a", 2)]
        assert {view.name: view.version for view in it.status().views}["lower"] == 2


def step_all(it: bourne.Instance) -> None:
    """Let all versions that run begin, and those that read logs alone commit an epoch, as if the process were killed then."""
    runners, refused = it._runners.start()
    assert not refused
    for runner in runners.values():
        if set(runner.positions) == {"events"}:
            runner.step()
    it._runners.end()


def test_views_go_back_together_or_not_at_all(tmp_path: Path) -> None:
    views = {"lower": LOWER[0], "upper": UPPER[0]}
    changed = {"lower": LOWER[1], "upper": UPPER[0]}
    for definitions in (views, changed):
        with bourne.open(app_of(definitions), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 4}, {"k": "a", "n": 5}])
            it.catch_up()
    with bourne.open(app_of(changed), data=tmp_path) as it:
        outcome = it.rollback("upper")
        assert outcome is not None and outcome.views == {"lower": 1, "upper": 1}
        assert it.query("SELECT n FROM lower").fetchall() == [(18,)]
        with pytest.raises(UnknownName, match="no view 'nobody'"):
            it.rollback("nobody")
    with bourne.open(app_of(changed | {"later": "SELECT n FROM lower"}), data=tmp_path) as it:
        it.catch_up()
        assert "later" not in it.reading.views()  # it is over what was rolled back
        outcome = it.rollback("lower")
        assert outcome is not None and outcome.is_served
        it.catch_up()
    with bourne.open(app_of(changed | {"later": "SELECT n FROM lower"}), data=tmp_path) as it:
        it.catch_up()
        assert it.query("FROM later").fetchall() == [(5,)]
        with pytest.raises(DefinitionError, match="no other version of 'later' was served before"):
            it.rollback("lower")


def test_a_replay_of_what_is_not_in_the_log_any_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial  # noqa: PLC0415

    from bourne.log import embedded  # noqa: PLC0415

    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)
    app = bourne.App("kept")
    app.log("events", schema={"k": "varchar", "n": "integer"}, keep="1 second")
    app.view("v", "SELECT k, n FROM events")
    with bourne.open(app, data=tmp_path, clock=clock) as it:
        for number in range(30):
            it.append("events", [{"k": "a", "n": number}] * 20)
            clock.advance(10**6)
        it.catch_up()
        first = it.replay("v")
        assert first is not None and first.is_served
        assert sum(each.deleted for each in it.maintain())
        (begin,) = it.log("events").first_offsets()
        with pytest.raises(ViewFailed, match="records that it was computed from are gone") as refused:
            it.replay("v")
        assert refused.value.found == f"records from offset {begin} on"
        assert it.status().views[0].building is None


def test_what_was_rolled_back_as_it_is_stands_still_where_its_records_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial  # noqa: PLC0415

    from bourne.log import embedded  # noqa: PLC0415

    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)

    def app(sql: str) -> bourne.App:
        found = bourne.App("kept")
        found.log("events", schema={"k": "varchar", "n": "integer"}, keep="1 second")
        found.view("v", sql, grows=True)
        found.view("other", "SELECT max(n) AS m FROM events")
        return found

    def append(it: bourne.Instance, first: int) -> None:
        for number in range(first, first + 30):
            it.append("events", [{"k": "a", "n": number}] * 20)
            clock.advance(10**6)
        it.catch_up()

    for number, sql in enumerate(["SELECT sum(n) AS s FROM events", "SELECT count(*) AS s FROM events"]):
        with bourne.open(app(sql), data=tmp_path, clock=clock) as it:
            append(it, 30 * number)
    with bourne.open(app(sql), data=tmp_path, clock=clock) as it:
        append(it, 60)  # which the version before does not take in
        for _ in range(
            2
        ):  # views let go of what their newest saved state does not need, then of what the one before needs
            it.maintain()
        with pytest.raises(ViewFailed, match="records are gone that it has not taken in"):
            it.rollback("v")
        outcome = it.rollback("v", as_it_is=True)
        assert outcome is not None and outcome.is_served
        append(it, 90)
        assert it.query("FROM other").fetchall() == [(119,)]
        assert it.query("FROM v").fetchall() == [(20 * sum(range(60)),)]
        why = it.standing("v")
        assert why is not None and "records are gone" in why
        outcome = it.rollback("v")
        assert outcome is not None and outcome.is_served
        it.catch_up()
        assert it.query("FROM v").fetchall() == [(20 * 120,)] and it.standing("v") is None


def test_a_replay_of_what_was_ended_by_hand_is_refused(tmp_path: Path) -> None:
    app = bourne.App("ended")
    app.log("events", schema={"k": "varchar", "at": "timestamp"}, time="at")
    app.view(
        "v",
        "SELECT window_start, count(*) AS n FROM TUMBLE(events, at, INTERVAL 1 MINUTE) GROUP BY ALL EMIT FINAL",
    )
    with bourne.open(app, data=tmp_path) as it:
        it.append("events", [{"k": "a", "at": "2026-01-01 00:00:10"}])
        it.catch_up(final=True)
        assert it.status().views[0].is_complete
        with pytest.raises(ViewFailed, match="were said to have ended"):
            it.replay("v")


def test_a_data_folder_from_before_serves_its_newest_versions(tmp_path: Path) -> None:
    for sql in (ALONE[0], ALONE[1]):
        with bourne.open(app_of({"v": sql}), data=tmp_path) as it:
            it.append("events", [{"k": "a", "n": 7}])
            it.catch_up()
    (tmp_path / "views" / "serving.json").unlink()
    with bourne.open(data=tmp_path) as it:
        assert it.query("FROM v").fetchall() == [("a",)]
    with bourne.open(app_of({"v": ALONE[0]}), data=tmp_path) as it:
        assert it.query("FROM v").fetchall() == [("a",)]
        it.catch_up()
        assert it.query("FROM v").fetchall() == [(2,)]
        assert it.status().views[0].version == 3


def test_a_new_version_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    with bourne.open(app_of({"v": "SELECT k FROM events"}), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 1}])
        it.catch_up()
    with bourne.open(app_of({"v": "SELECT CAST(k AS INTEGER) AS k FROM events"}), data=tmp_path) as it:
        it.append("events", [{"k": "b", "n": 1}])
        with pytest.raises(ViewFailed, match="'v'"):
            it.catch_up()
        assert it.query("FROM v").fetchall() == [("a",), ("b",)]  # and it goes on
    with bourne.open(app_of({"v": "SELECT k || '!' AS k FROM events"}), data=tmp_path) as it:
        it.catch_up()
        assert it.query("FROM v").fetchall() == [("a!",), ("b!",)]
