"""Parquet in batches. A place in it is a row, from 1."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from bourne.connect.fitting import Batch, Misfit, Place, fit_records
from bourne.errors import InputError, MalformedInput, SourceFailed
from bourne.schema import Schema, conform

_ROWS = 1 << 17


def read_parquet(
    file: Any, schema: Schema, log: str, name: str, *, start: Place | None = None, leaves_out: bool = False
) -> Iterator[Batch]:
    """Yield the records of a Parquet file, an open one that can seek, from `start` on; `name` is what errors call it.

    With `leaves_out`, records that do not fit are left out, and the batch says which.

    Raises:
        InputError: a record does not fit; names its row.
        SourceFailed: the file cannot be read.
    """
    rows = 0
    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(_ROWS):
                skipped = min(batch.num_rows, max(0, (start.number if start else 1) - 1 - rows))
                if skipped < batch.num_rows:
                    yield fit_rows(
                        batch.slice(skipped), rows + skipped, schema, log, name, leaves_out=leaves_out
                    )
                rows += batch.num_rows
    except pa.ArrowException as error:
        raise MalformedInput(
            "not a Parquet file, or a damaged one", where=f"{name}, after row {rows}", found=str(error)
        ) from error
    except OSError as error:
        raise SourceFailed(f"cannot read {name}", found=error.strerror or str(error)) from error


def fit_rows(
    batch: pa.RecordBatch, before: int, schema: Schema, log: str, name: str, *, leaves_out: bool
) -> Batch:
    """Fit rows of a file without lines, `before` of which came earlier.

    Raises:
        InputError: one of them does not fit; names its row.
    """
    misfits: list[Misfit] = []

    def leave_out(row: int, error: InputError) -> None:
        misfits.append(Misfit(before + row + 1, _as_ipc(batch.slice(row, 1)), error))

    fitted = fit_records(
        batch, functools.partial(conform, schema=schema, log=log), functools.partial(operator.add, before + 1), name,
        unit="row", leave_out=leave_out if leaves_out else None,
    )  # fmt: skip
    return Batch(fitted, Place("row", before + batch.num_rows + 1), tuple(misfits))


def _as_ipc(batch: pa.RecordBatch) -> bytes:
    """Return a record of a file without lines as bytes: an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    found: bytes = sink.getvalue().to_pybytes()
    return found
