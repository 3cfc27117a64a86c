"""Files into batches: exactly what the file says, or an error at its line; whatever the pieces it is read in."""

from __future__ import annotations

import datetime
import io
import os
import threading
from decimal import Decimal
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bourne.connect import blocks
from bourne.connect.csv_files import read_csv
from bourne.connect.files import format_of, read_file, read_stream
from bourne.connect.fitting import Place
from bourne.connect.json_lines import read_jsonl
from bourne.connect.parquet_files import read_parquet
from bourne.connect.row_texts import csv_text, json_rows
from bourne.errors import InputError, MalformedInput, SourceFailed, UnknownColumn, ValueMismatch
from bourne.schema import conform, declare_schema

EVERY_TYPE = declare_schema(
    {
        "id": "bigint not null", "tiny": "tinyint", "huge": "hugeint", "unsigned": "ubigint", "amount": "decimal(18,4)",
        "double": "double", "real": "real", "flag": "boolean", "text": "varchar", "raw": "blob", "day": "date",
        "clock": "time", "at": "timestamp", "at_s": "timestamp_s", "at_ns": "timestamp_ns", "at_z": "timestamptz",
        "id2": "uuid", "doc": "json", "list": "integer[]", "struct": "struct(a varchar, b decimal(5,2))",
    },
    where="test",
)  # fmt: skip
SMALL = declare_schema({"id": "bigint not null", "text": "varchar", "amount": "decimal(10,2)"}, where="test")


def read(data: bytes | str, kind: str = "csv", schema=SMALL) -> list[dict]:
    data = data.encode() if isinstance(data, str) else data
    return [
        row
        for batch in read_stream(io.BytesIO(data), kind, schema, log="log", name="f")
        for row in batch.table.to_pylist()
    ]


def values(text: str, kind: str) -> list:
    """Read one CSV column of a type."""
    schema = declare_schema({"x": kind, "y": "varchar"}, where="test")
    return [
        row["x"] for row in read("x,y\n" + "".join(f"{line},\n" for line in text.split("|")), schema=schema)
    ]


# --- CSV ---


def test_empty_fields_are_null_and_quoted_empty_ones_empty_texts():
    assert read('id,text,amount\n1,,\n2,"","",\n'.replace('"",\n', '""\n')) == [
        {"id": 1, "text": None, "amount": None},
        {"id": 2, "text": "", "amount": None},
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\r\n",
        b"\xef\xbb\xbf",
        b"id,text",
        b"id,text\n",
        b"\xef\xbb\xbfid\r\n\r\n",
    ],
)
def test_nothing_but_a_header_is_no_records(data):
    assert read(data) == []


def test_columns_are_named_by_the_header_in_any_order_and_case():
    assert read('\n amount ,"ID"\n1.5,7\n') == [{"id": 7, "text": None, "amount": Decimal("1.50")}]


