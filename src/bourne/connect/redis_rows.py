"""Rows as what Redis gets: keys, and flat lists of texts (`bourne.connect.redis_scripts` says what is in them).

Law: different keys have different names. A name is the prefix and the values of the key's columns as DuckDB writes them,
joined by colons; in them `%` is `%25`, of several columns `:` is `%3A`, and NULL is `%N`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.row_texts import json_rows, text_columns
from bourne.connect.sink import Change, Shape
from bourne.errors import Rejected
from bourne.log.relation import COUNT_COLUMN

Form = Literal["hash", "json", "stream"]
Part = list[Any]

# Redis does nothing else while a part is written: some milliseconds each.
PART_ROWS: Final = 2_000
_PART_BYTES: Final = 1 << 20
_PART_TEXTS: Final = 200_000


def key_names(keys: pa.Table, prefix: str) -> pa.ChunkedArray:
    """Return the names of keys, as bytes."""
    columns = []
    for column, texts in zip(keys.columns, text_columns(_positive_zeros(keys)), strict=True):
        escaped = pc.replace_substring(texts, "%", "%25")
        if keys.num_columns > 1:
            escaped = pc.replace_substring(escaped, ":", "%3A")
        columns.append(pc.if_else(pc.is_null(column), "%N", escaped))
    joined = pc.binary_join_element_wise(*columns, ":")
    return pc.binary_join_element_wise(prefix, joined, "").cast(pa.binary())


def parts_of(change: Change, shape: Shape, form: Form, prefix: str, *, rows_max: int) -> Iterator[Part]:
    """Yield a change in parts, at least one, none of them large: gone keys first.

    Raises:
        Rejected: a row cannot be in Redis.
    """
    rows = change.rows
    if change.weights is not None:
        rows = rows.append_column(COUNT_COLUMN.name, change.weights)
    names = rows.column_names if form != "json" else []
    rows_max = max(1, min(rows_max, _PART_TEXTS // (len(names) + 2)))
    is_empty = True
    if change.gone is not None:
        for start in range(0, change.gone.num_rows, rows_max):
            gone = key_names(change.gone.slice(start, rows_max), prefix).to_pylist()
            is_empty = False
            yield [form, len(names), len(gone), *names, *gone]
    for start in range(0, rows.num_rows, rows_max):
        page = rows.slice(start, rows_max)
        columns = [_names_of(page, shape, form, prefix), *_values(page, shape, form)]
        for first, end in _cuts(columns):
            lists = [column.slice(first, end - first).to_pylist() for column in columns]
            is_empty = False
            yield [form, len(names), 0, *names, *itertools.chain.from_iterable(zip(*lists, strict=True))]
    if is_empty:
        yield [form, len(names), 0, *names]


def check_rows(change: Change, form: Form) -> None:
    """Refuse what Redis cannot hold: a hash or an entry without fields.

    Raises:
        Rejected: a row is all NULL.
    """
    if form == "json" or change.weights is not None or not change.rows.num_rows:
        return
    is_null = pc.is_null(change.rows.column(0))
    for column in change.rows.columns[1:]:
        is_null = pc.and_(is_null, pc.is_null(column))
    if pc.any(is_null).as_py():
        raise Rejected(
            "Redis has no hash and no entry without fields",
            found="a row that is all NULL",
            hint="use ?as=json",
        )


def _names_of(page: pa.Table, shape: Shape, form: Form, prefix: str) -> pa.ChunkedArray:
    if form == "stream":
        return pa.chunked_array([pa.array([prefix.encode()] * page.num_rows, pa.binary())])
    return key_names(page.select(list(shape.key)), prefix)


def _values(page: pa.Table, shape: Shape, form: Form) -> list[pa.ChunkedArray]:
    if form == "json":
        json_columns = {column.name for column in shape.schema.columns if column.type == "JSON"}
        texts = [text.encode() for text in json_rows(page, json_columns=json_columns)]
        return [pa.chunked_array([pa.array(texts, pa.binary())])]
    found = []
    for column, texts in zip(page.columns, text_columns(page), strict=True):
        values = column if pa.types.is_binary(column.type) else texts.cast(pa.binary())
        found.append(pc.fill_null(pc.binary_join_element_wise(b"=", values, b""), b""))
    return found


def _cuts(columns: list[pa.ChunkedArray]) -> Iterator[tuple[int, int]]:
    """Yield runs of rows of about so many bytes."""
    sizes = sum(pc.binary_length(column).to_numpy().astype(np.int64) for column in columns)
    ends = np.cumsum(sizes)
    first, count = 0, len(ends)
    while first < count:
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + _PART_BYTES, side="right")))
        yield first, end
        first = end


def _positive_zeros(keys: pa.Table) -> pa.Table:
    """Return the keys with 0.0 for -0.0, which is the same key."""
    for number, field in enumerate(keys.schema):
        if pa.types.is_floating(field.type):
            zeros = pc.add(keys.column(number), pa.scalar(0.0, field.type))
            keys = keys.set_column(number, field, zeros)
    return keys
