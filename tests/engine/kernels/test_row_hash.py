"""Equal rows have equal hashes, others have not, whatever the types."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.engine.kernels.ranks import order_words
from bourne.engine.kernels.row_hash import hash_rows, is_hashable
from bourne.engine.kernels.row_store import RowStore
from engine.kernels.any_rows import FLAT, columns_of, rows_of, same_row, types


def hashes(columns: list[pa.Array], rows: int) -> list[tuple[int, int]]:
    """Return each row's hash."""
    found = hash_rows(columns, rows)
    assert found.shape == (2, rows)
    return list(zip(*found.tolist(), strict=True))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.data())
def test_rows_have_equal_hashes_exactly_if_they_are_equal(data: st.DataObject) -> None:
    targets = data.draw(st.lists(types(), min_size=1, max_size=3))
    rows = data.draw(rows_of(targets))
    assert all(is_hashable(target) for target in targets)
    found = hashes(columns_of(rows, targets), len(rows))
    same = [same_row(row, targets) for row in rows]
    pairs = set(zip(found, same, strict=True))
    assert len(pairs) == len(set(found)) == len(set(same))
    assert hashes(columns_of(rows, targets, cut=data.draw(st.integers(0, 5))), len(rows)) == found


@pytest.mark.parametrize(
    ("target", "pool"), FLAT, ids=lambda part: str(part) if isinstance(part, pa.DataType) else ""
)
@pytest.mark.parametrize("lane", [0, 1])
def test_each_lane_tells_values_apart(target: pa.DataType, pool: list[object], lane: int) -> None:
    rows = [(value,) for value in [*pool, None]]
    found = hash_rows(columns_of(rows, [target]), len(rows))
    assert len(set(found[lane].tolist())) == len({same_row(row, [target]) for row in rows})


@pytest.mark.parametrize(
    "expressions",
    [
        ["0.0::DOUBLE", "-0.0::DOUBLE", "'nan'::DOUBLE", "-('nan'::DOUBLE)", "'inf'::DOUBLE", "NULL"],
        ["0.0::FLOAT", "-0.0::FLOAT", "'nan'::FLOAT", "1::FLOAT"],
        ["INTERVAL '1 month'", "INTERVAL '30 days'", "INTERVAL '720 hours'", "INTERVAL '29 days'"],
        ["INTERVAL '1 month' + INTERVAL '-1 day'", "INTERVAL '29 days'", "INTERVAL '1 day'"],
        ["INTERVAL '-1 month' + INTERVAL '29 days' + INTERVAL '24 hours'", "INTERVAL '0 days'"],
        ["INTERVAL '1 day' + INTERVAL '-1 hour'", "INTERVAL '23 hours'", "INTERVAL '-23 hours'"],
        ["[0.0::DOUBLE]", "[-0.0::DOUBLE]", "[]::DOUBLE[]", "[NULL]::DOUBLE[]", "NULL"],
        ["[INTERVAL '1 month']", "[INTERVAL '30 days']"],
        ["{'a': NULL::INT}", "NULL::STRUCT(a INT)", "{'a': 0}"],
        ["MAP {'a': 1, 'b': 2}", "MAP {'b': 2, 'a': 1}", "MAP {'a': 1}", "NULL"],
        ["[[1], []]::INT[][]", "[[], [1]]::INT[][]", "[[1]]::INT[][]", "[[1], NULL]::INT[][]"],
        ["'a'", "'a '", "'A'", "''", "NULL"],
        ["'\\x00'::BLOB", "''::BLOB", "'\\x00\\x00'::BLOB"],
        ["1::HUGEINT", "-1::HUGEINT", "18446744073709551616::HUGEINT", "0::HUGEINT"],
        ["'a'::ENUM('a', 'b')", "'b'::ENUM('a', 'b')", "NULL"],
    ],
    ids=lambda expressions: expressions[0],
)
def test_equality_is_that_of_duckdb(expressions: list[str]) -> None:
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE found AS SELECT 0 AS i, {expressions[0]} AS x")
    for i, expression in enumerate(expressions):
        connection.execute(f"INSERT INTO found SELECT {i}, {expression} WHERE {i} > 0")
    column = connection.sql("SELECT x FROM found ORDER BY i").to_arrow_table().column(0).combine_chunks()
    mine = hashes([column], len(expressions))
    pairs = "SELECT a.i, b.i, a.x IS NOT DISTINCT FROM b.x FROM found a, found b"
    for i, j, is_same in connection.sql(pairs).fetchall():
        assert (mine[i] == mine[j]) == is_same, (expressions[i], expressions[j])


