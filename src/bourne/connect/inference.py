"""The columns of a file that nobody declared: their names, and the narrowest types that hold every value exactly.

Law: reading the file under the schema that was inferred for it loses nothing and refuses nothing. A CSV column is a
number, a boolean, a date or a time only if each of its texts is written as such values usually are: 007 stays a text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from bourne.connect.arrow_files import arrow_schema
from bourne.connect.blocks import read_blocks
from bourne.connect.files import Format, read_file
from bourne.connect.json_lines import parse_line
from bourne.connect.plain_texts import is_float
from bourne.connect.texts import read_texts
from bourne.duck import cursor
from bourne.errors import DefinitionError, InputError, MalformedInput, SourceFailed
from bourne.schema import Column, Schema, arrow_type, conform, declare_schema, duckdb_type, quote
from bourne.values import MISFITS, fit_objects

# Types in the order in which they are tried, and how a text of such a column looks.
_TEXTS: Final[Mapping[str, str]] = {
    "BIGINT": r"^-?(0|[1-9][0-9]*)$",
    "HUGEINT": r"^-?(0|[1-9][0-9]*)$",
    "DOUBLE": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
    "BOOLEAN": r"^(?i:true|false)$",
    "DATE": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "TIMESTAMP": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$",
    "TIMESTAMP WITH TIME ZONE": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$",
}

_MOMENTS: Final = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
_WHOLE: Final = (("BIGINT", 1 << 63), ("HUGEINT", 1 << 127))

_HEADER_BYTES_MAX: Final = 1 << 20


def infer_schema(path: Path, kind: Format, *, where: str) -> Schema | None:
    """Return the columns of a file; None if no types can be told, as there are no rows. O(bytes).

    Raises:
        DefinitionError: a column has no usable name or type.
        InputError: the file is not what its kind says.
        SourceFailed: it cannot be read.
    """
    if kind in ("parquet", "arrow"):
        types = _types_of(_own_schema(path, kind), path)
    else:
        types = _infer_csv(path) if kind == "csv" else _infer_jsonl(path)
    return declare_schema(types, where=f"{where}, {path}") if types else None


def column_names(path: Path, kind: Format) -> list[str] | None:
    """Return the names that a file gives its columns, as often as it does; None if each record says its own.

    Raises: as `infer_schema`.
    """
    if kind == "csv":
        return _header(path)
    return None if kind == "jsonl" else list(_own_schema(path, kind).names)


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES_MAX).decode("utf-8-sig", "replace").lstrip("\r\n")
    except OSError as error:
        raise SourceFailed(f"cannot read {path}", found=error.strerror) from error
    names = [field.strip() for field in next(csv.reader(io.StringIO(start, newline="")), [])]
    if not names:
        raise MalformedInput(
            "the file is empty", where=str(path), expected="a first line that names the columns",
            hint="write that line even where there are no rows",
        )  # fmt: skip
    repeated = [name for i, name in enumerate(names) if name.casefold() in map(str.casefold, names[:i])]
    if repeated:
        raise MalformedInput(
            f"column {repeated[0]!r} is there twice (SQL ignores case)", where=f"{path}, line 1",
            expected="columns of different names", found=", ".join(names), hint="rename one",
        )  # fmt: skip
    return names


def _infer_csv(path: Path) -> dict[str, str]:
    names = _header(path)
    as_texts = declare_schema(dict.fromkeys(names, "VARCHAR"), where=str(path))
    batches = [batch.table for batch in read_file(str(path), "csv", as_texts, log=path.stem)]
    texts = pa.concat_tables([as_texts.to_arrow().empty_table(), *batches])
    return {name: _text_type(texts.column(name)) for name in names} if texts.num_rows else {}


def _text_type(texts: pa.ChunkedArray) -> str:
    """Return the first type whose values all of the texts are."""
    trimmed = pc.utf8_trim_whitespace(texts)
    values = trimmed.filter(pc.not_equal(trimmed, ""))
    for kind, pattern in _TEXTS.items() if len(values) else ():
        if pc.all(pc.match_substring_regex(values, pattern)).as_py():
            column = Column("x", kind)
            try:
                conform(pa.table({"x": read_texts(values, column)}), Schema((column,)), log="x")
            except InputError:
                continue
            return kind
    return "VARCHAR"


def infer_records(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the types of the columns of parsed JSON objects."""
    columns: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    found = {name: _json_type(values) for name, values in columns.items()}
    return {name: kind if _can_hold(kind, columns[name]) else "JSON" for name, kind in found.items()}


