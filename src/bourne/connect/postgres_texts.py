"""PostgreSQL's texts of values as values of a log: exactly or not at all.

Law: the result says what the text says, or `ValueMismatch` is raised. Texts are as PostgreSQL prints them with the
settings of `bourne.connect.postgres_wire` (ISO dates, UTC, hexadecimal bytea). An array is a list if all of its
lower bounds are 1: a list could not say others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.plain_texts import read_plain_array
from bourne.connect.texts import read_texts
from bourne.duck import cursor
from bourne.errors import ValueMismatch
from bourne.schema import Column, arrow_type
from bourne.values import MISFITS, fit_column, fit_objects

_MOMENTS = ("date", "timestamp", "timestamptz")
_PLAIN_DATE = r"^\d{4}-\d\d-\d\d$"
_PLAIN_TIMESTAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?(\+00)?$"
_INTERVAL = re.compile(
    r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?(?:([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
)


@dataclass(frozen=True, slots=True)
class PgType:
    """A type of PostgreSQL, domains undone: its name, and, of an array, that of its elements."""

    name: str
    element: str | None = None


def read_values(values: pa.Array, source: PgType, column: Column, *, where: str) -> pa.Array:
    """Return PostgreSQL's texts as values of the column.

    Raises:
        ValueMismatch: one of them is not exactly representable there; `where` and the value are named.
    """
    try:
        return _array(_read(values, source, column.type))
    except MISFITS as error:
        row = _first_misfit(values, source, column.type)
        raise ValueMismatch(
            f"column {column.name!r}: a value does not fit {column.type}",
            where=where,
            expected=column.type,
            found=f"{values[row].as_py()!r:.200} ({source.name})",
            hint="declare the column as a type that can say it, VARCHAR for instance",
        ) from error


def _first_misfit(values: pa.Array, source: PgType, spelled: str) -> int:
    """Find the first value that cannot be read, by halving."""
    start, end = 0, len(values)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            _read(values.slice(start, middle - start), source, spelled)
            start = middle
        except MISFITS:
            end = middle
    return start


def _read(values: pa.Array, source: PgType, spelled: str) -> pa.Array | pa.ChunkedArray:
    target = arrow_type(spelled)
    if values.null_count == len(values):
        return pa.nulls(len(values), target)
    if spelled == "VARCHAR":
        return values
    if pc.any(pc.equal(values, "")).as_py():
        raise ValueError("an empty text is no value")  # `read_texts` takes it for NULL
    if source.element is not None:
        if not pa.types.is_list(target):
            raise TypeError("an array is no value")
        return _read_arrays(values, PgType(source.element), spelled)
    if pa.types.is_nested(target):
        if source.name not in ("json", "jsonb"):
            raise TypeError("neither an array nor JSON")
    elif spelled == "BLOB":
        return _read_bytea(values, source)
    elif spelled == "INTERVAL":
        return fit_objects([_read_interval(text) for text in values.to_pylist()], target, spelled)
    elif pa.types.is_date(target) or pa.types.is_timestamp(target):
        plain = read_plain_array(values, spelled) if source.name in _MOMENTS else None
        return _read_moments(values, target, spelled) if plain is None else plain
    return fit_column(read_texts(pa.chunked_array([values]), Column("x", spelled)), target, spelled)


def _array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _read_bytea(values: pa.Array, source: PgType) -> pa.ChunkedArray:
    if source.name != "bytea" or not pc.all(pc.starts_with(values, "\\x"), min_count=0).as_py():
        raise TypeError("not a bytea")
    relation = cursor().from_arrow(pa.table({"x": values}))
    return relation.select(duckdb.SQLExpression("unhex(substr(x, 3)) AS x")).to_arrow_table().column(0)


def _read_moments(values: pa.Array, target: pa.DataType, spelled: str) -> pa.ChunkedArray:
    """Read dates and timestamps; DuckDB reads those before the year 1 or after 9999, and infinite ones."""
    plain = _PLAIN_DATE if pa.types.is_date(target) else f"{_PLAIN_TIMESTAMP}|{_PLAIN_DATE}"
    if pc.all(pc.match_substring_regex(values, plain), min_count=0).as_py():
        return fit_column(pa.chunked_array([values]), target, spelled)
    form = r"^(-?infinity|\d{4,}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d+)?(\+00)?)?( BC)?)$"
    if not pc.all(pc.match_substring_regex(values, form), min_count=0).as_py():
        raise ValueError("not a date or timestamp of PostgreSQL")
    marked = pc.replace_substring_regex(values, r"^(\d+-\d\d-\d\d)(.*) BC$", r"\1 (BC)\2")
    if pa.types.is_date(target):
        if pc.any(pc.match_substring(marked, ":")).as_py():
            raise ValueError("not a date")  # a time of day must not be cut off
    elif not target.tz:
        marked = pc.replace_substring_regex(marked, r"\+00$", "")
    relation = cursor().from_arrow(pa.table({"x": marked}))
    read = relation.select(duckdb.SQLExpression(f"x::{spelled} AS x")).to_arrow_table().column(0)
    return fit_column(read, target, spelled)


def _read_interval(text: str | None) -> pa.MonthDayNano | None:
    if text is None:
        return None
    found = _INTERVAL.fullmatch(text)
    if found is None:
        raise ValueError("not an interval of PostgreSQL")
    years, months, days, sign, hours, minutes, seconds, fraction = found.groups()
    micros = ((int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)) * 1_000_000
    micros += int((fraction or "").ljust(6, "0"))
    micros = -micros if sign == "-" else micros
    if abs(micros) * 1000 >= 1 << 63:
        raise OverflowError("an interval's time is too long")
    return pa.MonthDayNano([int(years or 0) * 12 + int(months or 0), int(days or 0), micros * 1000])


# --- arrays ---------------------------------------------------------------------------------------------


def _read_arrays(values: pa.Array, element: PgType, spelled: str) -> pa.Array:
    """Read '{1,2}' into lists, as deep as the column's type; the elements of all of them are read in one column."""
    depth, inner = 0, spelled
    while inner.endswith("[]"):
        depth, inner = depth + 1, inner[:-2]
    leaves: list[str | None] = []
    shapes = [None if text is None else _parse_array(text, leaves) for text in values.to_pylist()]
    read = _array(_read(pa.array(leaves, pa.string()), element, inner)) if leaves else None
    target = arrow_type(spelled)
    return _nest(shapes, target, depth, read)