def test_line_ends_quotes_and_unicode():
    assert [row["text"] for row in read('\ufeffid,text\r\n1,"a\r\nb,""c"""\r\n\r\n2, 한🚲 \r\n3,"x"')] == [
        'a\r\nb,"c"',
        " 한🚲 ",
        "x",
    ]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("bigint", "9223372036854775807| -5 |+7|007", [9223372036854775807, -5, 7, 7]),
        ("ubigint", "18446744073709551615", [18446744073709551615]),
        ("hugeint", "170141183460469231731687303715884105", [Decimal("170141183460469231731687303715884105")]),
        ("decimal(38,2)", "123456789012345678901234567890123456.78|1e3|-.5", [
            Decimal("123456789012345678901234567890123456.78"), Decimal("1000.00"), Decimal("-0.50"),
        ]),
        ("double", "0.1|1e300|0.10000000000000001|0.1000000000000000055511151231257827|-0|5e-324|.5|5.|+2", [
            0.1, 1e300, 0.1, 0.1, -0.0, 5e-324, 0.5, 5.0, 2.0,
        ]),
        ("double", "5.960464477539063e-08|5.960464477539062e-08", [2**-24, 5.960464477539062e-08]),
        ("double", "inf|-Infinity", [float("inf"), float("-inf")]),
        ("double", "0.1000000000000000000000000000|9007199254740992", [0.1, 9007199254740992.0]),
        ("boolean", "true|F|1|0|TRUE", [True, False, True, False, True]),
        ("date", "2024-02-29", [datetime.date(2024, 2, 29)]),
        ("timestamp", "2024-01-01 10:00:00.000001|2024-01-01T10:00:00+02:00|2024-01-01", [
            datetime.datetime(2024, 1, 1, 10, 0, 0, 1), datetime.datetime(2024, 1, 1, 8),
            datetime.datetime(2024, 1, 1),
        ]),
        ("timestamptz", "2024-01-01 10:00:00+02|2024-01-01 10:00:00", [
            datetime.datetime(2024, 1, 1, 8, tzinfo=datetime.UTC), datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.UTC),
        ]),
        ("blob", r"\x00a|b", [b"\x00a", b"b"]),
    ],
)  # fmt: skip
def test_texts_are_read_exactly(kind, text, expected):
    assert values(text, kind) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bigint", "9223372036854775808|1.0|0x10|1_000|1e3|abc|--1|٣"),
        ("tinyint", "128"),
        ("ubigint", "-1"),
        ("decimal(10,2)", "1.005|99999999999|0.001|1,5|NaN"),
        ("double", "9007199254740993|1e400|1e-400|0.12345678901234567890123|1.2.3|0x1p3|x"),
        ("real", "16777217|3.14159265358979"),
        ("boolean", "yes!|2"),
        ("date", "2024-02-30|01.02.2024|2024-01-01 10:00:00"),
        ("timestamp", "2024-01-01 25:00:00|2024-01-01 10:00:00.1234567|now"),
        ("uuid", "1234"),
        ("json", "{"),
        ("integer[]", "[1|[1.5]|{}"),
        ("blob", r"\x0"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_rounded(kind, text):
    for each in text.split("|"):
        with pytest.raises(ValueMismatch) as caught:
            values(f'"{each}"', kind)
        assert each[:10] in str(caught.value.found)
        assert caught.value.where == "f, line 2"


@pytest.mark.parametrize(
    ("data", "error", "line", "words"),
    [
        ('id,text\n1,a\n\n2,"b\nc"\nx,d\n', ValueMismatch, 6, "'id'"),
        ("id,text\r\n1,a\r\n2\r\n", MalformedInput, 3, "1 fields, the header 2"),
        ("id,text\n1,a\n\n2,b,c\n", MalformedInput, 4, "3 fields, the header 2"),
        ("id,text\n1,a\n,b\n", ValueMismatch, 3, "NULL"),
        ("id,txt\n1,a\n", UnknownColumn, 1, "'txt'"),
        ("\n\nid,id\n1,1\n", InputError, 3, "2 times"),
        ("text\na\n", ValueMismatch, 1, "missing"),
        ("1,a\n2,b\n", UnknownColumn, 1, "'1'"),
        ('id,text\n1,5" pipe\n2,b\n', MalformedInput, 2, "quote in the middle"),
        ('id,text\n1,"a"b\n2,b\n', MalformedInput, 2, "quote in the middle"),
        ('id,text\n1,a\n2,"b\n3,c\n', MalformedInput, 3, "not closed"),
        ('id,text\n1,"b\n3,c\n4,"d"\n', MalformedInput, 2, "quote in the middle"),
        (b"id,text\n1,a\n2,\xff\n", MalformedInput, 3, "UTF-8"),
        (b"id,\xff\n", MalformedInput, 1, "UTF-8"),
        (b"\xff\xfei\x00d\x00\n\x00", MalformedInput, 1, "UTF-8"),
        ("id,text\n1,a\r2,b\n", MalformedInput, None, "carriage return"),
        ("id\n1\r2\n", MalformedInput, None, "carriage return"),
    ],
)
def test_bad_csv_is_named_with_its_line(data, error, line, words):
    with pytest.raises(error) as caught:
        read(data)
    assert type(caught.value) is error and caught.value.exit_code == 4
    assert words in str(caught.value)
    assert line is None or caught.value.where == f"f, line {line}"


def test_an_unclosed_quote_does_not_read_a_whole_file_into_memory(monkeypatch):
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", 1000)
    monkeypatch.setattr(blocks, "FILE_RECORD_BYTES_MAX", 5000)
    stream = io.BytesIO(b'id,text\n1,a\n2,"b\n' + b"3,c\n" * 100_000)
    with pytest.raises(MalformedInput, match="too long"):
        list(read_stream(stream, "csv", SMALL, log="log", name="f"))
    assert stream.tell() < 10_000


def test_earlier_batches_come_before_a_bad_one_and_say_where_the_next_begins(monkeypatch):
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", 100)
    data = "id,text\n" + "".join(f"{n},x\n" for n in range(100)) + "bad,x\n"
    batches = read_stream(io.BytesIO(data.encode()), "csv", SMALL, log="log", name="f")
    rows = 0
    with pytest.raises(ValueMismatch, match="line 102"):
        for batch in batches:
            rows += batch.table.num_rows
            assert str(batch.next) == f"line {rows + 2}"
    assert 50 < rows <= 100


# --- JSON lines ---


def test_json_numbers_keep_all_their_digits():
    schema = declare_schema({"d": "decimal(38,20)", "f": "double", "n": "bigint", "j": "json"}, where="test")
    line = '{"d": 0.12345678901234567890, "f": 0.10000000000000001, "n": 9223372036854775807, "j": {"x": [1.50, null]}}'
    assert read(line, "jsonl", schema) == [
        {
            "d": Decimal("0.12345678901234567890"),
            "f": 0.1,
            "n": 9223372036854775807,
            "j": '{"x": [1.50, null]}',
        }
    ]


def test_a_short_number_with_a_long_exponent_is_not_written_out():
    schema = declare_schema({"n": "bigint", "ns": "bigint[]", "j": "json"}, where="test")
    for name in ("n", "ns"):
        value = "1e999999999" if name == "n" else "[1e999999999]"
        with pytest.raises(ValueMismatch):
            read(f'{{"{name}": {value}}}', "jsonl", schema)
    for number in ("1E+999999999", "-1.5E-999999999"):
        assert read(f'{{"j": {number}}}', "jsonl", schema) == [{"n": None, "ns": None, "j": number}]
    assert read('{"n": 12e2, "j": 1.50e3}', "jsonl", schema) == [{"n": 1200, "ns": None, "j": "1500"}]


@pytest.mark.parametrize("data", ["", "\n \r\n", "\ufeff"])
def test_no_json_lines_are_no_records(data):
    assert read(data, "jsonl") == []


@pytest.mark.parametrize("data", ["{}", "{}\n{}\n"])
def test_json_objects_without_names_are_records(data):
    schema = declare_schema({"id": "bigint"}, where="test")
    assert read(data, "jsonl", schema) == [{"id": None}] * data.count("{}")


def test_the_last_json_line_needs_no_end_and_missing_names_are_null():
    assert read('{"id": 1}\r\n\n{"text": "한", "ID": 2}', "jsonl") == [
        {"id": 1, "text": None, "amount": None},
        {"id": 2, "text": "한", "amount": None},
    ]


@pytest.mark.parametrize(
    ("data", "error", "line", "words"),
    [
        ('{"id": 1}\n\n{"id": 2,}\n', MalformedInput, 3, "not JSON"),
        ('{"id": 1}\n[2]\n', MalformedInput, 2, "a JSON object"),
        ('{"id": 1} {"id": 2}\n', MalformedInput, 1, "not JSON"),
        ('{"id": 1, "id": 2}\n', MalformedInput, 1, "twice"),
        ('{"id": 1, "amount": NaN}\n', MalformedInput, 1, "NaN"),
        ('{"id": 1}\n{"id": 2, "txt": 1}\n', UnknownColumn, 2, "txt"),
        ('{"id": 1}\n{"id": "2"}\n', ValueMismatch, 2, "'2'"),
        ('{"id": 1}\n{"id": 1.5}\n', ValueMismatch, 2, "1.5"),
        ('{"id": 1, "amount": 1.005}\n', ValueMismatch, 1, "1.005"),
        ('{"id": 1, "text": 5}\n', ValueMismatch, 1, "5"),
        ('{"id": 1}\n{"text": "a"}\n', ValueMismatch, 2, "missing|NULL"),
        (b'{"id": 1, "text": "\xff"}\n', MalformedInput, 1, "not JSON"),
        ('{"id": ' + "[" * 100_000 + "\n", MalformedInput, 1, "not JSON"),
        ('{"id": ' + "9" * 5000 + "}\n", MalformedInput, 1, "not JSON"),
    ],
)
def test_bad_json_lines_are_named_with_their_line(data, error, line, words):
    with pytest.raises(error) as caught:
        read(data, "jsonl")
    assert any(word in str(caught.value) for word in words.split("|"))
    assert str(caught.value.where).startswith(f"f, line {line}")


# --- Parquet ---


def test_parquet_is_read_in_batches_and_errors_name_the_row(tmp_path):
    path = str(tmp_path / "rows.parquet")
    ids = [*range(300_000), None]
    parquet.write_table(
        pa.table({"id": pa.array(ids), "text": ["x"] * len(ids)}), path, row_group_size=70_000
    )
    rows = 0
    with pytest.raises(ValueMismatch, match="row 300001"):
        for batch in read_file(path, "parquet", SMALL, log="log"):
            rows += batch.table.num_rows
            assert str(batch.next) == f"row {rows + 1}"
    assert 100_000 <= rows <= 300_000


def test_what_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"id,text\n1,a\n" * 10)
    with pytest.raises(MalformedInput, match="not a Parquet file"):
        list(read_file(str(path), "parquet", SMALL, log="log"))
    with pytest.raises(InputError, match="cannot be read from a stream"):
        read(b"", "parquet")


