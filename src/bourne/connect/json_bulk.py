"""Many JSON objects at once, in columns; where that gives the same as reading each for itself.

Law: what comes back is what `json_lines` makes of the same texts, value for value; in doubt nothing comes back, and the
slow way decides. Arrow's reader is strict about types, ranges, repeated and unknown names. What it does not see is
looked at here: that each text is one whole object, that all is UTF-8, and that no number is rounded to a double.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from bourne.connect.texts import read_texts
from bourne.engine.kernels.compiled import compiled
from bourne.errors import InputError
from bourne.schema import Column, Schema, arrow_type, conform
from bourne.values import MISFITS

# A double holds every number of so many digits.
_SAFE_DIGITS = 15
_SAFE_WHOLE = 1e15


def read_objects(texts: Sequence[bytes], schema: Schema, *, log: str) -> pa.Table | None:
    """Return objects as rows of the schema; None if one does not fit or the slow way may see it otherwise."""
    plan = _plan(schema)
    data = b"\n".join(texts)
    if plan is None or not texts or not _are_objects(texts, data):
        return None
    try:
        data.decode()
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=plan, unexpected_field_behavior="error"),
        )
        doubles = [table.column(field.name) for field in plan if pa.types.is_floating(field.type)]
        if table.num_rows != len(texts) or (doubles and not _are_exact(doubles, data)):
            return None
        return conform(table, schema, log=log)
    except (InputError, *MISFITS):
        return None


@functools.lru_cache(maxsize=256)
def _plan(schema: Schema) -> pa.Schema | None:
    """Return how Arrow is to read the columns; None if one is of a type that it cannot."""
    fields = [(column.name, _read_as(column)) for column in schema.columns]
    return None if any(kind is None for _, kind in fields) else pa.schema(fields)


def _read_as(column: Column) -> pa.DataType | None:
    target = arrow_type(column.type)
    if column.type in ("JSON", "BLOB", "INTERVAL") or pa.types.is_nested(target):
        return None
    if pa.types.is_floating(target):
        return pa.float64()
    if pa.types.is_integer(target) or pa.types.is_boolean(target) or pa.types.is_decimal(target):
        return target
    return pa.string() if pa.types.is_string(target) or pa.types.is_temporal(target) else None


def _are_objects(texts: Sequence[bytes], data: bytes) -> bool:
    """Say whether each text begins and ends as an object does.

    Then, if all of them in a row are as many objects as they are texts, each is one: between two texts is "}", a
    newline and "{", which is never inside an object: a comma is missing, and a string has no bare newline.
    """
    joints = len(texts) - 1
    if data[:1] == b"{" and data[-1:] == b"}" and data.count(b"}\n{") == joints == data.count(b"\n"):
        return True
    return all(text.startswith(b"{") and text.endswith(b"}") for text in texts)


def _are_exact(doubles: list[pa.ChunkedArray], data: bytes) -> bool:
    """Say whether the doubles are the numbers that were written."""
    for values in doubles:
        most = pc.max(pc.abs(values)).as_py()
        if most is not None and not most < _SAFE_WHOLE:  # NaN, too
            return False
        if pc.any(pc.is_nan(values)).as_py():
            return False
        numbers = values.drop_null().to_numpy()
        if np.signbit(numbers[numbers == 0]).any():  # -0, which is a whole number and has no sign, or -0.0
            return False
    spans = _long_fractions(np.frombuffer(data, np.uint8), _SAFE_DIGITS)
    if not len(spans):
        return True
    written = pa.chunked_array([pa.array([data[start:end].decode() for start, end in spans.tolist()])])
    return bool(pa.types.is_floating(read_texts(written, Column("x", "DOUBLE")).type))


@compiled
def _long_fractions(data: NDArray[np.uint8], digits_max: int) -> NDArray[np.int64]:
    """Return start and end of the numbers outside of strings that have a fraction and many digits, or an exponent."""
    spans = np.empty((16, 2), np.int64)
    count = 0
    is_text = False
    i, end = 0, len(data)
    while i < end:
        byte = data[i]
        if is_text:
            if byte == 92:  # a backslash: what follows is no quote
                i += 1
            elif byte == 34:
                is_text = False
            i += 1
        elif byte == 34:
            is_text = True
            i += 1
        elif 48 <= byte <= 57:
            start, digits, is_long = i, 0, False
            has_point = False
            while i < end:
                byte = data[i]
                if 48 <= byte <= 57:
                    digits += 1
                elif byte == 46:
                    has_point = True
                elif byte in (69, 101):
                    is_long = True
                elif byte not in (43, 45):
                    break
                i += 1
            if is_long or (has_point and digits > digits_max):
                if count == len(spans):
                    more = np.empty((2 * count, 2), np.int64)
                    more[:count] = spans
                    spans = more
                spans[count, 0] = start
                spans[count, 1] = i
                count += 1
        else:
            i += 1
    return spans[:count]
