"""What a reader of committed messages sees of a topic."""

from __future__ import annotations


def newest_values(bootstrap: str, topic: str) -> dict[bytes, bytes]:
    """Return the newest value of each key of a topic with one partition; keys that are gone are not in it."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition  # noqa: PLC0415  (an optional extra)

    settings = {
        "bootstrap.servers": bootstrap, "group.id": "test", "isolation.level": "read_committed",
        "auto.offset.reset": "earliest", "enable.partition.eof": True, "enable.auto.commit": False,
    }  # fmt: skip
    reader = Consumer(settings)
    found: dict[bytes, bytes] = {}
    try:
        reader.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = reader.poll(30)
            assert message is not None, "the broker says nothing"
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                return found
            if message.value() is None:
                found.pop(message.key(), None)
            else:
                found[message.key()] = message.value()
    finally:
        reader.close()
