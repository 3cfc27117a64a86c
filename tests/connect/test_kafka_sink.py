"""Changes into a Kafka topic: each one whole and once, for readers of what is committed, whatever crash came in between."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from bourne.connect import kafka_client, kafka_positions, kafka_sink
from bourne.connect.json_rows import rows_as_json
from bourne.connect.json_text import to_json
from bourne.connect.kafka_sink import KafkaSink
from bourne.connect.kafka_source import KafkaTopic
from bourne.connect.sink import Change, Shape
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import conform, declare_schema
from bourne.testing import SINK_CHECKS, check_sink
from connect.kafka_topics import committed, delete_topic, log_of, make_topic, new_topic, transactional
from connect.sink_reading import HUGE_ROWS, SEEDS, columns_of, table_of_texts
from servers.kafka import KafkaServer
from waiting import until

LONG = bool(os.environ.get("BOURNE_LONG"))

COLUMNS = {"id": "bigint", "name": "varchar"}


def shape(columns: dict[str, str] = COLUMNS, **more: Any) -> Shape:
    return Shape(f"sink-{uuid.uuid4().hex[:12]}", declare_schema(columns, where="test"), **more)


def rows(wanted: Shape, *records: dict[str, Any]) -> pa.Table:
    return conform(list(records), wanted.schema, log="test")


def url(kafka: KafkaServer, topic: str, options: str = "") -> str:
    return f"kafka://{kafka.bootstrap}/{topic}?format=json{options}"


def values(kafka: KafkaServer, topic: str, partitions: int = 1) -> list[Any]:
    return [json.loads(m.value()) for m in committed(kafka, topic, partitions)]


@pytest.fixture
def topic() -> str:
    return f"out-{uuid.uuid4().hex[:12]}"


def numbered(wanted: Shape, start: int, count: int = 3) -> Change:
    return Change(rows(wanted, *({"id": n, "name": f"이름 🙂 {n}"} for n in range(start, start + count))))


# --- every change once ---


def test_rows_and_position_are_there_together(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    assert sink.open() is None
    position = None
    for n in range(5):
        sink.write(numbered(wanted, 3 * n), {"epoch": n, "이름": "🙂"}, position)
        position = {"epoch": n, "이름": "🙂"}
    sink.close()
    sink.close()
    again = KafkaSink(url(kafka, topic), wanted)
    assert again.open() == {"epoch": 4, "이름": "🙂"}
    assert values(kafka, topic) == [{"id": n, "name": f"이름 🙂 {n}"} for n in range(15)]
    again.close()


def test_a_change_without_rows_moves_the_position(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    sink.write(Change(rows(wanted)), 1, None)
    assert sink.open() == 1
    assert values(kafka, topic) == []
    sink.close()


def test_positions_are_kept_by_name(kafka: KafkaServer, topic: str) -> None:
    first, second = shape(), shape()
    for wanted, position in ((first, "a"), (second, "b")):
        sink = KafkaSink(url(kafka, topic), wanted)
        sink.open()
        sink.write(numbered(wanted, 0, 1), position, None)
        sink.close()
    assert [KafkaSink(url(kafka, topic), wanted).open() for wanted in (first, second)] == ["a", "b"]


def test_another_position_than_thought_writes_nothing(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    with pytest.raises(Unreachable):
        sink.write(numbered(wanted, 0), 1, None)
    sink.open()
    with pytest.raises(Unreachable):
        sink.write(numbered(wanted, 0), 2, 1)
    assert sink.open() is None
    assert values(kafka, topic) == []
    sink.close()


def test_a_topic_that_was_made_again_holds_nothing(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    sink.write(numbered(wanted, 0), 1, None)
    sink.close()
    delete_topic(kafka, topic)

    def opened() -> bool:
        try:
            return sink.open() is None
        except (SinkFailed, Unreachable):
            return False  # the brokers are not done with the old one

    until(opened, what="the new topic")
    sink.close()


# --- what every sink does ---

# The rest takes minutes: each sink that is opened asks the broker a lot.
CHECKS = SINK_CHECKS if LONG else ("accepts", "slow_peer", "schema_change")


@pytest.mark.parametrize("check", CHECKS)
def test_it_is_a_sink(kafka: KafkaServer, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "ASK_S", 2.0)
    monkeypatch.setattr(kafka_sink, "_STEP_S", 5.0)
    monkeypatch.setattr(kafka_sink, "_TRANSACTION_S", 6.0 if check == "outage" else 60.0)
    made, run = set[str](), uuid.uuid4().hex[:8]
    deaths = 0

    def topic_of(wanted: Shape) -> str:
        return f"{run}-{hashlib.sha256(wanted.name.encode()).hexdigest()[:12]}"

    def sink_of(wanted: Shape) -> KafkaSink:
        topic = topic_of(wanted)
        if topic not in made:
            made.add(topic)
            make_topic(kafka, topic, max_message_bytes="4000000")
        servers = kafka.proxy.url_host if check == "slow_peer" else kafka.bootstrap
        return KafkaSink(f"kafka://{servers}/{topic}?silence=5", replace(wanted, name=f"{run}-{wanted.name}"))

    @contextmanager
    def outage() -> Iterator[None]:
        kafka.kill()
        yield
        kafka.start()

    @contextmanager
    def crash(wanted: Shape, point: int) -> Iterator[KafkaSink]:
        nonlocal deaths
        deaths += 1
        sink, left = sink_of(wanted), itertools.count(point, -1)
        monkeypatch.setattr(
            kafka_sink, "make", lambda *args, **more: Dying(kafka_client.make(*args, **more), left)
        )
        yield sink
        monkeypatch.undo()

    check_sink(
        sink_of, lambda wanted: held(kafka, topic_of(wanted), wanted), only=[check], outage=outage,
        slowness=kafka.proxy.slowness, crash=crash,
        seeds=SEEDS, huge_rows=HUGE_ROWS, held_as={"JSON": {"'null'": "NULL"}},
    )  # fmt: skip
    assert check != "crashes" or deaths > 10


def held(kafka: KafkaServer, topic: str, wanted: Shape) -> pa.Table:
    """Return the rows that the messages of a topic sum up to."""
    messages = committed(kafka, topic)
    if wanted.key:
        latest = {message.key(): message.value() for message in messages}
        texts = [value for value in latest.values() if value is not None]
    else:
        texts = [message.value() for message in messages]
    found = [json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in texts]
    as_text = {
        column.name: [_text(row[column.name], column.type) for row in found] for column in columns_of(wanted)
    }
    return table_of_texts(as_text, wanted)


def _text(value: Any, kind: str) -> Any:
    if kind == "BLOB":
        return None if value is None else base64.b64decode(value)
    if value is None or isinstance(value, str):
        return value
    text = to_json(value)
    return re.sub(r"(\d)T(\d)", r"\1 \2", text) if "TIMESTAMP" in kind else text  # as DuckDB writes it


class Dying:
    """A client of a process that dies at its so many-th call: before that is done, or after."""

    def __init__(self, inner: Any, left: Iterator[int]) -> None:
        self._inner, self._left = inner, left

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in (
            "create_topics",
            "init_transactions",
            "begin_transaction",
            "flush",
            "commit_transaction",
        ):
            return found

        def call(*args: Any, **more: Any) -> Any:
            left = next(self._left)
            if left > 0:
                return found(*args, **more)
            if left == 0:
                found(*args, **more)
            raise Unreachable("the process is dead")

        return call


# --- crashes ---

CRASHER = """
import sys
sys.path[:0] = {path!r}
from bourne.connect.kafka_sink import KafkaSink
from bourne.connect.sink import Change, Shape
from bourne.schema import conform, declare_schema
import os, signal
point, url, name, epoch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
schema = declare_schema({columns!r}, where="test")
sink = KafkaSink(url, Shape(name, schema))
held = sink.open()
print(held, flush=True)

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    def __init__(self, inner): self.inner, self.count = inner, 0
    def __getattr__(self, name): return getattr(self.inner, name)
    def __len__(self): return len(self.inner)
    def produce(self, *args, **kwargs):
        self.inner.produce(*args, **kwargs)
        self.count += 1
        if point == "half" and self.count == 50:
            assert self.inner.flush(30) == 0
            die()
        if point == "position" and args[0] == "bourne_positions":
            assert self.inner.flush(30) == 0
            die()
    def commit_transaction(self, *args):
        if point == "before commit": die()
        self.inner.commit_transaction(*args)
        if point == "after commit": die()

