"""Rows of any types to 128-bit hashes.

Law: rows whose columns are pairwise NOT DISTINCT in SQL get equal hashes; any others differ, but for the chance of
a 128-bit collision. So -0.0 equals 0.0, every NaN every other, a month 30 days and a day 24 hours, NULL equals
NULL and nothing else, also inside of lists, structs and maps. That is for keys. Exact hashes, which tell these values
apart (but no NaN from another), are for rows that are given and taken back: 1/x and x::VARCHAR see the difference.

The two lanes of a hash are multiply-xorshift chains over a row's words, with random multipliers that each process
draws anew: nothing that is stored or emitted may depend on a hash. Every type's words tell where they end (texts
and lists begin with their length), and a NULL is a word that differs from lane to lane, as no value does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import (
    Valid,
    doubles,
    fields_of,
    is_list,
    is_long,
    is_text,
    longs,
    plain_values,
    text_buffers,
    validity,
    wides,
    without_minus_zero,
)
from bourne.engine.kernels.compiled import compiled

Longs = NDArray[np.int64]
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

# Per lane: where it starts, two odd multipliers, and the word that stands for NULL. An argument of every kernel,
# as Numba would keep a global's value in its cache.
_SECRETS: Words = np.frombuffer(os.urandom(64), np.uint64).reshape(2, 4) | np.uint64(1)

_SHIFT_32 = np.uint64(32)
_SHIFT_29 = np.uint64(29)
_EIGHT = np.uint64(8)
_DAY_NS = 86_400 * 10**9
# A decimal of up to this many digits fits one word.
_NARROW_DIGITS = 18


def is_hashable(target: pa.DataType) -> bool:
    """Say whether `hash_rows` takes columns of this type."""
    if isinstance(target, pa.BaseExtensionType):
        return is_hashable(target.storage_type)
    if pa.types.is_dictionary(target):
        return is_hashable(target.value_type)
    if pa.types.is_nested(target):
        children = [target.field(i).type for i in range(target.num_fields)]
        return (is_list(target) or pa.types.is_struct(target)) and all(map(is_hashable, children))
    return (
        is_long(target)
        or is_text(target)
        or pa.types.is_float32(target)
        or pa.types.is_float64(target)
        or pa.types.is_decimal128(target)
        or pa.types.is_interval(target)
        or pa.types.is_null(target)
    )


def hash_rows(columns: Sequence[pa.Array], rows: int, *, is_exact: bool = False) -> Longs:
    """Return the hash of each row as (2, rows). Which columns are read, and in which order, matters.

    `is_exact` tells values apart that are equal but not the same.
    """
    state = _fresh(rows)
    for values in columns:
        _mix_column(state, values, is_exact)
    return state.view(np.int64)


def _fresh(rows: int) -> Words:
    state = np.empty((2, rows), np.uint64)
    state[0], state[1] = _SECRETS[0, 0], _SECRETS[1, 0]
    return state


def _mix_column(state: Words, values: pa.Array, is_exact: bool) -> None:
    """Mix a column into the rows' hashes."""
    target = values.type
    if isinstance(target, pa.BaseExtensionType):
        _mix_column(state, values.storage, is_exact)
    elif pa.types.is_dictionary(target):
        _mix_column(state, values.dictionary_decode(), is_exact)
    elif pa.types.is_null(target):
        _mix_words(state, _SECRETS, np.zeros((len(values), 1), np.int64), np.zeros(len(values), np.bool_))
    elif is_long(target):
        _mix_words(state, _SECRETS, longs(values).reshape(-1, 1), validity(values))
    elif is_text(target):
        _mix_texts(state, _SECRETS, *text_buffers(values), validity(values))
    elif pa.types.is_floating(target):
        numbers = doubles(values).copy() if is_exact else without_minus_zero(doubles(values))
        numbers[np.isnan(numbers)] = np.nan
        _mix_words(state, _SECRETS, numbers.view(np.int64).reshape(-1, 1), validity(values))
    elif pa.types.is_decimal128(target):
        words = wides(values)[:, :1] if target.precision <= _NARROW_DIGITS else wides(values)
        _mix_words(state, _SECRETS, np.ascontiguousarray(words), validity(values))
    elif pa.types.is_interval(target):
        _mix_words(
            state, _SECRETS, _interval_words(values) if is_exact else _lengths(values), validity(values)
        )
    elif pa.types.is_struct(target):
        fields = _fresh(len(values))
        for field in fields_of(values):
            _mix_column(fields, field, is_exact)
        starts = np.arange(len(values) + 1)
        _mix_lists(state, _SECRETS, starts, fields, validity(values))
    elif is_list(target):
        starts, items = _items(values)
        elements = _fresh(len(items))
        _mix_column(elements, items, is_exact)
        _mix_lists(state, _SECRETS, starts, elements, validity(values))
    else:
        raise TypeError(f"rows with a column of type {target} cannot be hashed; ask is_hashable first")


