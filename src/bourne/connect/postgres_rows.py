"""Changes of a PostgreSQL table as records of a log, in columns.

Law: the records, folded as the log's `changes` says, do to the log's relation what the changes did to the table. An
update of the key is a deletion and an insertion. A value that an update left alone and PostgreSQL did not send is taken
from the old row if that was sent, else from the key's change before in the same batch, else from the log; if it is
nowhere, that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.connect.pgoutput import (
    ABSENT,
    DELETE,
    INSERT,
    UNCHANGED,
    UPDATE,
    Bytes,
    Cells,
    Longs,
    Relation,
    texts,
)
from bourne.connect.postgres_tables import PgTable, index_of
from bourne.connect.postgres_texts import PgType, read_values
from bourne.engine.kernels.compiled import compiled
from bourne.errors import DefinitionError, SourceFailed
from bourne.log.catalog import LogInfo
from bourne.log.relation import AFTER, BEFORE, relation_schema
from bourne.schema import Column, arrow_type
from bourne.values import MISFITS, fit_column

Flags = NDArray[np.bool_]

Current = Callable[[pa.Table], pa.Table]
"""Given keys (a table of the log's key column), returns the log's newest rows of them."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Inserts, updates and deletes of one table, in order: `kinds`, the kinds of old rows, and where old and new ones lie."""

    data: Bytes
    kinds: Bytes
    identities: Bytes
    old: Cells
    new: Cells

    def take(self, rows: Longs) -> Changes:
        """Return these changes."""
        return Changes(
            self.data, self.kinds[rows], self.identities[rows], self.old.take(rows), self.new.take(rows)
        )

    def old_or_new(self, column: int) -> pa.Array:
        """Return a column of the old row, where one was sent, else of the new one."""
        has_old = self.identities != 0
        return texts(
            self.data,
            np.where(has_old, self.old.offsets[column], self.new.offsets[column]),
            np.where(has_old, self.old.lengths[column], self.new.lengths[column]),
        )

    def new_texts(self, column: int) -> pa.Array:
        """Return a column of the new rows."""
        return texts(self.data, self.new.offsets[column], self.new.lengths[column])

    def moved(self, columns: tuple[int, ...]) -> Flags:
        """Say which updates have changed a key."""
        result = np.zeros(len(self.kinds), np.bool_)
        rows = np.flatnonzero((self.kinds == UPDATE) & (self.identities != 0))
        if len(rows):
            part = self.take(rows)
            for column in columns:
                same = pc.equal(part.old_or_new(column), part.new_texts(column))
                is_left = part.new.lengths[column] == UNCHANGED
                result[rows] |= ~pc.fill_null(same, False).to_numpy(zero_copy_only=False) & ~is_left
        return result


class Records:
    """Makes records of one log."""

    def __init__(self, info: LogInfo, current: Current | None = None) -> None:
        """Take the log.

        Raises:
            DefinitionError: its kind of records cannot say changes of a table.
        """
        where = f"log {info.name!r}"
        if info.changes not in ("append", "upsert", "before_after"):
            raise DefinitionError(
                f"a table's changes cannot go into a log with changes={info.changes!r}", where=where,
                expected="changes='before_after', 'upsert' with a tombstone, or, for inserts only, 'append'",
            )  # fmt: skip
        if info.changes == "upsert" and info.tombstone is None:
            raise DefinitionError(
                "a log that follows a table has to say which rows are gone", where=where, expected="tombstone='deleted'",
                hint="declare a boolean column, and name it as the log's tombstone",
            )  # fmt: skip
        self.info = info
        self.key = info.key if info.changes != "append" else None
        self.columns = relation_schema(info).columns
        self._current = current

    def check(self, table: PgTable) -> None:
        """Check that the log can hold this table.

        Raises:
            DefinitionError: it cannot.
        """
        where = f"log {self.info.name!r}, table {table.full_name}"
        if table.kind != "r":
            raise DefinitionError(
                "only plain tables can be followed", where=where, hint="follow each partition by itself"
            )
        if table.identity == "n" or (not table.key and table.identity != "f"):
            raise DefinitionError(
                "the table has no primary key and no REPLICA IDENTITY FULL: it could not publish updates", where=where,
                expected="a primary key", hint=f"ALTER TABLE {table.full_name} ADD PRIMARY KEY (...), or REPLICA IDENTITY FULL",
            )  # fmt: skip
        if (
            self.key is not None
            and table.key != (self.key,)
            and [k.casefold() for k in table.key] != [self.key.casefold()]
        ):
            raise DefinitionError(
                "the log's key is not the table's key", where=where, expected=f"key {', '.join(table.key) or 'none'}",
                found=self.key, hint="a log's key is one column; without one, before_after logs need REPLICA IDENTITY FULL",
            )  # fmt: skip
        if self.info.changes == "before_after" and self.key is None and table.identity != "f":
            raise DefinitionError(
                "a log without a key needs the whole old rows", where=where, expected="REPLICA IDENTITY FULL",
                hint=f"ALTER TABLE {table.full_name} REPLICA IDENTITY FULL, or give the log the table's key",
            )  # fmt: skip
        for column in self.columns:
            if table.column(column.name) is None:
                raise DefinitionError(
                    f"the table has no column {column.name!r}", where=where,
                    expected=", ".join(each.name for each in table.columns), found=column.name,
                    hint="columns that the server computes (GENERATED) are not sent",
                )  # fmt: skip
            is_other = self.key is None or column.name.casefold() != self.key.casefold()
            if self.info.changes == "upsert" and not column.nullable and is_other and table.identity != "f":
                raise DefinitionError(
                    f"column {column.name!r} may not be NULL, but of a deleted row only the key is sent", where=where,
                    expected="a column that may be NULL", hint=f"or ALTER TABLE {table.full_name} REPLICA IDENTITY FULL",
                )  # fmt: skip

    def rows(self, values: Mapping[str, pa.Array]) -> pa.Table:
        """Return records that say that rows (by column names) are there."""
        count = len(next(iter(values.values())))
        columns = [values[column.name] for column in self.columns]
        return self._records(columns, None, np.ones(count, np.bool_))

    def gone(self, live: pa.Table) -> pa.Table:
        """Return records that say that these are gone: keys, or, of a log without a key, rows."""
        columns = []
        for column in self.columns:
            index = index_of(column.name, live.column_names)
            target = arrow_type(column.type)
            values = pa.nulls(live.num_rows, target) if index is None else live.column(index)
            columns.append(_array(values.cast(target)))
        return self._records(columns, columns, np.zeros(live.num_rows, np.bool_))

    def changes(
        self, changes: Changes, relation: Relation, types: Mapping[int, PgType], *, where: str
    ) -> pa.Table:
        """Return the records of some changes.

        Raises:
            SourceFailed: the log cannot say one of them, or a value is not known.
            ValueMismatch: a value does not fit its column.
        """
        self._check_kinds(changes, relation, where)
        changes = replace(changes, new=_from_old(changes))
        places = {column.name: index_of(column.name, relation.columns) for column in self.columns}
        used = np.array([place for place in places.values() if place is not None])
        origin, rows = np.zeros(len(changes.kinds), np.int64), None
        key = None if self.key is None else places[self.column_name(self.key)]
        if len(used) and (changes.new.lengths[used] == UNCHANGED).any():
            changes, origin, rows = self._fill(changes, relation, types, used, key, where)
        moved = np.zeros(len(changes.kinds), np.bool_) if key is None else changes.moved((key,))
        counts = 1 + moved.astype(np.int64)
        source = np.repeat(np.arange(len(counts)), counts)
        is_gone = changes.kinds[source] == DELETE
        is_gone[(np.cumsum(counts) - counts)[moved]] = True
        reading = _Reading(changes, source, relation, types, where)

        def read(cells: Cells) -> list[pa.Array]:
            return [
                reading.column(column, places[column.name], cells, origin[source], rows)
                for column in self.columns
            ]

        old, new = changes.old.take(source), changes.new.take(source)
        if self.info.changes != "before_after":
            return self._records(read(old.where(is_gone, new)), None, ~is_gone)
        has_before = is_gone | (
            (changes.identities[source] != 0) & ~moved[source] & (changes.kinds[source] != INSERT)
        )
        before = read(old)
        after = read(Cells(new.offsets, np.where(is_gone, ABSENT, new.lengths)))
        return self._records(after, before, ~is_gone, has_before)

    def column_name(self, name: str) -> str:
        """Return how the log writes a column's name."""
        return next(c.name for c in self.columns if c.name.casefold() == name.casefold())

    def _check_kinds(self, changes: Changes, relation: Relation, where: str) -> None:
        if self.info.changes == "append":
            if (changes.kinds != INSERT).any():
                raise SourceFailed(
                    "the table's rows are updated or deleted, which a log that is only appended to cannot say", where=where,
                    expected="inserts only", hint="declare the log with changes='before_after' or 'upsert', and copy anew",
                )  # fmt: skip
            return
        if self.key is not None:
            place = index_of(self.key, relation.columns)
            if (
                place is None
                or (place not in relation.keys)
                or (relation.identity != "f" and len(relation.keys) != 1)
            ):
                raise SourceFailed(
                    "the table is not told apart by the log's key any more", where=where, expected=self.key,
                    found=", ".join(relation.columns[index] for index in relation.keys) or "no key",
                    hint="was the column renamed, or the key changed? Copy the table into a new log",
                )  # fmt: skip
        elif ((changes.kinds != INSERT) & (changes.identities != ord("O"))).any():
            raise SourceFailed(
                "the whole old rows are not sent any more", where=where, expected="REPLICA IDENTITY FULL"
            )

    def _fill(
        self,
        changes: Changes,
        relation: Relation,
        types: Mapping[int, PgType],
        used: Longs,
        key: int | None,
        where: str,
    ) -> tuple[Changes, Longs, pa.Table | None]:
        """Find values that were not sent: return the changes with those that are in them, and rows of the log for others."""
        if key is None:
            raise SourceFailed("a value was not sent, and there is no key to find it by", where=where)
        own = changes.new_texts(key)
        look = changes.old_or_new(key)
        is_deleted = pa.array(changes.kinds == DELETE)
        both = (
            pa.chunked_array([look, pc.if_else(is_deleted, look, own)]).combine_chunks().dictionary_encode()
        )
        numbers = both.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        count = len(changes.kinds)
        new = Cells(changes.new.offsets.copy(), changes.new.lengths.copy())
        origin = np.full(count, -1, np.int64)
        last = np.full(len(both.dictionary) + 1, -1, np.int64)
        _look_back(changes.kinds, numbers[:count], numbers[count:], new.offsets, new.lengths, last, origin)
        is_open = (new.lengths[used] == UNCHANGED).any(axis=0)
        changes = replace(changes, new=new)
        if not is_open.any():
            return changes, origin, None
        asked, places = np.unique(origin[is_open], return_inverse=True)
        origin[is_open] = places
        keys = both.dictionary.take(pa.array(asked))
        return changes, origin, self._ask(keys, types[relation.types[key]], where)

    def _ask(self, keys: pa.Array, kind: PgType, where: str) -> pa.Table:
        """Return the log's rows of these keys, in their order."""
        column = next(
            c for c in self.columns if self.key is not None and c.name.casefold() == self.key.casefold()
        )
        if self._current is None:
            raise SourceFailed(
                "PostgreSQL does not send large values that an update leaves alone, and the log cannot be asked for them",
                where=where, hint="ALTER TABLE ... REPLICA IDENTITY FULL",
            )  # fmt: skip
        values = read_values(keys, kind, column, where=where)
        rows = self._current(pa.table({column.name: values}))
        index = index_of(column.name, rows.column_names)
        found = None if index is None else _array(rows.column(index).cast(values.type))
        places = None if found is None else pc.index_in(values, value_set=found)
        if places is None or places.null_count:
            raise SourceFailed(
                "a value that an update left alone is not in the log: the key has no row there", where=where,
                found=repr(keys[0 if places is None else pc.index(pc.is_null(places), True).as_py()].as_py())[:200],
                hint="copy the table into a new log; with REPLICA IDENTITY FULL all values are sent",
            )  # fmt: skip
        return rows.take(places)

    def _records(
        self,
        columns: list[pa.Array],
        before: list[pa.Array] | None,
        is_there: Flags,
        has_before: Flags | None = None,
    ) -> pa.Table:
        """Put columns of rows into the form of the log's records."""
        names = [column.name for column in self.columns]
        if self.info.changes == "append":
            return pa.table(dict(zip(names, columns, strict=True)))
        if self.info.changes == "upsert":
            assert self.info.tombstone is not None  # __init__ has checked it
            table = pa.table(dict(zip(names, columns, strict=True)))
            return table.append_column(self.info.tombstone, pa.array(~is_there))
        has_before = ~is_there if has_before is None else has_before
        kind = arrow_type(self.info.schema.columns[0].type)
        sides = {}
        for side, values, mask in ((BEFORE, before, ~has_before), (AFTER, columns, ~is_there)):
            if values is None:
                sides[side] = pa.nulls(len(is_there), kind)
            else:
                sides[side] = pa.StructArray.from_arrays(values, fields=list(kind), mask=pa.array(mask))
        return pa.table(sides)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads columns of some records' rows."""

    changes: Changes
    source: Longs
    relation: Relation
    types: Mapping[int, PgType]
    where: str

    def column(
        self, column: Column, place: int | None, cells: Cells, origin: Longs, rows: pa.Table | None
    ) -> pa.Array:
        if place is None:
            if not column.nullable:
                raise SourceFailed(
                    f"the table has no column {column.name!r} any more, and the log's may not be NULL", where=self.where,
                    found=", ".join(self.relation.columns), hint="let the log's column be NULL",
                )  # fmt: skip
            return pa.nulls(len(self.source), arrow_type(column.type))
        lengths = cells.lengths[place]
        found = texts(self.changes.data, cells.offsets[place], lengths)
        values = read_values(found, self.types[self.relation.types[place]], column, where=self.where)
        is_open = lengths == UNCHANGED
        if not is_open.any():
            return values
        assert rows is not None  # `_fill` has asked for them
        index = index_of(column.name, rows.column_names)
        if index is None:
            raise SourceFailed(f"the log's rows have no column {column.name!r}", where=self.where)
        kept = rows.column(index)
        try:
            kept = fit_column(kept, values.type, column.type)
        except MISFITS as error:
            raise SourceFailed(f"the log's {column.name!r} is of another type", where=self.where) from error
        return pc.if_else(
            pa.array(is_open), _array(kept.take(pa.array(np.where(is_open, origin, 0)))), values
        )


def _from_old(changes: Changes) -> Cells:
    """Take values that were not sent from the old row, where the whole old row was sent."""
    is_from_old = (changes.new.lengths == UNCHANGED) & (changes.identities == ord("O"))
    return changes.old.where(is_from_old, changes.new) if is_from_old.any() else changes.new


def _array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


@compiled
def _look_back(
    kinds: Bytes, look: Longs, own: Longs, offsets: Longs, lengths: Longs, last: Longs, origin: Longs
) -> None:
    """Take unchanged cells from the change before of the same key; `origin` is the key whose row in the log has the rest."""
    for i in range(len(kinds)):
        before = last[look[i]]
        origin[i] = look[i] if before < 0 else origin[before]
        if before >= 0:
            for c in range(len(lengths)):
                if lengths[c, i] == -2:
                    lengths[c, i] = lengths[c, before]
                    offsets[c, i] = offsets[c, before]
        last[look[i]] = -1
        last[own[i]] = -1 if kinds[i] == 68 else i
