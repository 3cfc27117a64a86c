"""What is read at once is what is read the slow way: texts of numbers and times, CSV records, JSON lines."""

from __future__ import annotations

import csv
import io
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bourne.connect import csv_files, json_bulk, plain_texts
from bourne.connect.cells import gather
from bourne.connect.csv_bulk import read_records
from bourne.connect.json_bulk import read_lines
from bourne.connect.json_lines import fit_parsed, json_readers, parse_line
from bourne.connect.plain_texts import is_float, read_plain_array
from bourne.connect.postgres_texts import PgType, read_values
from bourne.connect.texts import read_texts
from bourne.errors import BourneError, InputError
from bourne.schema import Column, conform, declare_schema

KINDS = {
    "TINYINT": "int2", "BIGINT": "int8", "UBIGINT": "numeric", "DECIMAL(4,2)": "numeric", "DECIMAL(18,3)": "numeric",
    "DECIMAL(38,18)": "numeric", "DOUBLE": "float8", "FLOAT": "float4", "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz", "DATE": "date",
}  # fmt: skip

numbers = st.one_of(
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.tuples(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(0, 20)).map(lambda n: f"{n[0]:.{n[1]}f}"),
    st.from_regex(r"\A[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?\Z"),
    st.decimals(-100, 100, places=2).map(str),
    st.integers(-(2**70), 2**70).map(str),
)  # fmt: skip
moments = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    st.datetimes().map(lambda at: at.strftime("%Y-%m-%d %H:%M:%S+00")),
    st.dates().map(str),
    st.from_regex(r"\A[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,7})?)?)?(Z|\+00|\+01:00)?\Z"),
)  # fmt: skip
strange = st.sampled_from(["", " 1", "1 ", "1_0", "0x1", "--1", "1.2.3", ".", "+", "-", "e5", "1e", "NaN", "١", "-0", "-0.0", "+5", "007", "5.", ".5", "nan", "1e400", "9007199254740993"])  # fmt: skip


def outcome(read: Callable[[], Any]) -> Any:
    """What comes out, as text (so that NaN and -0.0 are told apart), or that it is refused."""
    try:
        found = read()
    except BourneError:
        return "refused"
    if isinstance(found, pa.Table):
        return repr(found.to_pylist())
    # Python has no year 0.
    plain = found.cast(pa.timestamp("us")).cast(pa.int64()) if pa.types.is_temporal(found.type) else found
    return str(found.type), repr(plain.to_pylist())


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)  # the first one compiles
@example(texts=["-0"])
@given(texts=st.lists(st.one_of(numbers, moments, strange, st.none()), max_size=4))
def test_plain_texts_are_read_as_all_others(kind: str, texts: list[str | None]) -> None:
    array, column = pa.array(texts, pa.string()), Column("x", kind)
    schema = declare_schema({"x": kind}, where="test")

    def both() -> tuple[Any, Any]:
        def from_csv() -> Any:
            read = read_texts(pa.chunked_array([array]), column)
            return conform(pa.table({"x": read}), schema, log="l").column("x")

        if any("T" in text or "Z" in text for text in texts if text):  # PostgreSQL does not print these
            return outcome(from_csv), None
        return outcome(from_csv), outcome(lambda: read_values(array, PgType(KINDS[kind]), column, where="t"))

    with pytest.MonkeyPatch.context() as patch:
        at_once = both()
        patch.setattr(plain_texts, "read_plain", lambda *_: None)
        assert at_once == both()


def test_doubles_are_the_nearest_ones_and_only_those_that_are_the_text() -> None:
    chosen = random.Random(5)
    texts = []
    for _ in range(6_000):
        bits = struct.unpack("d", struct.pack("Q", chosen.getrandbits(64)))[0]
        near = math.ldexp(chosen.random(), chosen.randrange(-20, 60))
        number = bits if math.isfinite(bits) and chosen.random() < 0.2 else near
        digits = "".join(chosen.choices("0123456789", k=chosen.randrange(15, 19)))
        point = chosen.randrange(len(digits))
        written = (repr(number), f"{number:.17g}", f"{number:.{chosen.randrange(1, 20)}f}")
        texts.append(chosen.choice([*written, f"{digits[:point]}.{digits[point:]}"]))
    accepted = 0
    for text in texts:
        found = read_plain_array(pa.array([text]), "DOUBLE")
        assert (found is not None) == is_float(text), text
        if found is not None:
            assert struct.pack("d", found[0].as_py()) == struct.pack("d", float(text)), text
            accepted += 1
    assert 3_000 < accepted < 6_000


def test_plain_texts_are_indeed_read_at_once() -> None:
    for kind, texts in {
        "BIGINT": ["1", "-20"], "DECIMAL(10,2)": ["1.50", "-0.25"], "DOUBLE": ["0.1", "0.5794748543693431", "1e-07"],
        "TIMESTAMP": ["2026-01-31 10:00:00.250000", "0001-01-01 00:00:00"], "DATE": ["2024-02-29", "9999-12-31"],
    }.items():  # fmt: skip
        found = read_plain_array(pa.array([*texts, None]), kind)
        assert found is not None
        assert [str(value) for value in found.to_pylist()] == [*texts, "None"]


def test_cells_are_gathered_from_anywhere() -> None:
    data = np.frombuffer("0日12본345".encode(), np.uint8)
    found = gather(data, np.array([6, 1, 0, 0]), np.array([3, 3, -1, 0]))
    assert found.to_pylist() == ["본", "日", None, ""]


# --- CSV -------------------------------------------------------------------------------------------------

