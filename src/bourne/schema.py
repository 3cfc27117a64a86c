"""What a record looks like: columns with DuckDB types, their Arrow form, and making data fit them.

Law: a value is stored only if it is exactly representable in its column's type; nothing is rounded, cut or
guessed (`bourne.values` does that, a column at a time). DuckDB is the authority on type names and on their Arrow form.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bourne.duck import cursor
from bourne.errors import DefinitionError, InputError, UnknownColumn, ValueMismatch
from bourne.limits import NAME_CHARS_MAX
from bourne.values import (
    MISFITS,
    check_instants,
    fit_column,
    fit_objects,
    has_instants,
    needs_fit,
)

# Columns that Bourne adds to a view's output start with two underscores; users' columns may not.
HIDDEN_PREFIX = "__"

# Types whose Arrow form reads back as another DuckDB type: relations cast them back.
_CAST_BACK = frozenset({"HUGEINT", "UUID", "JSON"})

_TYPE_KEY = b"bourne:type"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its DuckDB type in DuckDB's spelling, and whether it may be NULL."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a log or a view, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column | None:
        """Return the column of that name, or None. Names are compared as SQL does, ignoring case."""
        folded = name.casefold()
        return next((column for column in self.columns if column.name.casefold() == folded), None)

    def with_not_null(self, name: str) -> Schema:
        """Return the schema in which that column may not be NULL."""
        folded = name.casefold()
        return Schema(
            tuple(Column(c.name, c.type, c.nullable and c.name.casefold() != folded) for c in self.columns)
        )

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (of equal schemas, not of this object)
    def to_arrow(self) -> pa.Schema:
        """Return the Arrow schema; each field's metadata keeps the DuckDB type."""
        return pa.schema(
            [
                pa.field(c.name, arrow_type(c.type), c.nullable, metadata={_TYPE_KEY: c.type.encode()})
                for c in self.columns
            ]
        )

    @staticmethod
    def from_arrow(schema: pa.Schema) -> Schema:
        """Read back what `to_arrow` wrote."""
        return Schema(
            tuple(
                Column(field.name, (field.metadata or {})[_TYPE_KEY].decode(), field.nullable)
                for field in schema
            )
        )

    def to_json(self) -> list[list[Any]]:
        """Return a JSON form."""
        return [[column.name, column.type, column.nullable] for column in self.columns]

    @staticmethod
    def from_json(rows: Iterable[Sequence[Any]]) -> Schema:
        """Read back what `to_json` wrote."""
        return Schema(tuple(Column(str(row[0]), str(row[1]), bool(row[2])) for row in rows))


def declare_schema(columns: Mapping[str, str], *, where: str) -> Schema:
    """Check what a user declared, `{"amount": "decimal(10,2) not null"}`, and return the schema.

    Raises:
        DefinitionError: an unknown or unstorable type, or a bad or repeated column name.
    """
    if not columns:
        raise DefinitionError("a log needs at least one column", where=where, hint="add columns to `schema`")
    result = []
    seen: set[str] = set()
    for name, declared in columns.items():
        check_name(name, kind="column", where=where)
        if name.casefold() in seen:
            raise DefinitionError(
                f"column {name!r} is declared twice (SQL ignores case)", where=where, hint="rename one"
            )
        seen.add(name.casefold())
        text = re.sub(r"\s+not\s+null\s*$", "", declared, flags=re.IGNORECASE)
        result.append(Column(name, duckdb_type(text, where=f"{where}, column {name!r}"), text == declared))
    return Schema(tuple(result))


def check_name(name: str, *, kind: str, where: str | None = None) -> None:
    """Refuse names that cannot be an SQL identifier and a folder name at once. Any script's letters will do."""
    if not name.isidentifier() or len(name) > NAME_CHARS_MAX or len(name.encode()) > 240:
        raise DefinitionError(
            f"{name!r} cannot be a {kind} name",
            where=where,
            expected=f"letters, digits and underscores, not starting with a digit, at most {NAME_CHARS_MAX}",
            hint="rename it",
        )
    if name.startswith(HIDDEN_PREFIX):
        raise DefinitionError(
            f"{name!r} cannot be a {kind} name: names that start with two underscores are Bourne's own",
            where=where,
            hint="rename it",
        )


def duckdb_type(text: str, *, where: str | None = None) -> str:
    """Return DuckDB's own spelling of a type name, e.g. `DECIMAL(10,2)` for `numeric(10, 2)`.

    Raises:
        DefinitionError: DuckDB does not know it, or it cannot be stored in a log.
    """
    try:
        spelled = str(duckdb.sqltype(text))
        cursor().sql(f"SELECT CAST(NULL AS {text})")  # `sqltype` drops constraints without a word
        arrow_type(spelled)
    except (duckdb.Error, RuntimeError, pa.ArrowException) as error:
        raise DefinitionError(
            f"{text!r} is not a type",
            where=where,
            expected="a DuckDB type such as bigint, double, varchar, decimal(10,2), timestamp, date, boolean",
            found=str(error).splitlines()[0],
        ) from error
    if not is_storable(spelled):
        raise DefinitionError(
            f"type {spelled} cannot be stored in a log",
            where=where,
            expected="numbers, varchar, blob, boolean, date, time, timestamp, timestamptz, interval, uuid, json, lists, "
            "structs, maps",
            hint="store it as varchar and CAST it in the view",
        )
    return spelled