# --- files ---


def test_files_that_cannot_be_read_are_named(tmp_path):
    for kind in ("csv", "jsonl", "parquet"):
        for path in (tmp_path / "none", tmp_path):
            with pytest.raises(SourceFailed, match="cannot read") as caught:
                list(read_file(str(path), kind, SMALL, log="log"))
            assert str(path) in str(caught.value)


def test_the_suffix_says_the_format():
    assert [format_of(f"a.b/c.{suffix}") for suffix in ("csv", "JSONL", "ndjson", "parquet", "pq")] == [
        "csv", "jsonl", "jsonl", "parquet", "parquet",
    ]  # fmt: skip
    for path in ("data", "data.txt", ".csv"):
        with pytest.raises(InputError, match="cannot tell the format"):
            format_of(path)


def test_live_input_is_handed_on_when_it_pauses():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        batches = read_stream(stream, "csv", SMALL, log="log", name="f")
        for number in range(3):
            pipe.write(
                f"{'' if number else 'id,text'}\n{number},x\n{number},".encode()
                if number == 0
                else f"y\n{number},x\n{number},".encode()
            )
            assert next(batches).table.num_rows == (1 if number == 0 else 2)
        threading.Thread(target=pipe.close).start()
        assert [batch.table.to_pylist() for batch in batches] == [[{"id": 2, "text": None, "amount": None}]]


