"""Random scalar SQL over columns in scope: templates by family of types, filled in from one `random.Random`.

Law: every expression has one right value, the same in whatever order rows come. Therefore floats are multiples of a
small power of two, added and never divided, so that sums are exact; a column that is only right up to rounding
(`is_exact` false) is never used in an expression; and nothing here can fail for any value that the columns hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

FAMILIES = ("integer", "decimal", "double", "varchar", "boolean", "date", "timestamp", "list", "struct")
STRUCT = "STRUCT(a INTEGER, b VARCHAR)"

# What a set operation, a VALUES or a recursive step casts a family to.
TYPE_OF = {
    "integer": "BIGINT", "decimal": "DECIMAL(18,2)", "double": "DOUBLE", "varchar": "VARCHAR",
    "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP", "list": "INTEGER[]", "struct": STRUCT,
}  # fmt: skip
_INTEGERS = frozenset(
    ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"]
)


def family_of(type_name: str) -> str | None:
    """Return the family whose expressions a column of this type can stand in, or None: it is only carried along."""
    if type_name in _INTEGERS:
        return "integer"
    if type_name.startswith("DECIMAL(") and type_name.endswith(")"):
        return "decimal"
    if type_name == STRUCT:
        return "struct"
    if type_name == "INTEGER[]":
        return "list"
    return type_name.lower() if type_name.lower() in FAMILIES else None


@dataclass(frozen=True, slots=True)
class Column:
    """A column in scope: the SQL that names it, its DuckDB type, and whether its values are exact."""

    sql: str
    type: str
    is_exact: bool = True


Scope = Sequence[Column]

LITERALS = {
    "integer": ("0", "1", "2", "3", "-1", "NULL::INTEGER"),
    "decimal": ("1.50", "0.00", "-2.25", "3.10", "CAST(NULL AS DECIMAL(9,2))"),
    "double": ("0.25::DOUBLE", "1.5::DOUBLE", "-2.0::DOUBLE", "0.0::DOUBLE", "NULL::DOUBLE"),
    "varchar": ("'a'", "'b'", "'ab'", "''", "'한글'", "NULL::VARCHAR"),
    "boolean": ("true", "false", "NULL::BOOLEAN"),
    "date": ("DATE '2024-02-28'", "DATE '2024-03-01'", "NULL::DATE"),
    "timestamp": ("TIMESTAMP '2024-02-28 10:00:00'", "TIMESTAMP '2024-03-01 00:00:00'", "NULL::TIMESTAMP"),
    "list": ("[1, 2]", "[]::INTEGER[]", "[NULL, 3]", "NULL::INTEGER[]"),
    "struct": ("{'a': 1, 'b': 'a'}", "{'a': NULL::INTEGER, 'b': 'b'}", f"NULL::{STRUCT}"),
}  # fmt: skip

# {i} is an integer expression, {m} decimal, {f} double, {v} varchar, {b} boolean, {d} date, {t} timestamp, {l} list,
# {s} struct; with a digit ({v1}) the same one wherever it is said again. {x1} is one of any orderable family.
LETTERS = dict(zip("imfvbdtls", FAMILIES, strict=True))

TEMPLATES: dict[str, tuple[str, ...]] = {
    "integer": (
        "({i} + {i})", "({i} - {i})", "({i} * 2)", "({i} // 2)", "({i} % 3)", "abs({i})", "-({i})", "sign({i})",
        "length({v})", "coalesce({i}, {i})", "nullif({i}, 1)", "greatest({i}, {i})", "least({i}, {i}, 3)",
        "CASE WHEN {b} THEN {i} ELSE {i} END", "CASE WHEN {b} THEN {i} END",
        "CASE {v} WHEN 'a' THEN 1 WHEN 'b' THEN {i} ELSE 0 END", "year({d})", "extract(day FROM {d})",
        "extract(hour FROM {t})", "date_diff('day', {d}, {d})", "CAST({b} AS INTEGER)",
        "TRY_CAST({v} AS INTEGER)", "({l})[1]", "len({l})", "struct_extract({s}, 'a')", "({s}).a",
        "strpos({v}, 'b')", "ascii({v})", "CAST(list_sum({l}) AS BIGINT)", "list_position({l}, 2)",
        "CAST(round({m}) AS BIGINT)", "TRY_CAST(floor({f}) AS BIGINT)", "if({b}, 1, 0)", "isodow({d})",
        "list_aggregate({l}, 'max')", "levenshtein(coalesce({v}, ''), 'ab')", "(({b})::INT + {i})",
    ),
    "decimal": (
        "CAST({m} + {m} AS DECIMAL(18,2))", "CAST({m} - {m} AS DECIMAL(18,2))", "CAST({m} * 2 AS DECIMAL(18,2))",
        "abs({m})", "round({m}, 1)", "coalesce({m}, 0.00)", "CASE WHEN {b} THEN {m} ELSE {m} END",
        "CAST({i} AS DECIMAL(18,2))", "greatest({m}, {m})", "-({m})", "nullif({m}, 1.50)",
    ),
    "double": (
        "({f} + {f})", "({f} - {f})", "({f} * 0.5::DOUBLE)", "abs({f})", "CAST({i} AS DOUBLE)",
        "coalesce({f}, 0.0::DOUBLE)", "CASE WHEN {b} THEN {f} ELSE {f} END", "least({f}, {f})", "floor({f})",
    ),
    "varchar": (
        "upper({v})", "lower({v})", "({v} || {v})", "substr({v}, 1, 1)", "replace({v}, 'a', 'x')", "trim({v})",
        "reverse({v})", "left({v}, 2)", "CAST({i} AS VARCHAR)", "CAST({d} AS VARCHAR)", "CAST({b} AS VARCHAR)",
        "CAST({m} AS VARCHAR)", "strftime({t}, '%Y-%m %H')", "concat_ws('-', {v}, {v})", "lpad({v}, 3, '.')",
        "regexp_replace({v}, '[ab]+', '<\\0>')", "regexp_extract({v}, '([a-z])b', 1)", "split_part({v}, 'b', 1)",
        "coalesce({v}, 'none')", "nullif({v}, '')", "CASE WHEN {b} THEN {v} ELSE {v} END", "struct_extract({s}, 'b')",
        "array_to_string({l}, '+')", "(to_json({s}) ->> 'b')", "CAST({s} AS VARCHAR)", "CAST({l} AS VARCHAR)",
        "monthname({d})", "printf('%s!', {v})", "concat({v}, {i}, {d})", "md5({v})", "CAST(to_json({l}) AS VARCHAR)",
        "json_extract_string(to_json({s}), '$.a')",
    ),
    "boolean": (
        "({i} > {i})", "({i} = {i})", "({m} <= {m})", "({v} < {v})", "({v} <> {v})", "({f} >= {f})",
        "({d} < {d})", "({t} >= {t})", "({b} AND {b})", "({b} OR {b})", "(NOT {b})", "({i} IS NULL)",
        "({v} IS NOT NULL)", "({m} IS NOT NULL)", "({i} BETWEEN 0 AND {i})", "({i} NOT BETWEEN 1 AND 2)",
        "({i} IN (1, 2, {i}))", "({v} IN ('a', 'b'))", "({v} NOT IN ('a', ''))", "({v} LIKE 'a%')",
        "({v} ILIKE '%B')", "({v} NOT LIKE '_')", "regexp_matches({v}, '^[a-b]+$')", "({i} IS DISTINCT FROM {i})",
        "({v} IS NOT DISTINCT FROM {v})", "starts_with({v}, 'a')", "contains({v}, 'b')", "list_contains({l}, {i})",
        "({l} = {l})", "({s} = {s})", "({l} < {l})", "({s} IS NOT NULL)", "coalesce({b}, false)", "({b} IS TRUE)",
        "({b} IS NOT FALSE)", "(({i}, {v}) = ({i}, {v}))", "({f} = {f})", "(len({l}) > 1)",
    ),
    "date": (
        "({d} + CAST(greatest(-9, least(9, {i})) AS INTEGER))", "CAST({t} AS DATE)", "last_day({d})",
        "CAST(date_trunc('month', {d}) AS DATE)", "coalesce({d}, DATE '2024-01-01')",
        "CASE WHEN {b} THEN {d} ELSE {d} END", "greatest({d}, {d})", "TRY_CAST({v} AS DATE)",
    ),
    "timestamp": (
        "({t} + INTERVAL '1 day')", "({t} - INTERVAL '90 minutes')", "date_trunc('hour', {t})",
        "CAST({d} AS TIMESTAMP)", "coalesce({t}, TIMESTAMP '2024-01-01 00:00:00')",
        "time_bucket(INTERVAL '2 hours', {t})", "({d} + INTERVAL '1 month')", "least({t}, {t})",
    ),
    "list": (
        "[CAST(greatest(-9, least(9, {i})) AS INTEGER), 1]", "list_sort({l})", "list_sort(list_distinct({l}))",
        "({l})[1:2]", "list_concat({l}, {l})", "list_reverse({l})", "coalesce({l}, []::INTEGER[])",
        "CAST(range(CAST(greatest(-1, least(3, {i})) AS BIGINT)) AS INTEGER[])",
        "list_filter({l}, lambda y: y > 1)", "list_transform({l}, lambda y: y + 1)",
        "CASE WHEN {b} THEN {l} ELSE {l} END",
    ),
    "struct": (
        "{{'a': CAST(greatest(-9, least(9, {i})) AS INTEGER), 'b': {v}}}", "coalesce({s}, {s})",
        "CASE WHEN {b} THEN {s} ELSE {s} END",
    ),
}  # fmt: skip

_HOLE = re.compile(r"\{\{|\}\}|\{([a-z])(\d?)\}")


class Expressions:
    """Draws expressions from `random`."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def chance(self, probability: float) -> bool:
        """Say yes so often."""
        return self.random.random() < probability

    def expression(self, scope: Scope, family: str, depth: int = 1) -> str:
        """Return SQL for a value of this family over exact columns in scope."""
        columns = [c.sql for c in scope if c.is_exact and family_of(c.type) == family]
        if columns and (depth <= 0 or self.chance(0.6)):
            return self.random.choice(columns)
        if depth <= 0 or (not columns and self.chance(0.1)):
            return self.random.choice(LITERALS[family])
        return self.fill(self.template(TEMPLATES[family], scope), scope, depth - 1)

    def template(self, templates: Sequence[str], scope: Scope) -> str:
        """Choose a template, rather one for which the scope has something than one of constants."""
        present = {family_of(column.type) for column in scope if column.is_exact}
        for _ in range(6):
            chosen = self.random.choice(templates)
            letters = [match[1] for match in _HOLE.finditer(chosen) if match[1]]
            if not letters or any(letter == "x" or LETTERS[letter] in present for letter in letters):
                return chosen
        return chosen

    def fill(self, template: str, scope: Scope, depth: int) -> str:
        """Fill the holes of a template."""
        said: dict[str, str] = {}

        def hole(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            if match[0] not in said or not match[2]:
                letter = match[1]
                family = self.family(scope) if letter == "x" else LETTERS[letter]
                said[match[0]] = self.expression(scope, family, depth)
            return said[match[0]]

        return _HOLE.sub(hole, template)

    def family(self, scope: Scope) -> str:
        """Return the family of some exact column in scope, more likely than any other."""
        found = [f for c in scope if c.is_exact and (f := family_of(c.type)) is not None]
        return self.random.choice(found) if found and self.chance(0.9) else self.random.choice(FAMILIES)

    def column(self, scope: Scope) -> str:
        """Return some exact column, or a literal where there is none."""
        columns = [c.sql for c in scope if c.is_exact]
        return self.random.choice(columns) if columns else self.random.choice(LITERALS[self.family(scope)])

    def predicate(self, scope: Scope, depth: int = 1) -> str:
        """Return a condition, mostly one that many rows fulfil."""
        if self.chance(0.12):
            word = self.random.choice(["AND", "OR", "OR"])
            return f"({self.predicate(scope, depth)} {word} {self.predicate(scope, depth)})"
        return self.fill(self.template(TEMPLATES["boolean"], scope), scope, depth)

    def direction(self) -> str:
        """Return what may follow a key of an ORDER BY."""
        return self.random.choice(
            ["", " ASC", " DESC", " DESC", " NULLS FIRST", " DESC NULLS LAST", " ASC NULLS LAST"]
        )

    def total_order(self, scope: Scope, first: Sequence[str] = ()) -> str | None:
        """Return the keys of an ORDER BY that leaves only rows equal in everything in the scope unordered, or None."""
        if not all(column.is_exact for column in scope):
            return None
        rest = [column.sql for column in scope]
        self.random.shuffle(rest)
        keys = [*first, *rest[: 0 if first else 1]]
        keys += [key for key in rest if key not in keys]
        return ", ".join(f"{key}{self.direction()}" for key in dict.fromkeys(keys))
