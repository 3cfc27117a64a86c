"""Reading back what a sink has written as text: as values of the shape's types."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import pyarrow as pa

from bourne.connect.sink import Shape
from bourne.connect.source import Position
from bourne.duck import cursor
from bourne.schema import Column, Schema, arrow_type, quote
from bourne.testing.sink_model import WEIGHT

# Of the largest change that a suite writes: enough to be cut into pages and scripts.
HUGE_ROWS = 200_000 if os.environ.get("BOURNE_LONG") else 20_000

# Of the changes at random.
SEEDS = (1, 2, 3) if os.environ.get("BOURNE_LONG") else (1,)

# Of the places where a process can die, how many are tried: each, or each third.
STRIDE = 1 if os.environ.get("BOURNE_LONG") else 3

ROWS = Schema((Column("k", "VARCHAR"), Column("n", "BIGINT"), Column("note", "VARCHAR")))


def shape(
    *, key: Sequence[str] = (), has_weights: bool = False, name: str = "orders", **columns: str
) -> Shape:
    """Return a shape of the columns k, n and note, or of others."""
    schema = Schema(tuple(Column(name, kind) for name, kind in columns.items())) if columns else ROWS
    return Shape(name, schema, tuple(key), has_weights)


def at(number: int) -> Position:
    """Return a position."""
    return {"orders": [number, 0]}


def columns_of(shape: Shape) -> list[Column]:
    """Return the columns that a target has."""
    return [*shape.schema.columns, *([Column(WEIGHT, "BIGINT")] if shape.has_weights else [])]


def table_of_texts(columns: Mapping[str, Sequence[Any]], shape: Shape) -> pa.Table:
    """Return texts (and numbers) as values: DuckDB reads them; lists, structs and maps stay JSON, spelled one way."""
    arrays, names = [], []
    with closing(cursor()) as database:
        for column in columns_of(shape):
            texts = [
                None if value is None else value if isinstance(value, bytes) else str(value)
                for value in columns[column.name]
            ]
            if pa.types.is_nested(arrow_type(column.type)):
                array = pa.chunked_array([pa.array(texts, pa.string())])
                assert all(
                    text is None or json.loads(text, parse_float=Decimal) is not None for text in texts
                )
            elif column.type == "BLOB" and any(isinstance(text, bytes) for text in texts):
                array = pa.chunked_array([pa.array(texts, pa.binary())])
            else:
                there = database.from_arrow(pa.table({"x": pa.array(texts, pa.string())}))
                array = there.select(f"x::{column.type} AS x").to_arrow_table().column("x")
            arrays.append(array)
            names.append(column.name)
    return pa.table(arrays, names=names)


def quoted(names: Sequence[str]) -> str:
    """Return names for a SELECT."""
    return ", ".join(map(quote, names))
