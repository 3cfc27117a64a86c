"""Rows as Parquet files of a folder: `parquet:folder/?by=year,country`.

Law: each change becomes at most one file per partition value, and all of them and the position count from one rename on
(`bourne.connect.parquet_commits`). So the folder holds what the view said at its position. When `write` returns, all of
it is synced. No file is ever changed; but when many small ones are in a folder, one takes their place.

`by` names columns whose values are folders, as Hive has them: `year=2024/country=KR/`, percent-encoded, NULL as
`__HIVE_DEFAULT_PARTITION__`. They are not in the files. Read it with
`read_parquet('folder/**/*.parquet', hive_partitioning=true)`; what their types are only the reader knows: without
`hive_types={'country': VARCHAR}` DuckDB takes '007' for 7.

A shape with weights has a column `__weight`: a row is there as often as its weights sum up to, over all files. A shape
with a key is refused: leave the key out. A reader who lists the folder during the renames of a change sees a part of it,
and during those of a merge rows twice or, in a file that was removed, not at all: that is over within milliseconds, or
after a crash when the sink is opened again.

Every type is held exactly, but INTERVAL, which Parquet counts in milliseconds: it is refused. UUID and JSON are texts,
HUGEINT is DECIMAL(38,0), TIMESTAMP_S is one in milliseconds. On a file system that ignores case (macOS), values of `by` that
differ in case only would share a folder: do not partition by such.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote as percent_encode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bourne.connect.parquet_commits import Commit, CommittedFolder, file_name
from bourne.connect.positions import check_held
from bourne.connect.row_texts import text_columns
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_file_url
from bourne.connect.source import Delivery, Position
from bourne.duck import cursor
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.limits import SINK_FILES_MIN, SINK_SMALL_FILE_BYTES
from bourne.log.relation import COUNT_COLUMN
from bourne.ports import Files, OsFiles
from bourne.schema import Schema, arrow_type, quote

URL: Final = "parquet:FOLDER/?by=COLUMN,COLUMN"

_NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"

# What a file system takes as a name.
_NAME_BYTES_MAX: Final = 255

# Types whose text is one folder, and one value.
_FOLDER_TYPES: Final = (
    pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_date, pa.types.is_timestamp,
    pa.types.is_decimal,
)  # fmt: skip


class ParquetSink:
    """A folder of Parquet files."""

    delivery: Delivery = "exactly once"

    def __init__(
        self,
        path: Path,
        shape: Shape,
        *,
        by: tuple[str, ...] = (),
        files: Files | None = None,
        merge_files: int = SINK_FILES_MIN,
    ) -> None:
        """Note what to open.

        Args:
            by: columns whose values are folders.
            merge_files: so many files of about one size in a folder become one.

        Raises:
            DefinitionError: the folder cannot hold such rows.
        """
        _check(shape, by)
        self._shape, self._by, self._files, self._merge_files = shape, by, files or OsFiles(), merge_files
        self._path, self._where = path, str(path)
        columns = (*shape.schema.columns, *([COUNT_COLUMN] if shape.has_weights else []))
        self._columns = tuple(column for column in columns if column.name not in by)
        what = {"sink": shape.name, "columns": Schema(columns).to_json(), "by": list(by)}
        self._folder = CommittedFolder(path, what, self._files)
        self._is_open = False

    @staticmethod
    def from_url(url: str, shape: Shape) -> ParquetSink:
        """Return the sink that a URL names.

        Raises:
            DefinitionError: it names none.
        """
        parts = split_file_url(url, kinds=["parquet"], options=["by"], form=URL)
        by = tuple(name for name in parts.options.get("by", "").split(",") if name)
        return ParquetSink(Path(parts.path), shape, by=by)

    def open(self) -> Position | None:
        """Make the folder if it is missing, complete the last commit, and return its position.

        Raises:
            Unreachable: another process writes to it, or the disk refuses.
            SinkFailed: it holds something else, or a file of it is gone.
        """
        self._is_open = False
        if not self._path.absolute().parent.is_dir():
            raise SinkFailed("the folder around it is not there", where=self._where, hint="make it")
        with self._folder.locked():
            last = self._folder.read()
            self._folder.complete(last)
        self._is_open = True
        return last.position

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and position as one commit; synced on return."""
        if not self._is_open:
            raise Unreachable("the folder is not open", where=self._where, hint="open it")
        rows = change.rows
        if change.weights is not None:
            rows = rows.append_column(COUNT_COLUMN.name, change.weights)
        parts = self._parts(rows)
        with self._folder.locked():
            last = self._folder.read()
            check_held(last.position, before, where=self._where)
            self._folder.complete(last)
            name = file_name(last.number + 1)
            write = functools.partial(self._write_part, list(parts.values()))
            last = self._folder.commit(last, position, [folder + name for folder in parts], write)
            for folder in parts:
                last = self._merge(last, folder)

    def accepts(self, change: Change) -> bool:
        """Say whether all values of `by` can be names of folders."""
        try:
            self._parts(change.rows)
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Be closed; between writes nothing is held."""
        self._is_open = False

    # --- partitions --------------------------------------------------------------------------------------

    def _parts(self, rows: pa.Table) -> dict[str, pa.Table]:
        """Return the rows of each folder (its path in this one, with a slash), without the columns that say which."""
        if not rows.num_rows:
            return {}
        plain = rows.drop_columns(list(self._by)) if self._by else rows
        if not self._by:
            return {"": plain}
        names = [self._folder_names(name, rows.column(name)) for name in self._by]
        paths = pc.binary_join_element_wise(*names, pa.scalar(""), "/").combine_chunks().dictionary_encode()
        indexes = paths.indices.to_numpy()
        order = np.argsort(indexes, kind="stable")
        ordered = plain.take(pa.array(order)) if len(paths.dictionary) > 1 else plain
        bounds = np.searchsorted(indexes[order], np.arange(len(paths.dictionary) + 1))
        return {
            path: ordered.slice(int(first), int(end - first))
            for path, first, end in zip(paths.dictionary.to_pylist(), bounds[:-1], bounds[1:], strict=True)
        }

    def _folder_names(self, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the folders of values, `name=value`; each value is encoded once."""
        texts = text_columns(pa.table([values], ["x"]))[0].combine_chunks().dictionary_encode()
        start = f"{percent_encode(name, safe='')}="
        folders = [start + _encode(text) for text in texts.dictionary.to_pylist()]
        too_long = [folder for folder in folders if len(folder) > _NAME_BYTES_MAX]
        if too_long:
            raise Rejected(
                "a value is too long for the name of a folder", where=self._where,
                expected=f"at most {_NAME_BYTES_MAX} bytes, percent-encoded", found=f"{too_long[0][:80]}…",
            )  # fmt: skip
        taken = pc.take(pa.array(folders, pa.string()), texts.indices)
        return pa.chunked_array([pc.fill_null(taken, start + _NULL_PARTITION)])

    # --- files -------------------------------------------------------------------------------------------

    def _write_part(self, tables: list[pa.Table], index: int, draft: Path) -> None:
        self._write_file(tables[index], draft)

    def _write_file(self, table: pa.Table, draft: Path) -> None:
        """Write a draft; synced on return."""
        buffer = pa.BufferOutputStream()
        target = Schema(self._columns).to_arrow()
        bare = pa.schema([pa.field(field.name, field.type, field.nullable) for field in target])
        pq.write_table(table.cast(bare), buffer, compression="zstd", store_schema=False)
        data = buffer.getvalue()
        descriptor = self._files.open(draft)
        try:
            self._files.truncate(descriptor, 0)
            self._files.write(descriptor, [memoryview(data)], 0)
            self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)

    def _merge(self, last: Commit, folder: str) -> Commit:
        """Put one file in the place of many small ones, if there are."""
        names = self._small_files(folder)
        if not names:
            return last
        tables = [pq.read_table(self._path / name, partitioning=None) for name in names]
        table = pa.concat_tables(tables)
        if self._shape.has_weights:
            table = _sum_weights(table)
        target = Schema(self._columns).to_arrow()
        table = table.cast(pa.schema([pa.field(field.name, field.type) for field in target]))
        added = [folder + file_name(last.number + 1)] if table.num_rows else []
        write: Callable[[int, Path], None] = functools.partial(self._write_part, [table])
        return self._folder.commit(last, last.position, added, write, removed=names)

    def _small_files(self, folder: str) -> list[str]:
        """Return files of about one size that are many. So each row is merged a few times only, however many changes."""
        by_size: dict[int, list[str]] = {}
        for name in self._folder.names_of(folder):
            size = (self._path / name).stat().st_size
            if size < SINK_SMALL_FILE_BYTES:
                by_size.setdefault(size.bit_length() // 3 if size >= 1 << 15 else 0, []).append(name)
        return next((names for names in by_size.values() if len(names) >= self._merge_files), [])


def _check(shape: Shape, by: tuple[str, ...]) -> None:
    """Refuse what the folder cannot hold."""
    check_shape(shape)
    where = f"sink {shape.name!r}"
    if shape.key:
        raise DefinitionError(
            "rows in Parquet files cannot be replaced", where=where, expected="rows without a key",
            found=", ".join(shape.key), hint="leave the key out: rows that are taken back come with a __weight below 0",
        )  # fmt: skip
    for column in shape.schema.columns:
        if _has_interval(arrow_type(column.type)):
            raise DefinitionError(
                f"column {column.name!r}: Parquet cannot hold {column.type} exactly", where=where,
                hint="CAST it to VARCHAR, or to microseconds, in the view",
            )  # fmt: skip
    for name in by:
        found = next((column for column in shape.schema.columns if column.name == name), None)
        if found is None or by.count(name) > 1:
            raise DefinitionError(
                f"`by` names {name!r}",
                where=where,
                expected=f"columns, each once: {', '.join(shape.schema.names)}",
            )
        if not any(is_fit(arrow_type(found.type)) for is_fit in _FOLDER_TYPES):
            raise DefinitionError(
                f"column {name!r} cannot name folders", where=where,
                expected="integers, decimals, texts, booleans, dates, timestamps", found=found.type,
            )  # fmt: skip
    if len(by) == len(shape.schema.columns) and not shape.has_weights:
        raise DefinitionError(
            "all columns are in `by`, and none in the files", where=where, hint="leave one out of `by`"
        )


def _has_interval(arrow: pa.DataType) -> bool:
    if pa.types.is_nested(arrow):
        return any(_has_interval(arrow.field(number).type) for number in range(arrow.num_fields))
    return bool(pa.types.is_interval(arrow))


def _encode(text: str) -> str:
    """Return a value as a folder's name, as DuckDB encodes it; a text that looks like NULL's name is told from it."""
    if text == _NULL_PARTITION:
        return "%5F" + text[1:]
    return percent_encode(text, safe="")


def _sum_weights(table: pa.Table) -> pa.Table:
    """Return each row once, with the sum of its weights, and none of sum 0."""
    weight = quote(COUNT_COLUMN.name)
    names = [quote(name) for name in table.column_names if name != COUNT_COLUMN.name]
    columns = "".join(f"{name}, " for name in names)
    with cursor() as database:
        there = database.from_arrow(table)
        summed = f"SELECT {columns}sum({weight})::BIGINT AS {weight} FROM there GROUP BY ALL HAVING sum({weight}) <> 0"
        found: Any = there.query("there", summed).to_arrow_table()
    return found
