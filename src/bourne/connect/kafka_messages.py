"""Messages of a topic as records of a log, and as dead letters where that does not go.

What a message's value cannot say, the log may have from Kafka, in columns of these names: `kafka_key` (varchar or
blob), `kafka_timestamp` (a timestamp), `kafka_offset` (bigint), `kafka_headers` (map(varchar, blob)). A field of the
value of that name comes first.

One message that does not fit does not hold back the others: what fails as a whole is halved until it is found.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from bourne.connect.avro_records import AvroReader, read_json_columns
from bourne.connect.json_bulk import read_objects
from bourne.connect.json_lines import fit_parsed, json_readers, parse_line
from bourne.connect.kafka_client import Address, client
from bourne.connect.source import DeadLetter
from bourne.errors import DefinitionError, InputError, MalformedInput
from bourne.log.catalog import LogInfo
from bourne.log.relation import AFTER, BEFORE
from bourne.schema import Schema, conform

FORMATS: Final = ("json", "avro", "text", "bytes")

OPTIONS: Final = frozenset({"format", "schema", "schemas"})

FACTS: Final = ("kafka_key", "kafka_timestamp", "kafka_offset", "kafka_headers")

# The formats in which a dead letter may be tried again.
_READ_AGAIN: Final = {"json": "jsonl", "text": "text"}

# So many messages at most are read one by one, when all of them at once do not go.
_FEW: Final = 64

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

Found = tuple[list[pa.Table], list[DeadLetter]]


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one partition, in their order, by what is needed of them: the library's own objects are costly to keep.

    `raw` are these, where more than the value and the offset is asked for: without a value, or of all.
    """

    values: list[bytes | None]
    offsets: list[int]
    raw: list[Any]

    @staticmethod
    def of(messages: list[Any], *, all_raw: bool) -> Messages:
        """Take out what is needed of messages that are no errors."""
        kind = client().Message
        values = list(map(kind.value, messages))
        raw: list[Any] = [None] * len(values)
        if all_raw:
            raw = messages
        elif None in values:
            raw = [each if value is None else None for each, value in zip(messages, values, strict=True)]
        return Messages(values, list(map(kind.offset, messages)), raw)

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int) -> Messages:
        """Return some of them."""
        return Messages(self.values[start:end], self.offsets[start:end], self.raw[start:end])

    def add(self, more: Messages) -> None:
        """Put more behind them."""
        self.values.extend(more.values)
        self.offsets.extend(more.offsets)
        self.raw.extend(more.raw)

    def each(self) -> Iterator[Message]:
        """Yield them one by one."""
        return map(Message, self.values, self.offsets, self.raw)


class Message(NamedTuple):
    """One of them."""

    value: bytes | None
    offset: int
    raw: Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What Kafka says of messages, for the columns that a log has for it: how a column is read from a message."""

    readers: tuple[tuple[str, Callable[[Any], Any]], ...]

    @staticmethod
    def of(schema: Schema) -> Facts:
        """Return the facts that the schema has columns for."""
        present = [column for column in schema.columns if column.name in FACTS]
        return Facts(tuple((column.name, _fact(column.name, column.type)) for column in present))

    @property
    def names(self) -> frozenset[str]:
        """The columns' names."""
        return frozenset(name for name, _ in self.readers)

    def of_message(self, message: Any) -> dict[str, Any]:
        """Return a message's facts."""
        return {name: read(message) for name, read in self.readers}


def _fact(name: str, kind: str) -> Callable[[Any], Any]:
    if name == "kafka_offset":
        return lambda message: message.offset()
    if name == "kafka_timestamp":
        return _time
    if name == "kafka_headers":
        return lambda message: [(key, value) for key, value in message.headers() or ()]
    return (lambda message: message.key()) if kind == "BLOB" else _text_key


def _time(message: Any) -> Any:
    kind, milliseconds = message.timestamp()
    return None if kind == 0 else _EPOCH + datetime.timedelta(milliseconds=milliseconds)


