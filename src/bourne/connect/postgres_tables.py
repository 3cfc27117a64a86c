"""Tables of PostgreSQL: what their columns, types and keys are, and which log can hold one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bourne.connect.postgres_texts import PgType
from bourne.connect.postgres_wire import connect, driver, postgres_errors, read_url
from bourne.errors import DefinitionError
from bourne.log.catalog import LogInfo
from bourne.log.relation import stored_schema
from bourne.schema import declare_schema

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

# What a type is in a log. All others are texts, as PostgreSQL prints them: no other type says all of their values, or
# (UUID, JSON) none that can be stored within `before` and `after`.
_TYPES = {
    "bool": "BOOLEAN", "int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT", "oid": "BIGINT", "float4": "FLOAT",
    "float8": "DOUBLE", "bytea": "BLOB", "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "interval": "INTERVAL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """A type with its name, and, of a domain, the modifier that it gives to its base (-1: none)."""

    type: PgType
    modifier: int


@dataclass(frozen=True, slots=True)
class PgColumn:
    """A column. `declared` is its type and `collation` its collation, both as SQL; `stored` is its type in a log."""

    name: str
    type: PgType
    declared: str
    collation: str | None
    stored: str
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class PgTable:
    """A table. `identity` is its replica identity (d, f, i, n); `key` the columns that tell its rows apart, if any do."""

    number: int
    space: str
    name: str
    kind: str
    identity: str
    columns: tuple[PgColumn, ...]
    key: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """Its name for people."""
        return f"{self.space}.{self.name}"

    def column(self, name: str) -> PgColumn | None:
        """Return the column that a log's column of this name stands for."""
        index = index_of(name, [column.name for column in self.columns])
        return None if index is None else self.columns[index]


def index_of(name: str, names: Iterable[str]) -> int | None:
    """Find a column: by its very name, or, if there is none, ignoring case."""
    names = list(names)
    if name in names:
        return names.index(name)
    folded = [each.casefold() for each in names]
    return folded.index(name.casefold()) if name.casefold() in folded else None


def find_table(connection: Connection, name: str) -> int | None:
    """Return the number of the table of that name (with or without a schema, or quoted as in SQL); None if there is none."""
    quoted = '"' in name
    candidates = [name] if quoted else [".".join(_quote(part) for part in name.split(".")), name]
    for candidate in candidates:
        found = connection.execute("SELECT to_regclass(%s)::oid", [candidate]).fetchone()
        if found is not None and found[0] is not None:
            return int(found[0])
    return None


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_table(connection: Connection, number: int) -> PgTable | None:
    """Return what is known of a table now; None if it is gone."""
    row = connection.execute(
        "SELECT n.nspname, c.relname, c.relkind::text, c.relreplident::text FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s",
        [number],
    ).fetchone()
    if row is None:
        return None
    space, name, kind, identity = row
    return PgTable(
        number, space, name, kind, identity, _columns(connection, number), _key(connection, number, identity)
    )


def _columns(connection: Connection, number: int) -> tuple[PgColumn, ...]:
    """Return the columns, but for generated ones: their values are not in the stream."""
    rows = connection.execute(
        """SELECT a.attname, a.atttypid::int8, a.atttypmod, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
                  quote_ident(n.nspname) || '.' || quote_ident(c.collname)
           FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
           LEFT JOIN pg_namespace n ON n.oid = c.collnamespace
           WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum""",
        [number],
    ).fetchall()
    types = read_types(connection, {row[1] for row in rows})
    return tuple(
        PgColumn(name, types[kind].type, declared, collation, stored_type(types[kind], modifier), nullable)
        for name, kind, modifier, declared, nullable, collation in rows
    )


