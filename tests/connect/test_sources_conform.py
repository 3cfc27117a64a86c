"""Every source that can repeat what it hands over passes `check_source`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from bourne.connect.files_taken import FilesTaken
from bourne.connect.sources import Surroundings, open_source
from bourne.log.catalog import LogInfo
from bourne.log.relation import stored_schema
from bourne.schema import declare_schema
from bourne.testing import SOURCE_CHECKS, SimulatedClock, check_source
from servers.proxy import Proxy

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
