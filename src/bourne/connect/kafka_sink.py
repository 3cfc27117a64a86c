"""A Kafka topic as a sink: each change is one transaction, and the position is in it.

Law: readers of what is committed (`isolation.level=read_committed`) see each change whole and once, whatever crash came
in between. The transactional id is the sink's name: who opens it again ends what an earlier one left open, and locks
that one out. Whether a commit in doubt came through is what the newest committed position says.

With a key, the message's key is a JSON object of the key's columns, and its value the row, or nothing for a key that is
gone; partitions are chosen from the key as Java clients do. With weights, a row comes as often as its weight says, each
time with `"__weight": 1` or `-1`. Else a message is a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect import kafka_positions
from bourne.connect.json_rows import rows_as_json
from bourne.connect.kafka_client import (
    Address,
    as_our_error,
    client,
    count_partitions,
    make,
    read_url,
    topic_id,
    unreachable,
)
from bourne.connect.sink import Change, Shape
from bourne.connect.source import Delivery, Position
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import Schema

# How long a transaction may take at most, in seconds: afterwards the brokers end it. A change is far smaller.
_TRANSACTION_S: Final = 120.0

# How long a step of the transaction protocol may take at most, in seconds.
_STEP_S: Final = 30.0

# Rows that are made text and handed to the client library at a time, and the bytes that it holds at most.
_ROWS: Final = 20_000
_QUEUE_KBYTES: Final = 64 << 10

# What a message takes beside its key and value at most, in a batch of its own.
_OVERHEAD_BYTES: Final = 200

_OPTIONS: Final = frozenset({"format", "partitions"})


class KafkaSink:
    """Writes changes into a topic, by transactions. It is made if it is missing, as is the topic of positions."""

    delivery: Delivery = "exactly once"

    def __init__(self, url: str, shape: Shape) -> None:
        """Check the URL; nothing is connected yet.

        Raises:
            DefinitionError: the URL or an option is wrong, or the rows have a column of a name that is needed here.
        """
        self._address = read_url(url, options=_OPTIONS, where=f"sink {shape.name!r}")
        client()
        self.name = str(self._address)
        self._shape = shape
        self._partitions = _partition_count(self._address)
        if self._address.options.get("format", "json") != "json":
            raise DefinitionError("a Kafka sink writes JSON", where=self.name, expected="format=json")
        by_name = {column.name: column for column in shape.schema.columns}
        self._key_schema = Schema(tuple(by_name[name] for name in shape.key))
        self._producer: Any = None
        self._held: Position | None = None
        self._identity = ""
        self._bytes_max = 0
        self._problem: Any = None
        # Messages that are not delivered, and when that was another number.
        self._left, self._moved_s = 0, 0.0

    @property
    def _step_s(self) -> float:
        return min(_STEP_S, self._address.silence_s)

    def open(self) -> Position | None:
        """Make what is missing, lock out an earlier one of this name, and return the position; see `Sink`."""
        self._drop()
        library = client()
        admin = make(library.admin.AdminClient, self._address)
        count_partitions(admin, self._address)  # says quickly if nobody is there
        self._make(admin, self._address.topic, self._partitions, {})
        self._make(admin, kafka_positions.TOPIC, 1, kafka_positions.SETTINGS)
        self._check_positions(admin)
        self._bytes_max = int(self._settings(admin, self._address.topic)["max.message.bytes"])
        self._identity = topic_id(admin, self._address)
        self._problem = None
        self._producer = make(
            library.Producer, self._address,
            transactional_id=f"bourne-{self._shape.name}", transaction_timeout_ms=int(_TRANSACTION_S * 1000),
            partitioner="murmur2_random", message_max_bytes=max(self._bytes_max, 1000), linger_ms=20,
            queue_buffering_max_messages=10 * _ROWS, queue_buffering_max_kbytes=_QUEUE_KBYTES,
            delivery_report_only_error=True, on_delivery=self._note,
        )  # fmt: skip
        try:
            self._producer.init_transactions(self._step_s)
        except library.KafkaException as error:
            self._fail(error.args[0])
        self._held = kafka_positions.read_position(admin, self._address, self._shape.name, self._identity)
        return self._held

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write a change and its position in one transaction; see `Sink`."""
        if self._producer is None or before != self._held:
            self._drop()
            raise Unreachable(
                "the sink does not stand where it was thought to",
                where=self.name,
                expected=before,
                found=self._held,
            )
        library, producer = client(), self._producer
        began = self._moved_s = time.monotonic()
        try:
            producer.begin_transaction()
            for keys, values in self._messages(change):
                self._check(keys, values)
                self._produce(self._address.topic, keys, values, began)
            key, value = kafka_positions.record(self._shape.name, position, self._identity)
            self._flush(began)  # so that the positions' topic is open for no longer than it takes to commit
            self._produce(kafka_positions.TOPIC, [key], [value], began)
            producer.commit_transaction(self._step_s)
        except Rejected:
            self._abort()
            raise
        except Unreachable:
            self._drop()
            raise
        except library.KafkaException as error:
            self._end_failed(error.args[0], began)
        self._held = position

    def accepts(self, change: Change) -> bool:
        """Say whether all messages are small enough for the topic; see `Sink`."""
        if self._producer is None:
            raise Unreachable("the sink is not open", where=self.name)
        try:
            for keys, values in self._messages(change):
                self._check(keys, values)
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        self._drop()

    # --- the messages ---

    def _messages(self, change: Change) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
        """Yield keys and values of a change, a bounded number at a time."""
        for start in range(0, change.rows.num_rows, _ROWS):
            rows = change.rows.slice(start, _ROWS)
            values = rows_as_json(rows, self._shape.schema)
            if change.weights is None:
                yield self._keys(rows), _bytes(values)
            else:
                yield from _repeated(values, np.asarray(change.weights.slice(start, _ROWS)))
        gone = change.gone
        for start in range(0, 0 if gone is None else gone.num_rows, _ROWS):
            assert gone is not None
            keys = self._keys(gone.slice(start, _ROWS))
            yield keys, [None] * len(keys)

    def _keys(self, rows: pa.Table) -> list[bytes | None]:
        if not self._shape.key:
            return [None] * int(rows.num_rows)
        return _bytes(rows_as_json(rows, self._key_schema))

    def _check(self, keys: list[bytes | None], values: list[bytes | None]) -> None:
        """Refuse messages that are too large for the topic."""
        for key, value in zip(keys, values, strict=True):
            size = len(key or b"") + len(value or b"") + _OVERHEAD_BYTES
            if size > self._bytes_max:
                raise Rejected(
                    "a row is too large for the topic", where=self.name, found=f"{size} bytes",
                    expected=f"at most {self._bytes_max} bytes", hint="raise the topic's max.message.bytes",
                )  # fmt: skip

    def _produce(self, topic: str, keys: list[Any], values: list[Any], began: float) -> None:
        """Hand messages to the library, which holds a bounded number of them."""
        producer = self._producer
        for key, value in zip(keys, values, strict=True):
            while True:
                try:
                    producer.produce(topic, value=value, key=key)
                    break
                except BufferError:
                    self._serve(producer.poll, 0.05)
                    self._check_delivered(began)
        self._serve(producer.poll, 0)
        self._check_delivered(began)

    def _flush(self, began: float) -> None:
        while self._serve(self._producer.flush, 1.0):
            self._check_delivered(began)
        self._check_delivered(began)

    def _serve(self, call: Callable[[float], int], timeout_s: float) -> int:
        """Let the library report: poll or flush. Where its own error is lost on the way, an abort is told why."""
        failed = client().KafkaException
        try:
            return call(timeout_s)
        except SystemError as error:
            if isinstance(error.__cause__, failed):
                raise error.__cause__ from None
            found = self._abort_error()
            if found is None:
                raise
            raise failed(found) from error

    def _check_delivered(self, began: float) -> None:
        if self._problem is not None:
            raise client().KafkaException(self._problem)
        now, left = time.monotonic(), len(self._producer)
        if left != self._left or not left:
            self._left, self._moved_s = left, now
        if now - self._moved_s > self._address.silence_s:
            raise unreachable(self._address, f"{left} messages wait for {self._address.silence_s:g} s")
        if now - began > _TRANSACTION_S:
            raise Unreachable(
                "the transaction took too long", where=self.name, expected=f"{_TRANSACTION_S:g} s"
            )

    def _note(self, error: Any, message: Any) -> None:
        if error is not None and self._problem is None:
            self._problem = error

    # --- ends that are none ---

    def _end_failed(self, error: Any, began: float) -> NoReturn:
        """Raise what a failed write is here. What it left open is ended by who opens the sink next."""
        codes = client().KafkaError
        if not error.fatal():
            error = self._problem or error
        if error.code() in (
            codes._PURGE_QUEUE,
            codes._PURGE_INFLIGHT,
        ):  # what was behind it, an abort is told
            error = self._abort_error() or error
        if error.code() in (codes.MSG_SIZE_TOO_LARGE, codes.INVALID_RECORD):
            self._problem = None
            self._abort()
            raise Rejected("the brokers refuse a row", where=self.name, found=error.str())
        self._fail(error, is_late=time.monotonic() - began > _TRANSACTION_S)

    def _fail(self, error: Any, *, is_late: bool = False) -> NoReturn:
        codes = client().KafkaError
        self._drop()
        fenced = (
            codes._FENCED,
            codes.PRODUCER_FENCED,
            codes.INVALID_PRODUCER_EPOCH,
            codes.TRANSACTION_COORDINATOR_FENCED,
        )
        if error.code() in fenced and not is_late:
            raise Unreachable(
                "another one writes as this sink", where=f"{self.name}, sink {self._shape.name!r}",
                expected="one writer of that name", found=error.str(), hint="stop one of them, or rename a sink",
            )  # fmt: skip
        raise as_our_error(error, self._address, SinkFailed)

    def _abort(self) -> None:
        error = self._abort_error()
        if error is not None:
            self._fail(error)
        self._problem = None

    def _abort_error(self) -> Any:
        """End the transaction; return why it could not be, or None."""
        try:
            self._producer.abort_transaction(self._step_s)
        except client().KafkaException as error:
            return error.args[0]
        return None

    def _drop(self) -> None:
        """Forget the producer and what it holds; nothing more of it is sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    # --- topics ---

    def _make(self, admin: Any, topic: str, partitions: int, settings: dict[str, str]) -> None:
        """Make a topic unless it is there."""
        library = client()
        address = replace(self._address, topic=topic)
        if count_partitions(admin, address) is not None:
            return
        wanted = library.admin.NewTopic(topic, num_partitions=partitions, config=settings)
        try:
            admin.create_topics([wanted], request_timeout=self._address.ask_s)[topic].result(
                self._address.ask_s
            )
        except library.KafkaException as error:
            if error.args[0].code() != library.KafkaError.TOPIC_ALREADY_EXISTS:
                raise as_our_error(error.args[0], address, SinkFailed) from error
        except TimeoutError as error:
            raise unreachable(address, error) from error

    def _settings(self, admin: Any, topic: str) -> dict[str, str]:
        """Return the settings of a topic that is there, or is about to be: a new one is not known at once."""
        library = client()
        asked = library.admin.ConfigResource(library.admin.ConfigResource.Type.TOPIC, topic)
        deadline = time.monotonic() + self._address.ask_s
        while True:
            try:
                answer = admin.describe_configs([asked], request_timeout=self._address.ask_s)[asked].result(
                    self._address.ask_s
                )
                return {name: entry.value for name, entry in answer.items()}
            except library.KafkaException as error:
                is_unknown = error.args[0].code() == library.KafkaError.UNKNOWN_TOPIC_OR_PART
                if not is_unknown or time.monotonic() > deadline:
                    raise as_our_error(error.args[0], self._address, SinkFailed) from error
            except TimeoutError as error:
                raise unreachable(self._address, error) from error
            admin.poll(0.05)

    def _check_positions(self, admin: Any) -> None:
        """Refuse a topic of positions that may lose some."""
        address = replace(self._address, topic=kafka_positions.TOPIC)
        count = count_partitions(admin, address)
        policy = self._settings(admin, kafka_positions.TOPIC)["cleanup.policy"]
        if count not in (1, None) or policy != "compact":
            raise SinkFailed(
                "the topic of positions is not what it must be", where=str(address),
                expected="one partition, cleanup.policy=compact", found=f"{count} partitions, {policy}",
                hint="make it as it must be; who deletes it starts all sinks of this cluster from the beginning",
            )  # fmt: skip


def _repeated(
    values: pa.ChunkedArray, weights: np.ndarray[Any, np.dtype[np.int64]]
) -> Iterator[tuple[list[bytes | None], list[bytes | None]]]:
    """Yield values as often as their weights say, each with its sign, a bounded number at a time."""
    signs = pa.array(np.where(weights < 0, -1, 1)).cast(pa.string())
    trimmed = pc.utf8_slice_codeunits(values, 0, -1)
    signed = pc.binary_join_element_wise(trimmed, ',"__weight":', signs, "}", "")
    counts = np.abs(weights)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _ROWS):
        numbers = np.searchsorted(ends, np.arange(start, min(start + _ROWS, total)), side="right")
        texts = _bytes(signed.take(pa.array(numbers)))
        yield [None] * len(texts), texts


def _bytes(texts: pa.ChunkedArray) -> list[bytes | None]:
    found: list[bytes | None] = texts.cast(pa.binary()).to_pylist()
    return found


def _partition_count(address: Address) -> int:
    text = address.options.get("partitions", "1")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise DefinitionError(
            f"{text!r} is not a number of partitions", where=str(address), expected="1 or more"
        )
    return int(text)
