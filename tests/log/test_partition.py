"""Which partition a record belongs to: Kafka's own hash of the key's bytes, and nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.errors import DefinitionError, ValueMismatch
from bourne.log import partition
from bourne.log.partition import check_partition_key, murmur2, partition_of, split
from bourne.schema import Column, arrow_type, conform, declare_schema

# From Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2.
KAFKA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


def plain_murmur2(key: bytes) -> int:
    """MurmurHash2 from its description, one byte string at a time, unsigned."""
    state = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * 0x5BD1E995 % 2**32
        word = (word ^ word >> 24) * 0x5BD1E995 % 2**32
        state = state * 0x5BD1E995 % 2**32 ^ word
    if key[whole:]:
        state = (state ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 % 2**32
    state = (state ^ state >> 13) * 0x5BD1E995 % 2**32
    return state ^ state >> 15


def plain_partition(key: bytes, partitions: int) -> int:
    return (plain_murmur2(key) & 0x7FFFFFFF) % partitions


@contextmanager
def few_rows(count: int) -> Iterator[None]:
    """Hash what is long in a few values one value after another, from so few on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "_FEW_ROWS", count)
        yield


# All in steps; the mixture that is in use; each long rest on its own.
WAYS = pytest.mark.parametrize("few", [0, partition._FEW_ROWS, 10**9])


@WAYS
def test_the_hash_is_that_of_kafka(few: int) -> None:
    with few_rows(few):
        hashes = murmur2(pa.array([key.encode() for key in KAFKA], pa.large_binary()))
    assert hashes.view(np.int32).tolist() == list(KAFKA.values())
    assert [plain_murmur2(key.encode()) for key in KAFKA] == hashes.tolist()


KEYS = st.one_of(
    st.text(max_size=60),
    st.text("가나다라🌊🇰🇷é\0", max_size=30),
    st.text("ab", min_size=300, max_size=400),
).map(str.encode) | st.binary(max_size=70)


@WAYS
@settings(deadline=None)
@given(keys=st.lists(KEYS, max_size=150), partitions=st.integers(1, 1024), data=st.data())
def test_keys_of_any_layout_belong_where_plain_python_says(
    few: int, keys: list[bytes], partitions: int, data: st.DataObject
) -> None:
    expected = [plain_partition(key, partitions) for key in keys]
    start = data.draw(st.integers(0, len(keys)))
    end = data.draw(st.integers(start, len(keys)))
    with few_rows(few):
        for form in (pa.binary(), pa.large_binary()):
            whole = pa.array(keys, form)
            assert partition_of(whole, partitions).tolist() == expected
            assert partition_of(whole[start:end], partitions).tolist() == expected[start:end]
            chunked = pa.chunked_array([whole[:start], whole[start:end], whole[end:]])
            assert partition_of(chunked, partitions).tolist() == expected
            assert partition_of(chunked[start:], partitions).tolist() == expected[start:]
            assert partition_of(pa.chunked_array([whole])[:end], partitions).tolist() == expected[:end]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=30))
def test_texts_are_hashed_as_utf8(keys: list[str]) -> None:
    for form in (pa.string(), pa.large_string()):
        numbers = partition_of(pa.array(keys, form), 7)
        assert numbers.dtype == np.int32
        assert numbers.tolist() == [plain_partition(key.encode(), 7) for key in keys]


def test_no_keys_and_empty_keys() -> None:
    assert partition_of(pa.array([], pa.string()), 3).tolist() == []
    assert partition_of(pa.chunked_array([], pa.string()), 3).tolist() == []
    assert partition_of(pa.chunked_array([[], []], pa.int8()), 3).tolist() == []
    assert partition_of(pa.array(["", ""]), 1000).tolist() == [plain_partition(b"", 1000)] * 2
    assert partition_of(pa.array(["a", "b"]), 1).tolist() == [0, 0]


@WAYS
def test_a_long_key_among_many_short_ones(few: int) -> None:
    keys = [b"x" * length for length in range(300)] + [bytes(range(256)) * 400, b"", bytes(range(256)) * 390]
    with few_rows(few):
        numbers = partition_of(pa.array(keys), 999)
    assert numbers.tolist() == [plain_partition(key, 999) for key in keys]


# DuckDB's type, values, and the text whose bytes are hashed.
TYPES = [
    ("TINYINT", [-128, 0, 127], ["-128", "0", "127"]),
    ("SMALLINT", [-42, 32767], ["-42", "32767"]),
    ("INTEGER", [-42, 2147483647], ["-42", "2147483647"]),
    ("BIGINT", [-(2**63), -42, 2**63 - 1], ["-9223372036854775808", "-42", "9223372036854775807"]),
    ("HUGEINT", [-42, 10**20, -(10**37)], ["-42", "1" + "0" * 20, "-1" + "0" * 37]),
    ("UTINYINT", [0, 255], ["0", "255"]),
    ("USMALLINT", [42, 65535], ["42", "65535"]),
    ("UINTEGER", [42, 2**32 - 1], ["42", "4294967295"]),
    ("UBIGINT", [42, 2**64 - 1], ["42", "18446744073709551615"]),
    ("BOOLEAN", [True, False], ["true", "false"]),
    ("VARCHAR", ["", "나", "🌊"], ["", "나", "🌊"]),
    ("BLOB", [b"", b"\0a", b"abc"], ["", "\0a", "abc"]),
    (
        "UUID",
        [uuid.UUID(int=2**128 - 1), "C8F42709-194F-4928-A12D-DDD6B576A472"],
        ["ffffffff-ffff-ffff-ffff-ffffffffffff", "c8f42709-194f-4928-a12d-ddd6b576a472"],
    ),
]


