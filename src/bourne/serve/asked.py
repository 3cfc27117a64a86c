"""What is asked of the rows of a view: which rows, which columns, in which order, how many.

Law: the answer is that of the SELECT over the view's rows that says the same. Values come as text, as DuckDB reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.duck import cursor
from bourne.errors import InputError, QueryError, UnknownColumn
from bourne.limits import SERVED_ROWS, SERVED_ROWS_MAX
from bourne.schema import Column, Schema, cast_back, quote
from bourne.sql.condition import check_condition
from bourne.udf import explained

# Parameters of the same names are not columns; `where.NAME` is one whatever its name.
RESERVED: Final = frozenset(
    {"where", "columns", "order", "limit", "page", "at_least", "wait", "format", "after", "snapshot", "token"}
)

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
# A slice of a table is cheaper than `take`, which may have to put all of its pieces together.
_FEW_ROWS: Final = 16

# Of these, equal values may have different texts: 0.0 and -0.0, 30 days and one month; also within others.
_MANY_TEXTS: Final = re.compile(r"\b(FLOAT|DOUBLE|INTERVAL|MAP)\b")
_FLOATS: Final = {"FLOAT", "DOUBLE"}

# The bits of each, and whether one of them is a sign.
_INTEGERS: Final = {
    "TINYINT": (8, True), "SMALLINT": (16, True), "INTEGER": (32, True), "BIGINT": (64, True),
    "UTINYINT": (8, False), "USMALLINT": (16, False), "UINTEGER": (32, False), "UBIGINT": (64, False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows that have these values in these columns, as DuckDB's texts, and meet a checked condition; of some columns."""

    filter: tuple[tuple[str, str], ...] = ()
    where: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def is_asked(self) -> bool:
        """Whether no value of a column alone says which rows are selected, though not all are, whole."""
        return self.where is not None or (not self.filter and bool(self.columns))


@dataclass(frozen=True, slots=True)
class Asked:
    """A page of rows. `order` are columns, and whether descending."""

    selected: Selected
    order: tuple[tuple[str, bool], ...] = ()
    limit: int = SERVED_ROWS
    page: int = 1


def read_selected(
    schema: Schema, parameters: Iterable[tuple[str, str]], *, where: str | None, columns: str | None
) -> Selected:
    """Return which rows and columns are asked for.

    Raises:
        UnknownColumn: there is no such column.
        QueryError, SqlError: a value does not fit its column, or the condition is none.
    """
    found: dict[str, str] = {}
    for name, text in parameters:
        if name in RESERVED:
            continue
        column = _column(schema, name.removeprefix("where."))
        found[column.name] = as_text(column, text)
    condition = None if where is None else check_condition(where, schema)
    return Selected(tuple(sorted(found.items())), condition, names_of(schema, columns))


def names_of(schema: Schema, text: str | None) -> tuple[str, ...]:
    """Return the columns that a text such as `a,b` names, each once.

    Raises:
        UnknownColumn: there is no such column.
    """
    return tuple(dict.fromkeys(_column(schema, name).name for name in _names(text)))


def read_order(schema: Schema, text: str | None) -> tuple[tuple[str, bool], ...]:
    """Return the order that a text such as `a,b.desc` says.

    Raises:
        UnknownColumn: there is no such column.
    """
    found = []
    for part in _names(text):
        name, _, way = part.rpartition(".")
        if way.casefold() not in ("asc", "desc") or not name:
            name, way = part, "asc"
        found.append((_column(schema, name).name, way.casefold() == "desc"))
    return tuple(found)


def answer(table: pa.Table, schema: Schema, asked: Asked) -> tuple[pa.Table, bool]:
    """Return the rows of a page, and whether there are more.

    Raises:
        QueryError: a value cannot be compared.
        InputError: there is no such page.
    """
    if not 1 <= asked.limit <= SERVED_ROWS_MAX or asked.page < 1 or asked.page * asked.limit > 1 << 40:
        raise InputError("there is no such page", expected=f"limit 1 to {SERVED_ROWS_MAX:,}, page 1 or more")
    first = (asked.page - 1) * asked.limit
    rows = select(table, schema, asked.selected)
    if asked.order:
        order = [f"{quote(name)} {'DESC' if is_down else 'ASC'}" for name, is_down in asked.order]
        tail = f"ORDER BY {', '.join([*order, '__number'])} LIMIT {asked.limit + 1} OFFSET {first}"
        rows = _by_duckdb(rows, schema, tail, [])
    else:
        rows = rows.slice(first, asked.limit + 1)
    if asked.selected.columns:
        rows = rows.select(list(asked.selected.columns))
    return rows.slice(0, asked.limit), rows.num_rows > asked.limit


