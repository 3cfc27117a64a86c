"""How fast do records come in and go out, next to what else would read or write them?

Each source brings the same records that the reference reads, from its start until the last one is durable in the log; each
sink writes the same rows, from its start until it has caught up. Ours and each reference in turn in the same run, medians of
rounds, and the ratio is what counts. Run with `make bench-connectors`; it writes docs/benchmarks_connectors.md.
"""

from __future__ import annotations

import gc
import io
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv

import bourne
from benchmarks.main_path import SCHEMA, make_events, timed
from bourne.connect.row_texts import json_rows
from bourne.log.catalog import partition_folder
from bourne.log.wake import Wake

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # for the servers

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer

ROWS = int(os.environ.get("BOURNE_BENCH_ROWS", str(1_000_000)))
ROUNDS = int(os.environ.get("BOURNE_BENCH_ROUNDS", str(5)))
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks_connectors.md"

# Changes of a PostgreSQL table come in transactions of so many: inserts, updates, deletes.
TRANSACTION = {"insert": 600, "update": 300, "delete": 100}

# What the bare consumer asks for at once, as our source does.
_MESSAGES = 10_000

# Looking whether all is there takes time from the one at work: only when something was appended, or at last after so long.
_LOOK_S = 1.0


@dataclass(frozen=True)
class Line:
    """One measured thing: of how many rows, and the median seconds of ours and of the reference."""

    what: str
    rows: int
    ours_s: float
    reference: str
    reference_s: float
    aim: float

    @property
    def ratio(self) -> float:
        """How fast ours is, where 1 is as fast as the reference."""
        return self.reference_s / self.ours_s

    def markdown(self) -> str:
        """Return a table row."""
        return (
            f"| {self.what} | {self.rows / self.ours_s / 1e3:,.0f} | {self.reference} | "
            f"{self.rows / self.reference_s / 1e3:,.0f} | {self.ratio:.2f} | {self.aim} |"
        )


def in_turn(rounds: int, *actions: Callable[[], float]) -> list[float]:
    """Do all actions, which say how long they took, in turn; return the median of each. The first time does not count."""
    seconds = [[action() for action in actions] for _ in range(rounds + 1)][1:]
    return [statistics.median(each) for each in zip(*seconds, strict=True)]


# --- ours ------------------------------------------------------------------------------------------------


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Give the path of a folder that is deleted afterwards."""
    path = parent / uuid.uuid4().hex
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def bring(app: bourne.App, data: Path, rows: int) -> float:
    """Run an app's source until its log has so many records; return the seconds."""
    with bourne.open(app, data=data) as instance:
        log, stop = instance.log("events"), threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                instance.run(stop=stop)
            except BaseException as error:  # noqa: BLE001  (raised below)
                failures.append(error)

        thread = threading.Thread(target=run)
        start = time.perf_counter()
        with Wake([partition_folder(log.folder, each) for each in range(log.info.partitions)]) as wake:
            thread.start()
            while thread.is_alive() and sum(log.end_offsets()) < rows:
                wake.wait(_LOOK_S)
        seconds = time.perf_counter() - start
        stop.set()
        thread.join()
        if failures:
            raise failures[0]
        assert sum(log.end_offsets()) == rows
    return seconds


def take_in(url: str, folder: Path, rows: int, *, schema: Mapping[str, str] = SCHEMA) -> float:
    """Return how long a source takes to bring its records into a new log."""
    app = bourne.App("bench")
    app.log("events", schema=schema)
    app.source(url, into="events")
    with new_folder(folder) as data:
        return bring(app, data, rows)


# --- files -----------------------------------------------------------------------------------------------


