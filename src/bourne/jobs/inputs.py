"""Which reader a chunk step's input means."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from bourne.batch.increments import Overlap
from bourne.batch.inputs import Input, Query, Records, Rows
from bourne.connect.files import Format, format_of
from bourne.connect.inference import infer_schema
from bourne.connect.source import Position, Taken
from bourne.connect.stores import BucketFiles, Entry, LocalFiles, Store
from bourne.connect.urls import Url, parse_url
from bourne.duck import cursor
from bourne.errors import DefinitionError, InputError, SourceFailed
from bourne.jobs.duckdb_query import DuckdbQuery
from bourne.jobs.file_reader import FileReader
from bourne.jobs.host import Host
from bourne.jobs.log_reader import LogReader
from bourne.jobs.postgres_query import PostgresQuery
from bourne.jobs.query_reader import Database, QueryReader
from bourne.jobs.reader import Reader
from bourne.jobs.sqlite_query import SqliteQuery
from bourne.limits import INFERENCE_BYTES_MAX
from bourne.schema import Column, Schema, arrow_type, conform

_FORMATS: Final[dict[str, Format]] = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "arrow": "arrow"}


def open_reader(
    read: Input, columns: Schema | None, *, host: Host, where: str, file: str | None = None, since: str | None = None,
    overlap: Overlap | None = None, key: Sequence[str] = (), is_whole: bool = True, is_processed: bool = True,
) -> Reader:  # fmt: skip
    """Return what an input is read by.

    With `file`, only that one of the files is read; `since` is the column that says what is new, `overlap` how far is read
    back. Of a log or view: `key` is the target's, `is_whole` says that all rows are wanted as they are, `is_processed` that
    something becomes of them on their way.

    Raises:
        DefinitionError: there is no such input, or its columns cannot be told.
        SourceFailed, Unreachable: it is not there.
    """
    if isinstance(read, Query):
        return open_query(read, columns, since=since, overlap=overlap, where=where)
    if isinstance(read, Records):
        return LogReader(
            host.folder, read.name, key=key, is_whole=is_whole, is_processed=is_processed, where=where
        )
    if callable(read):
        return FunctionReader(read, columns, where=where)
    store, entries, kind = files_of(read)
    schema = columns
    if entries and schema is None:
        schema = _columns(store, entries[0], kind, where)
    if file is not None:
        entries = [entry for entry in entries if entry.path == file]
    if not entries or schema is None:
        raise SourceFailed(
            f"there are no files {file or read}", where=where, hint="check the path or the pattern"
        )
    return FileReader(store, entries, schema, kind=kind, where=where)


def open_query(
    read: Query, columns: Schema | None, *, since: str | None, overlap: Overlap | None, where: str
) -> QueryReader:
    """Return what reads a query, in the order of its key, or of `since` and then its key.

    Raises:
        DefinitionError: no such database, or the query is wrong. Unreachable: it is not there.
    """
    url = parse_url(read.url)
    order = read.key if since is None else (since, *(name for name in read.key if name != since))
    where = f"{where}, query of {url.text}"
    database: Database
    if url.scheme in ("postgres", "postgresql"):
        database = PostgresQuery(url.full, read.sql, order, columns, where=where)
    elif url.scheme == "sqlite":
        database = SqliteQuery(url.full, read.sql, order, columns, where=where)
    elif url.scheme == "duckdb":
        database = DuckdbQuery(url.full, read.sql, order, columns, where=where)
    else:
        raise DefinitionError("no database whose queries can be read", where=where,
                              expected="postgres://…, sqlite:PATH or duckdb:PATH", found=url.text)  # fmt: skip
    return QueryReader(database, where=where, overlap=overlap)


def files_of(url: str) -> tuple[Store, list[Entry], Format | None]:
    """Return the files that a path or URL names, and their format, where it says that.

    Raises:
        DefinitionError: it names no files.
    """
    parts = parse_url(url)
    if parts.scheme not in ("file", "s3") or not (parts.path or parts.host):
        raise DefinitionError(
            f"{parts.text!r} cannot be read in chunks", expected="files, query(…), records(…), or a function", found=parts.text,
            hint="a database is read by a query: query('postgres://…', 'SELECT …', key='id')",
        )  # fmt: skip
    store: Store = BucketFiles(parts) if parts.scheme == "s3" else LocalFiles(parts.path)
    return store, store.entries(), _format(parts)


def _format(parts: Url) -> Format | None:
    parts.check_options("format", *(("endpoint", "region", "silence") if parts.scheme == "s3" else ()))
    text = parts.options.get("format")
    if text is not None and text not in _FORMATS:
        raise DefinitionError(
            f"no such format: {text!r}", where=parts.text, expected=", ".join(_FORMATS), found=text
        )
    return None if text is None else _FORMATS[text]


def _columns(store: Store, entry: Entry, kind: Format | None, where: str) -> Schema:
    """Return the columns of a file: of a long text file as its beginning has them."""
    known = kind or format_of(entry.path)
    is_text = known in ("csv", "jsonl")
    try:
        if isinstance(store, LocalFiles) and (not is_text or entry.size <= INFERENCE_BYTES_MAX):
            found = infer_schema(Path(entry.path), known, where=entry.path)
        else:
            with tempfile.TemporaryDirectory() as folder, closing(store.open(entry)) as file:
                head = file.read(INFERENCE_BYTES_MAX if is_text else entry.size) or b""
                if is_text and len(head) < entry.size:
                    head = head[: head.rfind(b"\n") + 1]
                path = Path(folder) / "head"
                path.write_bytes(head)
                found = infer_schema(path, known, where=entry.path)
    except InputError as error:
        raise DefinitionError(
            f"the columns cannot be told: {error.what}", where=error.where or where, found=error.found,
            hint="mend the input; or name them: columns={'id': 'bigint', …}",
        ) from error  # fmt: skip
    if found is None:
        raise DefinitionError("there are no rows that say which types the columns have", where=entry.path,
                              hint="name them: columns={'id': 'bigint', …}")  # fmt: skip
    return found


class FunctionReader:
    """Reads what a function yields: parts of rows, each with the position after it."""

    def __init__(self, function: Rows, columns: Schema | None, *, where: str) -> None:
        """Without `columns`, the first part says which there are.

        Raises:
            DefinitionError: it yields nothing that says so.
        """
        self._function = function
        self._where = where
        self.schema = columns or self._first()

    def _first(self) -> Schema:
        for rows, _ in self._function(None):
            table = pa.table(rows)
            kinds = cursor().from_arrow(table.slice(0, 0)).types
            schema = Schema(tuple(Column(n, str(t)) for n, t in zip(table.column_names, kinds, strict=True)))
            for column in schema.columns:
                arrow_type(column.type)
            return schema
        raise DefinitionError("there are no rows that say which columns there are", where=self._where,
                              hint="name them: columns={'id': 'bigint', …}")  # fmt: skip

    def read(self, position: Position | None) -> Iterator[Taken]:
        """Call the function."""
        for rows, after in self._function(position):
            yield Taken(conform(rows, self.schema, log="input"), after)

    def share(self, position: Any) -> float | None:
        """Nobody knows how much is to come."""
        return None

    def close(self) -> None:
        """Nothing is held."""
