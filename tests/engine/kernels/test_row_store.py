"""A store of rows against a list of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels import row_store, stored_columns
from bourne.engine.kernels.row_store import RowStore
from engine.kernels.any_rows import columns_of, rows_of, shown, types


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data())
def test_store_gives_back_what_was_appended(data: st.DataObject) -> None:
    targets = data.draw(st.lists(types(), min_size=1, max_size=3))
    store, model = RowStore(targets), list[str]()
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(rows_of(targets))
        columns = columns_of(rows, targets, cut=data.draw(st.integers(0, 3)))
        assert store.append(columns) == len(model)
        model += shown(columns)
        if data.draw(st.booleans()):
            again = RowStore(targets)
            again.load(store.save())
            store = again
        if model and data.draw(st.booleans()):
            kept = data.draw(st.lists(st.integers(0, len(model) - 1), max_size=20))
            store.keep(np.array(kept, np.int64))
            model = [model[row] for row in kept]
        numbers = data.draw(st.lists(st.integers(0, len(model) - 1), max_size=40)) if model else []
        taken = store.take(np.array(numbers, np.int64))
        assert [column.type for column in taken] == targets
        assert shown(taken) == [model[number] for number in numbers]
        for column in taken:
            column.validate(full=True)
        assert len(store) == len(model)


def test_store_of_many_rows_is_copied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "_ROWS_AT_ONCE", 7)
    texts = pa.array([None if i % 5 == 0 else str(i) * (i % 4) for i in range(1000)])
    encoded = texts.dictionary_encode().cast(pa.dictionary(pa.int16(), pa.string()))
    store = RowStore([texts.type, encoded.type])
    store.append([texts, encoded])
    parts = store.save()
    assert parts["rows"].column(0).num_chunks == 143
    again = RowStore([texts.type, encoded.type])
    again.load(parts)
    again.keep(np.arange(999, -1, -1))
    assert again.take(np.arange(1000))[0].to_pylist() == texts.to_pylist()[::-1]
    assert again.take_columns(np.array([0, 1]), [1])[0].to_pylist() == texts.to_pylist()[:-3:-1]


def test_store_without_columns_counts() -> None:
    store = RowStore([])
    assert store.append([], 3) == 0
    assert store.append([], 2) == 3
    again = RowStore([])
    again.load(store.save())
    assert len(again) == 5
    again.keep(np.array([1, 2]))
    assert len(again) == 2
    assert again.take(np.array([0])) == []


def test_memory_is_that_of_the_values() -> None:
    store = RowStore([pa.int32(), pa.string()])
    for _ in range(10):
        store.append([pa.array(range(10_000), pa.int32()), pa.array(["x" * 10] * 10_000)])
    assert 100_000 * 22 <= store.nbytes() <= 3 * 100_000 * 22  # no byte per row for NULLs that are not there


@pytest.mark.parametrize(
    "values", [pa.array(["ab", "c", None]), pa.array([[1, 2], [3], None])], ids=["texts", "lists"]
)
def test_more_than_one_array_holds_is_refused(values: pa.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_columns, "_OFFSET_MAX", 3)
    store = RowStore([values.type])
    store.append([values])
    assert store.take(np.array([0, 1]))[0].to_pylist() == values.to_pylist()[:2]
    with pytest.raises(OverflowError, match=r"3 values .* have 5 parts; .* at most 3: take fewer"):
        store.take(np.array([0, 1, 0]))
    large: Any = RowStore([pa.large_string()])
    large.append([pa.array(["ab", "c"], pa.large_string())])
    assert large.take(np.array([0, 1, 0]))[0].to_pylist() == ["ab", "c", "ab"]


def test_types_that_cannot_be_kept_are_named() -> None:
    with pytest.raises(TypeError, match=r"fixed_size_binary\[4\]"):
        RowStore([pa.list_(pa.binary(4))])


def test_texts_are_copied_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without Numba, who reads or writes beyond an array's end hears of it.
    monkeypatch.setattr(stored_columns, "_copy_texts", stored_columns._copy_texts.py_func)
    for texts in (["a"], ["12345678"], ["", "123456789"], ["x" * 16, "y" * 23]):
        store = RowStore([pa.string()])
        store.append([pa.array(texts)])
        rows = np.arange(len(texts))[::-1].copy()
        assert store.take(rows)[0].to_pylist() == texts[::-1]


def test_extension_types_come_back() -> None:
    target = pa.opaque(pa.binary(), "bignum", "DuckDB")
    values = pa.ExtensionArray.from_storage(target, pa.array([b"0", None, b"11"]))
    store = RowStore([values.type])
    store.append([values.slice(1)])
    assert store.take(np.array([1, 0]))[0].equals(values.take(pa.array([2, 1])))
