"""Pools: never more at once than there are slots, over threads and processes; and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import task
from bourne.errors import DefinitionError, JobFailed
from bourne.jobs.pools import Pools
from waiting import until


def test_never_more_at_once_than_there_are_slots(tmp_path):
    at_work, most, mutex = [0], [0], threading.Lock()

    def work(_: int) -> None:
        with Pools(tmp_path, {"warehouse": 3}).taken(["warehouse"], threading.Event()):
            with mutex:
                at_work[0] += 1
                most[0] = max(most[0], at_work[0])
            threading.Event().wait(0.002)
            with mutex:
                at_work[0] -= 1

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(40)))
    assert at_work == [0] and 1 <= most[0] <= 3


def test_two_pools_taken_in_opposite_order_are_no_deadlock(tmp_path):
    pools = Pools(tmp_path, {"a": 1, "b": 1})
    done = []

    def work(number: int) -> None:
        with pools.taken(["a", "b"] if number % 2 else ["b", "a", "a"], threading.Event()):
            done.append(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    assert sorted(done) == list(range(40))


HOLDER = """
import sys, threading
from pathlib import Path
from bourne.jobs.pools import Pools
with Pools(Path(sys.argv[1]), {"w": 1}).taken(["w"], threading.Event()):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_slot_counts_for_all_processes_and_is_free_when_its_holder_is_gone(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    stop, taken = threading.Event(), threading.Event()

    def wait() -> None:
        with Pools(tmp_path, {"w": 1}).taken(["w"], stop):
            taken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not taken.wait(0.05)
    process.kill()
    process.communicate()
    until(taken.is_set)
    thread.join()


def test_who_is_stopped_while_it_waits_does_nothing(tmp_path):
    app, done = bourne.App("shop"), []
    app.pool("w", most=1)

    @app.job
    def load() -> Any:
        return task("work", lambda: done.append(1), pools="w")

    with (
        bourne.open(app, data=tmp_path / "data") as shop,
        Pools(tmp_path / "data", {"w": 1}).taken(["w"], threading.Event()),
    ):
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(shop.jobs.start, "load", stop=stop)
            until(lambda: any(each.text == "began" for each in shop.jobs.history.messages(1)))
            stop.set()
            assert run.result(timeout=60).status == "STOPPED"
        assert done == []


def test_a_step_that_fails_gives_its_slot_back(tmp_path):
    app = bourne.App("shop")
    app.pool("w", most=1)

    @app.job
    def load() -> Any:
        return task("work", lambda: 1 / 0, pools=["w"])

    with bourne.open(app, data=tmp_path / "data") as shop:
        for _ in range(2):
            with pytest.raises(JobFailed, match="ZeroDivisionError"):
                shop.jobs.start("load")


def test_a_pool_that_is_not_declared_is_named(tmp_path):
    with (
        pytest.raises(DefinitionError, match="there is no pool 'x'"),
        Pools(tmp_path, {"a": 1}).taken(["a", "x"], threading.Event()),
    ):
        pass
    with Pools(tmp_path, {"a": 1}).taken(["a"], threading.Event()):
        pass  # the slot that was taken before that is free


@pytest.mark.parametrize("most", [0, -1])
def test_a_pool_without_slots_is_refused(most):
    with pytest.raises(DefinitionError):
        bourne.App("shop").pool("w", most=most)


def test_names_of_pools_are_names_of_files(tmp_path: Path):
    with Pools(tmp_path, {"a/b": 1, "창고": 1}).taken(["a/b", "창고"], threading.Event()):
        assert len(list((tmp_path / "jobs" / "pools").iterdir())) == 2
