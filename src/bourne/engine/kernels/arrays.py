"""Arrow arrays as NumPy arrays and back, without copying where the bytes allow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Valid = NDArray[np.bool_]

ALL_VALID: Valid = np.empty(0, np.bool_)


def as_array(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return one contiguous array."""
    if isinstance(values, pa.ChunkedArray):
        return (
            values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks or [_none(values)])
        )
    return values


def _none(values: pa.ChunkedArray) -> pa.Array:
    return pa.array([], values.type)


def is_long(target: pa.DataType) -> bool:
    """Say whether values of this type are what `longs` takes."""
    is_moment = pa.types.is_temporal(target) and not pa.types.is_interval(target)
    return bool(is_moment or pa.types.is_boolean(target) or pa.types.is_integer(target))


def is_text(target: pa.DataType) -> bool:
    """Say whether values of this type are what `text_buffers` takes."""
    is_large = pa.types.is_large_string(target) or pa.types.is_large_binary(target)
    return bool(is_large or pa.types.is_string(target) or pa.types.is_binary(target))


def is_list(target: pa.DataType) -> bool:
    """Say whether values of this type are lists of any kind, maps among them."""
    is_plain = pa.types.is_list(target) or pa.types.is_large_list(target)
    return bool(is_plain or pa.types.is_map(target) or pa.types.is_fixed_size_list(target))


def validity(values: pa.Array) -> Valid:
    """Return which values are not NULL; an empty array if all are."""
    return pc.is_valid(values).to_numpy(zero_copy_only=False) if values.null_count else ALL_VALID


def plain_values(values: pa.Array, kind: np.dtype[Any], *, words: int = 1) -> NDArray[Any]:
    """Return the numbers of an array of fixed width, `words` each; its memory may be longer than they are."""
    plain = values.buffers()[1]
    if not len(values) or plain is None:
        return np.zeros(words * len(values), kind)
    return np.frombuffer(plain, kind, words * len(values), values.offset * words * kind.itemsize)


def longs(values: pa.Array) -> NDArray[np.int64]:
    """Return integers, booleans, dates, times and instants as 64-bit numbers that keep their order.

    `uint64` wraps: only its equality survives. What stands for NULL is undefined.
    """
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    kind = np.dtype(
        f"{'u' if pa.types.is_unsigned_integer(values.type) else 'i'}{values.type.bit_width // 8}"
    )
    plain = plain_values(values, kind)
    return plain.view(np.int64) if kind == np.uint64 else plain.astype(np.int64, copy=False)


def doubles(values: pa.Array) -> NDArray[np.float64]:
    """Return floating-point numbers. What stands for NULL is undefined: any bits, also a NaN that signals."""
    kind = np.float32 if pa.types.is_float32(values.type) else np.float64
    with np.errstate(invalid="ignore"):
        return plain_values(values, np.dtype(kind)).astype(np.float64, copy=False)


def wides(values: pa.Array) -> NDArray[np.int64]:
    """Return 128-bit decimals as (rows, 2): the low word, to be read as unsigned, and the high word."""
    return plain_values(values, np.dtype(np.int64), words=2).reshape(-1, 2)


def text_buffers(values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return (starts, bytes) of texts or blobs; text i is bytes[starts[i]:starts[i + 1]]."""
    if not len(values):
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = values.buffers()
    is_large = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    kind = np.dtype(np.int64 if is_large else np.int32)
    starts: NDArray[Any] = np.frombuffer(offsets, kind, len(values) + 1, values.offset * kind.itemsize)
    return starts.astype(np.int64), np.frombuffer(data or b"", np.uint8)


def fields_of(values: pa.Array) -> list[pa.Array]:
    """Return the fields of structs, NULL where the struct is: what else is there may not even be a value."""
    flat: list[pa.Array] = values.flatten() if values.null_count else []
    return flat or [values.field(i) for i in range(values.type.num_fields)]


def from_longs(numbers: NDArray[np.int64], valid: Valid, target: pa.DataType) -> pa.Array:
    """Return the Arrow array that `longs` was made from."""
    if pa.types.is_boolean(target):
        return _with_nulls(pa.array(numbers != 0), valid)
    kind = np.dtype(f"{'u' if pa.types.is_unsigned_integer(target) else 'i'}{target.bit_width // 8}")
    plain = numbers.view(np.uint64) if kind == np.uint64 else numbers.astype(kind, copy=False)
    return _from_data(plain, valid, target)


def without_minus_zero(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a copy of what `doubles` gave in which -0.0 is 0.0."""
    with np.errstate(invalid="ignore"):
        return numbers + 0.0


def from_doubles(numbers: NDArray[np.float64], valid: Valid, target: pa.DataType) -> pa.Array:
    """Return an Arrow array of floats."""
    plain = numbers.astype(np.float32) if pa.types.is_float32(target) else numbers
    return _from_data(plain, valid, target)


def from_wides(words: NDArray[np.int64], valid: Valid, target: pa.DataType) -> pa.Array:
    """Return 128-bit decimals from (rows, 2) words."""
    return _from_data(words, valid, target)


def _from_data(plain: NDArray[Any], valid: Valid, target: pa.DataType) -> pa.Array:
    mask = pa.array(valid).buffers()[1] if len(valid) else None
    return pa.Array.from_buffers(target, len(plain), [mask, pa.py_buffer(np.ascontiguousarray(plain))])


def _with_nulls(values: pa.Array, valid: Valid) -> pa.Array:
    return pc.if_else(pa.array(valid), values, pa.scalar(None, values.type)) if len(valid) else values


def grown(array: NDArray[Any], size: int, fill: float = 0) -> NDArray[Any]:
    """Return `array`, or a copy that is at least `size` long and twice as large, the new part filled."""
    if len(array) >= size:
        return array
    shape = (max(size, 2 * len(array)), *array.shape[1:])
    larger = (
        np.full(shape, fill, array.dtype) if fill else np.zeros(shape, array.dtype)
    )  # zeros come for free
    larger[: len(array)] = array
    return larger
