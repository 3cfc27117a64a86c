"""Python functions inside SQL: declared once, known to every DuckDB that binds or runs a view, or answers a query.

Law: a function's answer for a row depends on its arguments for that row alone, always; so a view that calls it is as
replayable as any other. That cannot be checked; all else is: types, lengths and values are as declared or the call fails.
It does not say when, how often or in which thread a function is called, nor for which rows if a condition in the same
SELECT rejects some: DuckDB decides that.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from types import ModuleType
from typing import Any, Final
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa

from bourne.duck import connect
from bourne.errors import DefinitionError
from bourne.fingerprint import fingerprint
from bourne.schema import arrow_type, check_name, duckdb_type
from bourne.values import MISFITS, fit_column, fit_objects

# What annotations stand for. A Decimal needs a width and scale, which Python's type does not say.
_OF_PYTHON: Final = {
    bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR", bytes: "BLOB", date: "DATE", time: "TIME",
    datetime: "TIMESTAMP", timedelta: "INTERVAL", UUID: "UUID",
}  # fmt: skip

_SHOWN_CHARS: Final = 60


class FunctionFailed(Exception):
    """A user's function raised, or returned what it may not. In one line: DuckDB hands on the text only."""


@dataclass(frozen=True, slots=True)
class Udf:
    """A declared function. `version` tells its code from what it was before a change."""

    name: str
    function: Callable[..., Any] = field(repr=False)
    arguments: tuple[str, ...]
    names: tuple[str, ...]
    returns: str
    is_scalar: bool
    takes_nulls: bool
    version: str

    @property
    def identity(self) -> str:
        """All that the answers depend on, as a text."""
        kind = ("scalar" if self.is_scalar else "arrays") + (" of NULLs, too" if self.takes_nulls else "")
        return f"({', '.join(self.arguments)}) -> {self.returns}, {kind}, {self.version}"


def declare_udf(
    function: Callable[..., Any],
    *,
    returns: str,
    name: str | None,
    arguments: Sequence[str] | None,
    scalar: bool,
    nulls: bool,
    version: str | None,
) -> Udf:
    """Return a function as declared; see `App.udf`.

    Raises:
        DefinitionError: it cannot be called from SQL like this.
    """
    name = name if name is not None else getattr(function, "__name__", "")
    check_name(name, kind="function")
    where = f"function {name!r}"
    if not callable(function):
        raise DefinitionError("this cannot be called", where=where, found=repr(function)[:80])
    if nulls and not scalar:
        raise DefinitionError("nulls=True is for functions of single values", where=where,
                              hint="leave it out: arrays come with their NULLs")  # fmt: skip
    names = _parameters(function, None if arguments is None else len(arguments), where)
    given = [_annotated(function, each, where) for each in names] if arguments is None else arguments
    types = tuple(_type(text, f"{where}, argument {each!r}") for each, text in zip(names, given, strict=True))
    result = Udf(
        name, function, types, names, _type(returns, f"{where}, what it returns"), scalar, nulls,
        fingerprint(function, where=where) if version is None else f"version {version}",
    )  # fmt: skip
    _check_reached(result, where)
    return result


def _type(text: str, where: str) -> str:
    if not isinstance(text, str):
        raise DefinitionError("a type that is no text", where=where, expected="a DuckDB type: 'double'",
                              found=repr(text)[:80])  # fmt: skip
    spelled = duckdb_type(text, where=where)
    if "JSON" in spelled:
        raise DefinitionError("JSON does not pass between DuckDB and Python", where=where,
                              hint="declare it as varchar, and CAST in the SQL")  # fmt: skip
    return spelled


