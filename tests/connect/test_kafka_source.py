"""A Kafka topic into a log: every committed message once, in the order of its partition, whatever stops in between."""

from __future__ import annotations

import io
import json
import random
import string
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from bourne.connect import kafka_source
from bourne.connect.json_bulk import read_objects
from bourne.connect.json_lines import fit_parsed, json_readers, parse_line
from bourne.connect.kafka_source import KafkaTopic, describe_topic
from bourne.connect.source import Taken
from bourne.errors import BourneError, DefinitionError, InputError, SourceFailed, Unreachable
from bourne.schema import declare_schema
from connect.kafka_topics import (
    add_partitions,
    delete_before,
    delete_topic,
    log_of,
    make_topic,
    new_topic,
    produce,
    transactional,
)
from servers.kafka import KafkaServer
from waiting import until

NUMBERS = {"n": "bigint"}


class Reading:
    """Drives a source by its contract, and keeps what it hands over; goes on from the positions when asked again."""

    def __init__(self, server: KafkaServer, topic: str, log: Any, options: str = "") -> None:
        self.url = f"kafka://{server.bootstrap}/{topic}?{options}"
        self.log = log
        self.rows: list[dict[str, Any]] = []
        self.by_partition: dict[int, list[dict[str, Any]]] = {}
        self.dead: list[Any] = []
        self.positions: dict[int, Any] = {}
        self.parts = 0

    def take(self, part: Taken) -> None:
        assert part.partition is not None
        rows = [] if part.rows is None else part.rows.to_pylist()
        self.rows += rows
        self.by_partition.setdefault(part.partition, []).extend(rows)
        self.dead += part.dead
        self.positions[part.partition] = json.loads(json.dumps(part.position))
        self.parts += 1

    def go_on(self, *, parts: int | None = None, is_done: Callable[[], bool] | None = None) -> KafkaTopic:
        """Read with a new source: some parts, until something is so, or else until there is nothing left."""
        source = KafkaTopic(self.url, self.log)
        before = self.parts
        for part in source.read(None, dict(self.positions)):
            if part is not None:
                self.take(part)
            elif is_done is None and parts is None and source.lag().records == 0:
                source.stop()
            if (parts is not None and self.parts - before >= parts) or (is_done is not None and is_done()):
                break
        return source


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in range(start, start + count)]


def taken(reading: Reading) -> list[int]:
    return [row["n"] for row in reading.rows]


# --- every message once ---


def test_every_record_comes_once_and_in_order(kafka: KafkaServer) -> None:
    topic = new_topic(kafka, 3)
    for partition in range(3):
        produce(kafka, topic, numbers(1000, 10_000 * partition), partition=partition)
    reading = Reading(kafka, topic, log_of(NUMBERS, partitions=3))
    source = reading.go_on()
    for partition in range(3):
        assert [row["n"] for row in reading.by_partition[partition]] == [
            10_000 * partition + n for n in range(1000)
        ]
    assert source.lag().records == 0
    assert not reading.dead
    assert source.name == f"kafka://{kafka.bootstrap}/{topic}"


def test_a_restart_after_any_part_repeats_and_loses_nothing(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_source, "_BATCH_MESSAGES", 20)
    topic = new_topic(kafka, 2)
    produce(kafka, topic, numbers(100), partition=0)
    produce(kafka, topic, numbers(100, 100), partition=1)
    reading = Reading(kafka, topic, log_of(NUMBERS, partitions=2))
    starts = 0
    while len(reading.rows) < 200:
        reading.go_on(parts=1)
        starts += 1
    reading.go_on()
    assert starts >= 10
    assert [row["n"] for row in reading.by_partition[0]] == list(range(100))
    assert [row["n"] for row in reading.by_partition[1]] == list(range(100, 200))


