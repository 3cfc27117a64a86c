"""Lists, structs and maps as JSON texts; who asks says how the values inside are written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pyarrow as pa

Scalars = Callable[[pa.Array], list[str]]


def nested_json(column: pa.ChunkedArray, scalars: Scalars) -> pa.ChunkedArray:
    """Return each value of a nested column as JSON, NULL as NULL.

    A map is a list of pairs: its keys may be of any type. `scalars` returns values that are not nested as JSON, NULL as `null`;
    it sees them as Arrow has them, so that none is beyond Python's types.
    """
    chunks = []
    for chunk in column.chunks:
        pairs = zip(_texts(chunk, scalars), chunk.is_valid().to_pylist(), strict=True)
        chunks.append(pa.array([text if is_there else None for text, is_there in pairs], pa.string()))
    return pa.chunked_array(chunks, pa.string())


def _texts(values: pa.Array, scalars: Scalars) -> list[str]:
    kind = values.type
    if not pa.types.is_nested(kind):
        return scalars(values)
    texts = _structs(values, scalars) if pa.types.is_struct(kind) else _lists(values, scalars)
    pairs = zip(texts, values.is_valid().to_pylist(), strict=True)
    return [text if is_there else "null" for text, is_there in pairs]


def _structs(values: pa.Array, scalars: Scalars) -> list[str]:
    names = [json.dumps(field.name, ensure_ascii=False) for field in values.type]
    fields = [_texts(values.field(number), scalars) for number in range(len(names))]
    return [
        "{" + ", ".join(f"{name}: {text}" for name, text in zip(names, row, strict=True)) + "}"
        for row in zip(*fields, strict=True)
    ]


def _lists(values: pa.Array, scalars: Scalars) -> list[str]:
    if pa.types.is_fixed_size_list(values.type):
        size = values.type.list_size
        places = range(values.offset * size, (values.offset + len(values) + 1) * size, size or 1)
        offsets = list(places) if size else [0] * (len(values) + 1)
    else:
        offsets = values.offsets.to_pylist()
    start = offsets[0]

    def inside(items: pa.Array) -> list[str]:
        return _texts(items.slice(start, offsets[-1] - start), scalars)

    if pa.types.is_map(values.type):
        pairs = zip(inside(values.keys), inside(values.items), strict=True)
        items = [f"[{key}, {item}]" for key, item in pairs]
    else:
        items = inside(values.values)
    bounds = itertools.pairwise(offsets)
    return ["[" + ", ".join(items[first - start : end - start]) + "]" for first, end in bounds]
