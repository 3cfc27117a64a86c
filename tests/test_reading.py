"""What is read together is of one moment, and has what was asked for, while the app runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bourne
from bourne.errors import Behind, InputError, LogLocked, QueryError
from bourne.log.wake import WakingEvent


def shop(partitions: int = 1) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "bigint"}, key="user", partitions=partitions)
    app.log("people", schema={"name": "varchar", "city": "varchar"}, key="name", changes="upsert")
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")
    app.view("whole", "SELECT sum(total) AS total, sum(n)::BIGINT AS n FROM spend")
    app.view("large", "SELECT * FROM orders WHERE amount >= 50")
    app.view("cities", "SELECT city, count(*) AS n FROM people GROUP BY city")
    return app


@contextmanager
def running(it: bourne.Instance) -> Iterator[None]:
    stop = WakingEvent()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            it.run(stop=stop)
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


ALL = """SELECT (SELECT count(*) FROM orders), (SELECT coalesce(sum(amount), 0) FROM orders),
  (SELECT coalesce(sum(n), 0) FROM spend), (SELECT coalesce(sum(total), 0) FROM spend),
  (SELECT coalesce(max(n), 0) FROM whole), (SELECT coalesce(max(total), 0) FROM whole),
  (SELECT count(*) FROM orders WHERE amount >= 50), (SELECT count(*) FROM large)"""


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_read_together_is_of_one_moment_while_it_changes(tmp_path: Path, partitions: int) -> None:
    with bourne.open(shop(partitions), data=tmp_path) as it, running(it):
        is_over = threading.Event()

        def write() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                it.append("orders", [{"user": f"u{number % 7}", "amount": number % 100}])

        writers = [threading.Thread(target=write) for _ in range(2)]
        for each in writers:
            each.start()
        seen = []
        try:
            for number in range(30):
                if number % 5 == 0:
                    it.query("SELECT * FROM large")  # this one goes ahead of the others
                found = it.query(ALL, together=True, wait_s=20)
                rows, amounts, n, total, whole_n, whole_total, large, large_view = found.fetchall()[0]
                assert rows == n == whole_n, found
                assert amounts == total == whole_total, found
                assert large == large_view, found
                assert found.position is not None
                seen.append(rows)
        finally:
            is_over.set()
            for each in writers:
                each.join()
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]


def test_what_views_say_of_nothing_is_there_before_they_run(tmp_path: Path) -> None:
    app = bourne.App("counts")
    app.log("orders", schema={"amount": "bigint"})
    app.view("counts", "SELECT count(*) AS n, sum(amount) AS total FROM orders")
    with bourne.open(app, data=tmp_path) as it:
        it.start()
        assert it.query("FROM counts", together=True).fetchall() == [(0, None)]
        with bourne.open(app, data=tmp_path) as other, pytest.raises(LogLocked):
            other.start()
        it.append("orders", [{"amount": 3}])
        it.catch_up()
        assert it.query("FROM counts", together=True).fetchall() == [(1, 3)]


def test_who_asks_reads_his_own_writes(tmp_path: Path) -> None:
    with bourne.open(shop(), data=tmp_path) as it, running(it):
        for number in range(1, 30):
            appended = it.append("orders", [{"user": "ann", "amount": 2}])
            assert appended.position == f"orders:{number}"
            found = it.query("SELECT total FROM whole", at_least=appended.position, wait_s=20)
            assert found.fetchall() == [(2 * number,)]
            assert found.position == f"orders:{number}"


def test_positions_of_several_logs(tmp_path: Path) -> None:
    with bourne.open(shop(3), data=tmp_path) as it:
        it.append("people", [{"name": "ann", "city": "서울"}])
        orders = it.append("orders", [{"user": "ann", "amount": 60}, {"user": "bo", "amount": 1}])
        it.catch_up()
        found = it.query("SELECT * FROM spend, cities", together=True)
        assert found.position is not None
        orders_ends = ".".join(map(str, it.log("orders").end_offsets()))
        assert found.position == f"orders:{orders_ends},people:1"
        assert orders_ends.startswith(orders.position.removeprefix("orders:"))
        assert it.query("SELECT 1", together=True).position == ""
        # What a view does not depend on does not matter to it.
        assert len(it.query("SELECT * FROM cities", at_least="people:1,orders:99.99.99")) == 1


def test_what_is_not_there_yet_is_not_answered(tmp_path: Path) -> None:
    with bourne.open(shop(), data=tmp_path) as it:
        appended = it.append("orders", [{"user": "ann", "amount": 2}])
        with pytest.raises(Behind, match="spend at orders:0") as caught:
            it.query("SELECT * FROM spend", at_least=appended.position)
        assert caught.value.expected == "orders:1"
        assert isinstance(caught.value, QueryError)
        # A log beside a view is read as far as the view is; alone, to its end.
        assert it.query("SELECT count(*) FROM orders, spend", together=True).fetchall() == [(0,)]
        assert it.query("SELECT count(*) FROM orders", together=True).fetchall() == [(1,)]
        it.catch_up()
        assert it.query("SELECT count(*) FROM orders, spend", together=True).fetchall() == [(1,)]
        with pytest.raises(Behind):
            it.query("SELECT * FROM orders", at_least="orders:2", wait_s=0.01)


def test_changes_by_key_beside_their_view(tmp_path: Path) -> None:
    with bourne.open(shop(), data=tmp_path) as it:
        it.append("people", [{"name": "ann", "city": "서울"}])
        it.catch_up()
        it.append("people", [{"name": "ann", "city": "부산"}, {"name": "bo", "city": "부산"}])
        sql = "SELECT (SELECT list(city) FROM people), (SELECT list(city || n) FROM cities)"
        assert it.query(sql, together=True).fetchall() == [(["서울"], ["서울1"])]
        it.query("SELECT * FROM people")  # the fold goes ahead, and cannot go back
        with pytest.raises(Behind, match="not at one position"):
            it.query(sql, together=True)
        it.catch_up()
        assert it.query(sql, together=True).fetchall() == [(["부산", "부산"], ["부산2"])]


@pytest.mark.parametrize(
    "text", ["orders", "orders:", "orders:-1", "orders:1,", ":1", "orders:1.", "orders:1 2", "🎉"]
)
def test_what_is_no_position_is_refused(tmp_path: Path, text: str) -> None:
    with bourne.open(shop(), data=tmp_path) as it, pytest.raises(InputError, match="no position"):
        it.query("SELECT * FROM spend", at_least=text)


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    with bourne.open(shop(), data=tmp_path) as it:
        for wait_s in (-1, 31, float("nan"), float("inf")):
            with pytest.raises(InputError, match="no such time to wait"):
                it.query("SELECT * FROM spend", together=True, wait_s=wait_s)
