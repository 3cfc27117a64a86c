"""The network between us and the servers: cut, slow, dead without a word, answers that are lost or cut short.

Whatever it does: every record once, nothing lost, who is away is noticed soon and shown, the others go on, and a run ends when it
is told to. The schedules are random, by seeds; BOURNE_LONG=1 runs many. `?silence=1` makes a second of the usual 30.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import struct
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bourne
from bourne.connect.kafka_sink import KafkaSink
from bourne.connect.postgres_sink import PostgresSink
from bourne.errors import Unreachable
from bourne.limits import CLOSE_WAIT_S
from bourne.testing.sink_model import make_change
from connect.kafka_topics import committed, new_topic, produce
from connect.running_app import RunningApp
from connect.sink_reading import at, shape
from servers.proxy import Proxy
from waiting import until

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer
    from servers.redis import RedisServer

psycopg = pytest.importorskip("psycopg")

SEEDS = range(8) if os.environ.get("BOURNE_LONG") else range(1)
ROUNDS = 8 if os.environ.get("BOURNE_LONG") else 2
SILENCE = "silence=1"

# A dead peer is noticed within the silence, the two seconds that libpq takes to connect at least, and again the silence of
# who asks after it. The rest is for a busy machine.
NOTICED_S = 20.0


@pytest.fixture
def away(postgres: PostgresServer) -> Iterator[Proxy]:
    """The proxy in front of PostgreSQL."""
    with Proxy(postgres.port) as proxy:
        yield proxy


def behind(database: str, proxy: Proxy) -> str:
    """Return a database's address behind a proxy."""
    return f"postgresql://postgres@{proxy.url_host}/{database.rpartition('/')[2]}"


