"""The stream of a table's changes as parts: records, and the place after them.

Law: what a part holds follows from the messages and the place before it alone. A transaction that was taken, wholly or in
its first part, is passed over when the server sends it again after a crash; so is what a snapshot saw already. A part ends
where the table's definition changes, or the table is emptied: what follows may need the log as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bourne.connect import pgoutput
from bourne.connect.pgoutput import (
    BEGIN,
    COMMIT,
    DELETE,
    INSERT,
    RELATION,
    TRUNCATE,
    UPDATE,
    Longs,
    Messages,
    Relation,
)
from bourne.connect.postgres_place import Place, lsn_text
from bourne.connect.postgres_rows import Changes, Flags, Records
from bourne.connect.postgres_snapshot import locate
from bourne.connect.postgres_tables import PgTable, index_of, read_types
from bourne.connect.postgres_texts import PgType
from bourne.errors import SourceFailed
from bourne.limits import POSTGRES_ROWS_MAX

if TYPE_CHECKING:
    import psycopg

_ROWS = np.frombuffer(bytes((INSERT, UPDATE, DELETE)), np.uint8)
_CHANGES = np.frombuffer(bytes((INSERT, UPDATE, DELETE, TRUNCATE)), np.uint8)

LiveKeys = Callable[[], pa.Table]
"""Returns the keys of all rows that the log's relation has (of a log without a key: the rows)."""

Part = tuple[pa.Table | None, Place]