@functools.lru_cache(maxsize=4096)
def arrow_type(spelled: str) -> pa.DataType:
    """Return the Arrow type in which DuckDB hands out its type `spelled`."""
    return cursor().sql(f"SELECT NULL::{spelled} AS x").to_arrow_table().schema.field(0).type


@functools.lru_cache(maxsize=4096)
def is_storable(spelled: str) -> bool:
    """Say whether a value of this type is the same after a trip through Arrow."""
    arrow = arrow_type(spelled)
    if pa.types.is_dictionary(arrow) or pa.types.is_null(arrow) or isinstance(arrow, pa.BaseExtensionType):
        return False
    try:
        empty = pa.table({"x": pa.array([], arrow)})
    except pa.ArrowException:  # unions
        return False
    back = str(cursor().from_arrow(empty).types[0])
    return back == spelled or spelled in _CAST_BACK


def cast_back(column: Column) -> str:
    """Return the SQL expression that reads an Arrow column as its DuckDB type."""
    name = quote(column.name)
    return f"{name}::{column.type} AS {name}" if column.type in _CAST_BACK else name


def quote(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def interval_us(text: str, *, where: str) -> int:
    """Return the length of a fixed interval such as '5 seconds', in microseconds.

    Raises:
        DefinitionError: no interval, negative, or with months, whose length is not fixed.
    """
    try:
        parts = "datepart('year', i) * 12 + datepart('month', i), epoch_us(i)"
        months, length_us = (
            cursor().execute(f"SELECT {parts} FROM (SELECT ?::INTERVAL i)", [text]).fetchall()[0]
        )
    except duckdb.Error as error:
        raise DefinitionError(
            f"{text!r} is not an interval", where=where, expected="e.g. '5 seconds' or '2 hours'"
        ) from error
    if months != 0 or length_us < 0:
        raise DefinitionError(
            f"{text!r} is not an interval of fixed length",
            where=where,
            expected="zero or more days, hours, minutes, seconds",
        )
    return int(length_us)


# --- making data fit -----------------------------------------------------------------------------------


def conform(rows: Any, schema: Schema, *, log: str) -> pa.Table:
    """Return `rows` as an Arrow table of these columns and types (nullability and metadata may differ).

    Takes Arrow tables and batches, anything with the Arrow PyCapsule interface (Polars, pandas, DuckDB), or
    an iterable of mappings. A column that is missing becomes NULL if it may be; what pandas calls missing
    (NaN, NaT) is NULL. Which values fit which types is said in `bourne.values`: floats are accepted for
    decimals by their shortest text, texts for decimals and (as ISO 8601) for dates and times; an instant with
    a time zone is stored as UTC in a `timestamp` column, and a time without one is in UTC.

    Raises:
        UnknownColumn, ValueMismatch, InputError: nothing was kept.
    """
    table = _as_table(rows, log)
    if table is None:
        return _from_mappings(list(rows), schema, log)
    plan = _plan(schema)
    if table.schema.equals(plan.bare):
        for number in plan.to_fit:
            fitted = _fit_arrow(table.column(number), plan.bare.types[number], schema.columns[number], log)
            table = table.set_column(number, plan.bare.field(number), fitted)
        for number in plan.instants:
            try:
                check_instants(table.column(number))
            except ValueError:
                _fit_arrow(
                    table.column(number), plan.bare.types[number], schema.columns[number], log
                )  # says which
        for number in plan.not_null:
            _check_nulls(table.column(number), schema.columns[number], log)
        return table
    _check_columns(table.column_names, schema, log)
    target = schema.to_arrow()
    columns = []
    for column, field in zip(schema.columns, target, strict=True):
        index = _index_of(column.name, table.column_names)
        if index is None:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
        else:
            columns.append(_fit_arrow(table.column(index), field.type, column, log))
        _check_nulls(columns[-1], column, log)
    return pa.Table.from_arrays(columns, schema=target)


class _Plan(NamedTuple):
    """What is to be done to data that has a schema's columns and types already."""

    bare: pa.Schema  # as one gets it who names columns and types
    to_fit: tuple[int, ...]  # columns whose type alone does not say that the values fit
    instants: tuple[int, ...]
    not_null: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _plan(schema: Schema) -> _Plan:
    arrow = schema.to_arrow()
    numbered = list(enumerate(zip(schema.columns, arrow.types, strict=True)))
    return _Plan(
        pa.schema(list(zip(arrow.names, arrow.types, strict=True))),
        tuple(index for index, (column, target) in numbered if needs_fit(target, column.type)),
        tuple(index for index, (_, target) in numbered if has_instants(target)),
        tuple(index for index, (column, _) in numbered if not column.nullable),
    )  # fmt: skip


def _as_table(rows: Any, log: str) -> pa.Table | None:
    """Return rows that come in columns as an Arrow table; None if they come one by one."""
    problem = None
    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__"):
        try:
            is_pandas = type(rows).__module__.split(".")[0] == "pandas" and hasattr(rows, "columns")
            table = pa.Table.from_pandas(rows, preserve_index=True) if is_pandas else pa.table(rows)
            # A pandas index with a name is a column; one without is a row number and not data.
            return table.drop_columns([name for name in table.column_names if _INDEX.fullmatch(name)])
        except MISFITS as error:
            problem = error
    elif isinstance(rows, Iterable) and not isinstance(rows, Mapping | str | bytes):
        return None
    raise InputError(
        f"cannot append a {type(rows).__name__} to log {log!r}",
        expected="a table (Arrow, Polars, pandas) or a list of dicts",
        found=problem,
    ) from problem


def _check_columns(names: Sequence[str], schema: Schema, log: str) -> None:
    """Refuse columns that the schema lacks, repeated ones, and missing ones that may not be NULL."""
    for name in names:
        if schema.column(name) is None:
            raise UnknownColumn(
                f"log {log!r} has no column {name!r}",
                expected=", ".join(schema.names),
                found=name,
                hint="rename or drop that column, or declare it in the log's schema",
            )
    present = [name.casefold() for name in names]
    for column in schema.columns:
        count = present.count(column.name.casefold())
        if count > 1:
            raise InputError(f"column {column.name!r} is there {count} times", where=f"log {log!r}")
        if count == 0 and not column.nullable:
            raise ValueMismatch(
                f"column {column.name!r} of log {log!r} is missing and may not be NULL",
                expected=", ".join(schema.names),
                found=", ".join(names) or "no columns",
            )


def _index_of(name: str, names: Sequence[str]) -> int | None:
    folded = name.casefold()
    return next((index for index, other in enumerate(names) if other.casefold() == folded), None)


def _check_nulls(values: pa.ChunkedArray, column: Column, log: str) -> None:
    if not column.nullable and values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise ValueMismatch(
            f"NULL in column {column.name!r}, which may not be NULL",
            where=f"log {log!r}, row {row} of this call",
            expected=column.type,
            found="NULL",
        )


def _fit_arrow(values: pa.ChunkedArray, target: pa.DataType, column: Column, log: str) -> pa.ChunkedArray:
    try:
        return fit_column(values, target, column.type)
    except MISFITS as error:
        row = _first_misfit(values, target, column.type)
        raise _mismatch(column, log, row, f"{_shown(values[row])} ({values.type})") from error


def _first_misfit(values: pa.ChunkedArray, target: pa.DataType, spelled: str) -> int:
    """Find the first value that does not fit, by halving: O(n) work in all."""
    start, end = 0, len(values)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            fit_column(values.slice(start, middle - start), target, spelled)
            start = middle
        except MISFITS:
            end = middle
    return start


def _shown(scalar: pa.Scalar) -> str:
    """Return a value as a person wants to see it."""
    try:
        return repr(scalar.as_py())[:200]
    except (ValueError, OverflowError):  # beyond Python's own types
        if pa.types.is_timestamp(scalar.type):
            return f"{scalar.value} {scalar.type.unit} since 1970"
        return f"a {scalar.type} beyond Python's types"


def _mismatch(column: Column, log: str, row: int, found: str) -> ValueMismatch:
    return ValueMismatch(
        f"column {column.name!r}: a value does not fit {column.type}",
        where=f"log {log!r}, row {row} of this call",
        expected=column.type,
        found=found,
        hint="convert it before appending: nothing is rounded, cut or guessed",
    )


def _from_mappings(rows: list[Any], schema: Schema, log: str) -> pa.Table:
    """Build the columns from dicts."""
    if not rows:
        return schema.to_arrow().empty_table()
    names: dict[Any, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {number} is a {type(row).__name__}, not a mapping",
                where=f"log {log!r}",
                expected="a list of dicts such as {'user': 'ann', 'amount': 3}",
                found=repr(row)[:80],
            )
        names.update(dict.fromkeys(row))
    _check_columns([str(name) for name in names], schema, log)
    target = schema.to_arrow()
    columns = []
    for column, field in zip(schema.columns, target, strict=True):
        name = next((key for key in names if str(key).casefold() == column.name.casefold()), None)
        values = [None if name is None else row.get(name) for row in rows]
        columns.append(_fit_python(values, field.type, column, log))
        _check_nulls(columns[-1], column, log)
    return pa.Table.from_arrays(columns, schema=target)


def _fit_python(values: list[Any], target: pa.DataType, column: Column, log: str) -> pa.ChunkedArray:
    try:
        return fit_objects(values, target, column.type)
    except MISFITS as error:
        for row, value in enumerate(values):
            try:
                fit_objects([value], target, column.type)
            except MISFITS:
                found = f"{value!r:.200} ({type(value).__name__})"
                raise _mismatch(column, log, row, found) from error
        raise InputError(
            f"column {column.name!r} cannot be stored", where=f"log {log!r}", found=error
        ) from error


_INDEX = re.compile(r"__index_level_\d+__")
