"""`bourne tail`: shows a log's records, and goes on as they come.

Law: of several partitions, what is there when the command starts comes in the order of its append times; what comes
later, in the order in which it is found.
"""

from __future__ import annotations

import heapq
import re
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, Stop, end_with_reader, stop_on_signals
from bourne.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from bourne.log.cursor import LogCursor, Piece
    from bourne.log.embedded import EmbeddedLog
    from bourne.schema import Schema

_LAST_RECORDS = 20
_PAGE_ROWS = 1 << 14

# Where old records were compacted away, the last ones are looked for this many times further back each time.
_FURTHER = 8

# How long a follower sleeps at most, for the case that the system does not tell of a write (a network file system).
_LOOK_S = 1.0

_EXAMPLE = "2026-01-31T10:00"


class TailFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


def tail(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log to show.")],
    data: Data = DATA,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PLACE",
            help=f"The first record to show, instead of the last ones: an offset, or a time of append ({_EXAMPLE}).",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="PLACE", help="Show only what is before that offset or that time of append."),
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
        typer.Option(min=0, metavar="N", help="Which partition, of a log that has several. By default all."),
    ] = None,
    kind: Annotated[
        TailFormat, typer.Option("--format", help="table, csv or jsonl; the offset is the column __offset.")
    ] = TailFormat.TABLE,
) -> None:  # fmt: skip
    """Show the records of a log with their offsets, and with --follow go on as more are appended."""
    end_with_reader()
    first, last = _place("--from", start), _place("--until", until)
    with stop_on_signals() as stop:
        import bourne

        with bourne.open(data=data) as instance:
            opened = instance.log(log)
            _check_places(opened, partition, first, last)
            write = _writer(kind, opened.info.schema)
            pages = _pages(opened, partition, first, last, limit, stop if follow else None)
            with closing(pages):
                for page in pages:
                    sys.stdout.writelines(write(page))
                    sys.stdout.flush()
                    if stop.event.is_set():
                        break
    if stop.signal_number is not None and not follow:
        raise typer.Exit(128 + stop.signal_number)  # ended before its aim


def _place(option: str, text: str | None) -> int | datetime | None:
    """Return the offset or the time that a text says. A time without a zone is in UTC."""
    if text is None:
        return None
    try:
        return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither an offset (0, 1, 2 …) nor a time (such as {_EXAMPLE}, in UTC, or {_EXAMPLE}+09:00)",
            param_hint=f"'{option}'",
        ) from error


def _check_places(log: EmbeddedLog, partition: int | None, *places: int | datetime | None) -> None:
    """Refuse a partition that is not there, and offsets that could be any partition's."""
    partitions = log.info.partitions
    if partition is not None:
        log.check_partition(partition)
    elif partitions > 1 and any(isinstance(place, int) for place in places):
        raise InputError(
            f"log {log.info.name!r} has {partitions} partitions, and each counts its own offsets",
            expected=f"--partition 0 to {partitions - 1} beside the offset, or a time",
            found="an offset",
        )


# --- pages ---------------------------------------------------------------------------------------------


def _pages(
    log: EmbeddedLog,
    partition: int | None,
    first: int | datetime | None,
    last: int | datetime | None,
    limit: int | None,
    follow: Stop | None,
) -> Generator[pa.Table, None, None]:
    """Yield the records, a page at a time; wait for more while following."""
    has_partition = partition is None and log.info.partitions > 1
    with ExitStack() as opened:
        cursor = opened.enter_context(closing(log.cursor(partition=partition)))
        ends = _ends(cursor, last)
        if first is None:
            tables = last_records(log, cursor, ends, _LAST_RECORDS if limit is None else limit, has_partition)
            yield from _paged(tables)
            limit = None
        else:
            _seek(cursor, first)
            pieces = opened.enter_context(closing(_merged(log, cursor.partitions, cursor.positions, ends)))
            tables = _limited((_shown(piece, has_partition) for piece in pieces), limit)
            for page in _paged(tables):
                limit = None if limit is None else limit - page.num_rows
                yield page
        if follow is not None and limit != 0:
            cursor.seek(ends)
            later = opened.enter_context(closing(_followed(log, cursor, first, last, follow)))
            yield from _limited((_page(pieces, has_partition) for pieces in later), limit)


def _ends(cursor: LogCursor, last: int | datetime | None) -> tuple[int, ...]:
    """Return up to which offsets the records are there now, and are wanted."""
    ends = cursor.end_offsets()
    if last is None:
        return ends
    if isinstance(last, int):
        return tuple(
            max(first, min(last, end)) for first, end in zip(cursor.first_offsets(), ends, strict=True)
        )
    _seek(cursor, last)
    return cursor.positions


def _seek(cursor: LogCursor, place: int | datetime) -> None:
    from bourne.log.embedded import instant_us

    if isinstance(place, int):
        cursor.seek((place,))
    else:
        cursor.seek_time(instant_us(place))


