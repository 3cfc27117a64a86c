"""Random records and random views over them, drawn from what Bourne supports."""

from __future__ import annotations

import datetime
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

SCHEMA = {
    "k": "integer", "tiny": "tinyint", "small": "smallint", "big": "bigint", "utiny": "utinyint",
    "usmall": "usmallint", "uint": "uinteger", "ubig": "ubigint", "huge": "hugeint", "n": "decimal(9,2)",
    "m": "decimal(18,3)", "w": "decimal(30,4)", "f": "float", "d": "double", "b": "boolean", "day": "date",
    "tm": "time", "at": "timestamp", "tz": "timestamptz", "ns": "timestamp_ns", "secs": "timestamp_s",
    "s": "varchar", "kind": "varchar", "bl": "blob", "u": "uuid", "j": "json", "l": "integer[]",
    "st": "struct(a integer, b varchar)",
}  # fmt: skip

_DAY_0 = datetime.datetime(2020, 1, 1)


def _or_null(values: st.SearchStrategy[Any], often: int = 4) -> st.SearchStrategy[Any]:
    return st.one_of(*[values] * often, st.none())


def _ints(bits: int, *, signed: bool) -> st.SearchStrategy[Any]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    edges = st.sampled_from([low, low + 1, 0, 1, high - 1, high])
    return _or_null(st.one_of(st.integers(max(low, -3), 3), edges, st.integers(low, high)))


def _decimals(digits: int, scale: int) -> st.SearchStrategy[Any]:
    edge = 10**digits - 1
    whole = st.one_of(st.integers(-250, 250), st.sampled_from([-edge, edge, 0]), st.integers(-edge, edge))
    return _or_null(whole.map(lambda number: Decimal(f"{number}e-{scale}")))


