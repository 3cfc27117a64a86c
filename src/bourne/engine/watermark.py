"""Watermarks: how far the event time of a view's inputs has come.

Law: a partition's watermark is a function of its records: after each of them, the latest time so far less the declared
lateness, or the latest statement of its own (punctuation). An input's is the least of its partitions', a view's the least
of its inputs'; it never goes back. A partition from which nothing has come for a while, by the epochs' clock, does not hold
the others back: that, and only that, depends on when the view looked; so an epoch's frame says what it came to.

Times that no record can have, and NULL, say nothing (`limits.TIME_FIRST_US`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.duck import connect
from bourne.engine.kernels.arrays import as_array
from bourne.engine.moment import NEVER
from bourne.errors import DefinitionError, SqlError
from bourne.limits import TIME_END_US, TIME_FIRST_US
from bourne.log.catalog import LogInfo
from bourne.log.cursor import Piece
from bourne.log.relation import column_of
from bourne.schema import cast_back, quote
from bourne.sql.bind import bind
from bourne.sql.plan import Get, Project, nodes
from bourne.sql.windows import rewrite_windows
from bourne.udf import first_alone, reason

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Behind:
    """Of some records: the watermark of each one's partition before it, and where its time is none."""

    watermarks: Longs
    is_absurd: NDArray[np.bool_]
    times: Longs


class InputWatermark:
    """The watermark of one input: a log with a time, or a view whose rows have bounds."""

    def __init__(self, info: LogInfo) -> None:
        self.info = info
        self.reached = [NEVER] * info.partitions
        self.active_us: list[int | None] = [None] * info.partitions  # the clock when something came last
        self._punctuation = _Punctuation(info) if info.punctuation is not None else None

    def take_in(self, table: pa.Table, pieces: Sequence[Piece], clock_us: int) -> Behind | None:
        """Take in records that were read; return what they were before. None for a view, whose last frame says it."""
        if self.info.time is None:
            return None
        times, is_absurd = _times(self.info, table)
        stated = np.where(is_absurd, NEVER, times - self.info.watermark_us)
        if self._punctuation is not None:
            stated = self._punctuation.of(table)
        before = np.empty(len(times), np.int64)
        start = 0
        for piece in pieces:
            end = start + piece.frame.batch.num_rows
            if end > start:
                at = self.reached[piece.partition]
                after = np.maximum.accumulate(stated[start:end])
                before[start] = at
                before[start + 1 : end] = np.maximum(after[:-1], at)
                self.reached[piece.partition] = max(at, int(after[-1]))
                self.active_us[piece.partition] = clock_us
            start = end
        return Behind(before, is_absurd, times)

    def pass_over(self, table: pa.Table, pieces: Sequence[Piece], clock_us: int) -> None:
        """Take in records of which nobody asks how far behind each one is: only how far they come."""
        if self._punctuation is not None:
            self.take_in(table, pieces, clock_us)
        for piece in pieces if self.info.time is not None and self._punctuation is None else ():
            latest = _latest(self.info, piece.frame.batch)
            if latest is None:
                self.take_in(pa.Table.from_batches([piece.frame.batch]), [piece], clock_us)
                continue
            at = self.reached[piece.partition]
            self.reached[piece.partition] = max(at, latest - self.info.watermark_us)
            self.active_us[piece.partition] = clock_us

    def advance_to(self, watermark_us: int | None) -> None:
        """Take over the watermark of the view that the input is."""
        if watermark_us is not None:
            self.reached = [max(self.reached[0], watermark_us)]

    def value(self, clock_us: int, is_at_end: Sequence[bool]) -> int | None:
        """Return the least watermark of the partitions, but for those that are idle: None if all are.

        NEVER if one that counts says nothing.
        """
        counted = [
            at for number, at in enumerate(self.reached)
            if not (is_at_end[number] and self._is_idle(number, clock_us))
        ]  # fmt: skip
        return min(counted, default=None)

    def _is_idle(self, partition: int, clock_us: int) -> bool:
        since = self.active_us[partition]
        return self.info.idle_us is not None and since is not None and clock_us - since >= self.info.idle_us

    def begin(self, clock_us: int) -> None:
        """Count the idle time of partitions from which nothing has come yet from now on."""
        self.active_us = [clock_us if since is None else since for since in self.active_us]

    def idle_at(self, clock_us: int) -> int | None:
        """Return when the next partition becomes idle, if nothing comes."""
        if self.info.idle_us is None:
            return None
        ends = [since + self.info.idle_us for since in self.active_us if since is not None]
        return min((end for end in ends if end > clock_us), default=None)

    def to_meta(self) -> list[Any]:
        """Return what a frame keeps of it."""
        return [[None if at == NEVER else at for at in self.reached], self.active_us]

    def load(self, meta: Sequence[Any]) -> None:
        """Become what `to_meta` returned."""
        reached, active = meta
        self.reached = [NEVER if at is None else at for at in reached]
        self.active_us = list(active)