@pytest.mark.parametrize(("spelled", "values", "texts"), TYPES, ids=[spelled for spelled, _, _ in TYPES])
def test_each_key_type_as_it_is_stored(spelled: str, values: list[object], texts: list[str]) -> None:
    check_partition_key(Column("k", spelled), where="log 'orders'")
    schema = declare_schema({"k": spelled}, where="log 'orders'")
    keys = conform([{"k": value} for value in values], schema, log="orders").column("k")
    assert keys.type == arrow_type(spelled)
    assert partition_of(keys, 1000).tolist() == [plain_partition(text.encode(), 1000) for text in texts]
    assert partition_of(keys[1:], 1000).tolist() == [
        plain_partition(text.encode(), 1000) for text in texts[1:]
    ]


@pytest.mark.parametrize(
    "spelled",
    ["FLOAT", "DOUBLE", "DECIMAL(38,0)", "DECIMAL(9,2)", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE",
     "INTERVAL", "JSON", "INTEGER[]", "STRUCT(a INTEGER)", "MAP(VARCHAR, INTEGER)"],
)  # fmt: skip
def test_other_types_are_refused(spelled: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_partition_key(Column("k", spelled), where="log 'orders'")
    assert caught.value.where == "log 'orders'"
    assert caught.value.found == spelled
    assert "VARCHAR" in str(caught.value.hint)


@pytest.mark.parametrize(
    "form", [pa.float64(), pa.decimal128(9, 2), pa.date32(), pa.list_(pa.int8()), pa.null()]
)
def test_what_slipped_through_is_not_hashed(form: pa.DataType) -> None:
    with pytest.raises(DefinitionError, match="decide the partition"):
        partition_of(pa.array([], form), 2)


def test_the_first_null_is_named() -> None:
    keys = pa.chunked_array([["a", "b"], ["c", None], [None]])
    for column in (keys, keys.combine_chunks()):
        with pytest.raises(ValueMismatch, match="row 3 of this call"):
            partition_of(column, 4)
    with pytest.raises(ValueMismatch, match="column 'User'"):
        split(pa.table({"User": keys}), "user", 4)


@settings(deadline=None)
@given(st.lists(st.text(max_size=3), max_size=60), st.integers(1, 20), st.integers(1, 70000))
def test_the_splits_are_the_table_in_its_order(keys: list[str], cut: int, partitions: int) -> None:
    table = pa.table({"v": range(len(keys)), "K": pa.array(keys, pa.string())})
    table = pa.concat_tables([table[:cut], table[cut:]]).replace_schema_metadata({"a": "b"})
    parts = split(table, "k", partitions)
    numbers = [number for number, _, _ in parts]
    assert numbers == sorted({plain_partition(key.encode(), partitions) for key in keys})
    for number, part, rows in parts:
        assert rows.dtype == np.int64
        assert rows.tolist() == part.column("v").to_pylist() == sorted(rows.tolist())
        assert part.schema.equals(table.schema, check_metadata=True)
        assert {plain_partition(key.encode(), partitions) for key in part.column("K").to_pylist()} == {number}
        assert part.column("K").to_pylist() == [keys[row] for row in rows]
    assert sorted(row for _, _, rows in parts for row in rows.tolist()) == list(range(len(keys)))


def test_a_table_too_large_for_one_copy_is_split_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{number}-나" for number in range(1000)]
    table = pa.table({"k": pa.chunked_array([keys[:10], keys[10:800], keys[800:]]), "v": range(1000)})
    expected = [(number, part.to_pydict(), rows.tolist()) for number, part, rows in split(table, "k", 5)]
    for bytes_max in (0, 100, 10_000):
        monkeypatch.setattr(partition, "_TAKE_BYTES_MAX", bytes_max)
        parts = split(table, "k", 5)
        assert [(number, part.to_pydict(), rows.tolist()) for number, part, rows in parts] == expected
    with pytest.raises(ValueMismatch, match="row 900 of this call"):
        split(pa.table({"k": [*keys[:900], None, "x"]}), "k", 5)


def test_a_table_for_one_partition_is_not_copied() -> None:
    table = pa.table({"k": ["a", "a"]})
    for partitions in (1, 5):
        ((number, part, rows),) = split(table, "k", partitions)
        assert part is table
        assert rows.tolist() == [0, 1]
        assert number == plain_partition(b"a", partitions)
    assert split(table[:0], "k", 1) == split(table[:0], "k", 5) == []