def measure_files(folder: Path, events: pa.Table, rounds: int) -> list[Line]:
    """Read a file of CSV and one of JSON lines, next to DuckDB's readers."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in SCHEMA.items())
    (folder / "csv").mkdir()
    (folder / "jsonl").mkdir()
    pa_csv.write_csv(events, folder / "csv" / "events.csv")
    with (folder / "jsonl" / "events.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in json_rows(events))
    lines = []
    for kind, title in (("csv", "CSV"), ("jsonl", "JSON lines")):
        path = folder / kind / f"events.{kind}"
        reader = {
            "csv": f"read_csv('{path}', header = true, columns = {{{columns}}})",
            "jsonl": f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})",
        }[kind]

        def ours() -> float:
            return take_in(f"{path.parent}/?settle=0", folder, events.num_rows)  # noqa: B023

        def duckdb_reads() -> float:
            with duckdb.connect() as connection:
                return timed(lambda: connection.execute(f"CREATE TABLE events AS FROM {reader}"))  # noqa: B023

        ours_s, reference_s = in_turn(rounds, ours, duckdb_reads)
        reference = f"DuckDB's read_{kind.removesuffix('l')} into memory"
        lines.append(
            Line(f"{title}: file to durable log", events.num_rows, ours_s, reference, reference_s, 0.5)
        )
    return lines


# --- Kafka -----------------------------------------------------------------------------------------------


def measure_kafka(server: KafkaServer, folder: Path, events: pa.Table, rounds: int) -> list[Line]:
    """Read a topic, next to a consumer that does nothing with the messages."""
    topic = fill_topic(server, json_rows(events))
    logs = {"json": SCHEMA, "text": {"value": "varchar"}, "bytes": {"value": "blob"}}

    def ours(kind: str) -> Callable[[], float]:
        url = f"kafka://{server.bootstrap}/{topic}?format={kind}"
        return lambda: take_in(url, folder, events.num_rows, schema=logs[kind])

    def bare() -> float:
        return timed(lambda: consume(server.bootstrap, topic, events.num_rows))

    *seconds, bare_s = in_turn(rounds, *map(ours, logs), bare)
    titles = ("JSON into columns", "as text", "as bytes")
    return [
        Line(f"Kafka, {title}: topic to durable log", events.num_rows, each,
             "confluent-kafka's bare consumer", bare_s, 0.8)
        for title, each in zip(titles, seconds, strict=True)
    ]  # fmt: skip


def fill_topic(server: KafkaServer, values: Iterator[str]) -> str:
    """Make a topic of one partition with these messages; return its name."""
    from confluent_kafka import Producer  # noqa: PLC0415
    from confluent_kafka.admin import AdminClient, NewTopic  # noqa: PLC0415

    name = f"bench-{uuid.uuid4().hex[:12]}"
    settings = {"bootstrap.servers": server.bootstrap, "log_level": 0}
    asking = AdminClient(settings)  # it must live until the answer is there
    asking.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    producer = Producer({**settings, "linger.ms": 50, "queue.buffering.max.messages": 2_000_000})
    for value in values:
        while True:
            try:
                producer.produce(name, value=value)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    return name


def consume(bootstrap: str, topic: str, count: int) -> None:
    """Read so many messages of a topic, with the settings of our source."""
    from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415

    from bourne.connect.kafka_source import FETCH  # noqa: PLC0415

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False, "log_level": 0,
            "enable.auto.offset.store": False, "isolation.level": "read_committed",
            **{name.replace("_", "."): value for name, value in FETCH.items()},
        }
    )  # fmt: skip
    gc.freeze()  # as in a process that has loaded nothing else: what is ours is not looked through for garbage
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while count > 0:
            count -= len(consumer.consume(min(_MESSAGES, count), 1.0))
    finally:
        consumer.close()
        gc.unfreeze()


# --- changes of PostgreSQL -------------------------------------------------------------------------------


def measure_changes(server: PostgresServer, folder: Path, rows: int, rounds: int) -> list[Line]:
    """Read one backlog of changes, from a slot of its own each time, next to pg_recvlogical."""
    import psycopg  # noqa: PLC0415

    address = new_database(server)
    ours_slots, their_slots = ([f"{who}_{n}" for n in range(rounds + 1)] for who in ("ours", "theirs"))
    with psycopg.connect(address, autocommit=True) as connection, ExitStack() as ending:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, who text, amount numeric(10,2), at timestamp)"
        )
        connection.execute("CREATE PUBLICATION bench FOR TABLE orders")
        waiting = []
        for slot in ours_slots:
            data = ending.enter_context(new_folder(folder))
            follow(address, slot, data)
            waiting.append((slot, data))
        for slot in their_slots:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        changes = make_changes(connection, rows)
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None

        def ours() -> float:
            slot, data = waiting.pop()
            return bring(following(address, slot), data, changes)

        def receive() -> float:
            command = [
                server.programs / "pg_recvlogical", "--dbname", address, "--slot", their_slots.pop(), "--start",
                "--file", "/dev/null", "--endpos", row[0], "--no-loop",
                "-o", "proto_version=1", "-o", "publication_names=bench",
            ]  # fmt: skip
            return timed(lambda: subprocess.run(command, check=True, capture_output=True))

        ours_s, reference_s = in_turn(rounds, ours, receive)
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
    what = "PostgreSQL, changes of a table: slot to durable log"
    return [Line(what, changes, ours_s, "pg_recvlogical to /dev/null", reference_s, 0.5)]


def following(address: str, slot: str) -> bourne.App:
    """Return an app that follows the table from a slot."""
    app = bourne.App("bench")
    app.log(
        "events", key="id", changes="upsert", tombstone="gone",
        schema={"id": "bigint not null", "who": "varchar", "amount": "decimal(10,2)", "at": "timestamp", "gone": "boolean"},
    )  # fmt: skip
    app.source(f"{address}?table=orders&slot={slot}&publication=bench", into="events")
    return app


def follow(address: str, slot: str, data: Path) -> None:
    """Take the (empty) table over, which makes the slot."""
    with bourne.open(following(address, slot), data=data) as instance:
        instance.run(until_caught_up=True)


def make_changes(connection: Any, count: int) -> int:
    """Insert, update and delete in transactions of some changes each; return how many changes that were."""
    each = sum(TRANSACTION.values())
    inserted = TRANSACTION["insert"]
    for number in range(max(1, count // each)):
        first = number * inserted
        with connection.transaction():
            connection.execute(
                "INSERT INTO orders SELECT id, 'user-' || id %% 1000, (id %% 100000) / 100.0, "
                "timestamp '2026-01-01' + id * interval '1 ms' FROM generate_series(%s::bigint, %s) AS id",
                [first, first + inserted - 1],
            )
            connection.execute(
                "UPDATE orders SET amount = amount + 1 WHERE id BETWEEN %s AND %s",
                [first, first + TRANSACTION["update"] - 1],
            )
            connection.execute(
                "DELETE FROM orders WHERE id BETWEEN %s AND %s", [first, first + TRANSACTION["delete"] - 1]
            )
    return max(1, count // each) * each


def new_database(server: PostgresServer) -> str:
    """Make a database; return its address."""
    import psycopg  # noqa: PLC0415

    name = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url(name)


# --- into PostgreSQL -------------------------------------------------------------------------------------

# The columns of SCHEMA as our sink makes them.
_COLUMNS = '"k" bigint, "user" text, "price" numeric(10,2), "v" double precision, "at" timestamp'

# Rows of COPY text in one piece: about 5 MB.
_PIECE = 1 << 16


def measure_sink(server: PostgresServer, folder: Path, events: pa.Table, rounds: int) -> list[Line]:
    """Write rows into a new table, next to COPY of the same rows: as psycopg makes them of values, and ready-made."""
    import psycopg  # noqa: PLC0415

    address = new_database(server)
    rows = events.set_column(0, "k", pa.array(range(events.num_rows), pa.int64()))
    values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    pieces = copy_texts(rows)
    newer = rows.set_column(3, "v", pa.chunked_array([rows.column("v").combine_chunks()[::-1]]))
    with psycopg.connect(address, autocommit=True) as connection:

        def copied(write: Callable[[Any], None], *, has_key: bool) -> float:
            unique = ', UNIQUE NULLS NOT DISTINCT ("k")' if has_key else ""
            connection.execute(f"DROP TABLE IF EXISTS theirs; CREATE TABLE theirs ({_COLUMNS}{unique})")
            return timed(lambda: in_one_copy(connection, write))

        def by_values(copy: Any) -> None:
            for row in values:
                copy.write_row(row)

        def ready_made(copy: Any) -> None:
            for piece in pieces:
                copy.write(piece)

        def ours(key: str = "") -> float:
            connection.execute("DROP TABLE IF EXISTS ours, bourne_positions")
            return deliver(address, folder, rows, key=key)[0]

        def replaced() -> float:
            connection.execute("DROP TABLE IF EXISTS ours, bourne_positions")
            return deliver(address, folder, rows, newer, key="k")[1]

        def upserted() -> float:
            copied(ready_made, has_key=True)
            return timed(lambda: in_one_upsert(connection, ready_made))

        append_s, values_s, ready_s = in_turn(
            rounds, ours, lambda: copied(by_values, has_key=False), lambda: copied(ready_made, has_key=False)
        )
        key_s, key_ready_s = in_turn(rounds, lambda: ours("k"), lambda: copied(ready_made, has_key=True))
        again_s, upsert_s = in_turn(rounds, replaced, upserted)
    count, by_text = events.num_rows, "COPY of ready-made text"
    return [
        Line("PostgreSQL, rows added: log to committed", count, append_s, "psycopg's COPY, row by row", values_s, 0.5),
        Line("PostgreSQL, rows added: log to committed", count, append_s, by_text, ready_s, 0.5),
        Line("PostgreSQL, by key, all keys new", count, key_s, f"{by_text}, same key", key_ready_s, 0.5),
        Line("PostgreSQL, by key, all keys there", count, again_s,
             f"{by_text} into a temporary table, one upsert", upsert_s, 0.5),
    ]  # fmt: skip


def deliver(address: str, folder: Path, *changes: pa.Table, key: str) -> list[float]:
    """Return how long a sink takes for each of some appends."""
    app = bourne.App("bench")
    if key:
        app.log("events", schema={**SCHEMA, "k": "bigint not null"}, key=key, changes="upsert")
    else:
        app.log("events", schema=SCHEMA)
    app.sink("events", f"{address}?table=ours", key=key or ())
    seconds = []
    with new_folder(folder) as data, bourne.open(app, data=data) as instance:
        for rows in changes:
            instance.append("events", rows)
            seconds.append(timed(lambda: instance.run(until_caught_up=True)))
    return seconds


def in_one_copy(connection: Any, write: Callable[[Any], None]) -> None:
    """Let one COPY write rows, in one transaction."""
    with connection.transaction(), connection.cursor().copy("COPY theirs FROM STDIN") as copy:
        write(copy)


def in_one_upsert(connection: Any, write: Callable[[Any], None]) -> None:
    """Let one COPY write rows to a temporary table, and from there into the table, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE come ON COMMIT DROP AS SELECT * FROM theirs WITH NO DATA")
        with cursor.copy("COPY come FROM STDIN") as copy:
            write(copy)
        cursor.execute(
            "INSERT INTO theirs SELECT * FROM come ON CONFLICT (k) DO UPDATE SET "
            '"user" = excluded."user", price = excluded.price, v = excluded.v, at = excluded.at'
        )


