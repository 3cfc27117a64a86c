"""The lease of an instance: one run of it at a time, who died is seen to be dead, and who was taken for dead does no harm."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.batch import retry, task
from bourne.errors import JobCompleted, JobFailed, JobRunning
from bourne.jobs.history import History
from bourne.jobs.lease import DIED, SILENT
from bourne.limits import LEASE_S
from bourne.testing import SimulatedClock
from jobs.running import Broken, app_of, breaking, csv_rows, run_once
from waiting import until


def app_waiting(began: threading.Event, goes_on: threading.Event, target: Path) -> bourne.App:
    """Return an app with a job that writes a row, waits within its second chunk, and writes two more."""

    def read(position: int | None) -> Any:
        for n in range(position or 0, 3):
            yield pa.table({"n": [n], "m": [n]}), n + 1

    def process(rows: pa.Table) -> pa.Table:
        if rows.num_rows and rows["n"][0].as_py() == 1:
            began.set()
            assert goes_on.wait(60)
        return rows

    return app_of(
        read=read, columns={"n": "bigint", "m": "bigint"}, process=process, size=1, write=f"sqlite:{target}?table=t", retry=retry(3, delay="0 seconds")
    )  # fmt: skip


@pytest.mark.parametrize("opened", ["once", "twice"])
def test_of_starts_at_once_exactly_one_runs(opened, tmp_path):
    began, goes_on = threading.Event(), threading.Event()
    app = app_waiting(began, goes_on, tmp_path / "t.db")

    def start(shop: bourne.Instance) -> str:
        try:
            return shop.jobs.start("load").status
        except JobRunning as error:
            return f"run {error.run} is running"

    with (
        bourne.open(app, data=tmp_path / "data") as first,
        bourne.open(app, data=tmp_path / "data") as second,
    ):
        shops = [first, second if opened == "twice" else first] * 3
        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(start, shop) for shop in shops]
            until(lambda: sum(future.done() for future in futures) == 5)
            goes_on.set()
        assert Counter(future.result() for future in futures) == {"run 1 is running": 5, "COMPLETED": 1}
        with pytest.raises(JobCompleted):
            first.jobs.start("load")


KILLED = """
import sys, time
import bourne
from bourne.batch import task

app = bourne.App("shop")

@app.job
def load():
    def wait():
        print("began", flush=True)
        time.sleep(600)
    return task("wait", wait)

if __name__ == "__main__":
    with bourne.open(app, data=sys.argv[1]) as shop:
        shop.jobs.start("load")
