"""What SQL sees of a log: its relation, and how each record changes it.

Law: a log's relation is a function of its records, in the order that they have in their partitions, and of nothing
else. `LogInfo.changes` says which function:

* `append`: every record is a row. Nothing is ever taken back.
* `upsert`: a record takes the place of its key's row; if its `tombstone` is true (or its hidden weight is not above 0),
  the key's row is gone.
* `before_after`: a record has `before` and `after`, each a row or NULL. With a `key`, `after` takes the place of the
  key's row, and without `after` that row is gone. Without one, `before` is there once less, and `after` once more.
* `weights`: the row that a record's other columns are is there `weight` times more, or, negative, fewer.

So there are two kinds of relations: those `by key`, in which the newest record of a key says what its row is, and those
by content, in which a row is there as often as its weights sum up to, and not at all while that is not above 0. A
record of a kind by content matters as a sum only, whatever the order; of a kind by key, all records of one key are in
one partition, in order. `signed_rows` is what engine and folds need: it gives every record one of these two forms.

A user's log, a static table and a view's output are one vocabulary. What Bourne itself writes has hidden columns, whose
names start with two underscores and which SQL does not see: a view's output by key has dense numbers in `__key` and
+1 or -1 in `__weight`; one by content (and a static table) has `__weight` alone, and its sums are never below 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bourne.duck import cursor
from bourne.errors import InputError, ValueMismatch
from bourne.limits import WEIGHT_MAX
from bourne.log.catalog import LogInfo
from bourne.schema import HIDDEN_PREFIX, Column, Schema, duckdb_type, quote

# The hidden columns of what Bourne writes: by key the first two, by content the last one.
KEY_COLUMN = Column("__key", "BIGINT", nullable=False)
WEIGHT_COLUMN = Column("__weight", "TINYINT", nullable=False)
COUNT_COLUMN = Column("__weight", "BIGINT", nullable=False)

BEFORE, AFTER = "before", "after"

Records: TypeAlias = pa.RecordBatch | pa.Table


@dataclass(frozen=True, slots=True)
class SignedRows:
    """What some records do to a relation, in their order.

    `table` has the relation's columns. By key (`is_keyed`), `keys` are the values of the key column: a row whose weight
    is above 0 takes the place of the key's row, one whose weight is not says that the key's row is gone (and its
    columns mean nothing). By content `keys` is None, and each row is there `weight` times more, or fewer. Without
    `weights` all are 1.
    """

    table: pa.Table
    weights: NDArray[np.int64] | None = None
    keys: pa.Array | None = None


# --- what is known of a log without its records ----------------------------------------------------------


def relation_schema(info: LogInfo) -> Schema:
    """Return the columns that SQL sees of a log."""
    if info.changes == "before_after":
        row = _row_schema(info.schema)
        return row if info.key is None else row.with_not_null(info.key)
    return _visible(info.schema, None if info.changes == "append" else info.tombstone, info.weight)


def only_grows(info: LogInfo) -> bool:
    """Say whether nothing is ever taken back from the relation."""
    return info.changes == "append"


def is_keyed(info: LogInfo) -> bool:
    """Say whether the newest record of a key says what its row is."""
    return info.changes == "upsert" or (info.changes == "before_after" and info.key is not None)


def is_exact(info: LogInfo) -> bool:
    """Say whether no sum of weights is ever below 0: each record of such a log is itself the change of the relation."""
    return only_grows(info) or (info.changes == "weights" and info.weight == COUNT_COLUMN.name)


def key_column(info: LogInfo) -> Column | None:
    """Return the key of a relation by key: a column of the relation, or the hidden one. None for any other."""
    if not is_keyed(info) or info.key is None:
        return None
    rows = relation_schema(info) if info.changes == "before_after" else info.schema
    return rows.column(info.key)


@functools.lru_cache(maxsize=1024)
def _visible(schema: Schema, *hidden: str | None) -> Schema:
    names = {name.casefold() for name in hidden if name is not None}
    return Schema(
        tuple(
            column
            for column in schema.columns
            if column.name.casefold() not in names and not column.name.startswith(HIDDEN_PREFIX)
        )
    )


# --- before and after ------------------------------------------------------------------------------------


def stored_schema(row: Schema) -> Schema:
    """Return the columns of the records of a `before_after` log of these rows."""
    fields = ", ".join(f"{quote(column.name)} {column.type}" for column in row.columns)
    kind = duckdb_type(f"STRUCT({fields})")
    return Schema((Column(BEFORE, kind), Column(AFTER, kind)))


@functools.lru_cache(maxsize=1024)
def _row_schema(stored: Schema) -> Schema:
    """Return the rows that `stored_schema` was made of; all of their columns may be NULL."""
    fields = cursor().sqltype(stored.columns[1].type).children
    return Schema(tuple(Column(name, str(kind)) for name, kind in fields))


def check_records(info: LogInfo, records: pa.Table) -> None:
    """Refuse records that have the log's columns but no meaning.

    Raises:
        ValueMismatch: neither before nor after is there, the key is NULL, or not the same in both; a weight is too large.
    """
    if info.weight is not None:
        weights = column_of(info, records, info.weight).cast(pa.int64())
        _refuse(
            pc.or_(pc.greater(weights, WEIGHT_MAX), pc.less(weights, -WEIGHT_MAX)),
            info, f"the weight {info.weight!r} is too large", expected=f"-{WEIGHT_MAX:,} to {WEIGHT_MAX:,}",
            hint="count in a column of the rows instead",
        )  # fmt: skip
    if info.changes != "before_after":
        return
    is_there = {name: pc.is_valid(records.column(name)) for name in (BEFORE, AFTER)}
    _refuse(
        pc.invert(pc.or_(is_there[BEFORE], is_there[AFTER])),
        info, "a record has neither before nor after", expected="the row before, or the row after, or both",
        hint="leave that record out: nothing has changed",
    )  # fmt: skip
    if info.key is None:
        return
    keys = {name: _field(records, name, info.key) for name in (BEFORE, AFTER)}
    for name in (AFTER, BEFORE):
        _refuse(
            pc.and_(is_there[name], pc.is_null(keys[name])),
            info, f"NULL in {name}.{info.key}, the key", expected="a value in each row that is there",
        )  # fmt: skip
    _refuse(
        pc.fill_null(pc.not_equal(keys[BEFORE], keys[AFTER]), False),
        info, "the key is not the same before and after", expected=f"the same {info.key!r}",
        hint="make two records of it: one with before only, and one with after only",
    )  # fmt: skip


def _refuse(
    is_wrong: pa.ChunkedArray, info: LogInfo, what: str, *, expected: str, hint: str | None = None
) -> None:
    row = pc.index(is_wrong, True).as_py()
    if row >= 0:
        raise ValueMismatch(
            what, where=f"log {info.name!r}, row {row} of this call", expected=expected, hint=hint
        )


# --- records as changes ----------------------------------------------------------------------------------


def column_of(info: LogInfo, records: Records, name: str) -> pa.Array | pa.ChunkedArray:
    """Return the values of one of the rows' columns (the key, the time), one per record; names ignore case.

    Of a `before_after` record that is the row after it, or, where there is none, the row before it.
    """
    if info.changes == "before_after":
        after = _field(records, AFTER, name)
        is_after = pc.is_valid(records.column(AFTER))
        return pc.if_else(is_after, after, _field(records, BEFORE, name))
    return records.column(_index(records.schema.names, name))


def signed_rows(info: LogInfo, records: Records) -> SignedRows:
    """Return what records do to the log's relation. Shares their memory where it can; O(records)."""
    table = records if isinstance(records, pa.Table) else pa.Table.from_batches([records])
    if info.changes == "before_after":
        return _signed_pairs(info, table)
    rows = _rows(table, relation_schema(info))
    if info.changes == "append":
        return SignedRows(rows)
    weights = None
    if info.weight is not None:
        weights = _longs(table.column(_index(table.column_names, info.weight)))
    elif info.tombstone is not None:
        is_gone = pc.fill_null(table.column(_index(table.column_names, info.tombstone)), False)
        weights = np.where(is_gone.to_numpy(), -1, 1)
    keys = _array(column_of(info, table, info.key)) if info.changes == "upsert" and info.key else None
    return SignedRows(rows, weights, keys)


