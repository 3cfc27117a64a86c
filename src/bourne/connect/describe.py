"""What a source says of itself: the log that can hold its records, for a log that nobody declared."""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from bourne.connect.files import Format, format_of
from bourne.connect.inference import infer_schema
from bourne.connect.kafka_source import describe_topic
from bourne.connect.postgres_tables import describe as describe_table
from bourne.connect.sources import KNOWN
from bourne.connect.stores import BucketFiles, LocalFiles, Store
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError, InputError
from bourne.log.catalog import LogInfo
from bourne.schema import Schema, declare_schema

STREAMS: Final = ("-", "stdin")
POSTGRES: Final = ("postgres", "postgresql")

_PEEK_BYTES: Final = 1 << 16
_PIECE_BYTES: Final = 1 << 22


def describe_source(url: str, into: str) -> LogInfo:
    """Return the log, called `into`, that a source's records fit. Connects to a server; looks at files or at first lines.

    Raises:
        DefinitionError: the source does not say which columns there are.
        InputError, SourceFailed, Unreachable: it cannot be read.
    """
    parts = parse_url(url)
    if parts.scheme in POSTGRES and "table" in parts.options:
        return replace(describe_table(parts.full), name=into)
    if parts.scheme == "kafka":
        found = describe_topic(parts.full, where=parts.text)
        if found is None:
            raise _unknown(parts, "the topic is empty, and does not say which columns there are")
        return LogInfo(into, found)
    if parts.scheme in ("file", "s3"):
        return LogInfo(into, _of_first_file(parts))
    if parts.scheme in STREAMS:
        return LogInfo(into, _of_stream(parts))
    if parts.scheme == "tcp" and parts.options.get("format", "text") == "text":
        return LogInfo(into, _lines())
    if parts.scheme not in (*POSTGRES, "tcp", "http"):
        raise DefinitionError(
            f"{parts.text!r} is not a source", where=f"log {into!r}", expected=KNOWN, found=parts.text
        )
    raise _unknown(parts, "this source does not say which columns it has")


def _unknown(parts: Url, what: str) -> DefinitionError:
    return DefinitionError(
        what,
        where=parts.text,
        expected="columns that are declared",
        hint="declare the log, or name them: --columns",
    )


def _lines() -> Schema:
    return declare_schema({"line": "VARCHAR"}, where="lines")


def _of_first_file(parts: Url) -> Schema:
    store: Store = BucketFiles(parts) if parts.scheme == "s3" else LocalFiles(parts.path)
    first = next(iter(store.entries()), None)
    if first is None:
        raise _unknown(parts, "there is no file yet that says which columns there are")
    kind: Format = parts.options.get("format") or format_of(first.path)  # type: ignore[assignment]
    if isinstance(store, LocalFiles):
        return _inferred(Path(first.path), kind, parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / first.path.rpartition("/")[2]
        with closing(store.open(first)) as file, path.open("wb") as copy:
            while piece := file.read(_PIECE_BYTES):
                copy.write(piece)
        return _inferred(path, kind, parts)


def _of_stream(parts: Url) -> Schema:
    """Look at the first lines that come, without taking them."""
    stream = None if sys.stdin is None else sys.stdin.buffer
    first: bytes = stream.peek(_PEEK_BYTES) if isinstance(stream, io.BufferedReader) else b""
    kind = parts.options.get("format") or ("jsonl" if first.lstrip()[:1] == b"{" else "text")
    if kind == "text":
        return _lines()
    whole = first[: first.rfind(b"\n") + 1] or first
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard input"
        path.write_bytes(whole)
        return _inferred(path, "csv" if kind == "csv" else "jsonl", parts)


def _inferred(path: Path, kind: Format, parts: Url) -> Schema:
    try:
        found = infer_schema(path, kind, where=parts.text)
    except InputError as error:
        raise DefinitionError(
            f"the columns cannot be told: {error.what}", where=error.where or parts.text, found=error.found,
            hint="mend the input; or declare the log, or name its columns: --columns",
        ) from error  # fmt: skip
    if found is None:
        raise _unknown(parts, "there are no rows yet that say which types the columns have")
    return found
