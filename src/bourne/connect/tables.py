"""Static tables: a file whose rows are a relation, kept as a log of what has changed in it.

Law: the log's relation is the file's rows, equal rows as often as they are there, as of the version that the log's
newest frame names in its meta part. A version is stored in one frame, the difference to the one before and its name in
one write: a crash leaves the old version or the new one. So views over tables are incremental, and what a view has seen
of a table can be computed again, though the file has changed since.

The file is read whole. A version is named by the SHA-256 of its bytes; size and time of change only tell that it need
not be looked at. Who writes the file should put the new one in its place by renaming, or a version may be half of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from bourne.app import TableDefinition
from bourne.connect.files import Format, format_of, read_file
from bourne.connect.inference import column_names, infer_schema
from bourne.engine.kernels.arrays import as_array
from bourne.engine.kernels.consolidate import consolidate
from bourne.errors import BourneError, InputError, LogLocked, SourceFailed
from bourne.evolution import is_widening
from bourne.limits import LOCK_WAIT_EXCLUSIVE_S, LOCK_WAIT_S, TABLE_BYTES_MAX
from bourne.log.catalog import LogInfo
from bourne.log.cursor import LogCursor
from bourne.log.reader import LogReader
from bourne.log.relation import COUNT_COLUMN, relation_schema, signed_rows
from bourne.log.writer import LogWriter
from bourne.ports import Clock, Files
from bourne.schema import Column, Schema

# How often a file that changes while it is read is read again.
_READS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Version:
    """One content of a file."""

    size: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TableContent:
    """A table's log, as it is to be declared, and the rows that its file has now; None if the log has them already."""

    info: LogInfo
    version: Version
    rows: pa.Table | None


def read_table(
    table: TableDefinition, home: Path, log: LogInfo | None, log_folder: Path, *, is_fixed: bool = False
) -> TableContent:
    """Read the file if it is another one than the log has. O(bytes of the file).

    `home` is what its path is relative to, `log` the table's log as it was made, or None.
    Columns that were not declared are inferred; those that the log has keep their types where the file's values fit.
    With `is_fixed` the log's columns are not to change any more.

    Raises:
        InputError, DefinitionError: the file does not fit; names the place.
        SourceFailed: it cannot be read.
    """
    path, where = home / table.path, f"table {table.name!r}"
    known = _stored_version(log, log_folder) if log is not None else None
    version = _version_of(path, where, known)
    if log is not None and version.sha256 == (known and known.sha256) and _has_columns(log, table, is_fixed):
        return TableContent(replace(log, table=table.path), version, None)
    kind = _format_of(path, where)
    for _ in range(_READS_MAX):
        if log is not None and is_fixed:
            candidates: Sequence[Schema] = [relation_schema(log)]
        else:
            candidates = _schemas(table, log, path, kind, where)
        schema, rows = _read(path, kind, candidates, table)
        read, version = version, _version_of(path, where, version)
        if version.sha256 == read.sha256:
            columns = Schema((COUNT_COLUMN, *schema.columns))
            info = LogInfo(table.name, columns, changes="weights", weight=COUNT_COLUMN.name, table=table.path)
            return TableContent(info, version, rows)
    raise SourceFailed(
        f"{where}: its file changes while it is read", where=str(path),
        hint="let who writes it put the new file in its place by renaming it",
    )  # fmt: skip


def store_table(content: TableContent, log_folder: Path, files: Files, clock: Clock) -> int:
    """Append what is different from the log's newest version; durable when this returns. O(rows of both).

    Returns: how many records that took; 0 also where another process has done it meanwhile.

    Raises:
        LogLocked: another process stores a version of this table, and does not come to an end.
        DiskFull, StorageError, CorruptFrame: the disk refuses; the log has the version that it had.
    """
    if content.rows is None:
        return 0
    for attempt in range(int(LOCK_WAIT_S / LOCK_WAIT_EXCLUSIVE_S), -1, -1):
        try:
            writer = LogWriter(
                log_folder, content.info, files=files, clock=clock,
                what=f"table {content.info.name!r} is being stored by another process",
            )  # fmt: skip
        except LogLocked:
            if attempt == 0:
                raise
            continue
        try:
            known = _stored_version(content.info, log_folder)
            if known is not None and known.sha256 == content.version.sha256:
                return 0
            change = _difference(_records(content.info, log_folder), content)
            return len(writer.append(change, {"table": asdict(content.version)}))
        finally:
            writer.close()
    raise AssertionError("the last attempt raises or returns")


# --- versions --------------------------------------------------------------------------------------------


