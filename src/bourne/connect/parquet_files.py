"""Parquet in batches. A place in it is a row, from 1."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import parquet

from bourne.connect.fitting import Batch, fit_records
from bourne.errors import MalformedInput, SourceFailed
from bourne.schema import Schema, conform

_ROWS = 1 << 17


def read_parquet(path: str, schema: Schema, log: str) -> Iterator[Batch]:
    """Yield a Parquet file's records.

    Raises:
        InputError: a record does not fit; names its row.
        SourceFailed: the file cannot be read.
    """
    rows = 0
    fit = functools.partial(conform, schema=schema, log=log)
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS):
                place = functools.partial(operator.add, rows + 1)
                fitted = fit_records(batch, fit, place, path, unit="row")
                rows += batch.num_rows
                yield Batch(fitted, f"row {rows + 1}")
    except pa.ArrowException as error:
        raise MalformedInput(
            "not a Parquet file, or a damaged one", where=f"{path}, after row {rows}", found=str(error)
        ) from error
    except OSError as error:
        raise SourceFailed(f"cannot read {path}", found=error.strerror or str(error)) from error
