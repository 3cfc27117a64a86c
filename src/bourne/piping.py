"""One source, one SELECT, one sink: the app that `bourne pipe` runs. The source is `input`, the SELECT's rows are `output`.

The columns of `input` are what the source says: those of a table, of a file, or of the first lines that come.
"""

from __future__ import annotations

from collections.abc import Sequence

from bourne.app import App
from bourne.connect.describe import STREAMS, describe_source
from bourne.connect.urls import parse_url
from bourne.errors import DefinitionError


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
    url = source
    if columns is not None:
        app.log("input", schema=_declared(columns))
        is_text = False
    elif parts.scheme in STREAMS:
        schema = describe_source(source, "input").schema
        app.log("input", schema={column.name: column.type for column in schema.columns})
        is_text = schema.names == ("line",)
    if parts.scheme in STREAMS and "format" not in parts.options and not is_text:
        url = f"{source}?format=jsonl"
    app.source(url, into="input")
    app.view("output", sql or "SELECT * FROM input", grows=True)
    if sink is not None:
        app.sink("output", sink, key=key)
    return app


def has_end(source: str) -> bool:
    """Say whether a source comes to an end by itself: a stream and files do, a server does not."""
    return parse_url(source).scheme in ("file", "s3", *STREAMS)


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