sink._producer = Dying(sink._producer)
rows = [{{"id": epoch * 100 + n, "name": "x"}} for n in range(100)]
sink.write(Change(conform(rows, schema, log="t")), epoch, held)
"""


def crash(kafka: KafkaServer, topic: str, name: str, point: str, epoch: int) -> None:
    script = CRASHER.format(path=sys.path, columns=COLUMNS)
    command = [sys.executable, "-c", script, point, url(kafka, topic), name, str(epoch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("point", ["half", "position", "before commit", "after commit"])
def test_a_killed_process_leaves_all_or_nothing(kafka: KafkaServer, topic: str, point: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    sink.write(Change(rows(wanted, *({"id": n, "name": "x"} for n in range(100)))), 0, None)
    sink.close()
    crash(kafka, topic, wanted.name, point, 1)
    log = log_of(COLUMNS)
    seen = KafkaTopic(url(kafka, topic), log)
    got: list[int] = []
    for part in seen.read(None, {}):
        got += [] if part is None or part.rows is None else part.rows.column("id").to_pylist()
        if part is None and len(got) >= 100:
            break
    assert got == list(range(200 if point == "after commit" else 100))
    held = sink.open()
    assert held == (1 if point == "after commit" else 0)
    if held == 0:
        sink.write(Change(rows(wanted, *({"id": n, "name": "x"} for n in range(100, 200)))), 1, 0)
    sink.write(Change(rows(wanted, *({"id": n, "name": "x"} for n in range(200, 300)))), 2, 1)
    sink.close()
    assert [row["id"] for row in values(kafka, topic)] == list(range(300))


def test_who_opens_a_sink_locks_the_earlier_one_out(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    earlier, later = KafkaSink(url(kafka, topic), wanted), KafkaSink(url(kafka, topic), wanted)
    earlier.open()
    earlier.write(numbered(wanted, 0), 1, None)
    assert later.open() == 1
    with pytest.raises(Unreachable, match="another one"):
        earlier.write(numbered(wanted, 3), 2, 1)
    later.write(numbered(wanted, 3), 2, 1)
    assert [row["id"] for row in values(kafka, topic)] == list(range(6))
    later.close()


def test_of_two_that_begin_at_once_the_later_one_writes(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    earlier, later = KafkaSink(url(kafka, topic), wanted), KafkaSink(url(kafka, topic), wanted)
    assert earlier.open() is None
    assert later.open() is None
    later.write(numbered(wanted, 0), 1, None)
    with pytest.raises(Unreachable, match="another one"):
        earlier.write(numbered(wanted, 0), 1, None)
    assert [row["id"] for row in values(kafka, topic)] == list(range(3))
    later.close()


@pytest.mark.parametrize("at", ["produce", "commit_transaction", "after"] if LONG else ["commit_transaction"])
def test_a_broker_killed_in_the_middle_of_a_write(
    kafka: KafkaServer, topic: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was written shows when the sink is opened again; in the end each change is there once."""
    monkeypatch.setattr(kafka_client, "ASK_S", 2.0)
    monkeypatch.setattr(kafka_sink, "_STEP_S", 5.0)
    monkeypatch.setattr(kafka_sink, "_TRANSACTION_S", 6.0)
    wanted = shape()
    sink = KafkaSink(url(kafka, topic, "&silence=5"), wanted)
    sink.open()
    sink.write(numbered(wanted, 0), 0, None)
    sink._producer = Killing(sink._producer, kafka, at)
    with pytest.raises(Unreachable):
        sink.write(numbered(wanted, 3), 1, 0)
        if at == "after":
            raise Unreachable("the broker died just after")
    with pytest.raises(Unreachable):
        sink.open()
    kafka.start()
    held = reopened(sink)
    assert held in (0, 1)
    if held == 0:
        sink.write(numbered(wanted, 3), 1, 0)
    sink.write(numbered(wanted, 6), 2, 1)
    assert sink.open() == 2
    assert [row["id"] for row in values(kafka, topic)] == list(range(9))
    sink.close()


