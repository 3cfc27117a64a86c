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
    spans = _long_fractions(np.frombuffer(data, np.uint8), _KINDS, _SAFE_DIGITS)
    if not len(spans):
        return True
    written = pa.chunked_array([pa.array([data[start:end].decode() for start, end in spans.tolist()])])
    return bool(pa.types.is_floating(read_texts(written, Column("x", "DOUBLE")).type))


# What a byte of JSON is, outside of strings.
_DIGIT, _POINT, _EXPONENT, _SIGN, _QUOTE = 1, 2, 3, 4, 5
_KINDS = np.zeros(256, np.uint8)
_KINDS[list(b"0123456789")] = _DIGIT
_KINDS[ord(".")] = _POINT
_KINDS[list(b"eE")] = _EXPONENT
_KINDS[list(b"+-")] = _SIGN
_KINDS[ord('"')] = _QUOTE


@compiled
def _long_fractions(data: NDArray[np.uint8], kinds: NDArray[np.uint8], digits_max: int) -> NDArray[np.int64]:
    """Return start and end of the numbers outside of strings that have a fraction and many digits, or an exponent."""
    found = np.empty(len(data) + 2, np.int64)  # touched as far as it is used
    count = 0
    i, end = np.uint64(0), np.uint64(len(data))
    one = np.uint64(1)
    while i < end:
        kind = kinds[data[i]]
        if kind == 5:
            i += one
            while i < end and data[i] != 34:
                i += one + np.uint64(data[i] == 92)  # what follows a backslash is no quote
            i += one
        elif kind == 1:
            start, digits = i, 1
            has_point = is_long = False
            i += one
            while i < end:
                kind = kinds[data[i]]
                if kind == 1:
                    digits += 1
                elif kind == 2:
                    has_point = True
                elif kind == 3:
                    is_long = True
                elif kind != 4:
                    break
                i += one
            if is_long or (has_point and digits > digits_max):
                found[count] = start
                found[count + 1] = i
                count += 2
        else:
            i += one
    return found[:count].reshape(-1, 2)
