"""Views where something goes wrong around them: retention, a full disk, changed names, what cannot be computed."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne import rounds, running
from bourne.engine import runner
from bourne.engine.circuit import Circuit
from bourne.errors import DefinitionError, DiskFull, ViewFailed
from bourne.log import embedded
from bourne.log.reader import LogReader
from bourne.testing.clock import SimulatedClock
from bourne.testing.files import FaultyFiles

COUNT = "SELECT k, count(*) AS n FROM events GROUP BY k"


def app_of(views: dict[str, str], **log: Any) -> bourne.App:
    app = bourne.App("attacked")
    app.log("events", schema={"k": "varchar", "n": "bigint"}, **log)
    for name, sql in views.items():
        app.view(name, sql)
    return app


def commits(it: bourne.Instance, view: str) -> list[dict[str, list[int]]]:
    info = it.reading.views()[view]
    reader = LogReader(info.folder, info.output)
    try:
        return [frame.meta["positions"] for found in iter(reader.read, []) for frame in found]
    finally:
        reader.close()


@pytest.mark.parametrize("sql", [COUNT, "SELECT k FROM events WHERE n = 0"])
def test_a_view_that_was_away_while_records_went_is_not_restored_from_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)
    open_it = partial(bourne.open, data=tmp_path, clock=clock)
    kept = {"keep": "1 second"}
    with open_it(app_of({"counts": sql}, **kept)) as it:
        it.append("events", [{"k": "a", "n": 0}])
        it.catch_up()
    with open_it(app_of({}, **kept)) as it:
        for number in range(1, 30):
            it.append("events", [{"k": "a", "n": number}] * 20)
            clock.advance(10**6)
        assert sum(each.deleted for each in it.maintain())
    with open_it(app_of({"counts": sql}, **kept)) as it, pytest.raises(ViewFailed, match="does not keep"):
        it.catch_up()


def test_a_view_that_began_where_records_were_gone_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)
    open_it = partial(bourne.open, data=tmp_path, clock=clock)
    with open_it(app_of({}, keep="1 second")) as it:
        for number in range(30):
            it.append("events", [{"k": "a", "n": number}] * 20)
            clock.advance(10**6)
        it.maintain()
    for _ in range(3):
        with open_it(app_of({"counts": COUNT}, keep="1 second")) as it:
            it.append("events", [{"k": "a", "n": 0}])
            it.catch_up()
            it.maintain()
            assert it.query("SELECT n FROM counts").fetchall() == [(len(it.tail("events")),)]


@pytest.mark.parametrize("asked", [0, 1, 3, 30])
def test_a_log_asked_before_it_had_records_is_answered_as_far_as_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)
    with bourne.open(app_of({}, keep="9 seconds", key="k", partitions=3), data=tmp_path, clock=clock) as it:

        def ask() -> list[tuple[int, int]]:
            return it.query("SELECT min(n), count(*) FROM events").fetchall()

        assert ask() == [(None, 0)]
        for number in range(asked):  # some partitions have records, others none
            it.append("events", [{"k": "ab"[number % 2], "n": number}])
        assert ask()[0][1] == asked
        for number in range(100, 130):
            it.append("events", [{"k": each, "n": number} for each in "abcde" * 4])
            clock.advance(10**6)
        assert sum(each.deleted for each in it.maintain())
        found = ask()
        with bourne.open(data=tmp_path, clock=clock) as other:
            assert found == ask() == other.query("SELECT min(n), count(*) FROM events").fetchall()
        assert found[0][0] >= 100


def test_a_view_that_was_away_while_its_log_was_compacted_is_not_restored_from_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its groups would be computed without the rows that have moved since: and some would keep their old counts."""
    monkeypatch.setattr(embedded, "LogWriter", partial(embedded.LogWriter, segment_bytes=2000))
    clock = SimulatedClock(10**15)
    open_it = partial(bourne.open, data=tmp_path, clock=clock)
    upserts = {"key": "k", "changes": "upsert", "compact": True}
    views = {"counts": "SELECT n, count(*) AS c FROM events GROUP BY n"}
    with open_it(app_of(views, **upserts)) as it:
        it.append("events", [{"k": "a", "n": 1}, {"k": "b", "n": 1}])
        it.catch_up()
    with open_it(app_of({}, **upserts)) as it:
        it.append("events", [{"k": "a", "n": 2}])
        for _ in range(5):
            it.append("events", [{"k": "z", "n": 3}] * 20)
        clock.advance(10**12)
        assert sum(each.compacted for each in it.maintain())
    with open_it(app_of(views, **upserts)) as it, pytest.raises(ViewFailed, match="compacted further"):
        it.catch_up()


