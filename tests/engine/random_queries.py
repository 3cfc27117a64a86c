"""Random analytical SQL over given relations: joins, aggregates, windows, set operations, subqueries, nested.

Law: a query has one right answer, whatever the order of the rows, down to rows that are equal in every column: where
SQL leaves ties open, all columns in scope are added as a total order. At most one OVER clause of a SELECT can tell
equal rows apart. What is right only up to rounding (averages, deviations) stands in the output and nowhere else.

A query that DuckDB does not bind is not an error here: `draw_query` draws again. Types are asked of DuckDB, so that
nothing here knows how it types a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import duckdb

from engine.random_aggregates import AGGREGATES, GROWN, INEXACT_AGGREGATES, RANKS, ROW_WINDOWS, WINDOWS
from engine.random_expressions import FAMILIES, LITERALS, TYPE_OF, Column, Expressions, Scope, family_of

Describe = Callable[[str], list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Query:
    """SQL and its output columns; `sql` of a column is its name."""

    sql: str
    columns: tuple[Column, ...]
    is_ordered: bool = False  # it ends in an ORDER BY already


@dataclass(slots=True)
class Place:
    """Where in the query something is drawn: how deep it may still nest, and what it can read."""

    depth: int
    tables: Mapping[str, tuple[Column, ...]]
    ctes: tuple[str, ...] = ()
    wanted: tuple[str, ...] = field(default=())  # families of the output columns, if they are given
    is_exact: bool = False  # nothing that is right only up to rounding may come out

    def inside(self, **changes: object) -> Place:
        """Return a place one level deeper."""
        values = {name: getattr(self, name) for name in self.__slots__} | {"depth": self.depth - 1} | changes
        return Place(**values)


class Queries(Expressions):
    """Draws queries. `describe` returns a query's columns or raises duckdb.Error."""

    def __init__(self, random: Random, describe: Describe) -> None:
        super().__init__(random)
        self.describe = describe
        self.names = 0

    def name(self, prefix: str) -> str:
        """Return a name that nothing else in the query has."""
        self.names += 1
        return f"{prefix}{self.names}"

    # Queries.

    def query(self, place: Place) -> Query:
        """Draw a query: a SELECT, perhaps with common table expressions, set operations, ORDER BY and LIMIT."""
        if place.depth > 0 and self.chance(0.16):
            return self.with_ctes(place)
        if place.depth > 0 and self.chance(0.16):
            return self.limited(self.set_operation(place), place)
        if self.chance(0.02):
            return self.values(place)
        return self.limited(self.select(place), place)

    def with_ctes(self, place: Place) -> Query:
        """Draw a WITH, whose tables are read once, several times or not at all."""
        tables, definitions = dict(place.tables), list(place.ctes)
        own: list[str] = []
        for _ in range(self.random.choice([1, 1, 2])):
            name = self.name("cte")
            inner = self.query(place.inside(tables=tables, ctes=tuple(definitions), wanted=(), is_exact=True))
            hint = self.random.choice(["", "", "", "MATERIALIZED ", "NOT MATERIALIZED "])
            own.append(f"{name} AS {hint}({inner.sql})")
            definitions.append(own[-1])
            tables = (
                {name: inner.columns} | {name + "\0": inner.columns} | tables
            )  # twice as likely to be read
        below = self.query(place.inside(tables=tables, ctes=tuple(definitions)))
        body = f"({below.sql})" if below.sql.startswith("WITH") else below.sql
        return Query(f"WITH {', '.join(own)} {body}", below.columns)

    def set_operation(self, place: Place) -> Query:
        """Draw UNION, EXCEPT or INTERSECT, with or without ALL."""
        wanted = place.wanted or tuple(
            self.random.choice(FAMILIES) for _ in range(self.random.choice([1, 1, 2, 3]))
        )
        inner = place.inside(wanted=wanted, is_exact=True)
        words = [
            "UNION",
            "UNION ALL",
            "UNION ALL",
            "EXCEPT",
            "EXCEPT ALL",
            "INTERSECT",
            "INTERSECT ALL",
            "UNION BY NAME",
        ]
        sides = [self.query(inner) for _ in range(self.random.choice([2, 2, 2, 3]))]
        sql = f"({sides[0].sql})"
        for side in sides[1:]:
            sql = f"({sql} {self.random.choice(words)} ({side.sql}))" if self.chance(0.5) else (
                f"{sql} {self.random.choice(words)} ({side.sql})"
            )  # fmt: skip
        return Query(sql, sides[0].columns)

    def values(self, place: Place) -> Query:
        """Draw constant rows."""
        families = place.wanted or ("integer", "varchar")
        rows = ", ".join(
            "("
            + ", ".join(f"CAST({self.random.choice(LITERALS[f])} AS {TYPE_OF[f]})" for f in families)
            + ")"
            for _ in range(self.random.randint(1, 4))
        )
        names = [f"c{i}" for i in range(len(families))]
        sql = f"SELECT * FROM (VALUES {rows}) AS {self.name('v')}({', '.join(names)})"
        return Query(sql, tuple(Column(n, TYPE_OF[f]) for n, f in zip(names, families, strict=True)))

    def limited(self, query: Query, place: Place) -> Query:
        """Perhaps add ORDER BY over all output columns, and LIMIT."""
        if query.is_ordered or not self.chance(0.09) or not all(column.is_exact for column in query.columns):
            return query
        order = self.total_order([Column(str(i + 1), c.type) for i, c in enumerate(query.columns)])
        limit = f" LIMIT {self.random.choice([0, 1, 2, 3, 5, 5, 8, 13])}" if self.chance(0.8) else ""
        offset = f" OFFSET {self.random.choice([1, 2, 4])}" if self.chance(0.3) else ""
        return Query(f"{query.sql} ORDER BY {order}{limit}{offset}", query.columns, is_ordered=True)

    # FROM.

    def relation(self, place: Place) -> tuple[str, list[Column]]:
        """Draw one item of a FROM clause and return its SQL and its columns, under its own new alias."""
        alias = self.name("t")
        if place.depth > 0 and self.chance(0.28):
            inner = self.query(place.inside(wanted=(), is_exact=self.chance(0.9)))
            return f"({inner.sql}) AS {alias}", [
                Column(f"{alias}.{c.sql}", c.type, c.is_exact) for c in inner.columns
            ]
        if self.chance(0.04):
            values = self.values(place.inside(wanted=("integer", self.random.choice(FAMILIES))))
            return f"({values.sql}) AS {alias}", [Column(f"{alias}.{c.sql}", c.type) for c in values.columns]
        if self.chance(0.02):
            return f"range({self.random.randint(0, 4)}) AS {alias}(n)", [Column(f"{alias}.n", "BIGINT")]
        table = self.random.choice(sorted(place.tables))
        columns = [Column(f"{alias}.{c.sql}", c.type, c.is_exact) for c in place.tables[table]]
        return f"{table.rstrip(chr(0))} AS {alias}", columns

    def from_clause(self, place: Place, most: int = 4) -> tuple[str, list[Column], list[str]]:
        """Draw a FROM clause; returns its SQL, the columns in scope, and conditions that belong into WHERE."""
        sql, scope = self.relation(place)
        where: list[str] = []
        for _ in range(min(most, self.random.choice([1, 1, 1, 1, 2, 2, 2, 3, 3, 4])) - 1):
            if self.chance(0.1) and (item := self.lateral(place, scope)):
                sql, scope = f"{sql} {item[0]}", scope + item[1]
                continue
            right_sql, right = self.relation(place)
            if self.chance(0.12):
                sql, scope = f"{sql}, {right_sql}", scope + right
                where.append(self.condition(scope[: -len(right)], right))
                continue
            kind = self.random.choice(
                ["JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN",
                 "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "CROSS JOIN"]
            )  # fmt: skip
            if kind == "CROSS JOIN":
                sql, scope = f"{sql} CROSS JOIN {right_sql}", scope + right
                continue
            sql = f"{sql} {kind} {right_sql} {self.on(scope, right)}"
            scope = scope if kind in ("SEMI JOIN", "ANTI JOIN") else scope + right
        if self.chance(0.07) and (unnested := self.unnested(scope)):
            sql, scope = f"{sql}, {unnested[0]}", scope + unnested[1]
        return sql, scope, where

    def on(self, left: Scope, right: Scope) -> str:
        """Draw the ON of a join, or a USING of a column that each side has once."""
        named = [[(column.sql.split(".")[1], column.type) for column in side] for side in (left, right)]
        names = [[name for name, _ in side] for side in named]
        common = [
            one
            for one in named[1]
            if one in named[0] and names[0].count(one[0]) == names[1].count(one[0]) == 1
        ]
        if common and all(column.is_exact for column in [*left, *right]) and self.chance(0.2):
            return f"USING ({self.random.choice(common)[0]})"
        return f"ON {self.condition(left, right)}"

    def condition(self, left: Scope, right: Scope) -> str:
        """Draw a join condition between two scopes: mostly equal keys, perhaps with a residual, or only that."""
        parts = []
        pairs = [
            (a, b) for a in left for b in right
            if a.is_exact and b.is_exact and family_of(a.type) and family_of(a.type) == family_of(b.type)
        ]  # fmt: skip
        if pairs and self.chance(0.93):
            for a, b in self.random.sample(pairs, min(len(pairs), self.random.choice([1, 1, 1, 2]))):
                parts.append(f"{a.sql} {'IS NOT DISTINCT FROM' if self.chance(0.1) else '='} {b.sql}")
            if self.chance(0.08):
                family = str(family_of(pairs[0][0].type))
                parts[0] = f"{self.expression(left, family)} = {self.expression(right, family)}"
        elif pairs:
            a, b = self.random.choice(pairs)
            parts.append(f"{a.sql} {self.random.choice(['<', '<=', '>', '<>'])} {b.sql}")
        if not parts or self.chance(0.2):
            parts.append(self.predicate([*left, *right]))
        return " AND ".join(parts)

    def lateral(self, place: Place, scope: list[Column]) -> tuple[str, list[Column]] | None:
        """Draw a join with a subquery that reads the columns on its left."""
        if place.depth <= 0:
            return None
        alias = self.name("t")
        family = self.random.choice(FAMILIES)
        inner = self.scalar_select(place, scope, family)
        join = self.random.choice(["CROSS JOIN LATERAL", "LEFT JOIN LATERAL"])
        condition = " ON true" if join.startswith("LEFT") else ""
        sql = f"{join} ({inner}) AS {alias}(x){condition}"
        return sql, [Column(f"{alias}.x", TYPE_OF[family])]

    def unnested(self, scope: Scope) -> tuple[str, list[Column]] | None:
        """Draw an UNNEST of a list in scope."""
        if not any(c.type == "INTEGER[]" and c.is_exact for c in scope):
            return None
        alias = self.name("u")
        return f"unnest({self.expression(scope, 'list')}) AS {alias}(x)", [Column(f"{alias}.x", "INTEGER")]

    # Subqueries in expressions.

    def correlated(self, place: Place, outer: Scope, most: int = 2) -> tuple[str, list[Column]]:
        """Draw `FROM … WHERE …`, usually correlated with the outer scope."""
        sql, scope, where = self.from_clause(place.inside(), most)
        if outer and self.chance(0.7):
            where.append(self.condition(outer, scope))
        if self.chance(0.3):
            where.append(self.predicate(scope))
        if place.depth > 1 and self.chance(0.12):
            where.append(self.subquery_predicate(place.inside(), [*scope, *outer]))
        return f"FROM {sql}" + (f" WHERE {' AND '.join(where)}" if where else ""), scope

    def scalar_select(self, place: Place, outer: Scope, family: str) -> str:
        """Draw a SELECT of at most one row, or a failure, and one column."""
        source, scope = self.correlated(place, outer)
        if self.chance(0.75) or not all(column.is_exact for column in scope):
            template = self.template(AGGREGATES[family], scope)
            return f"SELECT CAST({self.aggregate(template, scope)} AS {TYPE_OF[family]}) {source}"
        value = f"CAST({self.expression(scope, family)} AS {TYPE_OF[family]})"
        if self.chance(0.1):  # fails if there are two
            return f"SELECT {value} {source}"
        return f"SELECT {value} {source} ORDER BY 1{self.direction()} LIMIT 1"

    def subquery_predicate(self, place: Place, scope: Scope) -> str:
        """Draw a condition with a subquery: IN, EXISTS, ANY, ALL, or a comparison with a scalar."""
        kind = self.random.choice(
            ["in", "in", "not in", "exists", "not exists", "exists", "any", "scalar", "scalar", "row"]
        )
        family = self.family(scope)
        if kind == "scalar":
            mine = self.expression(scope, family)
            return f"({mine} {self.random.choice(['=', '<=', '>', '<>'])} ({self.scalar_select(place, scope, family)}))"
        outer = scope if "exists" in kind or (kind != "row" and self.chance(0.4)) else ()
        source, inner = self.correlated(place, outer)
        if "exists" in kind:
            return f"{'NOT ' if kind == 'not exists' else ''}EXISTS (SELECT 1 {source})"
        value, mine = self.expression(inner, family), self.expression(scope, family)
        if kind == "any":
            comparison = f"{self.random.choice(['=', '<', '>=', '<>'])} {self.random.choice(['ANY', 'ALL'])}"
            return f"({mine} {comparison} (SELECT {value} {source}))"
        word = "NOT IN" if kind == "not in" or (kind == "row" and self.chance(0.3)) else "IN"
        if kind == "row":
            other = self.family(scope)
            return (
                f"(({mine}, {self.expression(scope, other)}) {word} "
                f"(SELECT {value}, {self.expression(inner, other)} {source}))"
            )
        return f"({mine} {word} (SELECT {value} {source}))"

    # SELECT.

    def select(self, place: Place) -> Query:
        """Draw a SELECT of rows, of groups or of one total."""
        source, scope, where = self.from_clause(place)
        if self.chance(0.4):
            where.append(self.predicate(scope))
        if place.depth > 0 and self.chance(0.3):
            condition = self.subquery_predicate(place, scope)
            where.append(f"({condition} OR {self.predicate(scope)})" if self.chance(0.15) else condition)
        source = f"FROM {source}" + (f" WHERE {' AND '.join(where)}" if where else "")
        shape = self.random.choice(
            [self.plain, self.plain, self.windowed, self.grouped, self.grouped, self.total]
        )
        return shape(place, source, scope)

    def finish(self, place: Place, head: str, items: Sequence[tuple[str, bool]], tail: str) -> Query:
        """Name the columns of a SELECT, and ask DuckDB for their types."""
        named = ", ".join(f"{item} AS c{i}" for i, (item, _) in enumerate(items))
        sql = f"SELECT {head}{named} {tail}"
        prefix = f"WITH {', '.join(place.ctes)} " if place.ctes else ""
        described = self.describe(prefix + sql)
        return Query(
            sql,
            tuple(Column(n, t, e) for (n, t), (_, e) in zip(described, items, strict=True)),
            is_ordered=head.startswith("DISTINCT ON"),
        )

    def items(self, place: Place, scope: Scope) -> list[tuple[str, bool]]:
        """Draw a list of expressions, each with whether it is exact."""
        if place.wanted:
            return [(f"CAST({self.expression(scope, f)} AS {TYPE_OF[f]})", True) for f in place.wanted]
        found: list[tuple[str, bool]] = []
        for _ in range(self.random.choice([1, 2, 2, 3, 4])):
            if place.depth > 0 and self.chance(0.07):
                found.append((f"({self.scalar_select(place, scope, self.family(scope))})", True))
            elif place.depth > 0 and self.chance(0.04):
                found.append((f"({self.subquery_predicate(place, scope)})", True))
            elif self.chance(0.45):
                column = self.random.choice(scope)
                found.append(
                    (column.sql, column.is_exact) if column.is_exact or not place.is_exact else ("1", True)
                )
            else:
                found.append((self.expression(scope, self.family(scope)), True))
        return found

    def plain(self, place: Place, source: str, scope: Scope) -> Query:
        """Draw a projection, perhaps DISTINCT, DISTINCT ON, with a QUALIFY, or an UNNEST."""
        if not place.wanted and self.chance(0.06) and (star := self.star(place, source, scope)):
            return star
        items = self.items(place, scope)
        total = self.total_order(scope)
        if total and self.chance(0.12):
            keys = [self.column(scope) for _ in range(self.random.choice([1, 1, 2]))]
            order = self.total_order(
                scope, [self.expression(scope, self.family(scope))] if self.chance(0.3) else ()
            )
            partition = f"PARTITION BY {', '.join(keys)} " if self.chance(0.85) else ""
            function = self.random.choice(
                ["row_number()", "row_number()", "row_number()", "rank()", "dense_rank()"]
            )
            limit = self.random.choice(["= 1", "<= 1", "<= 2", "< 4", "<= 3", "BETWEEN 2 AND 3"])
            return self.finish(
                place, "", items, f"{source} QUALIFY {function} OVER ({partition}ORDER BY {order}) {limit}"
            )
        if total and self.chance(0.1):
            keys = [self.column(scope) for _ in range(self.random.choice([1, 1, 2]))]
            order = self.total_order(scope, keys)
            return self.finish(
                place, f"DISTINCT ON ({', '.join(keys)}) ", items, f"{source} ORDER BY {order}"
            )
        if all(exact for _, exact in items) and self.chance(0.2):
            return self.finish(place, "DISTINCT ", items, source)
        if not place.wanted and self.chance(0.04):
            items.append((f"unnest({self.expression(scope, 'list')})", True))
        return self.finish(place, "", items, source)

    def star(self, place: Place, source: str, scope: Scope) -> Query | None:
        """Draw a `SELECT *`, where the columns' names tell them apart."""
        names = [column.sql.split(".")[1] for column in scope]
        if (
            len(set(names)) < len(names)
            or " USING " in source
            or not all(column.is_exact for column in scope)
        ):
            return None
        head = self.random.choice(["*", "*", "DISTINCT *"])
        return Query(
            f"SELECT {head} {source}", tuple(Column(n, c.type) for n, c in zip(names, scope, strict=True))
        )

    # Groups.

    def aggregate(self, template: str, scope: Scope) -> str:
        """Fill a template of an aggregate, perhaps with a FILTER."""
        call = self.fill(template, scope, 1)
        return f"{call} FILTER (WHERE {self.predicate(scope)})" if self.chance(0.15) else call

    def aggregates(self, place: Place, scope: Scope) -> list[tuple[str, bool]]:
        """Draw aggregate calls, or expressions over them."""
        if place.wanted:
            return [
                (f"CAST({self.aggregate(self.template(AGGREGATES[f], scope), scope)} AS {TYPE_OF[f]})", True)
                for f in place.wanted
            ]
        found: list[tuple[str, bool]] = []
        for _ in range(self.random.choice([1, 1, 2, 2, 3])):
            draw = self.random.random()
            if draw < 0.15 and not place.is_exact:
                found.append((self.aggregate(self.template(INEXACT_AGGREGATES, scope), scope), False))
            elif draw < 0.3:
                found.append((self.aggregate(self.template(GROWN, scope), scope), True))
            else:
                family = self.family(scope)
                call = self.aggregate(self.template(AGGREGATES[family], scope), scope)
                if family == "integer" and self.chance(0.15):
                    call = self.random.choice([f"coalesce({call}, 0)", f"({call}) + 1", f"CASE WHEN {call} > 2 THEN 'many' ELSE 'few' END"])  # fmt: skip
                found.append((call, True))
        return found

    def having(self, place: Place, scope: Scope) -> str:
        """Perhaps draw a HAVING."""
        if not self.chance(0.25):
            return ""
        family = self.random.choice(["integer", self.family(scope)])
        left = self.aggregate(self.template(AGGREGATES[family], scope), scope)
        if place.depth > 0 and self.chance(0.2):
            return f" HAVING {left} >= ({self.scalar_select(place, (), family)})"
        if self.chance(0.5):
            return f" HAVING count(*) {self.random.choice(['> 1', '>= 2', '< 4', '<> 2'])}"
        return f" HAVING {left} {self.random.choice(['>', '<=', '<>', 'IS DISTINCT FROM'])} {self.random.choice(LITERALS[family][:2])}"

    def grouped(self, place: Place, source: str, scope: Scope) -> Query:
        """Draw a GROUP BY, plain or with grouping sets."""
        count = self.random.choice([1, 1, 2, 2, 3])
        if self.chance(0.22):
            keys = list(dict.fromkeys(self.column(scope) for _ in range(max(2, count))))
            if len(keys) > 1:
                return self.grouping_sets(place, source, scope, keys)
        keys = list(
            dict.fromkeys(
                self.column(scope) if self.chance(0.7) else self.expression(scope, self.family(scope), 1)
                for _ in range(count)
            )
        )
        calls = self.aggregates(place, scope)
        items = calls if place.wanted else [*((key, True) for key in keys if self.chance(0.9)), *calls]
        if not place.wanted and self.chance(0.1):
            items.append((self.window_of_groups(scope, keys), True))
        by = (
            "ALL"
            if not place.wanted and len(items) == len(keys) + len(calls) and self.chance(0.1)
            else ", ".join(keys)
        )
        return self.finish(place, "", items, f"{source} GROUP BY {by}{self.having(place, scope)}")

    def window_of_groups(self, scope: Scope, keys: Sequence[str]) -> str:
        """Draw a window function over the groups, of which no two have the same keys."""
        order = ", ".join(f"{key}{self.direction()}" for key in self.random.sample(keys, len(keys)))
        partition = f"PARTITION BY {self.random.choice(keys)} " if self.chance(0.4) else ""
        return self.random.choice(
            [f"rank() OVER ({partition}ORDER BY count(*){self.direction()})",
             f"row_number() OVER ({partition}ORDER BY {order})",
             f"sum(count(*)) OVER ({partition}ORDER BY {order})",
             f"max(sum({self.expression(scope, 'integer')})) OVER ({partition})",
             f"lag(min({self.expression(scope, 'varchar')})) OVER ({partition}ORDER BY {order})"]
        )  # fmt: skip

    def grouping_sets(self, place: Place, source: str, scope: Scope, keys: list[str]) -> Query:
        """Draw ROLLUP, CUBE or GROUPING SETS."""
        sets = [", ".join(key for key in keys if self.chance(0.5)) for _ in range(self.random.choice([2, 3]))]
        by = self.random.choice(
            [f"ROLLUP ({', '.join(keys)})", f"CUBE ({', '.join(keys)})",
             f"GROUPING SETS ({', '.join(f'({one})' for one in sets)})"]
        )  # fmt: skip
        calls = self.aggregates(place, scope)
        used = [
            key for key in keys if not by.startswith("GROUPING") or any(key in one for one in sets)
        ] or keys
        items = calls if place.wanted else [*((key, True) for key in used), *calls]
        if not place.wanted and self.chance(0.4):
            items.append(
                (f"GROUPING({', '.join(self.random.sample(used, self.random.randint(1, len(used))))})", True)
            )
        return self.finish(place, "", items, f"{source} GROUP BY {by}{self.having(place, scope)}")

    def total(self, place: Place, source: str, scope: Scope) -> Query:
        """Draw aggregates without groups."""
        return self.finish(place, "", self.aggregates(place, scope), f"{source}{self.having(place, scope)}")

    # Windows.

    def windowed(self, place: Place, source: str, scope: Scope) -> Query:
        """Draw a projection with window functions."""
        items = [] if place.wanted else self.items(place, scope)[:2]
        rows_over = self.row_over(scope)
        wanted: Sequence[str | None] = place.wanted or [None] * self.random.choice([1, 1, 2])
        for family in wanted:
            call, exact = self.window(scope, rows_over, family)
            items.append((f"CAST({call} AS {TYPE_OF[family]})" if family else call, exact))
        if place.is_exact:
            items = [item for item in items if item[1]] or [("1", True)]
        if rows_over and self.chance(0.15):
            spec = f"({rows_over[0]} ORDER BY {rows_over[1]})"
            items = [(item.replace(f"OVER {spec}", "OVER w"), exact) for item, exact in items]
            source = f"{source} WINDOW w AS {spec}"
        return self.finish(place, "", items, source)

    def partition(self, scope: Scope) -> str:
        """Perhaps draw a PARTITION BY."""
        if self.chance(0.2):
            return ""
        return f"PARTITION BY {', '.join(self.column(scope) for _ in range(self.random.choice([1, 1, 2])))}"

    def row_over(self, scope: Scope) -> tuple[str, str] | None:
        """Draw the one partition and order of a SELECT by which its window functions may tell equal rows apart."""
        first = [self.expression(scope, self.family(scope))] if self.chance(0.5) else []
        order = self.total_order(scope, first)
        return (self.partition(scope), order) if order else None

    def window(self, scope: Scope, rows_over: tuple[str, str] | None, family: str | None) -> tuple[str, bool]:
        """Draw a function with OVER, and whether its value is exact."""
        if rows_over and family is None and self.chance(0.35):
            function = self.fill(self.random.choice(RANKS[:4]), scope, 0)
            return f"{function} OVER ({rows_over[0]} ORDER BY {rows_over[1]})", True
        if rows_over and self.chance(0.5):
            one = family or self.family(scope)
            function = self.fill(self.random.choice(ROW_WINDOWS), [c for c in scope if family_of(c.type) == one and c.is_exact] or [Column(LITERALS[one][0], TYPE_OF[one])], 0)  # fmt: skip
            return f"{function} OVER ({rows_over[0]} ORDER BY {rows_over[1]})", True
        partition = self.partition(scope)
        if family is None and self.chance(0.35):
            function, exact = self.random.choice([("rank()", True), ("dense_rank()", True), ("percent_rank()", False), ("cume_dist()", False)])  # fmt: skip
            keys = ", ".join(
                f"{self.column(scope)}{self.direction()}" for _ in range(self.random.choice([1, 1, 2]))
            )
            return f"{function} OVER ({partition} ORDER BY {keys})", exact
        one = family or self.family(scope)
        call = self.aggregate(self.template(WINDOWS[one], scope), scope)
        return f"{call} OVER ({partition}{self.frame(scope, rows_over, partition)})", True

    def frame(self, scope: Scope, rows_over: tuple[str, str] | None, partition: str) -> str:
        """Draw an ORDER BY and a frame for an aggregate that does not depend on the order of equal rows."""
        draw = self.random.random()
        if draw < 0.25:
            return ""
        if draw < 0.5:
            return f" ORDER BY {self.column(scope)}{self.direction()}"
        exclude = self.random.choice(["", "", "", " EXCLUDE CURRENT ROW", " EXCLUDE TIES", " EXCLUDE GROUP"])
        bounds = self.random.choice(
            ["{0} PRECEDING AND CURRENT ROW", "{0} PRECEDING AND {0} FOLLOWING", "UNBOUNDED PRECEDING AND CURRENT ROW",
             "CURRENT ROW AND UNBOUNDED FOLLOWING", "UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
             "{0} PRECEDING AND {1} PRECEDING", "{1} FOLLOWING AND {0} FOLLOWING"]
        )  # fmt: skip
        if draw < 0.65:
            keys = [c for c in scope if c.is_exact and family_of(c.type) in ("integer", "date", "timestamp")]
            if not keys:
                return ""
            key = self.random.choice(keys)
            step = "{}" if family_of(key.type) == "integer" else "INTERVAL '{}' DAY"
            where = bounds.format(step.format(2), step.format(1))
            return f" ORDER BY {key.sql}{self.random.choice(['', ' DESC'])} RANGE BETWEEN {where}{exclude}"
        if draw < 0.75:
            return f" ORDER BY {self.column(scope)}{self.direction()} GROUPS BETWEEN {bounds.format(2, 1)}{exclude}"
        if rows_over is None or rows_over[0] != partition:
            return f" ORDER BY {self.column(scope)}"
        return f" ORDER BY {rows_over[1]} ROWS BETWEEN {bounds.format(2, 1)}{exclude}"


def draw_query(
    random: Random, tables: Mapping[str, tuple[Column, ...]], describe: Describe, *, depth: int
) -> str:
    """Draw SQL that DuckDB binds, nested at most so deep."""
    while True:
        queries = Queries(random, describe)
        try:
            query = queries.query(Place(min(depth, random.choice([0, 1, 1, 2, 2, 3])), tables))
            describe(query.sql)
        except duckdb.Error:
            continue
        return query.sql
