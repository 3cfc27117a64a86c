"""Values into Arrow columns, exactly or not at all.

Law: what is stored is what was given. A value is taken if it is of the column's kind and exactly representable
there; a binary floating-point number stands for its shortest decimal text (0.1 for 0.1), and a time without a
zone is in UTC. Everything else raises one of `MISFITS`; nothing is rounded, cut, wrapped or reinterpreted.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.duck import cursor

MISFITS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError, ArithmeticError, duckdb.Error)

_CHECKED_TEXTS: Final = frozenset({"UUID", "JSON"})

_DECIMAL_TEXT: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


# --- from Arrow ----------------------------------------------------------------------------------------


def fit_column(values: pa.ChunkedArray, target: pa.DataType, spelled: str) -> pa.ChunkedArray:
    """Return an Arrow column as one of the Arrow type `target`, which stands for DuckDB's type `spelled`.

    Raises:
        MISFITS: a value does not fit.
    """
    if values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values), target)])
    values = _plain(values)
    if pa.types.is_nested(target):
        return check_instants(_fit_nested(values, target, spelled))
    if pa.types.is_interval(target) and (pa.types.is_duration(values.type) or values.type == target):
        return fit_objects(values.to_pylist(), target, spelled)
    if values.type != target:
        source_kind, target_kind = _kind(values.type), _kind(target)
        if source_kind == target_kind and source_kind not in ("float", "timestamp"):
            values = values.cast(target)
        elif (source_kind, target_kind) in _CONVERSIONS:
            values = _CONVERSIONS[source_kind, target_kind](values, target)
        else:
            raise TypeError(f"{values.type} is not {target}")
    return _check_text(check_instants(values), spelled)


@functools.lru_cache(maxsize=4096)
def needs_fit(target: pa.DataType, spelled: str) -> bool:
    """Say whether values of the very type `target` may still not fit: then `fit_column` has to look at them.

    Timestamps apart: `check_instants` is enough for those.
    """
    return spelled in _CHECKED_TEXTS or pa.types.is_interval(target)


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo encodings that are not types: dictionaries, extensions, half floats."""
    if isinstance(values.type, pa.UuidType):
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    if pa.types.is_dictionary(values.type):
        chunks = [_plain(pa.chunked_array([chunk.dictionary])).combine_chunks() for chunk in values.chunks]
        pairs = zip(chunks, values.chunks, strict=True)
        return pa.chunked_array([plain.take(chunk.indices) for plain, chunk in pairs])
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    return values.cast(pa.string()) if _kind(values.type) == "text" and values.type != pa.string() else values


def _kind(arrow: pa.DataType) -> str:
    """Return the kind of a type: values of one kind differ only in range and precision."""
    for kind, is_kind in _KINDS.items():
        if is_kind(arrow):
            return kind
    return str(arrow)


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "boolean": pa.types.is_boolean,
    "integer": pa.types.is_integer,
    "float": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
    "binary": lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_binary_view(t)
    or pa.types.is_fixed_size_binary(t),
    "date": pa.types.is_date,
    "time": pa.types.is_time,
    "timestamp": pa.types.is_timestamp,
    "struct": pa.types.is_struct,
    "map": pa.types.is_map,
    "list": lambda t: pa.types.is_nested(t) and hasattr(t, "value_type") and not pa.types.is_map(t),
}  # fmt: skip


