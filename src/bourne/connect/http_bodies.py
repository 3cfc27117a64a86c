"""What is pushed over HTTP, as records: JSON, JSON lines, CSV, Arrow streams and files.

Law: a body is a table of records that all fit the log, or an error that says which does not. Senders are strangers: what
a body can make of itself in memory is bounded by its size, and Arrow's buffers are checked before anybody looks at them.
"""

from __future__ import annotations

import functools
import io
import operator
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.files import Format, read_opened
from bourne.connect.fitting import fit_records
from bourne.connect.json_bulk import read_objects
from bourne.connect.json_lines import fit_parsed, json_readers, parse_document
from bourne.errors import BodyTooLarge, MalformedInput
from bourne.limits import HTTP_ARROW_BYTES_MAX, HTTP_RECORDS_MAX
from bourne.schema import Schema

BodyFormat = Literal["json", "jsonl", "csv", "arrow stream", "arrow file"]

CONTENT_TYPES: Final[Mapping[str, BodyFormat]] = {
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow stream",
    "application/vnd.apache.arrow.file": "arrow file",
}

# As which files they are read.
_FILES: Final[Mapping[BodyFormat, Format]] = {
    "jsonl": "jsonl", "csv": "csv", "arrow stream": "arrow", "arrow file": "arrow",
}  # fmt: skip

_NAME: Final = "the body"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_UNZIP_BYTES: Final = 1 << 20

# An Arrow file is a stream between this, eight bytes long with its padding, and a footer.
_FILE_START: Final = b"ARROW1\0\0"
_FILE_END: Final = b"ARROW1"


def unzip(data: bytes, take: Callable[[int], None]) -> bytes:
    """Return what was compressed with gzip; `take` is told of each piece's size before the next, and may raise.

    Raises:
        MalformedInput: it was not, or its end is missing.
    """
    pieces = []
    while data:
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            try:
                piece = stream.decompress(data, _UNZIP_BYTES)
            except zlib.error as error:
                raise MalformedInput("not gzip, or damaged", where=_NAME, found=str(error)) from error
            data = stream.unconsumed_tail
            if not piece and not stream.eof:
                raise MalformedInput(
                    "compressed data without its end", where=_NAME, expected="all of gzip's bytes"
                )
            take(len(piece))
            pieces.append(piece)
        data = stream.unused_data
    return b"".join(pieces)


def read_body(data: bytes, kind: BodyFormat, schema: Schema, *, log: str) -> pa.Table:
    """Return the records of a body.

    Raises:
        MalformedInput: it is not what it says it is; names the place.
        UnknownColumn, ValueMismatch, InputError: a record does not fit the log; names it.
        BodyTooLarge: it holds too much, however small it is.
    """
    if kind == "json":
        return _read_document(data, schema, log)
    if _FILES[kind] == "arrow":
        data = _stream_of(data) if kind == "arrow file" else data
        _check_arrow(data)
    else:
        _check_count(data.count(b"\n") + 1)
    if kind == "jsonl":
        lines = data.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
        found = read_objects([line for line in lines if line and not line.isspace()], schema, log=log)
        if found is not None:
            return found
    batches = read_opened(io.BytesIO(data), _FILES[kind], schema, log=log, name=_NAME)
    return pa.concat_tables(
        [schema.to_arrow().empty_table(), *(_plain(batch.table, schema) for batch in batches)]
    )


def _plain(table: pa.Table, schema: Schema) -> pa.Table:
    return pa.Table.from_arrays(table.columns, schema=schema.to_arrow())


def _read_document(data: bytes, schema: Schema, log: str) -> pa.Table:
    records = parse_document(data, json_readers(schema), _NAME)
    _check_count(len(records))
    if not records:
        return schema.to_arrow().empty_table()
    fit = functools.partial(fit_parsed, schema=schema, log=log)
    return fit_records(records, fit, functools.partial(operator.add, 1), _NAME, unit="record")


def _check_count(count: int) -> None:
    if count > HTTP_RECORDS_MAX:
        raise BodyTooLarge(
            "too many records in one body", where=_NAME, expected=f"at most {HTTP_RECORDS_MAX:,}", found=f"{count:,}",
            hint="send it in parts",
        )  # fmt: skip


# --- Arrow -----------------------------------------------------------------------------------------------


def _stream_of(data: bytes) -> bytes:
    """Return the stream that an Arrow file holds; its footer is for who reads only parts."""
    if not data.startswith(_FILE_START) or not data.endswith(_FILE_END):
        raise MalformedInput("not an Arrow file, or a part of one", where=_NAME, hint="send all of the file")
    return data[len(_FILE_START) :]