# Multiples of a quarter, so that sums are exact in whatever order they are added, and everything special.
_FLOATS = st.one_of(
    st.integers(-4000, 4000).map(lambda quarters: quarters / 4),
    st.integers(-4000, 4000).map(lambda quarters: quarters / 4),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf]),
)
_TEXTS = st.one_of(
    st.sampled_from(["", "a", "A", "b", "ab", "é", "한국", "𝄞", "a\0b", "\0", "'", '"', "{x}", "12", "-3.5"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.text("ab", min_size=5, max_size=40),
)
_TIMES_US = st.one_of(st.integers(-50_000_000, 50_000_000), st.integers(-(10**14), 10**14))

_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "k": _or_null(st.integers(0, 3), 9),
    "tiny": _ints(8, signed=True), "small": _ints(16, signed=True), "big": _ints(64, signed=True),
    "utiny": _ints(8, signed=False), "usmall": _ints(16, signed=False), "uint": _ints(32, signed=False),
    "ubig": _ints(64, signed=False),
    "huge": _or_null(st.one_of(st.integers(-3, 3), st.integers(-(10**36), 10**36))),
    "n": _decimals(9, 2), "m": _decimals(18, 3),
    "w": _decimals(30, 4),
    "f": _or_null(_FLOATS), "d": _or_null(_FLOATS),
    "b": _or_null(st.booleans()),
    "day": _or_null(st.one_of(st.integers(0, 3), st.integers(-700_000, 2_900_000))
                    .map(lambda days: datetime.date(1970, 1, 1) + datetime.timedelta(days=days))),
    "tm": _or_null(st.times()),
    "at": _or_null(_TIMES_US.map(lambda us: _DAY_0 + datetime.timedelta(microseconds=us)), 9),
    "tz": _or_null(_TIMES_US.map(lambda us: (_DAY_0 + datetime.timedelta(microseconds=us))
                                 .replace(tzinfo=datetime.UTC))),
    "ns": _or_null(st.integers(-(10**12), 10**12)),
    "secs": _or_null(st.integers(-(10**9), 10**9).map(
        lambda seconds: _DAY_0 + datetime.timedelta(seconds=seconds))),
    "s": _or_null(_TEXTS),
    "kind": _or_null(st.sampled_from(["x", "y", "", "한"]), 9),
    "bl": _or_null(st.one_of(st.sampled_from([b"", b"\0", b"\xff\xfe", b"a"]), st.binary(max_size=9))),
    "u": _or_null(st.one_of(st.integers(0, 2), st.integers(0, 2**128 - 1)).map(lambda n: str(uuid.UUID(int=n)))),
    "j": _or_null(st.sampled_from(['{"a":1}', "[1,2]", "null", '"x"', '{"a":{"b":"é"}}', "3"])),
    "l": _or_null(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=3)),
    "st": _or_null(st.fixed_dictionaries({"a": st.one_of(st.none(), st.integers(0, 3)),
                                          "b": st.one_of(st.none(), st.sampled_from(["", "é"]))})),
}  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Draw records. Most repeat earlier values, so that groups have several rows."""
    pool = draw(st.lists(st.tuples(*_COLUMNS.values()), min_size=1, max_size=6))
    picks = draw(st.lists(st.tuples(*[st.integers(0, len(pool) - 1)] * 4), max_size=24))
    # Columns are mixed from four picks each, so that keys and values vary independently.
    return [tuple(pool[pick[i % 4]][i] for i in range(len(_COLUMNS))) for pick in picks]


# Expressions by type family. `{0}` is a column of that family.
_WHOLE = ["k", "tiny", "small", "utiny", "usmall", "uint"]
_INTEGERS = [*_WHOLE, "big", "ubig", "huge"]
_NUMBERS = [*_INTEGERS, "n", "m", "w", "f", "d"]
_EVERYTHING = [name for name in SCHEMA if name not in ("l", "st")]

_WHOLE_FORMS = [
    "{0}", "{0} + 1", "-{0}::BIGINT", "{0} % 3", "{0} // 2", "abs({0}::BIGINT)", "coalesce({0}, 7)",
    "CASE WHEN {0} > 1 THEN {0} ELSE 0 END", "nullif({0}, 1)", "{0}::BIGINT * 3", "greatest({0}, 2)",
    "({0}::BIGINT & 6)", "CASE {0} WHEN 0 THEN 10 WHEN 1 THEN NULL END", "if({0} IS NULL, -1, 1)",
    "TRY_CAST(s AS INTEGER)", "length(s)", "len(l)", "st.a", "date_part('hour', at)", "strlen(kind)",
    "list_sum(l)", "epoch_us(at) // 1000000", "({0} > 1)::INTEGER", "extract(dow FROM day)", "TRY(1 // {0})",
]  # fmt: skip
_TEXT_FORMS = [
    "{0}", "upper({0})", "{0} || '한'", "coalesce({0}, '∅')", "left({0}, 1)", "replace({0}, 'a', '''')",
    "{0}::VARCHAR", "concat({0}, k)", "k::VARCHAR", "b::VARCHAR", "day::VARCHAR", "n::VARCHAR", "trim({0})",
    "reverse({0})", "substring({0}, 2, 2)", "regexp_replace({0}, '[ab]+', '<x>')", "st.b", "lower({0})",
    "CASE WHEN b THEN 'yes' WHEN NOT b THEN 'no' ELSE '{{' END", "j->>'a'", "u::VARCHAR", "typeof(k)",
    "strftime(at, '%Y-%m-%d %H')", "md5({0})", "format('{{}}-{{}}', k, kind)", "{0}[1]", "at::VARCHAR",
]  # fmt: skip
_TEST_FORMS = [
    "k > 1", "k IN (0, 2)", "k NOT IN (1, NULL)", "k BETWEEN 1 AND 2", "s LIKE 'a%'", "s <> ''", "b", "NOT b",
    "b IS TRUE", "d > 0", "d = d", "isnan(d)", "n >= 0.5", "at > TIMESTAMP '2020-01-01'", "kind = 'x' OR k = 0",
    "(k > 0 AND b) OR kind IS NULL", "s IS NOT NULL", "k IS DISTINCT FROM 1", "huge > 1", "ubig > 5",
    "day < DATE '1970-01-03'", "true", "false", "NULL", "l[1] > 0", "st IS NULL", "kind ILIKE 'X'", "bl <> ''",
    "starts_with(s, 'a')", "u > '80000000-0000-0000-0000-000000000000'", "w * 2 > 1", "n + k > 1",
]  # fmt: skip
_TIME_FORMS = [
    "at", "date_trunc('hour', at)", "at + INTERVAL 1 MONTH", "time_bucket(INTERVAL '10 seconds', at)",
    "tz", "ns", "secs", "at::DATE", "day", "tm", "date_trunc('minute', tz)", "at::TIMESTAMPTZ",
]  # fmt: skip
_NUMBER_FORMS = [
    "{0}", "n + 1", "n * 2", "n * k", "m - n", "w + n", "-n", "n / 4", "d * 2", "f + 1", "d::FLOAT", "n::DOUBLE",
    "k / 4", "round(n, 1)", "coalesce(n, 0)", "floor(d)", "n * 1.5", "abs(m)", "huge + 1", "n % 3", "tiny::DOUBLE",
    "sign(d)", "d IS NULL", "CASE WHEN isfinite(d) THEN d END",
]  # fmt: skip
_OTHER_FORMS = ["bl", "u", "j", "b", "u::VARCHAR", "bl || bl", "(k > 1)", "b OR k > 1"]


def _form(forms: list[str], columns: list[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(forms), st.sampled_from(columns)).map(
        lambda pair: pair[0].format(pair[1])
    )


_WHOLE_TEXT = _form(_WHOLE_FORMS, _WHOLE)
_KEYS = st.one_of(
    st.sampled_from(["k", "kind"]), st.sampled_from(["k", "kind", "b", "tiny"]),
    st.sampled_from(_EVERYTHING), _WHOLE_TEXT, _form(_TEXT_FORMS, ["s", "kind"]), st.sampled_from(_TIME_FORMS),
    _form(["{0}"], ["f", "d", "n", "w", "huge", "ubig"]), st.sampled_from(_OTHER_FORMS),
)  # fmt: skip
_ANY = st.one_of(
    _WHOLE_TEXT, _form(_TEXT_FORMS, ["s", "kind"]), st.sampled_from(_TIME_FORMS), st.sampled_from(_OTHER_FORMS),
    _form(_NUMBER_FORMS, _NUMBERS), st.sampled_from([*SCHEMA]),
    st.sampled_from(["1", "'x'", "l", "st", "[k, 1]", "{'a': k, 'b': kind}", "list_contains(l, 1)", "st.b",
                     "TIMESTAMP '2020-01-01' - at", "k IN (1, 2)", "NULL::INTEGER", "at - INTERVAL 1 DAY"]),
)  # fmt: skip
_SUMMED = st.one_of(_WHOLE_TEXT, _form(_NUMBER_FORMS, _NUMBERS), st.sampled_from(_NUMBERS))
_COMPARED = st.one_of(
    _SUMMED, _form(_TEXT_FORMS, ["s", "kind"]), st.sampled_from(_TIME_FORMS), st.sampled_from(_OTHER_FORMS),
    st.sampled_from(_EVERYTHING),
)  # fmt: skip
_SAFE_SUM = st.sampled_from([name for name in _NUMBERS if name not in ("huge", "w")])
_AGGREGATES = st.one_of(
    st.just("count(*)"),
    _ANY.filter(lambda text: text != "NULL").map("count({})".format),
    st.sampled_from([*_NUMBERS, "b"]).map("sum({})".format),
    _SAFE_SUM.map("avg({})".format),
    _SUMMED.map(lambda text: f"sum(({text})::DOUBLE)"),
    _WHOLE_TEXT.map("sum({})".format), _WHOLE_TEXT.map("avg({})".format),
    _COMPARED.map("min({})".format), _COMPARED.map("max({})".format),
    st.sampled_from(["sum(n * k)", "sum(n + 1)", "avg(n * 2)", "sum(b)", "avg(huge)", "avg(w)", "min(b)"]),
)  # fmt: skip
_HAVINGS = st.sampled_from([
    "count(*) > 1", "count(*) % 2 = 0", "count(*) % 2 = 1 OR max(k) > 1", "max(k) < 2", "min(s) = 'a'",
    "sum(k) IS NULL", "count(b) < 2", "sum(tiny) > 0", "true", "false", "max(kind) IS NOT NULL",
])  # fmt: skip
_AFTER = st.sampled_from(["{0}", "{0}", "{0}", "({0}) IS NULL", "coalesce(({0})::VARCHAR, '-')", "[{0}] IS NULL",
                          "CASE WHEN count(*) > 2 THEN {0} END"])  # fmt: skip
_ROUNDED = re.compile(r"^avg|DOUBLE|^sum\([df]\)")
_WIDTHS = ["INTERVAL '10 seconds'", "INTERVAL 7 SECONDS", "INTERVAL '1 minute'", "INTERVAL '1 day'",
           "INTERVAL '0.5 seconds'", "INTERVAL 1 WEEK", "INTERVAL '36 hours'"]  # fmt: skip


@st.composite
def _sources(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """Draw (CTEs, FROM clause, additional columns). Whatever is drawn has all the log's columns."""
    kind = draw(
        st.sampled_from(["plain", "plain", "plain", "tumble", "tumble", "subquery", "cte", "cte2", "alias"])
    )
    test = draw(st.sampled_from(_TEST_FORMS))
    width = draw(st.sampled_from(_WIDTHS))
    column = draw(st.sampled_from(["at", "at", "tz"]))
    tumble = f"TUMBLE(events, {column}, {width})"
    window = ["window_start", "window_end"]
    choices: dict[str, Callable[[], tuple[str, str, list[str]]]] = {
        "plain": lambda: ("", "events", []),
        "tumble": lambda: ("", tumble, window),
        "subquery": lambda: ("", f"(SELECT * FROM events WHERE {test}) AS t", []),
        "cte": lambda: (f"WITH c AS (SELECT * FROM {tumble} AS x WHERE {test}) ", "c", window),
        "cte2": lambda: (
            f"WITH a AS (SELECT *, k + 1 AS k1 FROM events), c AS (SELECT * FROM a WHERE {test}) ", "c", ["k1"],
        ),
        "alias": lambda: ("", "events AS e", []),
    }  # fmt: skip
    return choices[kind]()