class Killing:
    """A producer whose broker dies when a method is called, or after the commit."""

    def __init__(self, inner: Any, kafka: KafkaServer, at: str) -> None:
        self._inner, self._kafka, self._at = inner, kafka, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def produce(self, *args: Any, **more: Any) -> None:
        self._inner.produce(*args, **more)
        if self._at == "produce":
            self._kafka.kill()

    def commit_transaction(self, *args: Any) -> None:
        if self._at == "commit_transaction":
            self._kafka.kill()
        self._inner.commit_transaction(*args)
        if self._at == "after":
            self._kafka.kill()


def reopened(sink: KafkaSink) -> Any:
    """Open the sink, again while the broker is busy with itself."""
    found: list[Any] = []

    def opened() -> bool:
        try:
            found.append(sink.open())
        except Unreachable:
            return False
        return True

    until(opened, what="the sink")
    return found[0]


def test_an_open_transaction_of_another_sink_hides_no_position(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_positions, "_DECIDE_S", 2.0)
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    sink.write(numbered(wanted, 0), 1, None)
    other = transactional(kafka, f"test-{topic}")
    other.begin_transaction()
    other.produce(kafka_positions.TOPIC, key="other", value=b"{}")
    assert other.flush(30) == 0
    sink.write(numbered(wanted, 3), 2, 1)
    with pytest.raises(Unreachable, match="other transactions"):
        sink.open()
    other.abort_transaction(30)
    assert sink.open() == 2
    sink.close()


