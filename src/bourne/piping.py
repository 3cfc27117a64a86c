"""One source, one SELECT, one sink: the app that `bourne pipe` runs. The source is `input`, the SELECT's rows are `output`.

The columns of `input` are what the source says: those of a table, of a file, or of the first lines that come.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bourne.app import App
from bourne.connect.files import Format, format_of
from bourne.connect.inference import infer_schema
from bourne.connect.sources import KNOWN
from bourne.connect.stores import LocalFiles
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError, InputError

_STREAMS: Final = ("-", "stdin")

_PEEK_BYTES: Final = 1 << 16


def pipe_app(
    source: str, sql: str | None, sink: str | None, *, columns: str | None = None, key: Sequence[str] = ()
) -> App:
    """Return the app; without a `sink` it has none, and its view is to be asked.

    `columns` declares those of the source ("kind varchar, n double"), `key` those of the sink's key.

    Raises:
        DefinitionError: the source's columns are not known, or something else does not fit.
        InputError, SourceFailed: they cannot be read.
    """
    app = App("pipe")
    parts = parse_url(source)
    declared = _declared(columns) if columns is not None else _columns_of(parts)
    url = source
    if parts.scheme in _STREAMS and "format" not in parts.options and declared != _LINE:
        url = f"{source}?format=jsonl"
    app.log("input", schema=declared)
    app.source(url, into="input")
    app.view("output", sql or "SELECT * FROM input", grows=True)
    if sink is not None:
        app.sink("output", sink, key=key)
    return app


def has_end(source: str) -> bool:
    """Say whether a source comes to an end by itself: a stream and files do, a server does not."""
    return parse_url(source).scheme in ("file", "s3", *_STREAMS)


_LINE: Final = {"line": "VARCHAR"}


def _declared(columns: str) -> dict[str, str]:
    found = {}
    depth, start = 0, 0
    for end, character in enumerate(f"{columns},"):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            name, _, kind = columns[start:end].strip().partition(" ")
            if not kind.strip():
                raise DefinitionError(
                    "columns are a name and a type each", where="--columns", expected="kind varchar, n double",
                    found=columns,
                )  # fmt: skip
            found[name] = kind.strip()
            start = end + 1
    return found


def _columns_of(parts: Url) -> dict[str, str]:
    """Return what the source says of its columns."""
    if parts.scheme == "file":
        entries = LocalFiles(parts.path).entries()
        if not entries:
            raise DefinitionError(
                "there is no file yet that says which columns there are",
                where=parts.text,
                hint="name them: --columns",
            )
        kind: Format = parts.options.get("format") or format_of(entries[0].path)  # type: ignore[assignment]
        return _inferred(Path(entries[0].path), kind, parts.text)
    if parts.scheme in _STREAMS:
        return _columns_of_stream(parts)
    if parts.scheme == "tcp" and parts.options.get("format", "text") == "text":
        return dict(_LINE)
    raise DefinitionError(
        "the columns of this source are not known",
        where=parts.text,
        expected=KNOWN,
        hint="name them: --columns",
    )


def _columns_of_stream(parts: Url) -> dict[str, str]:
    """Look at the first lines that come, without taking them."""
    stream = None if sys.stdin is None else sys.stdin.buffer
    first: bytes = stream.peek(_PEEK_BYTES) if isinstance(stream, io.BufferedReader) else b""
    kind = parts.options.get("format") or ("jsonl" if first.lstrip()[:1] == b"{" else "text")
    if kind == "text":
        return dict(_LINE)
    whole = first[: first.rfind(b"\n") + 1] or first
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard input"
        path.write_bytes(whole)
        return _inferred(path, "csv" if kind == "csv" else "jsonl", parts.text)


def _inferred(path: Path, kind: Format, where: str) -> dict[str, str]:
    try:
        found = infer_schema(path, kind, where=where)
    except InputError as error:
        raise DefinitionError(
            f"the columns cannot be told: {error.what}", where=error.where or where, found=error.found,
            hint="mend the input, or name the columns: --columns",
        ) from error  # fmt: skip
    if found is None:
        raise DefinitionError(
            "there are no rows yet that say which types the columns have",
            where=where,
            hint="name them: --columns",
        )
    return {column.name: column.type for column in found.columns}