def _check_arrow(data: bytes) -> None:
    """Refuse an Arrow stream that is damaged, or much larger than it looks.

    Raises:
        MalformedInput: it is no Arrow stream, or its buffers are damaged.
        BodyTooLarge: it holds too much.
    """
    rows = size = 0
    try:
        for batch in _batches(data):
            rows += batch.num_rows
            _check_count(rows)
            batch.validate(full=True)
            size += sum(map(_logical_bytes, batch.columns))
            if size > HTTP_ARROW_BYTES_MAX:
                raise BodyTooLarge(
                    "a body that is small holds large values many times", where=f"{_NAME}, row {rows}",
                    expected=f"at most {HTTP_ARROW_BYTES_MAX:,} bytes when each row has its own", hint="send it in parts",
                )  # fmt: skip
    except (pa.ArrowException, OSError, struct.error, ValueError) as error:
        raise MalformedInput(
            "not an Arrow stream, or a damaged one", where=f"{_NAME}, after row {rows}", found=str(error)
        ) from error


def _batches(data: bytes) -> Iterator[pa.RecordBatch]:
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(data)):
        if message.type in ("record batch", "dictionary") and _is_compressed(message):
            raise MalformedInput(
                "compressed buffers are not taken", where=_NAME, expected="an Arrow stream without compression",
                hint="write it without; or compress all of it: Content-Encoding: gzip",
            )  # fmt: skip
    with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
        yield from reader


def _is_compressed(message: Any) -> bool:
    """Say whether a message's buffers say their own size: a few bytes could claim any.

    Read off the message's head, a flatbuffer (Arrow's Message.fbs): a table begins with the distance back to a list of
    where its fields are, 0 for those that are not there.
    """
    data = message.metadata.to_pybytes()

    def field(table: int, number: int) -> int:
        fields = table - struct.unpack_from("<i", data, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", data, fields)[0]:
            return 0
        place = struct.unpack_from("<H", data, fields + 4 + 2 * number)[0]
        return table + place if place else 0

    def follow(place: int) -> int:
        return place + int(struct.unpack_from("<I", data, place)[0])

    batch = follow(field(follow(0), 2))
    if message.type == "dictionary":
        batch = follow(field(batch, 1))
    return field(batch, 3) != 0


def _logical_bytes(column: pa.Array) -> int:
    """Return about how many bytes a column has when each row has its own value.

    Raises:
        MalformedInput: that cannot be told.
    """
    types, kind = pa.types, column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _logical_bytes(column.storage)
    if types.is_dictionary(kind):
        if types.is_nested(kind.value_type):
            raise _cannot_tell(kind)
        return int(pc.sum(pc.take(_lengths(column.dictionary), column.indices)).as_py() or 0) + len(column)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return int(pc.sum(_lengths(column)).as_py() or 0) + len(column)
    if types.is_nested(kind) and _is_encoded(kind):
        raise _cannot_tell(kind)
    return int(column.nbytes) + len(column)


def _lengths(values: pa.Array) -> pa.Array:
    """Return how many bytes each value has."""
    kind = values.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        # Sixteen bytes each, of which the first four are the length.
        lengths = np.frombuffer(values.buffers()[1], np.int32)[::4]
        return pa.array(lengths[values.offset : values.offset + len(values)].astype(np.int64))
    if pa.types.is_primitive(kind) or pa.types.is_null(kind):
        return pa.array(np.full(len(values), 16))
    return pc.binary_length(values).cast(pa.int64())


def _is_encoded(kind: pa.DataType) -> bool:
    """Say whether somewhere in a type values can be shared by rows."""
    types = pa.types
    if types.is_nested(kind) and not types.is_run_end_encoded(kind):
        return any(_is_encoded(kind.field(number).type) for number in range(kind.num_fields))
    is_list_view = types.is_list_view(kind) or types.is_large_list_view(kind)
    is_view = types.is_string_view(kind) or types.is_binary_view(kind) or is_list_view
    return bool(is_view or types.is_dictionary(kind) or types.is_run_end_encoded(kind))


def _cannot_tell(kind: pa.DataType) -> MalformedInput:
    return MalformedInput(
        f"a column of type {kind} is not taken", where=_NAME, expected="plain lists, structs and maps", found=str(kind),
        hint="convert it before it is sent",
    )  # fmt: skip
