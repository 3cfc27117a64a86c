"""Rows that the other side of a sink refused: as dead letters, and as rows again."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.json_lines import read_jsonl
from bourne.connect.row_texts import json_rows
from bourne.connect.sink import Change, Shape
from bourne.connect.source import ROW, DeadLetter, Position
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.errors import InputError
from bourne.log.relation import COUNT_COLUMN
from bourne.schema import Schema
from bourne.views.changes import RowChange


def as_letters(
    refused: Change, shape: Shape, *, view: str, before: Position | None, reason: str
) -> list[DeadLetter]:
    """Return rows of the change after the position `before` as letters: the same ones if a crash makes it come again."""
    rows = refused.rows
    if refused.weights is not None:
        rows = rows.append_column(COUNT_COLUMN.name, refused.weights)
    place = "first of all" if before is None else f"after {sum(before['offsets'])} of {before['of'][:8]}"
    seen: Counter[bytes] = Counter()
    letters = []
    for data in _letters(rows, _schema(shape)):
        seen[data] += 1
        repeated = f", {seen[data]} times the same" if seen[data] > 1 else ""
        letters.append(DeadLetter(f"{view}, {place}{repeated}", reason, data, ROW))
    return letters


def from_letters(letters: Sequence[bytes], shape: Shape) -> Change:
    """Return letters as the rows that they were, in their order.

    Raises:
        InputError: the view has other columns now.
    """
    schema = _schema(shape)
    if all(data.startswith(b"{") for data in letters):
        rows = _from_json(letters, schema)
    else:
        rows = pa.concat_tables(
            [
                _from_json([data], schema) if data.startswith(b"{") else _from_arrow(data, schema)
                for data in letters
            ]
        )
    if not shape.has_weights:
        return Change(rows)
    weights = as_array(rows.column(COUNT_COLUMN.name))
    return Change(rows.drop_columns([COUNT_COLUMN.name]), weights=weights)


def _letters(rows: pa.Table, schema: Schema) -> list[bytes]:
    """Return each row as JSON if that says it exactly, else as an Arrow stream (which does not begin with a brace)."""
    rows = pa.Table.from_arrays(rows.columns, schema=schema.to_arrow())
    json_columns = {column.name for column in schema.columns if column.type == "JSON"}
    texts = [text.encode() for text in json_rows(rows, json_columns=json_columns)]
    if _says(texts, rows, schema):
        return texts
    found = []
    for number, text in enumerate(texts):
        row = rows.slice(number, 1)
        found.append(text if _says([text], row, schema) else _as_arrow(row))
    return found


def _says(texts: Sequence[bytes], rows: pa.Table, schema: Schema) -> bool:
    try:
        return bool(_from_json(texts, schema).equals(rows))
    except InputError:
        return False


def _from_json(texts: Sequence[bytes], schema: Schema) -> pa.Table:
    batches = read_jsonl(io.BytesIO(b"\n".join(texts)), schema, "the sink", "the letter")
    return pa.concat_tables(
        [pa.Table.from_arrays(batch.table.columns, schema=schema.to_arrow()) for batch in batches]
    )


def _as_arrow(rows: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    found: bytes = stream.getvalue().to_pybytes()
    return found


def _from_arrow(data: bytes, schema: Schema) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        rows = reader.read_all()
    if rows.schema != schema.to_arrow():
        raise InputError(
            "the letter has other columns than the view", expected=", ".join(schema.names),
            found=", ".join(rows.column_names),
        )  # fmt: skip
    return rows


def _schema(shape: Shape) -> Schema:
    return Schema((*shape.schema.columns, COUNT_COLUMN)) if shape.has_weights else shape.schema


def as_they_are_now(
    before: Change, rows: RowChange, key: Sequence[str]
) -> tuple[list[Change], NDArray[np.int64]]:
    """Return for each key of some rows the row that it has now, or that it is gone; and of each row which of these is its.

    `rows` are all that there are now. O(all of them).
    """
    index = HashIndex()
    wanted = [as_array(before.rows.column(name)) for name in key]
    owners = index.assign(hash_rows(wanted, before.rows.num_rows))
    count = len(index)
    there = index.assign(hash_rows([as_array(rows.table.column(name)) for name in key], rows.rows))
    is_wanted = there < count
    if rows.weights is not None:
        is_wanted &= rows.weights > 0
    row_of = dict(zip(there[is_wanted].tolist(), np.flatnonzero(is_wanted).tolist(), strict=True))
    _, firsts = np.unique(owners, return_index=True)
    changes = []
    for number, first in enumerate(firsts.tolist()):
        found = row_of.get(number)
        if found is None:
            gone = pa.Table.from_arrays([array.slice(first, 1) for array in wanted], names=list(key))
            changes.append(Change(rows.table.slice(0, 0), gone))
        else:
            changes.append(Change(rows.table.slice(found, 1)))
    return changes, owners
