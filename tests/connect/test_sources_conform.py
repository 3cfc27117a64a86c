"""Every source passes `check_source`; of those that cannot repeat what they hand over less is asked."""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from bourne.connect.files_taken import FilesTaken
from bourne.connect.lines import StreamLines, TcpLines
from bourne.connect.sources import Surroundings, open_source
from bourne.log.catalog import LogInfo
from bourne.log.relation import stored_schema
from bourne.schema import declare_schema
from bourne.testing import SOURCE_CHECKS, SimulatedClock, check_source
from servers.proxy import Proxy
from waiting import until

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer

ROWS = declare_schema({"id": "bigint not null", "text": "varchar"}, where="test")
LOG = LogInfo("taken", ROWS)
CLOCK = SimulatedClock(4_000_000_000_000_000)


def around(log: LogInfo, noted: list[pa.RecordBatch] | None = None) -> Surroundings:
    batches: list[pa.RecordBatch] = [] if noted is None else noted

    def note(rows: pa.Table) -> None:
        batches.extend(rows.to_batches())

    return Surroundings(
        log,
        CLOCK,
        lambda name: FilesTaken(name, note, lambda: batches),
        log.schema.to_arrow().empty_table,
        lambda *_, **__: pytest.fail("what is read is appended by the intake"),
    )


def records(numbers: Iterator[int], count: int) -> list[dict[str, Any]]:
    return [{"id": number, "text": f"버스 🚌 {number}"} for number in itertools.islice(numbers, count)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("check", SOURCE_CHECKS)
def test_files(check: str, kind: str, tmp_path: Path) -> None:
    numbers, names, noted = itertools.count(), itertools.count(), list[pa.RecordBatch]()
    more: dict[str, Any] = {}

    def write(rows: list[dict[str, Any]]) -> None:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        if kind == "csv":
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (tmp_path / f"{next(names):06}.{kind}").write_text("".join(f"{line}\n" for line in lines))

    def produce(count: int) -> list[dict[str, Any]]:
        rows = records(numbers, count)
        write([{**row, **more} for row in rows])
        return rows

    check_source(
        lambda: open_source(f"{tmp_path}/?settle=0", around(LOG, noted)), LOG, produce, only=[check],
        produce_bad=lambda: write([{"id": "nobody"}]), add_column=lambda: more.update(extra=1),
    )  # fmt: skip


@pytest.fixture
def sql(database: str) -> Iterator[Any]:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id bigint PRIMARY KEY, text text)")
        yield connection


def insert(database: str, rows: list[dict[str, Any]]) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%(id)s, %(text)s)", rows)


@contextmanager
def killed(server: PostgresServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize("check", SOURCE_CHECKS)
def test_changes_of_a_table(check: str, postgres: PostgresServer, database: str, sql: Any) -> None:
    log = LogInfo("taken", stored_schema(ROWS), key="id", changes="before_after")
    numbers = itertools.count()

    def produce(count: int) -> list[dict[str, Any]]:
        rows = records(numbers, count)
        insert(database, rows)
        return [{"after": row} for row in rows]

    with Proxy(postgres.port) as proxy:
        address = (
            database if check != "slow_peer" else database.replace(f":{postgres.port}", f":{proxy.port}")
        )
        check_source(
            lambda: open_source(f"{address}?table=t", around(log)), log, produce, only=[check],
            add_column=lambda: sql.execute("ALTER TABLE t ADD COLUMN extra int DEFAULT 7"),
            outage=lambda: killed(postgres), slowness=proxy.slowness, seeds=[1],
        )  # fmt: skip
    drop_slots(database)


def drop_slots(database: str) -> None:
    """Let the server forget what this test has followed."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active"
        )


@pytest.mark.parametrize("check", SOURCE_CHECKS)
def test_an_outbox(check: str, postgres: PostgresServer, database: str, sql: Any) -> None:
    numbers = itertools.count()

    def produce(count: int) -> list[dict[str, Any]]:
        rows = records(numbers, count)
        insert(database, rows)
        return rows

    with Proxy(postgres.port) as proxy:
        address = (
            database if check != "slow_peer" else database.replace(f":{postgres.port}", f":{proxy.port}")
        )
        check_source(
            lambda: open_source(f"{address}?outbox=t&order=id", around(LOG)), LOG, produce, only=[check],
            add_column=lambda: sql.execute("ALTER TABLE t ADD COLUMN extra int DEFAULT 7"),
            outage=lambda: killed(postgres), slowness=proxy.slowness, seeds=[1],
        )  # fmt: skip


@pytest.mark.parametrize("check", SOURCE_CHECKS)
def test_a_topic(check: str, kafka: KafkaServer) -> None:
    pytest.importorskip("confluent_kafka")
    from confluent_kafka import Producer  # noqa: PLC0415

    from connect.kafka_topics import new_topic  # noqa: PLC0415

    log = LogInfo("taken", ROWS, key="id", partitions=2)
    topic, numbers, more = new_topic(kafka, 2), itertools.count(), dict[str, Any]()
    servers = kafka.proxy.url_host if check == "slow_peer" else kafka.bootstrap
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})

    def send(texts: list[str]) -> None:
        for number, text in enumerate(texts):
            producer.produce(topic, text.encode(), partition=number % 2)
        assert producer.flush(30) == 0

    def produce(count: int) -> list[dict[str, Any]]:
        rows = records(numbers, count)
        send([json.dumps({**row, **more}) for row in rows])
        return rows

    check_source(
        lambda: open_source(f"kafka://{servers}/{topic}", around(log)), log, produce, only=[check],
        produce_bad=lambda: send(["rubbish"]), add_column=lambda: more.update(extra=1),
        slowness=kafka.proxy.slowness, seeds=[1],
    )  # fmt: skip


# --- those that cannot repeat: they are checked for what they promise ---


def test_clients_of_a_port() -> None:
    log = LogInfo("taken", ROWS)
    free = TcpLines("127.0.0.1", 0, log, CLOCK, kind="jsonl")
    port = free.address[1]
    free.stop()
    numbers = itertools.count()
    with ThreadPoolExecutor() as clients:
        sent: list[Future[None]] = []

        def send(data: bytes) -> None:
            with until(lambda: _connected(port), what="a port that listens") as client:
                client.sendall(data)

        def produce(count: int) -> list[dict[str, Any]]:
            rows = records(numbers, count)
            sent.append(clients.submit(send, "".join(f"{json.dumps(row)}\n" for row in rows).encode()))
            return rows

        check_source(lambda: TcpLines("127.0.0.1", port, log, CLOCK, kind="jsonl"), log, produce)
        for each in sent:
            each.result()


def _connected(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port))
    except ConnectionRefusedError:
        return None


def test_standard_input() -> None:
    log, numbers = LogInfo("taken", ROWS), itertools.count()
    pending: list[bytes] = []  # for the next one that reads
    readers: list[Piped] = []

    class Piped(StreamLines):
        def __init__(self) -> None:
            reading, self.writing = os.pipe()
            super().__init__(os.fdopen(reading, "rb"), log, CLOCK, kind="jsonl")
            readers.append(self)
            os.write(self.writing, b"".join(pending))
            pending.clear()

        def stop(self) -> None:
            super().stop()
            if self in readers:
                readers.remove(self)
                os.close(self.writing)

    def produce(count: int) -> list[dict[str, Any]]:
        rows = records(numbers, count)
        lines = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        if readers:
            os.write(readers[-1].writing, lines)
        else:
            pending.append(lines)
        return rows

    check_source(Piped, log, produce)