def _key(connection: Connection, number: int, identity: str) -> tuple[str, ...]:
    rows = connection.execute(
        """SELECT a.attname, i.indisreplident FROM pg_index i
           CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           WHERE i.indrelid = %s AND k.place <= i.indnkeyatts
             AND CASE WHEN %s = 'i' THEN i.indisreplident ELSE i.indisprimary END ORDER BY k.place""",
        [number, identity],
    ).fetchall()
    return tuple(row[0] for row in rows)


def read_types(connection: Connection, numbers: set[int]) -> dict[int, TypeInfo]:
    """Return what types are; one that is gone has no name."""
    rows = connection.execute(
        """WITH RECURSIVE base AS (
             SELECT oid AS start, oid, typname, typtype, typbasetype, typtypmod, typelem, typcategory, -1 AS modifier
             FROM pg_type WHERE oid = ANY(%s)
             UNION ALL
             SELECT b.start, t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, t.typelem, t.typcategory,
                    CASE WHEN b.typtypmod >= 0 THEN b.typtypmod ELSE b.modifier END
             FROM base b JOIN pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd')
           SELECT start::int8, typname, modifier, CASE WHEN typcategory = 'A' THEN typelem::int8 ELSE 0 END
           FROM base WHERE typtype <> 'd'""",
        [list(numbers)],
    ).fetchall()
    elements = {row[3] for row in rows} - {0}
    inner = read_types(connection, elements) if elements else {}
    found = {
        number: TypeInfo(PgType(name, inner[element].type.name if element else None), modifier)
        for number, name, modifier, element in rows
    }
    return {number: found.get(number, TypeInfo(PgType("a dropped type"), -1)) for number in numbers}


def stored_type(info: TypeInfo, modifier: int) -> str:
    """Return the type of a log's column that can say all that a column of this type is likely to hold."""
    name = info.type.element or info.type.name
    modifier = modifier if modifier >= 0 else info.modifier
    spelled = _numeric(modifier) if name == "numeric" else _TYPES.get(name, "VARCHAR")
    return spelled if info.type.element is None else f"{spelled}[]"


def _numeric(modifier: int) -> str:
    """Return a decimal type; text for a numeric without precision, which may have any number of digits."""
    precision, scale = (modifier - 4) >> 16, (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    fits = modifier >= 4 and 1 <= precision <= 38 and 0 <= scale <= precision
    return f"DECIMAL({precision},{scale})" if fits else "VARCHAR"


def describe(url: str) -> LogInfo:
    """Return the definition of a log that can hold a table: its name, columns and key; its records are before and after.

    Without a key of one column there is none: then the table needs REPLICA IDENTITY FULL.

    Raises:
        Unreachable: the server is not there.
        DefinitionError: there is no such table, or its name or that of a column cannot be one in a log.
    """
    address = read_url(url, own={"table", "slot", "publication"})
    connection = connect(address)
    with connection, postgres_errors(address.shown):
        table = required_table(connection, address.options.get("table", ""), where=address.shown)
    where = f"table {table.full_name} of {address.shown}"
    rows = declare_schema({column.name: column.stored for column in table.columns}, where=where)
    key = table.key[0] if len(table.key) == 1 else None
    name = "".join(c if c.isalnum() else "_" for c in table.name)
    return LogInfo(name=name, schema=stored_schema(rows), key=key, changes="before_after")


def required_table(connection: Connection, name: str, *, where: str) -> PgTable:
    """Return a table by its name.

    Raises:
        DefinitionError: there is none.
    """
    number = find_table_or_none(connection, name)
    table = None if number is None else read_table(connection, number)
    if table is None:
        raise DefinitionError(
            f"there is no table {name!r}" if name else "which table? The address does not say",
            where=where, expected="?table=schema.table", hint="the name is as in SQL; the user has to see its schema",
        )  # fmt: skip
    return table


def find_table_or_none(connection: Connection, name: str) -> int | None:
    """As `find_table`; a name that cannot be one is none."""
    if not name:
        return None
    try:
        return find_table(connection, name)
    except driver().errors.InvalidName:
        return None