def _narrow(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Float to float: to a narrower one only if the value or its shortest text stays."""
    result = values.cast(target)
    is_same = pc.or_(
        pc.equal(result.cast(values.type), values), pc.and_(pc.is_nan(values), pc.is_nan(result))
    )
    is_same = pc.or_(is_same, pc.equal(result.cast(pa.string()), values.cast(pa.string())))
    return _only_if(is_same, result)


def _integer_to_decimal(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    # Arrow wants room for any integer of the type before it looks at the values.
    return values.cast(pa.decimal128(38, min(target.scale, 18))).cast(target)


def _decimal_to_float(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    result = values.cast(target)
    return _only_if(
        pc.equal(result.cast(pa.string()).cast(pa.decimal256(76, values.type.scale)), values), result
    )


def _text_to_decimal(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    _only_if(pc.match_substring_regex(values, f"^{_DECIMAL_TEXT}$"), values)
    result = values.cast(target)
    # Arrow takes a number that is too small for the scale for zero.
    is_zero = pc.equal(result, pa.scalar(Decimal(0)).cast(target))
    return _only_if(pc.not_equal(is_zero, pc.match_substring_regex(values, "^[^eE]*[1-9]")), result)


def _timestamp_to_timestamp(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if values.type.tz:
        values = values.cast(pa.timestamp(values.type.unit, "UTC"))
    return values.cast(target)


def _timestamp_to_date(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    result = values.cast(target)
    return _only_if(pc.equal(result.cast(values.type), values), result)


def _text_to_timestamp(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    has_time = pc.match_substring_regex(values, r"^\d{4}-\d\d-\d\d[T ]\d\d:")
    has_zone = pc.and_(has_time, pc.match_substring_regex(values, r"(Z|[+-]\d\d(:?\d\d)?)$"))
    suffix = pc.if_else(has_zone, "", pc.if_else(has_time, "Z", "T00:00:00Z"))
    return pc.binary_join_element_wise(values, suffix, "").cast(pa.timestamp(target.unit, "UTC")).cast(target)


def _text_to_time(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    _only_if(pc.match_substring_regex(values, r"^\d\d:\d\d(:\d\d(\.\d+)?)?$"), values)
    instants = pc.binary_join_element_wise("1970-01-01T", values, "").cast(pa.timestamp(target.unit))
    return instants.cast(target)


def _only_if(is_right: pa.ChunkedArray, result: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the result if all values (NULLs aside) are right."""
    if not pc.all(is_right, min_count=0).as_py():
        raise pa.ArrowInvalid("not exactly representable")
    return result


def _cast(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    return values.cast(target)


_CONVERSIONS: dict[tuple[str, str], Callable[[pa.ChunkedArray, pa.DataType], pa.ChunkedArray]] = {
    ("integer", "float"): _cast,
    ("integer", "decimal"): _integer_to_decimal,
    ("float", "float"): _narrow,
    ("float", "integer"): _cast,
    ("float", "decimal"): lambda values, target: _text_to_decimal(values.cast(pa.string()), target),
    ("decimal", "integer"): _cast,
    ("decimal", "float"): _decimal_to_float,
    ("date", "timestamp"): _cast,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamp", "timestamp"): _timestamp_to_timestamp,
    ("text", "decimal"): _text_to_decimal,
    ("text", "date"): _cast,
    ("text", "time"): _text_to_time,
    ("text", "timestamp"): _text_to_timestamp,
}


def _fit_nested(values: pa.ChunkedArray, target: pa.DataType, spelled: str) -> pa.ChunkedArray:
    """Cast in columns where types differ in name and width only, else value by value."""
    if values.type == target:
        return values
    if _is_alike(values.type, target):
        try:
            return values.cast(target)
        except pa.ArrowException:
            pass  # found again below, or Arrow lacks that cast
    return fit_objects(values.to_pylist(), target, spelled)


def _is_alike(source: pa.DataType, target: pa.DataType) -> bool:
    """Say whether Arrow's safe cast between these is exact or fails."""
    kind = _kind(target)
    if kind != _kind(source):
        return False
    if kind == "struct":
        names = [[field.name for field in each] for each in (source, target)]
        pairs = zip(source, target, strict=False)
        return names[0] == names[1] and all(_is_alike(one.type, other.type) for one, other in pairs)
    if kind == "map":
        return _is_alike(source.key_type, target.key_type) and _is_alike(source.item_type, target.item_type)
    if kind == "list":
        return _is_alike(source.value_type, target.value_type)
    if kind in ("float", "timestamp") or pa.types.is_dictionary(source):
        return bool(source == target)
    return True


def _check_text(values: pa.ChunkedArray, spelled: str) -> pa.ChunkedArray:
    """Let DuckDB judge texts that stand for a UUID or JSON, and spell them its way."""
    if spelled not in _CHECKED_TEXTS:
        return values
    relation = cursor().from_arrow(pa.table({"x": values}))
    return relation.select(duckdb.SQLExpression(f"x::{spelled}::VARCHAR AS x")).to_arrow_table().column(0)


# DuckDB's timestamps, in seconds, milliseconds, microseconds; what lies outside breaks whatever it touches.
_INSTANTS: Final = {
    unit: (-9_223_372_022_400 * per_s, (2**63 - 1) * per_s // 1_000_000)
    for unit, per_s in (("s", 1), ("ms", 1000), ("us", 1_000_000))
}
_INTEGER_DIGITS_MAX: Final = 39  # of a HUGEINT, the widest
_FEW: Final = 8  # NumPy's own reductions pay from about here on
_INFINITIES: Final = (-(2**63) + 1, 2**63 - 1)


def check_instants(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column, if all its timestamps are among those that DuckDB knows (years -290308 to 294246, infinity).

    Raises:
        ValueError: one is not.
    """
    if has_instants(values.type):
        for chunk in values.chunks:
            _check_instants(chunk)
    return values


@functools.lru_cache(maxsize=4096)
def has_instants(arrow: pa.DataType) -> bool:
    """Say whether values of a type hold timestamps that have to be checked."""
    if pa.types.is_nested(arrow):
        return any(has_instants(arrow.field(number).type) for number in range(arrow.num_fields))
    return bool(pa.types.is_timestamp(arrow) and arrow.unit in _INSTANTS)


def _check_instants(values: pa.Array) -> None:
    if not has_instants(values.type):
        return
    if pa.types.is_map(values.type):
        _check_instants(values.keys)
        _check_instants(values.items)
    elif pa.types.is_struct(values.type):
        for child in values.flatten():
            _check_instants(child)
    elif pa.types.is_nested(values.type):
        _check_instants(values.flatten())
    else:
        low, high = _INSTANTS[values.type.unit]
        raw = np.frombuffer(values.buffers()[1], np.int64, len(values), 8 * values.offset)
        bounds = (min, max) if len(raw) < _FEW else (np.min, np.max)
        if len(raw) and (
            bounds[0](raw) < low or bounds[1](raw) > high
        ):  # it may be what lies where there is NULL
            numbers = values.drop_null().view(pa.int64())
            finite = pc.min_max(
                numbers.filter(pc.invert(pc.is_in(numbers, value_set=pa.array(_INFINITIES))))
            ).as_py()
            if finite["min"] is not None and (finite["min"] < low or finite["max"] > high):
                raise ValueError("a timestamp beyond what DuckDB knows")


# --- from Python ---------------------------------------------------------------------------------------


def fit_objects(values: list[Any], target: pa.DataType, spelled: str) -> pa.ChunkedArray:
    """Return Python values as a column; otherwise as `fit_column`.

    Raises:
        MISFITS: a value does not fit.
    """
    kind = _kind(target)
    types = set(map(type, values)) - {type(None)}
    if spelled == "UUID" and uuid.UUID in types:
        values = [str(value) if isinstance(value, uuid.UUID) else value for value in values]
        types = {str} if types <= {str, uuid.UUID} else types
    if types == {str} and kind in ("date", "time", "timestamp"):
        return fit_column(pa.chunked_array([pa.array(values, pa.string())]), target, spelled)
    if not types <= _TAKEN_AS_THEY_ARE.get(kind, frozenset()) or target in (pa.float32(), pa.float16()):
        values = [_fit(value, target) for value in values]
    return _check_text(check_instants(pa.chunked_array([pa.array(values, target)])), spelled)


# Arrow itself takes these exactly, or refuses. (Not datetimes: it cuts fractions that the unit lacks.)
_TAKEN_AS_THEY_ARE: dict[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "float": frozenset({int, float}),
    "decimal": frozenset({int}),
    "text": frozenset({str}),
    "binary": frozenset({bytes}),
    "date": frozenset({datetime.date}),
}


def _fit(value: Any, target: pa.DataType) -> Any:
    """Return a Python value that Arrow takes as it is, or raise."""
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return None
    kind = _kind(target)
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return None
        if np.datetime_data(value.dtype)[0] in ("Y", "M", "W", "h", "m"):  # Arrow knows the others
            value = value.astype("datetime64[s]")
        return fit_column(pa.chunked_array([pa.array(np.array([value]))]), target, "")[0].as_py()
    if isinstance(value, np.generic):
        value = Decimal(str(value)) if kind == "decimal" and isinstance(value, np.floating) else value.item()
    if kind in _FITS:
        return _FITS[kind](value, target)
    # A timedelta of pandas counts the nanoseconds beyond its microseconds; DuckDB's intervals have none.
    is_length = isinstance(value, datetime.timedelta | pa.MonthDayNano)
    if pa.types.is_interval(target) and is_length and getattr(value, "nanoseconds", 0) % 1000 == 0:
        return value
    raise _misfit(value, target)


def _misfit(value: Any, target: pa.DataType) -> TypeError:
    return TypeError(f"{type(value).__name__} {value!r} is not exactly representable as {target}")


def _fit_boolean(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, bool):
        return value
    raise _misfit(value, target)


def _fit_integer(value: Any, target: pa.DataType) -> Any:
    # A short text such as 1e999999999 is a decimal whose digits fill the memory.
    is_huge = isinstance(value, Decimal) and value.is_finite() and value.adjusted() > _INTEGER_DIGITS_MAX
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if is_number and not is_huge and value == int(value):
        return int(value)
    raise _misfit(value, target)


def _fit_float(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = float(value)
        is_same = number == value or math.isnan(number) or Decimal(repr(number)) == value
        if is_same and target != pa.float64():
            return _narrow(pa.chunked_array([[number]], pa.float64()), target)[0].as_py()
        if is_same:
            return number
    raise _misfit(value, target)


def _fit_decimal(value: Any, target: pa.DataType) -> Any:
    number: Any = None
    if isinstance(value, float):
        number = Decimal(repr(value))
    elif isinstance(value, str) and re.fullmatch(_DECIMAL_TEXT, value):
        number = Decimal(value)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = value
    # Arrow takes a number that is too small for the scale for zero.
    if number is None or (number and abs(number) < Decimal(1).scaleb(-target.scale)):
        raise _misfit(value, target)
    return number


def _fit_text(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, str):
        return str(value)
    raise _misfit(value, target)


def _fit_binary(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _misfit(value, target)


def _fit_date(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, str):
        return _fit_text_as_time(value, target)
    if isinstance(value, datetime.datetime):
        value = value.astimezone(datetime.UTC) if value.tzinfo else value
        if value.time() == datetime.time() and not getattr(value, "nanosecond", 0):
            return value.date()
    elif isinstance(value, datetime.date):
        return value
    raise _misfit(value, target)


def _fit_time(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, str):
        return _fit_text_as_time(value, target)
    if isinstance(value, datetime.time) and value.tzinfo is None and _is_whole(value.microsecond, target):
        return value
    raise _misfit(value, target)


def _fit_timestamp(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, str):
        return _fit_text_as_time(value, target)
    if isinstance(value, datetime.datetime):
        has_finer_part = bool(getattr(value, "nanosecond", 0)) and target.unit != "ns"
        if not has_finer_part and _is_whole(value.microsecond, target):
            return value
    elif isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    raise _misfit(value, target)


def _is_whole(microsecond: int, target: pa.DataType) -> bool:
    """Say whether a fraction of a second is whole in the type's unit."""
    return microsecond % {"s": 1_000_000, "ms": 1000}.get(target.unit, 1) == 0


def _fit_text_as_time(value: str, target: pa.DataType) -> Any:
    return fit_column(pa.chunked_array([[value]], pa.string()), target, "")[0].as_py()


def _fit_list(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_fit(each, target.value_type) for each in value]
    raise _misfit(value, target)


def _fit_struct(value: Any, target: pa.DataType) -> Any:
    if isinstance(value, Mapping) and value.keys() <= {field.name for field in target}:
        return {field.name: _fit(value.get(field.name), field.type) for field in target}
    raise _misfit(value, target)


def _fit_map(value: Any, target: pa.DataType) -> Any:
    pairs = value.items() if isinstance(value, Mapping) else value
    return [(_fit(key, target.key_type), _fit(item, target.item_type)) for key, item in pairs]


_FITS: dict[str, Callable[[Any, pa.DataType], Any]] = {
    "boolean": _fit_boolean,
    "integer": _fit_integer,
    "float": _fit_float,
    "decimal": _fit_decimal,
    "text": _fit_text,
    "binary": _fit_binary,
    "date": _fit_date,
    "time": _fit_time,
    "timestamp": _fit_timestamp,
    "list": _fit_list,
    "struct": _fit_struct,
    "map": _fit_map,
}