def places(table: pa.Table, schema: Schema, selected: Selected) -> list[int]:
    """Return the numbers of the rows that are selected. Raises: as `select`."""
    numbers = pa.array(np.arange(table.num_rows))
    found: list[int] = (
        select(table.append_column("__place", numbers), schema, selected).column("__place").to_pylist()
    )
    return found


def select(table: pa.Table, schema: Schema, selected: Selected) -> pa.Table:
    """Return all rows that are selected, in their order, with all columns, also those beside the schema's.

    Raises:
        QueryError: a value cannot be compared.
    """
    rest = []
    for name, text in selected.filter:
        column = schema.column(name)
        assert column is not None
        value: Any = text if column.type == "VARCHAR" else int(text) if column.type in _INTEGERS else None
        values = table.column(name)
        if value is None or pa.types.is_dictionary(values.type):
            rest.append((column, text))
        else:
            table = _taken(table, pc.indices_nonzero(pc.equal(values, pa.scalar(value, values.type))))
    conditions = [f"{quote(column.name)} = CAST(? AS {column.type})" for column, _ in rest]
    if selected.where is not None:
        conditions.append(f"({selected.where})")
    if not conditions:
        return table
    return _by_duckdb(
        table, schema, f"WHERE {' AND '.join(conditions)} ORDER BY __number", [text for _, text in rest]
    )


def meeting(table: pa.Table, schema: Schema, conditions: Sequence[str]) -> list[NDArray[np.bool_]]:
    """Return of each of some checked conditions which rows meet it.

    Raises:
        QueryError: one cannot be evaluated on some row.
    """
    columns = ", ".join(f"coalesce(({each}), false) AS c{number}" for number, each in enumerate(conditions))
    found = _said(table, schema, f"{columns}, __number", "ORDER BY __number", [])
    return [found.column(number).to_numpy(zero_copy_only=False) for number in range(len(conditions))]


def _taken(table: pa.Table, numbers: pa.Array) -> pa.Table:
    """Return some rows. Of few, nothing else of the columns is looked at."""
    if len(numbers) > _FEW_ROWS:
        return table.take(numbers)
    return pa.concat_tables(
        [table.slice(0, 0), *(table.slice(number, 1) for number in numbers.to_pylist())]
    ).combine_chunks()


def _by_duckdb(table: pa.Table, schema: Schema, tail: str, parameters: Sequence[str]) -> pa.Table:
    """Return the rows that a SELECT says; `__number` is where each is."""
    return table.take(_said(table, schema, "__number", tail, parameters).column(0))


def _said(table: pa.Table, schema: Schema, what: str, tail: str, parameters: Sequence[str]) -> pa.Table:
    """Return what a SELECT over the rows says."""
    columns = ", ".join(cast_back(column) for column in schema.columns)
    numbered = table.append_column("__number", pa.array(np.arange(table.num_rows)))
    with cursor() as connection:
        connection.register("__rows", numbered)
        try:
            return connection.sql(
                f"SELECT {what} FROM (SELECT {columns}, __number FROM __rows) {tail}", params=list(parameters)
            ).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"the rows cannot be compared: {explained(error)}") from error


def as_text(column: Column, text: str) -> str:
    """Return the text that DuckDB writes for the value that it reads from a text, of equal values the same.

    Raises:
        QueryError: it is no value of the column's type, or equal values of that have different texts.
    """
    if _MANY_TEXTS.search(column.type) and column.type not in _FLOATS:
        raise QueryError(
            f"values of type {column.type} cannot be told by a text", where=f"column {column.name}",
            hint=f"write a condition: where={column.name} = …",
        )  # fmt: skip
    if column.type == "VARCHAR":
        return text
    if column.type in _INTEGERS and _WHOLE.fullmatch(text):  # most are, and DuckDB takes ten times as long
        bits, is_signed = _INTEGERS[column.type]
        if (-(1 << bits - 1) if is_signed else 0) <= int(text) < 1 << bits - is_signed:
            return str(int(text))
    with cursor() as connection:
        try:
            row = connection.execute(f"SELECT CAST(? AS {column.type})::VARCHAR", [text]).fetchone()
        except duckdb.Error as error:
            raise QueryError(
                f"this is no {column.type}", where=f"column {column.name}", found=text[:200],
                hint="write it as DuckDB does",
            ) from error  # fmt: skip
    assert row is not None
    return one_text(column.type, str(row[0]))


def one_text(type_: str, text: str) -> str:
    """Return the text that stands for a value and all that equal it."""
    return text.removeprefix("-") if type_ in _FLOATS and text in ("-0.0", "-nan") else text


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def _column(schema: Schema, name: str) -> Column:
    column = schema.column(name)
    if column is None:
        raise UnknownColumn(
            f"there is no column {name!r}", expected=", ".join(schema.names), found=name,
            hint="parameters that are no column: " + ", ".join(sorted(RESERVED)),
        )  # fmt: skip
    return column
