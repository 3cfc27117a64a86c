"""Which types of PostgreSQL hold a column's values exactly, and whether a table that is there does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from bourne.errors import DefinitionError, SinkFailed
from bourne.schema import Column

# What a column is made as, and what else holds it: by the name that PostgreSQL gives a type.
_HELD: Final[dict[str, tuple[str, ...]]] = {
    "BOOLEAN": ("boolean",),
    "TINYINT": ("smallint", "integer", "bigint", "numeric"),
    "SMALLINT": ("smallint", "integer", "bigint", "numeric"),
    "INTEGER": ("integer", "bigint", "numeric", "smallint"),
    "BIGINT": ("bigint", "numeric", "integer", "smallint"),
    "UTINYINT": ("smallint", "integer", "bigint", "numeric"),
    "USMALLINT": ("integer", "bigint", "numeric", "smallint"),
    "UINTEGER": ("bigint", "numeric", "integer", "smallint"),
    "UBIGINT": ("numeric(20,0)", "numeric", "bigint", "integer"),
    "HUGEINT": ("numeric(39,0)", "numeric", "bigint", "integer"),
    "FLOAT": ("real",),
    "DOUBLE": ("double precision",),
    "VARCHAR": ("text", "character varying", "json", "uuid"),
    "JSON": ("json", "text"),
    "UUID": ("uuid", "text"),
    "BLOB": ("bytea",),
    "DATE": ("date",),
    "TIME": ("time without time zone",),
    "TIMESTAMP": ("timestamp without time zone",),
    "TIMESTAMP_S": ("timestamp without time zone",),
    "TIMESTAMP_MS": ("timestamp without time zone",),
    "TIMESTAMP WITH TIME ZONE": ("timestamp with time zone",),
    "INTERVAL": ("interval",),
}

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")

_COLUMNS: Final = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
           a.attgenerated <> '', t.typtype = 'e'
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""

_KEYS: Final = """
    SELECT array_agg(a.attname::text ORDER BY a.attname)
    FROM pg_index i CROSS JOIN unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(number)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid
"""


def column_type(kind: str, *, where: str) -> str:
    """Return what a column of this DuckDB type is made as.

    Raises:
        DefinitionError: PostgreSQL has no type that holds it exactly.
    """
    decimal = _DECIMAL.fullmatch(kind)
    if decimal is not None:
        return f"numeric({decimal[1]},{decimal[2]})"
    if kind in _HELD:
        return _HELD[kind][0]
    if kind in ("TIMESTAMP_NS", "TIME_NS", "UHUGEINT", "TIME WITH TIME ZONE", "BIT"):
        raise DefinitionError(
            f"PostgreSQL cannot hold {kind} exactly",
            where=where,
            hint="cast it in the view, for example to TIMESTAMP or VARCHAR",
        )
    return "json"  # a list, a struct, a map


def check_table(
    cursor: Any, schema: str, name: str, columns: Sequence[Column], key: Sequence[str], *, where: str
) -> bool:
    """Return whether a table is there, and see that it takes such rows.

    Raises:
        SinkFailed: it does not; says why.
    """
    shown = [f'"{part.replace(chr(34), chr(34) * 2)}"' for part in (schema, name) if part]
    (oid,) = cursor.execute("SELECT to_regclass(%s)::oid", (".".join(shown),)).fetchone()
    if oid is None:
        return False
    found = {row[0]: row[1:] for row in cursor.execute(_COLUMNS, (oid,)).fetchall()}
    problems = []
    for column in columns:
        if column.name not in found:
            problems.append(f"it has no column {column.name!r}")
        elif found[column.name][2]:
            problems.append(f"column {column.name!r} is generated")
        elif not _holds(found[column.name][0], column.type, is_enum=found[column.name][3], where=where):
            made = column_type(column.type, where=where)
            problems.append(
                f"column {column.name!r} is {found[column.name][0]}, which does not hold {made} exactly"
            )
    ours = {column.name for column in columns}
    problems += [
        f"its column {each!r} may not be NULL" for each, row in found.items() if each not in ours and row[1]
    ]
    if key:
        keys = [sorted(row[0]) for row in cursor.execute(_KEYS, (oid,)).fetchall()]
        if sorted(key) not in keys:
            problems.append(f"it has no primary key or unique index of {', '.join(key)}")
    if problems:
        raise SinkFailed(
            "the table cannot take these rows: " + "; ".join(problems), where=where,
            hint="alter it, or name another table: it is made",
        )  # fmt: skip
    return True


def _holds(found: str, kind: str, *, is_enum: bool, where: str) -> bool:
    base, _, modifier = found.partition("(")
    decimal = _DECIMAL.fullmatch(kind)
    if base == "numeric" and modifier:
        precision, scale = (int(each) for each in modifier.rstrip(")").split(","))
        if decimal is not None:
            return scale >= int(decimal[2]) and precision - scale >= int(decimal[1]) - int(decimal[2])
        return "numeric" in {each.partition("(")[0] for each in _HELD.get(kind, ())} and scale >= 0
    if base.startswith(("timestamp", "time", "interval")) and modifier:
        return False  # fewer digits of a second
    if decimal is not None:
        return base == "numeric"
    if kind == "VARCHAR" and is_enum:
        return True
    allowed = _HELD.get(kind, (column_type(kind, where=where),))
    return base in {each.partition("(")[0] for each in allowed}
