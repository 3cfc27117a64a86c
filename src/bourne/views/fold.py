"""The rows of a log or a view: its records, folded.

Law: the fold of a log is its relation (`bourne.log.relation`); that of an output log is the view. A log, and a view that
only grows, is the concatenation of its records (no copy: they stay in the memory map). Of changes by key, the newest
per key counts. Of changes by content, a row is there as often as its weights sum up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.engine.kernels.arrays import as_array, grown
from bourne.engine.kernels.consolidate import consolidate
from bourne.engine.kernels.hash_index import HashIndex
from bourne.engine.kernels.row_hash import hash_rows
from bourne.errors import InputError, QueryError
from bourne.limits import COPIES_MAX
from bourne.log.catalog import LogInfo, Retention, partition_folder
from bourne.log.cursor import LogCursor, Piece
from bourne.log.relation import KEY_COLUMN, SignedRows, is_keyed, only_grows, relation_schema, signed_rows
from bourne.log.segment import data_names
from bourne.views.keyed_rows import KeyedRows

Longs = NDArray[np.int64]

# A row's or key's hash stands for it. What is remembered of rows that are gone is dropped when they are more than those
# that are there, and this many.
_DEAD_MAX: Final = 1 << 16


class Fold:
    """Follows one log or output log; `table` is its content as of the last `refresh`."""

    def __init__(self, folder: Path, info: LogInfo) -> None:
        self._folder = folder
        self._info = info
        self._begin()

    def _begin(self) -> None:
        self._files = self._file_names()
        self._reader = LogCursor(self._folder, self._info)
        self._schema = relation_schema(self._info).to_arrow()
        self._rows = _rows_of(self._info, self._schema)
        self._table: pa.Table | None = None

    def _file_names(self) -> set[str]:
        """Return the files of a log whose records may go away some day."""
        if self._info.retention == Retention():
            return set()
        folders = [partition_folder(self._folder, number) for number in range(self._info.partitions)]
        return {f"{folder.name}/{name}" for folder in folders for name in data_names(folder)}

    @property
    def positions(self) -> tuple[int, ...]:
        """The offset after the last record that was taken in, of each partition."""
        return self._reader.positions

    def refresh(self, until: Sequence[int] | None = None) -> None:
        """Take in what was committed since the last time, before these offsets.

        O(new records); all anew after retention was at work.
        """
        files = self._file_names()
        is_anew = not self._files <= files
        self._files = files
        try:
            pieces = [] if is_anew else self._reader.read(until=until)
        except InputError:  # retention was at work just now
            is_anew = True
        if is_anew:
            self._reader.close()
            self._begin()
            pieces = self._reader.read(until=until)
        self._reader.rest()
        for piece in pieces:
            if piece.frame.batch.num_rows:
                self._table = None
                self._rows.add(signed_rows(self._info, piece.frame.batch))
                if isinstance(self._rows, _Grown):
                    self._rows.note(piece)

    def count(self) -> int:
        """Return how many rows there are, without making them a table."""
        return self._rows.count()

    def entries(self) -> tuple[Longs | None, pa.Table]:
        """Return the rows, and where they have numbers for keys, the key of each.

        Raises: as `table`.
        """
        return self._rows.entries() if isinstance(self._rows, _ByNumber) else (None, self.table())

    def table_until(self, until: Sequence[int]) -> pa.Table | None:
        """Return the rows of the records before these offsets; None if it is beyond them, and cannot go back.

        Raises: as `table`.
        """
        if all(at <= end for at, end in zip(self.positions, until, strict=True)):
            return self.table()
        return self._rows.table_until(until) if isinstance(self._rows, _Grown) else None

    def table(self) -> pa.Table:
        """Return the rows, under the columns' own names.

        O(1) for a log and where nothing changed, about O(changes) after few, O(rows of the view) after many.

        Raises:
            QueryError: weights make it more rows than memory holds.
        """
        if self._table is None:
            self._table = self._rows.table()
        return self._table

    def close(self) -> None:
        """Let go of the files; the table stays valid. Safe to call twice."""
        self._reader.close()


def _rows_of(info: LogInfo, schema: pa.Schema) -> _Grown | _ByNumber | _ByKey | _ByContent:
    """Return the rows of no records, for the kind of log."""
    if only_grows(info):
        return _Grown(schema)
    if info.key == KEY_COLUMN.name:
        return _ByNumber(schema)
    return _ByKey(schema) if is_keyed(info) else _ByContent(schema, info.name)


class _Grown:
    """Rows that only become more."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._tables: list[pa.Table] = []
        self._places: list[tuple[int, int, NDArray[np.int64] | None]] = []

    def add(self, change: SignedRows) -> None:
        self._tables.append(change.table)

    def note(self, piece: Piece) -> None:
        """Take down where the records are that were added last: partition, end, and their offsets if there are gaps."""
        frame = piece.frame
        self._places.append((piece.partition, frame.next_offset, frame.row_offsets))

    def count(self) -> int:
        return sum(table.num_rows for table in self._tables)

    def table(self) -> pa.Table:
        return pa.concat_tables([self._schema.empty_table(), *self._tables])

    def table_until(self, until: Sequence[int]) -> pa.Table:
        """Return the rows before these offsets: all but some of the last ones. O(those)."""
        kept, last = len(self._tables), list[pa.Table]()
        inside = set(range(len(until)))  # partitions of which earlier pieces may be beyond the offsets
        while kept and inside:
            kept -= 1
            partition, end, offsets = self._places[kept]
            table = self._tables[kept]
            if end > until[partition]:
                first = end - table.num_rows
                rows = (
                    until[partition] - first
                    if offsets is None
                    else np.searchsorted(offsets, until[partition])
                )
                table = table.slice(0, max(0, int(rows)))
            else:
                inside.discard(partition)
            last.append(table)
        return pa.concat_tables([self._schema.empty_table(), *self._tables[:kept], *reversed(last)])


