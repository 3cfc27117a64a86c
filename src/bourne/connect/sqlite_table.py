"""A table of a SQLite database: made for the columns of a view, or checked.

Law: a column is taken only if SQLite keeps the values that are stored in it as they are: its affinity converts none. A
text such as '12.50' in a NUMERIC column would become a number.
"""

from __future__ import annotations

import sqlite3
from typing import Final, Literal

import pyarrow as pa

from bourne.errors import SinkFailed
from bourne.schema import Column, arrow_type, quote

Storage = Literal["INTEGER", "REAL", "TEXT", "BLOB"]

# The affinities of columns that keep a storage as it is. BLOB is that of a column without a type.
_KEEPING: Final[dict[Storage, tuple[str, ...]]] = {
    "INTEGER": ("INTEGER", "NUMERIC", "BLOB"),
    "REAL": ("REAL", "BLOB"),
    "TEXT": ("TEXT", "BLOB"),
    "BLOB": ("INTEGER", "NUMERIC", "REAL", "TEXT", "BLOB"),
}


def storage_of(kind: str) -> Storage:
    """Return how SQLite stores a DuckDB type: as text what it has no form for."""
    arrow = arrow_type(kind)
    if kind == "UBIGINT":
        return "TEXT"
    if pa.types.is_integer(arrow) or pa.types.is_boolean(arrow):
        return "INTEGER"
    if pa.types.is_floating(arrow):
        return "REAL"
    return "BLOB" if pa.types.is_binary(arrow) else "TEXT"


def create_table(
    cursor: sqlite3.Cursor, table: str, columns: tuple[Column, ...], key: tuple[str, ...]
) -> None:
    """Make the table, its key a UNIQUE one: a PRIMARY KEY of SQLite's would number NULL."""
    parts = [
        f"{quote(column.name)} {storage_of(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in columns
    ]
    if key:
        parts.append(f"UNIQUE ({', '.join(map(quote, key))})")
    cursor.execute(f"CREATE TABLE {quote(table)} ({', '.join(parts)})")


def check_table(
    cursor: sqlite3.Cursor, table: str, columns: tuple[Column, ...], key: tuple[str, ...], *, where: str
) -> bool:
    """Say whether the table is there.

    Raises:
        SinkFailed: it is, and does not fit.
    """
    found = {
        name.casefold(): (name, declared, is_not_null and default is None, primary)
        for _, name, declared, is_not_null, default, primary in cursor.execute(
            f"PRAGMA table_info({quote(table)})"
        )
    }
    if not found:
        return False
    names = ", ".join(name for name, *_ in found.values())
    for column in columns:
        there = found.pop(column.name.casefold(), None)
        if there is None:
            raise SinkFailed(
                f"there is no column {column.name!r}", where=where, expected=column.name, found=names
            )
        storage = storage_of(column.type)
        if _affinity(there[1]) not in _KEEPING[storage]:
            raise SinkFailed(
                f"column {column.name!r} would not keep {column.type} as it is", where=where,
                expected=storage, found=there[1],
                hint="make the table anew with that type, or let it be made",
            )  # fmt: skip
    for name, _, is_needed, primary in found.values():
        if is_needed and not primary:
            raise SinkFailed(
                f"column {name!r} has no default and may not be NULL, but the view has no such column",
                where=where, expected=", ".join(column.name for column in columns), found=name,
            )  # fmt: skip
    if key and not _is_unique(cursor, table, key):
        raise SinkFailed(
            "the table has no such key", where=where, expected=f"PRIMARY KEY or UNIQUE ({', '.join(key)})",
            hint=f"CREATE UNIQUE INDEX … ON {quote(table)} ({', '.join(map(quote, key))})",
        )  # fmt: skip
    return True


def _affinity(declared: str) -> str:
    """Return what SQLite makes of a declared type (https://sqlite.org/datatype3.html, 3.1)."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    return "REAL" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _is_unique(cursor: sqlite3.Cursor, table: str, key: tuple[str, ...]) -> bool:
    """Say whether just these columns, byte by byte, are the primary key or a unique one of all rows."""
    if numbers_rows(cursor, table, key):
        return True
    wanted = {name.casefold() for name in key}
    for _, name, is_unique, _, is_partial in cursor.execute(f"PRAGMA index_list({quote(table)})").fetchall():
        if is_unique and not is_partial:
            parts = cursor.execute(f"PRAGMA index_xinfo({quote(name)})").fetchall()
            columns = [(column or "", collation) for _, _, column, _, collation, is_key in parts if is_key]
            if {column.casefold() for column, _ in columns} == wanted and all(
                collation == "BINARY" for _, collation in columns
            ):
                return True
    return False


def numbers_rows(cursor: sqlite3.Cursor, table: str, key: tuple[str, ...]) -> bool:
    """Say whether the key is SQLite's own number of a row (INTEGER PRIMARY KEY), which is never NULL: it makes one up."""
    info = cursor.execute(f"PRAGMA table_info({quote(table)})").fetchall()
    primary = [name.casefold() for _, name, _, _, _, place in info if place]
    if primary != [name.casefold() for name in key]:
        return False
    indexes = cursor.execute(f"PRAGMA index_list({quote(table)})").fetchall()
    return all(origin != "pk" for _, _, _, origin, _ in indexes)
