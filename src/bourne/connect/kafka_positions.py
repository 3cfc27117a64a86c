"""Where Kafka sinks stand: a compacted topic, in which the newest record of a sink's name is its position.

Law: a position is in the same transaction as its rows, so the newest committed one says what the topic holds. It is
found only if all before the end is decided: another sink's open transaction hides what comes after it.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from bourne.connect.kafka_client import Address, as_our_error, client, make, unreachable
from bourne.connect.source import Position
from bourne.errors import SinkFailed, Unreachable

TOPIC: Final = "bourne_positions"

# Small segments: only closed ones are compacted, and all of the topic is read at a start.
SETTINGS: Final = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 << 20),
    "min.cleanable.dirty.ratio": "0.1",
}

# How long is waited for other sinks' transactions to be decided, in seconds.
_DECIDE_S: Final = 30.0


def record(name: str, position: Position, identity: str) -> tuple[bytes, bytes]:
    """Return key and value of the record that says where a sink stands in the topic with that id."""
    content = {"position": position, "topic": identity}
    return name.encode(), json.dumps(content, ensure_ascii=False).encode()


def read_position(admin: Any, address: Address, name: str, identity: str) -> Position | None:
    """Return the newest committed position of a sink in the topic with that id. O(bytes of the positions' topic).

    Raises:
        Unreachable: nobody answers, or some transaction stays undecided.
        SinkFailed: the positions cannot be read.
    """
    library = client()
    end = _end(admin, address)
    consumer = make(
        library.Consumer, address, group_id="bourne", enable_auto_commit=False, enable_partition_eof=True,
        isolation_level="read_committed", auto_offset_reset="earliest", fetch_wait_max_ms=10,
    )  # fmt: skip
    found: Position | None = None
    offset, deadline = 0, time.monotonic() + _DECIDE_S
    try:
        consumer.assign([library.TopicPartition(TOPIC, 0, 0)])
        while offset < end:
            if time.monotonic() > deadline:
                raise Unreachable(
                    "other transactions hide where this sink stands", where=f"{address}, topic {TOPIC}",
                    expected=f"all decided up to offset {end}", found=f"decided up to {offset}",
                )  # fmt: skip
            for message in consumer.consume(10_000, 0.1):
                error = message.error()
                if error is None:
                    offset = message.offset() + 1
                    if message.key() == name.encode():
                        found = _content(message.value(), identity, address)
                elif error.code() == library.KafkaError._PARTITION_EOF:
                    offset = max(offset, message.offset())
                else:
                    raise as_our_error(error, address, SinkFailed)
    finally:
        consumer.close()
    return found


def _end(admin: Any, address: Address) -> int:
    """Return where the positions' topic ends, undecided records included."""
    library = client()
    asked = library.TopicPartition(TOPIC, 0)
    try:
        answers = admin.list_offsets(
            {asked: library.admin.OffsetSpec.latest()},
            isolation_level=library.IsolationLevel.READ_UNCOMMITTED,
            request_timeout=address.ask_s,
        )
        return int(answers[asked].result(address.ask_s).offset)
    except library.KafkaException as error:
        raise as_our_error(error.args[0], address, SinkFailed) from error
    except TimeoutError as error:
        raise unreachable(address, error) from error


def _content(value: bytes | None, identity: str, address: Address) -> Position | None:
    """Return the position in a record; None if it is about an earlier topic of that name, or taken back."""
    try:
        content = {"topic": None} if value is None else json.loads(value)
        return content["position"] if content["topic"] == identity else None
    except (ValueError, LookupError, TypeError) as error:
        raise SinkFailed(
            "a sink's position cannot be read", where=f"{address}, topic {TOPIC}", found=str(value)[:80]
        ) from error
