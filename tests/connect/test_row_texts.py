"""Rows as text: written in columns, the same as value by value."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from bourne.connect.json_text import to_json
from bourne.connect.row_texts import json_rows, text_columns

TEXTS = ["", None, 'a"b', "back\\", "\x00\x1f\x7f", "한🚲", "\u2028", "x" * 50, "NULL", "\n\r\t"]
VALUES = {
    "s": (pa.string(), TEXTS),
    "i": (pa.int64(), [None, 1, -(2**63), 2**63 - 1]),
    "d": (pa.decimal128(38, 2), [None, Decimal("0.10"), Decimal("-5.00"), Decimal("9" * 36 + ".99")]),
    "f": (pa.float64(), [None, 1e16, float("nan"), float("-inf"), -0.0, 0.1, 5e-324]),
    'b"': (pa.bool_(), [None, True, False]),
    "l": (pa.list_(pa.string()), [None, [], [None, 'a"b'], ["한"]]),
    "t": (pa.struct({"나": pa.float64()}), [None, {"나": None}, {"나": 1.5}]),
    "m": (pa.map_(pa.string(), pa.int64()), [None, [], [("a", 1), ("", None)]]),
    "p": (pa.list_(pa.int64(), 2), [None, [1, None]]),
    "none": (pa.null(), [None]),
}


@pytest.mark.parametrize("seed", range(5))
def test_json_rows_are_what_each_value_is_alone(seed):
    chance = random.Random(seed)
    columns = {
        name: pa.array([chance.choice(of) for _ in range(300)], kind) for name, (kind, of) in VALUES.items()
    }
    table = pa.table(columns)
    wanted = [
        "{"
        + ", ".join(
            f"{json.dumps(name, ensure_ascii=False)}: {to_json(value)}" for name, value in row.items()
        )
        + "}"
        for row in table.to_pylist()
    ]
    assert list(json_rows(table)) == wanted
    assert list(json_rows(pa.concat_tables([table, table.slice(7, 50)]))) == wanted + wanted[7:57]
    assert list(json_rows(table.slice(290))) == wanted[290:]
    assert list(json_rows(table.slice(0, 0))) == []
    assert list(json_rows(table.select([]))) == []


def test_values_inside_others_are_beyond_pythons_types():
    rows = "SELECT {'at': TIMESTAMP '290000-01-01', 'far': [INTERVAL '1 month'], 'data': '\\x00'::BLOB} AS x"
    with duckdb.connect() as database:
        table = database.sql(rows).to_arrow_table()
    wanted = '{"at": "290000-01-01 00:00:00", "far": ["1 month"], "data": "\\\\x00"}'
    assert [column.to_pylist() for column in text_columns(table)] == [[wanted]]


def test_json_stays_in_its_line():
    table = pa.table({"x": ['{"a":\n1,\r\n "b": "\\n"}', None]})
    assert list(json_rows(table, json_columns=["x"])) == ['{"x": {"a": 1,   "b": "\\n"}}', '{"x": null}']
