"""Request ids: which appends, or which rows, are in a partition already.

Law: of the last `REQUEST_IDS_MAX` calls with an id, and of the last `REQUEST_ROWS_MAX` rows where a column holds ids, a
repeat is known, also after a restart: they are read back from the log itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bourne.errors import InputError
from bourne.limits import REQUEST_IDS_MAX, REQUEST_ROWS_MAX
from bourne.log.catalog import LogInfo
from bourne.log.reader import Frame, LogReader


class Written(NamedTuple):
    """What became of one append: its offsets, whether they are those of an earlier call with the same id, and with a
    column of request ids the offset of each row."""

    offsets: range
    is_repeat: bool = False
    row_offsets: NDArray[np.int64] | None = None


class Earlier(NamedTuple):
    """An append that has an id: its offsets, and the hash of what was sent, if its caller gave one."""

    offsets: range
    hash: str | None = None


class RequestIds:
    """The ids of one partition. Used under its writer lock: `refresh`, then `check` each call that is to be written."""

    def __init__(self, log_folder: Path, info: LogInfo, partition: int) -> None:
        self._reader = LogReader(log_folder, info, partition=partition)
        self._column = info.request_id
        self._log = info.name
        self._calls: dict[str, Earlier] = {}
        self._rows: dict[Any, int] = {}
        self._new_calls: dict[str, Earlier] = {}
        self._new_rows: dict[Any, int] = {}
        start = self._reader.segment_with_metas(REQUEST_IDS_MAX)
        if self._column is not None:
            end = self._reader.end_offset()
            start = min(start, max(self._reader.first_offset, end - REQUEST_ROWS_MAX))
        self._reader.seek(start)

    def refresh(self) -> None:
        """Take in what was published since the last time; forget what was only planned. O(new records)."""
        self._new_calls.clear()
        self._new_rows.clear()
        while frames := self._read():
            for frame in frames:
                for name, first, count, *sent in frame.meta.get("requests", ()):
                    self._calls.pop(name, None)
                    self._calls[name] = Earlier(range(first, first + count), *sent)
                if self._column is not None:
                    self._take_rows(frame)
        _forget(self._calls, REQUEST_IDS_MAX)
        _forget(self._rows, REQUEST_ROWS_MAX)
        self._reader.rest()  # until the next call, retention may do what it wants

    def _read(self) -> list[Frame]:
        """Read on; what was deleted meanwhile is passed over."""
        while True:
            try:
                return self._reader.read(bytes_max=64 << 20)
            except InputError:
                self._reader.seek_first()

    def _take_rows(self, frame: Frame) -> None:
        ids = frame.batch.column(self._column).to_pylist()
        self._rows.update(zip(ids, frame.offsets().tolist(), strict=True))

    def check(
        self, table: pa.Table, request_id: str | None, offset: int, request_hash: str | None = None
    ) -> tuple[pa.Table, Written | None]:
        """Return the rows that are not there yet, to be written from `offset` on, and what to answer.

        Raises:
            InputError: the id was used for other data, as its hash says, or for an append of another size.
        """
        if request_id is not None:
            before = self._calls.get(request_id, self._new_calls.get(request_id))
            if before is not None:
                self._check_same(request_id, before, table.num_rows, request_hash)
                return table.slice(0, 0), Written(before.offsets, is_repeat=True)
        written = None
        if self._column is not None:
            table, written = self._check_rows(table, offset)
        if request_id is not None:
            self._new_calls[request_id] = Earlier(range(offset, offset + table.num_rows), request_hash)
        return table, written

    def _check_same(self, request_id: str, before: Earlier, rows: int, request_hash: str | None) -> None:
        has_changed = None not in (before.hash, request_hash) and before.hash != request_hash
        if has_changed or (self._column is None and len(before.offsets) != rows):
            first, end = before.offsets.start, before.offsets.stop
            raise InputError(
                f"request id {request_id!r} was used for another append to log {self._log!r}",
                expected=f"the same {len(before.offsets)} records (offsets {first} to {end - 1})",
                found="other data" if has_changed else f"{rows} records", hint="use a new id for new data",
            )  # fmt: skip

    def _check_rows(self, table: pa.Table, offset: int) -> tuple[pa.Table, Written]:
        ids = table.column(self._column).to_pylist()
        distinct = set(ids)
        if (
            len(distinct) == len(ids)
            and self._rows.keys().isdisjoint(distinct)
            and self._new_rows.keys().isdisjoint(distinct)
        ):
            offsets = np.arange(offset, offset + len(ids))
            self._new_rows.update(zip(ids, offsets.tolist(), strict=True))
            return table, Written(range(offset, offset + len(ids)), False, offsets)
        offsets = np.empty(len(ids), np.int64)
        is_new = np.zeros(len(ids), np.bool_)
        following = offset
        for row, name in enumerate(ids):
            known = self._rows.get(name, self._new_rows.get(name))
            if known is None:
                known, is_new[row] = following, True
                self._new_rows[name] = known
                following += 1
            offsets[row] = known
        return table.filter(pa.array(is_new)), Written(range(offset, following), following == offset, offsets)

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        self._reader.close()


def _forget(ids: dict[Any, Any], most: int) -> None:
    """Drop the oldest beyond `most`."""
    for name in list(ids)[: max(0, len(ids) - most)]:
        del ids[name]
