"""Python functions in SQL: what they get and give, what is refused, and that a changed one makes a new version."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bourne
from bourne.errors import DefinitionError, QueryError, SqlError, ViewFailed

ORDERS = {"user": "varchar", "amount": "double"}


def shop(*views: str, schema=ORDERS) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema=schema)
    for number, sql in enumerate(views):
        app.view(f"v{number}", sql)
    return app


def rows(instance, sql="SELECT * FROM v0"):
    return sorted(instance.query(sql).fetchall(), key=repr)


# --- what a function gets and gives ---


def test_both_forms_in_every_place_of_a_view(tmp_path):
    app = shop(
        "SELECT tag(user) AS tag, sum(twice(amount)) AS total FROM orders WHERE twice(amount) > 2 GROUP BY tag(user)",
        "SELECT a.user, b.amount FROM orders a JOIN orders b ON tag(a.user) = tag(b.user) AND twice(a.amount) < b.amount",
        "SELECT user, row_number() OVER (PARTITION BY tag(user) ORDER BY twice(amount)) AS n FROM orders",
    )

    @app.udf(returns="double")
    def twice(amount: float) -> pa.Array:
        assert isinstance(amount, pa.Array)
        return pc.multiply(amount, 2)

    @app.udf(returns="varchar", scalar=True)
    def tag(user: str) -> str:
        return user[0].upper()

    assert tag("ann") == "A"
    with bourne.open(app, data=tmp_path) as instance:
        for batch in ([("ann", 1.0), ("bo", 2.0)], [("al", 3.0), (None, 9.0), ("ann", None)]):
            instance.append("orders", [{"user": user, "amount": amount} for user, amount in batch])
            instance.catch_up()
        assert rows(instance) == [("A", 6.0), ("B", 4.0), (None, 18.0)]
        assert rows(instance, "SELECT * FROM v1") == [("ann", 3.0)]
        assert rows(instance, "SELECT * FROM v2 WHERE user IS NOT NULL") == [
            ("al", 2),
            ("ann", 1),
            ("ann", 3),
            ("bo", 1),
        ]
        assert rows(instance, "SELECT TWICE(3)") == [(6.0,)]


VALUES = {
    "BOOLEAN": True, "TINYINT": -3, "HUGEINT": 10**30, "UBIGINT": 2**64 - 1, "DOUBLE": 1.5, "FLOAT": 0.1,
    "DECIMAL(10,2)": decimal.Decimal("1.25"), "VARCHAR": "é", "BLOB": b"\0a", "DATE": datetime.date(2024, 2, 29),
    "TIME": datetime.time(1, 2, 3, 4), "TIMESTAMP": datetime.datetime(2024, 1, 1, 2, 3, 4, 5),
    "TIMESTAMP WITH TIME ZONE": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "INTERVAL": datetime.timedelta(days=1, seconds=2), "UUID": uuid.UUID(int=7), "VARCHAR[]": ["a", None],
    "INTEGER[2]": [1, 2], "STRUCT(a INTEGER, b VARCHAR)": {"a": 1, "b": "x"}, "MAP(VARCHAR, INTEGER)": [("a", 1)],
}  # fmt: skip


@pytest.mark.parametrize("spelled", VALUES)
@pytest.mark.parametrize("scalar", [True, False])
def test_every_type_comes_and_goes_as_it_is(tmp_path, spelled, scalar):
    app = shop("SELECT same(x) AS y, x FROM orders", schema={"x": spelled})
    app.udf(returns=spelled, name="same", arguments=[spelled], scalar=scalar)(lambda x: x)
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"x": VALUES[spelled]}, {"x": None}])
        instance.catch_up()
        answer = instance.query("SELECT *, y IS NOT DISTINCT FROM x AS is_same FROM v0").to_arrow()
        assert answer.column("is_same").to_pylist() == [True, True]
        assert answer.column("y").null_count == 1


def test_arrays_numpy_arrays_and_lists_are_taken(tmp_path):
    app = shop("SELECT a(amount) AS a, n(amount) AS n, l(amount) AS l, c(amount) AS c FROM orders")
    app.udf(returns="double", name="a", arguments=["double"])(lambda x: x)
    app.udf(returns="double", name="n", arguments=["double"])(lambda x: x.to_numpy() * 2)
    app.udf(returns="bigint", name="l", arguments=["double"])(lambda x: [int(y) for y in x.to_pylist()])
    app.udf(returns="double", name="c", arguments=["double"])(lambda x: pa.chunked_array([x]))
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"amount": float(n)} for n in range(5000)])
        instance.catch_up()
        assert rows(
            instance, "SELECT count(*), sum(a), sum(n), sum(l), sum(c) FROM v0 WHERE n = 2 * l AND a = c"
        ) == [(5000, 12497500.0, 24995000.0, 12497500, 12497500.0)]


def test_nulls_are_asked_for(tmp_path):
    app = shop("SELECT plain(user) AS p, eager(user, amount) AS e FROM orders")
    app.udf(returns="varchar", name="plain", arguments=["varchar"], scalar=True)(lambda x: x or "none")
    app.udf(returns="varchar", name="eager", arguments=["varchar", "double"], scalar=True, nulls=True)(
        lambda x, y: None if y == 1 else f"{x} {y}"
    )
    with bourne.open(app, data=tmp_path) as instance:
        instance.append(
            "orders", [{"user": None, "amount": 2}, {"user": "a", "amount": None}, {"user": "b", "amount": 1}]
        )
        instance.catch_up()
        assert rows(instance) == [("a", "a None"), ("b", None), (None, "None 2.0")]


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(-3, 3)), max_size=6), max_size=5
    )
)
def test_the_answer_is_that_of_the_same_sql_without_python(tmp_path_factory, steps):
    text = "SELECT user, sum({0}) AS s, count(*) FILTER (WHERE {0} > 0) AS n FROM orders WHERE {0} <> 4 GROUP BY user"
    app = shop(text.format("square(amount)"), text.format("(amount * amount)"))
    app.udf(returns="double", arguments=["double"], name="square")(lambda x: pc.multiply(x, x))
    folder = tmp_path_factory.mktemp("law")
    for step in steps:  # opened anew each time
        with bourne.open(app, data=folder) as instance:
            instance.append("orders", [{"user": user, "amount": amount} for user, amount in step])
            instance.catch_up()
            assert rows(instance) == rows(instance, "SELECT * FROM v1")


# --- what fails ---


def failure(tmp_path, function, *, scalar, returns="bigint", amounts=range(10)) -> ViewFailed:
    app = shop("SELECT user, f(amount) AS y FROM orders")
    app.udf(returns=returns, name="f", arguments=["bigint"], scalar=scalar)(function)
    app.logs.clear()
    app.log("orders", schema={"user": "varchar", "amount": "bigint"})
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"user": "u", "amount": amount} for amount in amounts])
        with pytest.raises(ViewFailed) as caught:
            instance.catch_up()
        return caught.value


def raise_at_seven(x):
    values = x.to_pylist() if isinstance(x, pa.Array) else [x]
    if 7 in values:
        raise ValueError("seven\nis too many")
    return x


@pytest.mark.parametrize("scalar", [True, False])
def test_what_it_raises_names_the_view_the_arguments_and_the_offset(tmp_path, scalar):
    error = failure(tmp_path, raise_at_seven, scalar=scalar)
    text = "view 'v0' cannot compute a record: function f(x = 7) raised ValueError: seven is too many (line "
    assert error.what.startswith(text)
    assert error.where == "log 'orders', offset 7"


@pytest.mark.parametrize(
    ("function", "scalar", "message"),
    [
        (lambda x: x.slice(1), False, "returned 0 values for 1 rows"),
        (lambda x: 1, False, "function f returned 1 for 1 rows: an array or a list is expected"),
        (lambda x: "x", False, "function f returned 'x' for 1 rows"),
        (
            lambda x: [2.5] * len(x),
            False,
            r"function f\(x = 3\) returned 2.5 \(float\), which does not fit BIGINT",
        ),
        (
            lambda x: pc.cast(x, pa.string()),
            False,
            r"f\(x = 3\) returned '3' \(string\), which does not fit BIGINT",
        ),
        (lambda x: np.full(len(x), np.nan), False, r"f\(x = 3\) returned .*nan.*, which does not fit BIGINT"),
        (str, True, r"function f\(argument_0 = 3\) returned '3' \(str\), which does not fit BIGINT"),
        (lambda x: 2**63, True, r"returned 9223372036854775808 \(int\), which does not fit BIGINT"),
        (lambda x: "y" * 1000, True, r"returned 'y+… \(str\)"),
        (lambda x: {}[x], True, r"function f\(x = 3\) raised KeyError: 3"),
    ],
)
def test_what_it_returns_has_to_fit(tmp_path, function, scalar, message):
    error = failure(tmp_path, function, scalar=scalar, amounts=[3])
    assert re.search(message, error.what), error.what
    assert error.where == "log 'orders', offset 0"


def test_queries_and_constants_say_it_plainly(tmp_path):
    app = shop("SELECT user FROM orders")
    app.udf(returns="bigint", name="f", arguments=["bigint"], scalar=True)(raise_at_seven)
    with (
        bourne.open(app, data=tmp_path) as instance,
        pytest.raises(QueryError, match=r"answered: function f\(x = 7\) raised ValueError: seven"),
    ):
        instance.query("SELECT f(7)")
    app.view("w", "SELECT f(7) AS y")
    with pytest.raises(SqlError, match=r"a constant cannot be computed: function f\(x = 7\) raised"):
        bourne.open(app, data=tmp_path)


def test_wrong_calls_are_errors_of_the_sql(tmp_path):
    for sql in (
        "SELECT f(user, user) AS x FROM orders",
        "SELECT g(amount) AS x FROM orders",
        "SELECT f([amount]) AS x FROM orders",
    ):
        app = shop(sql)
        app.udf(returns="bigint", name="f", arguments=["bigint"], scalar=True)(lambda x: x)
        with pytest.raises(SqlError):
            bourne.open(app, data=tmp_path)


# --- declarations ---


def of_two(a, b):
    return a


def plain(amount: float, day: datetime.date, price: "decimal(10,2)", note: "str", more: int = 3) -> float:  # noqa: UP037
    return amount


def test_annotations_say_the_types():
    app = bourne.App("shop")
    app.udf(returns="double", scalar=True)(plain)
    assert app.functions["plain"].arguments == ("DOUBLE", "DATE", "DECIMAL(10,2)", "VARCHAR", "BIGINT")
    app.udf(
        returns="double", scalar=True, name="short", arguments=["double", "date", "decimal(4,1)", "varchar"]
    )(plain)
    assert app.functions["short"].names == ("amount", "day", "price", "note")
    app.udf(returns="double", scalar=True, name="root", arguments=["double"])(math.sqrt)
    app.udf(returns="double", name="most", arguments=["double"] * 3)(lambda *values: values[0])
    assert app.functions["most"].names == ("argument_0", "argument_1", "argument_2")


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (of_two, {}, "the type of argument 'a' is not known"),
        (of_two, {"arguments": ["double"]}, "does not take as many arguments"),
        (of_two, {"arguments": ["double"] * 3}, "does not take as many arguments"),
        (of_two, {"arguments": ["double", "dubble"]}, "'dubble' is not a type"),
        (of_two, {"arguments": ["double", float]}, "a type that is no text"),
        (of_two, {"arguments": ["double", "json"]}, "JSON does not pass"),
        (of_two, {"arguments": ["double", "enum('a')"]}, "cannot be stored"),
        (of_two, {"arguments": ["double"] * 2, "returns": "nothing"}, "'nothing' is not a type"),
        (
            of_two,
            {"arguments": ["double"] * 2, "nulls": True},
            "nulls=True is for functions of single values",
        ),
        (of_two, {"arguments": ["double"] * 2, "name": "lower"}, "'lower' means something else in SQL"),
        (of_two, {"arguments": ["double"] * 2, "name": "Coalesce"}, "'Coalesce' means something else in SQL"),
        (of_two, {"arguments": ["double"] * 2, "name": "select"}, "'select' means something else in SQL"),
        (of_two, {"arguments": ["double"] * 2, "name": "tumble"}, "'tumble' means something else in SQL"),
        (of_two, {"arguments": ["double"] * 2, "name": "a b"}, "cannot be a function name"),
        (of_two, {"arguments": ["double"] * 2, "name": "__a"}, "cannot be a function name"),
        (lambda: 1, {"name": "f"}, "a function of nothing is a constant"),
        (lambda x, *, y: 1, {"name": "f", "arguments": ["double"]}, "keyword-only"),
        (3, {"name": "f"}, "this cannot be called"),
        (lambda x: open, {}, "cannot be a function name"),
    ],
)
def test_bad_declarations(function, options, message):
    with pytest.raises(DefinitionError, match=message):
        bourne.App("shop").udf(**{"returns": "double"} | options)(function)


def test_one_name_is_one_function():
    app = bourne.App("shop")
    app.udf(returns="double", arguments=["double"], name="f")(lambda x: x)
    with pytest.raises(DefinitionError, match="declared twice"):
        app.udf(returns="double", arguments=["double"], name="F")(lambda x: x)


# --- versions ---


def version_of(tmp_path, function, sql="SELECT f(amount) AS y FROM orders", **options) -> tuple[int, list]:
    app = shop(sql, "SELECT user FROM orders", "SELECT count(*) AS n FROM v0")
    app.udf(**{"returns": "double", "arguments": ["double"], "name": "f"} | options)(function)
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("orders", [{"user": "a", "amount": 3}])
        instance.catch_up()
        folders = [len(list((tmp_path / "views" / view).iterdir())) for view in ("v0", "v1", "v2")]
        return folders, rows(instance)


def test_a_changed_function_is_a_new_version_of_the_views_that_call_it(tmp_path):
    assert version_of(tmp_path, lambda x: x) == ([1, 1, 1], [(3.0,)])
    assert version_of(tmp_path, lambda x: x) == ([1, 1, 1], [(3.0,), (3.0,)])
    assert version_of(tmp_path, pc.negate) == ([2, 1, 2], [(-3.0,)] * 3)
    assert version_of(tmp_path, lambda x: -x, scalar=True) == ([3, 1, 3], [(-3.0,)] * 4)
    assert version_of(tmp_path, lambda x: -x, scalar=True, nulls=True)[0] == [4, 1, 4]


def test_a_version_stands_for_the_code(tmp_path):
    assert version_of(tmp_path, lambda x: x, version="1") == ([1, 1, 1], [(3.0,)])
    assert version_of(tmp_path, pc.negate, version="1") == ([1, 1, 1], [(-3.0,), (3.0,)])
    assert version_of(tmp_path, pc.negate, version="2") == ([2, 1, 2], [(-3.0,)] * 3)


def test_a_function_that_changes_its_mind_is_noticed_when_epochs_are_run_again(tmp_path: Path) -> None:
    app = bourne.App("a")
    app.log("events", schema={"n": "integer"})
    answers = iter(range(1000))

    @app.udf(returns="integer", arguments=["integer"], scalar=True, version="1")
    def fickle(n: int) -> int:
        return next(answers)

    app.view("v", "SELECT n, max(fickle(n)) AS m FROM events GROUP BY n")
    with bourne.open(app, data=tmp_path) as it:
        it.append("events", [{"n": 1}])
        it.catch_up()
    with bourne.open(app, data=tmp_path) as it, pytest.raises(ViewFailed, match="does not repeat") as caught:
        it.catch_up()
    assert "gives the same answer each time" in str(caught.value)


def test_without_the_app_its_functions_are_not_known_and_it_says_so(tmp_path: Path) -> None:
    app = shop("SELECT twice(amount) AS x FROM orders")
    app.udf(name="twice", returns="double", arguments=["double"], scalar=True)(lambda x: 2 * x)
    bourne.open(app, data=tmp_path).close()
    with bourne.open(data=tmp_path) as instance:
        for ask in (lambda: instance.query("SELECT twice(1)"), lambda: instance.explain("v0")):
            with pytest.raises(
                bourne.BourneError, match=r"twice does not exist(?s:.*)where it declares them \(@app.udf\)"
            ):
                ask()
