"""CSV in batches: the fields as texts by Arrow, their values by the log's schema.

The first record names the columns. An empty field is NULL, a quoted empty one in a VARCHAR or BLOB column an empty value.
Blank lines are passed over; white space around a value counts in such columns only.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from bourne.connect.blocks import Block, read_blocks
from bourne.connect.csv_bulk import read_records
from bourne.connect.fitting import Batch, Misfit, Place, fit_records, raise_at
from bourne.connect.texts import read_texts
from bourne.errors import InputError, MalformedInput
from bourne.schema import Schema, conform

# Where the header is looked for first.
_HEADER_BYTES = 1 << 16

LeftOut = Callable[[int, bytes, InputError], None]
"""Told of what is left out: the number of its line, its bytes, and why."""


def read_csv(
    stream: BinaryIO,
    schema: Schema,
    log: str,
    name: str,
    *,
    start: Place | None = None,
    leaves_out: bool = False,
) -> Iterator[Batch]:
    """Yield a CSV stream's records; `name` is what errors call it.

    With `start`, the stream stands there. With `leaves_out`, records that are malformed or do not fit are left out, and
    the batch says which.

    Raises:
        InputError: a record is malformed or does not fit; names its line. With `leaves_out`: the header does not fit.
        SourceFailed: the stream cannot be read.
    """
    names = list(start.columns) if start is not None else []
    line, byte = (start.number, start.byte) if start is not None else (1, 0)
    misfits: list[Misfit] = []

    def leave_out(line: int, data: bytes, error: InputError) -> None:
        misfits.append(Misfit(line, data, error))

    blocks = read_blocks(
        stream, name=name, has_quotes=True, line=line, byte=byte, leave_out=leave_out if leaves_out else None
    )
    following = Place("line", line, byte, tuple(names))
    for block in blocks:
        body = block
        if not names:
            names, body = _header(block, schema, log, name)
        fitted = read_records(body.data, names, schema, log=log, newlines=block.newlines)
        if fitted is None:
            fitted = _fit_records(body, names, schema, log, name, leave_out if leaves_out else None)
        following = _after(block, names)
        if fitted.num_rows or misfits:
            yield Batch(fitted, following, tuple(sorted(misfits, key=lambda each: each.number)))
            misfits = []
    if misfits:  # of the last lines
        yield Batch(schema.to_arrow().empty_table(), following, tuple(misfits))


def _fit_records(
    body: Block, names: list[str], schema: Schema, log: str, name: str, leave_out: LeftOut | None
) -> pa.Table:
    """Return records as rows of the log, and tell of those that are left out; the slow way, which says what is wrong."""
    records = _Records(body)
    try:
        texts = _parse_csv(records, names, name)
    except MalformedInput:
        if leave_out is None:
            raise
        records = _well_formed(records, names, name, leave_out)
        texts = _parse_csv(records, names, name)
    if not texts.num_rows:
        return schema.to_arrow().empty_table()
    fit = functools.partial(_fit_texts, schema=schema, log=log)
    told = None if leave_out is None else functools.partial(records.leave_out, leave_out)
    return fit_records(texts, fit, records.line, name, leave_out=told)


def _after(block: Block, names: Sequence[str]) -> Place:
    return Place("line", block.next_line, block.byte + len(block.data), tuple(names))


class _Records:
    """The records of a block that are parsed together: all, or those that are not left out."""

    def __init__(self, block: Block, kept: Sequence[int] | None = None) -> None:
        self.block = block
        self._kept = kept
        self._bounds: tuple[Any, Any] | None = None

    def bounds(self) -> tuple[Any, Any]:
        """Return where each record starts and ends. O(bytes), once."""
        if self._bounds is None:
            starts, ends = _csv_records(self.block)
            self._bounds = (starts, ends) if self._kept is None else (starts[self._kept], ends[self._kept])
        return self._bounds

    def text(self) -> bytes:
        """Return their bytes."""
        if self._kept is None:
            return self.block.data
        return b"".join(map(self.data, range(len(self._kept))))

    def data(self, row: int) -> bytes:
        """Return the bytes of one."""
        starts, ends = self.bounds()
        return self.block.data[int(starts[row]) : int(ends[row])]

    def line(self, row: int) -> int:
        """Return the line that one starts at."""
        return self.block.line_at(int(self.bounds()[0][row]))

    def leave_out(self, told: LeftOut, row: int, error: InputError) -> None:
        """Tell of one that does not fit."""
        told(self.line(row), self.data(row), error)


def _well_formed(records: _Records, names: list[str], name: str, leave_out: LeftOut) -> _Records:
    """Return the records that are text and have as many fields as the header; tell of the others. A record at a time."""
    kept = []
    for row in range(len(records.bounds()[0])):
        data, line = records.data(row), records.line(row)
        try:
            fields = next(csv.reader(io.StringIO(data.decode(), newline="")))
        except UnicodeDecodeError as error:
            leave_out(line, data, _not_utf8(name, line, error))
            continue
        if len(fields) == len(names) and b"\r" not in data.rstrip(b"\r\n").replace(b"\r\n", b""):
            kept.append(row)
        else:
            leave_out(line, data, _field_count(len(fields), names, f"{name}, line {line}", data.decode()))
    return _Records(records.block, kept)


def _header(block: Block, schema: Schema, log: str, name: str) -> tuple[list[str], Block]:
    """Take the header off a block, and check it."""
    start = block.part(0, _HEADER_BYTES)
    starts, ends = _csv_records(start)
    if len(starts) < 2 and len(start.data) < len(block.data):  # it may be cut off
        starts, ends = _csv_records(block)
    if not len(starts):
        return [], block.part(len(block.data))
    line, end = block.line_at(int(starts[0])), int(ends[0])
    try:
        text = block.data[starts[0] : end].decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(name, line, error) from error
    names = [field.strip() for field in next(csv.reader(io.StringIO(text, newline="")))]
    nothing = pa.Table.from_arrays([pa.array([], pa.null())] * len(names), names=names)
    try:
        conform(nothing, schema, log=log)
    except InputError as error:
        raise_at(error, f"{name}, line {line}")
    return names, block.part(end)


def _parse_csv(records: _Records, names: list[str], name: str) -> pa.Table:
    """Return the fields as texts.

    Raises:
        MalformedInput: a record has more or fewer fields than the header, or is not text.
    """
    data = records.text()
    if not data:
        return pa.table({each: pa.array([], pa.string()) for each in names})
    wrong: list[Any] = []
    for is_parallel in (True, False):  # only the second can say which record is wrong
        try:
            table = _arrow_csv(data, names, wrong, is_parallel=is_parallel)
        except pa.ArrowException as error:
            if is_parallel:
                wrong.clear()
                continue
            if not wrong:
                _refuse_non_text(records.block, name, error)
            where = f"{name}, line {records.line(wrong[0].number - 1)}"
            raise _field_count(wrong[0].actual_columns, names, where, wrong[0].text) from error
        break
    if b"\r" in data and table.num_rows != len(records.bounds()[0]):
        raise MalformedInput(
            "a carriage return without a newline", where=f"{name}, after line {records.block.line}",
            expected="lines that end with a newline", hint="mend the input, or quote that field",
        )  # fmt: skip
    return table


def _field_count(found: int, names: list[str], where: str, text: str) -> MalformedInput:
    return MalformedInput(
        f"a record has {found} fields, the header {len(names)}", where=where, expected=", ".join(names), found=text[:200],
        hint="mend the input; a field with commas is quoted",
    )  # fmt: skip


def _arrow_csv(data: bytes, names: list[str], wrong: list[Any], *, is_parallel: bool) -> pa.Table:
    def note(row: Any) -> str:
        wrong.append(row)
        return "error"

    return arrow_csv.read_csv(
        pa.py_buffer(data),
        read_options=arrow_csv.ReadOptions(
            column_names=names, use_threads=is_parallel, block_size=len(data) + 1
        ),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=b'"' in data, invalid_row_handler=note),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )  # fmt: skip


def _refuse_non_text(block: Block, name: str, error: Exception) -> NoReturn:
    try:
        block.data.decode()
    except UnicodeDecodeError as bad:
        raise _not_utf8(name, block.line_at(bad.start), bad) from error
    raise MalformedInput("not CSV", where=f"{name}, after line {block.line}", found=str(error)) from error


def _not_utf8(name: str, line: int, error: UnicodeDecodeError) -> MalformedInput:
    return MalformedInput(
        "a byte that is not UTF-8", where=f"{name}, line {line}", expected="text in UTF-8",
        found=f"byte 0x{error.object[error.start]:02x}", hint="convert the file, for example with iconv",
    )  # fmt: skip


def _csv_records(block: Block) -> tuple[Any, Any]:
    """Return where each record that is not a blank line starts and ends. O(bytes)."""
    codes = np.frombuffer(block.data, np.uint8)
    newlines = np.flatnonzero(codes == ord("\n"))
    inside = np.searchsorted(np.flatnonzero(codes == ord('"')), newlines) % 2
    ends = newlines[inside == 0] + 1
    if not block.data.endswith(b"\n") and block.data:
        ends = np.append(ends, len(block.data))
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    is_blank = (ends - starts == 1) & (codes[starts] == ord("\n"))
    is_blank |= (ends - starts == 2) & (codes[starts] == ord("\r")) & (codes[ends - 1] == ord("\n"))
    return starts[~is_blank], ends[~is_blank]


def _fit_texts(texts: pa.Table, schema: Schema, log: str) -> pa.Table:
    columns = []
    for name in texts.column_names:
        column = schema.column(name)
        assert column is not None  # the header was checked
        columns.append(read_texts(texts.column(name), column))
    return conform(pa.Table.from_arrays(columns, names=texts.column_names), schema, log=log)
