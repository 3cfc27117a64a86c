"""A Kafka topic as a source: partition p of the topic goes into partition p of the log, in its order.

Law: a position is the offset that is read next, and the id of the topic. Offsets below it were handed over; those that
are gone from the topic before they were are an error, never skipped. Only what is committed is read, so a record of a
transaction is there once, or not at all. No consumer group takes part: positions are in the log alone.

The log has as many partitions as the topic, and need not agree with Kafka on which key belongs where: what counts is
that all records of a key are in one partition, in order, which is the producer's doing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bourne.connect.ahead import read_ahead
from bourne.connect.inference import infer_records
from bourne.connect.json_lines import parse_line
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
from bourne.connect.kafka_messages import OPTIONS, MessageReader, Messages, avro_reader, read_format
from bourne.connect.source import Delivery, Lag, Position, Taken
from bourne.connect.uncollected import uncollected
from bourne.errors import DefinitionError, SourceFailed
from bourne.limits import FILE_BATCH_BYTES
from bourne.log.catalog import LogInfo
from bourne.schema import Schema, declare_schema

# Messages that are taken at once: many enough that what a batch costs does not show, few enough to be quick.
_BATCH_MESSAGES: Final = 30_000

# The library makes so many messages without letting other threads of Python work.
_PIECE_MESSAGES: Final = 1_000

# How long is waited for a first message, and then for more, in seconds.
_WAIT_S: Final = 0.1
_MORE_S: Final = 0.005

# How often the topic's partitions are counted again, in seconds: whether somebody answers shows with that, too.
_COUNT_S: Final = 30.0

# What is looked at, to tell the columns of a topic that nobody declared.
_SAMPLE_MESSAGES: Final = 10_000

# Fetches ahead by count and bytes; the library's own bounds make it pause for a second whenever it is ahead.
FETCH: Final = {
    "queued_min_messages": 1_000_000,
    "queued_max_messages_kbytes": 32 << 10,
    "fetch_queue_backoff_ms": 5,
    "fetch_message_max_bytes": 4 << 20,
}


@dataclass(slots=True)
class _Batch:
    """What came at once: messages by their partition, and the errors among them."""

    partitions: dict[int, Messages] = field(default_factory=dict)
    errors: list[Any] = field(default_factory=list)


class KafkaTopic:
    """Reads a topic into a log. Exactly once, as the positions are durable with the records."""

    delivery: Delivery = "exactly once"

    def __init__(self, url: str, log: LogInfo) -> None:
        """Check URL and log; nothing is connected yet.

        Raises:
            DefinitionError: the URL, an option or the log does not fit.
        """
        self._address = read_url(url, options=OPTIONS, where=f"source of log {log.name!r}")
        client()
        self.name = str(self._address)
        self._log = log
        self._messages = MessageReader(self._address, log)
        self._is_stopped = threading.Event()
        self._is_down = False
        self._ends: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._undecided: dict[int, int] = {}

    def read(self, position: Position | None, partitions: dict[int, Position]) -> Iterator[Taken | None]:
        """Go on from the positions of the partitions; see `Source`."""
        consumer = _consumer(self._address, self._note)
        try:
            identity = self._start(consumer, partitions)
            counted = time.monotonic()
            # The next messages come out of the library while the last ones are read and appended.
            with contextlib.closing(read_ahead(self._all(consumer))) as batches:
                for batch in batches:
                    if batch.partitions or batch.errors:
                        self._look_ahead(consumer)
                        yield from self._hand_over(batch, identity)
                    else:
                        self._check_alive(consumer)
                        yield None
                    if time.monotonic() - counted > min(_COUNT_S, self._address.silence_s):
                        self._check_same(consumer, identity)
                        counted = time.monotonic()
        finally:
            consumer.close()

    def confirm(self, position: Position) -> None:
        """Do nothing: Kafka forgets by its own rules."""

    def lag(self) -> Lag:
        """Return how many offsets are not read yet, as of the last fetch; a transaction's own marks count, too."""
        ends, undecided = dict(self._ends), sum(dict(self._undecided).values())
        if not ends:
            return Lag()
        behind = sum(max(end - self._next.get(partition, 0), 0) for partition, end in ends.items())
        note = f"{undecided} offsets wait for a transaction to be decided" if undecided else None
        return Lag(records=max(behind - undecided, 0), note=note)

    def stop(self) -> None:
        """Let `read` end within a tenth of a second."""
        self._is_stopped.set()

    # --- opening ---

    def _start(self, consumer: Any, positions: Mapping[int, Position]) -> str:
        """Assign all partitions from their positions; return the topic's id."""
        count = self._check_count(consumer)
        admin = make(client().admin.AdminClient, self._address)
        identity = topic_id(admin, self._address)
        starts = []
        self._undecided = {}
        for partition in range(count):
            low, high = _bounds(consumer, self._address, partition)
            start = self._offset(positions.get(partition), partition, (low, high), identity)
            self._next[partition], self._ends[partition] = start, high
            starts.append(client().TopicPartition(self._address.topic, partition, start))
        consumer.assign(starts)
        return identity

    def _check_count(self, consumer: Any) -> int:
        count = count_partitions(consumer, self._address)
        if count is None:
            raise SourceFailed(
                "there is no such topic", where=self.name, hint="create it, or mend the URL of the source"
            )
        if count != self._log.partitions:
            raise DefinitionError(
                f"log {self._log.name!r} and its topic have different numbers of partitions", where=self.name,
                expected=f"{count} partitions, as the topic has", found=f"{self._log.partitions} in the log",
                hint=f"declare a log with partitions={count}",
            )  # fmt: skip
        return count

    def _offset(
        self, position: Position | None, partition: int, bounds: tuple[int, int], identity: str
    ) -> int:
        low, high = bounds
        if position is None:
            return low
        offset = int(position["offset"])
        if position["topic"] != identity:
            raise self._another(position["topic"], identity)
        if not low <= offset <= high:
            raise self._gap(offset, partition, bounds)
        return offset

    def _check_same(self, consumer: Any, identity: str) -> None:
        """Look whether the topic is still what it was at the start."""
        self._check_count(consumer)
        admin = make(client().admin.AdminClient, self._address)
        found = topic_id(admin, self._address)
        if found != identity:
            raise self._another(identity, found)

    def _another(self, expected: str, found: str) -> SourceFailed:
        return SourceFailed(
            "the topic is not the one that was read: it was deleted and made again", where=self.name,
            expected=f"topic id {expected}", found=f"topic id {found}", hint="read it into a new log",
        )  # fmt: skip

    def _gap(self, offset: int, partition: int, bounds: tuple[int, int]) -> SourceFailed:
        low, high = bounds
        lost = f"offsets {offset} to {low - 1} were deleted before they were read"
        short = f"the topic ends at {high}: it has lost what it had"
        return SourceFailed(
            "records are missing in the topic", where=f"{self.name}, partition {partition}",
            expected=f"offset {offset}", found=lost if offset < low else short,
            hint="keep records longer in Kafka; read the topic into a new log to go on from what is there",
        )  # fmt: skip

    # --- reading ---

    def _all(self, consumer: Any) -> Iterator[_Batch]:
        """Yield the messages that come, none of them where there are none just now, until stopped."""
        while not self._is_stopped.is_set():
            yield self._take(consumer)

    def _take(self, consumer: Any) -> _Batch:
        """Return the messages that are there, bounded in number and, by what is fetched ahead, in bytes."""
        batch = _Batch()
        try:
            count = self._take_piece(consumer, batch, 1, _WAIT_S)
            wanted = min(_BATCH_MESSAGES - 1, _PIECE_MESSAGES) if count else 0
            while wanted:
                with uncollected():  # in which the library's messages come and go
                    taken = self._take_piece(consumer, batch, wanted, _MORE_S)
                count += taken
                wanted = 0 if taken < wanted else min(_BATCH_MESSAGES - count, _PIECE_MESSAGES)
            return batch
        except client().KafkaException as error:
            raise as_our_error(error.args[0], self._address, SourceFailed) from error

    def _take_piece(self, consumer: Any, batch: _Batch, wanted: int, wait_s: float) -> int:
        """Put messages into the batch; return how many came, errors among them."""
        messages = consumer.consume(wanted, wait_s)
        count, message_error = len(messages), client().Message.error
        if any(map(message_error, messages)):
            batch.errors += [each for each in messages if message_error(each) is not None]
            messages = [each for each in messages if message_error(each) is None]
        for partition, mine in self._by_partition(messages):
            taken = self._messages.take(mine)
            if partition in batch.partitions:
                batch.partitions[partition].add(taken)
            else:
                batch.partitions[partition] = taken
        return count

    def _hand_over(self, batch: _Batch, identity: str) -> Iterator[Taken]:
        """Yield a part for each partition, then raise the first error among them."""
        for partition, messages in batch.partitions.items():
            for start, end in _parts(messages.values):
                part = messages.part(start, end)
                rows, dead = self._messages.read(part, partition)
                self._next[partition] = part.offsets[-1] + 1
                self._undecided.pop(partition, None)
                yield Taken(rows, {"offset": self._next[partition], "topic": identity}, partition, dead)
        for message in batch.errors:
            taken = self._at_error(message, message.error(), identity)
            if taken is not None:
                yield taken

    def _by_partition(self, messages: list[Any]) -> Iterable[tuple[int, list[Any]]]:
        """Return messages by their partition."""
        if self._log.partitions == 1 or not messages:
            return [(0, messages)] if messages else []
        groups: dict[int, list[Any]] = {}
        for number, message in zip(map(client().Message.partition, messages), messages, strict=True):
            groups.setdefault(number, []).append(message)
        return groups.items()

    def _at_error(self, message: Any, error: Any, identity: str) -> Taken | None:
        """Take in that a partition is at its end, which may be behind marks that are no records; raise what is worse."""
        codes = client().KafkaError
        partition, offset = message.partition(), message.offset()
        if error.code() == codes._PARTITION_EOF:
            if offset < self._next[partition]:
                return None
            self._undecided[partition] = max(self._ends.get(partition, offset) - offset, 0)
            if offset == self._next[partition]:
                return None
            self._next[partition] = offset
            return Taken(None, {"offset": offset, "topic": identity}, partition)
        if error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
            asking = _consumer(self._address)
            try:
                bounds = _bounds(asking, self._address, partition)
            finally:
                asking.close()
            raise self._gap(self._next[partition], partition, bounds)
        raise as_our_error(error, self._address, SourceFailed)

    def _look_ahead(self, consumer: Any) -> None:
        """Note where the partitions end, as the last fetch said: asks nobody."""
        for partition in self._ends:
            asked = client().TopicPartition(self._address.topic, partition)
            known = consumer.get_watermark_offsets(asked, cached=True)
            if known is not None and known[1] >= 0:
                self._ends[partition] = known[1]

    def _note(self, error: Any) -> None:
        self._is_down = self._is_down or error.code() == client().KafkaError._ALL_BROKERS_DOWN

    def _check_alive(self, consumer: Any) -> None:
        if self._is_down:
            self._check_count(consumer)
            self._is_down = False


