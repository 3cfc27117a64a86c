"""Arrow in batches: the IPC file format (Feather version 2) and the stream format. A place in it is a row, from 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from bourne.connect.fitting import Batch, Place
from bourne.connect.parquet_files import fit_rows
from bourne.errors import MalformedInput, SourceFailed
from bourne.schema import Schema

_ROWS: Final = 1 << 17

_FILE_MAGIC: Final = b"ARROW1"


def read_arrow(
    file: Any, schema: Schema, log: str, name: str, *, start: Place | None = None, leaves_out: bool = False
) -> Iterator[Batch]:
    """Yield the records of an Arrow file, an open one that can seek, from `start` on; `name` is what errors call it.

    With `leaves_out`, records that do not fit are left out, and the batch says which.

    Raises:
        InputError: a record does not fit; names its row.
        SourceFailed: the file cannot be read.
    """
    rows, first = 0, start.number - 1 if start is not None else 0
    try:
        for batch in _batches(file):
            for piece in range(0, batch.num_rows, _ROWS):
                part = batch.slice(piece, _ROWS)
                skipped = min(part.num_rows, max(0, first - rows))
                if skipped < part.num_rows:
                    yield fit_rows(
                        part.slice(skipped), rows + skipped, schema, log, name, leaves_out=leaves_out
                    )
                rows += part.num_rows
    except pa.ArrowException as error:
        raise MalformedInput(
            "not an Arrow file, or a damaged one", where=f"{name}, after row {rows}", found=str(error)
        ) from error
    except OSError as error:
        raise SourceFailed(f"cannot read {name}", found=error.strerror or str(error)) from error


def _batches(file: Any) -> Iterator[pa.RecordBatch]:
    magic = file.read(len(_FILE_MAGIC))
    file.seek(0)
    if magic == _FILE_MAGIC:
        with pa.ipc.open_file(pa.PythonFile(file, "r")) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
    else:
        with pa.ipc.open_stream(pa.PythonFile(file, "r")) as reader:
            yield from reader
