"""A table under load, its changes, a log, views, and a sink of each kind, while the app and every server is killed with -9.

At the end each sink holds what its view says, and that is what DuckDB says over the table: none lost, none twice.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

import bourne
from servers.kafka_reader import newest_values
from waiting import until

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer
    from servers.redis import RedisServer

psycopg = pytest.importorskip("psycopg")

SECONDS = 600 if os.environ.get("BOURNE_LONG") else 15
SEED = int(os.environ.get("BOURNE_SEED", "0")) or random.SystemRandom().randrange(1 << 30)

CHANGES = (
    "INSERT INTO orders VALUES (%(key)s, %(who)s, %(amount)s, NULL) ON CONFLICT (id) DO UPDATE SET amount = excluded.amount",
    "INSERT INTO orders SELECT i, %(who)s, i %% 40, repeat('x', 3000) FROM generate_series(%(key)s, %(key)s + 50) i ON CONFLICT DO NOTHING",
    "UPDATE orders SET amount = %(amount)s WHERE id BETWEEN %(key)s AND %(key)s + 20",
    "UPDATE orders SET who = %(who)s WHERE id = %(key)s",
    "UPDATE orders SET id = id + 10000 WHERE id = %(key)s",
    "DELETE FROM orders WHERE id BETWEEN %(key)s AND %(key)s + 5",
)


class Load:
    """Changes the table until it is told to stop, whatever becomes of the server."""

    def __init__(self, database: str, rng: random.Random) -> None:
        self._database = database
        self._rng = rng
        self._stop = threading.Event()
        self.transactions = 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._database, connect_timeout=5) as connection:
                    while not self._stop.is_set():
                        self._change(connection)
            except psycopg.OperationalError:
                self._stop.wait(0.05)  # it is dead just now

    def _change(self, connection: Any) -> None:
        rng = self._rng
        values = {
            "key": rng.randint(1, 2000),
            "amount": rng.randint(-9, 60),
            "who": rng.choice(["ann", "버스", "🚲", "bo"]),
        }
        try:
            for _ in range(rng.randint(1, 4)):
                connection.execute(rng.choice(CHANGES), values)
        except psycopg.errors.UniqueViolation:  # a key that was moved twice
            connection.rollback()
            return
        if rng.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()
            self.transactions += 1

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


class Life:
    """The app as a process."""

    def __init__(self, environment: dict[str, str], data: Path) -> None:
        self._command = [
            sys.executable, "-c", "from bourne.cli import main; main()", "run",
            str(Path(__file__).with_name("connectors_app.py")), "--data", str(data),
        ]  # fmt: skip
        self._environment = environment
        self._said = data.parent / "said"
        self.start()

    def start(self) -> None:
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def check(self) -> None:
        assert self._process.poll() is None, f"the app has ended:\n{self._said.read_text()[-3000:]}"

    def kill(self) -> None:
        self.check()
        self._process.kill()
        self._process.wait()


def test_everything_is_killed(
    postgres: PostgresServer, redis: RedisServer, kafka: KafkaServer, database: str, tmp_path: Path
) -> None:
    print(f"BOURNE_SEED={SEED}")
    rng = random.Random(SEED)
    with psycopg.connect(database) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, who text, amount bigint NOT NULL, note text)"
        )
        connection.execute(
            "INSERT INTO orders SELECT i, 'u' || i % 7, i % 50, 'n' FROM generate_series(1, 3000) i"
        )
    topic = f"spend_{SEED}_{os.getpid()}"
    environment = {
        **os.environ,
        "CHAOS_SOURCE": f"{database}?table=orders",
        "CHAOS_POSTGRES": f"{database}?table=spend",
        "CHAOS_LARGE": f"{database}?table=large",
        "CHAOS_REDIS": redis.url(f"prefix={topic}:"),
        "CHAOS_KAFKA": f"kafka://{kafka.bootstrap}/{topic}",
        "CHAOS_PARQUET": f"parquet:{tmp_path}/large/",
    }
    data = tmp_path / "data"
    life = Life(environment, data)
    until(
        lambda: life.check() or (tmp_path / "large").exists(), what="the app"
    )  # it is open: its log is made
    load = Load(database, random.Random(SEED + 1))
    deaths = {"app": 0, "postgres": 0, "redis": 0, "kafka": 0}
    pace = threading.Event()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            pace.wait(rng.uniform(0.1, 3))
            victim = rng.choice(["app", "app", "app", "postgres", "redis", "kafka"])
            deaths[victim] += 1
            if victim == "app":
                life.kill()
                life.start()
            else:
                server = {"postgres": postgres, "redis": redis, "kafka": kafka}[victim]
                server.kill()
                pace.wait(rng.uniform(0, 1))
                server.start()
                life.check()
    finally:
        load.end()
        life.kill()
    print(f"{load.transactions} transactions, killed: {deaths}")
    monkey = pytest.MonkeyPatch()
    with monkey.context() as context:
        for name, value in environment.items():
            context.setenv(name, value)
        check(database, redis, kafka, topic, tmp_path)


def check(database: str, redis: RedisServer, kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    """Bring everything to its end, and compare."""
    from bourne.loading import load_app  # noqa: PLC0415

    with bourne.open(
        load_app(Path(__file__).with_name("connectors_app.py")), data=tmp_path / "data"
    ) as instance:
        instance.run(until_caught_up=True)
        spend = set(instance.query("SELECT who, total, n FROM spend").fetchall())
        large = set(instance.query("SELECT id, who, amount FROM large").fetchall())
        dead = instance.dead_letters.all()
    assert dead == []
    with psycopg.connect(database) as connection, duckdb.connect() as oracle:
        oracle.execute("CREATE TABLE orders (id BIGINT, who VARCHAR, amount BIGINT)")
        oracle.executemany(
            "INSERT INTO orders VALUES (?, ?, ?)",
            connection.execute("SELECT id, who, amount FROM orders").fetchall(),
        )
        assert spend == set(
            oracle.sql("SELECT who, sum(amount), count(*) FROM orders GROUP BY who").fetchall()
        )
        assert large == set(oracle.sql("SELECT id, who, amount FROM orders WHERE amount > 20").fetchall())
        assert spend == set(connection.execute("SELECT who, total, n FROM spend").fetchall())
        assert large == set(connection.execute("SELECT id, who, amount FROM large").fetchall())
        kept = oracle.sql(
            f"SELECT id, who, amount, sum(__weight) FROM '{tmp_path}/large/*.parquet' GROUP BY ALL HAVING sum(__weight) <> 0"
        ).fetchall()
    assert sorted(kept) == sorted((*row, 1) for row in large)
    client = redis.client()
    held = [client.hgetall(key) for key in client.keys(f"{topic}:*") if b"%" not in key]
    assert {(each[b"who"].decode(), int(each[b"total"]), int(each[b"n"])) for each in held} == spend
    told = newest_values(kafka.bootstrap, topic)
    assert {(row["who"], int(row["total"]), row["n"]) for row in map(json.loads, told.values())} == spend
