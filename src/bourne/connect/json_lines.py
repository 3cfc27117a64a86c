"""JSON lines in batches: each line is an object whose names are columns.

Numbers keep all their digits until the column says what they are. Blank lines are passed over.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa

from bourne.connect.blocks import read_blocks
from bourne.connect.fitting import Batch, Misfit, Place, fit_records
from bourne.connect.json_bulk import read_lines
from bourne.connect.texts import JSON_READERS
from bourne.errors import InputError, MalformedInput
from bourne.schema import Column, Schema, arrow_type, conform
from bourne.values import MISFITS, fit_objects


def read_jsonl(
    stream: BinaryIO,
    schema: Schema,
    log: str,
    name: str,
    *,
    start: Place | None = None,
    leaves_out: bool = False,
) -> Iterator[Batch]:
    """Yield the records of JSON lines; `name` is what errors call them.

    With `start`, the stream stands there. With `leaves_out`, lines that are malformed or do not fit are left out, and the
    batch says which.

    Raises:
        InputError: a line is malformed or does not fit; names it.
        SourceFailed: the stream cannot be read.
    """
    line, byte = (start.number, start.byte) if start is not None else (1, 0)
    for block in read_blocks(stream, name=name, has_quotes=False, line=line, byte=byte):
        fitted = read_lines(block.data, schema, log=log, newlines=block.newlines)
        misfits: tuple[Misfit, ...] = ()
        if fitted is None:
            lines = [
                (number, line)
                for number, line in enumerate(block.data.split(b"\n"), block.line)
                if line and not line.isspace()
            ]
            fitted, misfits = _fit_lines(lines, schema, log, name, leaves_out=leaves_out)
        if fitted.num_rows or misfits:
            yield Batch(fitted, Place("line", block.next_line, block.byte + len(block.data)), misfits)


def fit_lines(
    lines: Sequence[bytes], schema: Schema, log: str, name: str
) -> tuple[pa.Table, tuple[Misfit, ...]]:
    """Return lines as records of the log, and those that are none; their numbers count from 1."""
    return _fit_lines(list(enumerate(lines, 1)), schema, log, name, leaves_out=True)


def _fit_lines(
    lines: list[tuple[int, bytes]], schema: Schema, log: str, name: str, *, leaves_out: bool
) -> tuple[pa.Table, tuple[Misfit, ...]]:
    parsed = _Parsed(lines, json_readers(schema), name, leaves_out=leaves_out)
    fitted = schema.to_arrow().empty_table()
    if parsed.records:
        fit = functools.partial(fit_parsed, schema=schema, log=log)
        told = parsed.leave_out if leaves_out else None
        fitted = fit_records(parsed.records, fit, parsed.line, name, leave_out=told)
    return fitted, tuple(sorted(parsed.misfits, key=lambda each: each.number))


def json_readers(schema: Schema) -> dict[str, Callable[[Any], Any]]:
    """Return how values are read of those columns that `conform` would not take as JSON has them."""
    return {
        column.name: JSON_READERS[column.type] for column in schema.columns if column.type in JSON_READERS
    }


class _Parsed:
    """The records that lines are, and the lines that are left out."""

    def __init__(
        self, lines: list[tuple[int, bytes]], readers: Mapping[str, Callable[[Any], Any]], name: str, *, leaves_out: bool
    ) -> None:  # fmt: skip
        self.records: list[dict[str, Any]] = []
        self.misfits: list[Misfit] = []
        self._lines: list[tuple[int, bytes]] = []
        for number, line in lines:
            try:
                self.records.append(parse_line(line, readers, f"{name}, line {number}"))
            except MalformedInput as error:
                if not leaves_out:
                    raise
                self.misfits.append(Misfit(number, line, error))
                continue
            self._lines.append((number, line))

    def line(self, row: int) -> int:
        """Return the line of a record."""
        return self._lines[row][0]

    def leave_out(self, row: int, error: InputError) -> None:
        """Take note of a record that does not fit."""
        self.misfits.append(Misfit(*self._lines[row], error))


def parse_line(line: bytes, readers: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    """Return the object that a line is, its fractions as decimals; `readers` read some of its columns.

    Raises:
        MalformedInput: it is none.
    """
    try:
        value = _DECODER.decode(line.decode())
    except (ValueError, ArithmeticError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _not_json(error, f"{where}{column}", "one JSON object a line") from error
    return _record(value, readers, where)


def parse_document(
    data: bytes, readers: Mapping[str, Callable[[Any], Any]], name: str
) -> list[dict[str, Any]]:
    """Return the objects that a JSON document holds: it is one, or a list of them. Otherwise as `parse_line`."""
    try:
        value = _DECODER.decode(data.decode("utf-8-sig"))
    except (ValueError, ArithmeticError, RecursionError) as error:
        place = (
            f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise _not_json(error, f"{name}{place}", "a JSON object, or a list of them") from error
    if not isinstance(value, list):
        return [_record(value, readers, name)]
    return [_record(each, readers, f"{name}, record {number}") for number, each in enumerate(value, 1)]


def _not_json(error: Exception, where: str, expected: str) -> MalformedInput:
    if isinstance(error, json.JSONDecodeError):
        near = repr(error.doc[max(error.pos - 20, 0) : error.pos + 20])
        return MalformedInput(
            f"not JSON: {error.msg}", where=where, expected=expected, found=near, hint="mend the input"
        )
    return MalformedInput(
        "not JSON", where=where, expected=f"{expected}, in UTF-8", found=str(error), hint="mend the input"
    )


def _record(record: Any, readers: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise MalformedInput(
            "not a record",
            where=where,
            expected="a JSON object",
            found=repr(record)[:80],
            hint="mend the input",
        )
    for column, read in readers.items():
        if record.get(column) is not None:
            record[column] = read(record[column])
    return record


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a name is there twice")
    return record


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique)


def fit_parsed(records: list[dict[str, Any]], schema: Schema, log: str) -> pa.Table:
    """Fit parsed records into the log, in columns where that goes, else as `conform` does, which names what does not fit.

    Raises:
        InputError: one does not fit.
    """
    names = set().union(*records)
    try:
        if names and names <= set(schema.names):  # a table without columns would have no rows
            columns = [column for column in schema.columns if column.name in names]
            arrays = [_array([record.get(column.name) for record in records], column) for column in columns]
            return conform(pa.table(arrays, [column.name for column in columns]), schema, log=log)
    except MISFITS:
        pass
    return conform(records, schema, log=log)


def _array(values: list[Any], column: Column) -> Any:
    if column.type.startswith("DECIMAL"):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return fit_objects(values, arrow_type(column.type), column.type)
