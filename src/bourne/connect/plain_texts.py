"""Texts that are plainly numbers, dates or timestamps, read in one pass over their bytes.

Law: what comes back is what `texts`, `postgres_texts` and `bourne.values` make of the same texts, value for value; if one
of them is not plain, nothing comes back, and they decide. Plain are decimal numbers of up to 18 digits, and ISO 8601 to
the microsecond in the years 1 to 9999, in UTC.

A text is taken for a double if that double, in as many digits, is the text again (`is_float`). For a number M / 10^E and a
double m / 2^s near it, r = m * 10^E - M * 2^s says all: the double is the nearest one if |r| < 10^E / 2, and it prints as
the text if |r| < 2^s / 2. Both are whole numbers of 128 bits at most; where they would not be, Python decides.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.connect.cells import Bytes, Longs
from bourne.engine.kernels.arrays import text_buffers
from bourne.engine.kernels.compiled import compiled
from bourne.schema import arrow_type

_DIGITS_MAX: Final = 18
_POWERS: Final = 10 ** np.arange(20, dtype=np.uint64)
_FLOAT_POWERS: Final = np.array([10.0**exponent for exponent in range(23)], np.float64)


def read_plain(data: Bytes, offsets: Longs, lengths: Longs, spelled: str) -> pa.Array | None:
    """Return texts as values that `conform` fits into a column of DuckDB's type `spelled`; None if one is not plain.

    Text i is `data[offsets[i] : offsets[i] + lengths[i]]`; it is NULL where its length is negative.
    """
    target, count = arrow_type(spelled), len(offsets)
    types = pa.types
    if types.is_integer(target):
        if types.is_unsigned_integer(target) and (data[offsets[lengths > 0]] == ord("-")).any():
            return None  # -0, too: Arrow takes no sign there
        numbers = np.zeros(count, np.int64)
        if not _decimals(data, offsets, lengths, 0, numbers):
            return None
        try:
            return _array(numbers, pa.int64(), lengths).cast(target)
        except pa.ArrowInvalid:
            return None
    if types.is_decimal128(target) and spelled.startswith("DECIMAL"):
        numbers = np.zeros(count, np.int64)
        if not 0 <= target.scale <= _DIGITS_MAX or not _decimals(
            data, offsets, lengths, target.scale, numbers
        ):
            return None
        if target.precision < _DIGITS_MAX and count and np.abs(numbers).max() >= 10**target.precision:
            return None
        return _array(np.stack([numbers, numbers >> 63], axis=1), target, lengths)
    if types.is_floating(target):
        return _read_doubles(data, offsets, lengths)
    if types.is_timestamp(target) and target.unit == "us":
        numbers = np.zeros(count, np.int64)
        is_plain = _moments(data, offsets, lengths, True, numbers)
        return _array(numbers, target, lengths) if is_plain else None
    if types.is_date32(target):
        numbers = np.zeros(count, np.int64)
        is_plain = _moments(data, offsets, lengths, False, numbers)
        return _array(numbers.astype(np.int32), target, lengths) if is_plain else None
    return None


def read_plain_array(
    texts: pa.Array | pa.ChunkedArray, spelled: str, *, empty_is_null: bool = False
) -> pa.Array | None:
    """Return an array of texts as `read_plain` does."""
    values = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    starts, data = text_buffers(values)
    lengths = np.diff(starts)
    if values.null_count:
        lengths[pc.is_null(values).to_numpy(zero_copy_only=False)] = -1
    if empty_is_null:
        lengths[lengths == 0] = -1
    return read_plain(data, starts[:-1], lengths, spelled)


def _array(plain: NDArray[np.generic], target: pa.DataType, lengths: Longs) -> pa.Array:
    is_there = lengths >= 0
    valid = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    return pa.Array.from_buffers(target, len(lengths), [valid, pa.py_buffer(plain)])


def _read_doubles(data: Bytes, offsets: Longs, lengths: Longs) -> pa.Array | None:
    numbers = np.zeros(len(offsets), np.float64)
    is_doubtful = np.zeros(len(offsets), np.bool_)
    if not _doubles(data, offsets, lengths, _POWERS, _FLOAT_POWERS, numbers, is_doubtful):
        return None
    for row in np.flatnonzero(is_doubtful).tolist():
        text = data[offsets[row] : offsets[row] + lengths[row]].tobytes().decode()
        if not is_float(text):
            return None
        numbers[row] = float(text)
    return _array(numbers, pa.float64(), lengths)


def is_float(text: str | Decimal) -> bool:
    """Say whether a number is a double as the law has it: that double, in as many digits, is the number again.

    Or in as few as possible: where that is a tie, Python's shortest text rounds otherwise than its formatting.
    """
    number = float(text)
    if repr(number) == str(text):
        return True
    exact = Decimal(text)
    if not exact.is_finite() or exact in (number, Decimal(repr(number))):
        return True
    digits = len("".join(map(str, exact.as_tuple().digits)).rstrip("0"))
    return math.isfinite(number) and Decimal(f"{number:.{digits - 1}e}") == exact


# --- kernels: they say False at the first text that is not plain ------------------------------------------


@compiled
def _decimals(data: Bytes, offsets: Longs, lengths: Longs, scale: int, out: Longs) -> bool:
    """Read numbers with at most so many digits after the point, which are whole numbers of 10^-scale; 0: whole numbers."""
    for i in range(len(offsets)):
        if lengths[i] < 0:
            continue
        at, end = offsets[i], offsets[i] + lengths[i]
        is_negative = at < end and data[at] == 45
        if at < end and (data[at] == 45 or data[at] == 43):
            at += 1
        number, digits, fraction, has_point = 0, 0, 0, False
        while at < end:
            code = data[at]
            at += 1
            if 48 <= code <= 57:
                number = number * 10 + int(code) - 48
                digits += 1
                fraction += has_point
                if digits > 18:
                    return False
            elif code == 46 and not has_point and scale > 0:
                has_point = True
            else:
                return False
        if digits == 0 or fraction > scale or digits + scale - fraction > 18:
            return False
        for _ in range(scale - fraction):
            number *= 10
        out[i] = -number if is_negative else number
    return True


@compiled
def _doubles(
    data: Bytes, offsets: Longs, lengths: Longs, powers: NDArray[np.uint64], float_powers: NDArray[np.float64],
    out: NDArray[np.float64], is_doubtful: NDArray[np.bool_],
) -> bool:  # fmt: skip
    """Read numbers as doubles; those of which it cannot tell here whether they are doubles are marked."""
    for i in range(len(offsets)):
        if lengths[i] < 0:
            continue
        at, end = offsets[i], offsets[i] + lengths[i]
        is_negative = at < end and data[at] == 45
        if at < end and (data[at] == 45 or data[at] == 43):
            at += 1
        number, written, digits, fraction, has_point = np.uint64(0), 0, 0, 0, False
        code = np.uint8(0)
        while at < end:
            code = data[at]
            at += 1
            if 48 <= code <= 57:
                written += 1
                fraction += has_point
                if digits or code != 48:
                    digits += 1
                    if digits <= 18:
                        number = number * np.uint64(10) + np.uint64(code - 48)
            elif code == 46 and not has_point:
                has_point = True
            else:
                break
            code = np.uint8(0)
        if written == 0:
            return False
        if code:  # neither digit nor point: an exponent, or nothing plain
            if code not in (101, 69):
                return False
            if at < end and (data[at] == 45 or data[at] == 43):
                at += 1
            if at == end:
                return False
            for k in range(at, end):
                if not 48 <= data[k] <= 57:
                    return False
            is_doubtful[i] = True
        elif digits > 18 or fraction > 22:
            is_doubtful[i] = True
        elif number < np.uint64(1 << 53):
            out[i] = np.float64(number) / float_powers[fraction]  # both exact, so the nearest one
            is_doubtful[i] = digits > 15 and (
                fraction > 19 or _nearest(number, powers[fraction], out[i]) != out[i]
            )
        elif fraction > 19:
            is_doubtful[i] = True
        else:
            out[i] = _nearest(number, powers[fraction], np.float64(number) / float_powers[fraction])
            is_doubtful[i] = out[i] == 0
        if is_negative:
            out[i] = -out[i]
    return True


@compiled
def _nearest(number: np.uint64, power: np.uint64, near: float) -> float:
    """Return the double that is nearest to number / power and prints as that; 0 if it cannot tell, or does not print so."""
    fraction, exponent = math.frexp(near)
    shift = 53 - exponent
    bits = np.int64(64)
    while bits and not (number >> np.uint64(bits - 1)) & np.uint64(1):
        bits -= 1
    if shift < 1 or shift + bits > 125:
        return 0.0
    double = np.uint64(math.ldexp(fraction, 53))
    text_high, text_low = _shifted(number, shift)
    for _ in range(4):
        high, low = _product(double, power)
        is_above = high > text_high or (high == text_high and low >= text_low)
        if is_above:
            rest_high = high - text_high - np.uint64(low < text_low)
            rest_low = low - text_low
        else:
            rest_high = text_high - high - np.uint64(text_low < low)
            rest_low = text_low - low
        half = power >> np.uint64(1)  # a power of ten is even, but for 1
        if rest_high == 0 and (rest_low < half or rest_low == 0):
            half_high, half_low = _shifted(np.uint64(1), shift - 1)
            if rest_high < half_high or (rest_high == half_high and rest_low < half_low):
                return math.ldexp(np.float64(double), -shift)
            return 0.0
        if rest_high == 0 and rest_low == half:
            return 0.0
        double = double - np.uint64(1) if is_above else double + np.uint64(1)
        if not np.uint64(1 << 52) <= double < np.uint64(1 << 53):
            return 0.0
    return 0.0


@compiled
def _shifted(number: np.uint64, shift: int) -> tuple[np.uint64, np.uint64]:
    """Return number * 2^shift as two words; it has 128 bits at most."""
    if shift >= 64:
        return number << np.uint64(shift - 64), np.uint64(0)
    if shift == 0:
        return np.uint64(0), number
    return number >> np.uint64(64 - shift), number << np.uint64(shift)


@compiled
def _product(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the product of two words as two words."""
    low_32, by_32 = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_high, a_low, b_high, b_low = a >> by_32, a & low_32, b >> by_32, b & low_32
    low = a_low * b_low
    middle = a_high * b_low + (low >> by_32)
    other = a_low * b_high + (middle & low_32)
    return a_high * b_high + (middle >> by_32) + (other >> by_32), (other << by_32) | (low & low_32)