def _parameters(function: Callable[..., Any], count: int | None, where: str) -> tuple[str, ...]:
    """Return the names of a function's positional parameters; invented ones where its own are not known."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions do not say
        found = []
        names = [f"argument_{index}" for index in range(count or 0)]
    else:
        is_open = any(each.kind == each.VAR_POSITIONAL for each in found)
        plain = [each for each in found if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        needed = sum(each.default is each.empty for each in plain)
        wants = len(plain) if count is None else count
        if any(each.kind == each.KEYWORD_ONLY and each.default is each.empty for each in found):
            raise DefinitionError("it has keyword-only parameters", where=where,
                                  hint="SQL gives arguments by position: give them defaults")  # fmt: skip
        if not needed <= wants <= len(plain) and not (is_open and wants >= needed):
            raise DefinitionError("it does not take as many arguments", where=where,
                                  expected=f"{wants} types in `arguments`", found=str(inspect.signature(function)))  # fmt: skip
        names = [each.name for each in plain][:wants]
        names += [f"argument_{index}" for index in range(len(names), wants)]
    if not names:
        raise DefinitionError("a function of nothing is a constant", where=where, expected="one argument or more",
                              hint="write the value into the SQL, or give the types: arguments=[…]")  # fmt: skip
    return tuple(names)


def _annotated(function: Callable[..., Any], parameter: str, where: str) -> str:
    """Return the DuckDB type that a parameter's annotation stands for: a Python type, or a DuckDB type as text."""
    note = inspect.signature(function).parameters[parameter].annotation
    for _ in range(2):  # a text within a text, where all annotations are texts
        if isinstance(note, str):
            note = _meaning(note, getattr(function, "__globals__", {}))
    if isinstance(note, type) and note in _OF_PYTHON:
        return _OF_PYTHON[note]
    if isinstance(note, str):
        return note
    missing = note is inspect.Parameter.empty
    raise DefinitionError(
        f"the type of argument {parameter!r} is not known", where=where,
        expected='a DuckDB type, amount: "decimal(10,2)", or one of ' + ", ".join(t.__name__ for t in _OF_PYTHON),
        found="no annotation" if missing else repr(note)[:80],
        hint='annotate it, or name the types of all arguments: arguments=["double", …]',
    )  # fmt: skip


def _meaning(text: str, names: dict[str, Any]) -> Any:
    """Return what an annotation's text is in Python; the text, if it is nothing there, or the name of a module."""
    try:
        found = eval(text, dict(names))
    except Exception:  # noqa: BLE001  (then it is a type of DuckDB's)
        return text
    return text if isinstance(found, ModuleType) else found


def _check_reached(udf: Udf, where: str) -> None:
    """Refuse a name by which SQL does not come to this function: a built-in one, or a word of the grammar."""
    database = connect()
    (taken,) = database.execute(
        "SELECT count(*) FROM duckdb_functions() WHERE lower(function_name) = lower(?)", [udf.name]
    ).fetchall()[0]
    reached: list[int] = []

    def probe(*columns: pa.ChunkedArray) -> pa.Array:
        reached.append(len(columns))
        return pa.nulls(len(columns[0]), arrow_type(udf.returns))

    values = ", ".join(f"NULL::{spelled}" for spelled in udf.arguments)
    try:
        if not taken:
            _create(database, udf, probe)
            database.execute(f"SELECT {udf.name}({values})").fetchall()
    except duckdb.Error:
        reached.clear()
    finally:
        database.close()
    if not reached or udf.name.upper() in ("TUMBLE", "HOP", "CUMULATE", "SESSION"):
        raise DefinitionError(
            f"{udf.name!r} means something else in SQL", where=where, expected="a name of its own",
            found="a function of DuckDB's" if taken else "a word of SQL", hint="give it another name: name=…",
        )  # fmt: skip


# --- in DuckDB -------------------------------------------------------------------------------------------


def register(connection: duckdb.DuckDBPyConnection, functions: Iterable[Udf]) -> None:
    """Make functions known to a DuckDB; its cursors know them, too."""
    for udf in functions:
        _create(connection, udf, _adapter(udf))