def describe_topic(url: str, *, where: str) -> Schema | None:
    """Return the columns of a topic that nobody declared; None if it is empty. Reads a sample from its beginning.

    Raises:
        DefinitionError: a column has no usable name or type.
        InputError: a message is not what the format says.
        Unreachable, SourceFailed: the topic cannot be read.
    """
    address = read_url(url, options=OPTIONS, where=where)
    kind = read_format(address)
    if kind in ("text", "bytes"):
        return declare_schema({"value": "VARCHAR" if kind == "text" else "BLOB"}, where=where)
    if kind == "avro":
        reader = avro_reader(address)
        types = reader.columns(None) or reader.columns(next(iter(_sample(address, 1)), None))
    else:
        sample = _sample(address, _SAMPLE_MESSAGES)
        types = infer_records(parse_line(value, {}, f"{address}, a sample") for value in sample)
    return declare_schema(types, where=f"{where}, {address}") if types else None


def _sample(address: Address, count: int) -> list[bytes]:
    """Return some of the first messages of a topic that have a value, of each partition in turn."""
    consumer = _consumer(address)
    values: list[bytes] = []
    try:
        partitions = count_partitions(consumer, address)
        if partitions is None:
            raise SourceFailed("there is no such topic", where=str(address))
        for partition in range(partitions):
            start, _ = _bounds(consumer, address, partition)
            consumer.assign([client().TopicPartition(address.topic, partition, start)])
            values += _first(consumer, address, -(-count // partitions))
    finally:
        consumer.close()
    return values


def _first(consumer: Any, address: Address, count: int) -> list[bytes]:
    """Return the values of the first messages that come, up to a number, a size, or the end of the partition."""
    values: list[bytes] = []
    deadline = time.monotonic() + address.ask_s
    while count > 0 and sum(map(len, values)) < FILE_BATCH_BYTES:
        taken = consumer.consume(min(count, 1000), _WAIT_S)
        for error in (message.error() for message in taken):
            if error is not None and error.code() != client().KafkaError._PARTITION_EOF:
                raise as_our_error(error, address, SourceFailed)
        records = [message for message in taken if message.error() is None]
        values += [message.value() for message in records if message.value() is not None]
        if len(records) < len(taken):
            break
        if taken:
            deadline = time.monotonic() + address.ask_s
        elif time.monotonic() > deadline:
            raise unreachable(address, "no answer")
        count -= len(taken)
    return values


def _parts(values: list[bytes | None]) -> Iterator[tuple[int, int]]:
    """Cut the values of messages into parts of bounded bytes, each with at least one of them."""
    start, size = 0, 0
    if sum(map(len, filter(None, values))) > FILE_BATCH_BYTES:
        for index, value in enumerate(values):
            length = len(value or b"")
            if size + length > FILE_BATCH_BYTES and index > start:
                yield start, index
                start, size = index, 0
            size += length
    yield start, len(values)


def _consumer(address: Address, on_error: Callable[[Any], None] | None = None) -> Any:
    return make(
        client().Consumer, address, group_id="bourne", enable_auto_commit=False, enable_partition_eof=True,
        enable_auto_offset_store=False, isolation_level="read_committed", auto_offset_reset="error",
        **FETCH, **({} if on_error is None else {"error_cb": on_error}),
    )  # fmt: skip


def _bounds(consumer: Any, address: Address, partition: int) -> tuple[int, int]:
    """Return the first offset that is there, and the one after the last one that is decided."""
    library = client()
    try:
        low, high = consumer.get_watermark_offsets(
            library.TopicPartition(address.topic, partition), timeout=address.ask_s
        )
    except library.KafkaException as error:
        raise as_our_error(error.args[0], address, SourceFailed) from error
    return low, high
