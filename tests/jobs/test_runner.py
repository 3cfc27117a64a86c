"""A run of a job: its steps in the order of the flow, what a restart does again, what a failure stops, and runs within runs."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.batch import Exit, chunk, subjob, task
from bourne.errors import DefinitionError, InputError, JobCompleted, JobFailed, UnknownName
from bourne.jobs.runner import instance_name
from waiting import until


class Steps:
    """Tasks that note that they ran, and fail while their name is among `broken`."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()
        self.exits: dict[str, str] = {}

    def __call__(self, name: str) -> Any:
        def work() -> Exit | None:
            self.ran.append(name)
            if name in self.broken:
                raise RuntimeError(f"{name} is broken")
            return Exit(self.exits[name]) if name in self.exits else None

        return task(name, work)


@pytest.fixture
def steps() -> Steps:
    return Steps()


def app_with(declare: Any, **jobs: Any) -> bourne.App:
    app = bourne.App("shop")
    app.job(name="load")(declare)
    for name, each in jobs.items():
        app.job(name=name)(each)
    return app


def statuses(shop: bourne.Instance, run: int) -> dict[str, str]:
    return {step.step: step.status for step in shop.jobs.steps(run)}


def test_a_restart_does_only_what_is_left(steps, tmp_path):
    def load() -> Any:
        return steps("a") >> [steps("b"), steps("c")] >> steps("d")

    steps.broken = {"c"}
    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed, match="c is broken") as caught:
            shop.jobs.start("load")
        assert caught.value.run == 1 and statuses(shop, 1) == {
            "a": "COMPLETED",
            "b": "COMPLETED",
            "c": "FAILED",
        }
        with pytest.raises(JobFailed):
            shop.jobs.restart(1)
        steps.broken = set()
        assert shop.jobs.restart(2).status == "COMPLETED"
        assert (
            steps.ran[0] == "a" and sorted(steps.ran[1:3]) == ["b", "c"] and steps.ran[3:] == ["c", "c", "d"]
        )
        assert statuses(shop, 3) == {"c": "COMPLETED", "d": "COMPLETED"}


def test_a_restart_goes_by_the_branch_that_was_taken(steps, tmp_path):
    def load() -> Any:
        first, end = steps("first"), steps("end")
        return [first.on("EMPTY") >> steps("nothing"), first.on("FULL") >> steps("something")] >> end

    steps.exits, steps.broken = {"first": "FULL"}, {"end"}
    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed):
            shop.jobs.start("load")
        steps.broken = set()
        assert shop.jobs.start("load").status == "COMPLETED"
    assert steps.ran == ["first", "something", "end", "end"]


def test_a_failure_that_is_dealt_with_is_none_of_the_run(steps, tmp_path):
    def load() -> Any:
        return [steps("a").on("FAILED") >> steps("clean_up")]

    steps.broken = {"a"}
    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        assert shop.jobs.start("load").status == "COMPLETED"
        assert statuses(shop, 1) == {"a": "FAILED", "clean_up": "COMPLETED"}