def _lengths(values: pa.Array) -> Longs:
    """Return intervals as (rows, 2): days, a month having 30, and what is less than a day."""
    raw = _interval_words(values)
    months, days = raw[:, 0].astype(np.int32).astype(np.int64), raw[:, 0] >> 32
    return np.column_stack([months * 30 + days + raw[:, 1] // _DAY_NS, raw[:, 1] % _DAY_NS])


def _interval_words(values: pa.Array) -> Longs:
    """Return intervals as (rows, 2): months and days, and nanoseconds."""
    words: Longs = plain_values(values, np.dtype(np.int64), words=2).reshape(-1, 2)
    return words


def _items(values: pa.Array) -> tuple[Longs, pa.Array]:
    """Return (starts, items) of lists: list i has items[starts[i]:starts[i + 1]]."""
    if pa.types.is_fixed_size_list(values.type):
        size = values.type.list_size
        items = values.values.slice(values.offset * size, len(values) * size)
        return np.arange(len(values) + 1) * size, items
    starts = values.offsets.to_numpy().astype(np.int64)
    if not len(values):
        return np.zeros(1, np.int64), values.values.slice(0, 0)
    return starts - starts[0], values.values.slice(starts[0], starts[-1] - starts[0])


@compiled
def _mix(state: Any, word: Any, multiply_1: Any, multiply_2: Any) -> Any:
    state = (state ^ word) * multiply_1
    state ^= state >> _SHIFT_32
    state *= multiply_2
    return state ^ (state >> _SHIFT_29)


@compiled
def _mix_words(state: Words, secrets: Words, words: Longs, valid: Valid) -> None:
    """Mix (rows, one or two words) into (2, rows)."""
    multiply_1, multiply_2, null = secrets[0, 1], secrets[0, 2], secrets[0, 3]
    multiply_3, multiply_4, null_2 = secrets[1, 1], secrets[1, 2], secrets[1, 3]
    width = words.shape[1]
    has_nulls = len(valid) > 0
    for i in range(len(words)):
        first, second = np.uint64(words[i, 0]), np.uint64(words[i, 0])
        is_null = has_nulls and not valid[i]
        if is_null:
            first, second = null, null_2
        state[0, i] = _mix(state[0, i], first, multiply_1, multiply_2)
        state[1, i] = _mix(state[1, i], second, multiply_3, multiply_4)
        if width > 1 and not is_null:
            word = np.uint64(words[i, 1])
            state[0, i] = _mix(state[0, i], word, multiply_1, multiply_2)
            state[1, i] = _mix(state[1, i], word, multiply_3, multiply_4)


@compiled
def _mix_texts(state: Words, secrets: Words, starts: Longs, data: Bytes, valid: Valid) -> None:
    """Mix texts into (2, rows): the length, then eight bytes at a time, the last word filled up with zeros."""
    multiply_1, multiply_2, null = secrets[0, 1], secrets[0, 2], secrets[0, 3]
    multiply_3, multiply_4, null_2 = secrets[1, 1], secrets[1, 2], secrets[1, 3]
    has_nulls = len(valid) > 0
    for i in range(len(starts) - 1):
        first, second = state[0, i], state[1, i]
        if has_nulls and not valid[i]:
            state[0, i] = _mix(first, null, multiply_1, multiply_2)
            state[1, i] = _mix(second, null_2, multiply_3, multiply_4)
            continue
        at, end = np.uint64(starts[i]), np.uint64(starts[i + 1])
        first = _mix(first, end - at, multiply_1, multiply_2)
        second = _mix(second, end - at, multiply_3, multiply_4)
        while at + _EIGHT <= end:
            word = np.uint64(0)
            for j in range(8):  # LLVM makes one load of it
                word |= np.uint64(data[at + np.uint64(j)]) << np.uint64(8 * j)
            first = _mix(first, word, multiply_1, multiply_2)
            second = _mix(second, word, multiply_3, multiply_4)
            at += _EIGHT
        if at < end:
            word = np.uint64(0)
            while at < end:
                end -= np.uint64(1)
                word = (word << _EIGHT) | np.uint64(data[end])
            first = _mix(first, word, multiply_1, multiply_2)
            second = _mix(second, word, multiply_3, multiply_4)
        state[0, i], state[1, i] = first, second


@compiled
def _mix_lists(state: Words, secrets: Words, starts: Longs, elements: Words, valid: Valid) -> None:
    """Mix lists of hashed elements into (2, rows): the length, then each element's lane into its lane."""
    has_nulls = len(valid) > 0
    for lane in range(2):
        multiply_1, multiply_2, null = secrets[lane, 1], secrets[lane, 2], secrets[lane, 3]
        for i in range(len(starts) - 1):
            if has_nulls and not valid[i]:
                state[lane, i] = _mix(state[lane, i], null, multiply_1, multiply_2)
                continue
            mixed = _mix(state[lane, i], np.uint64(starts[i + 1] - starts[i]), multiply_1, multiply_2)
            for j in range(starts[i], starts[i + 1]):
                mixed = _mix(mixed, elements[lane, j], multiply_1, multiply_2)
            state[lane, i] = mixed
