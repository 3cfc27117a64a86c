"""CSV in batches: the fields as texts by Arrow, their values by the log's schema.

The first record names the columns. An empty field is NULL, a quoted empty one in a VARCHAR or BLOB column an empty value.
Blank lines are passed over; white space around a value counts in such columns only.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from bourne.connect.blocks import Block, read_blocks
from bourne.connect.fitting import Batch, fit_records, raise_at
from bourne.connect.texts import read_texts
from bourne.errors import InputError, MalformedInput
from bourne.schema import Schema, conform


def read_csv(stream: BinaryIO, schema: Schema, log: str, name: str) -> Iterator[Batch]:
    """Yield a CSV stream's records; `name` is what errors call it.

    Raises:
        InputError: a record is malformed or does not fit; names its line.
        SourceFailed: the stream cannot be read.
    """
    names: list[str] = []
    for block in read_blocks(stream, name=name, has_quotes=True):
        body = block
        if not names:
            names, body = _header(block, schema, log, name)
        texts = _parse_csv(body, names, name)
        if texts.num_rows:
            fit = functools.partial(_fit_texts, schema=schema, log=log)
            fitted = fit_records(texts, fit, functools.partial(_csv_line, body), name)
            yield Batch(fitted, f"line {block.next_line}")


def _header(block: Block, schema: Schema, log: str, name: str) -> tuple[list[str], Block]:
    """Take the header off a block, and check it."""
    starts, ends = _csv_records(block)
    if not len(starts):
        return [], Block(b"", block.next_line)
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
    return names, Block(block.data[end:], block.line_at(end))


def _parse_csv(block: Block, names: list[str], name: str) -> pa.Table:
    """Return the fields as texts.

    Raises:
        MalformedInput: a record has more or fewer fields than the header, or is not text.
    """
    if not block.data:
        return pa.table({each: pa.array([], pa.string()) for each in names})
    wrong: list[Any] = []
    for is_parallel in (True, False):  # only the second can say which record is wrong
        try:
            table = _arrow_csv(block.data, names, wrong, is_parallel=is_parallel)
        except pa.ArrowException as error:
            if is_parallel:
                wrong.clear()
                continue
            if not wrong:
                _refuse_non_text(block, name, error)
            expected, found = wrong[0].expected_columns, wrong[0].actual_columns
            raise MalformedInput(
                f"a record has {found} fields, the header {expected}",
                where=f"{name}, line {_csv_line(block, wrong[0].number - 1)}",
                expected=", ".join(names),
                found=wrong[0].text[:200],
                hint="mend the file; a field with commas is quoted",
            ) from error
        break
    if b"\r" in block.data and table.num_rows != len(_csv_records(block)[0]):
        raise MalformedInput(
            "a carriage return without a newline", where=f"{name}, after line {block.line}",
            expected="lines that end with a newline", hint="mend the file, or quote that field",
        )  # fmt: skip
    return table


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


def _csv_line(block: Block, row: int) -> int:
    """Return the line that a record starts at."""
    starts, _ = _csv_records(block)
    return block.line_at(int(starts[row]))


def _fit_texts(texts: pa.Table, schema: Schema, log: str) -> pa.Table:
    columns = []
    for name in texts.column_names:
        column = schema.column(name)
        assert column is not None  # the header was checked
        columns.append(read_texts(texts.column(name), column))
    return conform(pa.Table.from_arrays(columns, names=texts.column_names), schema, log=log)
