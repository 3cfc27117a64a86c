"""Cells that lie anywhere in one piece of memory, as an Arrow array of texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.compiled import compiled

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]


def gather(data: Bytes, offsets: Longs, lengths: Longs, kind: pa.DataType | None = None) -> pa.Array:
    """Return `data[offset : offset + length]` of each cell; NULL where the length is negative.

    They are not checked to be UTF-8: that is the caller's to do.

    Raises:
        pa.ArrowInvalid: they are too large for one array.
    """
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.maximum(lengths, 0), out=ends[1:])
    if ends[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid(f"the values of one column are too large: {ends[-1]:,} B, at most 2 GiB")
    out = np.empty(int(ends[-1]), np.uint8)
    _gather(data, offsets, lengths, ends, out)
    is_there = lengths >= 0
    valid = None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))
    buffers = [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(out)]
    return pa.Array.from_buffers(kind or pa.string(), len(lengths), buffers)


@compiled
def _gather(data: Bytes, offsets: Longs, lengths: Longs, ends: Longs, out: Bytes) -> None:
    for i in range(len(lengths)):
        start, to = offsets[i], ends[i]
        for byte in range(lengths[i]):
            out[to + byte] = data[start + byte]
