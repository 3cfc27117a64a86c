"""Files of records, read in batches of bounded size: CSV, JSON lines, Parquet, Arrow.

Law: a batch holds values exactly as the file says them and as the log's schema has them (`bourne.schema.conform`), or
there is an error that names the file, the line and the column, and nothing of that batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bourne.connect.arrow_files import read_arrow
from bourne.connect.csv_files import read_csv
from bourne.connect.fitting import Batch, Place
from bourne.connect.json_lines import read_jsonl
from bourne.connect.parquet_files import read_parquet
from bourne.errors import InputError, SourceFailed
from bourne.schema import Schema

Format = Literal["csv", "jsonl", "parquet", "arrow"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}


def format_of(path: str) -> Format:
    """Return the format that a file's name says.

    Raises:
        InputError: it says none that is known.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"cannot tell the format of {path}", expected=", ".join(_SUFFIXES), found=suffix or "no suffix",
            hint="rename it, or say --format",
        )  # fmt: skip
    return _SUFFIXES[suffix]


def read_file(path: str, kind: Format, schema: Schema, *, log: str) -> Iterator[Batch]:
    """Yield a file's records.

    Raises:
        MalformedInput, UnknownColumn, ValueMismatch, InputError: the file does not fit; names the line.
        SourceFailed: it cannot be read.
    """
    try:
        stream = Path(path).open("rb", buffering=0)  # noqa: SIM115  (closed below)
    except OSError as error:
        raise SourceFailed(f"cannot read {path}", found=error.strerror) from error
    with stream:
        yield from read_opened(stream, kind, schema, log=log, name=path)


def read_opened(
    file: BinaryIO,
    kind: Format,
    schema: Schema,
    *,
    log: str,
    name: str,
    start: Place | None = None,
    leaves_out: bool = False,
) -> Iterator[Batch]:
    """Yield the records of an open file, from `start` on; with `leaves_out` without those that do not fit.

    The file is opened unbuffered, at its beginning; it can seek.

    Raises: as `read_file`.
    """
    if kind == "parquet":
        yield from read_parquet(file, schema, log, name, start=start, leaves_out=leaves_out)
    elif kind == "arrow":
        yield from read_arrow(file, schema, log, name, start=start, leaves_out=leaves_out)
    else:
        if start is not None:
            file.seek(start.byte)
        read = read_csv if kind == "csv" else read_jsonl
        yield from read(file, schema, log, name, start=start, leaves_out=leaves_out)


def read_stream(stream: Any, kind: Format, schema: Schema, *, log: str, name: str) -> Iterator[Batch]:
    """Yield the records of a binary stream, opened unbuffered; otherwise as `read_file`."""
    if kind in ("parquet", "arrow"):
        raise InputError(
            f"{kind.capitalize()} cannot be read from a stream", where=name, expected="csv or jsonl", found=kind,
            hint="store it in a file, and append that",
        )  # fmt: skip
    read = read_csv if kind == "csv" else read_jsonl
    yield from read(stream, schema, log, name)
