"""The history of jobs: what is noted is there for all processes, and what is forgotten is missed by nobody."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import task
from bourne.errors import DefinitionError, FormatTooNew, JobCompleted, StorageError, Unreachable
from bourne.jobs.history import VERSION, ChunkRun, History, Run, StepRun
from bourne.limits import RUN_ERROR_CHARS_MAX
from bourne.testing import SimulatedClock


@pytest.fixture
def history(tmp_path: Path) -> Any:
    with closing(History(tmp_path)) as found:
        yield found


def put(history: History, **given: Any) -> int:
    plain = {
        "id": 0, "job": "load", "instance": "{}", "generation": 1, "parameters": {"이름": "🦆"}, "status": "STARTED", "trigger": "by hand",
        "parent": None, "started_us": 1, "ended_us": None, "heartbeat_us": 1, "pid": 1, "host": "here", "code": "", "bourne": "1",
        "error": None, "stop_asked": False,
    }  # fmt: skip
    with history.transaction() as connection:
        return history.insert_run(connection, Run(**{**plain, **given}))


def test_what_is_noted_comes_back(history):
    number = put(history)
    run = history.run(number)
    assert run is not None and (run.id, run.parameters, run.stop_asked) == (1, {"이름": "🦆"}, False)
    step = StepRun(
        number, "load", "part 1", "chunk", "STARTED", 5, share=0.5, position_in={"at": [1]}, position_out=None
    )
    chunk = ChunkRun(number, "load", "part 1", 1, 1, 5, 6, read=3, position={"at": "끝"})
    history.put_chunks([step], [chunk])
    history.say(number, "load", 7, "info", "줄\n바꿈")
    assert history.steps(number) == [step] and history.chunks(number) == [chunk]
    assert [each.text for each in history.messages(number)] == ["줄\n바꿈"]
    assert history.messages(number, after=history.messages(number)[0].id) == []


def test_a_run_ends_once(history):
    number = put(history)
    assert history.beat(number, 9) == (True, False)
    assert history.ask_to_stop(number) and history.beat(number, 5) == (True, True)
    history.end_run(number, "STOPPED", 10)
    history.end_run(number, "COMPLETED", 11)
    run = history.run(number)
    assert run is not None and (run.status, run.ended_us, run.heartbeat_us) == ("STOPPED", 10, 9)
    assert history.beat(number, 12) == (False, False) and not history.ask_to_stop(number)


def test_a_long_error_is_cut(history):
    number = put(history)
    history.end_run(number, "FAILED", 1, "x" * 10 * RUN_ERROR_CHARS_MAX)
    run = history.run(number)
    assert run is not None and run.error is not None and len(run.error) == RUN_ERROR_CHARS_MAX


def test_a_transaction_that_breaks_leaves_nothing(history):
    def broken() -> None:
        with history.transaction() as connection:
            history.insert_run(connection, history.run(put_first))  # type: ignore[arg-type]
            raise KeyError("broken")

    put_first = put(history)
    with pytest.raises(KeyError):
        broken()
    assert len(history.runs()) == 1
    assert put(history) == 2


def test_a_position_moves_only_from_where_it_was_thought_to_be(history):
    history.move_position("a", {"n": 1}, None)
    history.move_position("a", {"n": 2}, {"n": 1})
    with pytest.raises(Unreachable):
        history.move_position("a", {"n": 3}, {"n": 1})
    assert history.position("a") == {"n": 2}


def test_prune_keeps_what_a_restart_has_to_know(history):
    """Steps that an earlier run of a failed instance has done, and the last run of each instance."""
    for number, (instance, generation, status) in enumerate(
        [
            ("a", 1, "FAILED"),
            ("a", 1, "FAILED"),
            ("b", 1, "FAILED"),
            ("b", 1, "COMPLETED"),
            ("b", 2, "FAILED"),
        ],
        1,
    ):
        assert put(history, instance=instance, generation=generation) == number
        history.put_step(StepRun(number, f"s{number}", "", "task", "COMPLETED", 1, 2))
        history.end_run(number, status, 10)
    put(history, instance="a")  # at work
    assert history.prune(10) == 0
    assert history.prune(11) == 2
    assert [run.id for run in history.runs()] == [6, 5, 2, 1]
    assert set(history.completed("load", "a", 1)) == {"s1", "s2"}
    assert history.prune(11) == 0


def test_many_at_once_make_and_use_one_history(tmp_path):
    def use(number: int) -> int:
        with closing(History(tmp_path)) as history:
            return put(history, instance=str(number))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(32))) == list(range(1, 33))


def test_processes_at_once_make_and_use_one_history(tmp_path):
    code = f"from bourne.jobs.history import History; from pathlib import Path; History(Path({str(tmp_path)!r})).say(1, '', 1, 'info', 'x')"
    for each in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]:
        assert each.wait(timeout=60) == 0
    with closing(History(tmp_path)) as history:
        assert len(history.messages(1)) == 3


def test_a_newer_format_is_refused(tmp_path):
    History(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "jobs" / "history.sqlite")) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
        database.commit()
    with pytest.raises(FormatTooNew, match="newer"):
        History(tmp_path)


def test_what_is_no_database_is_named(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "history.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(StorageError, match=r"history\.sqlite"):
        History(tmp_path)


def test_a_job_forgets_by_itself_what_is_older_than_it_keeps(tmp_path):
    app, clock = bourne.App("shop"), SimulatedClock(10**15)

    @app.job(keep="2 days")
    def load() -> Any:
        return task("say", lambda context: context.say("안녕"))

    @app.job(keep=None)
    def kept() -> Any:
        return task("say", print)

    @app.job(keep="1 hour")
    def once() -> Any:
        return task("say", print)

    with bourne.open(app, data=tmp_path / "data", clock=clock) as shop:
        shop.jobs.start("once")
        for day in range(5):
            shop.jobs.start("load", again=day > 0)
            shop.jobs.start("kept", again=day > 0)
            clock.advance(86_400 * 10**6)
        assert len(shop.jobs.runs(job="load", most=1000)) == 3
        assert len(shop.jobs.runs(job="kept", most=1000)) == 5
        with pytest.raises(JobCompleted):  # the last run of an instance is not forgotten
            shop.jobs.start("once")
        (last,) = shop.jobs.runs(job="once")
        assert shop.jobs.steps(last.id) and not shop.jobs.messages(last.id)
    with pytest.raises(DefinitionError, match="an age of nothing"):
        app.job(keep="0 seconds")
