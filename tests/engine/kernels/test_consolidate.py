"""A batch made smaller against a dictionary of sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels.consolidate import consolidate
from engine.kernels.any_rows import columns_of, rows_of, same_row, types


def sums(same: list[Any], weights: list[int]) -> list[tuple[int, int]]:
    """Return (first appearance, sum) of each distinct thing whose sum is not zero."""
    found: dict[Any, list[int]] = {}
    for i, (each, weight) in enumerate(zip(same, weights, strict=True)):
        found.setdefault(each, [i, 0])[1] += weight
    return [(i, weight) for i, weight in found.values() if weight]


def consolidated(columns: list[pa.Array], weights: list[int]) -> list[tuple[int, int]]:
    """Return what `sums` does."""
    rows, total = consolidate(columns, np.array(weights, np.int64))
    return list(zip(rows.tolist(), total.tolist(), strict=True))


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data())
def test_equal_rows_become_one(data: st.DataObject) -> None:
    targets = data.draw(st.lists(types(), min_size=1, max_size=2))
    rows = data.draw(rows_of(targets))
    weights = data.draw(st.lists(st.integers(-2, 2), min_size=len(rows), max_size=len(rows)))
    expected = sums([same_row(row, targets) for row in rows], weights)
    assert consolidated(columns_of(rows, targets, cut=data.draw(st.integers(0, 2))), weights) == expected


def test_many_rows() -> None:
    chance = np.random.default_rng(2)
    for distinct in (1, 100, 20_000):
        numbers = chance.integers(0, distinct, 20_000)
        weights = chance.integers(-3, 4, 20_000).tolist()
        assert consolidated([pa.array(numbers)], weights) == sums(numbers.tolist(), weights)


def test_rows_without_columns_and_no_rows() -> None:
    assert consolidated([], [1, 1, 3]) == [(0, 5)]
    assert consolidated([], [1, -1]) == []
    assert consolidated([pa.array([], pa.string())], []) == []