def _text_key(message: Any) -> str | None:
    key = message.key()
    return None if key is None else key.decode()


class MessageReader:
    """Reads the messages of one topic into one log."""

    def __init__(self, address: Address, log: LogInfo) -> None:
        """Check that the log can take what comes.

        Raises:
            DefinitionError: it cannot, or the format is unknown.
        """
        self.topic = address.topic
        self._log = log
        self._schema = log.schema
        self._facts = Facts.of(log.schema)
        values = [column for column in log.schema.columns if column.name not in self._facts.names]
        self._bulk_schema = Schema(tuple(values))
        self._readers = json_readers(log.schema)
        self._format = read_format(address)
        self._avro = avro_reader(address) if self._format == "avro" else None
        self._column = ""
        if self._format in ("text", "bytes"):
            wanted = "VARCHAR" if self._format == "text" else "BLOB"
            if [column.type for column in values] != [wanted]:
                raise DefinitionError(
                    f"format={self._format} cannot go into log {log.name!r}", where=str(address),
                    expected=f"one {wanted.lower()} column, and {', '.join(FACTS)} if you like",
                    found=", ".join(f"{c.name} {c.type}" for c in values),
                )  # fmt: skip
            self._column = values[0].name

    def take(self, messages: list[Any]) -> Messages:
        """Return what is needed of messages that are no errors, of one partition."""
        return Messages.of(messages, all_raw=bool(self._facts.names))

    def read(self, messages: Messages, partition: int) -> tuple[pa.Table | None, tuple[DeadLetter, ...]]:
        """Return messages of a partition as rows in their order, and those that are none as dead letters."""
        tables, dead = self._read(messages, partition)
        if not tables:
            return None, tuple(dead)
        arrow = (
            self._schema.to_arrow()
        )  # parts that were fitted in different ways may differ in what may be NULL
        return pa.concat_tables([pa.Table.from_arrays(t.columns, schema=arrow) for t in tables]), tuple(dead)

    def _read(self, messages: Messages, partition: int) -> Found:
        table = self._in_columns(messages)
        if table is not None:
            return [table], []
        if len(messages) > _FEW and self._format == "json":
            middle = len(messages) // 2
            tables, dead = self._read(messages.part(0, middle), partition)
            more_tables, more_dead = self._read(messages.part(middle, len(messages)), partition)
            return tables + more_tables, dead + more_dead
        return self._one_by_one(messages, partition)

    def _in_columns(self, messages: Messages) -> pa.Table | None:
        if None in messages.values:
            return None
        table = self._values_in_columns(messages.values)
        if table is None or not self._facts.names:
            return table
        try:
            facts = fit_parsed(
                [self._facts.of_message(each) for each in messages.raw],
                _facts_of(self._schema),
                self._log.name,
            )
        except (InputError, UnicodeDecodeError):
            return None
        columns = [
            (facts if name in self._facts.names else table).column(name) for name in self._schema.names
        ]
        try:
            return conform(pa.table(columns, list(self._schema.names)), self._schema, log=self._log.name)
        except InputError:
            return None

    def _values_in_columns(self, values: Any) -> pa.Table | None:
        if self._format == "json":
            return read_objects(values, self._bulk_schema, log=self._log.name)
        if self._avro is not None:
            return None
        try:
            column = pa.chunked_array([pa.array(values, pa.binary())])
            if self._format == "text":
                column = column.cast(pa.string())  # refuses what is not UTF-8
            return conform(pa.table({self._column: column}), self._bulk_schema, log=self._log.name)
        except (InputError, pa.ArrowException):
            return None

    def _one_by_one(self, messages: Messages, partition: int) -> Found:
        records, kept, dead = [], [], []
        for message in messages.each():
            try:
                records.append(self._record(message))
                kept.append(message)
            except (InputError, UnicodeDecodeError) as error:
                dead.append(self._letter(message, partition, error))
        tables, misfits = self._fit(kept, records, partition)
        return tables, sorted(dead + misfits, key=lambda letter: int(letter.origin.rpartition("@")[2]))

    def _fit(self, messages: Sequence[Message], records: Sequence[dict[str, Any]], partition: int) -> Found:
        if not records:
            return [], []
        try:
            return [fit_parsed(list(records), self._schema, self._log.name)], []
        except InputError as error:
            if len(records) == 1:
                return [], [self._letter(messages[0], partition, error)]
        middle = len(messages) // 2
        tables, dead = self._fit(messages[:middle], records[:middle], partition)
        more_tables, more_dead = self._fit(messages[middle:], records[middle:], partition)
        return tables + more_tables, dead + more_dead

    def _letter(self, message: Message, partition: int, error: Exception) -> DeadLetter:
        origin = f"{self.topic}[{partition}]@{message.offset}"
        if message.value is None:
            return DeadLetter(origin, str(error), message.raw.key() or b"")
        is_line = b"\n" not in message.value  # only then can it be read again as what it was
        return DeadLetter(
            origin, str(error), message.value, _READ_AGAIN.get(self._format, "") if is_line else ""
        )

    def _record(self, message: Message) -> dict[str, Any]:
        """Return a message as a record that is not fitted yet.

        Raises:
            InputError, UnicodeDecodeError: it is none.
        """
        value = message.value
        if value is None:
            return self._tombstone(message.raw.key())
        if self._format == "json":
            record = parse_line(value, self._readers, "the value")
        elif self._avro is not None:
            record = read_json_columns(self._avro.read(value), self._schema)
        else:
            record = {self._column: value.decode() if self._format == "text" else value}
        return self._facts.of_message(message.raw) | record

    def _tombstone(self, key: bytes | None) -> dict[str, Any]:
        """Return the record that says that a key's row is gone."""
        log = self._log
        is_before_after = log.changes == "before_after" and log.key is not None
        if key is None or log.key is None or not (is_before_after or log.tombstone is not None):
            raise MalformedInput(
                "a message without a value", expected="a value, or a key and a log that knows deletions",
                hint=f"declare log {log.name!r} with a key and a tombstone column",
            )  # fmt: skip
        record = self._key_columns(key)
        if is_before_after:
            return {BEFORE: record, AFTER: None}
        assert log.tombstone is not None
        return {**record, log.tombstone: True}

    def _key_columns(self, key: bytes) -> dict[str, Any]:
        """Return the key's column from a message's key: a JSON object with it, a JSON scalar, or plain text."""
        name = self._log.key
        assert name is not None
        try:
            found = parse_line(b'{"key":' + key + b"}", {}, "the key")
            value = found["key"] if len(found) == 1 else key.decode()
        except MalformedInput:
            value = key.decode()
        if isinstance(value, dict):
            if set(value) != {name}:
                raise MalformedInput(
                    "not the log's key", where="the key", expected=name, found=", ".join(value)
                )
            return value
        column = self._schema.column(name)
        is_text = column is not None and column.type == "VARCHAR"
        return {name: key.decode() if is_text and not isinstance(value, str) else value}


def _facts_of(schema: Schema) -> Schema:
    """Return the columns for Kafka's facts, and nothing else."""
    return Schema(tuple(column for column in schema.columns if column.name in FACTS))


def read_format(address: Address) -> str:
    """Return the format that an address names.

    Raises:
        DefinitionError: there is no such format.
    """
    named = address.options.get("format", "json")
    if named not in FORMATS:
        raise DefinitionError(f"{named!r} is not a format", where=str(address), expected=", ".join(FORMATS))
    return named


def avro_reader(address: Address) -> AvroReader:
    """Return the reader of the schemas that an address names.

    Raises: as `AvroReader`.
    """
    schema, folder = address.options.get("schema"), address.options.get("schemas")
    return AvroReader(Path(schema) if schema else None, Path(folder) if folder else None, where=str(address))