def _latest(info: LogInfo, batch: pa.RecordBatch) -> int | None:
    """Return the latest time of some records in microseconds; None where that is none, or there is no record."""
    assert info.time is not None
    last = pc.max(column_of(info, batch, info.time))
    found: int | None = last.cast(pa.timestamp("us", last.type.tz), safe=False).cast(pa.int64()).as_py()
    return found if found is not None and TIME_FIRST_US <= found < TIME_END_US else None


def _times(info: LogInfo, table: pa.Table) -> tuple[Longs, NDArray[np.bool_]]:
    """Return the records' times in microseconds, and which of them are no times."""
    assert info.time is not None
    column = as_array(column_of(info, table, info.time))
    instants = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    times = instants.fill_null(NEVER).to_numpy(zero_copy_only=False)
    return times, (times < TIME_FIRST_US) | (times >= TIME_END_US)


class _Punctuation:
    """What records say themselves: that no earlier ones follow."""

    def __init__(self, info: LogInfo) -> None:
        self._info = info
        columns = ", ".join(cast_back(column) for column in info.schema.columns)
        given = {"given": info.schema}
        text = rewrite_windows(
            f"SELECT epoch_us(CAST(({info.punctuation}) AS TIMESTAMP)) FROM given", given
        ).sql
        self._sql = f"WITH given AS (SELECT {columns} FROM __records) {text}"
        self._connection = connect()

    def of(self, table: pa.Table) -> Longs:
        try:
            found = self._ask(table)
        except duckdb.Error as error:
            raise NoPunctuation(
                self._info, first_alone(partial(self._fails, table), len(table)), error
            ) from error
        stated = found.fill_null(NEVER).to_numpy(zero_copy_only=False)
        return np.where((stated < TIME_FIRST_US) | (stated >= TIME_END_US), NEVER, stated)

    def _ask(self, table: pa.Table) -> pa.Array:
        self._connection.register("__records", table)
        try:
            return as_array(self._connection.sql(self._sql).to_arrow_table().column(0))
        finally:
            self._connection.unregister("__records")

    def _fails(self, table: pa.Table, start: int, count: int) -> bool:
        try:
            self._ask(table.slice(start, count))
        except duckdb.Error:
            return True
        return False


class NoPunctuation(Exception):
    """What a record says of the watermark cannot be computed. `row` is which of those that were read, if it fails alone."""

    def __init__(self, info: LogInfo, row: int | None, error: duckdb.Error) -> None:
        super().__init__(f"the punctuation of log {info.name!r} cannot be computed: {reason(error)}")
        self.info, self.row = info, row


def check_punctuation(info: LogInfo) -> None:
    """Refuse a punctuation that is no timestamp, or not a function of the record alone.

    Raises:
        SqlError: names the place in its text.
    """
    if info.punctuation is None:
        return
    sql = f"SELECT ({info.punctuation}) AS punctuation FROM {quote(info.name)}"
    try:
        query = bind(sql, {info.name: info.schema})
    except SqlError as error:
        raise DefinitionError(
            f"the punctuation cannot be read: {error.what}", where=f"log {info.name!r}",
            expected="a column, or an SQL expression over columns", found=info.punctuation, hint=error.hint,
        ) from error  # fmt: skip
    kind = query.schema.columns[0].type
    if not kind.startswith("TIMESTAMP"):
        raise DefinitionError("the punctuation is no timestamp", where=f"log {info.name!r}", expected="a timestamp",
                              found=f"{info.punctuation}: {kind}")  # fmt: skip
    if not all(isinstance(node, Project | Get) for node in nodes(query.plan)):
        raise DefinitionError("the punctuation is not of one record", where=f"log {info.name!r}",
                              expected="an expression over the columns of a record", found=info.punctuation,
                              hint="leave aggregates, window functions, unnest and subqueries out")  # fmt: skip


def is_timed(info: LogInfo) -> bool:
    """Say whether an input has a watermark."""
    return info.time is not None or bool(info.bounds)


def least(values: Mapping[str, int | None]) -> int | None:
    """Return a view's watermark from those of its inputs that are not idle; None if nothing is known of one, or none is."""
    found = min((value for value in values.values() if value is not None), default=NEVER)
    return None if found == NEVER else found