def rows(database: str, query: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return sorted(connection.execute(query).fetchall(), key=repr)


def wait_out(proxy: Proxy, rng: random.Random, app: RunningApp) -> None:
    """Let a fault last: for a moment, or until somebody has noticed it."""
    seen, asked = len(app.seen), proxy.bytes_asked
    is_long = rng.random() < 0.6
    deadline = time.monotonic() + (6.0 if is_long else rng.uniform(0, 0.5))
    until(
        lambda: (
            time.monotonic() > deadline
            or (is_long and any(each.state == "waiting" for each in app.seen[seen:]))
            or proxy.bytes_asked > asked + 200_000
        )
    )


# --- PostgreSQL ---


@pytest.mark.parametrize("seed", SEEDS)
def test_postgres_in_any_weather(database: str, away: Proxy, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with psycopg.connect(database, autocommit=True) as sql:
        sql.execute("CREATE TABLE orders (id bigint PRIMARY KEY, who text, amount int)")
        sql.execute("CREATE TABLE events (id bigint PRIMARY KEY, body text)")
        sql.execute("INSERT INTO orders SELECT i, 'u' || i % 7, i FROM generate_series(100, 20000) i")
        there = behind(database, away)
        app = bourne.App("shop")
        app.source(f"{there}?table=orders&{SILENCE}", into="orders", name="orders")
        app.log("events", schema={"id": "bigint not null", "body": "varchar"})
        app.source(f"{there}?outbox=events&order=id&{SILENCE}", into="events", name="events")
        app.view("spend", "SELECT who, sum(amount)::bigint AS total, count(*) AS n FROM orders GROUP BY who")
        app.sink("spend", f"{there}?table=spend&{SILENCE}", key="who", name="spend")
        app.sink("events", f"{there}?table=taken&{SILENCE}", name="taken")
        written = 0

        def change() -> None:
            nonlocal written
            for _ in range(30):
                key = rng.randint(1, 300)
                sql.execute(
                    rng.choice(
                        [
                            "INSERT INTO orders VALUES (%(k)s, 'new', 5) ON CONFLICT (id) DO UPDATE SET amount = 7",
                            "UPDATE orders SET amount = amount + 1 WHERE id BETWEEN %(k)s AND %(k)s + 50",
                            "DELETE FROM orders WHERE id BETWEEN %(k)s AND %(k)s + 3",
                        ]
                    ),
                    {"k": key},
                )
                written += 1
                sql.execute("INSERT INTO events VALUES (%s, 'b' || %s)", [written, written])

        def agrees() -> bool:
            wanted = rows(
                database, "SELECT who, sum(amount)::bigint, count(*)::bigint FROM orders GROUP BY who"
            )
            return (
                all(tables())
                and rows(database, "SELECT who, total, n FROM spend") == wanted
                and rows(database, "SELECT id, body FROM taken ORDER BY id")
                == sorted([(n, f"b{n}") for n in range(1, written + 1)], key=repr)
            )

        def tables() -> list[Any]:
            return [
                rows(database, f"SELECT to_regclass('{name}')::text")[0][0] for name in ("spend", "taken")
            ]

        with RunningApp(app, tmp_path / "data") as running:
            faults = []
            for _ in range(ROUNDS):
                faults.append(away.any_fault(rng))
                change()
                wait_out(away, rng, running)
                away.heal(reset=rng.random() < 0.5)
                change()
            running.until(agrees, f"all to be the same after {faults}")
            assert running.instance.query("SELECT count(*) FROM events").fetchall() == [(written,)]
            assert running.stop() < NOTICED_S
        assert rows(database, "SELECT * FROM events") == []


FAULTS = ("lose_answers", "cut", "half_open")


@pytest.mark.parametrize("key", [("k",), ()])
def test_a_commit_whose_answer_is_lost(database: str, away: Proxy, key: tuple[str, ...]) -> None:
    """Was it committed, or not? The sink finds out when it is opened again; in the end each row is there once."""
    wanted = shape(key=key)
    sink = PostgresSink.from_url(f"{behind(database, away)}?table=orders&{SILENCE}", wanted)
    assert sink.open() is None
    for number, fault in enumerate(FAULTS, 1):
        change = make_change(wanted, [{"k": f"{number}-{row}", "n": row} for row in range(20)])
        before = at(number - 1) if number > 1 else None
        away.once(lambda data: b"COMMIT" in data, getattr(away, fault))
        began = time.monotonic()
        with pytest.raises(Unreachable):
            sink.write(change, at(number), before)
        assert time.monotonic() - began < NOTICED_S
        away.heal(reset=number % 2 == 0)
        (held,) = until(lambda: opened(sink), what="PostgreSQL")
        assert held in ([at(number)] if fault == "lose_answers" else [before, at(number)])
        write_at_last(sink, change, at(number), before)
    sink.close()
    expected = sorted((f"{number}-{row}", row) for number in (1, 2, 3) for row in range(20))
    assert sorted(rows(database, "SELECT k, n FROM orders")) == expected


def opened(sink: Any) -> tuple[Any] | None:
    """Open a sink; None if nobody is there yet."""
    try:
        return (sink.open(),)
    except Unreachable:
        return None


def write_at_last(sink: Any, change: Any, position: Any, before: Any) -> None:
    """Write, whatever an earlier try still does: as the delivery does it."""

    def is_written() -> bool:
        held = opened(sink)
        if held is None or held[0] == position:
            return held is not None
        try:
            sink.write(change, position, before)
        except Unreachable:
            return False
        return True

    until(is_written, what="the write")


def test_who_waits_for_a_busy_server_goes_on_waiting(database: str, away: Proxy) -> None:
    """A lock that is held for long is no dead peer: it is told apart by asking."""
    sink = PostgresSink.from_url(f"{behind(database, away)}?table=orders&silence=0.3", shape(key=("k",)))
    sink.open()
    written = threading.Event()
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE orders")

        def write() -> None:
            sink.write(make_change(shape(key=("k",)), [{"k": "a", "n": 1}]), at(1), None)
            written.set()

        writing = threading.Thread(target=write)
        writing.start()
        asked = away.bytes_asked
        # Each question is a connection of its own: three of them pass, and the write still waits.
        until(lambda: away.bytes_asked > asked + 3 * 500, what="questions")
        assert not written.is_set()
    writing.join(30)
    assert written.is_set()
    assert rows(database, "SELECT k, n FROM orders") == [("a", 1)]
    sink.close()


# --- Redis ---


@pytest.fixture
def redis_away(redis: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis.port) as proxy:
        yield proxy


@pytest.mark.parametrize("seed", SEEDS)
def test_redis_in_any_weather(redis: RedisServer, redis_away: Proxy, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    name = uuid.uuid4().hex
    app = bourne.App("shop")
    app.log("events", schema={"who": "varchar", "n": "bigint"})
    app.view("spend", "SELECT who, sum(n)::bigint AS n FROM events GROUP BY who")
    there = f"redis://{redis_away.url_host}/0?{SILENCE}&prefix={name}"
    app.sink("spend", f"{there}:", key="who", name="spend")
    app.sink("events", f"{there}-all&as=stream", name="all")
    app.sink("events", f"sqlite:{tmp_path}/side.db?table=side", name="side")
    client = redis.client()

    def agrees() -> bool:
        entries = [int(entry[b"n"]) for _, entry in client.xrange(f"{name}-all")]
        keys = [key for key in client.keys(f"{name}:*") if b"%" not in key]
        sums = sum(int(client.hget(key, "n")) for key in keys)
        return entries == list(range(written)) and sums == sum(range(written)) and side(tmp_path) == written

    written = 0
    with RunningApp(app, tmp_path / "data") as running:
        for _ in range(ROUNDS):
            if rng.random() < 0.5:
                redis_away.once(lambda data: b"EVALSHA" in data, redis_away.lose_answers)
            else:
                redis_away.any_fault(rng)
            for _ in range(20):
                new = range(written, written + rng.randint(1, 200))
                running.instance.append("events", [{"who": f"u{n % 9}", "n": n} for n in new])
                written = new.stop
            running.until(lambda count=written: side(tmp_path) == count, "the sink beside it")
            wait_out(redis_away, rng, running)
            redis_away.heal(reset=rng.random() < 0.5)
        running.until(agrees, "Redis to have all")
        running.stop()


def side(folder: Path) -> int:
    """Return how many rows the sink without a network has."""
    with contextlib.closing(sqlite3.connect(folder / "side.db")) as database:
        try:
            return int(database.execute("SELECT count(*) FROM side").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # not made yet


# --- Kafka ---


@pytest.fixture
def kafka_away(kafka: KafkaServer) -> Iterator[Proxy]:
    yield kafka.proxy
    kafka.proxy.heal(reset=True)


def asks(number: int) -> Callable[[bytes], bool]:
    """Say of requests to Kafka whether they are of a kind."""
    return lambda data: len(data) > 6 and struct.unpack(">h", data[4:6])[0] == number


END_TRANSACTION = 26


def test_a_transaction_whose_end_is_not_answered(kafka: KafkaServer, kafka_away: Proxy) -> None:
    topic = new_topic(kafka)
    wanted = shape(name=uuid.uuid4().hex)
    sink = KafkaSink(f"kafka://{kafka_away.url_host}/{topic}?silence=2", wanted)
    assert sink.open() is None
    for number, fault in enumerate(FAULTS, 1):
        change = make_change(wanted, [{"k": f"{number}-{row}", "n": row} for row in range(20)])
        before = at(number - 1) if number > 1 else None
        kafka_away.once(asks(END_TRANSACTION), getattr(kafka_away, fault))
        began = time.monotonic()
        with pytest.raises(Unreachable):
            sink.write(change, at(number), before)
        assert time.monotonic() - began < NOTICED_S
        kafka_away.heal(reset=number % 2 == 0)
        write_at_last(sink, change, at(number), before)
    sink.close()
    found = [json.loads(message.value())["k"] for message in committed(kafka, topic)]
    assert found == [f"{number}-{row}" for number in (1, 2, 3) for row in range(20)]


@pytest.mark.parametrize("seed", SEEDS)
def test_kafka_in_any_weather(kafka: KafkaServer, kafka_away: Proxy, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    source, target = new_topic(kafka), new_topic(kafka)
    there = f"kafka://{kafka_away.url_host}"
    app = bourne.App("shop")
    app.log("events", schema={"n": "bigint"})
    app.source(f"{there}/{source}?silence=2", into="events", name="events")
    app.log("own", schema={"n": "bigint"})
    app.sink("events", f"{there}/{target}?silence=2", name=f"all {target}")
    app.sink("own", f"sqlite:{tmp_path}/side.db?table=side", name="side")
    written = own = 0
    with RunningApp(app, tmp_path / "data") as running:
        for _ in range(ROUNDS):
            kafka_away.any_fault(rng)
            produce(kafka, source, [json.dumps({"n": n}).encode() for n in range(written, written + 500)])
            written, own = written + 500, own + 1
            running.instance.append("own", [{"n": own}])
            running.until(lambda count=own: side(tmp_path) == count, "the sink beside it")
            wait_out(kafka_away, rng, running)
            kafka_away.heal(reset=rng.random() < 0.5)
        running.until(
            lambda: running.instance.query("SELECT count(*) FROM events").fetchall()[0][0] >= written, "the source"
        )  # fmt: skip
        running.until(lambda: len(committed(kafka, target)) >= written, "the sink")
        running.stop()
        numbers = running.instance.query("SELECT n FROM events").fetchall()
    assert sorted(n for (n,) in numbers) == list(range(written))
    assert [json.loads(message.value())["n"] for message in committed(kafka, target)] == list(range(written))


# --- S3 ---


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Proxy, str]]:
    """A bucket of a local S3 server: a client of it, the proxy in front of it, and options of a URL behind the proxy."""
    server_module = pytest.importorskip("moto.server")
    store = pytest.importorskip("obstore.store")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("ACCESS_KEY_ID", "us"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/rides", method="PUT")).close()
    config = {"endpoint": f"http://{host}:{port}", "region": "us-east-1"}
    client = store.S3Store("rides", config=config, client_options={"allow_http": True})
    with Proxy(port) as proxy:
        yield client, proxy, f"endpoint=http://{proxy.url_host}&region=us-east-1&{SILENCE}"
    server.stop()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bucket_in_any_weather(bucket: tuple[Any, Proxy, str], tmp_path: Path, seed: int) -> None:
    """A body that is cut short is no whole file: whatever is cut, and where, each row comes once."""
    obstore = pytest.importorskip("obstore")
    client, proxy, options = bucket
    rng = random.Random(seed)
    app = bourne.App("shop")
    app.log("rides", schema={"id": "bigint not null", "text": "varchar"})
    app.source(f"s3://rides/{seed}/?{options}", into="rides", name="rides")
    count = 0
    with RunningApp(app, tmp_path / "data") as running:
        for number in range(4 * ROUNDS):
            new = range(count, count + rng.choice([1, 500, 5000]))
            text = "".join(f'{{"id": {n}, "text": "{"x" * rng.randint(0, 50)}"}}\n' for n in new)
            obstore.put(client, f"{seed}/{number:03}.jsonl", text.encode())
            count = new.stop
            if number % 4 == 0:
                proxy.any_fault(rng)
                wait_out(proxy, rng, running)
                proxy.heal(reset=rng.random() < 0.5)
            else:  # somewhere in the list of files, in a header, or in the body
                proxy.truncate(rng.randint(0, len(text) + 2000))
                running.until(lambda: not proxy.is_truncating, "an answer that is cut short")
        running.until(
            lambda: running.instance.query("SELECT count(*) FROM rides").fetchall()[0][0] >= count, "all files"
        )  # fmt: skip
        running.stop()
        found = running.instance.query("SELECT id FROM rides").fetchall()
    assert sorted(n for (n,) in found) == list(range(count))


# --- all at once ---


def test_all_are_dead_at_once_and_the_run_ends(
    database: str, away: Proxy, redis: RedisServer, redis_away: Proxy, kafka: KafkaServer, kafka_away: Proxy,
    bucket: tuple[Any, Proxy, str], tmp_path: Path,
) -> None:  # fmt: skip
    """Each of them is shown to wait, with a reason; who has no network goes on; and the run ends when it is told to."""
    _, bucket_away, bucket_options = bucket
    proxies = (away, redis_away, kafka_away, bucket_away)
    with psycopg.connect(database) as sql:
        sql.execute("CREATE TABLE orders (id bigint PRIMARY KEY, who text)")
        sql.execute("CREATE TABLE events (id bigint PRIMARY KEY, who text)")
    topic = new_topic(kafka)
    there = behind(database, away)
    app = bourne.App("shop")
    columns = {"id": "bigint not null", "who": "varchar"}
    app.log("own", schema=columns)
    for name, url in {
        "table": f"{there}?table=orders&{SILENCE}",
        "outbox": f"{there}?outbox=events&order=id&{SILENCE}",
        "topic": f"kafka://{kafka_away.url_host}/{topic}?silence=2",
        "bucket": f"s3://rides/{topic}/?{bucket_options}",
    }.items():
        if name != "table":
            app.log(f"from_{name}", schema=columns)
        app.source(url, into=f"from_{name}", name=name)
    for name, url in {
        "pg": f"{there}?table=own&{SILENCE}",
        "redis": f"redis://{redis_away.url_host}/0?{SILENCE}&prefix={topic}&as=stream",
        "kafka": f"kafka://{kafka_away.url_host}/{topic}-out?silence=2",
        "side": f"sqlite:{tmp_path}/side.db?table=side",
    }.items():
        app.sink("own", url, name=f"{name} {topic}")
    names = ["table", "outbox", "topic", "bucket", *(f"{name} {topic}" for name in ("pg", "redis", "kafka"))]

    def are(state: str, which: list[str]) -> bool:
        return {each.name for each in newest(running) if each.state == state} >= set(which)

    with RunningApp(app, tmp_path / "data") as running:
        running.until(lambda: are("running", names), "all to work")
        seen = len(running.seen)
        for proxy in proxies:
            proxy.half_open()
        count = 0

        def all_wait() -> bool:
            nonlocal count  # a sink that has nothing to do does not notice
            count += 1
            running.instance.append("own", [{"id": count, "who": "ann"}])
            running.until(lambda: side(tmp_path) == count, "the sink beside them")
            return {each.name for each in running.seen[seen:] if each.state == "waiting"} >= set(names)

        began = time.monotonic()
        running.until(all_wait, "all to notice")
        assert time.monotonic() - began < NOTICED_S
        status = running.instance.status()  # what `bourne status` shows
        shown = {
            each.name for each in (*status.sources, *status.sinks) if each.state == "waiting" and each.error
        }
        assert shown >= set(names)
        assert running.stop() < CLOSE_WAIT_S + 5


def newest(app: RunningApp) -> list[Any]:
    """Return the newest state of each source and sink."""
    return list({each.name: each for each in app.seen}.values())
