"""Records of logs over HTTP: some of them read with their offsets, and others appended."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from fastapi import Request

from bourne.connect.arrival import Arrival
from bourne.connect.http_bodies import CONTENT_TYPES, BodyFormat, read_body
from bourne.connect.http_push import offsets_of
from bourne.connect.http_requests import Place
from bourne.errors import InputError
from bourne.instance import Instance
from bourne.limits import HTTP_BODY_BYTES_MAX, SERVED_ROWS
from bourne.log.cursor import LogCursor, Piece
from bourne.position import LogPosition
from bourne.reading import Reading
from bourne.serve import bodies
from bourne.serve.asked import names_of
from bourne.serve.encoding import columns_json, json_columns

_OFFSET, _PARTITION = "__offset", "__partition"

# What OpenAPI says of a body of records.
BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES if kind != "application/json"},
        },
    }
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Records:
    """Records with their offsets, where the log ends, and whether more follow before that."""

    table: pa.Table
    columns: list[dict[str, Any]]
    json_columns: frozenset[str]
    position: LogPosition
    is_more: bool


def read(
    reading: Reading, name: str, *, start: int | None, last: int | None, partition: int | None, limit: int,
    columns: str | None,
) -> Records:  # fmt: skip
    """Return records of a log: from an offset on, or the last ones, of one partition or of all.

    Raises:
        UnknownName: there is no such log.
        InputError: there is no such partition or offset, or each partition has its own.
    """
    folder, info = reading.find_log(name)
    chosen = names_of(info.schema, columns)
    if partition is not None and partition >= info.partitions:
        raise InputError(
            "there is no such partition", expected=f"0 to {info.partitions - 1}", found=partition
        )
    if start is not None and partition is None and info.partitions > 1:
        raise InputError(
            f"log {info.name!r} has {info.partitions} partitions, and each counts its own offsets",
            expected="partition beside start", found="start alone",
        )  # fmt: skip
    with closing(LogCursor(folder, info, partitions=None if partition is None else [partition])) as cursor:
        ends, firsts = cursor.end_offsets(), cursor.first_offsets()
        count = (SERVED_ROWS if last is None else last) if start is None else limit
        if start is None:
            cursor.seek([max(first, end - count) for first, end in zip(firsts, ends, strict=True)])
        else:
            cursor.seek([start])
        pieces: list[Piece] = []
        rows = 0
        # Of the last ones of all partitions, the newest count; from an offset on, the first.
        while (start is None or rows <= limit) and (
            found := cursor.read(until=ends, rows_max=limit + 1 if start is not None else 1 << 62)
        ):
            pieces += found
            rows += sum(piece.frame.batch.num_rows for piece in found)
    pieces.sort(key=lambda piece: piece.frame.append_time_us)
    tables = [_shown(piece, info.partitions > 1) for piece in pieces if piece.frame.batch.num_rows]
    table = (
        pa.concat_tables(tables) if tables else _shown_nothing(info.schema.to_arrow(), info.partitions > 1)
    )
    is_more = start is not None and table.num_rows > limit
    table = table.slice(max(0, table.num_rows - count)) if start is None else table.slice(0, limit)
    if chosen:
        table = table.select([*(n for n in (_PARTITION, _OFFSET) if n in table.column_names), *chosen])
    extra = [{"name": n, "type": "BIGINT"} for n in (_PARTITION, _OFFSET) if n in table.column_names]
    shown = extra + columns_json(info.schema, table.column_names)
    position = {info.name: tuple(ends)} if partition is None else {}
    return Records(table, shown, json_columns(info.schema) & set(table.column_names), position, is_more)


def _shown(piece: Piece, has_partition: bool) -> pa.Table:
    frame = piece.frame
    table = pa.Table.from_batches([frame.batch]).add_column(0, _OFFSET, pa.array(frame.offsets()))
    if has_partition:
        numbers = pa.repeat(pa.scalar(piece.partition, pa.int64()), frame.batch.num_rows)
        table = table.add_column(0, _PARTITION, numbers)
    return table


def _shown_nothing(schema: pa.Schema, has_partition: bool) -> pa.Table:
    empty = schema.empty_table().add_column(0, _OFFSET, pa.array([], pa.int64()))
    return empty.add_column(0, _PARTITION, pa.array([], pa.int64())) if has_partition else empty


# --- appending -------------------------------------------------------------------------------------------------


async def receive(request: Request, place: Place) -> bytes:
    """Return the body of an append, as it came, when all of it has.

    Raises: as `bodies.read_body`, and Refused where there is no room.
    """
    return await bodies.read_body(request, HTTP_BODY_BYTES_MAX, place.take)


def append(instance: Instance, name: str, body: bytes, kind: BodyFormat, key: str | None) -> dict[str, Any]:
    """Append the records of a body; they are durable when this returns what to answer.

    Raises:
        UnknownName: there is no such log.
        InputError: they do not fit, or the key was used for another body; nothing is stored.
        LogLocked, StorageError: not now.
    """
    log = instance.log(name)
    arrival = Arrival(log.info, instance.clock)
    table = read_body(body, kind, arrival.schema, log=log.info.name)
    sent = None if key is None else hashlib.sha256(body).hexdigest()[:16]
    found = instance.append(name, arrival.fill(table), durability="fsync", request_id=key, request_hash=sent)
    return {
        "log": log.info.name, "records": len(found), "offsets": offsets_of(found), "repeat": found.is_repeat,
        "position": found.position,
    }  # fmt: skip
