"""Rows of a log or view as what a chunk step reads, by its positions: what came since the last run, or all of them.

Law: a position says where reading is in each partition, and up to where this pass of it goes. One partition is read after
another, so that between the two the order is always the same. What another run has left of its pass is read first.

Of a log whose rows never change, and a view that only grows, rows are read. Of any other, what became of its rows, by a
key: new rows, and keys that have none any more. Those come as they were committed: a chunk ends where a commit does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bourne.connect.sink import Shape
from bourne.connect.source import Position, Taken
from bourne.errors import DefinitionError, InputError, SourceFailed, UnknownName
from bourne.jobs.reader import Part
from bourne.limits import DELIVERY_BYTES
from bourne.log.catalog import LogInfo
from bourne.log.relation import is_keyed, only_grows, relation_schema
from bourne.schema import Schema
from bourne.sink_changes import KeyCounts
from bourne.views.catalog import Catalog
from bourne.views.changes import Changes, RowChange, net


def find_records(folder: Path, name: str) -> tuple[Path, LogInfo]:
    """Return where a log or view is, and what is in it.

    Raises:
        UnknownName: there is neither.
    """
    catalog = Catalog(folder)
    view = catalog.view(name)
    if view is not None:
        return view.folder, view.output
    log = catalog.log(name)
    if log is None:
        known = ", ".join(
            sorted([*(each.name for each in catalog.logs()), *(each.name for each in catalog.views())])
        )
        raise UnknownName(f"there is no log or view {name!r}", where=str(folder), expected=known, found=name)
    return catalog.log_folder(log.name), log


class LogReader:
    """Reads a log or view. `key` is needed where rows change, unless `is_whole`: all rows as they are at one position."""

    def __init__(
        self, data: Path, name: str, *, key: Sequence[str], is_whole: bool, is_processed: bool, where: str
    ) -> None:
        """Find it.

        Raises:
            UnknownName: it is not there.
            DefinitionError: its rows change, and cannot be followed so.
        """
        self._data = data
        self._folder, self._info = find_records(data, name)
        self.schema: Schema = relation_schema(self._info)
        self._where = f"{where}, records of {name!r}"
        self._key = tuple(key)
        self._is_whole = is_whole
        self._range: tuple[int, int] | None = None
        if is_whole or only_grows(self._info):
            return
        if not key or is_processed:
            raise DefinitionError(
                f"rows of {name!r} change: what becomes of them goes by a key, and as it is", where=self._where,
                expected="key=…, and no process", found="process" if key else "no key",
                hint="name a key that tells its rows apart, and put the SQL into a view; or load all of it: mode='replace'",
            )  # fmt: skip
        self._key = self._columns(key)
        if is_keyed(self._info) and self._info.retention.is_compacted:
            raise DefinitionError(
                f"log {name!r} is compacted: it does not say what became of its rows since the last run", where=self._where,
                hint=f'read a view: SELECT * FROM "{name}"; or load all of it: mode=\'replace\'',
            )  # fmt: skip

    def _columns(self, key: Sequence[str]) -> tuple[str, ...]:
        found = []
        for name in key:
            column = self.schema.column(name)
            if column is None:
                raise DefinitionError(f"the key {name!r} is no column", where=self._where, expected=", ".join(self.schema.names),
                                      found=name)  # fmt: skip
            found.append(column.name)
        return tuple(found)

    def read(self, position: Any) -> Iterator[Taken]:
        """Yield what there is behind a position, up to what is durable now.

        Raises:
            SourceFailed: what is behind the position is not there any more, or the view is another one now.
        """
        is_here = position is None or position["of"] == self._info.id.hex()
        if not is_here and (only_grows(self._info) or self._is_whole):
            raise SourceFailed(
                f"{self._info.name!r} is another one than in the last run: it was made anew, or its definition changed",
                where=self._where, expected=position["of"], found=self._info.id.hex(),
                hint="give the step another name, or the target other rows: mode='replace' loads all of them",
            )  # fmt: skip
        with closing(Changes(self._folder, self._info)) as changes:
            ends = list(changes.end_offsets())
            if self._range is None:
                begin = position["offsets"] if position is not None and is_here else changes.positions
                self._range = (sum(begin), sum(ends))
            if self._is_whole and not only_grows(self._info):
                yield from self._whole(changes, position, ends)
            elif only_grows(self._info):
                yield from self._rows(changes, position, ends)
            else:
                yield from self._changed(changes, position, ends)

    def _place(self, offsets: Sequence[int], until: Sequence[int]) -> Position:
        return {"of": self._info.id.hex(), "offsets": list(offsets), "until": list(until)}

    # --- rows that stay ----------------------------------------------------------------------------------

    def _rows(self, changes: Changes, position: Any, ends: list[int]) -> Iterator[Taken]:
        if position is not None:
            self._seek(changes, position["offsets"])
            yield from self._pass(changes, position["until"])
            if self._is_whole:
                return
        if list(changes.positions) != ends:
            yield Taken(None, self._place(changes.positions, ends))
            yield from self._pass(changes, ends)

    def _seek(self, changes: Changes, offsets: Sequence[int]) -> None:
        try:
            changes.seek(offsets)
        except InputError as error:
            raise SourceFailed(
                f"records of {self._info.name!r} were deleted before they were read", where=self._where, expected=error.expected,
                found=error.found, hint="keep them for longer (keep=…), or read a view",
            ) from error  # fmt: skip

    def _pass(self, changes: Changes, until: Sequence[int]) -> Iterator[Taken]:
        """Yield the rows up to some offsets, one partition after another."""
        for number, end in enumerate(until):
            while changes.positions[number] < end:
                stop = [*changes.positions]
                stop[number] = end
                change = changes.read(until=stop, bytes_max=DELIVERY_BYTES * len(until))
                if change is None:
                    raise SourceFailed(f"{self._info.name!r} has less than it had", where=self._where, expected=str(until),
                                       found=str(changes.positions), hint="was the data folder restored from an older copy?")  # fmt: skip
                yield Taken(change.table, self._place(changes.positions, until))

    # --- rows that change --------------------------------------------------------------------------------

    def _changed(self, changes: Changes, position: Any, ends: list[int]) -> Iterator[Taken]:
        counts = KeyCounts(Shape(self._where, self.schema, self._key))
        if position is not None and position["of"] != self._info.id.hex():
            before = self._old_rows(position)
            counts.take(before)
            now = changes.read(until=ends) or RowChange(self.schema.to_arrow().empty_table())
            yield self._part(_difference(before, now), changes, counts, ends)
            return
        if position is None:
            # What its rows were once is nobody's business now: the first chunk is all of them.
            now = changes.read(until=ends) or RowChange(self.schema.to_arrow().empty_table())
            yield self._part(now, changes, counts, ends)
            return
        while sum(changes.positions) < sum(position["offsets"]):
            known = changes.read(until=position["offsets"], bytes_max=DELIVERY_BYTES)
            if known is None:
                raise SourceFailed(f"{self._info.name!r} has less than it had", where=self._where, expected=str(position["offsets"]),
                                   found=str(changes.positions), hint="was the data folder restored from an older copy?")  # fmt: skip
            counts.take(known)
        while list(changes.positions) != ends:
            change = changes.read(until=ends, bytes_max=DELIVERY_BYTES)
            if change is None:
                return
            yield self._part(change, changes, counts, ends)

    def _part(self, change: RowChange, changes: Changes, counts: KeyCounts, ends: Sequence[int]) -> Part:
        found = counts.take(change)
        return Part(found.rows, self._place(changes.positions, ends), gone=found.gone, is_whole=True)

    def _old_rows(self, position: Any) -> RowChange:
        """Return the rows of an older version of the view, as they were at a position."""
        found = Catalog(self._data).versions(self._info.name).get(position["of"])
        if found is None or relation_schema(found[1]) != self.schema:
            raise SourceFailed(
                f"{self._info.name!r} is another one than in the last run", where=self._where,
                expected="a version of it with the same columns", found="none" if found is None else "other columns",
                hint="give the step another name, and make the target anew",
            )  # fmt: skip
        with closing(Changes(*found)) as old:
            rows = old.read(until=position["offsets"])
            return rows if rows is not None else RowChange(self.schema.to_arrow().empty_table())

    def _whole(self, changes: Changes, position: Any, ends: list[int]) -> Iterator[Taken]:
        """Yield all rows as they are at one position, as one chunk: which of them comes first is by no rule."""
        if position is not None:
            return
        change = changes.read(until=ends)
        if change is not None:
            table = change.table
            if change.weights is not None:
                table = table.take(pa.array(np.repeat(np.arange(change.rows), change.weights)))
            yield Part(table, self._place(changes.positions, ends), is_whole=True)

    # --- the rest ----------------------------------------------------------------------------------------

    def share(self, position: Any) -> float | None:
        """Return the share of the records to be read that lie before a position."""
        if self._range is None:
            return None
        begin, end = self._range
        at = begin if position is None or position["of"] != self._info.id.hex() else sum(position["offsets"])
        return 1.0 if end <= begin else min(1.0, max(0.0, (at - begin) / (end - begin)))

    def close(self) -> None:
        """Nothing is held."""


def _difference(before: RowChange, now: RowChange) -> RowChange:
    """Return what makes the rows of one version those of another."""
    weights = [
        sign * (np.ones(each.rows, np.int64) if each.weights is None else each.weights)
        for sign, each in ((-1, before), (1, now))
    ]
    old = pa.Table.from_arrays(before.table.columns, schema=now.table.schema)
    return net(pa.concat_tables([old, now.table]).combine_chunks(), np.concatenate(weights))
