"""What a client sends: values as JSON and as texts, as DuckDB reads them; tables as Arrow streams.

Law: no digit is lost. What JSON does not have is text; a decimal is a text, too, which the column it is for reads exactly.
"""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from bourne.errors import InputError

_ARROW: Final = "application/vnd.apache.arrow.stream"


def records_body(rows: Any) -> tuple[str, bytes]:
    """Return the Content-Type and the body of records: dicts, or anything with the Arrow PyCapsule interface.

    Raises:
        InputError: they are neither.
    """
    try:
        if isinstance(rows, pa.RecordBatch):
            return _ARROW, _stream(pa.Table.from_batches([rows]))
        if isinstance(rows, pa.Table):
            return _ARROW, _stream(rows)
        if type(rows).__module__.startswith("pandas."):
            return _ARROW, _stream(pa.Table.from_pandas(rows, preserve_index=False))
        if hasattr(rows, "__arrow_c_stream__"):
            return _ARROW, _stream(pa.table(rows))
        if not isinstance(rows, str | bytes | Mapping):
            found = list(rows)
            if all(isinstance(row, Mapping) for row in found):
                return "application/json", json_body(found)
    except (pa.ArrowException, TypeError) as error:
        raise InputError("these are no records", found=str(error)[:200]) from error
    raise InputError(
        "these are no records", expected="a list of dicts, or an Arrow, Polars or pandas table", found=type(rows).__name__
    )  # fmt: skip


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def json_body(value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        InputError: it holds what cannot be written.
    """
    try:
        return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError("this cannot be sent", found=str(error)) from error


def _plain(value: Any) -> Any:
    """Return what `json` can write."""
    if isinstance(value, Mapping):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    return value_text(value)


def value_text(value: Any) -> str:
    r"""Return a value as a text that DuckDB reads.

    >>> value_text(datetime.timedelta(days=1, microseconds=5)), value_text(b"a\0")
    ('1 days 0 seconds 5 microseconds', 'a\\x00')

    Raises:
        InputError: it is of no type that is known.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal | UUID):
        return str(value)
    if isinstance(value, float):
        return (
            repr(value)
            if math.isfinite(value)
            else "NaN"
            if math.isnan(value)
            else f"{'-' if value < 0 else ''}Infinity"
        )
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
    if isinstance(value, bytes | bytearray):
        return "".join(
            chr(byte) if 32 <= byte < 127 and byte not in b"\\'\"" else f"\\x{byte:02X}" for byte in value
        )
    raise InputError("a value of this type cannot be sent", found=type(value).__name__)