@compiled
def _digits(data: Bytes, at: int, count: int) -> int:
    """Return the number that so many digits say; a large negative one if they are none."""
    number = 0
    for k in range(at, at + count):
        if not 48 <= data[k] <= 57:
            return -(1 << 40)
        number = number * 10 + int(data[k]) - 48
    return number


@compiled
def _moments(data: Bytes, offsets: Longs, lengths: Longs, has_time: bool, out: Longs) -> bool:
    """Read YYYY-MM-DD as days since 1970; with `has_time` as microseconds, and HH:MM:SS and up to six digits behind it."""
    for i in range(len(offsets)):
        length = lengths[i]
        if length < 0:
            continue
        at = offsets[i]
        if length < 10 or data[at + 4] != 45 or data[at + 7] != 45:
            return False
        year, month, day = _digits(data, at, 4), _digits(data, at + 5, 2), _digits(data, at + 8, 2)
        is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        is_short = month in (4, 6, 9, 11)
        last = (29 if is_leap else 28) if month == 2 else (30 if is_short else 31)
        if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= last):
            return False
        # Years that begin in March have their leap day at the end (the proleptic Gregorian calendar).
        march_year = year - (month <= 2)
        of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
        days = march_year * 365 + march_year // 4 - march_year // 100 + march_year // 400 + of_year - 719468
        if not has_time:
            if length != 10:
                return False
            out[i] = days
            continue
        micros = 0
        if length > 10:
            if data[at + length - 1] == 90:
                length -= 1
            elif data[at + length - 3] == 43 and data[at + length - 2] == 48 and data[at + length - 1] == 48:
                length -= 3
            if length < 19 or length == 20 or length > 26:
                return False
            if (data[at + 10] != 32 and data[at + 10] != 84) or data[at + 13] != 58 or data[at + 16] != 58:
                return False
            hour, minute, second = (
                _digits(data, at + 11, 2),
                _digits(data, at + 14, 2),
                _digits(data, at + 17, 2),
            )
            if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
                return False
            fraction = 0
            if length > 20:
                fraction = _digits(data, at + 20, length - 20)
                if data[at + 19] != 46 or fraction < 0:
                    return False
                for _ in range(26 - length):
                    fraction *= 10
            micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
        out[i] = days * 86_400_000_000 + micros
    return True
