"""What the Kafka source and sink have in common: the URL, the client library, and how its errors are called here.

A URL is `kafka://host:port[,host:port]/topic?option=value`. Options with a dot in their name, such as
`security.protocol`, go to the client library as they are; they may be secret, and no error shows them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from bourne.connect import silence
from bourne.connect.silence import read_silence
from bourne.errors import BourneError, DefinitionError, SourceFailed, Unreachable
from bourne.limits import SILENCE_S

# How long one question to the brokers may take at most, in seconds: longer than a broker needs to elect a leader.
ASK_S: Final = 10.0

# What is decided here: exactly once rests on it.
_OURS: Final = frozenset(
    {
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "isolation.level",
        "partitioner",
        "transactional.id",
    }
)

# The only names of the library's with an underscore.
_CALLBACKS: Final = frozenset({"error_cb", "on_delivery"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a topic is. `options` are Bourne's own, `settings` the client library's."""

    servers: str
    topic: str
    options: Mapping[str, str]
    settings: Mapping[str, str]
    silence_s: float = SILENCE_S

    @property
    def ask_s(self) -> float:
        """How long one question to the brokers may take, in seconds."""
        return min(ASK_S, self.silence_s)

    def __str__(self) -> str:
        return f"kafka://{self.servers}/{self.topic}"

    def __repr__(self) -> str:  # without settings: a password may be among them
        return f"Address({str(self)!r})"


def read_url(url: str, *, options: frozenset[str], where: str) -> Address:
    """Take a URL apart; `options` are those of Bourne's own that are known.

    Raises:
        DefinitionError: it names no brokers or no topic, or an option is unknown or there twice.
    """
    base, _, query = url.partition("?")
    servers, _, topic = base.removeprefix("kafka://").partition("/")
    topic = unquote(topic)
    if not base.startswith("kafka://") or not servers or not topic or "/" in topic or "@" in servers:
        raise DefinitionError(
            "not a Kafka URL", where=where, expected="kafka://HOST:PORT/TOPIC?format=json",
            hint="a user and password are settings: &sasl.username=...&sasl.password=...",
        )  # fmt: skip
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    options = options | {silence.OPTION}
    for name in given:
        if ("." in name and name in _OURS) or ("." not in name and name not in options):
            raise DefinitionError(
                f"{name!r} is not an option of {base}", where=where,
                expected=", ".join([*sorted(options), "settings of the Kafka client with a dot in their name"]),
                hint="remove it" if name in _OURS else None,
            )  # fmt: skip
    if len(given) < len(pairs):
        raise DefinitionError(f"an option of {base} is there twice", where=where, hint="remove one")
    settings = {name: value for name, value in given.items() if "." in name}
    own = {name: value for name, value in given.items() if "." not in name}
    return Address(servers, topic, own, settings, read_silence(own, where=base))


def client() -> Any:
    """Return the client library.

    Raises:
        DefinitionError: it is not installed.
    """
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise DefinitionError(
            "Kafka needs a library that is not installed", hint="pip install 'bourne[kafka]'"
        ) from error
    return confluent_kafka


def settings(address: Address, **more: Any) -> dict[str, Any]:
    """Return the client's settings: the user's, then ours; `more` has underscores for dots. The library is silent."""
    ours = {name if name in _CALLBACKS else name.replace("_", "."): value for name, value in more.items()}
    return {
        "log_level": 0,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1000,
        **_patience(address.silence_s),
        **address.settings,
        "bootstrap.servers": address.servers,
        **ours,
    }


def _patience(silence_s: float) -> dict[str, int]:
    """Return what makes the library give up a connection on which no answer comes.

    The library has lower bounds of its own, and no answer may take longer than a transaction.
    """
    silence_ms = int(silence_s * 1000)
    return {
        "socket.timeout.ms": min(max(silence_ms, 2000), 100_000),
        "socket.connection.setup.timeout.ms": max(silence_ms, 1000),
        "api.version.request.timeout.ms": min(max(silence_ms, 1000), 10_000),
    }


def make(kind: Any, address: Address, **more: Any) -> Any:
    """Return a client of that kind (`Consumer`, `Producer`, `AdminClient`).

    Raises:
        DefinitionError: the library does not take the settings.
    """
    try:
        return kind(settings(address, **more))
    except client().KafkaException as error:
        raise DefinitionError(
            "the Kafka client does not take these settings", where=str(address),
            found=_without_values(error.args[0].str(), address),
        ) from None  # fmt: skip


def _without_values(text: str, address: Address) -> str:
    for value in address.settings.values():
        text = text.replace(value, "...") if value else text
    return text


def unreachable(address: Address, error: Any) -> Unreachable:
    """Return the error for brokers that do not answer."""
    found = error.str() if hasattr(error, "str") else str(error)
    return Unreachable("the Kafka brokers do not answer", where=str(address), found=found)


def count_partitions(asking: Any, address: Address) -> int | None:
    """Return how many partitions the topic has; None if there is no such topic. Any client can ask.

    Raises:
        Unreachable: nobody answers.
        SourceFailed: the brokers refuse to tell.
    """
    library = client()
    # Asked for one topic by name by anyone but a consumer, brokers may make it, with settings of their own.
    named = address.topic if isinstance(asking, library.Consumer) else None
    try:
        topic = asking.list_topics(named, timeout=address.ask_s).topics.get(address.topic)
    except library.KafkaException as error:
        raise unreachable(address, error.args[0]) from error
    if topic is None:
        return None
    if topic.error is None:
        return len(topic.partitions)
    codes = library.KafkaError
    if topic.error.code() in (codes.UNKNOWN_TOPIC_OR_PART, codes._UNKNOWN_TOPIC):
        return None
    if topic.error.code() in (codes.LEADER_NOT_AVAILABLE, codes._TRANSPORT, codes._TIMED_OUT):
        raise unreachable(address, topic.error)
    raise SourceFailed("the topic cannot be looked at", where=str(address), found=topic.error.str())


def topic_id(admin: Any, address: Address) -> str:
    """Return the id that tells a topic from a later one of the same name.

    Raises:
        Unreachable: nobody answers, or the topic is gone.
    """
    library = client()
    try:
        asked = admin.describe_topics(library.TopicCollection([address.topic]), request_timeout=address.ask_s)
        found = asked[address.topic].result(address.ask_s).topic_id
    except (library.KafkaException, TimeoutError) as error:
        raise unreachable(address, error.args[0] if error.args else error) from error
    high, low = (int(found.get_most_significant_bits()), int(found.get_least_significant_bits()))
    return str(uuid.UUID(int=(high % (1 << 64)) << 64 | low % (1 << 64)))


def as_our_error(error: Any, address: Address, kind: type[BourneError]) -> BourneError:
    """Return what an error of the library is here: `kind` if trying again is no use, else `Unreachable`."""
    codes = client().KafkaError
    final = {
        codes.UNKNOWN_TOPIC_OR_PART: "the topic is gone",
        codes._UNKNOWN_TOPIC: "the topic is gone",
        codes._UNKNOWN_PARTITION: "a partition of the topic is gone",
        codes.TOPIC_AUTHORIZATION_FAILED: "the brokers do not let us at the topic",
        codes.CLUSTER_AUTHORIZATION_FAILED: "the brokers do not let us in",
        codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "the brokers do not let us use that transactional id",
        codes._AUTHENTICATION: "the brokers do not know us",
        codes.SASL_AUTHENTICATION_FAILED: "the brokers do not know us",
    }
    if error.code() in final:
        return kind(final[error.code()], where=str(address), found=error.str())
    return unreachable(address, error)
