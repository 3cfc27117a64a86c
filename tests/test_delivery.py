"""What a sink holds is what its view says, whatever happens to either side."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne import connectors
from bourne.connect.sink import Shape
from bourne.errors import DefinitionError, SinkFailed
from bourne.log.writer import LogWriter
from bourne.testing.memory_sink import MemorySink, MemoryTarget
from waiting import until


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    """Return the target of all sinks of this test."""
    found = MemoryTarget()
    use(monkeypatch, found)
    return found


def use(monkeypatch: pytest.MonkeyPatch, target: MemoryTarget) -> None:
    def open_sink(url: str, shape: Shape) -> MemorySink:
        return MemorySink(target, shape)

    monkeypatch.setattr(connectors, "open_sink", open_sink)


SHAPES = {
    "added": ("SELECT id, user, amount FROM orders WHERE amount > 3", ()),
    "weights": ("SELECT user, sum(amount) AS total FROM orders GROUP BY user", ()),
    "key": ("SELECT user, sum(amount) AS total FROM orders GROUP BY user", "user"),
    "few": (
        "SELECT user, sum(amount) AS total FROM orders GROUP BY user HAVING sum(amount) % 3 != 0",
        "user",
    ),
    "joined": ("SELECT a.id, b.user FROM orders a JOIN people b ON a.user = b.user", "id"),
    "newest": ("SELECT * FROM people", "user"),
    "signed": ("SELECT * FROM ledger", ()),
}


def make(sql: str, key: Any) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "user": "varchar", "amount": "bigint"})
    app.log("people", schema={"user": "varchar not null", "city": "varchar", "gone": "boolean"}, key="user",
            changes="upsert", tombstone="gone", partitions=2)  # fmt: skip
    app.log("ledger", schema={"what": "varchar", "n": "bigint not null"}, changes="weights", weight="n")
    app.view("v", sql, grows=True)
    app.sink("v", "memory:", key=key)
    return app


def expected(instance: bourne.Instance, view: str = "v") -> Counter[tuple[Any, ...]]:
    return Counter(instance.query(f"SELECT * FROM {view}").fetchall())


def append_some(instance: bourne.Instance, rng: random.Random, first: int) -> int:
    users = ["ann", "버스", "🚲", ""]
    count = rng.randint(1, 6)
    orders = [
        {"id": first + i, "user": rng.choice(users), "amount": rng.randint(-3, 9)} for i in range(count)
    ]
    instance.append("orders", orders)
    people = [
        {"user": rng.choice(users), "city": rng.choice("abc"), "gone": rng.random() < 0.3} for _ in range(3)
    ]
    instance.append("people", people)
    instance.append("ledger", [{"what": rng.choice(users), "n": rng.randint(-2, 3)} for _ in range(4)])
    return first + count


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SHAPES)
def test_a_sink_holds_what_its_view_says(tmp_path, target, name, seed):
    """Random changes; the sink fails before or after it has written, the app is closed in between."""
    rng = random.Random(f"{name}{seed}")
    sql, key = SHAPES[name]
    count = 0
    for _ in range(6):
        with bourne.open(make(sql, key), data=tmp_path) as instance:
            for _ in range(rng.randint(1, 3)):
                count = append_some(instance, rng, count)
                instance.catch_up()
                target.fails += rng.choices(["before", "after", ""], k=2)
                instance.run(until_caught_up=True)
                assert target.rows == expected(instance)


def test_a_log_can_be_delivered_too(tmp_path, target):
    app = make("SELECT 1 AS one FROM orders", ())
    app.sinks.clear()
    app.sink("people", "memory:", key="user")
    with bourne.open(app, data=tmp_path) as instance:
        instance.append(
            "people",
            [{"user": "ann", "city": "a", "gone": False}, {"user": "bo", "city": "b", "gone": False}],
        )
        instance.append("people", [{"user": "ann", "city": None, "gone": True}])
        instance.run(until_caught_up=True)
        assert target.rows == Counter([("bo", "b")])


def test_a_sink_that_is_away_delays_nobody_and_catches_up(tmp_path, target):
    app = make(*SHAPES["key"])
    target.is_away = True
    states: list[str] = []
    stop = threading.Event()
    with bourne.open(app, data=tmp_path) as instance:
        running = threading.Thread(
            target=instance.run, kwargs={"stop": stop, "on_state": lambda state: states.append(state.state)}
        )
        running.start()
        instance.append("orders", [{"id": 1, "user": "ann", "amount": 5}])
        until(lambda: "waiting" in states)
        until(lambda: expected(instance) == Counter([("ann", 5)]))
        assert not target.rows
        target.is_away = False
        until(lambda: target.rows == Counter([("ann", 5)]))
        instance.append("orders", [{"id": 2, "user": "ann", "amount": 1}])
        until(lambda: target.rows == Counter([("ann", 6)]))
        stop.set()
        running.join()
    assert states[0] == "waiting" and states[-2:] == ["running", "stopped"]


def test_a_changed_definition_brings_the_difference(tmp_path, target):
    for sql, key in (SHAPES["key"], SHAPES["few"], SHAPES["key"]):
        with bourne.open(make(sql, key), data=tmp_path) as instance:
            instance.append("orders", [{"id": i, "user": f"u{i}", "amount": i} for i in range(10)])
            instance.run(until_caught_up=True)
            assert target.rows == expected(instance)
    app = make("SELECT id, user FROM orders", "id")
    with bourne.open(app, data=tmp_path) as instance, pytest.raises(SinkFailed, match="other columns"):
        instance.run(until_caught_up=True)


@pytest.mark.parametrize("is_over_a_view", [False, True])
@pytest.mark.parametrize("key", [(), "id"])
def test_a_sink_keeps_what_it_has_while_its_view_is_computed_anew(
    tmp_path, target, monkeypatch, key, is_over_a_view
):
    monkeypatch.setattr("bourne.engine.runner.EPOCH_ROWS_MIN", 4)
    monkeypatch.setattr("bourne.engine.runner.EPOCH_ROWS_MAX", 4)
    has_half, may_go_on = threading.Event(), threading.Event()

    def slowly(number: int) -> bool:
        if number == 20:
            has_half.set()
            may_go_on.wait(60)
        return True

    def make_slow(condition: str) -> bourne.App:
        app = make("SELECT 1 AS one FROM orders", ())
        app.sinks.clear()
        app.udf(returns="boolean", arguments=["bigint"], scalar=True, version="1")(slowly)
        app.view("all_orders", f"SELECT id, user FROM orders WHERE {condition}")
        if is_over_a_view:
            app.view("some_orders", "SELECT id, user FROM all_orders WHERE id >= 0")
        app.sink("some_orders" if is_over_a_view else "all_orders", "memory:", key=key)
        return app

    with bourne.open(make_slow("id < 1000"), data=tmp_path) as instance:
        for first in range(0, 40, 4):
            instance.append("orders", [{"id": first + i, "user": "버스", "amount": 1} for i in range(4)])
            instance.run(until_caught_up=True)
    before = target.rows.copy()
    assert len(before) == 40
    states: list[str] = []
    stop = threading.Event()
    with bourne.open(make_slow("slowly(id)"), data=tmp_path) as instance:
        running = threading.Thread(
            target=instance.run,
            kwargs={"stop": stop, "on_state": lambda state: states.append(f"{state.state}: {state.error}")},
        )
        running.start()
        try:
            assert has_half.wait(20)
            until(lambda: any(state.startswith("running") for state in states))
            assert target.rows == before == expected(instance, "all_orders")
            may_go_on.set()
            until(lambda: {view.name: view.version for view in instance.status().views}["all_orders"] == 2)
            assert target.rows == before == expected(instance, "all_orders")
            instance.append("orders", [{"id": 40, "user": "bo", "amount": 1}])
            until(lambda: target.rows == before + Counter([(40, "bo")]))
        finally:
            may_go_on.set()
            stop.set()
            running.join()


def test_a_sink_has_what_was_rolled_back_to_as_it_is_though_it_stands_still(tmp_path, target):
    def times(factor: int) -> bourne.App:
        app = make("SELECT 1 AS one FROM orders", ())
        app.sinks.clear()
        app.udf(returns="bigint", arguments=["bigint"], scalar=True, version=str(factor))(times_of(factor))
        app.view("changed", "SELECT user, max(times(id)) AS m FROM orders GROUP BY user", grows=True)
        app.view("above", "SELECT user, m FROM changed WHERE m > 0")
        app.sink("above", "memory:", key="user")
        return app

    def times_of(factor: int) -> Any:
        def times(id: int) -> int:
            return id * factor

        return times

    for factor in (1, 2):
        with bourne.open(times(factor), data=tmp_path) as instance:
            instance.append("orders", [{"id": factor, "user": "버스", "amount": 1}])
            instance.run(until_caught_up=True)
            assert target.rows == expected(instance, "above") == Counter([("버스", factor * factor)])
    with bourne.open(times(2), data=tmp_path) as instance:
        assert instance.rollback("changed", as_it_is=True).is_served
        instance.run(until_caught_up=True)  # the function that it calls is another one now
        assert target.rows == expected(instance, "above") == Counter([("버스", 1)])
        assert instance.rollback("changed").is_served
        instance.run(until_caught_up=True)
        assert target.rows == expected(instance, "above") == Counter([("버스", 4)])


def test_a_view_that_has_become_empty_takes_all_from_its_sink(tmp_path, target):
    for condition, count in (("true", 5), ("id > 100", 0), ("id > 3", 1)):
        app = make(f"SELECT id, user FROM orders WHERE {condition}", "id")
        with bourne.open(app, data=tmp_path) as instance:
            if condition == "true":
                instance.append("orders", [{"id": i, "user": "ann", "amount": 1} for i in range(5)])
            instance.run(until_caught_up=True)
            assert len(target.rows) == count


def test_rows_that_are_taken_back_from_a_sink_that_only_adds(tmp_path, target):
    app = make(*SHAPES["added"])
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": 1, "user": "ann", "amount": 5}])
        instance.run(until_caught_up=True)
    app = make("SELECT id, user, amount FROM orders WHERE amount > 7", ())
    with bourne.open(app, data=tmp_path) as instance, pytest.raises(SinkFailed, match="can only add"):
        instance.run(until_caught_up=True)
    assert target.rows == Counter([(1, "ann", 5)])


def test_what_is_no_key_is_refused_though_it_shows_late(tmp_path, target):
    app = make("SELECT user, amount FROM orders", "user")
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": 1, "user": "ann", "amount": 5}])
        instance.run(until_caught_up=True)
        assert target.rows == Counter([("ann", 5)])
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": 2, "user": "ann", "amount": 6}])
        with pytest.raises(SinkFailed, match="user is no key"):
            instance.run(until_caught_up=True)
    assert target.rows == Counter([("ann", 5)])


def test_rows_that_the_other_side_refuses_are_dead_letters(tmp_path, target):
    app = make("SELECT id, user, amount FROM orders", "id")
    target.refuses = lambda row: row["amount"] == 7
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": i, "user": "한🚲", "amount": i} for i in range(100)])
        instance.run(until_caught_up=True)
        assert target.rows == expected(instance) - Counter([(7, "한🚲", 7)])
        ((origin, log, data),) = instance.query("SELECT origin, log, data FROM dead_letters").fetchall()
        (letter,) = instance.dead_letters.all()
        assert letter.place == "v, first of all"
        assert (origin, log) == ("v -> memory:", "v")
        assert data.decode() == '{"id": 7, "user": "한🚲", "amount": 7}'
        target.refuses = lambda row: True
        instance.append("orders", [{"id": i, "user": "bo", "amount": i} for i in range(100, 200)])
        with pytest.raises(SinkFailed, match="refuses too many"):
            instance.run(until_caught_up=True)
        assert len(target.rows) == 99


@pytest.mark.parametrize("fails", ["", "before", "after"])
def test_refused_rows_are_delivered_again_as_they_are_now(tmp_path, target, fails):
    app = make("SELECT id, user, amount FROM orders WHERE amount < 50", "id")
    app.log("fixes", schema={"id": "bigint"})
    app.sinks.clear()
    app.view("newest", "SELECT * FROM v QUALIFY row_number() OVER (PARTITION BY id ORDER BY amount DESC) = 1")
    app.sink("newest", "memory:", key="id")
    target.refuses = lambda row: row["amount"] in (5, 6, 7)
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": i, "user": "한🚲", "amount": i} for i in range(10)])
        instance.run(until_caught_up=True)
        instance.append("orders", [{"id": 6, "user": "bo", "amount": 40}])
        instance.run(until_caught_up=True)
        letters = instance.dead_letters.all()
        assert len(letters) == 3 and len(target.rows) == 8
        assert [why for _, why in instance.dead_letters.retry(letters[:1])] == ["the other side refuses it"]
        target.refuses = lambda row: row["amount"] == 7
        target.fails = [fails]
        for _ in range(3):
            outcomes = instance.dead_letters.retry(instance.dead_letters.chosen(()))
            target.fails = []
        assert [(letter.data, why) for letter, why in outcomes] == [
            (b'{"id": 7, "user": "\xed\x95\x9c\xf0\x9f\x9a\xb2", "amount": 7}', "the other side refuses it")
        ]
        assert target.rows == expected(instance, "newest") - Counter([(7, "한🚲", 7)])
        instance.append("orders", [{"id": 50, "user": "bo", "amount": 1}])
        instance.run(until_caught_up=True)
        assert target.rows == expected(instance, "newest") - Counter([(7, "한🚲", 7)])


@pytest.mark.parametrize("name", ["added", "signed"])
@pytest.mark.parametrize("fails", ["", "before", "after"])
def test_refused_rows_that_are_the_same_are_letters_of_their_own(tmp_path, target, name, fails):
    app = make(*SHAPES[name])
    app.sinks.clear()
    app.sink("v", "memory:", dead_letters="100%")
    target.refuses = lambda row: row.get("user", row.get("what")) == "nobody"
    with bourne.open(app, data=tmp_path) as instance:
        for _ in range(2):
            instance.append("orders", [{"id": i // 2, "user": "nobody", "amount": 5} for i in range(6)])
            instance.append("ledger", [{"what": what, "n": n} for what, n in [("nobody", 3), ("bo", -1)]])
            instance.catch_up()
            target.fails = ["before", fails]
            instance.run(until_caught_up=True)
        assert not any(row[0 if name == "signed" else 1] == "nobody" for row in target.rows)
        target.refuses = lambda row: False
        target.fails = [fails]
        for _ in range(2):
            instance.dead_letters.retry(instance.dead_letters.chosen(()))
        assert target.rows == expected(instance)
        assert not instance.dead_letters.chosen(())


def test_a_write_that_is_tried_again_counts_its_refused_rows_once(tmp_path, target):
    app = make("SELECT id, user, amount FROM orders", "id")
    target.refuses = lambda row: row["amount"] < 6  # 6, of which 10 may be
    target.fails = ["before", "after", "before"]
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": i, "user": "bo", "amount": i} for i in range(100)])
        instance.run(until_caught_up=True)
        assert len(instance.dead_letters.all()) == 6 and len(target.rows) == 94


def test_rows_that_need_or_hinder_one_another(tmp_path):
    """Only those are refused that the other side refuses when what goes has gone, and what came before is there."""
    app = bourne.App("shop")
    schema = {"id": "bigint not null", "mail": "varchar", "n": "bigint", "gone": "boolean"}
    app.log("users", schema=schema, changes="upsert", key="id", tombstone="gone")
    app.sink("users", f"sqlite:{tmp_path / 'x.db'}?table=t", key="id")

    def user(number: int, mail: str, n: int = 1, *, gone: bool = False) -> dict[str, Any]:
        return {"id": number, "mail": mail, "n": n, "gone": gone}

    with (
        closing(sqlite3.connect(tmp_path / "x.db")) as there,
        bourne.open(app, data=tmp_path / "d") as instance,
    ):
        there.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, n INTEGER CHECK (n < 100))")
        instance.append("users", [user(1, "a"), user(5, "e")])
        instance.run(until_caught_up=True)
        instance.append("users", [user(1, "a", gone=True), user(2, "a"), user(3, "c", 1000)])
        instance.run(until_caught_up=True)
        instance.append("users", [user(7, "x"), user(8, "x"), user(9, "y"), user(10, "y")])
        instance.run(until_caught_up=True)
        assert there.execute("SELECT id FROM t ORDER BY id").fetchall() == [(2,), (5,), (7,), (9,)]
        refused = [letter.text() for letter in instance.dead_letters.all()]
        assert refused == [
            '{"id": 3, "mail": "c", "n": 1000}', '{"id": 8, "mail": "x", "n": 1}', '{"id": 10, "mail": "y", "n": 1}'
        ]  # fmt: skip
        there.execute("CREATE TRIGGER never BEFORE DELETE ON t BEGIN SELECT raise(ABORT, 'it stays'); END")
        instance.append("users", [user(5, "e", gone=True), user(11, "z")])
        with pytest.raises(SinkFailed, match="refuses that rows go away"):
            instance.run(until_caught_up=True)
        there.execute("DROP TRIGGER never")
        instance.run(until_caught_up=True)
        assert there.execute("SELECT id FROM t ORDER BY id").fetchall() == [(2,), (7,), (9,), (11,)]


def test_refused_rows_are_delivered_again_as_the_values_that_they_were(tmp_path):
    app = bourne.App("shop")
    app.log("odd", schema={"id": "bigint", "x": "blob", "n": "hugeint"})
    app.sink("odd", f"sqlite:{tmp_path / 'x.db'}?table=t")
    with (
        closing(sqlite3.connect(tmp_path / "x.db")) as there,
        bourne.open(app, data=tmp_path / "d") as instance,
    ):
        instance.append("odd", [{"id": 1, "x": b"\0\xff{", "n": 10**37}])
        instance.run(until_caught_up=True)
        there.execute("CREATE TRIGGER never BEFORE INSERT ON t BEGIN SELECT raise(ABORT, 'never'); END")
        instance.append("odd", [{"id": 2, "x": b"\0\xff{", "n": None}, {"id": 3, "x": None, "n": 10**37}])
        instance.run(until_caught_up=True)
        there.execute("DROP TRIGGER never")
        outcomes = instance.dead_letters.retry(instance.dead_letters.all())
        assert [why for _, why in outcomes] == [None, None]
        rows = there.execute("SELECT * FROM t ORDER BY id").fetchall()
        assert rows == [(1, b"\0\xff{", str(10**37)), (2, b"\0\xff{", None), (3, None, str(10**37))]


def test_rows_that_cannot_be_delivered_again(tmp_path, target):
    app = make(*SHAPES["key"])
    target.refuses = lambda row: row["user"] == "nobody"
    with bourne.open(app, data=tmp_path) as instance:
        instance.append(
            "orders", [{"id": 1, "user": "nobody", "amount": 5}, {"id": 2, "user": "bo", "amount": 5}]
        )
        instance.run(until_caught_up=True)
    with bourne.open(data=tmp_path) as instance:
        ((_, why),) = instance.dead_letters.retry(instance.dead_letters.all())
        assert why is not None and "the app has to be known" in why
    app.sinks.clear()
    app.sink("v", "memory:", key="user", name="another")
    with bourne.open(app, data=tmp_path) as instance:
        ((_, why),) = instance.dead_letters.retry(instance.dead_letters.all())
        assert why is not None and "does not declare" in why
    with bourne.open(make(SHAPES["key"][0] + " HAVING true", "user"), data=tmp_path) as instance:
        instance.catch_up()  # so that the new version is served
        ((_, why),) = instance.dead_letters.retry(instance.dead_letters.all())
        assert why is not None and "does not stand where" in why
        instance.run(until_caught_up=True)
        target.refuses = lambda row: False
        (*_, (_, why)) = instance.dead_letters.retry(instance.dead_letters.all())
        assert why is None and target.rows == expected(instance)


def test_what_a_sink_may_promise(tmp_path, monkeypatch):
    class AtLeast(MemorySink):
        delivery = "at least once"

        def open(self) -> None:
            super().open()

        def write(self, change: Any, position: Any, before: Any) -> None:
            super().write(change, None, None)  # it keeps none

    found = MemoryTarget()
    monkeypatch.setattr(connectors, "open_sink", lambda url, shape: AtLeast(found, shape))
    app = make(*SHAPES["key"])
    app.sinks.clear()
    app.sink("v", "memory:", key="user", delivery="exactly once")
    with pytest.raises(DefinitionError, match="cannot deliver 'exactly once'"):
        bourne.open(app, data=tmp_path)
    for delivery in ("at least once", "at most once"):
        app.sinks.clear()
        app.sink("v", "memory:", key="user", delivery=delivery, name=delivery)
        found.position, found.rows = None, Counter()
        for number in range(3):
            with bourne.open(app, data=tmp_path) as instance:
                instance.append("orders", [{"id": number, "user": "ann", "amount": 1}])
                instance.run(until_caught_up=True)
                assert found.rows == expected(instance)


@pytest.mark.parametrize("fails", ["before", "after"])
@pytest.mark.parametrize("delivery", ["at least once", "at most once"])
def test_less_than_the_sink_can_is_no_dead_end_after_a_write_that_failed(tmp_path, target, delivery, fails):
    """The two positions, the sink's own and the one that counts, are different then."""
    app = make(*SHAPES["key"])
    app.sinks.clear()
    app.sink("v", "memory:", key="user", delivery=delivery)
    with bourne.open(app, data=tmp_path) as instance:
        for user in ("ann", "bo", "cy"):
            instance.append("orders", [{"id": 1, "user": user, "amount": 1}])
            target.fails = [fails] if user == "bo" else []
            instance.run(until_caught_up=True)
        is_lost = (delivery, fails) == ("at most once", "before")
        assert target.rows == expected(instance) - Counter([("bo", 1)] if is_lost else [])


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("key", [(), "id"])
def test_records_that_are_deleted_before_they_are_delivered_are_missed(
    tmp_path, monkeypatch, target, key, partitions
):
    monkeypatch.setitem(LogWriter.__init__.__kwdefaults__, "segment_bytes", 300)
    app = bourne.App("shop")
    schema = {"id": "bigint not null", "who": "varchar"}
    app.log("orders", schema=schema, key="id", partitions=partitions, keep_bytes=1000)
    app.sink("orders", "memory:", key=key)
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"id": number, "who": "ann"} for number in range(4)])
        instance.run(until_caught_up=True)
        for number in range(20):
            instance.append("orders", [{"id": 100 + number, "who": "bo" * 100}])
        instance.maintain()
        with pytest.raises(SinkFailed, match="were deleted before sink"):
            instance.run(until_caught_up=True)
        assert len(target.rows) == 4


def refused(declare: Callable[[bourne.App], None], path: Path, match: str) -> None:
    app = make(*SHAPES["key"])
    with pytest.raises(DefinitionError, match=match):
        declare(app)
        bourne.open(app, data=path)


def compacted(app: bourne.App) -> None:
    app.log("kept", schema={"id": "bigint", "who": "varchar"}, key="id", changes="upsert", compact=True)
    app.sink("kept", "memory:z", key="id")


def test_sinks_that_cannot_be(tmp_path, target):
    refused(lambda app: app.sink("nobody", "memory:"), tmp_path, "not declared")
    refused(lambda app: app.sink("v", "memory:x", key="nobody"), tmp_path, "no column of 'v'")
    refused(compacted, tmp_path, "'kept' is compacted")
    refused(lambda app: app.sink("v", "memory:"), tmp_path, "two sinks")
    refused(lambda app: app.sink("v", "memory:y", dead_letters=2), tmp_path, "no share")
    refused(lambda app: app.sink("v", "memory:${NOBODY_SET_THIS}"), tmp_path, "no variable NOBODY_SET_THIS")