# --- what is refused ---


def test_a_row_that_is_too_large_is_rejected_and_nothing_is_kept(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    small, large = {"id": 1, "name": "x"}, {"id": 2, "name": "김" * 700_000}
    change = Change(rows(wanted, small, large, small))
    with pytest.raises(Rejected, match="too large"):
        sink.write(change, 1, None)
    assert not sink.accepts(change)
    assert sink.accepts(Change(rows(wanted, small)))
    sink.write(Change(rows(wanted, small)), 1, None)
    assert sink.open() == 1
    assert values(kafka, topic) == [small]
    sink.close()


def test_a_row_that_just_fits_is_taken(kafka: KafkaServer) -> None:
    topic = new_topic(kafka, max_message_bytes="5000")
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    empty = len(rows_as_json(rows(wanted, {"id": 1, "name": ""}), wanted.schema)[0].as_py())
    accepted = []
    for size in range(4700 - empty, 5001 - empty, 50):
        change = Change(rows(wanted, {"id": 1, "name": "x" * size}))
        if sink.accepts(change):
            sink.write(change, size, accepted[-1] if accepted else None)
            accepted.append(size)
    assert accepted
    assert [len(row["name"]) for row in values(kafka, topic)] == accepted
    sink.close()


def test_nobody_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "ASK_S", 1.0)
    with pytest.raises(Unreachable):
        KafkaSink("kafka://127.0.0.1:9/t", shape()).open()


@pytest.mark.parametrize(
    "options", ["&partitions=0", "&partitions=x", "&nonsense=1", "&transactional.id=mine"]
)
def test_wrong_options_are_refused(options: str) -> None:
    with pytest.raises(DefinitionError):
        KafkaSink(f"kafka://host:1/t?format=json{options}", shape())
    with pytest.raises(DefinitionError):
        KafkaSink("kafka://host:1/t?format=avro", shape())


# --- what messages look like ---


def test_keys_rows_and_tombstones(kafka: KafkaServer, topic: str) -> None:
    wanted = shape(key=("id",))
    sink = KafkaSink(url(kafka, topic, "&partitions=4"), wanted)
    sink.open()
    change = Change(
        rows(wanted, *({"id": n, "name": None} for n in range(50))),
        gone=pa.table({"id": pa.array([100, 101])}),
    )
    sink.write(change, 1, None)
    gone = Change(rows(wanted, {"id": 100, "name": "다시"}), gone=pa.table({"id": pa.array(range(50))}))
    sink.write(gone, 2, 1)
    messages = committed(kafka, topic, 4)
    latest = {m.key(): m.value() for m in messages}  # of a key all are in one partition
    partitions = {key: {m.partition() for m in messages if m.key() == key} for key in latest}
    assert all(len(found) == 1 for found in partitions.values())
    assert len({min(found) for found in partitions.values()}) == 4
    assert {key: value for key, value in latest.items() if value is not None} == {
        b'{"id":100}': '{"id":100,"name":"다시"}'.encode()
    }
    assert all(m.partition() == _java_partition(m.key(), 4) for m in messages)
    sink.close()


