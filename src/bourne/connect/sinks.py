"""Which URL means which sink."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

from bourne.connect.duckdb_sink import DuckdbSink
from bourne.connect.file_sink import FileSink, StreamSink
from bourne.connect.kafka_sink import KafkaSink
from bourne.connect.parquet_sink import ParquetSink
from bourne.connect.postgres_sink import PostgresSink
from bourne.connect.redis_sink import RedisSink
from bourne.connect.sink import Shape, Sink
from bourne.connect.source import Delivery
from bourne.connect.sqlite_sink import SqliteSink
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError

KNOWN: Final = (
    "postgres://…?table=NAME, sqlite:PATH?table=NAME, duckdb:PATH?table=NAME, redis://HOST/0?prefix=NAME:, "
    "kafka://HOST/TOPIC, parquet:FOLDER/, jsonl:PATH, csv:PATH, or -"
)

# From the weakest to the strongest.
_DELIVERIES: Final[tuple[Delivery, ...]] = ("at most once", "at least once", "exactly once")


def sink_name(url: str, view: str, name: str | None) -> str:
    """Return what a sink's position is kept under: as it was named, or the view and what its URL is about.

    Raises:
        DefinitionError: that is no URL.
    """
    return name or f"{view} -> {parse_url(url).name}"


def check_delivery(asked: str | None, sink: Sink, name: str) -> Delivery:
    """Return what a sink is to promise.

    Raises:
        DefinitionError: it cannot promise that.
    """
    if asked is None:
        return sink.delivery
    possible = _DELIVERIES[: _DELIVERIES.index(sink.delivery) + 1]
    for each in possible:
        if each == asked:
            return each
    raise DefinitionError(
        f"sink {name!r} cannot deliver {asked!r}", expected=", ".join(map(repr, possible)), found=repr(asked),
        hint="leave delivery=… out for the best that it can",
    )  # fmt: skip


def sink_kind(url: Url) -> str:
    """Return which kind of sink a URL means: its scheme, or the ending of a path."""
    return PurePath(url.path).suffix.lower().removeprefix(".") if url.scheme == "file" else url.scheme


def open_sink(url: str, shape: Shape) -> Sink:
    """Return the sink that a URL names. It connects only when it is opened.

    Raises:
        DefinitionError: no such kind of sink or option, or it cannot take rows of this shape.
    """
    parts = parse_url(url)
    where = f"sink {shape.name!r}"
    if parts.scheme in ("-", "stdout"):
        parts.check_options("format")
        kind = parts.options.get("format", "jsonl")
        if kind not in ("jsonl", "csv"):
            raise DefinitionError("no such format", where=where, expected="jsonl or csv", found=kind)
        return StreamSink(sys.stdout, "csv" if kind == "csv" else "jsonl", shape)
    suffix = sink_kind(parts)
    if suffix in _SINKS:
        full = parts.full if parts.scheme != "file" else f"{suffix}:{parts.full}"
        return _SINKS[suffix](full, shape)
    raise DefinitionError(f"{parts.text!r} is not a sink", where=where, expected=KNOWN, found=parts.text)


# By the scheme, or the ending of a path.
_SINKS: Final[dict[str, Callable[[str, Shape], Sink]]] = {
    "jsonl": FileSink.from_url,
    "csv": FileSink.from_url,
    "parquet": ParquetSink.from_url,
    "sqlite": SqliteSink.from_url,
    "duckdb": DuckdbSink.from_url,
    "kafka": KafkaSink,
    "redis": RedisSink.from_url,
    "rediss": RedisSink.from_url,
    "postgres": PostgresSink.from_url,
    "postgresql": PostgresSink.from_url,
}
