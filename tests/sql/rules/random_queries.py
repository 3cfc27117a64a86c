"""Random SQL over the tables of `test_answers`, as a Hypothesis strategy: joins, subqueries, aggregates, unions."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

INTEGERS = {"a": ("x", "y"), "b": ("k", "v"), "d": ("p", "q")}


@dataclass(frozen=True)
class Source:
    """Something to select from, and its integer columns."""

    sql: str
    columns: tuple[str, ...]


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Return one query; its columns are named c0, c1, …"""
    return draw(_select(depth=2, outer=()))[0]


@st.composite
def _select(draw: st.DrawFn, depth: int, outer: tuple[str, ...], width: int | None = None) -> tuple[str, int]:
    """Return a SELECT and how many columns it has."""
    if depth and draw(st.integers(0, 9)) == 0:
        first, count = draw(_select(depth - 1, outer, width))
        second, _ = draw(_select(depth - 1, outer, count))
        word = draw(st.sampled_from(["UNION ALL", "UNION"]))
        return f"SELECT * FROM ({first} {word} {second})", count
    source = draw(_source(depth, outer))
    where = draw(st.lists(_predicate(depth, source.columns, outer), max_size=3))
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    count = width or draw(st.integers(1, 3))
    if draw(st.integers(0, 3)) == 0:
        groups = [draw(_value(source.columns)) for _ in range(count - 1)]
        function = draw(st.sampled_from(["count(*)", "sum({})::INTEGER", "max({})", "count({})"]))
        function = function.format(draw(st.sampled_from(source.columns)))
        columns = [*groups, f"({function})::INTEGER"]
        having = draw(st.sampled_from(["", "", " HAVING count(*) > 1"]))
        tail = f" GROUP BY {', '.join(str(i + 1) for i in range(count - 1))}" if groups else ""
        tail += having
    else:
        columns = [draw(_value(source.columns)) for _ in range(count)]
        if depth and draw(st.integers(0, 4)) == 0:
            columns[-1] = draw(_scalar(depth, source.columns))
        tail = ""
    distinct = draw(st.sampled_from(["", "", "", "DISTINCT "]))
    named = ", ".join(f"{column} AS c{i}" for i, column in enumerate(columns))
    return f"SELECT {distinct}{named} FROM {source.sql}{condition}{tail}", count


@st.composite
def _source(draw: st.DrawFn, depth: int, outer: tuple[str, ...]) -> Source:
    # Aliases are unique in a query, so that correlation always means the right table.
    alias = f"t{draw(st.integers(0, 10**9))}"
    shape = draw(st.integers(0, 5)) if depth else 0
    if shape <= 2:
        table = draw(st.sampled_from(sorted(INTEGERS)))
        return Source(f"{table} {alias}", tuple(f"{alias}.{name}" for name in INTEGERS[table]))
    if shape == 3:
        inner, count = draw(_select(depth - 1, ()))
        return Source(f"({inner}) {alias}", tuple(f"{alias}.c{i}" for i in range(count)))
    left, right = draw(_source(depth - 1, outer)), draw(_source(depth - 1, outer))
    kind = draw(
        st.sampled_from(
            [",", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"]
        )
    )
    if kind == ",":
        return Source(f"({left.sql} CROSS JOIN {right.sql})", left.columns + right.columns)
    equal = f"{draw(st.sampled_from(left.columns))} = {draw(st.sampled_from(right.columns))}"
    more = (
        draw(_comparison(left.columns + right.columns))
        if draw(st.booleans()) and kind != "FULL JOIN"
        else "true"
    )
    columns = left.columns if kind in ("SEMI JOIN", "ANTI JOIN") else left.columns + right.columns
    return Source(f"({left.sql} {kind} {right.sql} ON {equal} AND {more})", columns)


@st.composite
def _value(draw: st.DrawFn, columns: tuple[str, ...]) -> str:
    column = draw(st.sampled_from(columns))
    return draw(
        st.sampled_from(["{}", "{}", "{} + 1", "coalesce({}, 1)", "CASE WHEN {} > 1 THEN 1 ELSE 0 END"])
    ).format(column)


@st.composite
def _comparison(draw: st.DrawFn, columns: tuple[str, ...]) -> str:
    symbol = draw(st.sampled_from(["=", "=", "<", ">=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]))
    other = draw(st.one_of(st.sampled_from(columns), st.sampled_from(["0", "1", "2"])))
    return f"{draw(_value(columns))} {symbol} {other}"


@st.composite
def _predicate(draw: st.DrawFn, depth: int, columns: tuple[str, ...], outer: tuple[str, ...]) -> str:
    shape = draw(st.integers(0, 9))
    column = draw(st.sampled_from(columns))
    if shape <= 3 or (shape >= 6 and not depth):
        return draw(_comparison(columns + outer))
    if shape == 4:
        return f"{column} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    if shape == 5:
        first, second = draw(_predicate(depth, columns, outer)), draw(_predicate(depth, columns, outer))
        return f"({first} {draw(st.sampled_from(['OR', 'AND']))} {second})"
    negated = draw(st.sampled_from(["", "NOT "]))
    if shape == 6:
        inner, _ = draw(_select(depth - 1, (), 1))
        return f"{column} {negated}IN ({inner})"
    if shape == 7 and len(columns) > 1:
        inner, _ = draw(_select(depth - 1, (), 2))
        return f"({column}, {draw(st.sampled_from(columns))}) {negated}IN ({inner})"
    if shape == 8:
        return f"{draw(_value(columns))} {draw(st.sampled_from(['=', '<']))} {draw(_scalar(depth, columns))}"
    inner = draw(_subquery(depth, columns))
    return f"{negated}EXISTS ({inner})" if draw(st.booleans()) else f"{column} {negated}IN ({inner})"


@st.composite
def _subquery(draw: st.DrawFn, depth: int, columns: tuple[str, ...], value: str = "{}") -> str:
    """Return a query of one value, correlated with `columns`."""
    source = draw(_source(depth - 1, ()))
    where = draw(st.lists(_predicate(0, source.columns, ()), max_size=1))
    for _ in range(draw(st.integers(0, 2))):
        symbol = draw(st.sampled_from(["=", "=", "=", "<", "<>", "IS NOT DISTINCT FROM"]))
        where.append(f"{draw(st.sampled_from(source.columns))} {symbol} {draw(st.sampled_from(columns))}")
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT {value.format(draw(st.sampled_from(source.columns)))} AS c0 FROM {source.sql}{condition}"


@st.composite
def _scalar(draw: st.DrawFn, depth: int, columns: tuple[str, ...]) -> str:
    function = draw(st.sampled_from(["count(*)", "count({})", "max({})", "sum({})", "min({}) + 1"]))
    return f"({draw(_subquery(depth, columns, function))})"