# --- laws ---

MOMENTS = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXTS,
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)
ROWS = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 1)},
    optional={
        "tiny": st.integers(-128, 127),
        "huge": st.integers(-(10**37), 10**37),
        "unsigned": st.integers(0, 2**64 - 1),
        "amount": st.decimals(-(10**13), 10**13, places=4),
        "double": st.floats(allow_nan=False),
        "real": st.floats(allow_nan=False, width=32),
        "flag": st.booleans(),
        "text": TEXTS,
        "raw": st.binary(max_size=5),
        "day": st.dates(datetime.date(1700, 1, 1)),
        "clock": st.times(),
        "at": MOMENTS,
        "at_s": MOMENTS.map(lambda moment: moment.replace(microsecond=0)),
        "at_ns": MOMENTS,
        "at_z": MOMENTS.map(lambda moment: moment.replace(tzinfo=datetime.UTC)),
        "id2": st.uuids(),
        "list": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=3),
        "struct": st.fixed_dictionaries({"a": st.none() | TEXTS, "b": st.none() | st.decimals(-999, 999, places=2)}),
    },
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=6),
    kind=st.sampled_from(["csv", "jsonl"]),
    piece=st.integers(40, 2000),
)
def test_what_is_written_is_read_back_the_same_whatever_the_pieces(rows, kind, piece):
    table = conform(rows, EVERY_TYPE, log="log")
    text = "".join(csv_text(table)) if kind == "csv" else "".join(f"{row}\n" for row in json_rows(table))
    with mock.patch.object(blocks, "FILE_BATCH_BYTES", piece):
        batches = list(read_stream(io.BytesIO(text.encode()), kind, EVERY_TYPE, log="log", name="f"))
    again = pa.concat_tables([table.slice(0, 0), *(batch.table for batch in batches)])
    assert again.to_pylist() == table.to_pylist()


FIELDS = st.sampled_from(["1", "x", "", '"', '""', '"a"', '"\n"', ",", "\n", "\r\n", "é", " "])


@settings(max_examples=300, deadline=None)
@given(fields=st.lists(FIELDS, max_size=12), piece=st.integers(1, 9))
def test_no_text_is_read_otherwise_in_pieces_than_as_a_whole(fields, piece):
    data = "id,text\n" + "".join(fields)

    def outcome() -> object:
        try:
            return read(data)
        except InputError as error:
            return type(error), error.where

    whole = outcome()
    with mock.patch.object(blocks, "FILE_BATCH_BYTES", piece):
        pieces = outcome()
    if isinstance(whole, list):
        assert pieces == whole
    else:
        assert not isinstance(pieces, list)


def test_a_file_is_taken_by_its_path(tmp_path: Path):
    path = tmp_path / "한.csv"
    path.write_text("id\n1\n", encoding="utf-8")
    (batch,) = read_file(str(path), "csv", SMALL, log="log")
    assert batch.table.num_rows == 1


# --- leaving out what does not fit, and going on in the middle ---