def _nest(shapes: list[Any], target: pa.DataType, depth: int, leaves: pa.Array | None) -> pa.Array:
    """Put leaves (numbered by the shapes) into lists."""
    offsets: list[int | None] = []
    inside: list[Any] = []
    for shape in shapes:
        offsets.append(None if shape is None else len(inside))
        if shape is not None:
            if not isinstance(shape, list):
                raise ValueError("an array of fewer dimensions")
            inside += shape
    ends = pa.array([*offsets, len(inside)], pa.int32())
    if depth > 1:
        items = _nest(inside, target.value_type, depth - 1, leaves)
    elif any(isinstance(item, list) for item in inside):
        raise ValueError("an array of more dimensions")
    else:
        items = (
            pa.nulls(0, target.value_type) if leaves is None else leaves.take(pa.array(inside, pa.int64()))
        )
    return pa.ListArray.from_arrays(ends, items, type=target)


_TOKEN = re.compile(r'[{},]|"((?:[^"\\]|\\.)*)"|((?:[^{},"\\]|\\.)+)', re.DOTALL)


def _parse_array(text: str, leaves: list[str | None]) -> list[Any]:
    """Return the nesting of an array's text, its leaves as numbers, and add those to `leaves`."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError("not an array of PostgreSQL")
        at = token.end()
        quoted, plain = token.groups()
        if token.group() == "{":
            stack.append([])
        elif token.group() == "}":
            done = stack.pop()
            if not stack:
                raise ValueError("not an array of PostgreSQL")
            stack[-1].append(done)
        elif quoted is not None or plain is not None:
            if len(stack) == 1:
                raise ValueError("an array whose lower bounds are not 1")
            stack[-1].append(len(leaves))
            is_null = plain is not None and plain.upper() == "NULL"
            leaves.append(
                None if is_null else re.sub(r"\\(.)", r"\1", quoted or plain or "", flags=re.DOTALL)
            )
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise ValueError("not an array of PostgreSQL")
    return list(stack[0][0])