def test_an_empty_topic_yields_nothing_and_then_what_comes(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    assert not reading.rows and not reading.positions
    produce(kafka, topic, numbers(3))
    reading.go_on()
    assert taken(reading) == [0, 1, 2]


def test_what_comes_while_it_runs_is_taken(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    source = KafkaTopic(f"kafka://{kafka.bootstrap}/{topic}", log_of(NUMBERS))
    got: list[int] = []

    def run() -> None:
        for part in source.read(None, {}):
            if part is not None and part.rows is not None:
                got.extend(part.rows.column("n").to_pylist())

    thread = threading.Thread(target=run)
    thread.start()
    for n in range(5):
        produce(kafka, topic, numbers(1, n))
        until(lambda n=n: got == list(range(n + 1)), what="the message")
    source.stop()
    source.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(5000))
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on(parts=1)
    kafka.kill()
    try:
        with pytest.raises(Unreachable, match="do not answer"):
            reading.go_on()
    finally:
        kafka.start()
    produce(kafka, topic, numbers(5000, 5000))
    reading.go_on(is_done=lambda: len(reading.rows) >= 10_000)
    assert taken(reading) == list(range(10_000))


# --- transactions and gaps ---


def test_only_what_is_committed_comes_and_marks_are_no_records(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    producer = transactional(kafka, f"test-{topic}")
    for start, is_kept in ((0, True), (10, False), (20, True)):
        producer.begin_transaction()
        for value in numbers(10, start):
            producer.produce(topic, value)
        assert producer.flush(30) == 0
        if is_kept:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    reading = Reading(kafka, topic, log_of(NUMBERS))
    source = reading.go_on()
    assert taken(reading) == [*range(10), *range(20, 30)]
    assert reading.positions[0]["offset"] == 33  # three marks are behind it
    assert source.lag().records == 0


def test_an_open_transaction_is_not_read_before_it_is_decided(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(1))
    producer = transactional(kafka, f"test-{topic}")
    producer.begin_transaction()
    producer.produce(topic, numbers(1, 1)[0])
    assert producer.flush(30) == 0
    produce(kafka, topic, numbers(1, 2))
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    assert taken(reading) == [0]
    producer.commit_transaction(30)
    reading.go_on()
    assert taken(reading) == [0, 1, 2]


def test_records_deleted_before_they_were_read_are_an_error_that_names_them(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(10))
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    produce(kafka, topic, numbers(10, 10))
    delete_before(kafka, topic, 15)
    with pytest.raises(SourceFailed, match="offsets 10 to 14 were deleted") as caught:
        reading.go_on()
    assert f"{topic}, partition 0" in str(caught.value)
    assert taken(reading) == list(range(10))


def test_a_topic_whose_beginning_is_gone_is_read_from_what_is_there(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(10))
    delete_before(kafka, topic, 4)
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    assert taken(reading) == list(range(4, 10))


def test_a_topic_that_was_made_again_is_not_taken_for_the_old_one(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(3))
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    delete_topic(kafka, topic)
    remake(kafka, topic)
    produce(kafka, topic, numbers(10, 100))
    with pytest.raises(SourceFailed, match="deleted and made again"):
        reading.go_on()


def remake(kafka: KafkaServer, topic: str) -> None:
    from confluent_kafka import KafkaException  # noqa: PLC0415

    def made() -> bool:
        try:
            make_topic(kafka, topic)
        except KafkaException:
            return False
        return True

    until(made, what="the topic")


def test_offsets_that_compaction_left_out_are_no_gap(kafka: KafkaServer) -> None:
    topic = new_topic(
        kafka, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01",
        max_compaction_lag_ms="200",
    )  # fmt: skip
    for n in range(20):
        produce(kafka, topic, [(b"a", numbers(1, n)[0])])

    def is_compacted() -> bool:
        produce(kafka, topic, [(b"b", numbers(1, 99)[0])])
        reading = Reading(kafka, topic, log_of(NUMBERS))
        reading.go_on()
        is_right = taken(reading)[-1] == 99 and 19 in taken(reading)
        assert is_right
        return len(reading.rows) < reading.positions[0]["offset"] - 5

    until(is_compacted, what="the compaction")


# --- what does not fit ---


def test_a_missing_topic_is_an_error(kafka: KafkaServer) -> None:
    with pytest.raises(SourceFailed, match="no such topic"):
        Reading(kafka, "nobody-made-me", log_of(NUMBERS)).go_on()


def test_another_number_of_partitions_is_refused_in_words(kafka: KafkaServer) -> None:
    topic = new_topic(kafka, 2)
    reading = Reading(kafka, topic, log_of(NUMBERS))
    with pytest.raises(DefinitionError, match=r"partitions=2"):
        reading.go_on()


def test_partitions_that_are_added_later_are_noticed(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_source, "_COUNT_S", 0.0)
    topic = new_topic(kafka)
    produce(kafka, topic, numbers(3))
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    add_partitions(kafka, topic, 2)
    with pytest.raises(DefinitionError, match=r"partitions=2"):
        reading.go_on(is_done=lambda: False)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://", "kafka://host:1", "kafka://host:1/", "http://host:1/t", "kafka://host:1/t?format=xml",
        "kafka://host:1/t?nonsense=1", "kafka://host:1/t?isolation.level=read_uncommitted",
        "kafka://host:1/t?format=json&format=json", "kafka://host:1/t?format=avro", "kafka://host:1/t?no.such=1",
        "kafka://host:1/t?format=text",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(DefinitionError):
        next(iter(KafkaTopic(url, log_of(NUMBERS)).read(None, {})))


def test_an_error_never_shows_a_password() -> None:
    url = "kafka://host:1/t?security.protocol=hush-hush&sasl.password=hush-hush"
    source = KafkaTopic(url, log_of(NUMBERS))
    with pytest.raises(DefinitionError) as caught:
        next(iter(source.read(None, {})))
    assert "hush-hush" not in str(caught.value) + source.name + repr(source._address)


def test_what_is_not_json_goes_aside_and_the_rest_goes_on(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    bad = {
        7: b"nonsense", 300: b'{"n": 1}{"n": 2}', 301: b"[1]", 302: b'{"n": "x"}', 303: b'{"m": 1}', 304: b"",
        305: b'{"n": 1, "n": 2}', 306: b"\xff", 307: b'{"n": 99999999999999999999}', 308: b'{"n": 1.5}', 999: b'{"n"',
    }  # fmt: skip
    produce(kafka, topic, [bad.get(n, value) for n, value in enumerate(numbers(1000))])
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    assert taken(reading) == [n for n in range(1000) if n not in bad]
    assert [(letter.origin, letter.data) for letter in reading.dead] == [
        (f"{topic}[0]@{offset}", data) for offset, data in bad.items()
    ]
    assert all(letter.reason for letter in reading.dead)


def test_a_tombstone_deletes_its_key(kafka: KafkaServer) -> None:
    columns = {"id": "bigint", "name": "varchar", "gone": "boolean"}
    log = log_of(columns, key="id", changes="upsert", tombstone="gone")
    topic = new_topic(kafka)
    produce(kafka, topic, [(b"1", b'{"id": 1, "name": "\xea\xb9\x80"}'), (b"1", None), (b'{"id": 2}', None)])
    reading = Reading(kafka, topic, log)
    reading.go_on()
    assert [(row["id"], row["name"], row["gone"]) for row in reading.rows] == [
        (1, "김", None), (1, None, True), (2, None, True),
    ]  # fmt: skip


def test_a_tombstone_of_a_text_key_may_be_bare(kafka: KafkaServer) -> None:
    log = log_of({"id": "varchar", "gone": "boolean"}, key="id", changes="upsert", tombstone="gone")
    topic = new_topic(kafka)
    produce(
        kafka,
        topic,
        [("이름 🙂".encode(), None), (b'"a"', None), (b"5", None), (None, None), (b'{"x": 1}', None)],
    )
    reading = Reading(kafka, topic, log)
    reading.go_on()
    assert [row["id"] for row in reading.rows] == ["이름 🙂", "a", "5"]
    assert [letter.origin[-1] for letter in reading.dead] == ["3", "4"]


def test_a_tombstone_before_and_after(kafka: KafkaServer) -> None:
    kind = "struct(id bigint, name varchar)"
    log = log_of({"before": kind, "after": kind}, key="id", changes="before_after")
    topic = new_topic(kafka)
    produce(
        kafka, topic, [(b"1", b'{"before": null, "after": {"id": 1, "name": "x"}}'), (b'{"id": 1}', None)]
    )
    reading = Reading(kafka, topic, log)
    reading.go_on()
    assert reading.rows == [
        {"before": None, "after": {"id": 1, "name": "x"}},
        {"before": {"id": 1, "name": None}, "after": None},
    ]


def test_no_value_where_nothing_can_be_deleted_goes_aside(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, [(b"k", None), *numbers(1)])
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    assert taken(reading) == [0]
    assert "without a value" in reading.dead[0].reason


# --- what is in a value ---


def test_values_are_exact(kafka: KafkaServer) -> None:
    columns = {
        "name": "varchar", "price": "decimal(38,10)", "big": "hugeint", "heat": "double", "at": "timestamptz",
        "day": "date", "ok": "boolean", "tags": "varchar[]", "any": "json",
    }  # fmt: skip
    topic = new_topic(kafka)
    price = "1234567890123456789012345678.0123456789"
    value = (
        f'{{"name": "김치 🙂 \\u0000", "price": {price}, "big": {2**120}, "heat": 0.1, "at": "2026-03-01T09:00:00+09:00",'
        ' "day": "2026-02-28", "ok": false, "tags": ["a", null, "한"], "any": {"x": 1.10}}'
    )
    produce(kafka, topic, [value.encode(), b"{}"])
    reading = Reading(kafka, topic, log_of(columns))
    reading.go_on()
    assert not reading.dead
    assert reading.rows[0] == {
        "name": "김치 🙂 \0", "price": Decimal(price), "big": Decimal(2**120), "heat": 0.1,
        "at": datetime(2026, 3, 1, tzinfo=UTC), "day": date(2026, 2, 28), "ok": False, "tags": ["a", None, "한"],
        "any": '{"x": 1.10}',
    }  # fmt: skip
    assert set(reading.rows[1].values()) == {None}


def test_huge_messages_come_in_parts_of_bounded_size(kafka: KafkaServer) -> None:
    topic = new_topic(kafka, max_message_bytes="20000000")
    texts = [letter * 9_000_000 for letter in "abcde"]
    produce(kafka, topic, [json.dumps({"text": text}).encode() for text in texts])
    reading = Reading(kafka, topic, log_of({"text": "varchar"}))
    reading.go_on()
    assert [row["text"] for row in reading.rows] == texts
    assert reading.parts >= 5


def test_text_bytes_and_what_kafka_knows(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    facts = {"kafka_key": "varchar", "kafka_timestamp": "timestamptz", "kafka_offset": "bigint"}
    produce(kafka, topic, [("키".encode(), "값 🙂".encode()), (None, b"\xff")], timestamp=1_700_000_000_123)
    as_text = Reading(kafka, topic, log_of({"line": "varchar", **facts}), "format=text")
    as_text.go_on()
    at = datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    assert as_text.rows == [{"line": "값 🙂", "kafka_key": "키", "kafka_timestamp": at, "kafka_offset": 0}]
    assert [letter.data for letter in as_text.dead] == [b"\xff"]
    as_bytes = Reading(kafka, topic, log_of({"data": "blob"}), "format=bytes")
    as_bytes.go_on()
    assert [row["data"] for row in as_bytes.rows] == ["값 🙂".encode(), b"\xff"]


def test_what_kafka_knows_beside_json_and_what_the_value_says_comes_first(kafka: KafkaServer) -> None:
    topic = new_topic(kafka)
    produce(kafka, topic, [(b"k", b'{"n": 1}')], headers=[("h", b"\xff")])
    log = log_of({"n": "bigint", "kafka_key": "varchar", "kafka_headers": "map(varchar, blob)"})
    reading = Reading(kafka, topic, log)
    reading.go_on()
    produce(kafka, topic, [(b"k", b'{"n": 2, "kafka_key": "mine"}')])
    reading.go_on()
    assert [(row["n"], row["kafka_key"], row["kafka_headers"]) for row in reading.rows] == [
        (1, "k", [("h", b"\xff")]), (2, "mine", []),
    ]  # fmt: skip


# --- in columns as one by one ---


def _texts(seed: int) -> list[bytes]:
    """Return some messages, most of them good, with what readers of JSON disagree on."""
    choose = random.Random(seed)
    words = ["", "a", "한글 🙂", "\\u0041", "\\ud83d\\ude42", "\\ud800", 'q\\"', "x" * 50, "\t", "NaN", "1e5"]
    whole = [
        "0",
        "-0",
        "1",
        "-5",
        "9223372036854775807",
        "9223372036854775808",
        "1.0",
        "1e2",
        "true",
        '"1"',
        "01",
    ]
    parts = ["0.1", "-0.0", "1e-400", "1e400", "NaN", "Infinity", "0.1234567890123456", "9007199254740993", "5",
             "0.30000000000000004", "0.300000000000000041", "1.10", "123456789.12", "1E2", "12.345", '"1.5"', "-0"]  # fmt: skip
    moments = [
        '"2026-01-02T03:04:05"',
        '"2026-01-02"',
        '"2026-01-02T03:04:05.123456789"',
        '"x"',
        "5",
        '"0001-01-01"',
    ]

    def value(options: list[str]) -> str:
        return choose.choice([*options[:4], *options, "null"])

    def one() -> str:
        fields = [
            f'"n": {value(whole)}', f'"t": "{choose.choice(words)}"', f'"x": {value(parts)}', f'"d": {value(parts)}',
            f'"at": {value(moments)}',
        ]  # fmt: skip
        text = "{" + ", ".join(choose.sample(fields, choose.randrange(6))) + "}"
        strange = [
            text + " ",
            " " + text,
            text + text,
            text[:-1],
            text[1:],
            text.replace(",", ",\n"),
            '{"N": 1}',
            "{}",
        ]
        return choose.choice(strange) if choose.random() < 0.1 else text

    return [one().encode() for _ in range(choose.choice([1, 1, 2, 3, 8]))]


def test_many_at_once_are_what_each_is_for_itself() -> None:
    columns = {"n": "bigint", "t": "varchar", "x": "double", "d": "decimal(12,3)", "at": "timestamp"}
    schema = declare_schema(columns, where="test")
    agreed = 0
    for seed in range(3000):
        texts = _texts(seed)
        at_once = read_objects(texts, schema, log="l")
        if at_once is None:
            continue
        each = fit_parsed([parse_line(text, json_readers(schema), "x") for text in texts], schema, "l")
        assert repr(at_once.to_pylist()) == repr(each.to_pylist()), texts
        agreed += 1
    assert agreed > 300


def test_no_message_is_taken_for_another_when_all_are_read_at_once() -> None:
    schema = declare_schema({"n": "bigint", "t": "varchar"}, where="test")
    assert read_objects([b'{"n": 1}', b'{"n": 2}'], schema, log="l") is not None
    for texts in (
        [b'{"n": 1}{"n": 2}', b'{"n":', b"3}"],
        [b'{"n": 1}\n{"n": 2}'],
        [b'{"t": "}', b'{"}', b"{}{}"],
        [b"", b"{}"],
        [b"{}", b"{}{}", b""],
    ):
        assert read_objects(texts, schema, log="l") is None


# --- Avro ---

ORDER = {
    "type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "long"},
        {"name": "who", "type": ["null", "string"], "default": None},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}  # fmt: skip

ID = uuid.uuid5(uuid.NAMESPACE_URL, "bourne")


def order(number: int) -> dict[str, Any]:
    return {
        "id": number, "who": "김 🙂" if number % 2 else None, "price": Decimal("123456789012345678.05"),
        "day": date(2026, 2, 28), "ms": datetime(2026, 1, 1, 0, 0, 0, 5000, UTC),
        "us": datetime(2026, 1, 1, 0, 0, 0, 5, UTC), "key": ID, "tags": ["a", "한"],
    }  # fmt: skip


def datum(record: dict[str, Any], schema: Any = ORDER) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["bare", "single object", "confluent"])
def test_avro_and_its_logical_types(kafka: KafkaServer, tmp_path: Path, form: str) -> None:
    (tmp_path / "7.avsc").write_text(json.dumps(ORDER))
    options = (
        f"format=avro&schemas={tmp_path}" if form == "confluent" else f"format=avro&schema={tmp_path}/7.avsc"
    )
    mark = {"bare": b"", "confluent": b"\0\0\0\0\7"}.get(form)
    if mark is None:
        canonical = fastavro.schema.to_parsing_canonical_form(fastavro.parse_schema(ORDER))
        mark = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    topic = new_topic(kafka)
    good = [mark + datum(order(n)) for n in range(4)]
    produce(kafka, topic, [good[0], good[1][:-3], good[1], b"\1", good[2] + b"\0", good[3]])
    schema = describe_topic(f"kafka://{kafka.bootstrap}/{topic}?{options}", where="test")
    assert schema is not None
    columns = {column.name: column.type for column in schema.columns}
    assert columns["price"] == "DECIMAL(20,2)" and columns["us"] == "TIMESTAMP WITH TIME ZONE"
    reading = Reading(kafka, topic, log_of(columns), options)
    reading.go_on()
    assert reading.rows == [order(n) | {"key": str(ID)} for n in (0, 1, 3)]
    assert [letter.origin[-1] for letter in reading.dead] == ["1", "3", "4"]


def test_avro_of_an_older_schema_is_read_as_the_newer_one(kafka: KafkaServer, tmp_path: Path) -> None:
    old = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}
    more = {"name": "extra", "type": "string", "default": "없음"}
    new = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}, more]}
    (tmp_path / "1.avsc").write_text(json.dumps(old))
    (tmp_path / "2.avsc").write_text(json.dumps(new))
    topic = new_topic(kafka)
    values = [b"\0\0\0\0\1" + datum({"n": 1}, old), b"\0\0\0\0\2" + datum({"n": 2, "extra": "y"}, new)]
    produce(kafka, topic, values)
    options = f"format=avro&schemas={tmp_path}&schema={tmp_path}/2.avsc"
    reading = Reading(kafka, topic, log_of({"n": "bigint", "extra": "varchar"}), options)
    reading.go_on()
    assert reading.rows == [{"n": 1, "extra": "없음"}, {"n": 2, "extra": "y"}]