class Stream:
    """Turns messages into parts. `place` is where it stands; it is behind what was yielded only if that had no records."""

    def __init__(
        self, connection: psycopg.Connection[Any], table: PgTable, records: Records, place: Place,
        live_keys: LiveKeys | None, *, where: str,
    ) -> None:  # fmt: skip
        """Begin at a place. The connection is for questions about types and the order of keys."""
        self.place = place
        self.drift: str | None = None
        self._connection = connection
        self._table = table
        self._records = records
        self._live_keys = live_keys
        self._where = where
        self._relation: Relation | None = None
        self._types: Mapping[int, PgType] = {}
        # The newest transaction: when it commits, its id, and, until it is at its end, how many changes of it have come.
        self._final, self._transaction, self._count, self._is_open = 0, 0, 0, False

    @property
    def is_inside(self) -> bool:
        """Say whether the newest transaction is not at its end."""
        return self._is_open

    def feed(self, messages: Messages) -> Iterator[Part]:
        """Yield the parts of some messages; the next part is made when the one before is durable."""
        if not len(messages.kinds):
            return
        batch = self._batch(messages)
        cuts = np.flatnonzero((messages.kinds == RELATION) | (messages.kinds == TRUNCATE))
        start = 0
        for cut in cuts.tolist():
            body = messages.body(cut)
            if messages.kinds[cut] == RELATION:
                relation = pgoutput.relation(body)
                if relation.number == self._table.number and relation != self._relation:
                    yield from self._rows(batch, start, cut)
                    self._see(relation)
                    start = cut
            elif self._table.number in pgoutput.truncated(body) and not batch.is_old[cut]:
                yield from self._rows(batch, start, cut)
                yield from self._truncate(batch, cut)
                start = cut + 1
        yield from self._rows(batch, start, len(messages.kinds))
        self._final, self._transaction = int(batch.finals[-1]), int(batch.ids[-1])
        self._is_open = bool(batch.is_open[-1])
        self._count = int(batch.numbers[-1]) if self._is_open else 0

    def _batch(self, messages: Messages) -> _Batch:
        kinds = messages.kinds
        begins = np.flatnonzero(kinds == BEGIN)
        of = np.cumsum(kinds == BEGIN)
        finals = np.concatenate([[self._final], messages.numbers(begins, at=0, size=8)])
        ids = np.concatenate([[self._transaction], messages.numbers(begins, at=16, size=4)])
        changes = np.cumsum(np.isin(kinds, _CHANGES))
        before = np.concatenate([[-self._count], changes[begins]])
        numbers = changes - before[of]
        commits = np.cumsum(kinds == COMMIT)
        is_open = of + int(self._is_open) > commits
        opened = self.place.open
        is_old = finals[of] < self.place.lsn
        if opened is not None:
            self._check_again(finals, opened[0])
            is_old |= (finals[of] == opened[0]) & (numbers <= opened[1])
        ends = messages.numbers(np.flatnonzero(kinds == COMMIT), at=9, size=8)
        return _Batch(messages, finals[of], ids[of], numbers, is_open, is_old, commits, ends)

    def _check_again(self, finals: Longs, expected: int) -> None:
        """Check that a transaction of which a part was taken is the first one that comes again."""
        new = finals[finals >= self.place.lsn]
        if len(new) and new[0] != expected:
            raise SourceFailed(
                "a transaction that was taken in part is not sent again", where=self._where, expected=lsn_text(expected),
                found=lsn_text(int(new[0])), hint="was the publication changed? Copy the table into a new log",
            )  # fmt: skip

    def _see(self, relation: Relation) -> None:
        """Take a new definition of the table."""
        found = read_types(self._connection, set(relation.types))
        self._types = {number: info.type for number, info in found.items()}
        self._relation = relation
        names = [column.name for column in self._records.columns]
        extra = [name for name in relation.columns if index_of(name, names) is None]
        lost = [name for name in names if index_of(name, relation.columns) is None]
        notes = [f"column {name} is not in the log, and left out" for name in extra]
        notes += [f"column {name} is not in the table any more: NULL" for name in lost]
        self.drift = f"table {relation.name}: {'; '.join(notes)}" if notes else None

    def _rows(self, batch: _Batch, start: int, end: int) -> Iterator[Part]:
        """Yield the inserts, updates and deletes between two messages."""
        if end <= start:
            return
        after = batch.place(self.place, end - 1)
        messages = batch.messages
        is_ours = np.isin(messages.kinds[start:end], _ROWS) & (
            messages.relations[start:end] == self._table.number
        )
        rows = start + np.flatnonzero(is_ours & ~batch.is_old[start:end])
        table = None
        if len(rows):
            if self._relation is None:
                raise SourceFailed(
                    "PostgreSQL sent changes of a table that it did not describe", where=self._where
                )
            identities, old, new = pgoutput.cells(messages, rows, len(self._relation.columns))
            changes = Changes(messages.data, messages.kinds[rows], identities, old, new)
            if self.place.ranges:
                changes = self._unseen(changes, batch.ids[rows])
            if len(changes.kinds):
                where = f"{self._where}, in the transactions that commit at {lsn_text(int(batch.finals[rows[0]]))} to "
                where += lsn_text(int(batch.finals[rows[-1]]))
                table = self._records.changes(changes, self._relation, self._types, where=where)
        self.place = after
        if table is not None:
            yield table, after

    def _unseen(self, changes: Changes, ids: Longs) -> Changes:
        """Leave out what the snapshots of the keys' ranges have seen."""
        seen = np.array([each.snapshot.sees(ids) for each in self.place.ranges])
        some: Flags = np.any(seen, axis=0)
        every: Flags = np.all(seen, axis=0)
        doubtful = np.flatnonzero(some & ~every)
        if not len(doubtful):
            return changes.take(np.flatnonzero(~every))
        assert self._relation is not None
        key = tuple(self._key_place(name) for name in self._table.key)
        part = changes.take(doubtful)
        sees_old: Flags = seen[self._locate([part.old_or_new(column) for column in key]), doubtful]
        moved = part.moved(key)
        sees_new: Flags = np.array(sees_old)
        if moved.any():
            which = np.flatnonzero(moved)
            new = [part.take(which).new_texts(column) for column in key]
            np.put(sees_new, which, seen[self._locate(new), doubtful[which]])
        kinds = changes.kinds.copy()
        keep = np.logical_not(every)
        keep[doubtful] = ~(sees_old & sees_new)
        kinds[doubtful[sees_new & ~sees_old]] = DELETE  # its new row is in the copy
        kinds[doubtful[sees_old & ~sees_new]] = INSERT
        return replace(changes, kinds=kinds).take(np.flatnonzero(keep))

    def _locate(self, keys: list[pa.Array]) -> Longs:
        return locate(self._connection, self._table, self.place.ranges, keys)

    def _key_place(self, name: str) -> int:
        assert self._relation is not None
        place = index_of(name, self._relation.columns)
        if place is None:
            raise SourceFailed(
                f"the key column {name!r} was renamed while the table was copied", where=self._where,
                hint="copy the table into a new log",
            )  # fmt: skip
        return place

    def _truncate(self, batch: _Batch, index: int) -> Iterator[Part]:
        """Say of all that is there that it is gone, in parts; the place goes on with the last one."""
        before, after = self.place, batch.place(self.place, index)
        seen = [bool(each.snapshot.sees(batch.ids[index : index + 1])[0]) for each in before.ranges]
        self.place = after
        if seen and all(seen):
            return
        if self._records.info.changes == "append" or self._live_keys is None:
            raise SourceFailed(
                "the table was emptied with TRUNCATE", where=self._where, expected="a log that can say what is gone",
                hint="copy the table into a new log, with changes='before_after' or 'upsert'",
            )  # fmt: skip
        live = self._live_keys()
        if any(seen):
            live = live.filter(pa.array([not seen[number] for number in self._ranges_of(live)], pa.bool_()))
        for start in range(0, live.num_rows, POSTGRES_ROWS_MAX):
            is_last = start + POSTGRES_ROWS_MAX >= live.num_rows
            # Who begins again before the last part sees fewer that are live: none is said to be gone twice.
            self.place = after if is_last else before
            yield self._records.gone(live.slice(start, POSTGRES_ROWS_MAX)), self.place
        self.place = after

    def _ranges_of(self, live: pa.Table) -> list[int]:
        index = None if self._records.key is None else index_of(self._records.key, live.column_names)
        if index is None or not live.num_rows:
            return [0] * live.num_rows
        keys = live.column(index).combine_chunks()
        if not pa.types.is_string(keys.type):
            keys = keys.cast(pa.string())  # Arrow writes numbers, dates and times as PostgreSQL reads them
        return self._locate([keys]).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Messages, and of each: when its transaction commits, its id, how many of its changes came up to it, whether it goes
    on, whether it was taken before, and how many commits have come; and where the commits end."""

    messages: Messages
    finals: Longs
    ids: Longs
    numbers: Longs
    is_open: Flags
    is_old: Flags
    commits: Longs
    ends: Longs

    def place(self, before: Place, last: int) -> Place:
        """Return the place after a message, and all that are before it."""
        commits = int(self.commits[last])
        lsn = max(before.lsn, int(self.ends[commits - 1])) if commits else before.lsn
        opened = None
        if self.is_open[last] and self.finals[last] >= lsn and self.numbers[last]:
            opened = (int(self.finals[last]), int(self.numbers[last]))
            if before.open is not None and before.open[0] == opened[0]:
                opened = max(opened, before.open)
        elif before.open is not None and before.open[0] >= lsn:
            opened = before.open
        ranges = before.ranges if any(lsn <= each.wal for each in before.ranges) else ()
        return replace(before, lsn=lsn, open=opened, ranges=ranges)