def _java_partition(key: bytes, count: int) -> int:
    """Return the partition that Kafka's Java clients choose: murmur2 of the key, as they define it."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    state = (0x9747B28C ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        state = state * factor & mask ^ word
    if len(key) > whole:
        state = (state ^ int.from_bytes(key[whole:], "little")) * factor & mask
    state = (state ^ state >> 13) * factor & mask
    return ((state ^ state >> 15) & 0x7FFFFFFF) % count


def test_weights_are_repetitions(kafka: KafkaServer, topic: str) -> None:
    wanted = shape(has_weights=True)
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    records = [{"id": 1, "name": "}"}, {"id": 2, "name": "b"}, {"id": 3, "name": None}]
    change = Change(rows(wanted, *records), weights=pa.array([2, -3, 1], pa.int64()))
    sink.write(change, 1, None)
    found = Counter((row["id"], row["__weight"]) for row in values(kafka, topic))
    assert found == {(1, 1): 2, (2, -1): 3, (3, 1): 1}
    sink.close()


def test_a_large_change_is_one_transaction(kafka: KafkaServer, topic: str) -> None:
    wanted = shape()
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    table = pa.table({"id": pa.array(range(300_000)), "name": pa.array(["x" * 300] * 300_000)})
    sink.write(Change(conform(table, wanted.schema, log="t")), 1, None)
    assert [row["id"] for row in values(kafka, topic)] == list(range(300_000))
    sink.close()


def test_rows_are_exact_as_json() -> None:
    columns = {
        "d": "decimal(38,10)", "h": "hugeint", "f": "double", "g": "float", "t": "varchar", "b": "blob",
        "at": "timestamp", "tz": "timestamptz", "day": "date", "ok": "boolean", "list": "varchar[]",
        "st": "struct(x decimal(10,2), b blob)", "any": "json", "id": "uuid", "이름": "int",
    }  # fmt: skip
    schema = declare_schema(columns, where="test")
    at = datetime(2026, 1, 2, 3, 4, 5, 600000)
    record = {
        "d": Decimal("1234567890123456789012345678.0123456789"), "h": 2**120, "f": 1e300, "g": 0.1,
        "t": '김 🙂 "\\\n\0', "b": b"\xff\0", "at": at, "tz": at.replace(tzinfo=UTC), "day": date(2026, 2, 28),
        "ok": True, "list": ["a", None], "st": {"x": Decimal("1.10"), "b": b"\xff"}, "any": '{"x": 1.10}',
        "id": "b5a5e9f0-0000-4000-8000-000000000001", "이름": -1,
    }  # fmt: skip
    odd = {"f": float("nan"), "g": float("-inf")}
    texts = rows_as_json(conform([record, {}, odd], schema, log="t"), schema).to_pylist()
    found = json.loads(texts[0], parse_float=Decimal)
    assert found == {
        "d": record["d"], "h": 2**120, "f": Decimal("1e+300"), "g": Decimal("0.1"), "t": record["t"], "b": "/wA=",
        "at": "2026-01-02T03:04:05.6", "tz": "2026-01-02T03:04:05.6Z", "day": "2026-02-28", "ok": True,
        "list": ["a", None], "st": {"x": Decimal("1.10"), "b": "/w=="}, "any": {"x": Decimal("1.10")},
        "id": record["id"], "이름": -1,
    }  # fmt: skip
    assert set(json.loads(texts[1]).values()) == {None}
    assert (json.loads(texts[2])["f"], json.loads(texts[2])["g"]) == ("NaN", "-Infinity")


def test_in_lists_and_structs_values_are_as_beside_them() -> None:
    values = {
        "blob": "'\\xFF'", "timestamptz": "'2026-01-02 03:04:05.6Z'", "timestamp": "'290000-01-02 03:04:05'",
        "date": "'0044-03-15 (BC)'", "decimal(38,10)": "1.10", "double": "'nan'", "varchar": "'\"김'",
        "interval": "'1 month'", "time": "'03:04:05'",
    }  # fmt: skip
    for kind, text in values.items():
        value = f"{text}::{kind}"
        inside = f"[{value}, NULL] AS l, {{'x': {value}}} AS s, [{{'y': [{value}]}}] AS d"
        found = duckdb.sql(f"SELECT {value} AS v, {inside}").to_arrow_table()
        columns = {"v": kind, "l": f"{kind}[]", "s": f"struct(x {kind})", "d": f"struct(y {kind}[])[]"}
        schema = declare_schema(columns, where="test")
        (row,) = map(json.loads, rows_as_json(conform(found, schema, log="t"), schema).to_pylist())
        alone = row["v"]
        assert row == {"v": alone, "l": [alone, None], "s": {"x": alone}, "d": [{"y": [alone]}]}


def test_what_a_sink_writes_a_source_reads(kafka: KafkaServer, topic: str) -> None:
    columns = {"d": "decimal(38,10)", "f": "double", "t": "varchar", "tz": "timestamptz", "list": "bigint[]"}
    wanted = shape(columns)
    record = {
        "d": Decimal("-0.0000000001"),
        "f": 0.1,
        "t": "한 🙂",
        "tz": datetime(2026, 1, 1, tzinfo=UTC),
        "list": [1],
    }
    sink = KafkaSink(url(kafka, topic), wanted)
    sink.open()
    sink.write(Change(rows(wanted, record, {})), 1, None)
    sink.close()
    got: list[Any] = []
    for part in KafkaTopic(url(kafka, topic), log_of(columns)).read(None, {}):
        got += [] if part is None or part.rows is None else part.rows.to_pylist()
        if len(got) == 2:
            break
    assert got == [record, dict.fromkeys(columns)]


def test_a_topic_of_positions_that_may_lose_some_is_refused(
    kafka: KafkaServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_positions, "TOPIC", new_topic(kafka, cleanup_policy="delete"))
    with pytest.raises(SinkFailed, match="topic of positions"):
        KafkaSink(url(kafka, topic), shape()).open()