# --- columns that nobody declared ---


def test_columns_are_inferred_from_a_sample(kafka: KafkaServer) -> None:
    topic = new_topic(kafka, 2)
    url = f"kafka://{kafka.bootstrap}/{topic}"
    assert describe_topic(url, where="test") is None
    produce(kafka, topic, [b'{"n": 1, "\xed\x95\x9c": "x"}', (b"k", None)], partition=0)
    produce(kafka, topic, [b'{"n": 2, "at": "2026-01-01T00:00:00Z"}'], partition=1)
    schema = describe_topic(url, where="test")
    assert schema is not None
    assert {column.name: column.type for column in schema.columns} == {
        "n": "BIGINT", "한": "VARCHAR", "at": "TIMESTAMP WITH TIME ZONE",
    }  # fmt: skip
    with pytest.raises(InputError):
        produce(kafka, topic, [b"nonsense"])
        describe_topic(url, where="test")


def test_any_bytes_come_back_as_a_record_or_a_letter(kafka: KafkaServer) -> None:
    choose = random.Random(5)
    alphabet = ['{"n":', "1", "}", "{", '"', "\\", ",", " ", "\n", "null", *string.hexdigits]
    values = ["".join(choose.choices(alphabet, k=choose.randrange(1, 6))).encode() for _ in range(2000)]
    topic = new_topic(kafka)
    produce(kafka, topic, values)
    reading = Reading(kafka, topic, log_of(NUMBERS))
    reading.go_on()
    expected = []
    for value in values:
        try:
            schema = reading.log.schema
            expected += fit_parsed([parse_line(value, {}, "x")], schema, "l").to_pylist()
        except BourneError:
            continue
    assert reading.rows == expected
    assert len(reading.rows) + len(reading.dead) == len(values)