def test_columns_do_not_run_into_each_other() -> None:
    texts = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), (None, "abc"), ("abc", None)]
    columns = [pa.array(column) for column in zip(*texts, strict=True)]
    assert len(set(hashes(columns, len(texts)))) == len(texts)
    assert hashes(columns, 6) != hashes(columns[::-1], 6)
    lists = [([1], [2, 3]), ([1, 2], [3]), ([], [1, 2, 3]), ([1, 2, 3], []), (None, [1, 2, 3])]
    columns = [pa.array(column) for column in zip(*lists, strict=True)]
    assert len(set(hashes(columns, len(lists)))) == len(lists)


def test_what_stands_for_null_does_not_matter() -> None:
    mask = pa.py_buffer(np.packbits([True, False, False], bitorder="little"))
    numbers = pa.Array.from_buffers(pa.int64(), 3, [mask, pa.py_buffer(np.array([5, 6, 7]))])
    starts = pa.py_buffer(np.array([0, 1, 2, 4], np.int32))
    texts = pa.Array.from_buffers(pa.string(), 3, [mask, starts, pa.py_buffer(b"abcd")])
    lists = pa.Array.from_buffers(pa.list_(pa.int64()), 3, [mask, starts], children=[pa.array([1, 2, 3, 4])])
    structs = pa.Array.from_buffers(pa.struct([("a", pa.int64())]), 3, [mask], children=[pa.array([1, 2, 3])])
    for column in (numbers, texts, lists, structs):
        first, second, third = hashes([column], 3)
        assert first != second == third


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("target", "bits"), [(pa.float64(), "u8"), (pa.float32(), "u4")])
def test_a_nan_that_signals_is_a_nan(target: pa.DataType, bits: str) -> None:
    signalling = {"u8": 0x7FF0000000000001, "u4": 0x7F800001}[bits]
    mask = pa.py_buffer(np.packbits([True, False, False], bitorder="little"))
    column = pa.Array.from_buffers(
        target, 3, [mask, pa.py_buffer(np.array([signalling, signalling, 0], bits))]
    )
    first, second, third = hashes([column], 3)
    assert first != second == third
    assert first == hashes([pa.array([np.nan], target)], 1)[0]
    (sort_key,) = order_words([column], [False], [False])[1:].tolist()
    assert sort_key[1] == sort_key[2] == 0


def test_many_rows_do_not_collide() -> None:
    numbers = np.arange(100_000)
    columns = [numbers, numbers << 32, numbers << 44, numbers.astype(np.float64), numbers * 2.0**-30]
    for column in columns:
        found = hash_rows([pa.array(column), pa.array(column[::-1])], len(numbers))
        for lane in found:
            assert len(np.unique(lane)) == len(numbers)
            # Both halves of a word are used alone, to find slots and to tell them apart: each is well spread.
            for half in (lane & 0xFFFF, (lane >> 32) & 0xFFFF, (lane >> 48) & 0xFFFF):
                assert np.bincount(half, minlength=1 << 16).max() < 20
    few = numbers[:300] << 55  # the words differ in their highest bits only, and often cancel out
    crossed = hash_rows([pa.array(np.repeat(few, 300)), pa.array(np.tile(few, 300))], 90_000)
    for lane in crossed:
        assert len(np.unique(lane)) == 300 * 300


def test_without_columns_all_rows_are_equal() -> None:
    assert len(set(hashes([], 5))) == 1
    assert hashes([], 0) == []


def test_types_that_have_no_hash_are_named() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    assert not is_hashable(union.type)
    assert not is_hashable(pa.list_(union.type))
    with pytest.raises(TypeError, match="sparse_union"):
        hash_rows([union], 1)


@pytest.mark.parametrize(
    "target", [pa.int32(), pa.int64(), pa.float64(), pa.decimal128(20, 2), pa.month_day_nano_interval()]
)
def test_memory_that_is_longer_than_the_values(target: pa.DataType) -> None:
    """Arrow allows any length: children of lists and maps come so from files and from DuckDB."""
    whole = pa.array([(1, 2, 3) if pa.types.is_interval(target) else 7] * 3, target)
    padded = pa.Array.from_buffers(
        target,
        3,
        [None, pa.py_buffer(whole.buffers()[1].to_pybytes()[: 3 * target.bit_width // 8] + b"\1\2\3")],
    )
    assert hash_rows([padded.slice(1)], 2).tolist() == hash_rows([whole.slice(1)], 2).tolist()
    store = RowStore([target])
    store.append([padded.slice(1)])
    assert store.take(np.array([1]))[0].equals(whole.slice(2))
