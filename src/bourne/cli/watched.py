"""What `bourne watch` shows: the rows of a view or log as of now, in an order, and which of them have just come.

Only the rows that are shown are cut out: a look costs O(changes), and finding the first rows in the order O(rows).
Records of a log that only grows are looked at from its end, whatever its length.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.cli.tail import last_records
from bourne.duck import cursor
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.row_hash import hash_rows
from bourne.errors import UnknownColumn, UnknownName
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.cursor import LogCursor
from bourne.log.embedded import EmbeddedLog
from bourne.log.reader import LogReader
from bourne.log.relation import only_grows, relation_schema
from bourne.schema import Schema, cast_back, quote
from bourne.views.catalog import Catalog, ViewInfo
from bourne.views.changes import Changes, net
from bourne.views.fold import Fold
from bourne.views.status import view_status

# How long a row that has come looks new, in seconds.
NEW_S: Final = 1.5

_EPOCH: Final = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Target:
    """A view, in its newest version, or a log: where it is, and what it was made with."""

    name: str
    folder: Path
    info: LogInfo
    view: ViewInfo | None

    def is_same(self, other: Target) -> bool:
        """Say whether the other one's rows go on where this one's are."""
        return self.folder == other.folder and self.info.schema == other.info.schema

    def folders(self, catalog: Catalog) -> list[Path]:
        """Return the folders of the partitions in which something is written when there is something new to show."""
        return [
            partition_folder(folder, number)
            for folder, info in [(self.folder, self.info), *inputs_of(self, catalog)]
            for number in range(info.partitions)
        ]


def find(catalog: Catalog, name: str) -> Target:
    """Return the view or log of this name.

    Raises:
        UnknownName: there is none.
    """
    view = catalog.view(name)
    if view is not None:
        return Target(view.name, view.folder, view.output, view)
    log = catalog.log(name)
    if log is not None:
        return Target(log.name, catalog.log_folder(log.name), log, None)
    known = [each.name for each in catalog.views()] + [each.name for each in catalog.logs()]
    raise UnknownName(
        f"there is no view or log {name!r}", where=str(catalog.folder), expected=", ".join(known) or "none",
        found=name,
    )  # fmt: skip


def inputs_of(target: Target, catalog: Catalog) -> list[tuple[Path, LogInfo]]:
    """Return where the inputs of a view are; a log has none."""
    found = []
    for each in target.view.inputs if target.view is not None else ():
        view = catalog.view(each.name)
        found.append((catalog.log_folder(each.name), each) if view is None else (view.folder, view.output))
    return found


# --- columns and order -----------------------------------------------------------------------------------


def pick(names: Sequence[str], text: str | None) -> list[str]:
    """Return the columns that `a,b` names, by default all. Case does not matter.

    Raises:
        UnknownColumn: there is no such column.
    """
    return list(names) if text is None else [_pick(names, part.strip()) for part in text.split(",")]


def pick_order(names: Sequence[str], text: str | None) -> list[tuple[str, bool]]:
    """Return the columns of `a,b.desc`, and whether each is descending; then all others, so that the order is one.

    Raises:
        UnknownColumn: there is no such column.
    """
    found: dict[str, bool] = {}
    for part in text.split(",") if text is not None else ():
        name, _, direction = part.strip().rpartition(".")
        if name and direction.casefold() in ("asc", "desc"):
            found.setdefault(_pick(names, name), direction.casefold() == "desc")
        else:
            found.setdefault(_pick(names, part.strip()), False)
    return [*found.items(), *((name, False) for name in names if name not in found)]


def _pick(names: Sequence[str], wanted: str) -> str:
    for name in names:
        if name.casefold() == wanted.casefold():
            return name
    raise UnknownColumn(f"there is no column {wanted!r}", expected=", ".join(names), found=wanted)


# --- rows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """The first rows of `rows`, and which of them are new. `title` says in a line how it is; `unit` is what a row is."""

    table: pa.Table
    is_new: Sequence[bool]
    rows: int
    unit: str
    title: str


class WatchedRows:
    """The rows of a view, or of a log as SQL sees it."""

    def __init__(
        self, target: Target, catalog: Catalog, *, columns: str | None, order: str | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._target = target
        self._schema = relation_schema(target.info)
        self._columns = pick(self._schema.names, columns)
        self._order = pick_order(self._schema.names, order)
        self._new = _NewRows(now)
        self._changed = _LastChange(target.folder, target.info)
        self._cut: tuple[pa.Table, int, pa.Table] | None = None
        with ExitStack() as opened:
            self._inputs: dict[str, LogCursor] = {}
            for folder, info in inputs_of(target, catalog):
                self._inputs[info.name] = LogCursor(folder, info)
                opened.callback(self._inputs[info.name].close)
            self._fold = Fold(target.folder, target.info)
            opened.callback(self._fold.close)
            self._changes = Changes(target.folder, target.info)
            opened.callback(self._changes.close)
            self._skip_to_now()
            self._opened = opened.pop_all()

    def _skip_to_now(self) -> None:
        """Let nothing that is there already be new."""
        if not self._changes.is_told:
            self._changes.read()
            return
        ends = LogCursor(self._target.folder, self._target.info)
        try:
            self._changes.seek(ends.end_offsets())
        finally:
            ends.close()

    @property
    def fades(self) -> bool:
        """Whether some rows will not be new any more soon."""
        return self._new.fades

    def look(self, count: int) -> Shown:
        """Return the first `count` rows as of now."""
        title = self._title()  # first, so that it does not promise what the rows do not have
        self._fold.refresh()
        table = self._fold.table()
        change = self._changes.read()
        if change is not None and change.rows:
            self._changed.look()
            weights = np.ones(change.rows, np.int64) if change.weights is None else change.weights
            seen = net(change.table.select(self._columns), weights)
            assert seen.weights is not None
            self._new.add(seen.table.filter(pa.array(seen.weights > 0)))
        if self._cut is None or self._cut[0] is not table or self._cut[1] != count:
            self._cut = table, count, _first(table, self._schema, self._order, count).select(self._columns)
        shown = self._cut[2]
        return Shown(shown, self._new.among(shown), table.num_rows, "row", f"{title}{self._changed}")

    def _title(self) -> str:
        view = self._target.view
        if view is None:
            return self._target.name
        ends = {name: each.end_offsets() for name, each in self._inputs.items()}
        status = view_status(view, input_ends=ends, rows=0, late_records=0, failed_records=0)
        version = f" (version {view.version})" if view.version > 1 else ""
        return f"{view.name}{version}: position {status.position:,}, lag {status.lag_records:,}"

    def close(self) -> None:
        """Let go of the files."""
        self._opened.close()


def _first(table: pa.Table, schema: Schema, order: Sequence[tuple[str, bool]], count: int) -> pa.Table:
    """Return the first rows in an order, NULL being last, as they lie in the table."""
    columns = ", ".join(cast_back(column) for column in schema.columns)
    by = ", ".join(f"{quote(name)}{' DESC' if is_down else ''} NULLS LAST" for name, is_down in order)
    numbered = table.append_column("__row", pa.array(np.arange(table.num_rows)))
    found = cursor().from_arrow(numbered).query("t", f"SELECT __row FROM (SELECT {columns}, __row FROM t) ORDER BY {by} LIMIT {count}")  # fmt: skip
    return table.take(found.to_arrow_table().column(0).combine_chunks())


class _NewRows:
    """Tells rows that have come within the last moment, by their hashes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._hashes: deque[tuple[float, NDArray[np.int64]]] = deque()

    @property
    def fades(self) -> bool:
        return bool(self._hashes)

    def add(self, table: pa.Table) -> None:
        if table.num_rows:
            self._hashes.append((self._now() + NEW_S, _hashes(table)))

    def among(self, table: pa.Table) -> list[bool]:
        """Say of each row whether it is new."""
        now = self._now()
        while self._hashes and self._hashes[0][0] <= now:
            self._hashes.popleft()
        if not self._hashes:
            return [False] * table.num_rows
        found = np.isin(_hashes(table), np.concatenate([each for _, each in self._hashes]))
        return [bool(is_new) for is_new in found]


