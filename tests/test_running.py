"""An app at work: it sleeps until something comes, and misses nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne import running
from bourne.engine import runner
from bourne.engine.circuit import Circuit
from bourne.errors import CorruptFrame
from bourne.log.wake import WakingEvent
from bourne.log.writer import LogWriter
from waiting import until


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be found by looking: who is not woken sleeps for an hour."""
    monkeypatch.setattr(running, "_LOOK_S", 3600.0)
    monkeypatch.setattr(running, "_STOP_LOOK_S", 3600.0)


def app_of(**options: Any) -> bourne.App:
    app = bourne.App("a")
    app.log("events", schema={"k": "varchar", "n": "bigint"}, key="k", **options)
    app.log("others", schema={"n": "bigint"})
    app.view("totals", "SELECT k, count(*) AS n FROM events GROUP BY k")
    app.view("positive", "SELECT n FROM others WHERE n > 0")
    return app


@contextmanager
def at_work(it: bourne.Instance, stop: threading.Event) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=it.run, kwargs={"stop": stop})
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def total(it: bourne.Instance) -> Callable[[int], bool]:
    return lambda n: it.query("SELECT coalesce(sum(n), 0)::BIGINT FROM totals").fetchall() == [(n,)]


@pytest.mark.usefixtures("no_looks")
@pytest.mark.parametrize("partitions", [1, 3])
def test_an_append_wakes_it_whoever_appends(tmp_path: Path, partitions: int) -> None:
    with (
        bourne.open(app_of(partitions=partitions), data=tmp_path) as it,
        bourne.open(data=tmp_path) as other,
        at_work(it, WakingEvent()),
    ):
        is_total = total(other)
        for number in range(20):
            (it, other)[number % 2].append("events", [{"k": f"k{number}", "n": number}])
            until(lambda n=number: is_total(n + 1))
        other.append("others", [{"n": 1}])
        until(lambda: other.query("SELECT n FROM positive").fetchall() == [(1,)])


def test_it_does_nothing_while_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, rounds = [], []

    class Rounds(running.Rounds):  # type: ignore[name-defined,misc]
        def step(self, *given: Any) -> dict[str, int]:
            rounds.append(1)
            return super().step(*given)

    class Wake(running.Wake):  # type: ignore[name-defined,misc]
        def wait(self, timeout_s: float | None) -> bool:
            woken = super().wait(0)
            waits.append(woken)
            if len(waits) >= 100:
                stop.set()
            return woken

    monkeypatch.setattr(running, "Wake", Wake)
    monkeypatch.setattr(running, "Rounds", Rounds)
    monkeypatch.setattr(running, "_LOOK_S", 3600.0)
    stop = threading.Event()
    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 1}])
        it.run(stop=stop)
        assert total(it)(1)
    assert len(waits) == 100 and not any(waits)
    assert len(rounds) == 2  # what was there, and that no more was


