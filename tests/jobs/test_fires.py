"""The store of fires: each once, all or nothing, and one hand at a time."""

from __future__ import annotations

import sqlite3

import pytest

from bourne.errors import StorageError
from bourne.jobs.fires import Fires, Mark, New, create


@pytest.fixture
def fires(tmp_path):
    opened = Fires(tmp_path / "history.sqlite")
    yield opened
    opened.close()


def test_a_fire_is_there_once_by_its_key(fires):
    assert fires.note("a", "x", 5, [New("one", 1), New("two", 2, {"path": "p"})]) == 2
    assert fires.note("a", "x", 6, [New("two", 9), New("three", 3)]) == 1
    assert fires.note("b", "x", 6, [New("one", 1)]) == 1
    assert [(each.schedule, each.key, each.at_us, each.details) for each in fires.open()] == [
        ("a", "one", 1, None), ("a", "two", 2, {"path": "p"}), ("a", "three", 3, None), ("b", "one", 1, None),
    ]  # fmt: skip
    assert fires.mark("a", "x") == Mark(6, 0)
    assert fires.mark("a", "declared otherwise") is None and fires.mark("c", "x") is None


def test_what_cannot_be_noted_leaves_nothing(fires):
    with pytest.raises(TypeError):
        fires.note("a", "x", 5, [New("one", 1), New("two", 2, {"path": object()})])
    assert fires.open() == [] and fires.mark("a", "x") is None
    assert fires.note("a", "x", 5, [New("one", 1)]) == 1


def test_a_change_says_from_which_state_it_goes(fires):
    fires.note("a", "x", 5, [New("one", 1)])
    (waiting,) = fires.open()
    starting = fires.change(waiting, "starting")
    assert starting.state == "starting"
    assert fires.change(waiting, "starting") is None
    started = fires.change(starting, "started", run=7)
    assert fires.change(started, "started", run=7, is_lost=True).lost == 1
    assert not fires.skip(started.id, "too late")
    failed = fires.change(started, "failed", reason="the run failed")
    assert (failed.run, failed.reason) == (7, "the run failed")
    assert fires.open() == []
    assert fires.skip(failed.id, "never mind") and fires.fire(failed.id).state == "skipped"


def test_the_newest_is_neither_later_nor_skipped(fires):
    fires.note("a", "x", 5, [New("one", 10), New("two", 20), New("three", 30)])
    assert fires.newest("a", 9) is None
    assert fires.newest("a", 20).key == "two"
    fires.skip(fires.by_key("a", "two").id, "")
    assert fires.newest("a", 29).key == "one"
    assert fires.waiting("a") == 2


def test_the_oldest_finished_ones_are_forgotten(fires):
    fires.note("a", "x", 5, [New(str(number), number) for number in range(10)])
    for fire in fires.open()[:8]:
        fires.change(fire, "done")
    assert fires.forget("a", 3) == 5
    assert [each.key for each in fires.listed("a")] == ["9", "8", "7", "6", "5"]
    assert fires.mark("a", "x") == Mark(5, 4)
    assert fires.forget("a", 3) == 0 and fires.forget("b", 3) == 0


def test_what_was_passed_over_is_kept_within_bounds(fires):
    for number in range(6):
        fires.note("a", "x", number, passed=(number, number), now_us=number)
    fires.note("b", "x", 0, passed=(9, 9))
    fires.forget("a", 2)
    assert [each.first_us for each in fires.passed_over()] == [9, 5, 4]


def test_what_is_written_is_there_for_the_next_one_and_beside_other_tables(tmp_path):
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as others:
        others.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY)")
        create(others)
        create(others)
    others.close()
    fires = Fires(path)
    fires.note("a", "x", 5, [New("one", 1)], passed=(1, 2), now_us=3)
    fires.close()
    again = Fires(path)
    assert again.waiting("a") == 1
    assert [(each.first_us, each.last_us, each.noted_us) for each in again.passed_over()] == [(1, 2, 3)]
    again.close()


def test_a_database_that_cannot_be_is_an_error_of_ours(tmp_path):
    (tmp_path / "history.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 99)
    with pytest.raises(StorageError, match="history of jobs"):
        Fires(tmp_path / "history.sqlite")


def test_a_database_that_another_one_holds_is_waited_for_only_so_long(tmp_path):
    path = tmp_path / "history.sqlite"
    fires = Fires(path, lock_wait_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        fires.note("a", "x", 5, [New("one", 1)])
    other.execute("ROLLBACK")
    assert fires.note("a", "x", 5, [New("one", 1)]) == 1
    other.close()
    fires.close()