def copy_texts(rows: pa.Table) -> list[bytes]:
    """Return rows as COPY takes them, in pieces."""
    pieces = []
    for start in range(0, rows.num_rows, _PIECE):
        file = io.BytesIO()
        options = pa_csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pa_csv.write_csv(rows.slice(start, _PIECE), file, options)
        pieces.append(file.getvalue())
    return pieces


# --- the page --------------------------------------------------------------------------------------------


def measure(
    kafka: KafkaServer, postgres: PostgresServer, folder: Path, *, rows: int, rounds: int
) -> list[Line]:
    """Measure everything."""
    events = make_events(rows)
    return [
        *measure_files(folder, events, rounds),
        *measure_kafka(kafka, folder, events, rounds),
        *measure_changes(postgres, folder, rows // 2, rounds),
        *measure_sink(postgres, folder, events, rounds),
    ]


def page(lines: list[Line], *, rows: int, rounds: int) -> str:
    """Return the page."""
    import confluent_kafka  # noqa: PLC0415
    import psycopg  # noqa: PLC0415

    return PAGE_TEXT.format(
        rows=rows, rounds=rounds, table="\n".join(line.markdown() for line in lines),
        machine=f"{os.cpu_count()} cores, {platform.machine()}",
        versions=f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, PyArrow {pa.__version__}, "
        f"psycopg {psycopg.__version__}, confluent-kafka {confluent_kafka.__version__}, Bourne {bourne.__version__}",
    )  # fmt: skip


def main() -> None:
    """Start the servers, measure, and write the page."""
    from servers import kafka, postgres  # noqa: PLC0415

    jars, programs = kafka.find(), postgres.find()
    if jars is None or programs is None:
        sys.exit("this needs Kafka and PostgreSQL: make servers")
    folder = Path(tempfile.mkdtemp(prefix="bourne-bench-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, folder)
        (folder / "kafka").mkdir()
        broker, server = kafka.KafkaServer(jars, folder / "kafka"), postgres.PostgresServer(programs)
        ending.callback(broker.stop)
        ending.callback(server.close)
        broker.start()
        server.start()
        lines = measure(broker, server, folder, rows=ROWS, rounds=ROUNDS)
    text = page(lines, rows=ROWS, rounds=ROUNDS)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


PAGE_TEXT = """# Benchmarks of what comes in and goes out

Written by `make bench-connectors`; do not edit. {rows:,} records of 5 columns (bigint, varchar, decimal, double, timestamp),
half as many changes; median of {rounds} rounds, ours and the references in turn in the same run, each done once untimed
before. The ratio is what counts: more than 1 means that Bourne is faster than the reference. {machine}; {versions}.

| what | 1,000/s | reference | 1,000/s | ratio | aim |
|---|---:|---|---:|---:|---:|
{table}

Ours is all of it: a source from its start (connecting, asking where it stands) until its last record is durable in the log,
with hashes, checksums and fsync; a sink from its start until the rows and its position are committed. The references keep
nothing on a disk, but for PostgreSQL's own tables. Both have all cores of the machine, which the servers are on as well.

Where the time goes. **Files:** finding and reading the values takes most of it (JSON's on two cores, half of a block on each); the
file is hashed before (each content once), and the log's hashes and fsync run beside the reading of the next batch. **Kafka:** a bare consumer is busy with
making message objects, one after another, and so is ours, for as long; what it adds (taking the bytes out of them, parsing,
Arrow, hashes, fsync) runs on a second core, if the broker leaves one. On two cores that are shared with the broker, the
ratio is that of the processor time. Python's garbage collector, which would look through all that is loaded while messages are
made, is kept from that in both. **PostgreSQL:** most is the server's: decoding its WAL, filling the table and its index.
"""

if __name__ == "__main__":
    main()
