"""Types and constants of DuckDB's bound plan, as SQL text that DuckDB reads as exactly these.

Companion of `bind`: together they are what knows the plan's JSON. What cannot be written exactly is not written.
"""

from __future__ import annotations

import functools
import math
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from bourne.schema import quote

Json = dict[str, Any]

WHOLE_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "HUGEINT",
)


class UnknownType(Exception):
    """A type whose JSON we do not read."""


def type_text(node: Json) -> str:
    """Return DuckDB's spelling of a type given as JSON."""
    info = node.get("type_info") or {}
    match node["id"]:
        case "DECIMAL":
            return f"DECIMAL({info['width']},{info.get('scale', 0)})"
        case "LIST":
            return f"{type_text(info['child_type'])}[]"
        case "ARRAY":
            return f"{type_text(info['child_type'])}[{info['size']}]"
        case "STRUCT":
            children = (f"{quote(c['first'])} {type_text(c['second'])}" for c in info["child_types"])
            return spelled(f"STRUCT({', '.join(children)})")
        case "TUPLE":
            return f"TUPLE({', '.join(type_text(c['second']) for c in info['child_types'])})"
        case "MAP":
            key, value = (c["second"] for c in info["child_type"]["type_info"]["child_types"])
            return f"MAP({type_text(key)}, {type_text(value)})"
        case "VARCHAR" if info.get("alias") == "JSON" or node.get("alias") == "JSON":
            return "JSON"
        case "VARCHAR" if "collation" in info:
            raise UnknownType(f"VARCHAR COLLATE {info['collation']}")
        case "NULL":
            return '"NULL"'
        case plain if not info or set(info) <= {"type"}:
            return str(plain)
    raise UnknownType(node["id"])


@functools.lru_cache(maxsize=4096)
def spelled(text: str) -> str:
    """Return DuckDB's spelling: it quotes only names that need it."""
    return str(duckdb.sqltype(text))


def type_of(node: Json) -> str:
    """Return the type of a bound expression; what has none written is a boolean."""
    return type_text(node["return_type"]) if "return_type" in node else "BOOLEAN"


def literal_text(kind: str, node: Json, value: Any) -> str | None:
    """Return SQL that reads as this constant, or None if we cannot write it exactly."""
    if kind == "VARCHAR":
        return None if "\0" in value else "'" + value.replace("'", "''") + "'"
    if kind == "JSON":
        text = literal_text("VARCHAR", node, value)
        return f"{text}::JSON" if text else None
    if kind == "BLOB":  # given in the escaped form that the cast reads: quotes and backslashes as \\x..
        return f"'{value}'::BLOB"
    if kind == "BOOLEAN":
        return "true" if value else "false"
    if kind == "INTEGER":
        return str(value)
    if kind in WHOLE_NUMBERS and kind != "HUGEINT":
        return f"({value})::{kind}"
    if kind in ("HUGEINT", "UHUGEINT"):
        return f"'{_wide(value)}'::{kind}"
    if kind in ("DOUBLE", "FLOAT") and isinstance(value, int | float):
        text = repr(float(value))
        if not math.isfinite(value):
            return f"'{text}'::{kind}"
        text = text if "e" in text else text + "e0"
        return text if kind == "DOUBLE" else f"({text})::FLOAT"
    if kind == "DATE" and _DAYS[0] <= value <= _DAYS[1]:
        return f"'{_EPOCH + timedelta(days=value)}'::DATE"
    if kind in _MAKE_INSTANT and _DAYS[0] <= value // 86_400_000_000 <= _DAYS[1]:
        return f"{_MAKE_INSTANT[kind]}({value})"
    if node["id"] == "LIST":
        child = node["type_info"]["child_type"]
        items = [_item_text(child, item) for item in value.get("children", [])]
        return None if None in items else f"[{', '.join(map(str, items))}]::{kind}"
    if node["id"] in ("STRUCT", "TUPLE"):
        kinds = node["type_info"]["child_types"]
        pairs = zip(kinds, value.get("children", []), strict=True)
        texts = [(part["first"], _item_text(part["second"], item)) for part, item in pairs]
        if None in [text for _, text in texts]:
            return None
        named = ", ".join(f"{quote(name)} := {text}" if name else str(text) for name, text in texts)
        return f"struct_pack({named})" if node["id"] == "STRUCT" else f"row({named})"
    if node["id"] == "DECIMAL":
        scale = node["type_info"].get("scale", 0)
        return f"'{Decimal(f'{_wide(value)}e-{scale}'):f}'::{kind}"  # not by arithmetic, which rounds
    if kind == "INTERVAL":
        sizes = {"to_months": "months", "to_days": "days", "to_microseconds": "micros"}
        parts = [f"{make}({value[unit]})" for make, unit in sizes.items() if value.get(unit)]
        return "(" + (" + ".join(parts) or "to_days(0)") + ")"
    return None


def _item_text(kind: Json, item: Json) -> str | None:
    text = type_text(kind)
    return f"NULL::{text}" if item["is_null"] else literal_text(text, kind, item.get("value"))


_EPOCH = date(1970, 1, 1)
_DAYS = ((date.min - _EPOCH).days, (date.max - _EPOCH).days)
_MAKE_INSTANT = {"TIMESTAMP": "make_timestamp", "TIMESTAMP WITH TIME ZONE": "make_timestamptz"}


def _wide(value: Any) -> int:
    """Return a number that may be given in two 64-bit halves."""
    return (value.get("upper", 0) << 64) + value.get("lower", 0) if isinstance(value, dict) else int(value)
