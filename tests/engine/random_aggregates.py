"""The aggregate and window functions that random queries are made of: templates as in `random_expressions`.

Law: each has one right value for a multiset of rows. So `list` and `string_agg` order by what they collect, and
`arg_max` compares rows that hold what it returns.
"""

from __future__ import annotations

# By the family of the value, which is exact.
AGGREGATES: dict[str, tuple[str, ...]] = {
    "integer": (
        "count(*)", "count(*)", "count({x})", "count({x})", "count(DISTINCT {x})", "sum({i})", "sum({i})",
        "CAST(sum({i}) AS BIGINT)", "min({i})", "max({i})", "sum(DISTINCT {i})", "min({i})", "max({i})",
        "bit_and(CAST({i} AS BIGINT))", "bit_or(CAST({i} AS BIGINT))", "bit_xor(CAST({i} AS BIGINT))",
        "first({i1} ORDER BY {x}, {i1})", "last({i1} ORDER BY {x} DESC, {i1})", "arg_max({i1}, {{'k': {x}, 'v': {i1}}})",
        "arg_min({i1}, row({x}, {i1}))", "quantile_disc({i}, 0.3)", "count_if({b})", "approx_count_distinct({x})",
        "any_value({i1} ORDER BY {i1})", "count(DISTINCT {v} || 'z')", "max(year({d}))", "quantile_disc({i}, 0.5)",
    ),
    "decimal": ("sum({m})", "sum({m})", "min({m})", "max({m})", "first({m1} ORDER BY {m1} DESC)", "sum(DISTINCT {m})",
                "quantile_disc({m}, 0.75)", "arg_max({m1}, {{'k': {x}, 'v': {m1}}})"),
    "double": ("sum({f})", "sum({f})", "min({f})", "max({f})", "median({f})", "median({i})", "sum(DISTINCT {f})",
               "quantile_cont({f}, 0.5)", "fsum({f})", "quantile_cont({i}, 0.25)"),
    "varchar": ("min({v})", "max({v})", "string_agg({v1}, ',' ORDER BY {v1})", "string_agg({v1}, '' ORDER BY {x}, {v1} DESC)",
                "string_agg(DISTINCT {v1}, ';' ORDER BY {v1})", "arg_min({v1}, {{'k': {x}, 'v': {v1}}})", "first({v1} ORDER BY {v1})",
                "listagg({v1}, '|' ORDER BY {i} DESC, {v1})", "quantile_disc({v}, 0.5)"),
    "boolean": ("bool_and({b})", "bool_or({b})", "min({b})", "max({b})", "count(*) > 2"),
    "date": ("min({d})", "max({d})", "arg_max({d1}, {{'k': {x}, 'v': {d1}}})", "quantile_disc({d}, 0.5)", "last({d1} ORDER BY {d1})"),
    "timestamp": ("min({t})", "max({t})", "arg_min({t1}, {{'k': {x}, 'v': {t1}}})", "median({t})", "median({d})"),
    "list": ("min({l})", "max({l})", "first({l1} ORDER BY {x}, {l1})"),
    "struct": ("min({s})", "max({s})", "arg_max({s1}, {{'k': {i}, 'v': {s1}}})"),
}  # fmt: skip

# Exact, of types that only the output has.
GROWN = (
    "list({x1} ORDER BY {x1})", "list({x1} ORDER BY {x2}, {x1} DESC)", "list(DISTINCT {x1} ORDER BY {x1})",
    "array_agg({x1} ORDER BY {x1} DESC NULLS LAST)", "max({i}, 2)", "min({v}, 3)", "arg_max({i1}, {{'k': {x}, 'v': {i1}}}, 2)",
    "median({m})", "quantile_disc({i}, [0.25, 0.75])", "histogram({i})",
    "sum({m} * {m})", "mad({i})",
)  # fmt: skip

# Right up to rounding.
INEXACT_AGGREGATES = (
    "avg({i})", "avg({i})", "avg({f})", "avg({m})", "stddev({i})", "stddev_pop({f})", "var_samp({f})", "variance({i})",
    "var_pop({m})", "avg(DISTINCT {f})", "covar_pop({f}, {i})", "covar_samp({f}, {f})", "corr({f}, {i})",
    "quantile_cont({f}, 0.3)", "regr_slope({f}, {i})", "avg({d})", "entropy({i})", "product({f})",
    "sem({f})", "sum({f} * 0.1::DOUBLE)", "sum(({i} % 5) / 3.0::DOUBLE)", "avg({f} * 0.7::DOUBLE)", "regr_count({f}, {i})", "skewness({f})", "kurtosis({i})",
)  # fmt: skip

# Functions of a row's place, over the one total order; the first four need no more.
RANKS = ("row_number()", "row_number()", "ntile(3)", "row_number()")
ROW_WINDOWS = (
    "lag({x})", "lag({x}, 2)", "lead({x})", "lead({x1}, 1, {x1})", "first_value({x})", "last_value({x})",
    "nth_value({x}, 2)", "lag({x} IGNORE NULLS)", "first_value({x} IGNORE NULLS)", "last_value({x} IGNORE NULLS)",
)  # fmt: skip

# Aggregates with OVER, by the family of the value.
WINDOWS: dict[str, tuple[str, ...]] = {
    "integer": ("count(*)", "count({x})", "sum({i})", "min({i})", "max({i})", "count(DISTINCT {x})"),
    "decimal": ("sum({m})", "min({m})", "max({m})"),
    "double": ("sum({f})", "min({f})", "max({f})", "median({f})"),
    "varchar": ("min({v})", "max({v})", "string_agg({v1}, ',' ORDER BY {v1})"),
    "boolean": ("bool_and({b})", "bool_or({b})"),
    "date": ("min({d})", "max({d})"),
    "timestamp": ("min({t})", "max({t})"),
    "list": ("min({l})", "max({l})"),
    "struct": ("min({s})", "max({s})"),
}  # fmt: skip
