"""Rows of an outbox in a real PostgreSQL server come once each, whatever ends in between."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from bourne.connect import outbox as outbox_module
from bourne.connect.outbox import PostgresOutbox
from bourne.errors import DefinitionError, SourceFailed, Unreachable, ValueMismatch
from connect.following import Followed, log
from waiting import until

COLUMNS = {"id": "bigint", "body": "varchar"}


@pytest.fixture
def sql(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE events (id bigserial PRIMARY KEY, body text, processed_at timestamptz)"
        )
        yield connection


@pytest.fixture
def follow(database: str) -> Iterator[Callable[..., Followed]]:
    made: list[Followed] = []

    def make(more: str = "", **columns: str) -> Followed:
        info = log("append", **(columns or COLUMNS))
        url = f"{database}?outbox=events&order=id{more}"
        made.append(Followed(info, lambda _: PostgresOutbox(url, info, name="s")))
        return made[-1]

    yield make
    for followed in made:
        followed.crash()


def bodies(followed: Followed) -> list[str]:
    return [record["body"] for record in followed.records]


@pytest.mark.parametrize("more", ["", "&done=processed_at"])
def test_rows_are_taken_in_order_and_deleted_or_marked(sql, follow, more, monkeypatch):
    monkeypatch.setattr(outbox_module, "OUTBOX_ROWS_MAX", 3)
    sql.execute("INSERT INTO events (body) VALUES ('a'), (NULL), ('한국 🎉'), (''), ('e,\"')")
    followed = follow(more)
    followed.until(lambda: len(followed.records) == 5)
    assert bodies(followed) == ["a", None, "한국 🎉", "", 'e,"']
    assert [part.rows.num_rows for part in followed.parts] == [3, 2]
    assert sql.execute("SELECT count(*) FROM events WHERE processed_at IS NULL").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM events").fetchone() == (5 if more else 0,)
    followed.until(lambda: followed.source.lag().records == 0)


def test_a_row_that_becomes_visible_late_is_taken_late(database, sql, follow):
    followed = follow()
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO events (body) VALUES ('early id')")
        sql.execute("INSERT INTO events (body) VALUES ('late id')")
        followed.until(lambda: followed.records)
        followed.crash()
        followed.until(lambda: followed.step() is None)
        slow.commit()
    followed.until(lambda: len(followed.records) == 2)
    assert [record["id"] for record in followed.records] == [2, 1]


@pytest.mark.parametrize("more", ["", "&done=processed_at"])
def test_what_is_in_the_log_but_not_yet_deleted_is_not_taken_again(sql, follow, more):
    sql.execute("INSERT INTO events (body) VALUES ('a'), ('b')")
    followed = follow(more)
    lost = PostgresOutbox.confirm

    def crash_instead(self: PostgresOutbox, position: Any) -> None:
        followed.crash()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresOutbox, "confirm", crash_instead)
        followed.until(lambda: followed.records)
    assert PostgresOutbox.confirm is lost
    assert sql.execute("SELECT count(*) FROM events WHERE processed_at IS NULL").fetchone() == (2,)
    sql.execute("INSERT INTO events (body) VALUES ('c')")
    followed.until(lambda: len(followed.records) >= 3)
    assert bodies(followed) == ["a", "b", "c"]


def test_any_crash_of_either_side_and_each_row_once(postgres, database, sql, follow, monkeypatch):
    monkeypatch.setattr(outbox_module, "OUTBOX_ROWS_MAX", 4)
    chance, followed = random.Random(11), follow()
    written: list[str] = []
    writers: list[Any] = [None, None]
    kills = 0

    def write(number: int) -> None:
        if writers[number] is None:
            writers[number] = (psycopg.connect(database), [])
        connection, mine = writers[number]
        if chance.random() < 0.7:
            mine.append(f"{number}/{len(written)}/{chance.random()}")
            connection.execute("INSERT INTO events (body) VALUES (%s)", [mine[-1]])
        elif chance.random() < 0.7:
            connection.commit()
            written.extend(mine)
            mine.clear()
        else:
            connection.rollback()
            mine.clear()

    for _ in range(500):
        what = chance.random()
        if what < 0.5:
            number = chance.randrange(2)
            try:
                write(number)
            except psycopg.OperationalError:
                assert "commit" not in str(writers[number])
                writers[number] = None
        elif what < 0.93:
            followed.step()
        elif what < 0.99:
            followed.crash()
        elif kills < 2:
            kills += 1
            postgres.kill()
            followed.step()
            for number in range(2):
                if writers[number] is not None:
                    writers[number][0].close()
                writers[number] = None
            postgres.start()
    for connection, mine in filter(None, writers):
        connection.commit()
        written.extend(mine)
        connection.close()
    followed.until(lambda: len(followed.records) >= len(written))
    followed.until(lambda: followed.step() is None)
    assert sorted(bodies(followed)) == sorted(written)
    assert kills


def test_what_cannot_be_is_refused(database, sql, follow):
    for url, words in (
        ("?outbox=nothing&order=id", "no table 'nothing'"),
        ("?outbox=events&order=body", "'body' does not tell"),
        ("?outbox=events&order=no", "no column 'no'"),
        ("?outbox=events&order=id&done=body", "'body' cannot say when"),
        ("?outbox=events", "in which order"),
    ):
        with pytest.raises(DefinitionError, match=words):
            reading = PostgresOutbox(database + url, log("append", **COLUMNS), name="s").read(None, {})
            until(lambda reading=reading: next(reading))
    with pytest.raises(DefinitionError, match="no column 'nn'"):
        follow(nn="int").until(lambda: False)
    with pytest.raises(DefinitionError, match="only ever added"):
        PostgresOutbox(f"{database}?outbox=events&order=id", log("upsert", **COLUMNS), name="s")
    with pytest.raises(SourceFailed, match="not a position"):
        next(
            PostgresOutbox(f"{database}?outbox=events&order=id", log("append", **COLUMNS), name="s").read(
                {"lsn": 1}, {}
            )
        )
    sql.execute("INSERT INTO events (body) VALUES ('no number')")
    with pytest.raises(ValueMismatch, match="'body'"):
        follow(body="int").until(lambda: False)


def test_no_server_and_stopping(database, sql):
    source = PostgresOutbox(
        "postgres://me:hidden@127.0.0.1:1/db?outbox=t&order=id", log("append", **COLUMNS), name="s"
    )
    with pytest.raises(Unreachable) as caught, contextlib.closing(source.read(None, {})) as reading:
        until(lambda: next(reading))
    assert "hidden" not in str(caught.value)
    source = PostgresOutbox(f"{database}?outbox=events&order=id", log("append", **COLUMNS), name="s")
    reading = source.read(None, {})
    assert next(reading) is None
    source.stop()
    source.stop()
    assert all(part is None for part in reading)
