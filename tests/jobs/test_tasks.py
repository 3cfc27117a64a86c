"""Tasks, gates and views as steps: what they get, what they may return, how long they may take, and what is tried again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import bourne
from bourne.batch import Exit, check, retry, task, view
from bourne.errors import JobFailed, LogLocked
from bourne.jobs.history import StepRun
from waiting import until


def app_with(*steps: Any) -> bourne.App:
    """Return an app with a log and a view, whose one job has these steps side by side."""
    app = bourne.App("shop")
    app.log("sold", schema={"id": "bigint", "amount": "bigint"})
    app.view("total", "SELECT sum(amount) AS total FROM sold")

    @app.job
    def load() -> Any:
        return list(steps)

    return app


def start(tmp_path: Any, *steps: Any) -> list[StepRun]:
    with bourne.open(app_with(*steps), data=tmp_path / "data") as shop:
        return shop.jobs.steps(shop.jobs.start("load").id)


def test_a_task_gets_a_context_if_it_has_a_place_for_it(tmp_path):
    found = []

    def with_context(context: Any) -> None:
        found.append(context)
        context.say("안녕")
        context.app.log("sold").append([{"id": 1, "amount": 2}])

    def with_default(limit: int = 3) -> None:
        found.append(limit)

    app = app_with(
        task("a", with_context), task("b", with_default), task("c", print), task("d", lambda: None)
    )
    with bourne.open(app, data=tmp_path / "data") as shop:
        shop.jobs.start("load")
        assert "안녕" in [message.text for message in shop.jobs.messages(1)]
        assert shop.query("SELECT id FROM sold").fetchall() == [(1,)]
    context = next(each for each in found if each != 3)
    assert (context.job, context.step, context.run, context.attempt) == ("load", "a", 1, 1)


def test_the_key_is_the_same_when_a_task_comes_again(tmp_path):
    seen = []

    def flaky(context: Any) -> None:
        seen.append((context.key, context.attempt))
        if len(seen) < 4:
            raise ConnectionError("lost")

    app = app_with(task("a", flaky, retry=retry(1, delay="0 seconds")))
    with bourne.open(app, data=tmp_path / "data") as shop:
        with pytest.raises(JobFailed, match="lost"):
            shop.jobs.start("load")
        shop.jobs.start("load")
        assert [shop.jobs.steps(run)[0].attempts for run in (1, 2)] == [2, 2]
        shop.jobs.start("load", again=True)
    assert [attempt for _, attempt in seen] == [1, 2, 1, 2, 1]
    assert len({key for key, _ in seen[:4]}) == 1 and seen[4][0] != seen[0][0]


def test_an_exit_is_the_steps_status_and_its_message_is_said(tmp_path):
    app = app_with(task("a", lambda: Exit("NO_DATA", "nothing came")))
    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.jobs.start("load").status == "COMPLETED"
        assert shop.jobs.steps(1)[0].status == "NO_DATA"
        assert "nothing came" in [message.text for message in shop.jobs.messages(1)]


def test_an_exit_that_says_failed_fails_the_run(tmp_path):
    with pytest.raises(JobFailed):
        start(tmp_path, task("a", lambda: Exit("FAILED", "no")))


def test_what_else_a_task_returns_is_refused(tmp_path):
    with pytest.raises(JobFailed, match="returns nothing, or an Exit"):
        start(tmp_path, task("a", lambda: 3))


def test_a_task_that_takes_too_long_is_left_alone(tmp_path):
    goes_on = threading.Event()
    with pytest.raises(JobFailed, match="takes longer than it may"):
        start(tmp_path, task("a", lambda: goes_on.wait(60) and None, timeout="10 milliseconds"))
    goes_on.set()


def test_an_error_within_its_time_is_its_error(tmp_path):
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        start(tmp_path, task("a", lambda: 1 / 0, timeout="1 minute"))


# --- checks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [True, None, np.True_])
def test_a_gate_that_says_yes_lets_through(answer, tmp_path):
    assert start(tmp_path, check("gate", lambda: answer))[0].status == "COMPLETED"


@pytest.mark.parametrize("answer", [False, np.False_, np.array([1, 2]).max() > 3])
def test_a_gate_that_says_no_fails(answer, tmp_path):
    with pytest.raises(JobFailed, match="check 'gate' says no"):
        start(tmp_path, check("gate", lambda: answer))


@pytest.mark.parametrize("status", [None, "", 5, "STOPPED"])
def test_what_no_task_can_end_with_is_refused(status, tmp_path):
    with pytest.raises(JobFailed, match="a task cannot end so"):
        start(tmp_path, task("a", lambda: Exit(status)))


@pytest.mark.parametrize("answer", [0, "", "no", [], pa.scalar(False), Exit("NO")])
def test_a_gate_that_says_something_else_is_refused(answer, tmp_path):
    with pytest.raises(JobFailed, match="returns True, False or nothing"):
        start(tmp_path, check("gate", lambda: answer))


def test_a_gate_in_sql_fails_with_the_rows_that_are_wrong(tmp_path):
    app = app_with(check("gate", "SELECT id FROM sold WHERE amount < ?", parameters=[5]))
    with bourne.open(app, data=tmp_path / "data") as shop:
        shop.log("sold").append([{"id": n, "amount": n} for n in range(3, 30)])
        with pytest.raises(JobFailed, match=r"found 2 rows that should not be[\s\S]*'id': 3[\s\S]*'id': 4"):
            shop.jobs.start("load")


def test_a_gate_over_a_view_sees_what_the_view_step_before_it_brought_up(tmp_path):
    app = bourne.App("shop")
    app.log("sold", schema={"id": "bigint", "amount": "bigint"})
    app.view("total", "SELECT sum(amount) AS total FROM sold")

    @app.job
    def load() -> Any:
        return view("total") >> check("gate", "SELECT total FROM total WHERE total <> 6 OR total IS NULL")

    with bourne.open(app, data=tmp_path / "data") as shop:
        shop.log("sold").append([{"id": n, "amount": n} for n in range(4)])
        assert shop.jobs.start("load").status == "COMPLETED"


def test_a_view_that_another_one_keeps_up_is_waited_for(tmp_path, monkeypatch):
    """As if `bourne run` were at work in another process: it holds the lock, and the view comes up meanwhile."""
    with bourne.open(app_with(view("total")), data=tmp_path / "data") as shop:
        shop.log("sold").append([{"id": 1, "amount": 2}])
        catch_up, refused = shop.catch_up, []

        def locked() -> int:
            refused.append(1)
            if len(refused) == 2:
                catch_up()  # the other one's step
            raise LogLocked("view 'total' is kept up to date by another process", where="total", pid=1)

        monkeypatch.setattr(shop, "catch_up", locked)
        assert shop.jobs.start("load").status == "COMPLETED"
        assert shop.query("SELECT total FROM total").fetchall() == [(2,)]


def test_a_view_that_nobody_brings_up_is_too_late(tmp_path, monkeypatch):
    def locked() -> int:
        raise LogLocked("another process", where="total", pid=1)

    with bourne.open(app_with(view("total", timeout="1 microsecond")), data=tmp_path / "data") as shop:
        shop.log("sold").append([{"id": 1, "amount": 2}])
        monkeypatch.setattr(shop, "catch_up", locked)
        with pytest.raises(JobFailed, match="has not come to its logs' end in time"):
            shop.jobs.start("load")


def test_a_view_that_is_not_there_is_named(tmp_path):
    with pytest.raises(JobFailed, match="nothing_such"):
        start(tmp_path, view("nothing_such"))


def test_a_task_sees_that_it_is_to_stop(tmp_path):
    def work(context: Any) -> Exit:
        began.set()
        assert context.stopping.wait(60)
        return Exit("HALF")

    began, stop = threading.Event(), threading.Event()
    with bourne.open(app_with(task("a", work)), data=tmp_path / "data") as shop:
        thread = threading.Thread(target=lambda: (until(began.is_set), stop.set()))
        thread.start()
        assert shop.jobs.start("load", stop=stop).status == "COMPLETED"
        thread.join()
        assert shop.jobs.steps(1)[0].status == "HALF"


def test_a_view_that_was_rolled_back_as_it_is_fails_its_step(tmp_path):
    """It takes nothing in any more: what follows would read old rows."""

    def app_of(factor: int) -> bourne.App:
        app = bourne.App("shop")
        app.log("sold", schema={"id": "bigint"})
        app.udf(returns="bigint", arguments=["bigint"], scalar=True, name="times", version=str(factor))(
            lambda n: n * factor
        )
        app.view("total", "SELECT sum(times(id)) AS total FROM sold")

        @app.job
        def load(run: int) -> Any:
            return view("total")

        return app

    for factor in (1, 2):
        with bourne.open(app_of(factor), data=tmp_path) as shop:
            shop.append("sold", [{"id": 1}])
            assert shop.jobs.start("load", run=factor).status == "COMPLETED"
    with bourne.open(app_of(2), data=tmp_path) as shop:
        assert shop.standing("total") is None
        shop.rollback("total", as_it_is=True)
        with pytest.raises(JobFailed, match="'total' stands still"):
            shop.jobs.start("load", run=3)
        shop.rollback("total")
        assert shop.jobs.start("load", run=4).status == "COMPLETED"