def test_an_empty_input_takes_its_branch(steps, tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n")

    def load() -> Any:
        first = chunk(
            "first",
            read=str(tmp_path / "in.csv"),
            columns={"id": "bigint", "b": "bigint"},
            write=str(tmp_path / "out.csv"),
        )
        return [first.on("EMPTY") >> steps("nothing"), first.on("COMPLETED") >> steps("something")]

    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        assert shop.jobs.start("load").status == "COMPLETED"
    assert steps.ran == ["nothing"]


def test_what_is_beside_a_failure_goes_on(steps, tmp_path):
    def load() -> Any:
        return [steps("a") >> steps("b"), steps("c") >> steps("d")]

    steps.broken = {"a"}
    with (
        bourne.open(app_with(load), data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match="a is broken"),
    ):
        shop.jobs.start("load")
    assert set(steps.ran) == {"a", "c", "d"}


def test_a_steps_error_is_in_the_history_with_its_traceback_in_the_log(steps, tmp_path):
    steps.broken = {"a"}
    with bourne.open(app_with(lambda: steps("a")), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed):
            shop.jobs.start("load")
        assert shop.jobs.steps(1)[0].error == "a is broken"
        assert any(
            "Traceback" in message.text and message.level == "error" for message in shop.jobs.messages(1)
        )
        assert shop.jobs.run(1).error == "a is broken"


# --- runs within runs ----------------------------------------------------------------------------------------


def outer_and_inner(steps: Steps) -> bourne.App:
    app = bourne.App("shop")

    @app.job
    def inner(name: str) -> Any:
        return steps(f"inner {name}")

    @app.job
    def outer() -> Any:
        return subjob("one", inner, name="한") >> steps("middle") >> subjob("two", inner, name="둘")

    return app


def test_sub_jobs_are_runs_of_their_own_and_done_once(steps, tmp_path):
    steps.broken = {"inner 둘"}
    with bourne.open(outer_and_inner(steps), data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed, match="run 1 of job 'outer' failed"):
            shop.jobs.start("outer")
        assert [(run.job, run.status, run.parent) for run in shop.jobs.runs()] == [
            ("inner", "FAILED", 1), ("inner", "COMPLETED", 1), ("outer", "FAILED", None),
        ]  # fmt: skip
        steps.broken = set()
        assert shop.jobs.start("outer").status == "COMPLETED"
    assert steps.ran == ["inner 한", "middle", "inner 둘", "inner 둘"]


def test_again_does_sub_jobs_once_more_too_and_a_restart_of_that_does_not(steps, tmp_path):
    with bourne.open(outer_and_inner(steps), data=tmp_path / "data") as shop:
        shop.jobs.start("outer")
        steps.ran.clear()
        steps.broken = {"middle"}
        with pytest.raises(JobFailed):
            shop.jobs.start("outer", again=True)
        steps.broken = set()
        assert shop.jobs.start("outer").status == "COMPLETED"
    assert steps.ran == ["inner 한", "middle", "middle", "inner 둘"]


def test_a_sub_job_that_has_completed_by_itself_is_not_done_again(steps, tmp_path):
    with bourne.open(outer_and_inner(steps), data=tmp_path / "data") as shop:
        shop.jobs.start("inner", name="한")
        assert shop.jobs.start("outer").status == "COMPLETED"
    assert steps.ran == ["inner 한", "middle", "inner 둘"]


# --- stopped -------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_run_and_it_goes_on(steps, tmp_path):
    began = threading.Event()

    def wait(context: Any) -> None:
        began.set()
        assert context.stopping.wait(60)

    def load() -> Any:
        return task("wait", wait) >> steps("after")

    def interrupt() -> None:
        until(began.is_set)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with bourne.open(app_with(load), data=tmp_path / "data") as shop:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                shop.jobs.start("load")
            assert shop.jobs.run(1).status == "STOPPED" and steps.ran == []
            assert shop.jobs.start("load").status == "COMPLETED"
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert steps.ran == ["after"]


def test_another_instance_may_ask_it_to_stop(steps, tmp_path):
    began = threading.Event()

    def wait(context: Any) -> None:
        began.set()
        assert context.stopping.wait(60)

    def load() -> Any:
        return task("wait", wait) >> steps("after")

    def ask() -> None:
        until(began.is_set)
        with bourne.open(data=tmp_path / "data") as other:
            other.jobs.stop(1)

    thread = threading.Thread(target=ask)
    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        thread.start()
        assert shop.jobs.start("load").status == "STOPPED"
        thread.join()
        with pytest.raises(InputError, match="run 1 is not running"):
            shop.jobs.stop(1)
    assert steps.ran == []


# --- errors --------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(steps, tmp_path):
    with bourne.open(app_with(lambda: steps("a")), data=tmp_path / "data") as shop:
        with pytest.raises(UnknownName, match="no job 'lod'") as caught:
            shop.jobs.start("lod")
        assert caught.value.expected == "load"
        with pytest.raises(UnknownName, match="no run 7"):
            shop.jobs.restart(7)
        with pytest.raises(InputError, match="x"):
            shop.jobs.start("load", x=1)
        assert shop.jobs.runs() == [] and steps.ran == []


def test_a_function_that_fails_is_no_run(tmp_path):
    def load() -> Any:
        raise ZeroDivisionError("by zero")

    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        with pytest.raises(DefinitionError, match="the job's function fails"):
            shop.jobs.start("load")
        assert shop.jobs.runs() == []


@pytest.mark.parametrize("returned", [None, "a", []])
def test_a_function_that_returns_no_steps_is_refused(returned, tmp_path):
    with (
        bourne.open(app_with(lambda: returned), data=tmp_path / "data") as shop,
        pytest.raises(DefinitionError, match="no step"),
    ):
        shop.jobs.start("load")


def test_a_restart_after_the_parameters_have_changed_is_refused(steps, tmp_path):
    def load(day: str) -> Any:
        return steps("a")

    def with_more(day: str, hour: int = 0) -> Any:
        return steps("a")

    steps.broken = {"a"}
    with bourne.open(app_with(load), data=tmp_path / "data") as shop, pytest.raises(JobFailed):
        shop.jobs.start("load", day="월")
    with (
        bourne.open(app_with(with_more), data=tmp_path / "data") as shop,
        pytest.raises(InputError, match="have changed since run 1"),
    ):
        shop.jobs.restart(1)


def test_two_instances_are_two(steps, tmp_path):
    def load(day: str, *, workers: int = 1) -> Any:
        return steps(day)

    with bourne.open(app_with(load), data=tmp_path / "data") as shop:
        for day in ("월", "화"):
            assert shop.jobs.start("load", day=day).status == "COMPLETED"
        with pytest.raises(JobCompleted):
            shop.jobs.start("load", day="월", workers=7)
    assert steps.ran == ["월", "화"]


def test_what_an_instance_is_called_is_one_of_a_kind_and_stays(steps):
    app = bourne.App("shop")

    @app.job
    def load(a: str, b: str = "") -> Any:
        return steps("a")

    job = app.jobs["load"]
    names = {
        instance_name("load", job.check(given), generation)
        for generation in (1, 2, 11)
        for given in (
            {"a": "1"}, {"a": "1,b=2"}, {"a": "1", "b": "2"}, {"a": "1", "b": ",b="}, {"a": "1,b=", "b": ""}, {"a": "x" * 200}, {"a": "x" * 201},
            {"a": "줄\n"}, {"a": "줄"}, {"a": "1]#2"}, {"a": "1]"},
        )
    }  # fmt: skip
    assert len(names) == 33, names
    assert instance_name("load", job.check({"a": "1"}), 1) == "load[a=1,b=]"


def test_a_text_that_looks_like_another_value_is_an_instance_of_its_own(tmp_path):
    app = bourne.App("shop")
    (tmp_path / "in.csv").write_text("id\n1\n")
    target = tmp_path / "t.db"

    @app.job
    def load(a: str | int | bool | None) -> Any:
        return chunk("copy", read=str(tmp_path / "in.csv"), write=f"sqlite:{target}?table=t")

    values = [None, "None", 1, "1", True, "True"]
    with bourne.open(app, data=tmp_path / "data") as shop:
        for value in values:
            assert shop.jobs.start("load", a=value).status == "COMPLETED"
    with closing(sqlite3.connect(target)) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (len(values),)


def test_a_run_leaves_no_threads(steps, tmp_path: Path):
    before = set(threading.enumerate())
    with bourne.open(
        app_with(lambda: steps("a") >> [steps("b"), steps("c")]), data=tmp_path / "data"
    ) as shop:
        shop.jobs.start("load", stop=threading.Event())
    assert set(threading.enumerate()) <= before