def _version_of(path: Path, where: str, known: Version | None) -> Version:
    """Return the version that the file is; its bytes are only looked at if size or time are not the known ones."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size > TABLE_BYTES_MAX:
                raise InputError(
                    f"{where}: its file is too large", where=str(path), expected=f"at most {TABLE_BYTES_MAX:,} bytes",
                    found=f"{found.st_size:,} bytes", hint="append it to a log instead, which is read in pieces",
                )  # fmt: skip
            if known is not None and (found.st_size, found.st_mtime_ns) == (known.size, known.changed_ns):
                return known
            return Version(found.st_size, found.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise SourceFailed(
            f"{where}: its file cannot be read", where=str(path), found=error.strerror,
            hint="put it there; what was read of it before is kept",
        ) from error  # fmt: skip


def _stored_version(log: LogInfo, log_folder: Path) -> Version | None:
    """Return the version that the log has; None if it has none yet."""
    reader = LogReader(log_folder, log)
    try:
        last = reader.last_frame()
    finally:
        reader.close()
    return Version(**last.meta["table"]) if last is not None else None


def _has_columns(log: LogInfo, table: TableDefinition, is_fixed: bool) -> bool:
    return is_fixed or table.schema is None or relation_schema(log) == table.schema


# --- reading ---------------------------------------------------------------------------------------------


def _format_of(path: Path, where: str) -> Format:
    try:
        return format_of(str(path))
    except InputError as error:
        raise InputError(
            f"{where}: {error.what}", expected=error.expected, found=error.found, hint="rename the file"
        ) from None


def _schemas(
    table: TableDefinition, log: LogInfo | None, path: Path, kind: Format, where: str
) -> Sequence[Schema]:
    """Return the schemas that the file may be read under, the best first."""
    if table.schema is not None:
        return [table.schema]
    known = relation_schema(log) if log is not None else None
    found = infer_schema(path, kind, where=where)
    if known is None and found is None:
        raise InputError(
            f"{where}: no column types can be inferred from no rows", where=str(path),
            expected="at least one row, or declared columns", hint="declare the columns: schema=…",
        )  # fmt: skip
    if known is None or found is None:
        return [schema for schema in (known, found) if schema is not None]
    _check_columns(known, list(found.names), path, table, may_grow=True)
    added = [column for column in found.columns if known.column(column.name) is None]
    kept = Schema((*known.columns, *added))
    return [kept, Schema((*[_wider(column, found) for column in known.columns], *added))]


def _wider(column: Column, found: Schema) -> Column:
    other = found.column(column.name)
    return Column(column.name, other.type) if other and is_widening(column.type, other.type) else column


def _read(
    path: Path, kind: Format, candidates: Sequence[Schema], table: TableDefinition
) -> tuple[Schema, pa.Table]:
    """Read the rows under the first schema that they fit."""
    names = column_names(path, kind)
    if names is not None:
        _check_columns(candidates[0], names, path, table, may_grow=False)
    failure: BourneError | None = None
    for schema in candidates:
        try:
            batches = [batch.table for batch in read_file(str(path), kind, schema, log=table.name)]
        except InputError as error:
            failure = error
            continue
        return schema, pa.concat_tables(
            [schema.to_arrow().empty_table(), *batches], promote_options="permissive"
        )
    assert failure is not None
    raise InputError(
        f"table {table.name!r}: {failure.what}", where=failure.where, expected=failure.expected, found=failure.found,
        hint="mend the input; or, if its columns are others from now on, declare the table under another name",
    ) from failure  # fmt: skip


def _check_columns(
    schema: Schema, names: list[str], path: Path, table: TableDefinition, *, may_grow: bool
) -> None:
    """Refuse a file that lacks columns, or has others, which may only come where they are inferred."""
    there = {name.casefold() for name in names}
    lacking = [name for name in schema.names if name.casefold() not in there]
    strange = [] if may_grow else [name for name in names if schema.column(name) is None]
    if lacking or strange:
        what = [f"lacks {', '.join(lacking)}"] if lacking else []
        what += [f"has {', '.join(strange)}, too"] if strange else []
        raise InputError(
            f"table {table.name!r}: its file {' and '.join(what)}", where=str(path), expected=", ".join(schema.names),
            found=", ".join(names),
            hint="mend the input, or declare its columns (schema=…) and open the app again; a table of other columns "
            "needs another name",
        )  # fmt: skip


# --- storing ---------------------------------------------------------------------------------------------


def _records(info: LogInfo, log_folder: Path) -> pa.Table:
    """Return all records of the log."""
    cursor = LogCursor(log_folder, info)
    try:
        batches = [piece.frame.batch for piece in cursor.read()]
    finally:
        cursor.close()
    return pa.Table.from_batches(batches, info.schema.to_arrow())


def _difference(records: pa.Table, content: TableContent) -> pa.Table:
    """Return the records that lead from those of the log to the file's rows, each row once."""
    before = signed_rows(content.info, records)
    assert before.weights is not None
    assert content.rows is not None
    schema = content.info.schema.to_arrow()
    rows = pa.concat_tables([before.table, content.rows.cast(before.table.schema)])
    weights = np.concatenate([-before.weights, np.ones(content.rows.num_rows, np.int64)])
    columns = [as_array(column) for column in rows.columns]
    kept, sums = consolidate(columns, weights)
    changed: list[Any] = [column.take(pa.array(kept)) for column in columns]
    return pa.Table.from_arrays([pa.array(sums, pa.int64()), *changed], schema=schema)