def _merged(
    log: EmbeddedLog, partitions: Sequence[int], starts: Sequence[int], ends: Sequence[int]
) -> Generator[Piece, None, None]:
    """Yield the records between these offsets in the order of their append times."""
    with ExitStack() as opened:
        sorted_pieces = []
        for number, start, end in zip(partitions, starts, ends, strict=True):
            cursor = opened.enter_context(closing(log.cursor(partition=number)))
            cursor.seek((start,))
            sorted_pieces.append(_pieces(cursor, end))
        yield from heapq.merge(*sorted_pieces, key=lambda piece: piece.frame.append_time_us)


def _pieces(cursor: LogCursor, end: int) -> Iterator[Piece]:
    while pieces := cursor.read(until=(end,), rows_max=_PAGE_ROWS):
        yield from pieces


def last_records(
    log: EmbeddedLog, cursor: LogCursor, ends: Sequence[int], count: int, has_partition: bool
) -> Iterable[pa.Table]:
    """Return the last records before `ends`, with the columns that say where they are. O(records returned)."""
    firsts, span = cursor.first_offsets(), count
    while True:
        starts = [max(first, end - span) for first, end in zip(firsts, ends, strict=True)]
        found: deque[pa.Table] = deque()
        rows = 0
        for piece in _merged(log, cursor.partitions, starts, ends):
            found.append(_shown(piece, has_partition))
            rows += found[-1].num_rows
            while found and rows - found[0].num_rows >= count:
                rows -= found.popleft().num_rows
        if rows >= count or all(start == first for start, first in zip(starts, firsts, strict=True)):
            break
        span *= _FURTHER
    if rows > count:
        found[0] = found[0].slice(rows - count)
    return found


def _followed(
    log: EmbeddedLog, cursor: LogCursor, first: int | datetime | None, last: int | datetime | None, stop: Stop
) -> Generator[list[Piece], None, None]:
    """Yield what comes, from where the cursor is on, until `last` or the stop."""
    from bourne.log.catalog import partition_folder
    from bourne.log.embedded import instant_us
    from bourne.log.wake import Wake

    until = [last] if isinstance(last, int) else None
    until_us = instant_us(last) if isinstance(last, datetime) else None
    from_us = instant_us(first) if isinstance(first, datetime) else None
    folders = [partition_folder(log.folder, number) for number in cursor.partitions]
    with Wake(
        folders, stop=stop.event
    ) as wake:  # watched before it is read: an append in between is not missed
        while not stop.event.is_set():
            ends = (
                cursor.end_offsets()
            )  # as of before it is read: what stands there then and is not served is beyond the bound
            pieces = cursor.read(until=until, until_time_us=until_us, rows_max=_PAGE_ROWS)
            wanted = [piece for piece in pieces if from_us is None or piece.frame.append_time_us >= from_us]
            if wanted:
                yield sorted(wanted, key=lambda piece: piece.frame.append_time_us)
            elif not pieces and _has_arrived(cursor, until, None if until_us is None else ends):
                return
            elif not pieces:
                wake.wait(_LOOK_S)


def _has_arrived(cursor: LogCursor, until: Sequence[int] | None, ends: Sequence[int] | None) -> bool:
    """Say whether nothing before the bound can come any more, given that nothing before it was found.

    With a time as a bound, `ends` is where the partitions ended before that.
    """
    if until is not None:
        return all(at >= end for at, end in zip(cursor.positions, until, strict=True))
    return ends is not None and all(at < end for at, end in zip(cursor.positions, ends, strict=True))


# --- tables --------------------------------------------------------------------------------------------


def _shown(piece: Piece, has_partition: bool) -> pa.Table:
    """Return the records with the columns that say where they are."""
    import pyarrow as pa

    frame = piece.frame
    table = pa.Table.from_batches([frame.batch]).add_column(0, "__offset", pa.array(frame.offsets()))
    if has_partition:
        numbers = pa.repeat(pa.scalar(piece.partition), frame.batch.num_rows)
        table = table.add_column(0, "__partition", numbers)
    return table


def _page(pieces: Iterable[Piece], has_partition: bool) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([_shown(piece, has_partition) for piece in pieces])


def _limited(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """Yield tables up to that number of rows; those without rows are left out."""
    left = 1 << 62 if limit is None else limit
    if left == 0:
        return
    for table in tables:
        if table.num_rows:
            yield table.slice(0, left)
            left -= table.num_rows
        if left <= 0:
            return


def _paged(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together."""
    import pyarrow as pa

    page: list[pa.Table] = []
    rows = 0
    for table in tables:
        if table.num_rows:
            page.append(table)
            rows += table.num_rows
        if rows >= _PAGE_ROWS:
            yield pa.concat_tables(page)
            page, rows = [], 0
    if page:
        yield pa.concat_tables(page)


def _writer(kind: TailFormat, schema: Schema) -> Callable[[pa.Table], Iterator[str]]:
    from bourne.cli.formats import AlignedRows
    from bourne.connect.row_texts import CsvRows, json_rows

    if kind is TailFormat.JSONL:
        json_columns = {column.name for column in schema.columns if column.type == "JSON"}
        return lambda table: (f"{row}\n" for row in json_rows(table, json_columns=json_columns))
    return AlignedRows().lines if kind is TailFormat.TABLE else CsvRows().lines
