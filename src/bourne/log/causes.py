"""Order by cause: a record may say what its author had seen, and is taken in only after that.

Two logs have no order between them. Where a record of one was written by somebody who had seen a record of the other, it
carries the position that they had seen; a reader of both goes on to it only when it has come to that position (DDIA,
chapters 9 and 12, on capturing causality).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.errors import DefinitionError, InputError
from bourne.log.catalog import LogInfo
from bourne.log.cursor import LogCursor, Piece
from bourne.log.relation import column_of
from bourne.schema import conform

Positions = Mapping[str, Sequence[int]]


def check_seen(logs: Mapping[str, LogInfo]) -> None:
    """Refuse logs that wait for what is not there, or for several partitions at once.

    Raises:
        DefinitionError: names both.
    """
    for info in logs.values():
        for other, column in info.seen:
            found = logs.get(other)
            if found is None or found.partitions != 1:
                raise DefinitionError(
                    f"column {column!r} says what was seen of {other!r}, which is "
                    + ("no log" if found is None else "in several partitions: no one number is its position"),
                    where=f"log {info.name!r}", expected="a log of one partition",
                    found=", ".join(logs) if found is None else f"{found.partitions} partitions",
                )  # fmt: skip


def with_seen(info: LogInfo, rows: Any, seen: Mapping[str, int]) -> pa.Table:
    """Return rows with the columns filled that say what their author had seen.

    Raises:
        InputError: the log declares no column for one of these logs.
        UnknownColumn, ValueMismatch: the rows do not fit.
    """
    table, columns = conform(rows, info.schema, log=info.name), dict(info.seen)
    for other, position in seen.items():
        if other not in columns:
            raise InputError(
                f"log {info.name!r} does not say what was seen of {other!r}", expected=", ".join(columns) or "nothing",
                found=other, hint="declare a column for it: App.log(…, seen={log: column})",
            )  # fmt: skip
        if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < 1 << 63:
            raise InputError(
                f"no such position in {other!r}", expected="a whole number: the offset after the last record seen",
                found=repr(position),
            )  # fmt: skip
        names = [name.casefold() for name in table.column_names]
        place = names.index(columns[other].casefold())
        field = table.schema.field(place)
        values = pa.array(np.full(table.num_rows, position)).cast(field.type)
        table = table.set_column(place, field, values)
    return table


def wait_for_causes(read: dict[str, list[Piece]], cursors: Mapping[str, LogCursor], began: Positions) -> None:
    """Give back records whose author had seen more of another log than was read: the cursors stand before them again.

    `began` is where the cursors stood before they read. A log that waits may make another one wait.
    """
    waiting = [
        name for name, cursor in cursors.items() if any(other in cursors for other, _ in cursor.info.seen)
    ]
    is_settled = not waiting
    while not is_settled:
        is_settled = True
        for name in waiting:
            cursor = cursors[name]
            until = _until(read.get(name, []), cursor, cursors)
            if until is not None:
                cursor.seek(began[name])
                read[name] = cursor.read(until=until)
                is_settled = False


def _until(pieces: Sequence[Piece], cursor: LogCursor, cursors: Mapping[str, LogCursor]) -> list[int] | None:
    """Return where to stop in each partition; None if all that was read may be taken in."""
    stops = list(cursor.positions)
    for piece in pieces:
        if not piece.frame.batch.num_rows:
            continue
        too_early = np.zeros(piece.frame.batch.num_rows, np.bool_)
        for other, column in cursor.info.seen:
            if other in cursors:
                values = column_of(cursor.info, piece.frame.batch, column).cast(pa.int64()).fill_null(0)
                too_early |= values.to_numpy(zero_copy_only=False) > cursors[other].positions[0]
        if too_early.any():
            first = int(piece.frame.offsets()[int(np.argmax(too_early))])
            place = cursor.partitions.index(piece.partition)
            stops[place] = min(stops[place], first)
    return stops if stops != list(cursor.positions) else None
