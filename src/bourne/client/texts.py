"""Rows of events as Arrow: each value is the text that DuckDB writes for it, and DuckDB reads it back.

Law: what comes out is what the view has, but for the spaces in JSON. A row is a tuple of texts, so equal rows are equal, and can be counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from bourne.duck import cursor
from bourne.errors import QueryError

Row: TypeAlias = tuple[str | None, ...]
Columns: TypeAlias = tuple[tuple[str, str], ...]  # names and SQL types


class Texts:
    """Reads rows of these columns."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        spelled = ", ".join(f"CAST(NULL AS {kind}) AS c{number}" for number, (_, kind) in enumerate(columns))
        try:
            schema = cursor().sql(f"SELECT {spelled}").to_arrow_table().schema
        except duckdb.Error as error:
            raise QueryError("a type of the server is not known here", found=str(error)) from error
        self._kinds = dict(zip((name for name, _ in columns), schema.types, strict=True))
        self._is_json = {name for name, kind in columns if kind == "JSON"}

    def row(self, members: Mapping[str, Any]) -> Row:
        """Return the texts of a row as JSON gave it."""
        return tuple(self._text(name, members.get(name)) for name, _ in self.columns)

    def _text(self, name: str, value: Any) -> str | None:
        if name in self._is_json:
            return None if value is None else _json(value)
        if value is None or isinstance(value, str):
            return value
        return _literal(value, self._kinds[name])

    def table(self, rows: Iterable[Row]) -> pa.Table:
        """Return rows as a table. Takes O(rows)."""
        found = list(rows)
        columns: Sequence[Sequence[str | None]] = list(zip(*found, strict=True)) or [()] * len(self.columns)
        names = [f"c{number}" for number in range(len(self.columns))]
        texts = pa.table([pa.array(column, pa.string()) for column in columns], names=names)
        casts = ", ".join(
            f"CAST({name} AS {kind}) AS {name}" for name, (_, kind) in zip(names, self.columns, strict=True)
        )
        with cursor() as connection:
            connection.register("__texts", texts)
            table = connection.sql(f"SELECT {casts} FROM __texts").to_arrow_table()
        return table.rename_columns([name for name, _ in self.columns])


def parse(text: str) -> Any:
    """Return what JSON says; numbers keep their digits."""
    return json.loads(text, parse_float=_Digits, parse_int=_Digits, parse_constant=_Digits)


class _Digits(str):
    """A number as it was written."""

    __slots__ = ()


def _literal(value: Any, kind: pa.DataType, *, is_inner: bool = False) -> str:
    """Return a value as DuckDB writes it in a text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and pa.types.is_map(kind):
        pairs = [
            f"{_literal(key, kind.key_type, is_inner=True)}={_literal(item, kind.item_type, is_inner=True)}"
            for key, item in value
        ]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_literal(item, kind.value_type, is_inner=True) for item in value)}]"
    if isinstance(value, Mapping):
        members = [
            f"{_quoted(name)}: {_literal(item, kind.field(name).type, is_inner=True)}"
            for name, item in value.items()
        ]
        return f"{{{', '.join(members)}}}"
    return _quoted(value) if is_inner and not isinstance(value, _Digits) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Any) -> str:
    """Return JSON with the digits that came."""
    if isinstance(value, _Digits):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_json(name)}:{_json(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def number_of(key: Any) -> Any:
    """Return the key of a row: a number, or a text."""
    return (
        int(key)
        if isinstance(key, _Digits) and key.lstrip("-").isdigit()
        else Decimal(key)
        if isinstance(key, _Digits)
        else key
    )
