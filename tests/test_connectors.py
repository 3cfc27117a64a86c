"""From servers through views to servers, whatever is killed on the way: every sink holds what the view says."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import bourne
from bourne.errors import DefinitionError
from servers.kafka_reader import newest_values
from waiting import until

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer
    from servers.redis import RedisServer

psycopg = pytest.importorskip("psycopg")

SPEND = "SELECT who, sum(amount) AS total, count(*) AS n FROM orders GROUP BY who"


def rows_of(database: str, table: str = "spend") -> list[Any]:
    with psycopg.connect(database) as connection:
        return sorted(connection.execute(f"SELECT who, total, n FROM {table}").fetchall(), key=repr)


def is_current(database: str) -> bool:
    try:
        return rows_of(database) == expected(database)
    except psycopg.errors.UndefinedTable:  # the sink has not come to make it
        return False


def expected(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT who, sum(amount), count(*) FROM orders GROUP BY who").fetchall()
    return sorted(found, key=repr)


def make(database: str, *sinks: tuple[str, dict[str, Any]]) -> bourne.App:
    app = bourne.App("shop")
    app.source(f"{database}?table=orders", into="orders")
    app.view("spend", SPEND)
    for url, options in sinks:
        app.sink("spend", url, **options)
    return app


def change(connection: Any, rng: random.Random) -> None:
    """Run a transaction of some changes."""
    for _ in range(rng.randint(1, 5)):
        who, amount, key = rng.choice(["ann", "버스", "🚲"]), rng.randint(-5, 50), rng.randint(1, 60)
        connection.execute(
            rng.choice(
                [
                    "INSERT INTO orders VALUES (%(key)s, %(who)s, %(amount)s) ON CONFLICT (id) DO UPDATE SET amount = 7",
                    "UPDATE orders SET amount = %(amount)s WHERE id < %(key)s",
                    "UPDATE orders SET who = %(who)s WHERE id = %(key)s",
                    "DELETE FROM orders WHERE id = %(key)s",
                ]
            ),
            {"who": who, "amount": amount, "key": key},
        )
    if rng.random() < 0.1:
        connection.rollback()
    else:
        connection.commit()


@pytest.fixture
def shop(database: str) -> str:
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, who text, amount numeric(10,2) NOT NULL)"
        )
        connection.execute("INSERT INTO orders SELECT i, 'u' || i % 7, i FROM generate_series(100, 300) i")
    return database


def test_a_table_is_followed_into_another_database(shop: str, tmp_path: Path) -> None:
    """The log is made of what the table is; each run goes on where the last one ended."""
    app = make(
        shop, (f"{shop}?table=spend", {"key": "who"}), (f"sqlite:{tmp_path}/s.db?table=spend", {"key": "who"})
    )
    rng = random.Random(1)
    for _ in range(4):
        with bourne.open(app, data=tmp_path / "data") as instance:
            instance.run(until_caught_up=True)
            assert rows_of(shop) == expected(shop)
            (source,) = instance.status().sources
            assert (source.state, source.delivery, source.lag_bytes) == (
                "stopped",
                "exactly once",
                0,
            ) or source.error is None
            assert {sink.lag_records for sink in instance.status().sinks} == {0}
        with psycopg.connect(shop) as connection:
            for _ in range(20):
                change(connection, rng)
    with psycopg.connect(shop) as connection:
        connection.execute("TRUNCATE orders")
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.run(until_caught_up=True)
        assert rows_of(shop) == expected(shop) == []


def test_a_log_that_nobody_declared_needs_its_source_once(shop: str, tmp_path: Path) -> None:
    app = make(shop)
    with bourne.open(app, data=tmp_path) as instance:
        assert instance.log("orders").info.key == "id"
        assert instance.log("orders").info.changes == "before_after"
    away = make(shop.replace("127.0.0.1", "127.0.0.2"))
    with bourne.open(away, data=tmp_path) as instance:
        assert instance.query("SELECT count(*) FROM orders").fetchall() == [(0,)]
    with pytest.raises((bourne.Unreachable, DefinitionError)):
        bourne.open(away, data=tmp_path / "other")


@pytest.mark.parametrize("done", ["", "&done=sent_at"])
def test_an_outbox_is_emptied_into_another_database(shop: str, tmp_path: Path, done: str) -> None:
    """Events come in transactions that commit in another order than their ids, and some not at all."""
    with psycopg.connect(shop, autocommit=True) as sql:
        sql.execute(
            "CREATE TABLE outbox (id serial PRIMARY KEY, who text, amount numeric(10,2), sent_at timestamptz)"
        )
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "who": "varchar", "amount": "decimal(10,2)"})
    app.source(f"{shop}?outbox=outbox&order=id{done}", into="orders")
    app.view("spend", SPEND)
    app.sink("spend", f"{shop}?table=spend", key="who")
    rng, kept = random.Random(3), []
    for _ in range(4):
        open_ones = [psycopg.connect(shop) for _ in range(3)]
        for _ in range(30):
            row = [rng.choice(["ann", "버스 🚌"]), rng.randint(-5, 50)]
            connection = rng.choice(open_ones)
            connection.execute("INSERT INTO outbox (who, amount) VALUES (%s, %s)", row)
            if rng.random() < 0.2:
                connection.rollback()
            elif rng.random() < 0.5:
                connection.commit()
        late = open_ones.pop()
        for connection in open_ones:
            connection.commit()
            connection.close()
        with bourne.open(app, data=tmp_path) as instance:
            instance.run(until_caught_up=True)  # some ids before the last one are not to be seen yet
        late.commit()
        late.close()
    with psycopg.connect(shop) as sql, bourne.open(app, data=tmp_path) as instance:
        instance.run(until_caught_up=True)
        rows = instance.query("SELECT id, who, amount FROM orders").fetchall()
        assert len({row[0] for row in rows}) == len(rows) > 40
        assert rows_of(shop) == sorted(instance.query("SELECT who, total, n FROM spend").fetchall(), key=repr)
        if done:
            kept = sql.execute("SELECT id, who, amount FROM outbox WHERE sent_at IS NOT NULL").fetchall()
            assert sorted(rows) == sorted(kept)
        left = sql.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL").fetchall()
        assert left == [(0,)]


def test_servers_are_killed_under_way(
    postgres: PostgresServer, redis: RedisServer, kafka: KafkaServer, shop: str, tmp_path: Path
) -> None:
    """PostgreSQL, Redis and Kafka are killed and come back; the app waits for each, and stands nowhere else still."""
    app = make(
        shop, (f"{shop}?table=spend", {"key": "who"}), (redis.url("prefix=spend:"), {"key": "who"}),
        (f"kafka://{kafka.bootstrap}/spend_{tmp_path.name}", {"key": "who"}), (f"parquet:{tmp_path}/out/", {}),
    )  # fmt: skip
    stop, failed = threading.Event(), []
    rng = random.Random(2)

    def run() -> None:
        try:
            with bourne.open(app, data=tmp_path / "data") as instance:
                instance.run(stop=stop)
        except BaseException as error:  # noqa: BLE001  (raised below)
            failed.append(error)

    running = threading.Thread(target=run)
    running.start()
    try:
        until(lambda: failed or (tmp_path / "out").exists())  # it is open: its log is made
        kill: Callable[[], None]
        start: Callable[[], None]
        for kill, start in (
            (postgres.kill, postgres.start),
            (redis.kill, redis.start),
            (kafka.kill, kafka.start),
        ):
            with psycopg.connect(shop) as connection:
                for _ in range(10):
                    change(connection, rng)
            kill()
            start()
            with psycopg.connect(shop) as connection:
                for _ in range(10):
                    change(connection, rng)
            until(lambda: failed or is_current(shop), what="PostgreSQL to be up to date")
    finally:
        stop.set()
        running.join()
    assert not failed, failed
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.run(until_caught_up=True)
        view = {row[0]: row for row in instance.query("SELECT who, total, n FROM spend").fetchall()}
    assert rows_of(shop) == expected(shop) == sorted(view.values(), key=repr)
    held = {
        key.decode(): redis.client().hgetall(key) for key in redis.client().keys("spend:*") if b"%" not in key
    }
    assert {values[b"who"].decode(): int(values[b"n"]) for values in held.values()} == {
        who: row[2] for who, row in view.items()
    }
    with duckdb.connect() as here:
        kept = here.sql(
            f"SELECT who, total, n FROM '{tmp_path}/out/*.parquet' GROUP BY ALL HAVING sum(__weight) <> 0"
        ).fetchall()
    assert sorted(kept, key=repr) == sorted(view.values(), key=repr)
    told = [json.loads(value) for value in newest_values(kafka.bootstrap, f"spend_{tmp_path.name}").values()]
    assert {row["who"]: row["n"] for row in told} == {who: row[2] for who, row in view.items()}
