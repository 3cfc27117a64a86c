"""`bourne tail`: shows a log's records, and goes on as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, Stop, end_with_reader, stop_on_signals
from bourne.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from bourne.instance import Instance
    from bourne.log.reader import LogReader
    from bourne.schema import Schema

_LAST_RECORDS = 20
_PAGE_ROWS = 1 << 14


class TailFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


def tail(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log to show.")],
    data: Data = DATA,
    start: Annotated[
        int | None,
        typer.Option("--from", min=0, metavar="OFFSET", help="The first record to show, instead of the last ones."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as records come, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=0, metavar="N",
            help="How many records: the last N, or with --from the N from there. By default the last 20, or all from there.",
        ),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Which partition, of a log that has several."),
    ] = None,
    kind: Annotated[
        TailFormat, typer.Option("--format", help="table, csv or jsonl; the offset is the column __offset.")
    ] = TailFormat.TABLE,
) -> None:  # fmt: skip
    """Show the records of a log with their offsets, and with --follow go on as more are appended."""
    end_with_reader()
    with stop_on_signals() as stop:
        import bourne

        with bourne.open(data=data) as instance, closing(_reader(instance, log, partition)) as reader:
            if start is None:
                last = _LAST_RECORDS if limit is None else limit
                start, limit = max(reader.first_offset, reader.end_offset() - last), None
            reader.seek(start)
            write = _writer(kind, reader.info.schema)
            for page in _pages(reader, limit, stop if follow else None):
                sys.stdout.writelines(write(page))
                sys.stdout.flush()


def _reader(instance: Instance, log: str, partition: int | None) -> LogReader:
    partitions = instance.log(log).info.partitions
    if partition is None and partitions > 1:
        raise InputError(
            f"log {log!r} has {partitions} partitions", expected=f"--partition 0 to {partitions - 1}"
        )
    return instance.reader(log, partition=partition or 0)


def _pages(reader: LogReader, limit: int | None, follow: Stop | None) -> Iterator[pa.Table]:
    """Yield the records from the cursor on, with their offsets; wait for more while following."""
    import numpy as np
    import pyarrow as pa

    from bourne.limits import POLL_INTERVAL_S

    left = 1 << 62 if limit is None else limit
    while left > 0:
        start = reader.offset
        frames = reader.read(rows_max=min(left, _PAGE_ROWS))
        rows = reader.offset - start
        if rows:
            left -= rows
            table = pa.Table.from_batches([frame.batch for frame in frames])
            yield table.add_column(0, "__offset", pa.array(np.arange(start, start + rows)))
        elif follow is None or follow.event.wait(POLL_INTERVAL_S):
            return
        if follow is not None and follow.event.is_set():
            return


def _writer(kind: TailFormat, schema: Schema) -> Callable[[pa.Table], Iterator[str]]:
    from bourne.cli.formats import AlignedRows, CsvRows, json_rows

    if kind is TailFormat.JSONL:
        json_columns = {column.name for column in schema.columns if column.type == "JSON"}
        return lambda table: (f"{row}\n" for row in json_rows(table, json_columns=json_columns))
    return AlignedRows().lines if kind is TailFormat.TABLE else CsvRows().lines
