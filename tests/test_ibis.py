"""Views given as Ibis expressions: what they are in SQL, and what is refused."""

from __future__ import annotations

import sys

import pytest

import bourne
from bourne.errors import DefinitionError

ibis = pytest.importorskip("ibis")

TYPES = {
    "a": "boolean", "b": "tinyint", "c": "ubigint", "d": "hugeint", "e": "double", "f": "decimal(10,2)", "g": "varchar",
    "h": "blob", "i": "date", "j": "time", "k": "timestamp", "l": "timestamptz", "m": "interval", "n": "uuid", "o": "json",
    "p": "varchar[]", "q": "struct(x integer, y varchar)", "r": "map(varchar, integer)",
}  # fmt: skip


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar not null", "amount": "decimal(10,2)", "at": "timestamp"})
    app.log("users", schema={"name": "varchar", "city": "varchar", "gone": "boolean"}, key="name", changes="upsert", tombstone="Gone")  # fmt: skip
    return app


def test_a_view_is_the_expression(tmp_path):
    app = shop()
    orders, users = app.ibis("orders"), app.ibis("users")
    assert users.columns == ("name", "city")
    joined = orders.join(users, orders.user == users.name)
    spend = joined.filter(ibis._.amount > 1).group_by("city").agg(total=ibis._.amount.sum(), n=ibis._.count())
    app.view("spend", spend)
    totals = app.ibis("spend", schema={"city": "varchar", "total": "decimal(38,2)"})
    app.view("big", totals.filter(totals.total > 10).select("city"))
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("users", [{"name": "ann", "city": "Rome"}, {"name": "bo", "city": "Oslo"}])
        instance.append(
            "orders",
            [{"user": user, "amount": amount} for user, amount in [("ann", 8), ("bo", 1), ("ann", 5)]],
        )
        instance.catch_up()
        assert [(c, float(t), n) for c, t, n in instance.query("SELECT * FROM spend").fetchall()] == [
            ("Rome", 13.0, 2)
        ]
        assert instance.query("SELECT * FROM big").fetchall() == [("Rome",)]


def test_every_type_goes_through(tmp_path):
    app = bourne.App("shop")
    app.log("things", schema=TYPES)
    app.view("v", app.ibis("things").filter(lambda t: t.b > 1))
    with bourne.open(app, data=tmp_path) as instance:
        instance.append("things", [{"b": 1, "g": "x"}, {"b": 2, "g": "y"}])
        instance.catch_up()
        assert instance.query("SELECT g FROM v").fetchall() == [("y",)]


def test_bad_expressions(monkeypatch):
    app = shop()
    for name in ("nothing", "v"):
        with pytest.raises(DefinitionError, match=f"the columns of '{name}' are not known"):
            app.ibis(name)
    with pytest.raises(DefinitionError, match="a text or an Ibis expression"):
        app.view("v", 3)
    with pytest.raises(DefinitionError, match="Ibis cannot say this expression in SQL"):
        app.view("v", type("Unknown", (), {"__module__": "ibis.expr"})())
    monkeypatch.setitem(sys.modules, "ibis", None)
    with pytest.raises(DefinitionError, match=r"pip install \"bourne\[ibis\]\""):
        app.ibis("orders")
