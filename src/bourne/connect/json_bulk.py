"""Many JSON objects at once, in columns; where that gives the same as reading each for itself.

Law: what comes back is what `json_lines` makes of the same texts, value for value; in doubt nothing comes back, and the
slow way decides. One pass finds where each value lies (`_scan`), strictly by the grammar of JSON; then each column is read
from there: numbers and times by `plain_texts`, texts as they are. Left to the slow way are nested values, repeated and
unknown names, values of another kind than the column's, and numbers that are not plainly exact.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.connect.blocks import count_newlines
from bourne.connect.cells import Bytes, Longs, gather
from bourne.connect.plain_texts import read_plain
from bourne.engine.kernels.compiled import compiled
from bourne.errors import InputError
from bourne.schema import Column, Schema, arrow_type, conform
from bourne.values import MISFITS

# What a value is. Of an absent one, and of null, the length is -1.
_ABSENT, _WHOLE, _NUMBER, _TEXT, _ESCAPED, _BOOLEAN = 0, 1, 2, 4, 8, 16

# So many bytes are read by two threads, a half by each: most of it runs without the interpreter lock.
_HALVED_BYTES = 1 << 20
_HELPER = ThreadPoolExecutor(2, thread_name_prefix="bourne-json")

# A whole number of so many digits is a double.
_SAFE_DIGITS = 15


def read_objects(texts: Sequence[bytes], schema: Schema, *, log: str) -> pa.Table | None:
    """Return objects as rows of the schema; None if one does not fit or the slow way may see it otherwise."""
    data = b"\n".join(texts)
    # As many newlines as there are joints: none is inside a text, so that a line is a text.
    newlines = count_newlines(data)
    if not texts or newlines != len(texts) - 1:
        return None
    table = read_lines(data, schema, log=log, newlines=newlines)
    return table if table is not None and table.num_rows == len(texts) else None


def read_lines(data: bytes, schema: Schema, *, log: str, newlines: int) -> pa.Table | None:
    """Return the objects of so many lines, blank ones aside, as rows of the schema; otherwise as `read_objects`."""
    plan = _plan(schema)
    if plan is None:
        return None

    def read(codes: Bytes, newlines: int) -> pa.Table | None:
        cells = _cells(codes, newlines + 1, plan)
        if cells is None:
            return None
        arrays = [cells.column(number, column) for number, column in enumerate(schema.columns)]
        if any(array is None for array in arrays):
            return None
        return conform(pa.Table.from_arrays(arrays, names=list(schema.names)), schema, log=log)

    try:
        if not data.isascii():
            data.decode()
        table = _halves(data, newlines, read)
        return table if table is not None and table.num_rows else None
    except (InputError, *MISFITS):
        return None


def _halves(data: bytes, newlines: int, read: Callable[[Bytes, int], pa.Table | None]) -> pa.Table | None:
    """Return the rows that `read` makes of lines and their number of newlines; of each half, if there is much of them."""
    codes = np.frombuffer(data, np.uint8)
    middle = data.find(b"\n", len(data) // 2) + 1 if len(data) >= _HALVED_BYTES else 0
    if not middle:
        return read(codes, newlines)
    before = count_newlines(data[:middle])
    later = _HELPER.submit(read, codes[middle:], newlines - before)
    try:
        first = read(codes[:middle], before)
    finally:
        wait([later])
    second = later.result()
    return None if first is None or second is None else pa.concat_tables([first, second])


@dataclass(frozen=True, slots=True)
class _Names:
    """The columns' names, one behind the other."""

    data: Bytes
    starts: Longs


@functools.lru_cache(maxsize=256)
def _plan(schema: Schema) -> _Names | None:
    """Return the columns' names; None if one is of a type that is not read here."""
    if not schema.columns or not all(map(_is_simple, schema.columns)):
        return None
    names = [name.encode() for name in schema.names]
    starts = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(name) for name in names], out=starts[1:])
    return _Names(np.frombuffer(b"".join(names), np.uint8), starts)


def _is_simple(column: Column) -> bool:
    target, types = arrow_type(column.type), pa.types
    if column.type in ("JSON", "BLOB", "INTERVAL"):
        return False
    is_number = types.is_integer(target) or types.is_floating(target) or types.is_decimal(target)
    return bool(is_number or types.is_boolean(target) or types.is_string(target) or types.is_temporal(target))


