"""A table that is replaced as a whole: its new rows go into one beside it (`NAME__next_…`), and are put in place at the end.

Law: until then who reads sees the old rows. That all rows are there is noted (`done`) before they are put in place, and the
table beside goes away with that: so, after a crash, what is there says what is still to be done. Rows that another run has
left of something else are thrown away when an instance begins; the table beside is called after the instance, so that two
of them are not in each other's way.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from bourne.connect.sink import Shape, Sink
from bourne.connect.sink_url import split_file_url
from bourne.connect.sinks import open_sink
from bourne.connect.source import Position
from bourne.connect.urls import Url, parse_url
from bourne.errors import DefinitionError, SinkFailed
from bourne.jobs.table_switch import DuckdbTables, PostgresTables, SqliteTables, Tables

POSTGRES: Final = ("postgres", "postgresql")
SCHEMES: Final = (*POSTGRES, "sqlite", "duckdb")

# Of a table's name so much is in that of the table beside it: PostgreSQL's names have 63 bytes.
_NAME_CHARS: Final = 12


class ReplacedTable:
    """A target that is a table. For one thread."""

    def __init__(self, url: Url, shape: Shape) -> None:
        """Note which table.

        Raises:
            DefinitionError: that is no table of a database that can do it.
        """
        suffix = Path(url.path).suffix.lower().removeprefix(".")
        if url.scheme == "file" and suffix in SCHEMES:
            url = parse_url(f"{suffix}:{url.full}")
        self._url, self._shape = url, shape
        self._table = url.options.get("table") or shape.name
        digest = hashlib.sha256(f"{self._table}\0{shape.name}".encode()).hexdigest()[:10]
        schema, _, name = self._table.rpartition(".")
        beside = f"{name[:_NAME_CHARS]}__next_{digest}"
        self._beside = f"{schema}.{beside}" if schema else beside
        self._tables = _tables(url)
        self.sink: Sink = open_sink(_with_table(url, self._beside), shape)

    def open(self) -> Position | None:
        """Open the table beside; make it, if the instance begins.

        Raises:
            SinkFailed: the table does not fit, or the one beside it is gone.
        """
        held, is_there = self._tables.position(self._shape.name), self._tables.has(self._beside)
        if held is None:
            target = open_sink(_with_table(self._url, self._table), self._shape)
            try:
                target.open()  # makes it, or sees that it fits
            finally:
                target.close()
            self._tables.drop(self._beside)
            self._tables.make_like(self._beside, self._table)
        elif not is_there and held.get("done"):
            return held  # it was put in place, and nobody came to note it
        elif not is_there:
            raise SinkFailed(
                f"table {self._beside!r}, with the rows so far, is gone", where=self._url.text, expected="what the run has left",
                found="no such table", hint="begin anew: bourne jobs start … --again",
            )  # fmt: skip
        return self.sink.open()

    def finish(self) -> None:
        """Put the rows in place, if they are not yet."""
        self.sink.close()
        if self._tables.has(self._beside):
            self._tables.switch(self._table, self._beside, self._shape.schema.names)

    def close(self) -> None:
        """Close the connection."""
        self.sink.close()


def _tables(url: Url) -> Tables:
    if url.scheme in POSTGRES:
        return PostgresTables(url.full, where=url.text)
    if url.scheme not in SCHEMES:
        raise DefinitionError(
            "such a target cannot be replaced: its rows are seen one by one", where=url.text,
            expected="a table of PostgreSQL, SQLite or DuckDB, or a CSV or JSON lines file", found=url.scheme,
            hint="write under a new name, and let readers change over when the job is done",
        )  # fmt: skip
    path = Path(
        split_file_url(
            url.full, kinds=[url.scheme], options=["table"], form=f"{url.scheme}:PATH?table=TABLE"
        ).path
    )
    return (
        SqliteTables(path, where=url.text) if url.scheme == "sqlite" else DuckdbTables(path, where=url.text)
    )


def _with_table(url: Url, table: str) -> str:
    parts = urlsplit(url.full)
    options = {**dict(parse_qsl(parts.query, keep_blank_values=True)), "table": table}
    return urlunsplit(parts._replace(query=urlencode(options, quote_via=quote)))
