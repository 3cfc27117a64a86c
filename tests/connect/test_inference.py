"""Columns that nobody declared: what is inferred holds every value exactly, or says what is wrong with the file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bourne.connect.files import format_of, read_file
from bourne.connect.inference import infer_schema
from bourne.errors import BourneError


def inferred(path: Path) -> dict[str, str] | None:
    schema = infer_schema(path, format_of(str(path)), where="table 't'")
    return None if schema is None else {column.name: column.type for column in schema.columns}


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


COLUMNS = [
    ("1|-2||0", "BIGINT"),
    ("007|1", "VARCHAR"),
    ("+1", "VARCHAR"),
    ("-0", "BIGINT"),
    ("9223372036854775808|1", "HUGEINT"),
    ("1.50|2e3|-7", "DOUBLE"),
    ("0.1|123456789012345678901.5", "VARCHAR"),  # no double is that
    ("1e999", "VARCHAR"),
    ("nan", "VARCHAR"),
    ("true|FALSE|", "BOOLEAN"),
    ("1|0", "BIGINT"),
    ("yes|no", "VARCHAR"),
    ("2024-02-29|0001-01-01", "DATE"),
    ("2023-02-29", "VARCHAR"),
    ("2024-01-01 10:00|2024-01-01T10:00:00.123456", "TIMESTAMP"),
    ("2024-01-01T10:00:00Z|2024-01-01 10:00:00+09:00", "TIMESTAMP WITH TIME ZONE"),
    ("2024-01-01|2024-01-01 10:00", "VARCHAR"),
    ("|", "VARCHAR"),
    ("서울|1", "VARCHAR"),
]


@pytest.mark.parametrize(("values", "kind"), COLUMNS, ids=[values for values, _ in COLUMNS])
def test_a_csv_column(tmp_path: Path, values: str, kind: str) -> None:
    text = "\ufeff이름,other\n" + "".join(f"{value},x\n" for value in values.split("|"))
    assert inferred(written(tmp_path, "t.csv", text)) == {"이름": kind, "other": "VARCHAR"}


JSON_COLUMNS: list[tuple[list[Any], str]] = [
    ([1, None, -5], "BIGINT"),
    ([1 << 63], "HUGEINT"),
    ([1 << 127], "JSON"),
    ([1, 2.5], "DOUBLE"),
    ([(1 << 53) + 1, 2.5], "JSON"),
    ([True, None], "BOOLEAN"),
    ([True, 1], "JSON"),
    (["x", "2024-01-01"], "VARCHAR"),
    (["2024-01-01", None], "DATE"),
    (["2024-01-01", ""], "VARCHAR"),
    (["2024-01-01T10:00:00Z"], "TIMESTAMP WITH TIME ZONE"),
    (["1", "2"], "VARCHAR"),
    ([None], "VARCHAR"),
    ([[1], [], [None, 2]], "BIGINT[]"),
    ([[]], "VARCHAR[]"),
    ([{"a": 1}, {"b c": 1.5}], 'STRUCT(a BIGINT, "b c" DOUBLE)'),
    ([{}], "JSON"),
    ([{"a": 1}, {"a": "x"}], "JSON"),
    ([{"a": 1}, [1]], "JSON"),
]


@pytest.mark.parametrize(("values", "kind"), JSON_COLUMNS, ids=[str(values) for values, _ in JSON_COLUMNS])
def test_a_json_column(tmp_path: Path, values: list[Any], kind: str) -> None:
    lines = "".join(json.dumps({"x": value, "n": 1}, ensure_ascii=False) + "\n" for value in values)
    path = written(tmp_path, "t.jsonl", lines)
    assert inferred(path) == {"x": kind, "n": "BIGINT"}
    check_that_it_reads(path, len(values))


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    table = pa.table({
        "a": pa.array([1], pa.int32()), "글": pa.array(["x"]).dictionary_encode(), "l": pa.array([[1]]),
        "at": pa.array([1], pa.timestamp("ns")), "none": pa.nulls(1), "big": pa.array(["x"], pa.large_string()),
        "price": pa.array([None], pa.decimal128(10, 2)),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "t.parquet")
    assert inferred(tmp_path / "t.parquet") == {
        "a": "INTEGER", "글": "VARCHAR", "l": "BIGINT[]", "at": "TIMESTAMP_NS", "none": "VARCHAR", "big": "VARCHAR",
        "price": "DECIMAL(10,2)",
    }  # fmt: skip
    check_that_it_reads(tmp_path / "t.parquet", 1)


FIELDS = st.one_of(
    st.sampled_from(["", "1", "-7", "007", "1.5", "true", "2024-01-01", "2024-01-01 10:00:00", "x", " 2 "]),
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.text(max_size=5).filter(lambda text: "\0" not in text and "\r" not in text and text.isprintable()),
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    columns=st.lists(
        st.lists(FIELDS, min_size=1, max_size=1) | st.lists(FIELDS, max_size=4), min_size=1, max_size=3
    )
)
def test_what_is_inferred_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, columns: list[list[str]]
) -> None:
    rows = [[column[i % len(column)] if column else "" for column in columns] for i in range(4)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([f"c{i}" for i in range(len(columns))])
    writer.writerows(rows)
    check_that_it_reads(written(tmp_path_factory.mktemp("csv"), "t.csv", out.getvalue()), 4)


def check_that_it_reads(path: Path, count: int) -> None:
    kind = format_of(str(path))
    schema = infer_schema(path, kind, where="t")
    assert schema is not None
    assert sum(batch.table.num_rows for batch in read_file(str(path), kind, schema, log="t")) == count


BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("t.csv", "", "the file is empty"),
    ("t.csv", "\n\n", "the file is empty"),
    ("t.csv", "a,b,A\n1,2,3\n", "column 'A' is there twice"),
    ("t.csv", "a b,c\n1,2\n", "'a b' cannot be a column name"),
    ("t.csv", "a,\n1,2\n", "'' cannot be a column name"),
    ("t.csv", "a,__b\n1,2\n", "Bourne's own"),
    ("t.csv", "a,b\n1\n", "a record has 1 fields, the header 2"),
    ("t.csv", b"a,b\n1,\xff\n", "not UTF-8"),
    ("t.jsonl", '{"a": 1\n', "not JSON"),
    ("t.jsonl", '{"a": 1}\n[1]\n', "not a record"),
    ("t.jsonl", '{"a": 1, "a": 2}\n', "a name is there twice"),
    ("t.jsonl", '{"a": 1}\n{"A": 2}\n', "declared twice"),
    ("t.parquet", b"PAR1", "not a Parquet file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"), BAD_FILES, ids=[message for *_, message in BAD_FILES]
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(BourneError, match=message) as raised:
        inferred(path)
    assert str(path) in str(raised.value)


def test_no_rows_say_nothing_but_in_parquet(tmp_path: Path) -> None:
    assert inferred(written(tmp_path, "t.csv", "a,b\n")) is None
    assert inferred(written(tmp_path, "t.jsonl", "\n")) is None
    parquet.write_table(pa.table({"a": pa.array([], pa.int8())}), tmp_path / "t.parquet")
    assert inferred(tmp_path / "t.parquet") == {"a": "TINYINT"}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(BourneError, match="cannot read"):
        inferred(tmp_path / name)