class _ByNumber:
    """The newest row of each key, the keys being dense numbers."""

    def __init__(self, schema: pa.Schema) -> None:
        self._rows = KeyedRows(schema)

    def add(self, change: SignedRows) -> None:
        assert change.keys is not None
        self._rows.put(change.keys.to_numpy(), _is_there(change), change.table)

    def entries(self) -> tuple[Longs, pa.Table]:
        return self._rows.entries()

    def count(self) -> int:
        return self._rows.count()

    def table(self) -> pa.Table:
        return self._rows.table()


class _ByKey:
    """The newest row of each key, whatever the keys are."""

    def __init__(self, schema: pa.Schema) -> None:
        self._rows = KeyedRows(schema)
        self._index = HashIndex()

    def add(self, change: SignedRows) -> None:
        keys = self._index.assign(hash_rows([change.keys], change.table.num_rows))
        self._rows.put(keys, _is_there(change), change.table)
        if len(self._index) > _DEAD_MAX:
            live = self._rows.keys()
            if len(self._index) > 2 * len(live):
                self._index.keep(live)
                self._rows.renumber(live)

    def count(self) -> int:
        return self._rows.count()

    def table(self) -> pa.Table:
        return self._rows.table()


class _ByContent:
    """Rows that are there as often as their weights sum up to."""

    def __init__(self, schema: pa.Schema, name: str) -> None:
        self._name = name
        self._rows = KeyedRows(schema)
        self._index = HashIndex()
        self._counts: Longs = np.zeros(1024, np.int64)

    def add(self, change: SignedRows) -> None:
        columns = [as_array(values) for values in change.table.columns]
        weights = np.ones(change.table.num_rows, np.int64) if change.weights is None else change.weights
        firsts, sums = consolidate(columns, weights)
        distinct = pa.Table.from_arrays(columns, schema=change.table.schema).take(pa.array(firsts))
        rows = [as_array(values) for values in distinct.columns]
        keys = self._index.assign(hash_rows(rows, len(firsts), is_exact=True))
        self._counts = grown(self._counts, len(self._index))
        was_there = self._counts[keys] > 0
        self._counts[keys] += sums
        is_there = self._counts[keys] > 0
        changed = np.flatnonzero(is_there != was_there)
        self._rows.put(keys[changed], is_there[changed], distinct.take(pa.array(changed)))
        self._forget()

    def _forget(self) -> None:
        """Drop what is known of rows that are neither there nor owed."""
        if len(self._index) <= _DEAD_MAX:
            return
        live = np.flatnonzero(self._counts)
        if len(self._index) > 2 * len(live):
            self._index.keep(live)
            self._counts = self._counts[live]
            self._rows.renumber(live)

    def count(self) -> int:
        return int(np.maximum(self._counts, 0).astype(object).sum())

    def table(self) -> pa.Table:
        repeated = np.flatnonzero(self._counts > 1)
        if not len(repeated):
            return self._rows.table()
        copies = self._counts[repeated] - 1
        total = int(copies.astype(object).sum())
        if total > COPIES_MAX:
            raise QueryError(
                f"the weights of {self._name!r} make too many equal rows", expected=f"at most {COPIES_MAX:,} copies",
                found=f"{total:,}", hint="count in a column of the rows instead of in the weight",
            )  # fmt: skip
        return pa.concat_tables([self._rows.table(), self._rows.take(repeated, copies)])


def _is_there(change: SignedRows) -> NDArray[np.bool_]:
    return np.ones(change.table.num_rows, np.bool_) if change.weights is None else change.weights > 0