@st.composite
def views(draw: st.DrawFn) -> str:
    """Draw a view."""
    with_, source, extra = draw(_sources())
    where = f" WHERE {draw(st.sampled_from(_TEST_FORMS))}" if draw(st.integers(0, 3)) == 0 else ""
    if draw(st.integers(0, 4)) == 0:
        picked = draw(st.lists(st.one_of(_ANY, st.sampled_from([*extra, "k"])), min_size=1, max_size=5))
        columns = ", ".join(f"{text} AS c{i}" for i, text in enumerate(picked))
        everything = draw(st.integers(0, 5)) == 0
        return f"{with_}SELECT {'*' if everything else columns} FROM {source}{where}"
    keys = draw(
        st.lists(st.one_of(_KEYS, st.sampled_from(extra)) if extra else _KEYS, max_size=4, unique=True)
    )
    aggregates = draw(st.lists(_AGGREGATES, min_size=0 if keys else 1, max_size=5))
    shown = [(text, f"k{i}_") for i, text in enumerate(keys) if draw(st.integers(0, 4))]
    # The text of a rounded float is not compared.
    shown += [
        (text if _ROUNDED.search(text) else draw(_AFTER).format(text), f"a{i}")
        for i, text in enumerate(aggregates)
    ]
    if not shown:
        shown = [("count(*)", "c")]
    having = f" HAVING {draw(_HAVINGS)}" if draw(st.integers(0, 3)) == 0 else ""
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    columns = ", ".join(f"{text} AS {name}" for text, name in shown)
    sql = f"{with_}SELECT {columns} FROM {source}{where}{group}{having}"
    outer = draw(st.integers(0, 7))
    if outer == 0:
        return f"SELECT * FROM ({sql}) AS o WHERE {shown[-1][1]} IS NOT NULL"
    if outer == 1:
        return f"SELECT {shown[0][1]} AS x, 1 AS one FROM ({sql}) AS o"
    return sql