def _signed_pairs(info: LogInfo, table: pa.Table) -> SignedRows:
    before, after = table.column(BEFORE), table.column(AFTER)
    has_before, has_after = pc.is_valid(before), pc.is_valid(after)
    schema = relation_schema(info)
    if info.key is not None:
        columns = [_array(column_of(info, table, name)) for name in schema.names]
        rows = pa.Table.from_arrays(columns, schema=schema.to_arrow())
        keys = columns[_index(schema.names, info.key)]
        return SignedRows(rows, np.where(has_after.to_numpy(), 1, -1), keys)
    gone, come = (
        _parts(values.filter(is_there), schema)
        for values, is_there in ((before, has_before), (after, has_after))
    )
    weights = np.repeat(np.array([-1, 1]), [gone.num_rows, come.num_rows])
    return SignedRows(pa.concat_tables([gone, come]), weights)


def _parts(structs: pa.ChunkedArray, schema: Schema) -> pa.Table:
    """Return structs that are all there as a table."""
    return pa.Table.from_arrays(_array(structs).flatten(), schema=schema.to_arrow())


def _rows(table: pa.Table, schema: Schema) -> pa.Table:
    if table.num_columns == len(schema.columns):
        return table
    return table.select([_index(table.column_names, name) for name in schema.names])


def _field(records: Records, side: str, name: str) -> pa.Array | pa.ChunkedArray:
    """Return a column of the row before or after; NULL where there is no such row."""
    structs = records.column(side)
    return pc.struct_field(structs, _index([field.name for field in structs.type], name))


def _index(names: list[str] | tuple[str, ...], name: str) -> int:
    folded = name.casefold()
    for index, other in enumerate(names):
        if other.casefold() == folded:
            return index
    raise InputError(f"there is no column {name!r}", expected=", ".join(names), found=name)


def _array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _longs(values: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
    return found