"""


def test_a_killed_process_is_seen_as_failed_and_its_instance_goes_on(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", tmp_path / "data"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return task("wait", lambda: None)

    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.jobs.run(1).status == "STARTED"
        with pytest.raises(JobRunning, match=f"process {process.pid}"):
            shop.jobs.start("load")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        run = shop.jobs.run(1)
        assert (run.status, run.error) == ("FAILED", DIED)
        (step,) = shop.jobs.steps(1)
        assert (step.status, step.error) == ("FAILED", DIED) and step.ended_us is not None
        assert shop.jobs.restart(1).status == "COMPLETED"


def test_who_was_taken_for_dead_writes_nothing_any_more(tmp_path):
    """A machine that was suspended within a chunk: another one has taken over, and written it."""
    began, goes_on, clock = threading.Event(), threading.Event(), SimulatedClock(10**15)
    target = tmp_path / "t.db"
    slow = app_waiting(began, goes_on, target)
    quick = app_waiting(threading.Event(), goes_on_at_once(), target)
    with bourne.open(slow, data=tmp_path / "data", clock=clock) as first:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(first.jobs.start, "load")
            assert began.wait(60)
            with bourne.open(quick, data=tmp_path / "data", clock=clock) as second:
                with pytest.raises(JobRunning):
                    second.jobs.start("load")
                clock.advance(int(LEASE_S * 1e6) + 1)
                assert second.jobs.start("load").status == "COMPLETED"
                assert (second.jobs.run(1).status, second.jobs.run(1).error) == ("FAILED", SILENT)
            goes_on.set()
            with pytest.raises(JobFailed):
                late.result(timeout=60)
        assert [run.status for run in first.jobs.runs()] == ["COMPLETED", "FAILED"]
    assert rows_of(target) == [0, 1, 2]


def goes_on_at_once() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def rows_of(target: Path) -> list[int]:
    with closing(sqlite3.connect(target)) as database:
        return [n for (n,) in database.execute("SELECT n FROM t ORDER BY rowid")]


def test_who_has_lost_its_lease_says_so(tmp_path):
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return task("wait", lose)

    def lose(context: Any) -> None:
        with context.app.jobs.history.transaction() as connection:
            connection.execute("UPDATE runs SET status = 'FAILED'")
        assert context.stopping.wait(60)

    with bourne.open(app, data=tmp_path / "data") as shop, pytest.raises(JobFailed, match="taken for dead"):
        shop.jobs.start("load")


def test_again_does_all_of_it_once_more_and_a_restart_of_that_goes_on(tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n" + "".join(f"{n},1\n" for n in range(10)))
    app = app_of(read=str(tmp_path / "in.csv"), size=4, write=f"sqlite:{tmp_path / 't.db'}?table=sold")
    run_once(app, tmp_path / "data")
    with bourne.open(app, data=tmp_path / "data") as shop:
        with pytest.raises(JobCompleted):
            shop.jobs.start("load")
        with pytest.raises(JobCompleted):
            shop.jobs.restart(1)
        with breaking(lambda number, _: number == 2), pytest.raises(JobFailed):
            shop.jobs.start("load", again=True)
        with breaking(lambda number, _: number == 2), pytest.raises(JobFailed):
            shop.jobs.restart(2)  # a restart of a restart
        assert shop.jobs.restart(3).generation == 2
        assert [step.written for step in shop.jobs.steps(4)] == [10]
    database = sqlite3.connect(tmp_path / "t.db")
    assert database.execute("SELECT id, count(*) FROM sold GROUP BY id").fetchall() == [
        (n, 2) for n in range(10)
    ]
    database.close()


@pytest.mark.parametrize("kind", ["csv", "sqlite", "log"])
@pytest.mark.parametrize("runs_before", [1, 3])
def test_with_its_history_deleted_nothing_is_written_twice(kind, runs_before, tmp_path):
    (tmp_path / "in.csv").write_text("id,amount\n" + "".join(f"{n},1.50\n" for n in range(10)))
    write = {
        "csv": str(tmp_path / "out.csv"),
        "sqlite": f"sqlite:{tmp_path / 't.db'}?table=sold",
        "log": "log:sold",
    }[kind]
    app = app_of(
        read=str(tmp_path / "in.csv"),
        size=3,
        write=write,
        columns={"id": "bigint", "amount": "decimal(10,2)"},
    )
    bourne.open(app, data=tmp_path / "data").close()
    age(tmp_path / "data")
    for _ in range(runs_before):
        with breaking(lambda number, moment: number == 2 and moment == "before"), pytest.raises(JobFailed):
            run_once(app, tmp_path / "data")
    for _ in range(2):  # half done, and done
        shutil.rmtree(tmp_path / "data" / "jobs")
        run, (step,) = run_once(app, tmp_path / "data")
        assert (run.id, run.status, step.written) == (1, "COMPLETED", 10)
    with bourne.open(app, data=tmp_path / "data") as shop:
        found = {
            "csv": lambda: [int(row[0]) for row in csv_rows(tmp_path / "out.csv")[1:]],
            "sqlite": lambda: ids(tmp_path / "t.db"),
            "log": lambda: [n for (n,) in shop.query("SELECT id FROM sold").fetchall()],
        }[kind]()
    assert found == list(range(10))


def ids(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as database:
        return [n for (n,) in database.execute("SELECT id FROM sold ORDER BY rowid")]


def age(data: Path) -> None:
    """Make a history that was begun long ago: one that is made anew is younger."""
    History(data).close()
    with closing(sqlite3.connect(data / "jobs" / "history.sqlite")) as database:
        database.execute("UPDATE born SET at_s = at_s - 1000")
        database.commit()


def test_a_run_that_never_begins_gives_its_lease_back(tmp_path):
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return task("nothing", lambda: None)

    def broken(_: object) -> None:
        raise Broken

    with bourne.open(app, data=tmp_path / "data") as shop:
        with pytest.raises(Broken):
            shop.jobs.start("load", on_begin=broken)
        assert shop.jobs.run(1).status == "FAILED"
        assert shop.jobs.start("load").status == "COMPLETED"


def test_no_lock_is_left_behind(tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n1,2\n")
    app = app_of(read=str(tmp_path / "in.csv"), write=str(tmp_path / "out.csv"))
    run_once(app, tmp_path / "data")
    assert list((tmp_path / "data" / "jobs" / "locks").iterdir()) == []
