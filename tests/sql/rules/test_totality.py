"""What is said never to fail never fails; what is said to be never true of NULL is not."""

from __future__ import annotations

import functools

import pytest

from bourne.schema import declare_schema
from bourne.sql.bind import bind
from bourne.sql.plan import Expr, Project
from bourne.sql.rules.totality import cannot_fail, rejects_nulls
from bourne.sql.rules.tree import refs
from sql.test_render import COLUMNS, EXPRESSIONS, database


@functools.cache
def bound(text: str) -> Expr:
    plan = bind(f"SELECT {text} AS e FROM t", {"t": declare_schema(COLUMNS, where="t")}).plan
    assert isinstance(plan, Project)
    return plan.expressions[0]


def test_what_cannot_fail_does_not() -> None:
    total = [text for text in EXPRESSIONS[::4] if cannot_fail(bound(text))]
    assert len(total) > 10
    for text in total:
        database().execute(f"SELECT max(({text})::VARCHAR) FROM t").fetchall()


@pytest.mark.parametrize("text", ["CAST(s AS INTEGER)", "i + 1", "i * big", "CAST(big AS INTEGER)", "-i", "abs(i)",
                                  "CAST(w AS DECIMAL(9,2))", "CASE WHEN i > 0 THEN CAST(s AS INTEGER) END",
                                  "i > 0 AND CAST(s AS INTEGER) = 1"])  # fmt: skip
def test_what_may_fail(text: str) -> None:
    assert not cannot_fail(bound(text))


@pytest.mark.parametrize("text", ["i > 1", "NOT (i = 1)", "i IS NOT NULL", "i = 1 AND s = 'u'", "i = 1 OR big < i",
                                  "CAST(i AS BIGINT) + 1 > big", "(i > 1) IS NOT NULL", "i > 1 OR i < 0"])  # fmt: skip
def test_predicates_that_reject_nulls(text: str) -> None:
    predicate = bound(text)
    assert rejects_nulls(predicate, refs(predicate))
    nulls = ", ".join(f"NULL::{kind} AS {name}" for name, kind in COLUMNS.items())
    assert database().execute(f"SELECT ({text}) IS TRUE FROM (SELECT {nulls})").fetchall() == [(False,)]


@pytest.mark.parametrize("text", ["i IS NULL", "coalesce(i, 1) = 1", "i IS DISTINCT FROM 1", "NOT (i IS NOT NULL)",
                                  "i = 1 OR s IS NULL", "i IS NOT DISTINCT FROM big",
                                  "CASE WHEN i > 1 THEN false ELSE true END"])  # fmt: skip
def test_predicates_that_may_be_true_of_nulls(text: str) -> None:
    predicate = bound(text)
    assert not rejects_nulls(predicate, refs(predicate))
