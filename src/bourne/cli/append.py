"""`bourne append`: puts the records of files into a log."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Generator
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bourne.cli.options import DATA, Data
from bourne.errors import BourneError

if TYPE_CHECKING:
    from bourne.connect.fitting import Batch
    from bourne.instance import Instance
    from bourne.log.protocol import Appended


class FileFormat(StrEnum):
    """What `--format` takes."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def append(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log to append to.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="CSV, JSON lines or Parquet, told by the suffix; - is standard input."
        ),
    ],
    data: Data = DATA,
    kind: Annotated[
        FileFormat | None,
        typer.Option(
            "--format", help="The format, where the suffix does not say it: for standard input, say."
        ),
    ] = None,
) -> None:
    """Append the records of files to a log, in their order, durably.

    Files may be larger than memory: they are read in batches, each stored as a whole or not at all. At an error, the
    batches before it are stored; the message says which records they are.
    """
    if kind is None and "-" in files:
        raise typer.BadParameter("standard input needs --format csv or --format jsonl")
    import bourne

    with bourne.open(data=data) as instance:
        for file in files:
            _append_file(instance, log, file, kind)


def _append_file(instance: Instance, log: str, file: str, kind: FileFormat | None) -> None:
    """Append one file and report; if it fails, the error says what is stored."""
    name = "standard input" if file == "-" else file
    stored: list[Appended] = []
    next_place = None
    began = time.monotonic()
    try:
        with closing(_batches(instance, log, file, kind)) as batches:
            for batch in batches:
                stored.append(instance.append(log, batch.table))
                next_place = batch.next
    except (BourneError, KeyboardInterrupt) as error:
        if stored:
            note = f"  stored:   {_offsets(stored)}, from {name} before {next_place}; nothing after it"
        else:
            note = f"  stored:   nothing from {name}"
        if isinstance(error, KeyboardInterrupt):
            print(f"interrupted\n{note}", file=sys.stderr)
            raise typer.Exit(130) from None
        error.add_note(note)
        raise
    rate = sum(map(len, stored)) / max(time.monotonic() - began, 1e-6)
    print(f"{name}: {_offsets(stored)}" + (f", {rate:,.0f} rows/s" if stored else ""), flush=True)


def _batches(
    instance: Instance, log: str, file: str, kind: FileFormat | None
) -> Generator[Batch, None, None]:
    from bourne.connect.files import format_of, read_file, read_stream

    with closing(instance.reader(log)) as reader:
        info = reader.info
    if file != "-":
        yield from read_file(file, kind.value if kind else format_of(file), info.schema, log=info.name)
        return
    assert kind is not None  # checked at the start
    stream: Any = io.BytesIO() if sys.stdin is None else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    yield from read_stream(stream, kind.value, info.schema, log=info.name, name="standard input")


def _offsets(stored: list[Appended]) -> str:
    """Say how many records are stored, and where."""
    ranges: dict[int, range] = {}
    for each in stored:
        for number, written in each.ranges.items():
            ranges[number] = range(ranges.get(number, written).start, written.stop)
    places = [
        (f"partition {number}: " if len(ranges) > 1 else "")
        + f"offsets {written.start} to {written.stop - 1}"
        for number, written in sorted(ranges.items())
        if written
    ]
    count = sum(map(len, stored))
    return f"{count:,} records, {', '.join(places)}" if count else "no records"