def _cells(data: Bytes, rows_max: int, names: _Names) -> _Cells | None:
    shape = (len(names.starts) - 1, rows_max)
    offsets, lengths = np.empty(shape, np.int64), np.empty(shape, np.int64)
    kinds = np.empty(shape, np.uint8)
    count = _scan(data, names.data, names.starts, offsets, lengths, kinds)
    return None if count < 0 else _Cells(data, count, offsets, lengths, kinds)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where the values of each column (first axis) of each row (second axis) lie."""

    data: Bytes
    count: int
    offsets: Longs
    lengths: Longs
    kinds: NDArray[np.uint8]

    def column(self, number: int, column: Column) -> pa.Array | None:
        """Return a column's values; None if the slow way is to read them."""
        offsets, lengths = self.offsets[number, : self.count], self.lengths[number, : self.count]
        kinds = self.kinds[number, : self.count]
        found = int(np.bitwise_or.reduce(kinds))
        target, types = arrow_type(column.type), pa.types
        if not found:
            return pa.nulls(self.count, target)
        if types.is_boolean(target):
            values = self.data[np.where(lengths < 0, 0, offsets)] == ord("t")
            return pa.array(values, mask=lengths < 0) if found == _BOOLEAN else None
        if types.is_integer(target):
            return read_plain(self.data, offsets, lengths, column.type) if found == _WHOLE else None
        if types.is_floating(target):
            is_wide = (kinds == _WHOLE) & (lengths > _SAFE_DIGITS)
            if found & ~(_WHOLE | _NUMBER) or is_wide.any():
                return None
            return read_plain(self.data, offsets, lengths, column.type)
        if types.is_decimal(target):
            if found & ~(_WHOLE | _NUMBER | _TEXT):
                return None
            return read_plain(self.data, offsets, lengths, column.type)
        if found & ~(_TEXT | _ESCAPED):
            return None
        if types.is_temporal(target) and not found & _ESCAPED:
            values = read_plain(self.data, offsets, lengths, column.type)
            if values is not None:
                return values
        return self._texts(offsets, lengths, kinds == _ESCAPED)

    def _texts(self, offsets: Longs, lengths: Longs, is_escaped: NDArray[np.bool_]) -> pa.Array:
        found = gather(self.data, offsets, lengths)
        rows = np.flatnonzero(is_escaped)
        if not len(rows):
            return found
        quoted = [
            self.data[offsets[row] - 1 : offsets[row] + lengths[row] + 1].tobytes() for row in rows.tolist()
        ]
        return pc.replace_with_mask(
            found, pa.array(is_escaped), pa.array(map(json.loads, quoted), pa.string())
        )


# --- the scan --------------------------------------------------------------------------------------------


@compiled
def _scan(
    data: Bytes, names: Bytes, starts: Longs, offsets: Longs, lengths: Longs, kinds: NDArray[np.uint8]
) -> int:
    """Find the values of each line's object; return how many objects there are, or -1 if one is not plain."""
    columns, end = len(starts) - 1, len(data)
    row, at = 0, 0
    seen = np.full(columns, -1, np.int64)
    while True:
        while at < end and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
            at += 1
        if at == end:
            return row
        if data[at] != 123:
            return -1
        at = _space(data, at + 1)
        for column in range(columns):
            lengths[column, row] = -1
            offsets[column, row] = 0
            kinds[column, row] = 0
        column, is_first = -1, True
        while True:
            if at == end:
                return -1
            if data[at] == 125 and is_first:
                break
            if data[at] != 34:
                return -1
            stop = _text_end(data, at + 1)
            if stop < 0:
                return -1
            column = _find(data, at + 1, stop, names, starts, column + 1)
            if column < 0 or seen[column] == row:
                return -1
            seen[column], is_first = row, False
            at = _space(data, stop + 1)
            if at == end or data[at] != 58:
                return -1
            at, length, following, kind = _value(data, _space(data, at + 1))
            if following < 0:
                return -1
            offsets[column, row], lengths[column, row], kinds[column, row] = at, length, kind
            at = _space(data, following)
            if at == end:
                return -1
            if data[at] == 44:
                at = _space(data, at + 1)
            elif data[at] != 125:
                return -1
            else:
                break
        row += 1
        at = _space(data, at + 1)
        if at < end and data[at] != 10:
            return -1


