"""Many CSV records at once, in columns; where that gives the same as Arrow's reader and `texts`.

Law: what comes back is what `csv_files` makes of the same bytes, value for value; in doubt nothing comes back, and the slow
way decides, and says what is wrong. One pass finds where each field lies (`_scan`); then each column is read from there.
Left to the slow way are records with another number of fields than the header's, and what is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.connect.cells import Bytes, Longs, gather
from bourne.connect.plain_texts import read_plain
from bourne.connect.texts import read_texts
from bourne.engine.kernels.compiled import compiled
from bourne.errors import InputError
from bourne.schema import Column, Schema, conform
from bourne.values import MISFITS


def read_records(
    data: bytes, names: Sequence[str], schema: Schema, *, log: str, newlines: int
) -> pa.Table | None:
    """Return records with these fields, on so many lines, as rows of the schema; None if the slow way may see them otherwise."""
    columns = [schema.column(name) for name in names]
    if not columns or None in columns or len(set(names)) < len(names):
        return None
    codes = np.frombuffer(data, np.uint8)
    shape = (len(columns), newlines + 1)
    offsets, lengths, kinds = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.uint8)
    count = _scan(codes, offsets, lengths, kinds)
    if count <= 0:
        return None
    try:
        if not data.isascii():
            data.decode()
        arrays = [
            _column(codes, offsets[n, :count], lengths[n, :count], kinds[n, :count], column)
            for n, column in enumerate(columns)
            if column is not None
        ]
        return conform(pa.Table.from_arrays(arrays, names=list(names)), schema, log=log)
    except (InputError, *MISFITS):
        return None


def _column(
    data: Bytes, offsets: Longs, lengths: Longs, kinds: NDArray[np.uint8], column: Column
) -> pa.Array | pa.ChunkedArray:
    """Return a column's values. An empty field is NULL; a quoted one is a text where the column has texts."""
    has_quotes_inside = bool((kinds == _DOUBLED).any())
    has_texts = column.type in ("VARCHAR", "BLOB")
    is_null = (lengths == 0) & (kinds == _PLAIN) if has_texts else lengths == 0
    if is_null.any():
        lengths = np.where(is_null, -1, lengths)
    if not has_texts and not has_quotes_inside:
        values = read_plain(data, offsets, lengths, column.type)
        if values is not None:
            return values
    found = gather(data, offsets, lengths)
    if has_quotes_inside:
        found = pc.if_else(pa.array(kinds == _DOUBLED), pc.replace_substring(found, '""', '"'), found)
    return read_texts(pa.chunked_array([found]), column)


# What a field is: bare, quoted, or quoted with doubled quotes in it.
_PLAIN, _QUOTED, _DOUBLED = 0, 1, 2


@compiled
def _scan(data: Bytes, offsets: Longs, lengths: Longs, kinds: NDArray[np.uint8]) -> int:
    """Find the fields of each record; return how many records there are, or -1 if one is not plain."""
    columns, end, at, row = len(offsets), len(data), 0, 0
    while at < end:
        if data[at] == 10:
            at += 1
            continue
        if data[at] == 13 and at + 1 < end and data[at + 1] == 10:
            at += 2
            continue
        for column in range(columns):
            kind, start = np.uint8(0), at
            if at < end and data[at] == 34:
                kind, start = np.uint8(1), at + 1
                at += 1
                while True:
                    while at < end and data[at] != 34:
                        at += 1
                    if at == end:
                        return -1
                    if at + 1 < end and data[at + 1] == 34:
                        kind = np.uint8(2)
                        at += 2
                        continue
                    break
                stop = at
                at += 1
            else:
                while at < end:
                    code = data[at]
                    if code in (44, 10, 13):
                        break
                    if code == 34:
                        return -1
                    at += 1
                stop = at
            offsets[column, row], lengths[column, row], kinds[column, row] = start, stop - start, kind
            if column < columns - 1:
                if at == end or data[at] != 44:
                    return -1
                at += 1
        if at < end and data[at] == 13:
            at += 1
            if at == end or data[at] != 10:
                return -1
        if at < end:
            if data[at] != 10:
                return -1
            at += 1
        row += 1
    return row
