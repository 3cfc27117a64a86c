"""A key table against a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels.key_table import KeyTable
from engine.kernels.any_rows import FLAT, Row, columns_of, rows_of, same_row, shown, types

EXACT = [target for target, _ in FLAT if not (pa.types.is_floating(target) or pa.types.is_null(target))]


class Model:
    """What a key table does, with a dictionary."""

    def __init__(self, targets: list[pa.DataType]) -> None:
        self.targets = targets
        self.numbers: dict[Any, int] = {}
        self.first: list[str] = []

    def find(self, rows: list[Row]) -> list[int]:
        return [self.numbers.get(same_row(row, self.targets), -1) for row in rows]

    def assign(self, rows: list[Row]) -> list[int]:
        for row, text in zip(rows, shown(columns_of(rows, self.targets)), strict=True):
            if same_row(row, self.targets) not in self.numbers:
                self.numbers[same_row(row, self.targets)] = len(self.first)
                self.first.append(text)
        return self.find(rows)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_keys_are_numbered_by_first_appearance(data: st.DataObject) -> None:
    exact = st.lists(st.sampled_from(EXACT), min_size=1, max_size=3)
    targets = data.draw(st.one_of(exact, st.lists(types(), min_size=1, max_size=3)))
    table, model = KeyTable(targets), Model(targets)
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(rows_of(targets))
        columns = columns_of(rows, targets, cut=data.draw(st.integers(0, 3)))
        assert table.find(columns, len(rows)).tolist() == model.find(rows)
        assert table.assign(columns, len(rows)).tolist() == model.assign(rows)
        if data.draw(st.booleans()):
            again = KeyTable(targets)
            again.load(table.save())
            table = again
        assert len(table) == len(model.first)
        numbers = np.arange(len(table))[::-1].copy()
        back = table.columns(numbers)
        assert [column.type for column in back] == targets
        assert shown(back) == model.first[::-1]
        rows = data.draw(rows_of(targets, max_size=5))
        assert table.find(columns_of(rows, targets), len(rows)).tolist() == model.find(rows)


@pytest.mark.parametrize("batch", [1, 63, 64, 65, 4000])
@pytest.mark.parametrize("kinds", [(int,), (int, int), (str,), (str, int), (float,)], ids=str)
def test_keys_of_many_rows(batch: int, kinds: tuple[type, ...]) -> None:
    chance = np.random.default_rng(len(kinds) * 1000 + batch)
    numbers = [chance.integers(0, 3000, 9000) for _ in kinds]
    columns = [
        pa.array([None if n % 7 == 0 else kind(n) for n in column]) for n, kind in [(0, int)] for column in []
    ] or [
        pa.array([None if n == 5 else kind(n) for n in c.tolist()])
        for c, kind in zip(numbers, kinds, strict=True)
    ]
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    table = KeyTable([column.type for column in columns])
    known: dict[Any, int] = {}
    found: list[int] = []
    for start in range(0, len(rows), batch):
        part = [column.slice(start, batch) for column in columns]
        found += table.assign(part, len(part[0])).tolist()
    assert found == [known.setdefault(row, len(known)) for row in rows]
    assert table.find(columns, len(rows)).tolist() == found
    others = [
        pa.array([kind(n) for n in range(10_000, 10_100)], c.type)
        for c, kind in zip(columns, kinds, strict=True)
    ]
    assert table.find(others, 100).tolist() == [-1] * 100


def test_the_first_of_equal_keys_is_shown() -> None:
    table = KeyTable([pa.float64()])
    assert table.assign([pa.array([-0.0, 0.0, 1.0])], 3).tolist() == [0, 0, 1]
    assert repr(table.columns(np.array([0]))[0].to_pylist()) == "[-0.0]"
    months = pa.array([(0, 30, 0), (1, 0, 0)], pa.month_day_nano_interval())
    table = KeyTable([months.type])
    assert table.assign([months], 2).tolist() == [0, 0]
    assert table.columns(np.array([0]))[0].equals(months.slice(0, 1))


def test_keys_without_columns_are_one() -> None:
    table = KeyTable([])
    assert table.find([], 2).tolist() == [-1, -1]
    assert table.assign([], 0).tolist() == []
    assert len(table) == 0
    assert table.assign([], 2).tolist() == [0, 0]
    assert table.find([], 1).tolist() == [0]
    again = KeyTable([])
    again.load(table.save())
    assert len(again) == 1
    assert again.assign([], 1).tolist() == [0]
    assert again.columns(np.array([0])) == []


def test_more_columns_than_bits_say_null() -> None:
    targets = [pa.int8()] * 64
    table = KeyTable(targets)
    rows = [tuple(None if i == j else 1 for i in range(64)) for j in [*range(64), 3, 63]]
    assert table.assign(columns_of(rows, targets), 66).tolist() == [*range(64), 3, 63]
    assert shown(table.columns(np.array([63]))) == [repr(rows[63])]


def test_an_empty_table_comes_back_empty() -> None:
    for targets in ([pa.int64()], [pa.string()], [pa.decimal128(38, 0), pa.int8()]):
        table = KeyTable(targets)
        table.load(KeyTable(targets).save())
        assert len(table) == 0
        assert table.nbytes() > 0
        assert [len(column) for column in table.columns(np.zeros(0, np.int64))] == [0] * len(targets)


def test_what_is_below_null_need_not_be_a_value() -> None:
    target = pa.struct([("a", pa.dictionary(pa.uint8(), pa.string()))])
    nothing = pa.array([None, None], target)  # Arrow points into an empty dictionary here
    table = KeyTable([target])
    assert table.assign([nothing], 2).tolist() == [0, 0]
    assert table.columns(np.array([0]))[0].to_pylist() == [None]
