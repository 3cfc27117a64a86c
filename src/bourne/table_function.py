"""A Python function from a table's rows to rows: all there is in a view that is not SQL.

Law: it treats each row by itself: its answer for some rows is that for the first of them, and that for the others. Only
then does the view not depend on how its input was cut into steps. The first rows that come are asked both ways; what
differs there is refused, and the rest is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from bourne.errors import BourneError, DefinitionError
from bourne.fingerprint import fingerprint
from bourne.schema import Schema, conform, declare_schema, quote
from bourne.udf import FunctionFailed, first_alone, shown_error, shown_row

# How many rows are asked for together, and in two halves.
_SAMPLE_ROWS: Final = 32


@dataclass(frozen=True, slots=True)
class TableFunction:
    """A declared function from the rows of one relation to rows of `schema`. `version` tells its code from another's."""

    name: str
    function: Callable[[pa.Table], Any] = field(repr=False)
    schema: Schema
    version: str

    @property
    def identity(self) -> str:
        """All that its answers depend on, as a text."""
        return f"rows to rows, {self.version}"

    def apply(self, rows: pa.Table) -> pa.Table:
        """Return what the function makes of rows, as exactly the declared columns.

        Raises:
            FunctionFailed: it raised, or what it returned does not fit.
        """
        try:
            answer = self.function(rows)
        except Exception as error:
            row = first_alone(lambda start, count: self._raises(rows.slice(start, count)), rows.num_rows)
            called = f"function {self.name} of {rows.num_rows} rows"
            if row is not None:
                called = f"function {self.name}({shown_row(rows.schema.names, rows.columns, row)})"
            raise FunctionFailed(f"{called} raised {shown_error(self.function, error)}") from error
        return self._checked(answer)

    def check_by_row(self, rows: pa.Table) -> None:
        """Refuse a function whose answer for a few of these rows is not that for one half and that for the other.

        Raises:
            FunctionFailed: it is not; or as `apply`.
        """
        sample = rows.slice(0, _SAMPLE_ROWS)
        middle = sample.num_rows // 2
        whole = _counted(self.apply(sample))
        halves = _counted(self.apply(sample.slice(0, middle))) + _counted(self.apply(sample.slice(middle)))
        if whole != halves:
            raise FunctionFailed(
                f"function {self.name} does not treat each row by itself: of {sample.num_rows} rows together it makes "
                "others than of the same rows in two halves; what needs several rows is for SQL (GROUP BY, OVER)"
            )

    def _raises(self, rows: pa.Table) -> bool:
        try:
            self.function(rows)
        except Exception:  # noqa: BLE001  (whatever it is)
            return True
        return False

    def _checked(self, answer: Any) -> pa.Table:
        if not hasattr(answer, "__arrow_c_stream__") and not isinstance(answer, pa.RecordBatch):
            raise FunctionFailed(f"function {self.name} returned a {type(answer).__name__}, not a table")
        table = pa.Table.from_batches([answer]) if isinstance(answer, pa.RecordBatch) else pa.table(answer)
        found = {name.casefold() for name in table.column_names}
        missing = next((name for name in self.schema.names if name.casefold() not in found), None)
        if missing is not None:
            raise FunctionFailed(f"function {self.name} returned no column {missing!r}")
        try:
            return conform(table, self.schema, log=self.name)
        except BourneError as error:
            value = "" if error.found is None else f" ({error.found})"
            raise FunctionFailed(f"function {self.name}: {error.what}{value}") from error


def declare_table_function(
    view: str, inputs: object, function: object, schema: object, version: str | None
) -> tuple[str, TableFunction]:
    """Return the SQL of a function view's input, and the function; see `App.view`.

    Raises:
        DefinitionError: something in this does not fit together.
    """
    where = f"view {view!r}"
    names = [inputs] if isinstance(inputs, str) else list(inputs) if isinstance(inputs, list | tuple) else []
    if len(names) != 1 or not isinstance(names[0], str):
        raise DefinitionError(
            "a function has one input", where=where, expected="the name of a log, table or view",
            found=repr(inputs)[:80], hint="join several in a view of SQL, and give that",
        )  # fmt: skip
    if not callable(function):
        raise DefinitionError("fn cannot be called", where=where, expected="a function from an Arrow table to one",
                              found=repr(function)[:80])  # fmt: skip
    if not isinstance(schema, Mapping):
        raise DefinitionError("a function's columns have to be declared", where=where,
                              expected='schema={"user": "varchar", …}', found=repr(schema)[:80])  # fmt: skip
    name = getattr(function, "__name__", "fn")
    code = fingerprint(function, where=where) if version is None else f"version {version}"
    declared = declare_schema(schema, where=where)
    return f"SELECT * FROM {quote(names[0])}", TableFunction(name, function, declared, code)


def _counted(table: pa.Table) -> Counter[str]:
    columns = [map(str, column) for column in table.columns]
    return Counter(map(repr, zip(*columns, strict=True)))