def test_one_step_of_the_lower_views_is_one_commit_of_the_upper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows the lower ones make of it, and however far behind the upper one is."""
    for module in (rounds, runner):
        monkeypatch.setattr(module, "EPOCH_ROWS_MIN", 20)
        monkeypatch.setattr(module, "EPOCH_ROWS_MAX", 40)
    views = {
        "wide": "SELECT unnest(range(n)) AS x FROM events",
        "difference": "SELECT (SELECT sum(n) FROM events) - (SELECT count(*) FROM wide) AS d",
    }
    later = views | {"later": views["difference"]}
    for declared in (views, later):
        with bourne.open(app_of(declared), data=tmp_path) as it:
            it.append("events", [{"n": number} for number in range(90)])
            it.catch_up()
            for view in set(declared) - {"wide"}:
                info = it.reading.views()[view]
                reader = LogReader(info.folder, info.output)
                rows = [
                    row
                    for frames in iter(reader.read, [])
                    for frame in frames
                    for row in frame.batch.to_pylist()
                ]
                reader.close()
                assert {row["d"] for row in rows} <= {None, 0}, view
                assert len(commits(it, view)) > 1


def test_a_view_whose_name_changes_case_is_a_new_version(tmp_path: Path) -> None:
    for name in ("Counts", "counts", "COUNTS"):
        with bourne.open(
            app_of({name: COUNT, "over": f"SELECT sum(n) AS n FROM {name}"}), data=tmp_path
        ) as it:
            it.append("events", [{"k": "a"}])
            it.catch_up()
            assert it.query("SELECT o.n, c.n FROM over o, counts c").fetchall() == [
                (it.status().logs[0].end,) * 2
            ]


def test_a_name_is_for_a_log_or_for_a_view(tmp_path: Path) -> None:
    with bourne.open(app_of({"x": COUNT}), data=tmp_path):
        pass
    app = app_of({})
    app.log("X", schema={"a": "integer"})
    with pytest.raises(DefinitionError, match="log 'X' cannot be made: there is a view of that name"):
        bourne.open(app, data=tmp_path)
    app = bourne.App("attacked")
    app.log("y", schema={"a": "integer"})
    app.view("events", "SELECT a FROM y")
    with pytest.raises(DefinitionError, match="view 'events' cannot be made: there is a log of that name"):
        bourne.open(app, data=tmp_path)


def test_a_view_that_fails_before_any_record_stands_still_alone(tmp_path: Path) -> None:
    views = {
        "broken": "SELECT v::INT AS i, (SELECT count(*) FROM events) AS n FROM (VALUES ('1'), ('b')) t(v)",
        "over": "SELECT count(*) AS n FROM broken",
        "beside": COUNT,
    }
    for number in (1, 2):
        with bourne.open(app_of(views), data=tmp_path) as it:
            it.append("events", [{"k": "a"}])
            with pytest.raises(ViewFailed, match="'broken' cannot be computed: Conversion Error"):
                it.catch_up()
            assert it.query("SELECT n FROM beside").fetchall() == [(number,)]
            assert it.query("SELECT n FROM over").fetchall() == [(0,)]


@pytest.mark.parametrize("interruption", [MemoryError, KeyboardInterrupt])
def test_what_interrupts_an_epoch_does_not_let_it_count_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    step = Circuit.step

    def interrupted(*given: Any, **named: Any) -> Any:
        step(*given, **named)
        raise interruption

    with bourne.open(app_of({"counts": COUNT}), data=tmp_path) as it:
        it.append("events", [{"k": "a"}])
        monkeypatch.setattr(Circuit, "step", interrupted)
        with pytest.raises(interruption):
            it.catch_up()
        monkeypatch.setattr(Circuit, "step", step)
        it.catch_up()  # from the state as committed
        assert it.query("SELECT n FROM counts").fetchall() == [(1,)]
    with bourne.open(app_of({"counts": COUNT}), data=tmp_path) as it:
        it.catch_up()
        assert it.query("SELECT n FROM counts").fetchall() == [(1,)]


def test_a_state_that_cannot_be_saved_is_an_error_of_ours_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ViewRunner", partial(running.ViewRunner, snapshot_rows=1))
    files = FaultyFiles()
    with bourne.open(app_of({"counts": COUNT, "others": COUNT}), data=tmp_path, files=files) as it:
        it.append("events", [{"k": "a"}])
        files.fail("write", error=errno.ENOSPC, name="manifest.json")
        with pytest.raises(DiskFull, match="cannot save the state of view"):
            it.catch_up()
        it.append("events", [{"k": "a"}])
        it.catch_up()
        assert it.query("SELECT c.n, o.n FROM counts c, others o").fetchall() == [(2, 2)]
    with bourne.open(app_of({"counts": COUNT, "others": COUNT}), data=tmp_path) as it:
        it.append("events", [{"k": "a"}])
        it.catch_up()
        assert it.query("SELECT c.n, o.n FROM counts c, others o").fetchall() == [(3, 3)]


def test_closing_gives_the_lock_back_though_the_state_cannot_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_CLOSING_SNAPSHOT_ROWS", 1)
    files = FaultyFiles()
    it = bourne.open(app_of({"counts": COUNT}), data=tmp_path, files=files)
    it.append("events", [{"k": "a"}])
    it.catch_up()
    files.fail("write", error=errno.ENOSPC, name="manifest.json")
    with pytest.raises(DiskFull, match="cannot save the state of view 'counts'"):
        it.close()
    with bourne.open(app_of({"counts": COUNT}), data=tmp_path) as again:
        again.append("events", [{"k": "a"}])
        again.catch_up()
        assert again.query("SELECT n FROM counts").fetchall() == [(2,)]


def test_an_input_that_cannot_be_read_once_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of({"union_": "SELECT k FROM events UNION ALL SELECT k FROM others"})
    app.log("others", schema={"k": "varchar"})
    read = LogReader.read

    def refused(self: LogReader, **given: Any) -> Any:
        if self.info.name == "others":
            raise bourne.StorageError("too many open files")
        return read(self, **given)

    with bourne.open(app, data=tmp_path) as it:
        for name in ("events", "others"):
            it.append(name, [{"k": name}])
        with monkeypatch.context() as patched:
            patched.setattr(LogReader, "read", refused)
            with pytest.raises(bourne.StorageError, match="too many open files"):
                it.catch_up()
        it.catch_up()
        assert it.query("SELECT k FROM union_ ORDER BY k").fetchall() == [("events",), ("others",)]


def test_a_view_goes_on_when_what_was_wrong_is_put_right(tmp_path: Path) -> None:
    app = bourne.App("attacked")
    app.log("rates", schema={"k": "varchar", "n": "integer"}, key="k", changes="upsert")
    app.view("shares", "SELECT k, 10 // n AS share FROM rates")
    with bourne.open(app, data=tmp_path) as it:
        it.append("rates", [{"k": "a", "n": 2}])
        it.catch_up()
        it.append("rates", [{"k": "b", "n": 0}])
        for _ in range(2):
            with pytest.raises(ViewFailed, match="zero"):
                it.catch_up()
        assert it.query("SELECT * FROM shares").fetchall() == [("a", 5)]
        it.append("rates", [{"k": "b", "n": 5}])
        it.catch_up()
        assert it.query("SELECT * FROM shares ORDER BY k").fetchall() == [("a", 5), ("b", 2)]


def test_several_threads_may_catch_up_beside_a_view_that_cannot_be_restored(tmp_path: Path) -> None:
    with bourne.open(app_of({"good": COUNT, "bad": COUNT}), data=tmp_path) as it:
        it.append("events", [{"k": "a"}])
        it.catch_up()
    (segment,) = (tmp_path / "views" / "bad").rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-30] ^= 0xFF
    segment.write_bytes(content)

    def catch_up(it: bourne.Instance) -> str:
        try:
            it.catch_up()
        except Exception as error:  # noqa: BLE001  (whatever it is, to be compared)
            return type(error).__name__
        return "nothing"

    with bourne.open(app_of({"good": COUNT, "bad": COUNT}), data=tmp_path) as it:
        with ThreadPoolExecutor(4) as pool:
            raised = set(pool.map(catch_up, [it] * 100))
        assert raised == {"CorruptFrame"}


def test_what_interrupts_closing_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = bourne.open(app_of({"first": COUNT, "second": COUNT}), data=tmp_path)
    it.append("events", [{"k": "a"}])
    it.catch_up()
    settle, struck = runner.ViewRunner._settle, []

    def interrupted(self: runner.ViewRunner) -> None:
        if not struck:
            struck.append(self)
            raise KeyboardInterrupt
        settle(self)

    monkeypatch.setattr(runner.ViewRunner, "_settle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        it.close()
    assert struck
    with bourne.open(app_of({"first": COUNT, "second": COUNT}), data=tmp_path) as again:
        again.append("events", [{"k": "a"}])
        again.catch_up()
        assert again.query("SELECT f.n, s.n FROM first f, second s").fetchall() == [(2, 2)]


def test_nothing_is_started_once_it_is_closed(tmp_path: Path) -> None:
    it = bourne.open(app_of({"counts": COUNT}), data=tmp_path)
    it.close()
    with pytest.raises(bourne.Closed):  # another thread's `catch_up` may have come so far
        it._runners.catch_up()


def test_all_views_that_fail_are_named(tmp_path: Path) -> None:
    views = dict.fromkeys(("first", "second", "third"), "SELECT CAST(k AS INTEGER) AS n FROM events")
    with bourne.open(app_of(views), data=tmp_path) as it:
        it.append("events", [{"k": "five"}])
        with pytest.raises(ViewFailed, match="view 'first'") as caught:
            it.catch_up()
    assert [note[:30] for note in caught.value.__notes__] == [
        f"view {name!r} stands still, too"[:30] for name in ("second", "third")
    ]