def _create(connection: duckdb.DuckDBPyConnection, udf: Udf, function: Callable[..., Any]) -> None:
    parameters = [
        inspect.Parameter(f"c{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(udf.names))
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # DuckDB counts them
    connection.create_function(
        udf.name, function, list(udf.arguments), udf.returns, type="arrow", null_handling="special"
    )


def _adapter(udf: Udf) -> Callable[..., pa.Array]:
    def call(*columns: pa.ChunkedArray) -> pa.Array:
        return evaluate(udf, [column.combine_chunks() for column in columns])

    return call


def evaluate(udf: Udf, arrays: Sequence[pa.Array]) -> pa.Array:
    """Return the function's values for some rows.

    Raises:
        FunctionFailed: it raised, or did not return a value of the right type for each row.
    """
    values = _of_each(udf, arrays) if udf.is_scalar else _of_all(udf, arrays)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def explained(error: BaseException) -> str:
    """Return an error's text, less what DuckDB says around a function's own failure."""
    return str(error).rpartition(f"{FunctionFailed.__name__}: ")[2] or type(error).__name__


def reason(error: BaseException) -> str:
    """Return what went wrong in one line."""
    return next(iter(explained(error).splitlines()), type(error).__name__)


def _of_all(udf: Udf, arrays: Sequence[pa.Array]) -> pa.ChunkedArray:
    rows = len(arrays[0])
    try:
        answer = udf.function(*arrays)
    except Exception as error:
        row = first_alone(
            lambda start, count: _raises(udf, [array.slice(start, count) for array in arrays]), rows
        )
        raise FunctionFailed(
            f"{_called(udf, arrays, row)} raised {shown_error(udf.function, error)}"
        ) from error
    if isinstance(answer, pa.Scalar | str | bytes) or not hasattr(answer, "__len__"):
        raise FunctionFailed(
            f"function {udf.name} returned {_short(answer)} for {rows} rows: an array or a list is expected"
        )
    if len(answer) != rows:
        raise FunctionFailed(f"function {udf.name} returned {len(answer)} values for {rows} rows")
    try:
        return _fitted(answer, udf.returns)
    except MISFITS as error:
        row = _first_misfit(answer, udf.returns)
        raise FunctionFailed(_misfit(udf, arrays, row, answer[row])) from error


def _of_each(udf: Udf, arrays: Sequence[pa.Array]) -> pa.ChunkedArray:
    try:
        columns = [_objects(array, spelled) for array, spelled in zip(arrays, udf.arguments, strict=True)]
    except (ValueError, OverflowError) as error:  # a date in the year 10000
        raise FunctionFailed(
            f"function {udf.name}: an argument is beyond Python's own types: {error}"
        ) from error
    result: list[Any] = []
    for row, values in enumerate(zip(*columns, strict=True)):
        if not udf.takes_nulls and any(value is None for value in values):
            result.append(None)
            continue
        try:
            result.append(udf.function(*values))
        except Exception as error:
            raise FunctionFailed(
                f"{_called(udf, arrays, row)} raised {shown_error(udf.function, error)}"
            ) from error
    try:
        return fit_objects(result, arrow_type(udf.returns), udf.returns)
    except MISFITS as error:
        row = _first_misfit(result, udf.returns)
        raise FunctionFailed(_misfit(udf, arrays, row, result[row])) from error


def _objects(array: pa.Array, spelled: str) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return [None if value is None else int(value) for value in values] if spelled == "HUGEINT" else values


def _fitted(answer: Any, spelled: str) -> pa.ChunkedArray:
    """Return an array, NumPy array or list as a column of exactly these values."""
    target = arrow_type(spelled)
    if isinstance(answer, np.ndarray) and answer.ndim == 1 and answer.dtype != object:
        answer = pa.array(answer)
    if isinstance(answer, pa.Array):
        answer = pa.chunked_array([answer])
    if isinstance(answer, pa.ChunkedArray):
        return fit_column(answer, target, spelled)
    return fit_objects(list(answer), target, spelled)


def _first_misfit(answer: Any, spelled: str) -> int:
    for row in range(len(answer)):
        try:
            _fitted(answer[row : row + 1], spelled)
        except MISFITS:
            return row
    return 0


def first_alone(raises: Callable[[int, int], bool], count: int) -> int | None:
    """Return the first of some rows that fails alone, by halving; None if none does.

    `raises` says of the rows from a first one on, and how many, whether they fail.
    """
    start, end = 0, count
    while end - start > 1:
        middle = (start + end) // 2
        if raises(start, middle - start):
            end = middle
        else:
            start = middle
    return start if count and raises(start, end - start) else None


def _raises(udf: Udf, arrays: Sequence[pa.Array]) -> bool:
    try:
        udf.function(*arrays)
    except Exception:  # noqa: BLE001  (whatever it is)
        return True
    return False


def _called(udf: Udf, arrays: Sequence[pa.Array], row: int | None) -> str:
    if row is None:
        return f"function {udf.name} of {len(arrays[0])} rows"
    return f"function {udf.name}({shown_row(udf.names, arrays, row)})"


def shown_row(names: Sequence[str], columns: Sequence[pa.Array | pa.ChunkedArray], row: int) -> str:
    """Return the values of one row, by name."""
    return ", ".join(f"{name} = {_short(column[row])}" for name, column in zip(names, columns, strict=True))


def _misfit(udf: Udf, arrays: Sequence[pa.Array], row: int, value: Any) -> str:
    kind = value.type if isinstance(value, pa.Scalar) else type(value).__name__
    return f"{_called(udf, arrays, row)} returned {_short(value)} ({kind}), which does not fit {udf.returns}"


def _short(value: Any) -> str:
    try:
        text = repr(value.as_py() if isinstance(value, pa.Scalar) else value)
    except (ValueError, OverflowError):  # beyond Python's own types
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def shown_error(function: Callable[..., Any], error: Exception) -> str:
    """Return an exception in one line, with the place in the function's own file."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if code is not None and frame.filename == code.co_filename]
    return f"{text} (line {lines[-1]})" if lines and lines[-1] else text
