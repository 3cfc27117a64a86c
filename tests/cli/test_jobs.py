"""`bourne jobs`: starts, goes on, stops and shows, as a process where signals and exit codes matter."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bourne.log.at_work import is_taken
from waiting import until

APP = """
import threading
import bourne
from bourne.batch import chunk, task

app = bourne.App("shop")

@app.job
def load(source: str, target: str, *, bad: int = 0):
    \"\"\"Load what counts.\"\"\"
    def stamp(rows):
        if bad and bad in rows["id"].to_pylist():
            raise ValueError(f"{bad} is bad")
        return rows
    return chunk("stamp", read=source, process=["SELECT id, amount FROM input WHERE amount > 0", stamp], write=target, size=2)

@app.job
def wait(name: str):
    def work(context):
        context.say(f"hello {name}")
        print("began", flush=True)
        context.stopping.wait(60)
    return task("work", work) >> task("after", lambda: print("after", flush=True))
"""


@pytest.fixture
def jobs_app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP, encoding="utf-8")
    (tmp_path / "주문.csv").write_text("id,amount\n1,5\n2,-1\n3,7\n4,8\n", encoding="utf-8")
    return path


def test_start_show_list_and_logs(jobs_app, bourne_here, tmp_path):
    done = bourne_here("jobs", "start", jobs_app, "load", "source=주문.csv", "target=좋은.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run 1: load source=주문.csv target=좋은.csv" in done.stderr
    assert "stamp: COMPLETED, 4 read, 3 written, 1 filtered" in done.stderr
    assert (tmp_path / "좋은.csv").read_text() == "id,amount\n1,5\n3,7\n4,8\n"
    done = bourne_here("jobs", "list")
    assert done.returncode == 0 and "COMPLETED" in done.stdout and "주문.csv" in done.stdout
    done = bourne_here("jobs", "show", 1)
    assert done.returncode == 0 and "stamp" in done.stdout and "100%" in done.stdout
    done = bourne_here("jobs", "logs", 1)
    assert done.returncode == 0 and "stamp: ended: COMPLETED" in done.stdout


def test_a_run_that_failed_goes_on_with_restart(jobs_app, bourne_here, tmp_path):
    given = ("jobs", "start", jobs_app, "load", "source=주문.csv", "target=out.csv")
    done = bourne_here(*given, "bad=3")
    assert done.returncode == 12 and "3 is bad" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert "3 is bad" in bourne_here("jobs", "show", 1).stdout
    done = bourne_here("jobs", "restart", jobs_app, 1)  # with the parameters of then
    assert done.returncode == 12
    assert bourne_here(*given).returncode == 0  # the same instance: bad stands after the star
    assert (tmp_path / "out.csv").read_text() == "id,amount\n1,5\n3,7\n4,8\n"
    done = bourne_here(*given)
    assert done.returncode == 4 and "has completed" in done.stderr
    assert bourne_here(*given, "--again").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["lod"], 4, ["no job 'lod'", "load, wait"]), (["load"], 4, ["source: missing", "target: missing"]),
        (["load", "source=a", "target=b", "sorce=c", "bad=x"], 4, ["sorce", "bad"]), (["load", "source"], 2, ["no parameter"]),
        (["wait", "name=a", "name=b"], 2, ["given twice"]), (["load", "source=no.csv", "target=b.csv"], 12, ["there is no file no.csv"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(arguments, code, words, jobs_app, bourne_here):
    done = bourne_here("jobs", "start", jobs_app, *arguments)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_backfill_says_which_parameter_is_the_range(jobs_app, bourne_here):
    given = ("jobs", "backfill", jobs_app, "load", "source=../in..csv")
    for bad in ("target=1..2", "target=../b..csv"):
        done = bourne_here(*given, bad, "target=3..4")
        assert done.returncode == 2 and "given twice" in done.stderr
    done = bourne_here(*given, "target=b.csv")
    assert done.returncode == 2 and "here are 0" in done.stderr
    done = bourne_here(*given, "target=../b.csv", "bad=1..2")
    assert (
        done.returncode == 12 and "2 failed" in done.stderr and "there is no file ../in..csv" in done.stderr
    )


def test_with_nothing_there_it_says_so(bourne_here, jobs_app):
    assert bourne_here("jobs", "start", jobs_app, "lod").returncode == 4
    assert bourne_here("jobs", "list").stdout == "no runs\n"
    done = bourne_here("jobs", "show", 3)
    assert done.returncode != 0 and "there is no run 3" in done.stderr
    assert bourne_here("jobs", "start", jobs_app, "load", "source=주문.csv", "target=out.csv").returncode == 0
    for command in (["show"], ["logs"], ["stop"], ["restart", jobs_app]):
        done = bourne_here("jobs", *command, 10**30)  # more than SQLite has numbers
        assert done.returncode == 4 and "there is no run 1000" in done.stderr, done.stderr
    assert bourne_here("jobs", "list", "--most", 10**30).returncode == 0


def test_sigterm_ends_it_after_the_step_and_the_other_commands_see_it(jobs_app, bourne_here, start_bourne):
    process = start_bourne("jobs", "start", jobs_app, "wait", "name=김 🦆")
    until(lambda: process.stdout.readline() == "began\n")
    assert "STARTED" in bourne_here("jobs", "list").stdout
    done = bourne_here("jobs", "start", jobs_app, "wait", "name=김 🦆")
    assert done.returncode == 5 and "is running" in done.stderr
    assert "hello 김 🦆" in bourne_here("jobs", "logs", 1).stdout
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "after" not in out
    assert "run 1: STOPPED" in err and "bourne jobs restart APP.py 1" in err and "Traceback" not in err


def test_stop_from_another_process(jobs_app, bourne_here, start_bourne):
    process = start_bourne("jobs", "start", jobs_app, "wait", "name=b")
    until(lambda: process.stdout.readline() == "began\n")
    assert bourne_here("jobs", "stop", 1).returncode == 0
    process.communicate(timeout=60)
    assert process.returncode == 12
    done = bourne_here("jobs", "stop", 1)
    assert done.returncode == 4 and "run 1 is not running" in done.stderr


def test_a_view_step_beside_the_process_that_runs_the_view(tmp_path, start_bourne, bourne_here):
    """Each run sees what it has put in, though another process brings the view up."""
    path = tmp_path / "app.py"
    path.write_text(
        APP
        + """
from bourne.batch import view

app.log("orders", schema={"n": "bigint"})
app.view("total", "SELECT sum(n) AS total FROM orders")

@app.job
def put(day: int):
    def append(context):
        context.app.append("orders", [{"n": day}])
    def say(context):
        context.say(f"total {context.app.query('FROM total').fetchall()[0][0]}")
    return task("append", append) >> view("total") >> task("say", say)
""",
        encoding="utf-8",
    )
    run = start_bourne("run", path, "--no-serve")
    try:
        until(lambda: is_taken(tmp_path / "data" / "views" / "total" / "1" / "0" / "lock"))
        for day, total in ((1, 1), (2, 3), (3, 6)):
            assert bourne_here("jobs", "start", path, "put", f"day={day}").returncode == 0
            assert f"total {total}\n" in bourne_here("jobs", "logs", day).stdout
        assert run.poll() is None
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
