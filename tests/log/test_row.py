"""One row out of an Arrow message: the one that Arrow reads, from few bytes, whatever the bytes are."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from datetime import UTC

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.log.row import read_row
from bourne.log.segment import Damaged

NUMBERS = st.integers(-(2**31), 2**31 - 1)


def some(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


KINDS: dict[pa.DataType, st.SearchStrategy[object]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.decimal128(38, 5): st.decimals(places=5, min_value=-(10**9), max_value=10**9),
    pa.string(): st.text(max_size=40),
    pa.binary(): st.binary(max_size=40),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.month_day_nano_interval(): st.tuples(NUMBERS, NUMBERS, NUMBERS),
    pa.list_(pa.string()): st.lists(some(st.text(max_size=9)), max_size=4),
    pa.list_(pa.list_(pa.bool_())): st.lists(some(st.lists(some(st.booleans()), max_size=20)), max_size=3),
    pa.list_(pa.int32(), 3): st.lists(some(NUMBERS), min_size=3, max_size=3),
    pa.map_(pa.string(), pa.int32()): st.dictionaries(st.text(max_size=5), some(NUMBERS), max_size=4).map(
        lambda pairs: list(pairs.items())
    ),
    pa.struct([("x", pa.list_(pa.int32())), ("y", pa.struct([("z", pa.string())]))]): st.fixed_dictionaries(
        {
            "x": some(st.lists(some(NUMBERS), max_size=4)),
            "y": some(st.fixed_dictionaries({"z": some(st.text(max_size=5))})),
        }
    ),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4))
    rows = draw(st.integers(1, 40))
    columns = [
        pa.array(draw(st.lists(some(KINDS[kind]), min_size=rows, max_size=rows)), kind) for kind in kinds
    ]
    return pa.RecordBatch.from_arrays(columns, [f"c{number}" for number in range(len(kinds))])


def reader(message: bytes) -> Callable[[int, int], bytes]:
    def read(start: int, end: int) -> bytes:
        assert 0 <= start < end <= len(message)
        return message[start:end]

    return read


@given(batches(), st.data())
def test_a_row_is_the_one_that_arrow_reads(batch: pa.RecordBatch, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, batch.num_rows - 1))
    batch = batch.slice(start)
    message = batch.serialize().to_pybytes()
    for row in range(batch.num_rows):
        found = read_row(reader(message), len(message), batch.schema, batch.num_rows, row)
        assert found.equals(batch.slice(row, 1))


@given(batches(), st.data())
def test_only_what_was_read_counts(batch: pa.RecordBatch, data: st.DataObject) -> None:
    """All other bytes may be anything: the row comes out the same."""
    message = batch.serialize().to_pybytes()
    row = data.draw(st.integers(0, batch.num_rows - 1))
    known = [False] * len(message)

    def read(start: int, end: int) -> bytes:
        known[start:end] = [True] * (end - start)
        return message[start:end]

    first = read_row(read, len(message), batch.schema, batch.num_rows, row)
    noise = random.Random(data.draw(st.integers()))
    other = bytes(
        byte if is_known else noise.randrange(256) for byte, is_known in zip(message, known, strict=True)
    )
    assert read_row(reader(other), len(other), batch.schema, batch.num_rows, row).equals(first)


def test_few_bytes_are_read() -> None:
    rows = 10_000
    batch = pa.record_batch(
        {
            "number": pa.array(range(rows)),
            "text": pa.array([None if row % 3 else "x" * 100 for row in range(rows)]),
            "tags": pa.array([["a", "bc"]] * rows),
        }
    )
    message = batch.serialize().to_pybytes()
    count = 0

    def read(start: int, end: int) -> bytes:
        nonlocal count
        count += end - start
        return message[start:end]

    read_row(read, len(message), batch.schema, rows, 5001)
    assert count < 1000 < len(message)


@settings(max_examples=300)
@given(batches(), st.data())
def test_bytes_of_anybody_are_refused_or_read(batch: pa.RecordBatch, data: st.DataObject) -> None:
    """Nothing worse than `Damaged` happens, and nothing is read that is not there."""
    message = bytearray(batch.serialize().to_pybytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 8))
        form, number = data.draw(
            st.tuples(st.just("<B"), st.integers(0, 255))
            | st.tuples(st.just("<i"), st.sampled_from([-(2**31), -1, 0, 1, 7, 2**31 - 1]))
            | st.tuples(st.just("<q"), st.sampled_from([-(2**63), -1, 0, 1, 2**31, 2**62, 2**63 - 1]))
        )
        struct.pack_into(form, message, at, number)
    rows = data.draw(st.sampled_from([batch.num_rows, 0, 1, 2**32 - 1]))
    row = data.draw(st.sampled_from([0, rows - 1, rows, -1]))
    try:
        found = read_row(reader(bytes(message)), len(message), batch.schema, rows, row)
    except Damaged:
        return
    assert found.num_rows == 1
    found.validate(full=True)
    repr(found)


@pytest.mark.parametrize(
    "kind",
    [pa.null(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.float16(), pa.string_view(),
     pa.struct([]), pa.list_(pa.int8(), 0), pa.binary(4), pa.uuid(), pa.date64(), pa.duration("s"), pa.time32("s"),
     pa.timestamp("us", "Asia/Seoul")],
    ids=str,
)  # fmt: skip
def test_what_no_log_holds_is_refused(kind: pa.DataType) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1], pa.int8())], ["a"])
    message = batch.serialize().to_pybytes()
    with pytest.raises(Damaged, match=r"no log has|columns"):
        read_row(reader(message), len(message), pa.schema([("a", kind)]), 1, 0)


@pytest.mark.parametrize("value", [-(2**127), 2**127 - 1, 10**38, -(10**38)])
def test_decimals_with_too_many_digits_are_refused(value: int) -> None:
    """Also the one that Arrow's own check lets pass."""
    raw = pa.py_buffer(value.to_bytes(16, "little", signed=True))
    column = pa.Array.from_buffers(pa.decimal128(38, 0), 1, [None, raw])
    batch = pa.RecordBatch.from_arrays([column], ["a"])
    message = batch.serialize().to_pybytes()
    with pytest.raises(Damaged):
        read_row(reader(message), len(message), batch.schema, 1, 0)


def test_another_schema_is_refused() -> None:
    batch = pa.record_batch({"a": pa.array([1, 2]), "b": pa.array(["x", "y"])})
    message = batch.serialize().to_pybytes()
    for fields in ([("a", pa.int64())], [("a", pa.int64()), ("b", pa.string()), ("c", pa.int64())]):
        with pytest.raises(Damaged, match="columns than its schema"):
            read_row(reader(message), len(message), pa.schema(fields), 2, 0)
    with pytest.raises(Damaged, match="too short"):
        read_row(
            reader(message), len(message), pa.schema([("a", pa.decimal128(9, 2)), ("b", pa.string())]), 2, 1
        )


def test_compressed_messages_are_refused() -> None:
    batch = pa.record_batch({"a": pa.array(range(1000))})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    messages = list(pa.ipc.MessageReader.open_stream(sink.getvalue()))
    message = messages[1].serialize().to_pybytes()
    with pytest.raises(Damaged, match="compressed"):
        read_row(reader(message), len(message), batch.schema, 1000, 0)
