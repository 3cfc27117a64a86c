"""The kernels alone, each against plain Python."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bourne.engine.kernels.arrays import (
    ALL_VALID,
    as_array,
    doubles,
    from_longs,
    from_wides,
    longs,
    text_buffers,
    validity,
    wides,
)
from bourne.engine.kernels.extremes import extreme_doubles, extreme_longs, extreme_text_rows, extreme_wides
from bourne.engine.kernels.sums import (
    as_floats,
    count_rows,
    count_valid,
    first_touches,
    sum_doubles,
    sum_longs,
    sum_wides,
    take_sums,
)
from bourne.engine.kernels.text_index import TextIndex
from bourne.errors import BourneError

LEAST, GREATEST = -(2**63), 2**63 - 1


def words(*columns: list[int]) -> np.ndarray[Any, Any]:
    """Return columns of whole numbers as (width, rows)."""
    return np.array(columns, np.int64)


def halves(*numbers: int) -> np.ndarray[Any, Any]:
    """Return 128-bit numbers as (rows, 2): low word, high word."""
    low = [number & (2**64 - 1) for number in numbers]
    high = [(number >> 64) & (2**64 - 1) for number in numbers]
    return np.array([low, high], np.uint64).T.copy().view(np.int64)


def whole(pair: Any) -> int:
    """Return a 128-bit number from its words."""
    return (int(pair[1]) << 64) + (int(pair[0]) & (2**64 - 1))


def numbered(rows: list[Any]) -> list[int]:
    """Number values in the order of their first appearance."""
    known: dict[Any, int] = {}
    return [known.setdefault(row, len(known)) for row in rows]


# --- text index ---

TEXTS = ["", "a", "b", "ab", "\0", "a\0", "\0a", "12345678", "123456789", "x" * 5000, "é", "한국", "𝄞"]


@pytest.mark.parametrize("target", [pa.string(), pa.binary()])
def test_text_index_is_a_dictionary(target: pa.DataType) -> None:
    chance = random.Random(3)
    texts = [*TEXTS, *[str(chance.getrandbits(70)) for _ in range(9000)], *TEXTS]
    texts += [chance.choice(texts) for _ in range(500)]
    values: list[Any] = texts if target == pa.string() else [text.encode() for text in texts]
    index, found = TextIndex(), []
    for start in range(0, len(values), 1237):
        found += index.assign(pa.array(values[start : start + 1237], target)).tolist()
    assert found == numbered(values)
    assert index.take(np.array(found), None, target).to_pylist() == values
    again = TextIndex()
    again.load(*index.save())
    assert again.take(np.array(found), None, target).to_pylist() == values
    assert again.assign(pa.array([*values[::-1], values[0]], target)).tolist() == [*found[::-1], 0]


def test_text_index_reads_slices_and_nulls() -> None:
    values = pa.array(["no", None, "a", "b", None, "a", "no"]).slice(1, 5)
    index = TextIndex()
    numbers = index.assign(values)
    valid = validity(values)
    assert valid.tolist() == [False, True, True, False, True]
    assert index.take(numbers, valid, pa.string()).to_pylist() == values.to_pylist()
    assert len(index) == 2
    assert TextIndex().assign(pa.array([None, None], pa.string())).tolist() == [0, 0]
    assert TextIndex().take(np.array([0, 0]), np.zeros(2, np.bool_), pa.string()).to_pylist() == [None, None]
    assert len(TextIndex().assign(pa.array([], pa.string()))) == 0


def test_text_index_agrees_with_arrow() -> None:
    chance = random.Random(9)
    values = pa.array([chance.choice([*TEXTS, None, str(i % 97)]) for i in range(3000)])
    encoded = values.dictionary_encode()
    index = TextIndex()
    numbers = index.assign(values)
    assert [n for n, v in zip(numbers.tolist(), values.to_pylist(), strict=True) if v is not None] == [
        n for n in encoded.indices.to_pylist() if n is not None
    ]


# --- sums ---


def test_sums_of_longs_carry_into_the_high_word() -> None:
    values = [GREATEST] * 5 + [LEAST] * 9 + [-1, 1, 0, GREATEST]
    sums = np.zeros((2, 2), np.int64)
    for i, value in enumerate(values):
        sum_longs(np.array([1]), np.array([value]), ALL_VALID, sums)
        assert whole(sums[1]) == sum(values[: i + 1])
    assert whole(sums[0]) == 0
    sum_longs(np.array([0, 0]), np.array([7, 9]), np.array([False, True]), sums)
    assert whole(sums[0]) == 9


def test_sums_of_wides_are_exact_and_report_overflow() -> None:
    limit = 2**127
    values = [limit - 1, -(limit - 1), -limit, limit - 1, 1, 2**64, -(2**64), 2**63, -(2**63), -1]
    sums = np.zeros((1, 2), np.int64)
    for i, value in enumerate(values):
        assert not sum_wides(np.array([0]), halves(value), ALL_VALID, sums)
        assert whole(sums[0]) == sum(values[: i + 1])
    for start, step in [(limit - 1, 1), (-limit, -1), (limit - 1, limit - 1), (-limit, -limit)]:
        assert sum_wides(np.array([0]), halves(step), ALL_VALID, halves(start))
    assert sum_wides(np.array([0, 0]), halves(limit - 1, limit - 1), ALL_VALID, np.zeros((1, 2), np.int64))


def test_sums_as_floats_keep_small_negative_numbers() -> None:
    numbers = [-1, -3, 0, 5, 2**63, -(2**63), -(2**64), 2**64 - 1, 2**126, 2**127 - 1, 1 - 2**127, -(10**20)]
    found = as_floats(halves(*numbers), np.arange(len(numbers)))
    assert found.tolist() == pytest.approx([float(number) for number in numbers], rel=1e-15)


def test_sums_of_doubles_are_compensated() -> None:
    values = [1e100, 1.0, -1e100, 0.5]
    sums = np.zeros((1, 2))
    sum_doubles(np.zeros(4, np.int64), np.array(values), ALL_VALID, sums)
    assert take_sums(sums, np.array([0])).tolist() == [1.5]
    chance = random.Random(1)
    many = [chance.uniform(-1, 1) * 10.0 ** chance.randint(-8, 8) for _ in range(10_000)]
    sums = np.zeros((1, 2))
    sum_doubles(np.zeros(len(many), np.int64), np.array(many), ALL_VALID, sums)
    assert take_sums(sums, np.array([0]))[0] == pytest.approx(math.fsum(many), rel=1e-15)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.inf, -5.0], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
        ([1e308, 1e308], math.inf),
        ([], 0.0),
    ],
)
def test_sums_of_doubles_that_are_not_finite(values: list[float], expected: float) -> None:
    sums = np.zeros((1, 2))
    sum_doubles(np.zeros(len(values), np.int64), np.array(values, np.float64), ALL_VALID, sums)
    assert take_sums(sums, np.array([0])).tolist() == pytest.approx([expected], nan_ok=True)


def test_counts_and_first_touches() -> None:
    groups = np.array([2, 0, 2, 1, 0])
    counts = np.zeros(3, np.int64)
    count_rows(groups, counts)
    count_valid(groups, np.array([True, False, True, False, True]), counts)
    assert counts.tolist() == [3, 1, 4]
    marks = np.zeros(3, np.int64)
    assert first_touches(groups, marks, 1).tolist() == [2, 0, 1]
    assert first_touches(np.array([1, 1]), marks, 2).tolist() == [1]
    assert first_touches(np.array([], np.int64), marks, 3).tolist() == []


# --- extremes ---


@pytest.mark.parametrize("is_max", [True, False])
def test_extremes_of_longs(is_max: bool) -> None:
    values = np.array([0, LEAST, GREATEST, -1, 5])
    best, seen = np.zeros(3, np.int64), np.zeros(3, np.bool_)
    extreme_longs(
        np.array([0, 0, 0, 1, 1]), values, np.array([True, True, True, True, False]), is_max, best, seen
    )
    assert best.tolist() == [GREATEST if is_max else LEAST, -1, 0]
    assert seen.tolist() == [True, True, False]


@pytest.mark.parametrize("is_max", [True, False])
def test_extremes_of_doubles_take_nan_for_the_greatest(is_max: bool) -> None:
    def extreme(*values: float) -> float:
        best, seen = np.zeros(1), np.zeros(1, np.bool_)
        for value in values:
            extreme_doubles(np.array([0]), np.array([value]), ALL_VALID, is_max, best, seen)
        return float(best[0])

    nan, inf = math.nan, math.inf
    assert extreme(-5.0, -7.0) == (-5.0 if is_max else -7.0)
    assert extreme(5.0, inf) == (inf if is_max else 5.0)
    for values in ([nan, 3.0], [3.0, nan], [nan, inf, 3.0]):
        assert math.isnan(extreme(*values)) if is_max else extreme(*values) == 3.0
    assert math.isnan(extreme(nan, nan))


@pytest.mark.parametrize("is_max", [True, False])
def test_extremes_of_wides(is_max: bool) -> None:
    numbers = [0, -1, 2**64, -(2**64), 2**127 - 1, -(2**127), 2**63, 2**64 - 1, -(2**64) - 1]
    for first in numbers:
        for second in numbers:
            best, seen = np.zeros((1, 2), np.int64), np.zeros(1, np.bool_)
            extreme_wides(np.array([0, 0]), halves(first, second), ALL_VALID, is_max, best, seen)
            assert whole(best[0]) == (max if is_max else min)(first, second)


@pytest.mark.parametrize("is_max", [True, False])
def test_extreme_texts_compare_bytes(is_max: bool) -> None:
    values = pa.array(["b", "", "ba", "é", "z", "b\0", None, "a"])
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 3])
    starts, data = text_buffers(values)
    rows = np.full(5, -1, np.int64)
    found = extreme_text_rows(groups, starts, data, validity(values), is_max, rows)
    assert found.tolist() == [0, 1, 2, 3]
    assert rows.tolist() == ([2, 3, 5, 7, -1] if is_max else [1, 4, 5, 7, -1])


# --- Arrow arrays ---

ARRAYS = [
    pa.array([1, None, -3, 4], pa.int8()),
    pa.array([1, None, 2**64 - 1, 4], pa.uint64()),
    pa.array([1, None, 2**32 - 1, 4], pa.uint32()),
    pa.array([True, None, False, True]),
    pa.array([1, None, -(10**12), 4], pa.timestamp("us")),
    pa.array([1, None, -3, 4], pa.date32()),
    pa.array([1, None, 3, 4], pa.time64("us")),
]


@pytest.mark.parametrize("values", ARRAYS, ids=lambda array: str(array.type))
def test_longs_and_back_with_offsets(values: pa.Array) -> None:
    for start in range(len(values) + 1):
        part = values.slice(start)
        assert from_longs(longs(part), validity(part), part.type).to_pylist() == part.to_pylist()


def test_validity_of_a_slice_starts_at_the_slice() -> None:
    values = pa.array([None] * 9 + [1, None, 3])
    assert validity(values.slice(8)).tolist() == [False, True, False, True]
    assert validity(values.slice(9, 1)) is ALL_VALID
    assert len(validity(values.slice(12))) == 0


def test_floats_decimals_and_texts_with_offsets() -> None:
    floats = pa.array([1.5, None, math.inf], pa.float32()).slice(1)
    assert doubles(floats)[1] == math.inf
    decimals = pa.array([Decimal(5), None, Decimal(-7), Decimal(10**30)], pa.decimal128(38, 0)).slice(1)
    assert from_wides(wides(decimals), validity(decimals), decimals.type).to_pylist() == decimals.to_pylist()
    starts, data = text_buffers(pa.array(["xx", "é", "", "b"]).slice(1, 2))
    assert bytes(data[starts[0] : starts[1]]).decode() == "é"
    assert len(starts) == 3
    assert as_array(pa.chunked_array([], pa.int8())).to_pylist() == []
    assert as_array(pa.chunked_array([[1], [2, 3]])).to_pylist() == [1, 2, 3]


def test_errors_of_the_engine_are_ours() -> None:
    from bourne.engine.operators.accumulators import SumOverflow  # noqa: PLC0415

    assert issubclass(SumOverflow, BourneError)
