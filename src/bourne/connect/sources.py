"""Which URL means which source."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.files import Format
from bourne.connect.files_taken import FilesTaken
from bourne.connect.folder import Files
from bourne.connect.http_push import Append, HttpPush
from bourne.connect.kafka_source import KafkaTopic
from bourne.connect.lines import LineFormat, StreamLines, TcpLines
from bourne.connect.outbox import PostgresOutbox
from bourne.connect.postgres import PostgresChanges
from bourne.connect.source import Source
from bourne.connect.stores import BucketFiles, LocalFiles
from bourne.connect.stream_records import StreamRecords
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError
from bourne.limits import SETTLE_S
from bourne.log.catalog import LogInfo
from bourne.ports import Clock

_FORMATS: Final[dict[str, Format]] = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "arrow": "arrow"}
_LINE_FORMATS: Final[dict[str, LineFormat]] = {"text": "text", "jsonl": "jsonl"}

KNOWN: Final = (
    "a path of files, a folder (its name ends with /), s3://BUCKET/PATH, postgres://…?table=NAME, postgres://…?outbox=NAME, "
    "kafka://HOST/TOPIC, http://HOST:PORT, tcp://HOST:PORT, stdin: or -"
)

_Kind = TypeVar("_Kind", Format, LineFormat)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may need of the app that it works for: its log and the rows of that, the clock, the files that it
    has taken in, and, if its senders wait for an answer, the log's `append`."""

    log: LogInfo
    clock: Clock
    files_taken: Callable[[str], FilesTaken]
    rows: Callable[[], pa.Table]
    append: Append


def source_name(url: str, name: str | None) -> str:
    """Return what a source is called: as it was named, or what its URL is about.

    Raises:
        DefinitionError: that is no URL.
    """
    return name or parse_url(url).name


def reads_files(url: str) -> bool:
    """Say whether a source reads files, which are noted in a log of their own."""
    return parse_url(url).scheme in ("file", "s3")


def open_source(url: str, around: Surroundings, *, name: str | None = None) -> Source:
    """Return the source that a URL names. Most of them connect only when they are read.

    Raises:
        DefinitionError: no such kind of source or option, or the log cannot take its records.
        SourceFailed: the port cannot be listened on.
    """
    parts = parse_url(url)
    called = name or parts.name
    if parts.scheme in ("file", "s3") and (parts.path or parts.host):
        return _files(parts, around, called)
    if parts.scheme == "tcp" and parts.host and parts.port is not None:
        parts.check_options("format")
        kind = _choice(parts, _LINE_FORMATS) or "text"
        return TcpLines(parts.host, parts.port, around.log, around.clock, name=called, kind=kind)
    if parts.scheme == "http" and parts.host and parts.port is not None and parts.path in ("", "/"):
        parts.check_options("token")
        return HttpPush(parts, around.log, around.clock, around.append, name=name)
    if parts.scheme in ("stdin", "-"):
        parts.check_options("format")
        stream = sys.stdin.buffer if sys.stdin is not None else io.BytesIO()
        if parts.options.get("format") == "csv":
            return StreamRecords(stream, around.log, name=name or "standard input")
        kind = _choice(parts, _LINE_FORMATS) or "text"
        return StreamLines(stream, around.log, around.clock, name=name or "standard input", kind=kind)
    if parts.scheme in ("postgres", "postgresql"):
        if "outbox" in parts.options:
            return PostgresOutbox(parts.full, around.log, name=called)
        keyed = _Keyed(around.log, around.rows)
        return PostgresChanges(
            parts.full, around.log, name=called, current=keyed.current, live_keys=keyed.live_keys
        )
    if parts.scheme == "kafka":
        topic = KafkaTopic(parts.full, around.log)
        topic.name = called
        return topic
    raise DefinitionError(
        f"{parts.text!r} is not a source", where=f"log {around.log.name!r}", expected=KNOWN, found=parts.text
    )


@dataclass(frozen=True, slots=True)
class _Keyed:
    """The rows of a log by its key, for what a source of changes does not say."""

    log: LogInfo
    rows: Callable[[], pa.Table]

    def current(self, keys: pa.Table) -> pa.Table:
        """Return the newest rows of some keys. O(rows of the log)."""
        rows = self.rows()
        name = keys.column_names[0]
        column = next(each for each in rows.column_names if each.casefold() == name.casefold())
        wanted = keys.column(0).cast(rows.schema.field(column).type).combine_chunks()
        return rows.filter(pc.is_in(rows.column(column), value_set=wanted))

    def live_keys(self) -> pa.Table:
        """Return the keys of all rows."""
        assert self.log.key is not None
        return self.rows().select([self.log.key])


def _files(parts: Url, around: Surroundings, name: str) -> Files:
    is_bucket = parts.scheme == "s3"
    parts.check_options(
        "format", "watch", "settle", *(("endpoint", "region", "silence") if is_bucket else ())
    )
    store = BucketFiles(parts) if is_bucket else LocalFiles(parts.path)
    return Files(
        name, store, around.log, around.clock, around.files_taken(name), kind=_choice(parts, _FORMATS),
        is_watched=parts.flag("watch", default=not store.is_single),
        settle_s=parts.number("settle", default=0 if store.is_single else SETTLE_S),
    )  # fmt: skip


def _choice(parts: Url, choices: Mapping[str, _Kind]) -> _Kind | None:
    text = parts.options.get("format")
    if text is not None and text not in choices:
        raise DefinitionError(
            f"no such format: {text!r}", where=parts.text, expected=", ".join(choices), found=text
        )
    return None if text is None else choices[text]