def read_most(data: str, kind: str = "csv", start=None) -> tuple[list[dict], list[tuple[int, bytes]], list]:
    reader = read_csv if kind == "csv" else read_jsonl
    raw = data.encode() if isinstance(data, str) else data
    stream = io.BytesIO(raw[start.byte if start else 0 :])
    batches = list(reader(stream, SMALL, "log", "f", start=start, leaves_out=True))
    rows = [row for batch in batches for row in batch.table.to_pylist()]
    return (
        rows,
        [(each.number, each.data) for batch in batches for each in batch.misfits],
        [b.next for b in batches],
    )


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_csv_records_that_do_not_fit_are_left_out_with_their_bytes(monkeypatch, piece):
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", piece)
    data = (
        "id,text,amount\n1,a,1\nx,b,2\n3,c\n4,\"d\ne\",4\n5,\"f\n,5\" g,5\n6,\"5\" pipe\",6\n7,한🚲,7\n,h,8\n9,i,9.999\n10,j,10\n"
        .encode()
        .replace(b"h,8", b"\xff,8")
    )  # fmt: skip
    rows, misfits, _ = read_most(data)
    assert [row["id"] for row in rows] == [1, 4, 7, 10]
    assert sorted(misfits) == [
        (3, b"x,b,2\n"), (4, b"3,c\n"), (7, b'5,"f\n,5" g,5\n'), (9, b'6,"5" pipe",6\n'), (11, b",\xff,8\n"),
        (12, b"9,i,9.999\n"),
    ]  # fmt: skip


def test_a_stray_quote_at_the_end_of_a_file():
    assert read_most('id,text\n1,a\n2,"b" c')[:2] == (
        [{"id": 1, "text": "a", "amount": None}],
        [(3, b'2,"b" c')],
    )
    assert read_most('id,text\n2,"b" c\n')[:2] == ([], [(2, b'2,"b" c\n')])
    with pytest.raises(MalformedInput, match="not closed"):  # nobody knows where that record ends
        read_most('id,text\n2,"b\n3,c\n')


def test_lines_of_json_that_do_not_fit_are_left_out_with_their_bytes():
    data = '{"id": 1}\n{"id": "x"}\n\n{"id": 2\n[]\n{"id": 3, "amount": 1.234}\n{"id": 4, "nobody": 1}\n{"id": 5}'
    rows, misfits, _ = read_most(data, "jsonl")
    assert [row["id"] for row in rows] == [1, 5]
    assert misfits == [
        (2, b'{"id": "x"}'), (4, b'{"id": 2'), (5, b"[]"), (6, b'{"id": 3, "amount": 1.234}'),
        (7, b'{"id": 4, "nobody": 1}'),
    ]  # fmt: skip


def test_a_header_that_does_not_fit_is_not_left_out():
    with pytest.raises(UnknownColumn, match="line 1"):
        read_most("id,nobody\n1,2\n")


def test_more_records_than_can_be_told_one_by_one(monkeypatch):
    monkeypatch.setattr("bourne.connect.fitting.MISFITS_MAX", 3)
    with pytest.raises(InputError, match="too many records"):
        read_most("id\n" + "x\n" * 4)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_is_read_on_from_any_place_where_a_batch_ended(monkeypatch, kind):
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", 40)
    lines = [
        f'{i},"text\r\n{i} 한",' if kind == "csv" else f'{{"id": {i}, "text": "한 {i}"}}' for i in range(40)
    ]
    data = "\ufeff" + ("id,text,amount\n" if kind == "csv" else "") + "\n".join(lines)
    rows, _, places = read_most(data, kind)
    assert [row["id"] for row in rows] == list(range(40))
    assert len(places) > 10
    for place in places:
        ends = data.encode()[: place.byte]
        rest = read_most(data, kind, place)[0]
        assert rest == rows[40 - len(rest) :]
        assert place.number == ends.count(b"\n") + 1 or place is places[-1]


def test_parquet_is_read_on_from_a_row(tmp_path):
    table = pa.table({"id": pa.array(range(10)), "amount": pa.array(["1.00"] * 9 + ["x"])})
    parquet.write_table(table, tmp_path / "f.parquet")
    (batch,) = read_parquet(
        str(tmp_path / "f.parquet"), SMALL, "log", "f", start=Place("row", 8), leaves_out=True
    )
    assert batch.table.column("id").to_pylist() == [7, 8]
    (misfit,) = batch.misfits
    assert misfit.number == 10
    assert pa.ipc.open_stream(misfit.data).read_all().to_pylist() == [{"id": 9, "amount": "x"}]