def _infer_jsonl(path: Path) -> dict[str, str]:
    return infer_records(_parsed(path))


def _parsed(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb", buffering=0) as file:
            for block in read_blocks(file, name=str(path), has_quotes=False):
                for number, line in enumerate(block.data.split(b"\n"), block.line):
                    if line and not line.isspace():
                        yield parse_line(line, {}, f"{path}, line {number}")
    except OSError as error:
        raise SourceFailed(f"cannot read {path}", found=error.strerror) from error


def _json_type(values: Sequence[Any]) -> str:
    """Return the type that all of the values are of; JSON if there is none."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return "VARCHAR"
    if kinds == {str}:
        kind = _text_type(pa.chunked_array([pa.array(present, pa.string())]))
        return kind if kind in _MOMENTS and "" not in present else "VARCHAR"
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {int}:
        return next(
            (kind for kind, most in _WHOLE if all(-most <= value < most for value in present)), "JSON"
        )
    if kinds <= {int, Decimal} and all(isinstance(value, int) or is_float(value) for value in present):
        return (
            "DOUBLE" if all(abs(value) <= 1 << 53 for value in present if isinstance(value, int)) else "JSON"
        )
    if kinds == {list}:
        return f"{_json_type([item for value in present for item in value])}[]"
    if kinds == {dict} and any(present):
        names = dict.fromkeys(name for value in present for name in value)
        parts = [f"{quote(name)} {_json_type([value.get(name) for value in present])}" for name in names]
        return f"STRUCT({', '.join(parts)})"
    return "JSON"


def _can_hold(kind: str, values: Sequence[Any]) -> bool:
    """Say whether nested values are exactly of their type, and the type can be stored."""
    if kind[-1] not in "])":
        return True
    try:
        spelled = duckdb_type(kind)
        fit_objects(list(values), arrow_type(spelled), spelled)
    except (DefinitionError, *MISFITS):
        return False
    return True


def _types_of(schema: pa.Schema, path: Path) -> dict[str, str]:
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in schema
    ]
    types = {
        field.name: "VARCHAR" if pa.types.is_null(field.type) else _duckdb_type(field, path)
        for field in fields
    }
    if len(types) < len(fields):
        raise MalformedInput("a column name is there twice", where=str(path), hint="rename one")
    return types


def _duckdb_type(field: pa.Field, path: Path) -> str:
    try:
        return str(cursor().from_arrow(pa.schema([field]).empty_table()).types[0])
    except (duckdb.Error, pa.ArrowException) as error:
        raise MalformedInput(
            f"column {field.name!r} has no type of DuckDB's", where=str(path), found=str(field.type),
            hint="leave that column out, or convert it",
        ) from error  # fmt: skip


def _own_schema(path: Path, kind: Format) -> pa.Schema:
    """Return the schema that a Parquet or Arrow file has."""
    try:
        if kind == "parquet":
            return parquet.read_schema(path)
        with path.open("rb") as file:
            return arrow_schema(file)
    except pa.ArrowException as error:
        raise MalformedInput(
            f"not {'a Parquet' if kind == 'parquet' else 'an Arrow'} file, or a damaged one", where=str(path),
            found=str(error),
        ) from error  # fmt: skip
    except OSError as error:
        raise SourceFailed(f"cannot read {path}", found=error.strerror or str(error)) from error
