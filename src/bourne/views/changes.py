"""What becomes of the rows of a log or a view: from any position on, what came and what went, row by row.

Law: the rows at one position, plus what `read` returns, are the rows at the next one. Rows that come and go between the
two are not in it. For whoever keeps rows elsewhere: a sink, a subscriber.

A log of changes by key says only what a key's row is from now on; to say what it was, the rows are remembered: O(rows)
in memory. So they are of a log whose weights may go below 0. All others are told as they are read: O(changes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.consolidate import consolidate
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.log.catalog import LogInfo
from bourne.log.cursor import LogCursor
from bourne.log.relation import (
    COUNT_COLUMN,
    KEY_COLUMN,
    SignedRows,
    is_keyed,
    only_grows,
    relation_schema,
    signed_rows,
)
from bourne.views.row_store import RowStore

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowChange:
    """Rows with weights: how many times more each is there, or, negative, fewer. Without weights each is there once more."""

    table: pa.Table
    weights: Longs | None = None

    @property
    def rows(self) -> int:
        """How many different rows it is about."""
        return int(self.table.num_rows)


def net(table: pa.Table, weights: Longs) -> RowChange:
    """Return a change with each row once, and without those that come and go in it. O(rows)."""
    columns = [as_array(column) for column in table.columns]
    if not columns or not len(weights):
        return RowChange(table.slice(0, 0), weights[:0])
    rows, sums = consolidate(columns, weights)
    kept = pa.Table.from_arrays(columns, schema=table.schema).take(pa.array(rows))
    return RowChange(kept, sums)


class Changes:
    """Follows one log or output log. For one thread at a time."""

    def __init__(self, folder: Path, info: LogInfo) -> None:
        """Stand before the first record that is kept, where there is no row."""
        self.info = info
        self.schema = relation_schema(info)
        self._cursor = LogCursor(folder, info, is_durable=True)
        self._state = _state_of(info, self.schema.to_arrow())

    @property
    def is_told(self) -> bool:
        """Say whether its records say all that becomes of the rows, so that nothing is remembered."""
        return isinstance(self._state, _Told)

    @property
    def positions(self) -> tuple[int, ...]:
        """The offset of the next record of each partition."""
        return self._cursor.positions

    def end_offsets(self) -> tuple[int, ...]:
        """Return the offset after the last record of each partition, as of now."""
        return self._cursor.end_offsets()

    def seek(self, positions: Sequence[int]) -> None:
        """Move to these offsets, where nothing has to be remembered (`is_told`).

        Raises:
            InputError: there is no such offset (yet, or any more).
        """
        assert self.is_told
        self._cursor.seek(positions)

    def lag(self) -> int:
        """Return how many records are still to be read, as of now."""
        return sum(self._cursor.end_offsets()) - sum(self._cursor.positions)

    def read(self, *, until: Sequence[int] | None = None, bytes_max: int = 1 << 62) -> RowChange | None:
        """Return what the next records change, whole frames of about `bytes_max` bytes; None if there are none (yet).

        Raises:
            InputError: records were deleted before they were read.
            CorruptFrame, StorageError: they cannot be read.
        """
        pieces = self._cursor.read(until=until, bytes_max=bytes_max)
        self._cursor.rest()
        if not pieces:
            return None
        signed = [signed_rows(self.info, frame.batch) for _, frame in pieces if frame.batch.num_rows]
        if not signed:
            return RowChange(self.schema.to_arrow().empty_table())
        return self._state.take(_together(signed))

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        self._cursor.close()


def _together(signed: list[SignedRows]) -> SignedRows:
    if len(signed) == 1:
        return signed[0]
    weights = None
    if any(each.weights is not None for each in signed):
        weights = np.concatenate(
            [
                np.ones(each.table.num_rows, np.int64) if each.weights is None else each.weights
                for each in signed
            ]
        )
    keys = None
    if signed[0].keys is not None:
        keys = pa.chunked_array([each.keys for each in signed]).combine_chunks()
    return SignedRows(pa.concat_tables([each.table for each in signed]), weights, keys)


def _state_of(info: LogInfo, schema: pa.Schema) -> _Told | _ByKey | _ByContent:
    if is_keyed(info):
        return _ByKey(schema, is_numbered=info.key == KEY_COLUMN.name)
    if only_grows(info) or info.weight == COUNT_COLUMN.name:
        return _Told()
    return _ByContent(schema)


class _Told:
    """Nothing has to be remembered: the records say it all."""

    def take(self, change: SignedRows) -> RowChange:
        if change.weights is None:
            return RowChange(change.table)
        return net(change.table, change.weights)


class _ByKey:
    """Remembers the row of each key."""

    def __init__(self, schema: pa.Schema, *, is_numbered: bool) -> None:
        self._rows = RowStore(schema)
        self._index = None if is_numbered else HashIndex()

    def take(self, change: SignedRows) -> RowChange:
        assert change.keys is not None
        keys: Longs
        if self._index is None:
            keys = change.keys.to_numpy()
        else:
            keys = self._index.assign(hash_rows([change.keys], change.table.num_rows))
        # Of a key that comes several times, the last one counts.
        distinct, last = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - last
        weights = np.ones(len(keys), np.int64) if change.weights is None else change.weights
        is_there = weights[last] > 0
        newest = change.table.take(pa.array(last)).combine_chunks()
        had = distinct[self._rows.has(distinct)]
        before = self._rows.take(had)
        self._rows.put(distinct, is_there, newest)
        come = newest.filter(pa.array(is_there))
        signs = np.repeat(np.array([-1, 1]), [before.num_rows, come.num_rows])
        return net(pa.concat_tables([before, come]).combine_chunks(), signs)


class _ByContent:
    """Remembers how often each row was put, which may be fewer than no times."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._index = HashIndex()
        self._counts: Longs = np.zeros(1024, np.int64)

    def take(self, change: SignedRows) -> RowChange:
        weights = np.ones(change.table.num_rows, np.int64) if change.weights is None else change.weights
        sums = net(change.table, weights)
        if not sums.rows:
            return sums
        assert sums.weights is not None
        columns = [as_array(column) for column in sums.table.columns]
        keys = self._index.assign(hash_rows(columns, sums.rows, is_exact=True))
        self._counts = grown(self._counts, len(self._index))
        before = np.maximum(self._counts[keys], 0)
        self._counts[keys] += sums.weights
        told = np.maximum(self._counts[keys], 0) - before
        changed = np.flatnonzero(told)
        return RowChange(sums.table.take(pa.array(changed)), told[changed])
