"""What tests of Kafka do with a broker: make topics, put messages in, and look at what is there."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from servers.kafka import KafkaServer


def new_topic(server: KafkaServer, partitions: int = 1, **settings: str) -> str:
    """Make a topic of a new name; settings have underscores for dots."""
    name = f"topic-{uuid.uuid4().hex[:12]}"
    make_topic(server, name, partitions, **settings)
    return name


def make_topic(server: KafkaServer, name: str, partitions: int = 1, **settings: str) -> None:
    config = {key.replace("_", "."): value for key, value in settings.items()}
    asking = admin(server)  # it must live until the answer is there
    asking.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)


def add_partitions(server: KafkaServer, topic: str, count: int) -> None:
    asking = admin(server)
    asking.create_partitions([NewPartitions(topic, count)])[topic].result(30)


def delete_topic(server: KafkaServer, topic: str) -> None:
    asking = admin(server)
    asking.delete_topics([topic])[topic].result(30)


def delete_before(server: KafkaServer, topic: str, offset: int) -> None:
    """Delete the records of partition 0 before an offset."""
    wanted = TopicPartition(topic, 0, offset)
    asking = admin(server)
    asking.delete_records([wanted])[wanted].result(30)


def admin(server: KafkaServer) -> AdminClient:
    return AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})


def produce(
    server: KafkaServer, topic: str, values: Iterable[Any], *, partition: int = 0, **more: Any
) -> None:
    """Put messages in: values, or pairs of key and value. Durable on return."""
    producer = Producer(
        {"bootstrap.servers": server.bootstrap, "message.max.bytes": 50_000_000, "log_level": 0}
    )
    for value in values:
        key, content = value if isinstance(value, tuple) else (None, value)
        while True:
            try:
                producer.produce(topic, key=key, value=content, partition=partition, **more)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def transactional(server: KafkaServer, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": server.bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(30)
    return producer


def committed(server: KafkaServer, topic: str, partitions: int = 1) -> list[Any]:
    """Return the messages of a topic that a reader of what is committed sees, of each partition in turn."""
    consumer = Consumer(
        {
            "bootstrap.servers": server.bootstrap, "group.id": "test", "enable.partition.eof": True,
            "isolation.level": "read_committed", "enable.auto.commit": False, "log_level": 0,
        }
    )  # fmt: skip
    found: list[Any] = []
    for partition in range(partitions):
        consumer.assign([TopicPartition(topic, partition, 0)])
        has_ended = False
        while not has_ended:
            for message in consumer.consume(1000, 1.0):
                if message.error() is None:
                    found.append(message)
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                    has_ended = True
    consumer.close()
    return found


def log_of(columns: Mapping[str, str], **more: Any) -> Any:
    """Return a log with these columns."""
    from bourne.log.catalog import LogInfo  # noqa: PLC0415
    from bourne.schema import declare_schema  # noqa: PLC0415

    return LogInfo("taken", declare_schema(columns, where="test"), **more)