@compiled
def _value(data: Bytes, at: int) -> tuple[int, int, int, np.uint8]:
    """Return where a value starts (inside of quotes), its length (-1 for null), what follows it (-1: not plain), its kind."""
    if at == len(data):
        return at, -1, -1, np.uint8(0)
    code = data[at]
    if code == 34:
        stop, kind = _text_end(data, at + 1), np.uint8(4)
        if stop < 0:
            stop, kind = _escaped_end(data, at + 1), np.uint8(8)
        return at + 1, stop - at - 1, stop + 1 if stop >= 0 else -1, kind
    if code == 45 or 48 <= code <= 57:
        following, kind = _number_end(data, at)
        return at, following - at, following, kind
    following, kind = _word_end(data, at)
    return at, following - at if kind else -1, following, kind


@compiled
def _space(data: Bytes, at: int) -> int:
    """Return where white space within a line ends."""
    while at < len(data) and (data[at] == 32 or data[at] == 9 or data[at] == 13):
        at += 1
    return at


@compiled
def _text_end(data: Bytes, at: int) -> int:
    """Return where the closing quote of a text is; -1 if something in it has to be unescaped, or is not allowed."""
    while at < len(data):
        code = data[at]
        if code == 34:
            return at
        if code == 92 or code < 32:
            return -1
        at += 1
    return -1


@compiled
def _escaped_end(data: Bytes, at: int) -> int:
    """Return where the closing quote of a text with escapes is; -1 if there is none, or a byte that is not allowed."""
    while at < len(data) and data[at] >= 32:
        if data[at] == 34:
            return at
        if data[at] == 92:
            at += 1
            if at == len(data) or data[at] < 32:
                return -1
        at += 1
    return -1


@compiled
def _find(data: Bytes, at: int, end: int, names: Bytes, starts: Longs, likely: int) -> int:
    """Return which name this is, the likely one first; -1 if it is none."""
    columns, column = len(starts) - 1, likely
    for _ in range(columns):
        column = column if column < columns else 0
        start = starts[column]
        if starts[column + 1] - start == end - at:
            is_same = True
            for i in range(end - at):
                if data[at + i] != names[start + i]:
                    is_same = False
                    break
            if is_same:
                return column
        column += 1
    return -1


@compiled
def _number_end(data: Bytes, at: int) -> tuple[int, np.uint8]:
    """Return where a number ends, -1 if it is none (or -0, which has no sign), and whether it is whole."""
    end, start, kind = len(data), at, np.uint8(1)
    if data[at] == 45:
        at += 1
    first = at
    while at < end and 48 <= data[at] <= 57:
        at += 1
    if at == first or (data[first] == 48 and at - first > 1):
        return -1, kind
    if at < end and data[at] == 46:
        kind, first = np.uint8(2), at + 1
        at += 1
        while at < end and 48 <= data[at] <= 57:
            at += 1
        if at == first:
            return -1, kind
    if at < end and (data[at] == 101 or data[at] == 69):
        kind = np.uint8(2)
        at += 1
        if at < end and (data[at] == 43 or data[at] == 45):
            at += 1
        first = at
        while at < end and 48 <= data[at] <= 57:
            at += 1
        if at == first:
            return -1, kind
    if kind == 1 and data[start] == 45 and data[start + 1] == 48:
        return -1, kind
    return at, kind


@compiled
def _word_end(data: Bytes, at: int) -> tuple[int, np.uint8]:
    """Return where true, false or null ends, -1 if it is none of them, and whether it is a boolean."""
    left = len(data) - at
    if left >= 4 and data[at] == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
        return at + 4, np.uint8(16)
    if left >= 4 and data[at] == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
        return at + 4, np.uint8(0)
    if (
        left >= 5 and data[at] == 102 and data[at + 1] == 97 and data[at + 2] == 108
        and data[at + 3] == 115 and data[at + 4] == 101
    ):  # fmt: skip
        return at + 5, np.uint8(16)
    return -1, np.uint8(0)
