"""Records that cannot be computed: the view goes on without them, and its error log has each of them once."""

from __future__ import annotations

import json

import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bourne
from bourne.engine.runner import ViewRunner
from bourne.errors import DefinitionError, DiskFull, ViewFailed

TOTALS = "SELECT user, sum(CAST(amount AS BIGINT)) AS total, count(*) AS n FROM orders GROUP BY user"


def shop(sql=TOTALS, *, on_error="log", partitions=1) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "varchar"}, key="user", partitions=partitions)
    app.view("v", sql, on_error=on_error, grows=True)
    return app


def append(instance, *pairs):
    instance.append("orders", [{"user": user, "amount": amount} for user, amount in pairs])


def rows(instance, sql="SELECT * FROM v"):
    return sorted(instance.query(sql).fetchall(), key=repr)


def errors(instance):
    return sorted(instance.query("SELECT input, input_partition, input_offset FROM v_errors").fetchall())


def test_the_view_goes_on_without_them_and_the_log_says_why(tmp_path):
    with bourne.open(shop(), data=tmp_path) as instance:
        append(instance, ("a", "1"), ("b", "x"), ("a", "2"), ("c", None))
        instance.catch_up()
        assert rows(instance) == [("a", 3, 2), ("c", None, 1)]
        ((key, version, name, partition, offset, error, record),) = rows(instance, "SELECT * FROM v_errors")
        assert (key, version, name, partition, offset) == ("1/orders/0/1", 1, "orders", 0, 1)
        assert "Could not convert string 'x'" in error
        assert json.loads(record) == {"user": "b", "amount": "x"}
        assert [record["input_offset"] for record in instance.tail("v_errors").to_pylist()] == [1]


AMOUNTS = st.sampled_from(["1", "2", "x", "", None])
STEPS = st.lists(st.lists(st.tuples(st.sampled_from("abc"), AMOUNTS), max_size=8), max_size=3)
VIEWS = [
    TOTALS,
    "SELECT user, CAST(amount AS BIGINT) AS amount FROM orders WHERE CAST(amount AS BIGINT) > 1",
    "SELECT user, CAST(amount AS BIGINT) AS amount FROM orders UNION ALL SELECT 'all', 1 FROM orders",
    "SELECT DISTINCT a.user, b.n FROM orders a JOIN (SELECT CAST(amount AS BIGINT) AS n, user FROM orders) b ON a.user = b.user",
]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(STEPS, st.sampled_from(VIEWS), st.sampled_from([1, 3]))
@example([[("a", "x")], [("a", "x"), ("b", "1")]], TOTALS, 1)
def test_it_is_the_sql_over_the_rest_whatever_the_cut(tmp_path_factory, steps, sql, partitions):
    folder = tmp_path_factory.mktemp("law")
    app = shop(sql, partitions=partitions)
    rest = sql.replace("orders", "(SELECT * FROM orders WHERE amount IS NULL OR amount IN ('1', '2'))")
    for step in steps:  # opened anew each time: recorded epochs are run again, without the same records
        with bourne.open(app, data=folder) as instance:
            if step:
                append(instance, *step)
            instance.catch_up()
            assert rows(instance) == rows(instance, rest)
            assert len(errors(instance)) == len(set(errors(instance)))
            assert rows(instance, "SELECT count(*) FROM v_errors") == rows(
                instance, "SELECT count(*) FROM orders WHERE amount IN ('x', '')"
            )