COLUMNS = {"n": "bigint", "t": "varchar", "x": "double", "b": "boolean", "blob": "blob", "at": "timestamp"}
SCHEMA = declare_schema(COLUMNS, where="test")
VALUES: dict[str, list[Any]] = {
    "n": [1, -5, "", 2**62, "007", "x", " 3"],
    "t": ["ann", "", '"', "a,b", "a\nb", "김", " s ", 'say ""', "\r\n"],
    "x": [0.1, -2.5e-9, "", "9007199254740993", 1, 0.5794748543693431],
    "b": ["true", "", "f"],
    "blob": ["a", "\\x00", ""],
    "at": ["2026-01-31 10:00:00", "2026-02-28T00:00:00.5Z", "", "31.1.2026"],
}


def csv_bytes(chosen: random.Random, names: list[str], rows: int) -> bytes:
    file = io.StringIO()
    quoting = chosen.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    writer = csv.writer(file, quoting=quoting, lineterminator=chosen.choice(["\n", "\r\n", "\n\n"]))
    for _ in range(rows):
        writer.writerow([chosen.choice(VALUES[name][: chosen.choice([3, 9])]) for name in names])
    text = file.getvalue()
    if chosen.random() < 0.3:
        at = chosen.randrange(len(text) + 1)
        text = (
            text[:at] + chosen.choice(['"', ",", "\r", "\n", "", "\0"]) + text[at + chosen.choice([0, 1]) :]
        )
    data = text.encode()
    return data.replace("김".encode(), b"\xff") if chosen.random() < 0.05 else data


def test_csv_records_at_once_are_what_the_slow_way_says() -> None:
    agreed = 0
    for seed in range(800):
        chosen = random.Random(seed)
        names = chosen.sample(list(COLUMNS), chosen.choice([1, 2, 3, 6]))
        data = csv_bytes(chosen, names, chosen.choice([1, 2, 5]))
        at_once = read_records(data, names, SCHEMA, log="l", newlines=data.count(b"\n"))
        if at_once is None:
            continue

        def slowly() -> pa.Table:
            block = csv_files.Block(data, 1)  # noqa: B023
            texts = csv_files._parse_csv(csv_files._Records(block), names, "f")  # noqa: B023
            return csv_files._fit_texts(texts, SCHEMA, "l")

        assert repr(at_once.to_pylist()) == outcome(slowly), data
        agreed += 1
    assert agreed > 200


# --- JSON lines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_halved", [False, True])
def test_json_lines_at_once_are_what_the_slow_way_says(
    monkeypatch: pytest.MonkeyPatch, is_halved: bool
) -> None:
    if is_halved:
        monkeypatch.setattr(json_bulk, "_HALVED_BYTES", 1)
    columns = {"n": "integer", "t": "varchar", "x": "double", "d": "decimal(6,2)", "b": "boolean", "at": "timestamp", "u": "uuid"}  # fmt: skip
    schema = declare_schema(columns, where="test")
    values = {
        "n": ["1", "-7", "null", "0", "2147483648", "1.0", '"1"', "true", "-0", "01"],
        "t": ['"a"', '"\\u00e9\\n\\""', "null", '"김"', '"\\ud800"', "1", '""', '"a\tb"', '"\\q"'],
        "x": ["0.5794748543693431", "1", "null", "1e3", "-0", "-0.0", "9007199254740993", "0.1e1", '"NaN"', ".5", "1."],
        "d": ["1.25", "-3", "null", '"2.5"', "1.255", "1e2", "10000", "0.00"],
        "b": ["true", "false", "null", '"t"', "1", "tru"],
        "at": ['"2026-01-31 10:00:00"', '"2026-02-28T00:00:00.5Z"', "null", '"2026-02-28T00:00:00+01:00"', '""', "5"],
        "u": ['"a1b2c3d4-0000-4000-8000-000000000000"', "null", '"no"'],
    }  # fmt: skip
    agreed = 0
    for seed in range(1500):
        chosen = random.Random(seed + is_halved * 1500)
        lines = []
        for _ in range(chosen.choice([1, 2, 4])):
            names = chosen.sample(list(columns), chosen.randrange(1, 8))
            space = chosen.choice(["", " ", "\t", "\r"])
            pairs = [
                f'{space}"{name}":{space}{chosen.choice(values[name][: chosen.choice([2, 3, 12])])}'
                for name in names
            ]
            lines.append(f"{space}{{{f'{space},'.join(pairs)}{space}}}{space}")
        text = "\n".join([*lines, *chosen.choice([[], [""], ["  "], ["", ""]])])
        if chosen.random() < 0.2:
            at = chosen.randrange(len(text))
            text = text[:at] + chosen.choice(['"', ",", "}", "{", "\\", "", "\n", "[", "\0"]) + text[at + 1 :]
        at_once = read_lines(text.encode(), schema, log="l", newlines=text.count("\n"))
        if at_once is None:
            continue
        readers = json_readers(schema)
        records = [parse_line(line.encode(), readers, "x") for line in text.split("\n") if line.strip()]
        assert repr(at_once.to_pylist()) == repr(fit_parsed(records, schema, "l").to_pylist()), text
        agreed += 1
    assert agreed > 250


def test_one_bad_line_is_left_out_and_the_others_are_as_they_are() -> None:
    from bourne.connect.json_lines import read_jsonl  # noqa: PLC0415

    schema = declare_schema({"n": "bigint"}, where="test")
    data = b"".join(b'{"n": %s}\n' % (b"x" if n == 700 else str(n).encode()) for n in range(1000))
    with pytest.raises(InputError):
        list(read_jsonl(io.BytesIO(data), schema, "l", "f"))
    (batch,) = read_jsonl(io.BytesIO(data), schema, "l", "f", leaves_out=True)
    assert batch.table.column("n").to_pylist() == [n for n in range(1000) if n != 700]
    assert [(each.number, each.data) for each in batch.misfits] == [(701, b'{"n": x}')]