def _hashes(table: pa.Table) -> NDArray[np.int64]:
    """Return half of each row's hash: of rows that are told apart wrongly, one is shown bold, no more."""
    lanes = hash_rows([as_array(column) for column in table.columns], table.num_rows, is_exact=True)
    half: NDArray[np.int64] = lanes[0]
    return half


# --- records ---------------------------------------------------------------------------------------------


class LastRecords:
    """The last records of a log that only grows, with their offsets, the newest below."""

    def __init__(
        self, log: EmbeddedLog, *, columns: str | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._now = now
        self._changed = _LastChange(log.folder, log.info)
        self._cursor = log.cursor()
        self._has_partition = log.info.partitions > 1
        self._places = ["__partition", "__offset"] if self._has_partition else ["__offset"]
        self._columns = pick([*self._places, *log.info.schema.names], columns)
        # Where the partitions ended: what is behind the first of these is new.
        self._ends: deque[tuple[float, tuple[int, ...]]] = deque()

    @property
    def fades(self) -> bool:
        """Whether some records will not be new any more soon."""
        return len(self._ends) > 1

    def look(self, count: int) -> Shown:
        """Return the last `count` records as of now."""
        ends, firsts = self._cursor.end_offsets(), self._cursor.first_offsets()
        now = self._now()
        if not self._ends or self._ends[-1][1] != ends:
            self._ends.append((now, ends))
            self._changed.look()
        while len(self._ends) > 1 and self._ends[1][0] + NEW_S <= now:
            self._ends.popleft()
        found = list(last_records(self._log, self._cursor, ends, count, self._has_partition))
        kinds = [pa.field(name, pa.int64()) for name in self._places]
        schema = pa.schema([*kinds, *self._log.info.schema.to_arrow()])
        # In one schema: the first look may have no records, whose columns are of the same types.
        table = pa.concat_tables([each.cast(schema) for each in found] or [schema.empty_table()])
        offsets = table.column("__offset").to_pylist()
        partitions = table.column("__partition").to_pylist() if self._has_partition else [0] * len(offsets)
        before = self._ends[0][1]
        is_new = [offset >= before[number] for number, offset in zip(partitions, offsets, strict=True)]
        kept = sum(ends) - sum(firsts)
        return Shown(
            table.select(self._columns), is_new, kept, "record", f"{self._log.info.name}{self._changed}"
        )

    def close(self) -> None:
        """Let go of the files."""
        self._cursor.close()


def is_tail(target: Target, order: str | None) -> bool:
    """Say whether it is the last records that are to be shown."""
    return target.view is None and order is None and only_grows(target.info)


class _LastChange:
    """When something was last changed in a log: the append time of its last records, in UTC; nothing if that is not known."""

    def __init__(self, folder: Path, info: LogInfo) -> None:
        self._folder, self._info = folder, info
        self._text = ""
        self.look()

    def look(self) -> None:
        """Read it anew."""
        times = []
        for number in range(self._info.partitions):
            reader = LogReader(self._folder, self._info, partition=number)
            try:
                frame = reader.last_frame()
            finally:
                reader.close()
            if frame is not None and frame.batch.num_rows:
                times.append(frame.append_time_us)
        if times:
            self._text = f", changed {_EPOCH + timedelta(microseconds=max(times)):%Y-%m-%d %H:%M:%S} UTC"

    def __str__(self) -> str:
        return self._text
