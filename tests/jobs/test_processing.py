"""What becomes of rows between reading and writing: SQL and functions, one after the other, and what they are refused for."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bourne.errors import DefinitionError, InputError, SqlError
from bourne.jobs.processing import Processing
from bourne.schema import Column, Schema, declare_schema
from bourne.testing import SimulatedClock
from jobs.running import app_of, csv_rows, run_once

INPUT = Schema((Column("id", "BIGINT"), Column("이름", "VARCHAR")))


def processing(*processes: Any, lookups: Any = None, result: Any = None) -> Processing:
    return Processing(
        processes, INPUT, functions=(), lookups=lookups or {}, result=None if result is None else declare_schema(result, where="step"),
        clock=SimulatedClock(0), where="step 'load'",
    )  # fmt: skip


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "이름": [f"김{n}" for n in ids]}, schema=INPUT.to_arrow())


def test_nothing_changes_nothing():
    assert processing().apply(rows(1, 2)).equals(rows(1, 2))


def test_sql_and_functions_one_after_the_other():
    def double(table: pa.Table) -> pa.Table:
        return table.append_column("twice", pc.multiply(table["id"], 2))

    work = processing(
        'SELECT id, "이름" FROM input WHERE id > 1', double, "SELECT twice + 1 AS n, now() AS at FROM input"
    )
    assert work.schema.names == ("n", "at")
    assert work.apply(rows(1, 2, 3))["n"].to_pylist() == [5, 7]
    work.close()


def test_many_chunks_one_after_the_other_do_not_mix():
    work = processing("SELECT id FROM input")
    for n in range(50):
        assert work.apply(rows(n, n + 1))["id"].to_pylist() == [n, n + 1]
    assert work.apply(rows())["id"].to_pylist() == []


@pytest.mark.parametrize(
    "function", [lambda table: 3, lambda table: None, lambda table: table["nothing"], lambda table: 1 / 0]
)
def test_a_function_that_returns_no_table_for_no_rows_is_refused(function):
    with pytest.raises(DefinitionError, match="which columns function '<lambda>' returns"):
        processing(function)


def test_a_function_may_say_what_it_returns_instead():
    def needs_rows(table: pa.Table) -> pa.Table:
        return pa.table({"first": [table["id"][0].as_py()]})

    work = processing(needs_rows, result={"first": "integer"})
    assert work.schema == Schema((Column("first", "INTEGER"),))
    assert work.apply(rows(7, 8)).to_pylist() == [{"first": 7}]


def test_a_function_whose_columns_change_is_an_error():
    def moody(table: pa.Table) -> pa.Table:
        return table.select(["id"]) if table.num_rows else table

    with pytest.raises(DefinitionError, match="returns other columns"):
        processing(moody).apply(rows(1))


def test_an_error_of_a_value_says_which():
    work = processing('SELECT CAST("이름" AS INTEGER) AS n FROM input')
    with pytest.raises(InputError, match="a row cannot be processed") as caught:
        work.apply(rows(1))
    assert "김1" in str(caught.value.found)
    assert work.apply(rows()).num_rows == 0  # and it goes on


@pytest.mark.parametrize("sql", ["SELECT nothing FROM input", "SELECT id FROM nothing, input", "no SQL", ""])
def test_sql_that_is_wrong_is_refused_at_once(sql):
    with pytest.raises((SqlError, duckdb.Error)) as caught:
        processing(sql)
    assert isinstance(caught.value, SqlError)


@pytest.mark.parametrize("name", ["input", "INPUT"])
def test_a_lookup_cannot_take_the_inputs_name(name):
    with pytest.raises(DefinitionError, match="lookup"):
        processing("SELECT id FROM input", lookups={name: pa.table({"a": [1]})})


def test_lookups_are_files_under_their_names(tmp_path):
    (tmp_path / "in.csv").write_text("id,k\n1,a\n2,b\n3,c\n")
    (tmp_path / "환율.csv").write_text("k,rate\na,1.5\nb,2.5\n")
    app = app_of(
        read=str(tmp_path / "in.csv"), process='SELECT id, rate FROM input LEFT JOIN "환율" USING (k)', size=1,
        lookups={"환율": str(tmp_path / "환율.csv")}, write=str(tmp_path / "out.csv"),
    )  # fmt: skip
    run_once(app, tmp_path / "data")
    assert csv_rows(tmp_path / "out.csv") == [("id", "rate"), ("1", "1.5"), ("2", "2.5"), ("3", "")]


def test_the_apps_functions_are_there_in_sql(tmp_path):
    (tmp_path / "in.csv").write_text("id,k\n1,a\n2,b\n")
    app = app_of(
        read=str(tmp_path / "in.csv"),
        process="SELECT id, shout(k) AS k FROM input",
        write=str(tmp_path / "out.csv"),
    )

    @app.udf(returns="varchar", scalar=True)
    def shout(text: str) -> str:
        return text.upper() + "!"

    run_once(app, tmp_path / "data")
    assert csv_rows(tmp_path / "out.csv")[1:] == [("1", "A!"), ("2", "B!")]
