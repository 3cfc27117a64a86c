"""Views of a Python function from rows to rows: append-only inputs, inputs that take rows back, and all that is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bourne
from bourne.engine import runner
from bourne.errors import DefinitionError, ViewFailed

COLUMNS = {"user": "varchar", "twice": "bigint"}


def double(rows: pa.Table) -> pa.Table:
    """Drop what has no amount, and give the others once or, from 3 on, twice."""
    rows = rows.filter(pc.is_valid(rows["amount"]))
    rows = pa.concat_tables([rows, rows.filter(pc.greater_equal(rows["amount"], 3))])
    return pa.table({"twice": pc.multiply(rows["amount"], 2), "user": rows["user"]})


SAME_IN_SQL = (
    "SELECT user, amount * 2 AS twice FROM {0} WHERE amount IS NOT NULL UNION ALL "
    "SELECT user, amount * 2 FROM {0} WHERE amount >= 3"
)


def shop(function=double, *, inputs="orders", schema=COLUMNS, **options) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "bigint"})
    app.log("people", schema={"user": "varchar", "amount": "bigint"}, key="user", changes="upsert")
    app.view("totals", "SELECT user, sum(amount)::BIGINT AS amount FROM orders GROUP BY user")
    app.view("v", inputs=inputs, fn=function, schema=schema, **options)
    return app


def append(instance, log, *pairs):
    instance.append(log, [{"user": user, "amount": amount} for user, amount in pairs])


def rows(instance, sql="SELECT * FROM v"):
    return sorted(instance.query(sql).fetchall(), key=repr)


PAIRS = st.tuples(st.sampled_from(["a", "b", "c"]), st.one_of(st.none(), st.integers(0, 5)))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.sampled_from(["orders", "people", "totals"]), st.lists(st.lists(PAIRS, max_size=6), max_size=3))
def test_it_is_what_the_function_makes_of_the_relation_whatever_the_cut(tmp_path_factory, inputs, steps):
    folder = tmp_path_factory.mktemp("law")
    for step in steps:
        with bourne.open(shop(inputs=inputs), data=folder) as instance:
            if step:
                append(instance, "people" if inputs == "people" else "orders", *step)
            instance.catch_up()
            assert rows(instance) == rows(instance, SAME_IN_SQL.format(inputs))


def test_views_go_over_it_and_it_takes_what_is_a_table(tmp_path):
    kinds = {
        "polars": lambda rows: pl.from_arrow(rows).select("user", twice=pl.col("amount") * 2),
        "batch": lambda rows: pa.RecordBatch.from_pydict(
            {"user": rows["user"].combine_chunks(), "twice": rows["amount"].combine_chunks()}
        ),
        "narrow": lambda rows: pa.table({"user": rows["user"], "twice": rows["amount"].cast(pa.int8())}),
    }
    for name, function in kinds.items():
        app = shop(function)
        app.view("over", "SELECT user, sum(twice) AS t FROM v GROUP BY user")
        with bourne.open(app, data=tmp_path / name) as instance:
            append(instance, "orders", ("a", 1), ("a", 2), ("b", 3))
            instance.catch_up()
            factor = 2 if name == "polars" else 1
            assert rows(instance, "SELECT user, t::BIGINT FROM over") == [
                ("a", 3 * factor),
                ("b", 3 * factor),
            ]


def fail_at_two(rows):
    if 2 in rows["amount"].to_pylist():
        raise ValueError("two\nof them")
    return double(rows)


def test_what_it_raises_stops_the_view_or_goes_to_the_log(tmp_path):
    with bourne.open(shop(fail_at_two), data=tmp_path) as instance:
        append(instance, "orders", ("a", 1), ("b", 2), ("c", 3))
        with pytest.raises(ViewFailed) as caught:
            instance.catch_up()
    said = "view 'v' cannot compute a record: function fail_at_two(user = 'b', amount = 2) raised ValueError: two of them"
    assert caught.value.what.startswith(said)
    assert caught.value.where == "log 'orders', offset 1"
    with bourne.open(shop(fail_at_two, on_error="log"), data=tmp_path) as instance:
        instance.catch_up()
        assert rows(instance) == [("a", 2), ("c", 6), ("c", 6)]
        assert rows(instance, "SELECT input_offset, error FROM v_errors")[0][0] == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda rows: [{"user": "a", "twice": 1}], "returned a list, not a table"),
        (lambda rows: None, "returned a NoneType, not a table"),
        (lambda rows: rows, "returned no column 'twice'"),
        (lambda rows: double(rows).append_column("more", double(rows)["user"]), "more"),
        (
            lambda rows: pa.table({"user": ["a"], "twice": [1.5]}),
            r"'twice': a value does not fit BIGINT \(1.5",
        ),
        (lambda rows: pa.table({"user": ["a"], "twice": ["x"]}), "'twice': a value does not fit BIGINT"),
        (lambda rows: double(rows).slice(0, 1), "does not treat each row by itself"),
        (
            lambda rows: pa.table({"user": ["all"], "twice": [rows.num_rows]}),
            "does not treat each row by itself",
        ),
        (
            lambda rows: pa.table({"user": rows["user"], "twice": pc.rank(rows["amount"]).cast("int64")}),
            "row by itself",
        ),
    ],
)
def test_what_it_returns_has_to_be_as_declared(tmp_path, function, message):
    with bourne.open(shop(function), data=tmp_path) as instance:
        append(instance, "orders", ("a", 1), ("b", 4), ("c", 3), ("d", 3))
        with pytest.raises(ViewFailed, match=message):
            instance.catch_up()


def test_nulls_where_none_may_be(tmp_path):
    app = shop(lambda rows: pa.table({"user": rows["user"]}), schema={"user": "varchar not null"})
    with bourne.open(app, data=tmp_path) as instance:
        append(instance, "orders", (None, 1))
        with pytest.raises(ViewFailed, match="NULL in column 'user'"):
            instance.catch_up()


def test_a_changed_function_or_schema_is_a_new_version(tmp_path):
    def triple(rows):
        return pa.table({"user": rows["user"], "twice": pc.multiply(rows["amount"], 3)})

    apps = [
        (shop(), 1), (shop(), 1), (shop(triple), 2), (shop(triple, version="1"), 3), (shop(version="1"), 3),
        (shop(triple, version="2"), 4), (shop(triple, version="2", schema={"user": "varchar", "twice": "hugeint"}), 5),
    ]  # fmt: skip
    for app, version in apps:
        with bourne.open(app, data=tmp_path) as instance:
            instance.catch_up()
        assert len(list((tmp_path / "views" / "v").iterdir())) == version


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": None}, "a function has one input"),
        ({"inputs": ["orders", "people"]}, "a function has one input"),
        ({"inputs": [3]}, "a function has one input"),
        ({"fn": 3}, "fn cannot be called"),
        ({"schema": None}, "a function's columns have to be declared"),
        ({"schema": {}}, "at least one column"),
        ({"schema": {"x": "nothing"}}, "'nothing' is not a type"),
        ({"query": "SELECT 1"}, "a query or a function, not both"),
        ({"fn": None}, "inputs= is for a view of a function"),
        (
            {"fn": None, "inputs": None, "schema": None, "version": "1"},
            "version= is for a view of a function",
        ),
        ({"fn": None, "inputs": None, "schema": None}, "a text or an Ibis expression"),
        ({"inputs": "nothing"}, "nothing"),
        ({"inputs": "w"}, "cannot be put in an order|w"),
    ],
)
def test_bad_declarations(tmp_path, options, message):
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "bigint"})
    with pytest.raises(DefinitionError, match=message):
        app.view("w", **{"inputs": "orders", "fn": double, "schema": COLUMNS} | options)
        bourne.open(app, data=tmp_path)


def test_a_function_may_write_over_what_it_returned(tmp_path, monkeypatch):
    for bound in ("EPOCH_ROWS_MIN", "EPOCH_ROWS_MAX"):
        monkeypatch.setattr(runner, bound, 1000)
    buffer = np.zeros(1 << 12, np.int64)

    def twice(rows):
        amounts = buffer[: rows.num_rows]
        np.multiply(rows["amount"].to_numpy(), 2, out=amounts)
        return pa.table({"twice": amounts})

    with bourne.open(shop(twice, schema={"twice": "bigint"}, version="1"), data=tmp_path) as instance:
        instance.append("orders", pa.table({"user": pa.nulls(20_000, pa.string()), "amount": range(20_000)}))
        instance.catch_up()
        differing = "SELECT amount * 2 FROM orders EXCEPT ALL SELECT twice FROM v"
        assert instance.query(differing).fetchall() == []
