"""Parts of a chunk step on executors that lose workers: each row is written once, whoever dies and whoever does not say so."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import closing

import pytest

import bourne
from bourne.batch import by_hash, chunk
from bourne.errors import JobFailed
from bourne.jobs import executors
from waiting import until

ROWS = 3_000


def make_csv(folder, rows=ROWS):
    path = folder / "in.csv"
    path.write_text("id,name\n" + "".join(f"{n},김 {n}\n" for n in range(rows)), encoding="utf-8")
    return path


def app_of(folder, executor, *, size=200, throttle=None):
    app = bourne.App("shop")
    source, target = str(folder / "in.csv"), f"sqlite:{folder}/out.sqlite?table=t"

    @app.job
    def load():
        return chunk(
            "load", read=source, process="SELECT id, name, id * 2 AS twice FROM input", write=target, partition=by_hash("id", 4),
            workers=3, executor=executor, size=size, throttle=throttle,
        )  # fmt: skip

    return app


def written(folder):
    with closing(sqlite3.connect(folder / "out.sqlite")) as database:
        return database.execute("SELECT id, twice FROM t ORDER BY id").fetchall()


class Unreliable(Executor):
    """Threads that lose slices: before they begin, or their answers; some say so, some never answer, some do all twice."""

    def __init__(self, seed: int, share: float = 0.5) -> None:
        self._rng = random.Random(seed)
        self._share = share
        self._pool = ThreadPoolExecutor(3)
        self.lost = 0

    def submit(self, function, /, *arguments):
        if self._rng.random() >= self._share:
            return self._pool.submit(function, *arguments)
        self.lost += 1
        answer: Future = Future()
        match self._rng.choice(["never begun", "no answer", "dead", "dead at the end", "twice"]):
            case "dead":
                answer.set_exception(BrokenExecutor("a worker was killed"))
            case "no answer":
                self._pool.submit(function, *arguments)
            case "dead at the end":
                self._pool.submit(self._then_die, function, arguments, answer)
            case "twice":
                self._pool.submit(function, *arguments)
                return self._pool.submit(function, *arguments)
        return answer

    def _then_die(self, function, arguments, answer):
        function(*arguments)
        answer.set_exception(BrokenExecutor("killed before it could answer"))

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._pool.shutdown(wait=True)


@pytest.mark.parametrize("seed", range(2))
def test_slices_that_are_lost_or_run_twice_do_no_harm(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(executors, "SLICE_S", 0.3)
    monkeypatch.setattr(executors, "SLICE_PATIENCE_S", 1.0)
    monkeypatch.setattr(executors._Asked, "__init__", _asked)
    monkeypatch.setattr(executors, "LOST_SLICES_MAX", 100)
    make_csv(tmp_path)
    used = Unreliable(seed)
    with bourne.open(app_of(tmp_path, lambda: used), data=tmp_path / "data") as shop:
        run = shop.jobs.start("load")
        assert run.status == "COMPLETED"
        step = next(each for each in shop.jobs.steps(run.id) if not each.part)
    assert used.lost > 0
    assert written(tmp_path) == [(n, 2 * n) for n in range(ROWS)]
    assert (step.read, step.written) == (ROWS, ROWS)


def _asked(self, part):
    self.part, self.since_s, self.patience_s, self.lost = part, 0.0, 1.0, 0


def test_who_always_loses_its_workers_fails_with_their_error(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LOST_SLICES_MAX", 3)
    make_csv(tmp_path)

    class Deadly(ThreadPoolExecutor):
        def submit(self, function, /, *arguments):
            answer: Future = Future()
            answer.set_exception(BrokenExecutor("it kills whoever does it"))
            return answer

    with bourne.open(app_of(tmp_path, lambda: Deadly(2)), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed, match="it kills whoever does it"):
            shop.jobs.start("load")
        assert sum("was lost" in each.text for each in shop.jobs.messages(1)) >= 3


def test_what_is_no_executor_is_refused(tmp_path):
    make_csv(tmp_path)
    with (
        bourne.open(app_of(tmp_path, lambda: "a pool"), data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match="no executor"),
    ):
        shop.jobs.start("load")


@pytest.mark.long
def test_a_worker_of_dask_is_killed(tmp_path):
    from distributed import Client, LocalCluster  # noqa: PLC0415

    make_csv(tmp_path, 100_000)
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, host="127.0.0.1") as cluster:
        victim = next(iter(cluster.workers.values())).process.pid
        app = app_of(tmp_path, lambda: Client(cluster).get_executor(), size=2_000, throttle="20000 rows")
        with bourne.open(app, data=tmp_path / "data") as shop:

            def kill() -> None:
                until(
                    lambda: shop.jobs.runs() and any(each.chunks for each in shop.jobs.steps(1)),
                    what="a chunk",
                )
                os.kill(victim, signal.SIGKILL)

            with ThreadPoolExecutor(1) as killer:
                killed = killer.submit(kill)
                assert shop.jobs.start("load").status == "COMPLETED"
                killed.result()
    assert written(tmp_path) == [(n, 2 * n) for n in range(100_000)]


_BEGINS_A_WORKER = """
import os, time
from bourne.batch import by_hash, chunk
from bourne.jobs import executors
step = chunk("a", read="a.csv", write="log:a", partition=by_hash("id", 2), workers=2, executor="processes")
print(executors._executor(step, 2).submit(os.getpid).result(), flush=True)
time.sleep(600)
"""


def test_workers_end_when_the_process_that_began_them_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", _BEGINS_A_WORKER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
        process.stdout.read()  # to its end, which is when nobody holds it any more
    until(lambda: not _is_there(worker), what="the end of the worker")


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