def test_a_crash_between_error_and_commit_shows_nowhere(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DiskFull("no space")

    with bourne.open(shop(), data=tmp_path) as instance:
        append(instance, ("a", "1"), ("b", "x"))
        with monkeypatch.context() as patch:
            patch.setattr(ViewRunner, "_commit", fail)
            with pytest.raises(DiskFull):
                instance.catch_up()
        assert errors(instance) == [("orders", 0, 1)]
        assert rows(instance) == []
    with bourne.open(shop(), data=tmp_path) as instance:
        append(instance, ("b", "y"))  # the epoch is another one now
        instance.catch_up()
        assert errors(instance) == [("orders", 0, 1), ("orders", 0, 2)]
        assert rows(instance) == [("a", 1, 1)]


def test_recorded_epochs_are_run_again_without_the_same_records(tmp_path):
    def app(function) -> bourne.App:
        made = shop("SELECT user, count(f(amount)) AS n FROM orders GROUP BY user")
        made.udf(returns="varchar", arguments=["varchar"], scalar=True, name="f", version="1")(function)
        return made

    def picky(amount):
        if amount == "x":
            raise ValueError("an x")
        return amount

    with bourne.open(app(picky), data=tmp_path) as instance:
        append(instance, ("a", "x"), ("a", "1"), ("b", "2"), ("b", "x"), ("b", "x"))
        instance.catch_up()
        assert rows(instance, "SELECT error FROM v_errors")[0][0].startswith(
            "function f(amount = 'x') raised ValueError: an x"
        )
    with bourne.open(app(lambda amount: amount), data=tmp_path) as instance:
        append(instance, ("a", "x"), ("c", "x"))
        instance.catch_up()
        assert rows(instance) == [("a", 2), ("b", 1), ("c", 1)]
        assert errors(instance) == [("orders", 0, 0), ("orders", 0, 3), ("orders", 0, 4)]


def test_many_of_many(tmp_path):
    with bourne.open(shop(), data=tmp_path) as instance:
        append(instance, *(("a", "x" if number % 100 == 7 else "1") for number in range(2000)))
        instance.catch_up()
        assert rows(instance) == [("a", 1980, 1980)]
        assert errors(instance) == [("orders", 0, offset) for offset in range(7, 2000, 100)]


def test_what_is_not_one_records_mistake_fails_the_view(tmp_path):
    big = "sum(CAST(amount AS HUGEINT)) AS total FROM orders"
    with bourne.open(shop(f"SELECT user, {big} GROUP BY user"), data=tmp_path / "sum") as instance:
        append(instance, ("a", "9" * 38), ("b", "x"), ("a", "9" * 38))
        with pytest.raises(ViewFailed, match="offset 0 to 2"):
            instance.catch_up()
    app = shop("SELECT user, f(amount) AS y FROM orders")

    @app.udf(returns="varchar", arguments=["varchar"])
    def f(amounts):
        if len(set(amounts.to_pylist())) > 1:
            raise ValueError("not alike")
        return pc.utf8_upper(amounts)

    with bourne.open(app, data=tmp_path / "rows") as instance:
        append(instance, ("a", "x"), ("b", "y"))
        with pytest.raises(ViewFailed, match="function f of 2 rows raised ValueError: not alike"):
            instance.catch_up()
        assert errors(instance) == []


def test_after_those_left_out_the_place_of_a_failure_is_still_right(tmp_path):
    sql = "SELECT user, CAST(max(amount) AS BIGINT) AS m FROM orders WHERE CAST(left(amount, 1) AS BIGINT) > 0 GROUP BY user"
    with bourne.open(shop(sql), data=tmp_path) as instance:
        append(instance, ("a", "x"), ("a", "1"), ("a", "x"), ("b", "1x"), ("a", "x"))
        with pytest.raises(ViewFailed, match="log 'orders', offset 3"):
            instance.catch_up()


def test_failing_is_the_default_and_another_way_is_another_version(tmp_path):
    for on_error, version in (("fail", 1), ("log", 2), ("log", 2), ("fail", 3)):
        with bourne.open(shop(on_error=on_error), data=tmp_path) as instance:
            if version == 1:
                append(instance, ("a", "1"), ("a", "x"))
            if on_error == "fail":
                with pytest.raises(ViewFailed, match="offset 1"):
                    instance.catch_up()
            else:
                instance.catch_up()
                assert rows(instance) == [("a", 1, 1)]
            assert len(list((tmp_path / "views" / "v").iterdir())) == version


def test_views_may_read_the_errors_of_others(tmp_path):
    app = shop()
    app.view("alarm", "SELECT input, count(*) AS n FROM v_errors GROUP BY input")
    with bourne.open(app, data=tmp_path) as instance:
        for known in (2, 4):
            append(instance, ("a", "x"), ("a", "y"))
            instance.catch_up()
            assert rows(instance, "SELECT * FROM alarm") == [("orders", known)]


def test_errors_of_views_over_views_over_errors(tmp_path):
    app = shop()
    app.log("rates", schema={"rate": "varchar"})
    app.view("places", "SELECT CAST(right(record, 3)[:1] AS BIGINT) AS n FROM v_errors", on_error="log")
    app.view("alarm", "SELECT (SELECT count(*) FROM places_errors) AS wrong, (SELECT count(*) FROM places) AS fine, "
             "(SELECT count(*) FROM v_errors) AS n, (SELECT count(*) FROM rates) AS rates")  # fmt: skip
    with bourne.open(app, data=tmp_path) as instance:
        for known in (1, 2):
            append(instance, ("a", "x"), ("b", "y5"), ("c", "1"))
            instance.append("rates", [{"rate": "1"}])
            instance.catch_up()
            assert rows(instance, "SELECT * FROM alarm") == [(known, known, 2 * known, known)]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"v": "SELECT input FROM v_errors"}, "view 'v' depends on the log of what it goes on without"),
        (
            {"w": "SELECT input FROM v_errors", "v": "SELECT input FROM w"},
            "depends on the log of what it goes on without",
        ),
        ({"v": "SELECT name FROM users"}, "a record of 'users' that cannot be computed cannot be left out"),
        (
            {"w": "SELECT count(*) AS n FROM orders", "v": "SELECT n FROM w"},
            "a record of 'w' that cannot be computed",
        ),
    ],
)
def test_error_logs_that_cannot_be_kept(tmp_path, views, message):
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar"})
    app.log("users", schema={"name": "varchar"}, key="name", changes="upsert")
    for name, sql in views.items():
        app.view(name, sql, on_error="log" if name == "v" else "fail")
    with pytest.raises(DefinitionError, match=message):
        bourne.open(app, data=tmp_path)


def test_names_and_words():
    app = shop()
    with pytest.raises(DefinitionError, match="'V_errors' is taken"):
        app.log("V_errors", schema={"x": "int"})
    app.log("w_errors", schema={"x": "int"})
    with pytest.raises(DefinitionError, match="'w_errors' is taken"):
        app.view("w", TOTALS, on_error="log")
    with pytest.raises(DefinitionError, match="no such way to take errors"):
        app.view("u", TOTALS, on_error="skip")
