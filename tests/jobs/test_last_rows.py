"""Rows by key: of those with the same key the last one counts, in one chunk as in several."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bourne
from bourne.batch import chunk
from bourne.jobs.last_rows import last_rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3) | st.none(), st.sampled_from("ab"), st.integers(0, 99))))
def test_the_last_row_of_a_key_counts(rows: list[tuple[Any, ...]]) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("n", pa.int64())])
    table = pa.Table.from_pylist([dict(zip("abn", row, strict=True)) for row in rows], schema=schema)
    expected = {row[:2]: (number, row) for number, row in enumerate(rows)}
    found = [tuple(row.values()) for row in last_rows(table, ["a", "b"]).to_pylist()]
    assert found == [row for _, row in sorted(expected.values(), key=lambda each: each[0])]
    assert last_rows(table, []) is table


def test_keys_that_sql_takes_for_equal_are_the_same() -> None:
    table = pa.table(
        {
            "k": [0.0, -0.0, float("nan"), None, float("nan"), None],
            "l": [[1], [1], [2], None, [2], None],
            "n": range(6),
        }
    )
    assert last_rows(table, ["k"]).column("n").to_pylist() == [1, 4, 5]
    assert last_rows(table, ["l"]).column("n").to_pylist() == [1, 4, 5]
    assert last_rows(table, ["k", "l"]).column("n").to_pylist() == [1, 4, 5]


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_file_with_keys_that_come_again(
    kind: str, size: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "in.csv").write_text("id,name\n1,a\n2,b\n1,c\n3,d\n2,e\n")
    database = request.getfixturevalue("database") if kind == "postgres" else f"sqlite:{tmp_path}/out.db"
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return chunk("copy", read=str(tmp_path / "in.csv"), key="id", write=f"{database}?table=t", size=size)

    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.jobs.start("load").status == "COMPLETED"
    expected = [(1, "c"), (2, "e"), (3, "d")]
    if kind == "postgres":
        with pytest.importorskip("psycopg").connect(database) as connection:
            assert connection.execute("SELECT id, name FROM t ORDER BY id").fetchall() == expected
        return
    with closing(sqlite3.connect(tmp_path / "out.db")) as out:
        assert out.execute("SELECT id, name FROM t ORDER BY id").fetchall() == expected