def test_what_nobody_tells_of_is_found_by_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that does not tell of writes by other machines."""
    monkeypatch.setattr(running.Runners, "_input_folders", lambda self: [])
    monkeypatch.setattr(running, "_LOOK_S", 0.0)
    with bourne.open(app_of(), data=tmp_path) as it, at_work(it, WakingEvent()):
        it.append("events", [{"k": "a", "n": 1}])
        until(lambda: total(it)(1))


@pytest.mark.usefixtures("no_looks")
def test_sources_are_served_while_the_views_sleep(tmp_path: Path) -> None:
    app = bourne.App("lines")
    app.log("lines", schema={"line": "varchar"})
    app.view("counts", "SELECT line, count(*) AS n FROM lines GROUP BY line")
    app.source("tcp://127.0.0.1:0", into="lines")
    with bourne.open(app, data=tmp_path) as it, at_work(it, WakingEvent()):
        until(lambda: it.sources)
        with socket.create_connection(it.sources[0].address) as sender:  # type: ignore[attr-defined]
            for number in range(1, 11):
                sender.sendall("한\n".encode())
                wanted = [("한", number)]
                until(lambda wanted=wanted: it.query("SELECT line, n FROM counts").fetchall() == wanted)


def test_an_app_without_views_ends_too(tmp_path: Path) -> None:
    app = bourne.App("a")
    app.log("events", schema={"n": "bigint"})
    with bourne.open(app, data=tmp_path) as it:
        it.run(until_caught_up=True)
        for stop in (WakingEvent(), threading.Event()):
            with at_work(it, stop):
                it.append("events", [{"n": 1}])


def test_no_file_stays_open_after_a_run(tmp_path: Path) -> None:
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("counts files as Linux shows them")
    with bourne.open(app_of(), data=tmp_path) as it:
        it.run(until_caught_up=True)
        before = len(list(files.iterdir()))
        for _ in range(5):
            it.run(until_caught_up=True)
        assert len(list(files.iterdir())) <= before  # fewer, if garbage of other tests goes


def test_a_view_that_cannot_be_restored_stops_no_other(tmp_path: Path) -> None:
    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("events", [{"k": "a", "n": 1}])
        it.append("others", [{"n": 1}])
        it.catch_up()
    (segment,) = (tmp_path / "views" / "totals").rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-30] ^= 0xFF
    segment.write_bytes(content)
    told: list[dict[str, str | None]] = []

    def tell(progress: list[bourne.Progress]) -> None:
        told.append({each.view: each.failure and type(each.failure).__name__ for each in progress})

    with bourne.open(app_of(), data=tmp_path) as it:
        with pytest.raises(CorruptFrame, match="totals"):
            it.run(until_caught_up=True, on_progress=tell)  # it is told although nothing came
        assert told == [{"positive": None, "totals": "CorruptFrame"}]
        it.append("others", [{"n": 2}])
        with pytest.raises(CorruptFrame, match="totals"):
            it.catch_up()
        assert it.query("SELECT n FROM positive ORDER BY n").fetchall() == [(1,), (2,)]


@pytest.fixture
def small_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("EPOCH_ROWS_MIN", "EPOCH_ROWS_MAX"):
        monkeypatch.setattr(runner, bound, 10)


@pytest.mark.usefixtures("small_epochs")
def test_an_epoch_is_computed_while_the_one_before_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, changed = [], threading.Condition()
    step, append = Circuit.step, LogWriter.append

    def counted(*given: Any) -> Any:
        result = step(*given)
        with changed:
            computed.append(1)
            changed.notify_all()
        return result

    def held(self: LogWriter, table: Any, meta: Any = None) -> range:
        if meta and meta["epoch"] == 3:
            with changed:
                assert changed.wait_for(lambda: len(computed) == 5, 60), "epoch 4 was not computed meanwhile"
        return append(self, table, meta)

    monkeypatch.setattr(Circuit, "step", counted)
    monkeypatch.setattr(LogWriter, "append", held)
    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("others", [{"n": n} for n in range(1, 81)])
        assert it.catch_up() == 80
        assert it.query("SELECT count(*), sum(n) FROM positive").fetchall() == [(80, 3240)]


@pytest.mark.usefixtures("small_epochs")
@pytest.mark.parametrize("failing", [0, 3, 6])
def test_an_epoch_that_cannot_be_written_is_told_and_nothing_after_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    append = LogWriter.append

    def refused(self: LogWriter, table: Any, meta: Any = None) -> range:
        if meta and meta["epoch"] == failing:
            raise bourne.DiskFull("no room", where="here")
        return append(self, table, meta)

    with bourne.open(app_of(), data=tmp_path) as it:
        it.append("others", [{"n": n} for n in range(1, 81)])
        with monkeypatch.context() as patched:
            patched.setattr(LogWriter, "append", refused)
            with pytest.raises(bourne.DiskFull, match="no room"):
                it.catch_up()
        assert it.query("SELECT count(*) FROM positive").fetchall() == [(10 * failing,)]
        assert it.catch_up() == 80 - 10 * failing  # there is room again
        assert it.query("SELECT count(*), sum(n) FROM positive").fetchall() == [(80, 3240)]
    with bourne.open(app_of(), data=tmp_path) as it:
        assert it.catch_up() == 0
        assert it.query("SELECT count(*), sum(n) FROM positive").fetchall() == [(80, 3240)]
