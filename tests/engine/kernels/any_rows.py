"""Random rows of random types for Hypothesis, and what SQL thinks of their equality, in plain Python.

Values come from small pools, so that equal ones are frequent, with the extremes of each type among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

Row = tuple[Any, ...]

_DAY_NS = 86_400 * 10**9
_OTHER_NAN = float(np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0])
_INTERVALS = [
    (0, 0, 0),
    (1, 0, 0),
    (0, 30, 0),
    (0, 0, 30 * _DAY_NS),
    (1, -30, 0),
    (0, -1, _DAY_NS),
    (-1, 29, _DAY_NS),
]
_INTERVALS += [(1, -1, 0), (0, 29, 0), (0, 1, -1000), (0, 0, _DAY_NS - 1000), (2**31 - 1, -(2**31), 1000)]

FLAT: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [-128, -1, 0, 1, 127]),
    (pa.int16(), [-(2**15), 0, 1]),
    (pa.int32(), [-(2**31), -1, 0, 7]),
    (pa.int64(), [-(2**63), -1, 0, 1, 2, 2**63 - 1]),
    (pa.uint8(), [0, 1, 255]),
    (pa.uint64(), [0, 1, 2**63, 2**64 - 1]),
    (pa.bool_(), [False, True]),
    (pa.float32(), [0.0, -0.0, 1.5, math.inf, math.nan]),
    (pa.float64(), [0.0, -0.0, 5e-324, 1e300, -math.inf, math.nan, _OTHER_NAN]),
    (pa.decimal128(9, 2), [Decimal("-9999999.99"), Decimal("0.00"), Decimal("0.01")]),
    (pa.decimal128(38, 0), [Decimal(-1), Decimal(0), Decimal(2**64), Decimal(-(2**64)), Decimal(10**38 - 1)]),
    (pa.date32(), [-700_000, 0, 1]),
    (pa.time64("us"), [0, 1, 86_400_000_000 - 1]),
    (pa.timestamp("us"), [-(10**15), 0, 1]),
    (pa.timestamp("s"), [0, 1]),
    (pa.timestamp("ns"), [0, 1000]),
    (pa.timestamp("us", "UTC"), [0, 1]),
    (pa.month_day_nano_interval(), _INTERVALS),
    (pa.string(), ["", "a", "b", "a\0", "\0", "12345678", "123456780", "12345678\0", "é", "한국" * 9]),
    (pa.large_string(), ["", "a", "ab"]),
    (pa.binary(), [b"", b"\0", b"\0\0", b"\xff" * 17]),
    (pa.large_binary(), [b"", b"a"]),
    (pa.null(), []),
    (pa.dictionary(pa.uint8(), pa.string()), ["", "x", "y"]),
]
_POOLS = dict(FLAT)


def types(depth: int = 2) -> st.SearchStrategy[pa.DataType]:
    """Draw a type, nested at most so deep."""
    flat = st.sampled_from([target for target, _ in FLAT])
    if not depth:
        return flat.filter(lambda target: not pa.types.is_dictionary(target))
    item = types(depth - 1)
    return st.one_of(
        flat,
        item.map(pa.list_),
        item.map(pa.large_list),
        item.map(lambda target: pa.list_(target, 2)),
        st.lists(item, min_size=1, max_size=3).map(
            lambda items: pa.struct([(f"f{i}", target) for i, target in enumerate(items)])
        ),
        item.map(lambda target: pa.map_(pa.string(), target)),
    )


def values(target: pa.DataType) -> st.SearchStrategy[Any]:
    """Draw a value of a type, often NULL."""
    if pa.types.is_struct(target):
        fields = [values(target.field(i).type) for i in range(target.num_fields)]
        found: st.SearchStrategy[Any] = st.tuples(*fields).map(
            lambda parts: {f"f{i}": part for i, part in enumerate(parts)}
        )
    elif pa.types.is_map(target):
        found = st.lists(st.tuples(st.sampled_from(["k", "l"]), values(target.item_type)), max_size=2)
    elif pa.types.is_fixed_size_list(target):
        found = st.lists(values(target.value_type), min_size=2, max_size=2)
    elif pa.types.is_list(target) or pa.types.is_large_list(target):
        found = st.lists(values(target.value_type), max_size=3)
    else:
        found = st.sampled_from([*_POOLS[target], None])
    return st.one_of(found, found, st.none())


def rows_of(targets: Sequence[pa.DataType], max_size: int = 30) -> st.SearchStrategy[list[Row]]:
    """Draw rows with columns of these types."""
    return st.lists(st.tuples(*map(values, targets)), max_size=max_size)


def columns_of(rows: Sequence[Row], targets: Sequence[pa.DataType], cut: int = 0) -> list[pa.Array]:
    """Return rows as columns; with a cut, as slices of longer arrays."""
    around = [*rows[:1], *rows[-1:]] * cut
    longer = [*around, *rows, *around]
    columns = [_array([row[i] for row in longer], target) for i, target in enumerate(targets)]
    return [column.slice(len(around), len(rows)) for column in columns]


def _array(found: list[Any], target: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(target):
        return pa.array(found, target.value_type).dictionary_encode().cast(target)
    return pa.array(found, target)


def same(value: Any, target: pa.DataType) -> Any:
    """Return something that is equal for exactly those values that SQL calls NOT DISTINCT."""
    if value is None:
        return None
    if pa.types.is_struct(target):
        parts = [target.field(i) for i in range(target.num_fields)]
        return ("struct", *(same(value[part.name], part.type) for part in parts))
    if pa.types.is_map(target):
        return tuple((key, same(item, target.item_type)) for key, item in value)
    if pa.types.is_nested(target):
        return tuple(same(item, target.value_type) for item in value)
    if pa.types.is_interval(target):
        months, days, nanos = value
        return (months * 30 + days) * _DAY_NS + nanos
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def same_row(row: Row, targets: Sequence[pa.DataType]) -> Row:
    """Return `same` of a whole row."""
    return tuple(same(value, target) for value, target in zip(row, targets, strict=True))


def shown(columns: Sequence[pa.Array]) -> list[str]:
    """Return rows as text that tells apart even what SQL does not: -0.0 from 0.0, a month from 30 days."""
    lists = [column.to_pylist() for column in columns]
    return [repr(row) for row in zip(*lists, strict=True)]
