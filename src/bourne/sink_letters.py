"""Rows that the other side of a sink refused: as dead letters, and as rows again."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.connect.json_lines import read_jsonl
from bourne.connect.json_rows import rows_as_json
from bourne.connect.sink import Change, Shape
from bourne.connect.source import ROW, DeadLetter, Position
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
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
    seen: Counter[str] = Counter()
    letters = []
    for text in rows_as_json(rows, _schema(shape)).to_pylist():
        seen[text] += 1
        repeated = f", {seen[text]} times the same" if seen[text] > 1 else ""
        letters.append(DeadLetter(f"{view}, {place}{repeated}", reason, text.encode(), ROW))
    return letters


def from_letters(texts: Sequence[bytes], shape: Shape) -> Change:
    """Return letters as the rows that they were, in their order.

    Raises:
        InputError: the view has other columns now.
    """
    schema = _schema(shape)
    stream = io.BytesIO(b"\n".join(texts))
    tables = [batch.table for batch in read_jsonl(stream, schema, shape.name, "the letter")]
    rows = pa.concat_tables([pa.Table.from_arrays(each.columns, schema=schema.to_arrow()) for each in tables])
    if not shape.has_weights:
        return Change(rows)
    weights = as_array(rows.column(COUNT_COLUMN.name))
    return Change(rows.drop_columns([COUNT_COLUMN.name]), weights=weights)


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
